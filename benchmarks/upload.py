"""A long record into a server that proxies artifacts: `python -m benchmarks.upload`.

A training thread records losses of 50,000 samples x 100 epochs as fast as it can, into a real
`mlflow server` with SQLite and proxied artifacts on this machine. Against it one `log_artifact` of
the same losses as a raw array. "Blocked" is what update and end_epoch take of the training thread;
"total" ends when the run holds all of it. Beside them the least that either can be: one copy of the
losses in memory, and their encoding as the record's files without sending them.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np

from actiontrack.recorder import Recorder
from actiontrack.store import Store
from benchmarks.measure import Figure, Spread, keep, options
from benchmarks.storage import Losses, real_losses, write_files


def main(argv: Sequence[str]) -> int:
    """Record and log in turns, and print."""
    given = options(__doc__, argv, samples=50_000, epochs=100, turns=3)
    losses = real_losses(given.samples, given.epochs)
    blocked, total, raw, copied, encoded = [], [], [], [], []
    with tempfile.TemporaryDirectory() as scratch, server(Path(scratch)) as uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
        for turn in range(given.turns + 1):
            one = _log_raw(Path(scratch), losses)
            mine, whole = _record(uri, Path(scratch) / "spool", losses)
            if turn:  # the first one warms up
                raw.append(one)
                blocked.append(mine)
                total.append(whole)
                copied.append(_copy(losses))
                encoded.append(_encode(Path(scratch) / "encoded", losses))
    size = f"{given.samples:,} samples x {given.epochs} epochs into a proxied server"
    against = "one log_artifact of the raw array"
    details = {
        "blocked": f"{Spread.of(blocked)} s",
        "blocked for an epoch": f"{Spread.of([one / given.epochs * 1e3 for one in blocked])} ms",
        "total": f"{Spread.of(total)} s",
        "raw array": f"{Spread.of(raw)} s",
        "one copy in memory": f"{Spread.of(copied)} s",
        "encoding alone": f"{Spread.of(encoded)} s",
    }
    keep(
        Figure(
            name=f"{size}: training thread blocked",
            against=against,
            value=Spread.of([one / two for one, two in zip(blocked, raw, strict=True)]),
            target="<= 0.01",
            details=details,
        ),
        Figure(
            name=f"{size}: until the run holds all",
            against=against,
            value=Spread.of([one / two for one, two in zip(total, raw, strict=True)]),
            target="<= 4",
        ),
    )
    return 0


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A tracking server of its own with proxied artifacts; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{folder / 'server.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)  # noqa: S603
        try:
            _wait(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with code {process.returncode}")
        try:
            with urllib.request.urlopen(url):  # noqa: S310 - of this module
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError("the server does not answer")


def _log_raw(folder: Path, losses: Losses) -> float:
    path = folder / "losses.npy"
    np.save(path, losses)
    with mlflow.start_run():
        start = time.perf_counter()
        mlflow.log_artifact(str(path))
        return time.perf_counter() - start


def _copy(losses: Losses) -> float:
    kept = losses.copy()  # its pages are there
    start = time.perf_counter()
    np.copyto(kept, losses)
    return time.perf_counter() - start


def _encode(folder: Path, losses: Losses) -> float:
    start = time.perf_counter()
    write_files(folder, losses)
    return time.perf_counter() - start


def _record(uri: str, spool: Path, losses: Losses) -> tuple[float, float]:
    store, ids = Store(uri), np.arange(losses.shape[1])
    with store.run(name="upload") as run:
        begin = time.perf_counter()
        blocked = 0.0
        with Recorder(run_id=run.run_id, store=store, spool=spool) as recorder:
            for row in losses:
                start = time.perf_counter()
                recorder.update(ids, row)
                recorder.end_epoch()
                blocked += time.perf_counter() - start
        return blocked, time.perf_counter() - begin


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
