"""Run the core of the tests with the oldest and the newest of what we stand on.

    python tests/matrix.py                 # every row
    python tests/matrix.py --only oldest   # those whose name holds the word

Makes virtual environments for each row with uv, without PyTorch, runs the row's tests there, prints
a table and keeps the outcome in matrix.json, from which the documentation has it. A row with a
server has another environment for that: an `mlflow server` of its version, with which the tests
speak. A Python that can't be had here, or a requirement that nothing satisfies yet, is skipped, and
the table says why. Exit code 1 if a test fails.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from environments import REQUIREMENTS
from helpers import SERVER_PYTHON

ROOT = Path(__file__).parents[1]

#: What records, stores, reads and compares. None of it needs PyTorch.
CORE = (
    "tests/golden", "tests/record", "tests/store",
    "tests/analysis", "tests/compare", "tests/test_digest.py",
    "tests/test_history.py", "tests/test_verdicts.py", "tests/recorder/test_privacy.py",
    "tests/recorder/test_spool.py", "tests/recorder/test_epoch.py", "tests/recorder/test_boxes.py",
    "--ignore=tests/analysis/cluster",  # it needs Dask
)  # fmt: skip
TOOLS = (
    "pytest>=8.2", "pytest-timeout>=2.3", "pytest-xdist>=3.6", "hypothesis>=6.100",
    "scikit-learn>=1.4", "duckdb>=1.1",
)  # fmt: skip
#: What speaks with a server.
SERVED = (
    "tests/store/test_stored_record.py", "tests/store/test_artifacts.py",
    "tests/store/test_active.py", "tests/store/test_ping.py", "tests/recorder/test_uploader.py",
)  # fmt: skip
#: The pages inside MLflow's server, behind its login.
INSIDE = ("tests/web/test_access.py", "tests/web/test_inside.py")
_FOR_INSIDE = ("playwright>=1.49", "uvloop>=0.21")
#: What the tests of a row are about: a table for each in the documentation.
WHAT = {CORE: "environment", SERVED: "server", INSIDE: "inside"}
RESULTS = Path(__file__).with_suffix(".json")
PACKAGES = ("mlflow", "pandas", "numpy", "pyarrow")


@dataclass(frozen=True)
class Server:
    """An MLflow that serves.

    Attributes:
        pins: requirements of its environment.
        later: what is installed after them without its dependencies.
    """

    pins: tuple[str, ...]
    later: tuple[str, ...] = ()


@dataclass(frozen=True)
class Environment:
    """One row of the matrix.

    Attributes:
        name: what it is for.
        python: version of Python.
        pins: requirements beside our own.
        later: what is installed after them without its dependencies, since these can't be had.
        lowest: whether every direct requirement is the oldest that pyproject allows.
        may_be_unmet: whether the requirements may contradict each other, today.
        server: with which the tests speak. Default: that of the environment itself.
        tests: what is run.
    """

    name: str
    python: str = "3.11"
    pins: tuple[str, ...] = ()
    later: tuple[str, ...] = ()
    lowest: bool = False
    may_be_unmet: bool = False
    server: Server | None = None
    tests: tuple[str, ...] = CORE


# Two packages that MLflow 3.18.0 asks for are not published: it runs with those of 3.17.2.
_BEFORE_3_18, _3_18 = "mlflow[auth]==3.17.2", "mlflow==3.18.0"

_OLDEST = REQUIREMENTS["3.10"]
_SERVERS = {name: Server(pins) for name, pins in REQUIREMENTS.items()}
_SERVERS["3.18"] = Server((_BEFORE_3_18,), (_3_18,))

ENVIRONMENTS = (
    Environment("newest, pandas 2", pins=("pandas<3",)),
    Environment("newest, Python 3.12", "3.12"),
    Environment("newest, Python 3.13", "3.13"),
    Environment("newest, Python 3.14", "3.14"),
    Environment("newest, PyArrow 26", pins=("mlflow>=3.18", "pyarrow==26.*"), may_be_unmet=True),
    Environment("MLflow 3.18, PyArrow 26", pins=(_BEFORE_3_18,), later=(_3_18, "pyarrow==26.*")),
    Environment("oldest MLflow", pins=_OLDEST),
    Environment("oldest of everything", lowest=True),
    *(
        Environment(f"newest, server {name}", server=server, tests=SERVED)
        for name, server in _SERVERS.items()
    ),
    *(
        Environment(
            f"MLflow 3.10, server {name}", pins=_OLDEST, server=_SERVERS[name], tests=SERVED
        )
        for name in ("newest", "3.18")
    ),
    Environment("inside MLflow 3.17", pins=("mlflow[auth]==3.17.*", *_FOR_INSIDE), tests=INSIDE),
    Environment(
        "inside MLflow 3.18", pins=(_BEFORE_3_18, *_FOR_INSIDE), later=(_3_18,), tests=INSIDE
    ),
)


class UnmetError(Exception):
    """An environment that can't be made, with the reason."""


