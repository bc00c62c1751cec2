"""A training split of the size of ImageNet: `python -m benchmarks.imagenet`.

1,281,167 samples of 1,000 classes are recorded epoch by epoch by the recorder as training would do
it: inline, in batches, into a local store and through an `mlflow server` with proxied artifacts on
this machine, whose connections are counted by a relay. Losses are drawn anew for every batch from
the difficulty of its samples, which falls as training goes on: no more than an epoch is ever in
memory here. Recording, scoring and comparing run in processes of their own, so that each peak of
memory is its own; imports are taken off. `--epochs 90` is the whole training; the cost of an epoch
does not depend on how many there are, which is measured by the processor's time in the training
thread: the last quarter of the epochs against the first.
`--logits 1` gives logits of all classes instead of losses, so that all measures are recorded.

On paper: a loss is 4 bytes before compression, so 90 epochs are 461 MB, and as much to the server.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Figure, Spread, keep, options
from benchmarks.relay import relay
from benchmarks.upload import server

CLASSES = 1000
RUNS = 4  # compared with each other


def main(argv: Sequence[str]) -> int:
    """Record both ways, score, compare, and print."""
    given = options(
        __doc__, argv, samples=1_281_167, epochs=10, batch=4096, logits=0, child="", uri="", seed=0
    )
    if given.child:
        print(json.dumps(_CHILDREN[given.child](given)))
        return 0
    size = f"{given.samples:,} x {given.epochs}{' with logits' if given.logits else ''}"
    with tempfile.TemporaryDirectory() as scratch, server(Path(scratch)) as there:
        local = f"sqlite:///{scratch}/mlflow.db"
        here = _child("record", given, local, scratch)
        keep(*_of_recording(here, given, f"recording {size}"), *_of_disk(here, given))
        with relay(there) as between:
            proxied = _child("record", given, between.uri, scratch)
        raw = given.samples * given.epochs * 4
        keep(
            Figure(
                name=f"recording {size} through a server: bytes sent",
                against=f"raw float32, {raw / 1e6:,.0f} MB",
                value=Spread.of([between.sent / raw]),
                details={
                    "until the run holds all": f"{proxied['total']:.1f} s",
                    "sent": f"{between.sent / 1e6:,.1f} MB",
                    "received": f"{between.received / 1e6:,.2f} MB",
                },
            )
        )
        scored = _child("score", given, local, scratch)
        for seed in range(1, RUNS):
            _child("record", given, local, scratch, seed=seed)
        compared = _child("compare", given, local, scratch)
        keep(
            _peak(f"scores of {size} from the history", scored, 4 * given.samples * given.epochs),
            _peak(f"compare of {RUNS} runs of {size}", compared, 8 * RUNS * given.samples),
        )
    return 0


def _of_recording(found: dict[str, Any], given: Any, name: str) -> list[Figure]:
    busy = found["busy"]
    quarter = max(1, len(busy) // 4)
    growth = statistics.median(busy[-quarter:]) / statistics.median(busy[1 : 1 + quarter])
    return [
        Figure(
            name=f"{name}: an epoch in the training thread",
            against="-",
            value=Spread.of(found["epochs"]),
            unit="s",
            details={"until the run holds all": f"{found['total']:.1f} s"},
        ),
        Figure(
            name=f"{name}: the last epochs",
            against="the first",
            value=Spread.of([growth]),
            target="<= 1.5",
        ),
        Figure(
            name=f"{name}: peak memory beyond the imports",
            against=f"an epoch of losses, {given.samples * 4 / 1e6:.1f} MB",
            value=Spread.of([found["peak"] / (given.samples * 4)]),
            details={"peak": f"{found['peak'] / 1e6:,.0f} MB, scores at the end included"},
        ),
    ]


def _of_disk(found: dict[str, Any], given: Any) -> list[Figure]:
    blocks = found["files"]["blocks"]
    return [
        Figure(
            name=f"disk of {given.samples:,} x {given.epochs}: losses",
            against="raw float32, 4.00",
            value=Spread.of([blocks / given.samples / given.epochs]),
            unit="bytes a value",
            details={each: f"{size / 1e6:,.1f} MB" for each, size in found["files"].items()},
        )
    ]


def _peak(name: str, found: dict[str, Any], size: int) -> Figure:
    return Figure(
        name=f"{name}: peak memory beyond the imports",
        against=f"what it reads, {size / 1e6:,.0f} MB",
        value=Spread.of([found["peak"] / size]),
        details={"time": f"{found['seconds']:.1f} s", "peak": f"{found['peak'] / 1e6:,.0f} MB"},
    )


# ---------------------------------------------------------------- in processes of their own


def _child(work: str, given: Any, uri: str, scratch: str, *, seed: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.imagenet", "--child", work, "--uri", uri]
    command += ["--seed", str(seed)]
    for name in ("samples", "epochs", "batch", "logits"):
        command += [f"--{name}", str(getattr(given, name))]
    environment = {"ACTIONTRACK_SPOOL": f"{scratch}/spool"}
    done = subprocess.run(  # noqa: S603
        ["/usr/bin/env", *(f"{key}={value}" for key, value in environment.items()), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _record(given: Any) -> dict[str, Any]:
    from actiontrack.recorder import Recorder  # noqa: PLC0415
    from actiontrack.store import Store  # noqa: PLC0415

    store = Store(given.uri)
    _experiment(given.uri)
    ids = np.random.default_rng(0).permutation(given.samples)
    labels = np.random.default_rng(1).integers(0, CLASSES, given.samples)
    difficulty = np.random.default_rng(2).gamma(2.0, 1.0, given.samples).astype(np.float32)
    with store.run(name=f"run {given.seed}") as run:
        before, begin = _resident(), time.perf_counter()
        blocked, busy = [0.0] * given.epochs, [0.0] * given.epochs
        with Recorder(
            "train",
            mode="inline",
            run_id=run.run_id,
            store=store,
            class_names=[str(each) for each in range(CLASSES)],
        ) as recorder:
            for epoch in range(given.epochs):
                for batch, numbers, truth in _batches(given, ids, labels, difficulty, epoch):
                    kind = "logits" if given.logits else "losses"
                    with _timed(blocked, busy, epoch):
                        recorder.update(batch, labels=truth, **{kind: numbers})
                with _timed(blocked, busy, epoch):
                    recorder.end_epoch()
        total = time.perf_counter() - begin
        record = store.open_record(run.run_id)
        files = dict.fromkeys(("blocks", "samples.parquet", "scores.parquet"), 0)
        for path, entry in record.manifest.files.items():
            files[path.split("/", maxsplit=1)[0]] += entry.bytes
    found = {"epochs": blocked, "busy": busy, "total": total, "files": files}
    return found | {"peak": _resident() - before}


@contextmanager
def _timed(blocked: list[float], busy: list[float], epoch: int) -> Iterator[None]:
    """Add what a block takes of this thread: by the clock, and of the processor."""
    start, start_busy = time.perf_counter(), time.thread_time()
    yield
    blocked[epoch] += time.perf_counter() - start
    busy[epoch] += time.thread_time() - start_busy


def _batches(
    given: Any, ids: Any, labels: Any, difficulty: Any, epoch: int
) -> Iterator[tuple[Any, Any, Any]]:
    """Ids, losses or logits, and labels of one batch after the other, in an order of the epoch."""
    rng = np.random.default_rng([given.seed, epoch])
    order = rng.permutation(given.samples)
    progress = (epoch + 1) / given.epochs
    for start in range(0, given.samples, given.batch):
        here = order[start : start + given.batch]
        hard = difficulty[here] * (1 - 0.8 * progress) + rng.gamma(1.0, 0.2, here.size)
        numbers = hard.astype(np.float32)
        if given.logits:
            numbers = rng.standard_normal((here.size, CLASSES), dtype=np.float32)
            numbers[np.arange(here.size), labels[here]] += 8 - hard
        yield ids[here], numbers, labels[here]


def _score(given: Any) -> dict[str, Any]:
    from actiontrack.analysis import load_records  # noqa: PLC0415
    from actiontrack.scores import score_table  # noqa: PLC0415

    (record,) = load_records(tracking_uri=given.uri)
    before, start = _resident(), time.perf_counter()
    score_table(record.history())
    return {"seconds": time.perf_counter() - start, "peak": _resident() - before}


def _compare(given: Any) -> dict[str, Any]:
    from actiontrack.analysis import compare_runs, load_records  # noqa: PLC0415

    records = load_records(tracking_uri=given.uri)
    before, start = _resident(), time.perf_counter()
    compare_runs(records, n_bootstrap=0)
    return {"seconds": time.perf_counter() - start, "peak": _resident() - before}


_CHILDREN = {"record": _record, "score": _score, "compare": _compare}


def _experiment(uri: str) -> None:
    import mlflow  # noqa: PLC0415

    mlflow.set_tracking_uri(uri)
    if uri.startswith("sqlite") and mlflow.get_experiment_by_name("imagenet") is None:
        folder = Path(uri.removeprefix("sqlite:///")).parent
        mlflow.create_experiment("imagenet", artifact_location=(folder / "local").as_uri())
    mlflow.set_experiment("imagenet")


def _resident() -> float:
    """Peak of the resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---------------------------------------------------------------- bytes on the wire


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
