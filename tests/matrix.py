"""Run the core of the tests with the oldest and the newest of what we stand on.

    python tests/matrix.py                 # every environment
    python tests/matrix.py --only oldest   # those whose name holds the word

Makes a virtual environment for each row with uv, without PyTorch, runs `CORE` there and prints a
table. A Python that can't be had here is skipped, and said to be. Exit code 1 if a test fails.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: What records, stores, reads and compares. None of it needs PyTorch.
CORE = (
    "tests/golden", "tests/record", "tests/store",
    "tests/analysis", "tests/test_compare.py", "tests/test_digest.py",
    "tests/test_history.py", "tests/test_verdicts.py", "tests/recorder/test_privacy.py",
    "tests/recorder/test_spool.py", "tests/recorder/test_epoch.py", "tests/recorder/test_boxes.py",
)  # fmt: skip
TOOLS = (
    "pytest>=8.2", "pytest-timeout>=2.3", "hypothesis>=6.100", "scikit-learn>=1.4", "duckdb>=1.1",
)  # fmt: skip


@dataclass(frozen=True)
class Environment:
    """One row of the matrix.

    Attributes:
        name: what it is for.
        python: version of Python.
        pins: requirements beside our own.
        lowest: whether every direct requirement is the oldest that pyproject allows.
        left_out: tests that can't pass there.
    """

    name: str
    python: str
    pins: tuple[str, ...] = ()
    lowest: bool = False
    left_out: tuple[str, ...] = ()


# A server of MLflow 3.10 calls a missing artifact its own failure, and so do we with it.
_MISSING = tuple(
    f"tests/store/test_{name}"
    for name in (
        "stored_record.py::test_a_file_that_the_server_lost_is_missing",
        "stored_record.py::test_an_unknown_run_and_record_are_not_found_on_a_server",
        "artifacts.py::test_an_artifact_is_fetched_by_one_request",
    )
)

ENVIRONMENTS = (
    Environment("newest, pandas 2", "3.11", ("pandas<3",)),
    Environment("newest, pandas 3", "3.11", ("pandas>=3",)),
    Environment("newest, Python 3.12", "3.12"),
    Environment("newest, Python 3.13", "3.13"),
    Environment("oldest MLflow", "3.11", ("mlflow==3.10.*",), left_out=_MISSING),
    Environment("oldest of everything", "3.11", lowest=True, left_out=_MISSING),
)
SHOWN = ("python", "mlflow", "pandas", "numpy", "pyarrow")


def main():
    """Run the rows, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--only", default="", help="rows whose name holds this")
    parser.add_argument("--tests", nargs="*", default=list(CORE), help="instead of the core")
    options = parser.parse_args()
    head = ("environment", *SHOWN, "result")
    rows, failed = [head], False
    with tempfile.TemporaryDirectory(prefix="actiontrack-matrix-") as scratch:
        for each in ENVIRONMENTS:
            if options.only not in each.name:
                continue
            versions, result, bad = run(each, Path(scratch) / "environment", options.tests)
            failed |= bad
            rows.append((each.name, *(versions.get(name, "-") for name in SHOWN), result))
            print(f"{each.name}: {result}", file=sys.stderr, flush=True)
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    return 1 if failed else 0


def run(environment, folder, tests):
    """Versions of what was installed, what came out, and whether that is a failure."""
    start = time.monotonic()
    shutil.rmtree(folder, ignore_errors=True)  # one at a time: each takes a gigabyte
    python = str(folder / "bin" / "python")
    made = uv("venv", "--python", environment.python, str(folder))
    if made.returncode:
        return {}, f"skipped: Python {environment.python} can't be had: {last_line(made)}", False
    install = ["pip", "install", "--python", python, "-e", str(ROOT), *TOOLS, *environment.pins]
    install += ["--resolution", "lowest-direct"] if environment.lowest else []
    installed = uv(*install)
    if installed.returncode:
        return {}, f"FAILED to install: {last_line(installed)}", True
    versions = versions_of(python)
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-o",
        "filterwarnings=default",
    ]
    command += ["-o", "addopts=--strict-markers -m 'not long'", "--tb=short", *tests]
    command += [word for each in environment.left_out for word in ("--deselect", each)]
    # MLflow asks again for minutes, where an older server calls a missing artifact its own failure.
    patience = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "OMP_NUM_THREADS": "1"}
    surroundings = os.environ | patience | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False
    )
    told = re.findall(
        r"^=*\s*(\d+ (?:passed|failed|error|skipped).*?)=*$", done.stdout, re.MULTILINE
    )
    result = told[-1].strip() if told else f"no result: {last_line(done)}"
    if done.returncode:
        print(done.stdout[-6000:], file=sys.stderr)
        result = f"FAILED: {result}"
    return versions, f"{result}, {time.monotonic() - start:.0f} s in all", bool(done.returncode)


def uv(*words):
    """Run uv, which comes with the extra dev."""
    return subprocess.run(
        [sys.executable, "-m", "uv", *words], capture_output=True, text=True, check=False
    )


def versions_of(python):
    """Name -> version of what a row shows."""
    code = "import sys, importlib.metadata as m\nprint('python', sys.version.split()[0])\n"
    code += f"for each in {SHOWN[1:]!r}: print(each, m.version(each))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(line.split() for line in done.stdout.splitlines())


def last_line(done):
    """The last line that a process said, for the table."""
    lines = [each.strip() for each in (done.stderr or done.stdout).splitlines() if each.strip()]
    return (lines or ["nothing said"])[-1][:160]


if __name__ == "__main__":
    sys.exit(main())
