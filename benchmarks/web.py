"""Pages and API on large records: `python -m benchmarks.web`.

Writes runs with the real recorder (by default 10 runs of 50,000 samples and 100 epochs, of two
models, with every measure of a classifier; the first also with features, thumbnails and a hundred
verdicts), then asks each page and route for its answer:

- cold: the first answer of an application that has read nothing yet; files may be in the
  system's cache,
- warm: over HTTP from a real `mlflow server --app-name actiontrack` with one worker, after it has
  answered the same once.

What is printed is milliseconds: median, lowest and highest of the repetitions.
"""

import argparse
import contextlib
import http.client
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import flask
import mlflow
import numpy as np
from PIL import Image

from actiontrack.analysis import verdicts
from actiontrack.recorder import Recorder
from actiontrack.store import Store
from actiontrack.web.app import install
from actiontrack.web.permissions import Everybody
from benchmarks.measure import RESULTS_VARIABLE, Figure, Spread, keep

CLASSES, JUDGED = 10, 100
FIRST_PAGE_MS, ANY_PAGE_MS = 1000, 300


def main() -> None:
    """Write the records, unless the folder holds them already, and measure every route."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--samples", type=int, default=50_000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--repetitions", type=int, default=11, help="of each warm answer")
    parser.add_argument("--folder", type=Path, help="keep the records here. Default: a new one")
    parser.add_argument("--cold", action="store_true", help="measure cold answers, too")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run_ids = write_records(folder, options)
        routes = routes_of(run_ids)
        cold = measure_cold(folder, routes) if options.cold else {}
        base = stack.enter_context(served(folder))
        first = time_of(base, "/actiontrack/")
        print(f"first page of a new server: {first:.0f} ms (target {FIRST_PAGE_MS} ms when warm)")
        print(f"{'page or route':<44} {'cold ms':>8}  warm ms: median (lowest to highest)  bytes")
        figures: list[Figure] = []
        for name, path in routes.items():
            size = ask(base, path)
            times = [time_of(base, path) for _ in range(options.repetitions)]
            spread = Spread.of(times)
            shown = f"{cold[name]:8.0f}" if name in cold else f"{'':>8}"
            print(f"{name:<44} {shown}  {spread!s:<36} {size}", flush=True)
            figures.append(
                Figure(
                    name=name,
                    against=f"{options.samples} samples x {options.epochs} epochs x "
                    f"{options.runs} runs, warm",
                    value=spread,
                    unit="ms",
                    target="" if "/api/" in path else f"<= {ANY_PAGE_MS}",
                )
            )
        if os.environ.get(RESULTS_VARIABLE):
            keep(*figures)
        slowest = max(each.value.median for each in figures if each.target)
        print(f"slowest page {slowest:.0f} ms (target {ANY_PAGE_MS})")


def write_records(folder: Path, options: argparse.Namespace) -> list[str]:
    """Train nothing, but record losses as of classifiers that learn easy samples sooner."""
    folder.mkdir(parents=True, exist_ok=True)
    uri = uri_of(folder)
    os.environ["ACTIONTRACK_SPOOL"] = str(folder / "spool")
    client = mlflow.MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name("benchmark")
    if found:
        known = client.search_runs([found.experiment_id], order_by=["attributes.start_time ASC"])
        return [each.info.run_id for each in known]
    location = (folder / "artifacts").as_uri()
    experiment = client.create_experiment("benchmark", artifact_location=location)
    rng = np.random.default_rng(0)
    labels = rng.integers(CLASSES, size=options.samples)
    difficulty = rng.gamma(2.0, 1.0, size=options.samples)
    run_ids = []
    for number in range(options.runs):
        started = time.perf_counter()
        run = client.create_run(experiment, run_name=f"run {number}", tags={"owner": "benchmark"})
        run_ids.append(run.info.run_id)
        samples = (labels, difficulty)
        write_record(Store(uri), run_ids[-1], number, samples, options.epochs)
        print(f"run {number + 1} of {options.runs}: {time.perf_counter() - started:.0f} s")
    return run_ids


def write_record(
    store: Store,
    run_id: str,
    number: int,
    samples: tuple[np.ndarray, np.ndarray],
    epochs: int,
) -> None:
    """Record one run; the difficulty of a sample is partly the model's own, partly shared."""
    labels, difficulty = samples
    rng = np.random.default_rng(100 + number)
    model = ("cnn", "resnet")[number % 2]
    own = np.random.default_rng(number % 2).gamma(2.0, 0.5, size=len(labels))
    ids, names = np.arange(len(labels)), [f"class {each}" for each in range(CLASSES)]
    hard = (difficulty + own + rng.gamma(1.0, 0.3, size=len(labels))).astype(np.float32)
    one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
    store.log_params(run_id, {"dataset": "made", "model": model, "seed": number})
    recorder = Recorder(
        "test",
        model=model,
        class_names=names,
        run_id=run_id,
        store=store,
        loss_name="cross_entropy",
    )
    with recorder:
        for epoch in range(epochs):
            margin = 6 * (1 - np.exp(-(epoch + 1) / (5 * hard))) - 0.4 * hard
            noise = rng.normal(scale=0.7, size=one_hot.shape).astype(np.float32)
            recorder.update(ids, logits=one_hot * margin[:, None] + noise, labels=labels)
            recorder.end_epoch()
        if number == 0:
            features = one_hot @ rng.normal(size=(CLASSES, 64)) + rng.normal(size=(len(ids), 64))
            recorder.log_features(ids, features)
            recorder.log_thumbnails(ids, thumbnails(len(ids)))
    mlflow.MlflowClient(tracking_uri=store.tracking_uri).set_terminated(run_id)
    if number == 0:
        record = store.open_record(run_id)
        for each in range(JUDGED):  # as reviewers do: one file for each
            verdict = verdicts.Verdict(sample_id=each, verdict="fine", who="benchmark")
            verdicts.add(record, [verdict])


