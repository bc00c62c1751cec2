"""Comparisons of many large runs in bounded memory: `python -m benchmarks.scale`.

Records of many runs are written by the record's own code into a local store; then `compare_runs`
correlates all of them, Spearman and Pearson, overall, within classes and per class, in a process
of its own whose memory is limited (RLIMIT_DATA, `--memory` in GB). Allocators there keep little of
what they don't use: `ARROW_DEFAULT_MEMORY_POOL=system`, as Arrow's own reserves a GB of addresses,
and `MALLOC_ARENA_MAX=2`, as each thread has one of its own otherwise. Scores come from a common
part and noise: what is measured is size, not content. Reported are the time, and the peak of the
resident memory beyond that of the imports, by the size of the scores (8 bytes each).
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from actiontrack.recorder import Recorder
from actiontrack.store import RunQuery, Store
from benchmarks.measure import Figure, Spread, keep, options

CLASSES = 10
ALLOCATORS = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}


def main(argv: Sequence[str]) -> int:
    """Record, compare in a process of its own, and print."""
    given = options(__doc__, argv, runs=200, samples=1_281_167, memory=4.0, child="")
    if given.child:
        print(json.dumps(_compare(given.child, given.memory)))
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        uri = f"sqlite:///{scratch}/mlflow.db"
        start = time.perf_counter()
        _record(uri, Path(scratch), given.runs, given.samples)
        recorded = time.perf_counter() - start
        command = [sys.executable, "-m", "benchmarks.scale", "--child", uri]
        command += ["--memory", str(given.memory)]
        environment = os.environ | ALLOCATORS
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, check=False, env=environment
        )
        if done.returncode:
            print(done.stderr[-2000:], file=sys.stderr)
            return 1
        found = json.loads(done.stdout.splitlines()[-1])
    size = given.runs * given.samples * 8
    name = f"compare {given.runs} runs x {given.samples:,} samples in {given.memory:g} GB"
    keep(
        Figure(
            name=name,
            against="-",
            value=Spread.of([found["seconds"]]),
            unit="s",
            details={"recording": f"{recorded:.0f} s", "pairs of runs": f"{found['pairs']:,}"},
        ),
        Figure(
            name="its peak memory beyond the imports",
            against=f"the scores, {size / 1e9:.2f} GB",
            value=Spread.of([found["peak"] / size]),
            target="<= 2",
        ),
    )
    return 0


def _record(uri: str, folder: Path, n_runs: int, n_samples: int) -> None:
    import mlflow  # noqa: PLC0415

    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("scale", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("scale")
    rng = np.random.default_rng(0)
    ids, labels = np.arange(n_samples), rng.integers(0, CLASSES, n_samples)
    common = rng.gamma(2.0, 1.0, n_samples).astype(np.float32)
    store = Store(uri)
    for number in range(n_runs):
        losses = common + rng.gamma(2.0, 1.0, n_samples).astype(np.float32)
        with (
            store.run(name=f"run {number}") as run,
            Recorder(
                run_id=run.run_id,
                store=store,
                spool=folder / "spool",
                model=f"model {number % 4}",
                class_names=[str(each) for each in range(CLASSES)],
            ) as recorder,
        ):
            recorder.update(ids, losses, labels=labels)
            recorder.end_epoch()


def _compare(uri: str, gigabytes: float) -> dict[str, float]:
    from actiontrack.analysis import compare_runs, load_records  # noqa: PLC0415

    before = _resident()
    limit = int(gigabytes * 1e9)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    start = time.perf_counter()
    records = load_records(RunQuery(experiments=("scale",)), tracking_uri=uri)
    found = compare_runs(records, n_bootstrap=0)
    seconds = time.perf_counter() - start
    runs = len(found.runs)
    pairs = runs * (runs - 1) / 2
    return {"seconds": seconds, "peak": _resident() - before, "pairs": pairs}


def _resident() -> float:
    """Peak of the resident memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
