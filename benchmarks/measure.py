"""Ratios measured side by side: two ways in turns, in one process, on the same data.

Other work of the machine falls on both ways alike, so the ratio of a turn's pair is steadier than
either time. What is reported is the median over the turns with the lowest and the highest.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["Figure", "Spread", "in_turns", "keep", "machine", "options", "ratios", "versions"]

#: Where `keep` collects figures for `benchmarks/RESULTS.md`, if the environment names a folder.
RESULTS_VARIABLE = "ACTIONTRACK_BENCHMARKS"


@dataclass(frozen=True)
class Spread:
    """Median, lowest and highest of the turns."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        """As ``1.23 (1.20 to 1.31)``."""
        return f"{_short(self.median)} ({_short(self.low)} to {_short(self.high)})"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the results.

    Attributes:
        name: what was measured.
        against: what it is compared with.
        value: the figure.
        unit: of the figure, such as "x" for a ratio.
        target: the bound, such as "<= 1.03", or the empty string.
        details: anything that a reader needs beside it.
    """

    name: str
    against: str
    value: Spread
    unit: str = "x"
    target: str = ""
    details: Mapping[str, str] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bound; None without one."""
        if not self.target:
            return None
        relation, bound = self.target.split()
        median = float(self.value.median)
        return median <= float(bound) if relation == "<=" else median >= float(bound)

    def __str__(self) -> str:
        """One line for the terminal, and one for each detail."""
        verdict = {None: "", True: "  met", False: "  NOT met"}[self.met]
        target = f"  target {self.target}{verdict}" if self.target else ""
        lines = [f"{self.name}, against {self.against}: {self.value} {self.unit}{target}"]
        return "\n".join(lines + [f"    {name}: {text}" for name, text in self.details.items()])


def options(about: str, argv: Sequence[str], **defaults: float | str) -> argparse.Namespace:
    """What a benchmark was asked for: an option of its default's type for each name."""
    parser = argparse.ArgumentParser(
        description=about,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=" ")
    return parser.parse_args(argv)


def in_turns(
    ways: Mapping[str, Callable[[], object]],
    *,
    turns: int = 7,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    after: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each way in each turn, after turns that do not count.

    Args:
        ways: name to what is timed; a turn runs each once, every other turn in reverse.
        turns: how many count.
        warm_up: how many do not, before them.
        clock: what counts seconds; `time.process_time` leaves out what others took.
        after: tidies up after each way, outside the time.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(warm_up + turns):
        order = list(ways) if turn % 2 == 0 else list(reversed(ways))
        for name in order:
            start = clock()
            ways[name]()
            taken = clock() - start
            after()
            if turn >= warm_up:
                seconds[name].append(taken)
    return seconds


def ratios(seconds: Mapping[str, Sequence[float]], ours: str, other: str) -> Spread:
    """Ours by the other, turn by turn."""
    pairs = zip(seconds[ours], seconds[other], strict=True)
    return Spread.of([one / two for one, two in pairs])


def keep(*figures: Figure) -> None:
    """Print figures, and collect them where the environment says so."""
    folder = os.environ.get(RESULTS_VARIABLE)
    for figure in figures:
        print(figure, flush=True)
        if folder:
            module = Path(sys.argv[0]).stem
            line = {"benchmark": module, "date": datetime.now(UTC).date().isoformat()}
            line |= asdict(figure) | {"met": figure.met}
            with (Path(folder) / "figures.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")


def machine() -> str:
    """The processor, its cores and the memory, in words."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        name = found[0].partition(":")[2].strip() if found else name
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{name}, {os.cpu_count()} cores, {memory:.0f} GiB"


def versions(*packages: str) -> str:
    """Python's version and those of packages, "absent" where one is not installed."""
    found = [f"Python {platform.python_version()}"]
    for each in packages:
        try:
            found.append(f"{each} {version(each)}")
        except PackageNotFoundError:
            found.append(f"{each} absent")
    return ", ".join(found)


def _short(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
