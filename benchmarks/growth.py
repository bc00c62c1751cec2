"""How costs grow when sizes double: `python -m benchmarks.growth`.

One size at a time doubles three times: samples, epochs, classes, runs, images. Recording, scoring,
comparing and maps should cost twice as much for twice the size, or as much as before; comparing
runs with each other should cost at most four times as much for twice the runs. What is reported is
the factor for each doubling, of the line through the logarithms of the costs, so that a fixed cost
makes it smaller and never larger. Time is that of the processor, of all threads, which other work
on the machine prolongs least, with BLAS on one thread: several would count while they wait for each
other. Memory is the peak that is resident beyond what was before.
"""

import ctypes
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from actiontrack import analysis
from actiontrack.compare import correlations
from actiontrack.recorder import Recorder
from actiontrack.scores import score_table
from actiontrack.store import RunQuery, Store, StoredRecord
from actiontrack.testing import make_history
from benchmarks.measure import Figure, Spread, keep, options

LINEAR, QUADRATIC, BYTES = "<= 2.3", "<= 4.6", "<= 2.1"
DOUBLINGS = 3
BATCH = 4096


def _nothing(value: object) -> None:
    del value


@dataclass(frozen=True)
class Case:
    """Work whose cost should grow with one size.

    Attributes:
        name: what is done, and which size doubles.
        start: the smallest size.
        prepare: makes what the work of a size needs, which is not measured.
        work: what is measured; it may return a number of bytes.
        bound: on the factor of time for each doubling.
        memory: on that of the peak of memory; none where it is not what should grow.
    """

    name: str
    start: int
    prepare: Callable[[int], Any]
    work: Callable[[Any], int | None]
    bound: str = LINEAR
    memory: str = LINEAR


