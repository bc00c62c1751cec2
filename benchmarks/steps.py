"""Records of many steps: `python -m benchmarks.steps`.

A hundred thousand steps of one sample: processor time and bytes written in the thousand steps from
step 100 on and in the last thousand, upload included. Five thousand steps of 1,000 samples: what
the process takes and writes until the run holds all, files, and how long the history is read. An
epoch of 50,000 samples: how long the training thread is held. All against a real `mlflow server`
with SQLite and proxied artifacts on this machine, whose own work is not counted.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from actiontrack.recorder import Recorder
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, keep, options
from benchmarks.upload import server

Losses = NDArray[np.float32]
_WINDOW = 1000


@dataclass(frozen=True)
class _Cost:
    """What the process has taken so far: seconds of the processor, and bytes written."""

    seconds: float
    bytes: int

    @classmethod
    def now(cls) -> "_Cost":
        lines = Path("/proc/self/io").read_text().splitlines()
        written = next(int(line.split()[1]) for line in lines if line.startswith("wchar"))
        return cls(time.process_time(), written)

    def since(self, earlier: "_Cost") -> "_Cost":
        return _Cost(self.seconds - earlier.seconds, self.bytes - earlier.bytes)


def main(argv: Sequence[str]) -> int:
    """Record, and print."""
    given = options(__doc__, argv, steps=100_000, many=5000, epochs=200)
    with tempfile.TemporaryDirectory() as scratch, server(Path(scratch)) as uri:
        store = Store(uri)
        keep(*_growth(store, Path(scratch), given.steps))
        keep(*_many(store, Path(scratch), given.many))
        keep(*_held(store, Path(scratch), given.epochs))
    return 0


def _losses(n_steps: int, n_samples: int) -> Losses:
    """Losses that fall, as those of a training do, every sample at a pace of its own."""
    random = np.random.default_rng(0)
    start, pace = random.gamma(2, 1, n_samples), random.gamma(2, 2, n_samples)
    time_passed = np.arange(n_steps)[:, np.newaxis] / n_steps
    noise = random.lognormal(0, 0.05, (n_steps, n_samples))
    losses: Losses = (start * np.exp(-pace * time_passed) * noise).astype(np.float32)
    return losses


def _growth(store: Store, folder: Path, n_steps: int) -> list[Figure]:
    losses, ids = _losses(n_steps, 1), np.arange(1)
    costs: list[_Cost] = []
    with (
        store.run(name="growth") as run,
        Recorder(run_id=run.run_id, store=store, spool=folder / "spool") as recorder,
    ):
        for step in range(n_steps):
            if step in {100, 100 + _WINDOW, n_steps - _WINDOW}:
                _wait(recorder)
                costs.append(_Cost.now())
            recorder.update(ids, losses[step])
            recorder.end_epoch()
        _wait(recorder)
        costs.append(_Cost.now())
    early, late = costs[1].since(costs[0]), costs[3].since(costs[2])
    name = f"a step of one sample at step {n_steps:,}"
    pairs = (
        ("processor time", late.seconds / early.seconds, early.seconds, late.seconds, "s"),
        ("bytes written", late.bytes / early.bytes, early.bytes, late.bytes, "bytes"),
    )
    return [
        Figure(
            name=f"{name}: {what}",
            against="at step 100",
            value=Spread.of([ratio]),
            target="<= 1.2",
            details={f"{what} of {_WINDOW} steps": f"{before:.4g} and {after:.4g} {unit}"},
        )
        for what, ratio, before, after, unit in pairs
    ]


def _wait(recorder: Recorder) -> None:
    while not recorder.synced:
        time.sleep(0.01)


def _many(store: Store, folder: Path, n_steps: int) -> list[Figure]:
    n_samples = 1000
    losses, ids = _losses(n_steps, n_samples), np.arange(n_samples)
    with store.run(name="many") as run:
        start = _Cost.now()
        with Recorder(run_id=run.run_id, store=store, spool=folder / "spool") as recorder:
            for row in losses:
                recorder.update(ids, row)
                recorder.end_epoch()
        cost = _Cost.now().since(start)
    record = store.open_record(run.run_id)
    begin = time.perf_counter()
    history = record.history()
    read = time.perf_counter() - begin
    np.testing.assert_array_equal(history.losses, losses)
    size = sum(entry.bytes for entry in record.manifest.files.values())
    name = f"{n_steps:,} steps of {n_samples:,} samples"
    figures = (
        ("processor time until the run holds all", cost.seconds, "s", "<= 10"),
        ("bytes written on the way to the server", cost.bytes / size, "x", "<= 2"),
        ("files", len(record.manifest.files) + 1, "files", "<= 64"),
        ("history read", read, "s", "<= 0.3"),
    )
    return [
        Figure(
            name=f"{name}: {what}",
            against="the record" if unit == "x" else "-",
            value=Spread.of([float(value)]),
            unit=unit,
            target=bound,
            details={"the record": f"{size / 1e6:.3g} MB"} if unit == "x" else {},
        )
        for what, value, unit, bound in figures
    ]


def _held(store: Store, folder: Path, n_epochs: int) -> list[Figure]:
    n_samples = 50_000
    losses, ids = _losses(16, n_samples), np.random.default_rng(0).permutation(n_samples)
    figures = []
    for how, durable in (("", False), (", durable=True", True)):
        seconds = []
        with (
            store.run(name="held") as run,
            Recorder(
                run_id=run.run_id, store=store, spool=folder / "spool", durable=durable
            ) as recorder,
        ):
            for epoch in range(n_epochs):
                recorder.update(ids, losses[epoch % len(losses)])
                begin = time.perf_counter()
                recorder.end_epoch()
                seconds.append(1e3 * (time.perf_counter() - begin))
                time.sleep(0.02)  # a training does something else between two epochs
        figures.append(
            Figure(
                name=f"training thread held at the end of an epoch, {n_samples:,} samples{how}",
                against="-",
                value=Spread(
                    float(np.median(seconds[1:])), min(seconds[1:]), float(np.max(seconds[1:]))
                ),
                unit="ms",
                target="" if durable else "<= 1",
                details={"the first epoch" + how: f"{seconds[0]:.3g} ms"},
            )
        )
    return figures


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
