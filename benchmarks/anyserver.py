"""Pages of a remote server beside those of its own database: `python -m benchmarks.anyserver`.

A thousand runs with a record lie on a real `mlflow server`. The pages read it over a network whose
answers take 10 ms, and in turns the database itself, as inside MLflow's server. "Warm" is the list
of runs a moment after it was shown, "renewed" once what was remembered is too old. Requests are
counted as the client sends them.
"""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import flask
import mlflow
import requests

from actiontrack.store import Store
from actiontrack.testing import make_history, record_history
from actiontrack.web.app import install
from actiontrack.web.permissions import Everybody
from benchmarks.measure import Figure, Spread, keep, options
from benchmarks.relay import relay
from benchmarks.upload import server

DELAY_MS, WARM_MS, MOST_REQUESTS = 10, 300, 4
_RENEWED_AFTER_S = 3.5
_RECORDED = 5  # runs whose files are there; the others share the tags of one


def main(argv: Sequence[str]) -> int:
    """Make the runs, ask both ways in turns, and print."""
    given = options(__doc__, argv, runs=1000, turns=5)
    with tempfile.TemporaryDirectory() as scratch, server(Path(scratch)) as uri:
        run_ids = _make_runs(uri, Path(scratch) / "spool", given.runs)
        with relay(uri, DELAY_MS) as network:
            far = _client(network.uri)
            near = _client(f"sqlite:///{scratch}/server.db")
            first = [_milliseconds(client, "/actiontrack/") for client in (far, near)]
            warm, renewed = _in_turns(far, near, given.turns)
            counts = [_requests(far, f"/actiontrack/run?run={one}") for one in run_ids]
    _tell(given.runs, first, warm, renewed, counts[1:])  # the first asks what the server can do
    return 0


def _make_runs(uri: str, spool: Path, count: int) -> list[str]:
    """Record some runs, and make the others by their tags: a list of runs reads no more."""
    client, store = mlflow.MlflowClient(uri), Store(uri)
    experiment = client.create_experiment("many")
    run_ids = [client.create_run(experiment).info.run_id for _ in range(_RECORDED)]
    for run_id in run_ids:
        record_history(make_history(n_samples=200), run_id, store, spool)
        client.set_terminated(run_id)
    tags = store.get_run(run_ids[0]).tags
    shared = {name: text for name, text in tags.items() if name.startswith("actiontrack.")}
    for _ in range(count - _RECORDED):
        client.set_terminated(client.create_run(experiment, tags=shared).info.run_id)
    return run_ids


def _client(uri: str) -> Any:
    """A Flask client on our pages of a store."""
    app = flask.Flask("pages")
    install(app, Everybody(), store=Store(uri), key=b"of a benchmark")
    return app.test_client()


def _in_turns(far: Any, near: Any, turns: int) -> tuple[list[list[float]], list[list[float]]]:
    """Milliseconds of the warm list and of the renewed one: remote, local."""
    warm: list[list[float]] = [[], []]
    renewed: list[list[float]] = [[], []]
    for _ in range(turns):
        for way, client in enumerate((far, near)):
            time.sleep(_RENEWED_AFTER_S)
            renewed[way].append(_milliseconds(client, "/actiontrack/"))
            warm[way].append(_milliseconds(client, "/actiontrack/"))
    return warm, renewed


def _milliseconds(client: Any, path: str) -> float:
    start = time.perf_counter()
    answer = client.get(path)
    if answer.status_code != 200:
        raise SystemExit(f"{path}: {answer.status_code} {answer.get_data(as_text=True)[:300]}")
    return (time.perf_counter() - start) * 1e3


def _requests(client: Any, path: str) -> Counter[str]:
    """How often each address is asked for by the first visit of a page."""
    with _counting() as asked:
        _milliseconds(client, path)
    return Counter(asked)


@contextmanager
def _counting() -> Iterator[list[str]]:
    asked: list[str] = []
    send = requests.Session.send

    def counted(session: requests.Session, request: Any, **more: Any) -> requests.Response:
        asked.append(f"{request.method} {urlsplit(request.url).path}")
        return send(session, request, **more)

    requests.Session.send = counted  # type: ignore[method-assign]
    try:
        yield asked
    finally:
        requests.Session.send = send  # type: ignore[method-assign]


def _tell(
    count: int,
    first: list[float],
    warm: list[list[float]],
    renewed: list[list[float]],
    counts: list[Counter[str]],
) -> None:
    what, against = f"{count:,} runs, {DELAY_MS} ms away: ", "the database itself"
    keep(
        Figure(
            name=f"{what}list of runs, warm",
            against="nothing",
            value=Spread.of(warm[0]),
            unit="ms",
            target=f"<= {WARM_MS}",
            details={"first of all": f"{first[0]:.0f} ms, {first[1]:.0f} ms of the database"},
        ),
        Figure(
            name=f"{what}list of runs, warm",
            against=against,
            value=Spread.of([one / two for one, two in zip(*warm, strict=True)]),
            target="<= 1.3",
        ),
        Figure(
            name=f"{what}list of runs, renewed",
            against=against,
            value=Spread.of([one / two for one, two in zip(*renewed, strict=True)]),
            details={
                "remote": f"{Spread.of(renewed[0])} ms",
                "local": f"{Spread.of(renewed[1])} ms",
            },
        ),
        Figure(
            name=f"{what}requests of the first visit of a run",
            against="nothing",
            value=Spread.of([float(one.total()) for one in counts]),
            unit="requests",
            target=f"<= {MOST_REQUESTS}",
            details={"the same twice": str(max(max(one.values()) for one in counts) > 1)},
        ),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