@dataclass
class Costs:
    """Costs of one case by size: one number for each turn."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    peaks: dict[int, list[float]] = field(default_factory=dict)
    bytes: dict[int, list[float]] = field(default_factory=dict)


def main(argv: Sequence[str]) -> int:
    """Measure every case, and print."""
    given = options(__doc__, argv, turns=3, only="")
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1):
        bench = _Bench(Path(scratch))
        for case in bench.cases():
            if given.only in case.name:
                keep(*_figures(case, _measured(case, given.turns)))
    return 0


class _Bench:
    """A local store, and the work on it."""

    def __init__(self, folder: Path) -> None:
        self._folder, uri = folder, f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(uri)
        mlflow.create_experiment("growth", artifact_location=(folder / "artifacts").as_uri())
        self._store, self._number = Store(uri), 0

    def cases(self) -> list[Case]:
        """All of them; sizes are such that the largest takes seconds."""
        return [
            Case(
                "recording: samples",
                20_000,
                lambda n: _logits(n, 10),
                lambda given: self._record(*given, epochs=4),
            ),
            Case(
                "recording: epochs",
                8,
                lambda n: (*_logits(20_000, 10), n),
                lambda given: self._record(*given[:2], epochs=given[2]),
            ),
            Case(
                "recording: classes",
                50,
                lambda n: _logits(20_000, n),
                lambda given: self._record(*given, epochs=2),
            ),
            Case("recording: runs", 2, lambda n: n, self._runs),
            Case(
                "recording: maps",
                64,
                lambda n: np.random.default_rng(0).random((n, 64, 64), dtype=np.float32),
                self._maps,
            ),
            Case(
                "scoring: samples",
                50_000,
                lambda n: make_history(n_steps=8, n_samples=n, n_classes=3),
                lambda history: _nothing(score_table(history)),
            ),
            Case(
                "scoring: epochs",
                8,
                lambda n: make_history(n_steps=n, n_samples=50_000, n_classes=3),
                lambda history: _nothing(score_table(history)),
            ),
            Case("reading scores: runs", 8, self._recorded, self._load),
            Case("comparing: samples", 50_000, lambda n: _scores(8, n, 10), _compare),
            Case("comparing: runs", 16, lambda n: _scores(n, 20_000, 10), _compare, QUADRATIC),
            Case("comparing: classes", 10, lambda n: _scores(8, 80_000, n), _compare),
            Case("classes of pixels: images", 64, self._mapped, _pixel_classes),
        ]

    def _record(self, logits: Any, labels: Any, *, epochs: int) -> int:
        """Bytes of the files of a record, of which all is in the run."""
        options = {"class_names": [str(each) for each in range(logits.shape[1])]}
        ids = np.arange(len(labels))

        def epoch(recorder: Recorder) -> None:
            for start in range(0, len(ids), BATCH):
                here = slice(start, start + BATCH)
                recorder.update(ids[here], logits=logits[here], labels=labels[here])

        return _bytes(self._recording(epoch, epochs, options))

    def _maps(self, maps: Any) -> int:
        ids, options = np.arange(len(maps)), {"pixel_loss_name": "focal", "void": "counted"}

        def epoch(recorder: Recorder) -> None:
            for start in range(0, len(ids), 64):
                here = slice(start, start + 64)
                recorder.update(ids[here], maps[here].mean(axis=(1, 2)))
                recorder.update_maps(ids[here], maps[here])

        return _bytes(self._recording(epoch, 2, options))

    def _recording(
        self,
        epoch: Callable[[Recorder], None],
        epochs: int,
        options: Mapping[str, Any],
        finish: Callable[[Recorder], None] = _nothing,
    ) -> StoredRecord:
        mlflow.set_experiment("growth")
        spool = self._folder / "spool"
        with (
            self._store.run() as run,
            Recorder(run_id=run.run_id, store=self._store, spool=spool, **options) as recorder,
        ):
            for _ in range(epochs):
                epoch(recorder)
                recorder.end_epoch()
            finish(recorder)
        return self._store.open_record(run.run_id)

    def _runs(self, n: int) -> int:
        given = _logits(1000, 10)
        return sum(self._record(*given, epochs=2) for _ in range(n))

    def _recorded(self, n: int) -> RunQuery:
        logits, labels = _logits(20_000, 10)
        ids = np.arange(len(labels))
        records = [
            self._recording(
                lambda recorder: recorder.update(ids, logits=logits, labels=labels),
                1,
                {"class_names": [str(each) for each in range(10)]},
            )
            for _ in range(n)
        ]
        return RunQuery(run_ids=tuple(each.run.run_id for each in records))

    def _load(self, query: RunQuery) -> None:
        analysis.load_scores(query, store=self._store)

    def _mapped(self, n: int) -> StoredRecord:
        rng = np.random.default_rng(0)
        maps, ids = rng.random((n, 64, 64), dtype=np.float32), np.arange(n)
        png = _png(rng.integers(0, 8, (64, 64)).astype(np.uint8))

        def epoch(recorder: Recorder) -> None:
            recorder.update(ids, maps.mean(axis=(1, 2)))
            recorder.update_maps(ids, maps)

        options = {"pixel_loss_name": "focal", "void": "counted"}
        return self._recording(
            epoch, 1, options, lambda recorder: recorder.log_pictures("label", ids, [png] * n)
        )


def _pixel_classes(record: StoredRecord) -> None:
    analysis.pixel_classes(record)


def _compare(given: tuple[Any, Any, Sequence[str]]) -> None:
    values, labels, names = given
    correlations(values, labels, groups=["model"] * len(values), class_names=names, n_bootstrap=0)


def _scores(n_runs: int, n_samples: int, n_classes: int) -> tuple[Any, Any, list[str]]:
    rng = np.random.default_rng(0)
    common = rng.gamma(2.0, 3.0, n_samples)
    values = np.stack([common + rng.gamma(2.0, 2.0, n_samples) for _ in range(n_runs)])
    labels = rng.integers(0, n_classes, n_samples)
    return values, labels, [str(each) for each in range(n_classes)]


def _logits(n_samples: int, n_classes: int) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((n_samples, n_classes), dtype=np.float32)
    return logits, rng.integers(0, n_classes, n_samples)


def _png(classes: Any) -> bytes:
    import io  # noqa: PLC0415

    from PIL import Image  # noqa: PLC0415

    stream = io.BytesIO()
    Image.fromarray(classes).save(stream, "PNG")
    return stream.getvalue()


def _bytes(record: StoredRecord) -> int:
    return sum(each.bytes for each in record.manifest.files.values())


# ---------------------------------------------------------------- measuring


def _measured(case: Case, turns: int) -> Costs:
    costs = Costs()
    sizes = [case.start * 2**doubling for doubling in range(DOUBLINGS + 1)]
    case.work(case.prepare(sizes[0]))  # imports, caches: not what grows
    for _ in range(turns):
        for size in sizes:
            given = case.prepare(size)
            before = _tidied()
            start = time.process_time()
            found = case.work(given)
            costs.seconds.setdefault(size, []).append(time.process_time() - start)
            costs.peaks.setdefault(size, []).append(_peak() - before)
            if found is not None:
                costs.bytes.setdefault(size, []).append(float(found))
            del given
    return costs


def _figures(case: Case, costs: Costs) -> list[Figure]:
    what, _, size = case.name.partition(": ")
    parts = [
        ("time", costs.seconds, case.bound, "s", 1.0),
        ("bytes", costs.bytes, BYTES, "MB", 1e6),
    ]
    if _can_reset():
        parts.insert(1, ("peak memory", costs.peaks, case.memory, "MB", 1e6))
    return [
        Figure(
            name=f"{what}: {cost} for twice the {size}",
            against="half of them",
            value=_factor(measured),
            target=bound,
            details={
                f"{each:,} {size}": f"{Spread.of([one / scale for one in values])} {unit}"
                for each, values in measured.items()
            },
        )
        for cost, measured, bound, unit, scale in parts
        if measured
    ]


def _factor(measured: Mapping[int, Sequence[float]]) -> Spread:
    """Of each turn, the factor for a doubling: 2 to the slope of log cost against log size."""
    sizes = np.log2(list(measured))
    turns = zip(*measured.values(), strict=True)
    slopes = [np.polyfit(sizes, np.log2(np.maximum(costs, 1e-9)), 1)[0] for costs in turns]
    return Spread.of([2.0**slope for slope in slopes])


def _can_reset() -> bool:
    return Path("/proc/self/clear_refs").exists()


def _tidied() -> float:
    """Resident memory once what is free has gone back, from where the peak counts anew."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    if _can_reset():
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _peak() -> float:
    return _status("VmHWM")


def _status(name: str) -> float:
    """A line of /proc/self/status in bytes, 0 where there is none."""
    path = Path("/proc/self/status")
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return next((float(each.split()[1]) * 1024 for each in lines if each.startswith(name)), 0.0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