def main():
    """Run the rows, print the table, keep the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    options = parser.parse_args()
    names = [row.name for row in ENVIRONMENTS]
    results = {result["name"]: result for result in read_results() if result["name"] in names}
    chosen = [row for row in ENVIRONMENTS if options.only in row.name]
    for row in chosen:
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="actiontrack-matrix-") as scratch:
            results[row.name] = result = outcome(row, Path(scratch))
        took = f"{time.monotonic() - start:.0f} s in all"
        print(f"{row.name}: {result['result']}, {took}", file=sys.stderr, flush=True)
        in_order = [results[name] for name in names if name in results]
        RESULTS.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")
    print(table([results[row.name] for row in chosen]))
    return 1 if any(results[row.name]["outcome"] == "failed" for row in chosen) else 0


def read_results():
    """What `RESULTS` holds: an entry per row, with its versions, outcome and what was seen."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else []


def outcome(row, scratch):
    """The entry of a row, after its tests."""
    entry = {"name": row.name, "what": WHAT[row.tests], "python": row.python, "server": ""}
    try:
        requirements = ("-e", str(ROOT), *TOOLS, *row.pins)
        python = environment(scratch / "client", row.python, requirements, row.later, row.lowest)
        entry |= versions_of(python)
        server = None
        if row.server is not None:
            server = environment(scratch / "server", "3.11", row.server.pins, row.server.later)
            entry["server"] = versions_of(server)["mlflow"]
    except UnmetError as error:
        skips = row.may_be_unmet or str(error).startswith("Python ")
        word = "skipped" if skips else "failed"
        return entry | {"outcome": word, "result": f"{word}: {error}"}
    done = tested(python, server, row)
    found = re.findall(
        r"^=*\s*(\d+ (?:passed|failed|error|skipped).*?)(?: in .*?)?=*$", done.stdout, re.MULTILINE
    )
    summary = re.sub(r",? ?\d+ (?:deselected|warnings?)", "", found[-1]) if found else ""
    if done.returncode or not summary:
        print(done.stdout[-6000:], file=sys.stderr)
        return entry | {"outcome": "failed", "result": f"FAILED: {summary or last_line(done)}"}
    return entry | {"outcome": "passed", "result": summary.strip(" ,")}


def environment(folder, python_version, requirements, later=(), lowest=False):  # noqa: FBT002
    """Make an environment and return the path of its Python.

    Raises:
        UnmetError: says what can't be had.
    """
    python = str(folder / "bin" / "python")
    made = uv("venv", "--python", python_version, str(folder))
    if made.returncode:
        print(last_line(made), file=sys.stderr)
        raise UnmetError(f"Python {python_version} is not installed, and uv can't fetch it")
    install = ["pip", "install", "--python", python]
    for words in (
        [*requirements, *(["--resolution", "lowest-direct"] if lowest else [])],
        ["--no-deps", *later] if later else [],
    ):
        installed = uv(*install, *words) if words else None
        if installed is not None and installed.returncode:
            raise UnmetError(f"nothing satisfies its requirements: {reason(installed)}")
    return python


def tested(python, server, row):
    """The process that ran the tests of a row."""
    command = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    command += ["-o", "filterwarnings=default", "-o", "addopts=--strict-markers -m 'not long'"]
    command += row.tests
    # MLflow asks a server that fails again for minutes.
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "OMP_NUM_THREADS": "1"}
    surroundings = os.environ | patience | {"PYTHONDONTWRITEBYTECODE": "1"}
    surroundings.pop("PYTHONPATH", None)
    if server is not None:
        surroundings[SERVER_PYTHON] = server
    return subprocess.run(
        command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False
    )


def table(results):
    """The results as lines of equal columns."""
    head = ("name", "python", *PACKAGES, "server", "result")
    rows = [head, *(tuple(result.get(name) or "-" for name in head) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def uv(*words):
    """Run uv, which comes with the extra dev."""
    return subprocess.run(
        [sys.executable, "-m", "uv", *words], capture_output=True, text=True, check=False
    )


def versions_of(python):
    """Name -> version of what a row tells."""
    code = "import sys, importlib.metadata as m\nprint('python', sys.version.split()[0])\n"
    code += f"for each in {PACKAGES!r}: print(each, m.version(each))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def reason(done):
    """Why uv failed, in one line: its own words without the drawing around them."""
    words = re.sub(r"[^\x20-\x7e]+", " ", done.stderr or done.stdout)
    sentences = re.sub(r"\s+", " ", words).strip()
    return (
        sentences[sentences.find("Because") :][:300] if "Because" in sentences else sentences[-300:]
    )


def last_line(done):
    """The last line that a process said, for the table."""
    lines = [each.strip() for each in (done.stderr or done.stdout).splitlines() if each.strip()]
    return (lines or ["nothing said"])[-1][:160]


if __name__ == "__main__":
    sys.exit(main())
