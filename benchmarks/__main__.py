"""The benchmarks, and benchmarks/RESULTS.md from what they say: `make bench`.

All but `speednet`, `stacked` and `detectors`, which train for minutes and are started by their own
names. Each runs in a process of its own, one after the other. Name some to run only those:
`python -m benchmarks correlation storage`. RESULTS.md keeps the latest figure of each.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS_VARIABLE, machine, versions

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
KEPT = HERE / "results.json"
ALL = (
    "training",
    "language",
    "updates",
    "storage",
    "steps",
    "correlation",
    "charts",
    "upload",
    "reading",
    "scale",
    "growth",
    "imagenet",
    "web",
    "anyserver",
    "slices",
    "start",
    "yolo",
    "boosting",
    "adapters",
)
PACKAGES = (
    *("mlflow", "torch", "transformers", "trl", "ultralytics", "numpy", "scipy", "pandas"),
    *("pyarrow", "aum", "blosc2", "catboost"),
)

HEAD = """# Results

Made by `make bench`; [the scripts](.) say what each compares. Two ways are measured in turns in one
process; a figure is the median of the turns, with the lowest and the highest. A bound in bold is
kept, one in italics is not.

"""


def main(names: Sequence[str]) -> int:
    """Run, merge with the figures that are kept, and write the table."""
    unknown = sorted(set(names) - set(ALL))
    if unknown:
        print(f"no benchmark {unknown[0]!r}. There are: {', '.join(ALL)}.", file=sys.stderr)
        return 2
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    failed = []
    for name in names or ALL:
        with tempfile.TemporaryDirectory() as folder:
            environment = os.environ | {RESULTS_VARIABLE: folder}
            command = [sys.executable, "-m", f"benchmarks.{name}"]
            print(f"== {name}", flush=True)
            done = subprocess.run(command, env=environment, check=False)  # noqa: S603
            lines = Path(folder) / "figures.jsonl"
            if done.returncode or not lines.exists():
                failed.append(name)
                continue
            figures = [json.loads(each) for each in lines.read_text().splitlines()]
        kept[name] = {
            "figures": figures,
            "machine": machine(),
            "versions": versions(*PACKAGES),
        }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    RESULTS.write_text(_table(kept))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _table(kept: Mapping[str, Any]) -> str:
    parts = [HEAD]
    for name in (each for each in ALL if each in kept):
        entry = kept[name]
        parts.append(f"## `python -m benchmarks.{name}`\n\n")
        parts.append("| what | against | figure | bound |\n|---|---|---|---|\n")
        parts += [_row(each) for each in entry["figures"]]
        details = [
            f"{label}: {text}"
            for each in entry["figures"]
            for label, text in each["details"].items()
        ]
        day = entry["figures"][0]["date"]
        parts.append(f"\n{day}, {entry['machine']}; {entry['versions']}.\n")
        parts += ["\n", "; ".join(details), ".\n\n"] if details else ["\n"]
    return "".join(parts).rstrip() + "\n"


def _row(figure: Mapping[str, Any]) -> str:
    value = figure["value"]
    numbers = [_short(value[each]) for each in ("median", "low", "high")]
    text = f"{numbers[0]} ({numbers[1]} to {numbers[2]}) {figure['unit']}"
    mark = {True: "**", False: "*", None: ""}[figure["met"]]
    target = f"{mark}{figure['target']}{mark}" if figure["target"] else "–"
    return f"| {figure['name']} | {figure['against']} | {text} | {target} |\n"


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