def thumbnails(count: int) -> list[bytes]:
    """PNGs of 32 x 32 pixels; a thousand different ones, over and over."""
    rng = np.random.default_rng(1)
    made = []
    for _ in range(min(count, 1000)):
        coarse = rng.integers(0, 255, size=(8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "PNG")
        made.append(buffer.getvalue())
    return [made[each % len(made)] for each in range(count)]


def routes_of(run_ids: list[str]) -> dict[str, str]:
    """Name -> path of what is measured."""
    one, two, every = run_ids[0], run_ids[:2], run_ids

    def page(path: str, runs: list[str], **more: object) -> str:
        return f"/actiontrack{path}?{urlencode([*(('run', each) for each in runs), *more.items()])}"

    found = {
        "page /": "/actiontrack/",
        "page /run": page("/run", [one]),
        "page /run, filtered": page("/run", [one], **{"class": "class 3", "correct": "wrong"}),
        "page /run, page 500": page("/run", [one], page=500),
        "page /sample": page("/sample", [one], id=7),
        "page /review": page("/review", [one]),
    }
    for view in ("correlations", "scatter", "contrasts", "entropy"):
        found[f"page /compare, {view}"] = page("/compare", every, view=view)
    api = {
        "runs": ([], {}),
        "scores": ([one], {}),
        "scores, all as JSON, one column": (
            [one],
            {"per_page": 100_000, "columns": "action"},
        ),
        "scores, all as CSV": ([one], {"per_page": 100_000, "format": "csv"}),
        "scores, all as Parquet": ([one], {"per_page": 100_000, "format": "parquet"}),
        "distributions": ([one], {"by": "class"}),
        "classes": ([one], {}),
        "curves, 10 hardest": ([one], {}),
        "curves, one sample of all runs": (every, {"id": 7}),
        "clusters": ([one], {}),
        "neighbours": ([one], {"id": 7}),
        "correlations of all runs": (every, {}),
        "quantiles of all runs": (every, {}),
        "pairs, all": (two, {"per_page": 100_000}),
        "contrasts of all runs": (every, {}),
        "entropy, all": ([one], {"per_page": 100_000}),
        "image": ([one], {"id": 7}),
        "precision": ([one], {}),
    }
    return found | {
        f"api {name}": page(f"/api/{name.partition(',')[0].split()[0]}", runs, **more)
        for name, (runs, more) in api.items()
    }


def measure_cold(folder: Path, routes: dict[str, str]) -> dict[str, float]:
    """The first answer to each, on empty caches."""
    times = {}
    for name, path in routes.items():
        app = flask.Flask("benchmark")
        install(app, Everybody(), store=Store(uri_of(folder)), key=b"benchmark")
        client = app.test_client()
        started = time.perf_counter()
        assert client.get(path).status_code == 200, path
        times[name] = 1000 * (time.perf_counter() - started)
    return times


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address of a real server, as host:port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "actiontrack"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", uri_of(folder)]
    environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own server
            command, cwd=folder, env=environment, stdout=log, stderr=log
        )
    base = f"127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                ask(base, "/health")
                break
            ended = process.poll() is not None or time.monotonic() > deadline
            assert not ended, "the server does not start: see server.log"
            time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait()


def ask(base: str, path: str) -> int:
    """Ask once and return the bytes of the answer."""
    connection = http.client.HTTPConnection(base, timeout=600)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, (answer.status, path, body[:300])
    finally:
        connection.close()
    return len(body)


def time_of(base: str, path: str) -> float:
    """Milliseconds of one answer."""
    started = time.perf_counter()
    ask(base, path)
    return 1000 * (time.perf_counter() - started)


def uri_of(folder: Path) -> str:
    """The store of the benchmark."""
    return f"sqlite:///{folder.resolve() / 'mlflow.db'}"


if __name__ == "__main__":
    main()
