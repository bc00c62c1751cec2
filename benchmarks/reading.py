"""Scores from a tracking server: `python -m benchmarks.reading`.

One run of 50,000 samples x 20 epochs: its scores against a download of the same file and a bare
read by pyarrow. A thousand runs of 1,000 samples: search and load against a client that asks for
one run after the other, by time and by requests. Both by a real `mlflow server` with SQLite and
proxied artifacts, on this machine, whose processors client and server share; a thousand runs also
through a relay that brings each answer 10 ms after its question, as a server elsewhere does.
"""

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow
import pandas as pd
import pyarrow.parquet as pq
import requests

from actiontrack.analysis import load_records, load_scores, runs_frame
from actiontrack.store import RunQuery, Store
from actiontrack.testing import make_history, record_history
from benchmarks.measure import Figure, Spread, in_turns, keep, options, ratios
from benchmarks.relay import relay
from benchmarks.upload import server

SCORES = "actiontrack/test-probe/scores.parquet"
MANY = RunQuery(experiments=("many",))


def main(argv: Sequence[str]) -> int:
    """Record, read both ways in turns, and print."""
    given = options(__doc__, argv, runs=1000, turns=3)
    with tempfile.TemporaryDirectory() as scratch, server(Path(scratch)) as uri:
        os.environ["MLFLOW_TRACKING_URI"] = uri
        keep(_one_run(uri, Path(scratch) / "spool", given.turns * 3))
        _recorded(
            Store(uri), Path(scratch) / "spool", "many", given.runs, n_steps=1, n_samples=1000
        )
        keep(_many_runs(uri, given.runs, given.turns), *_requests(uri, given.runs))
        with relay(uri, milliseconds=10) as far:
            keep(_many_runs(far.uri, given.runs, given.turns, where=", 10 ms away"))
    return 0


def _one_run(uri: str, spool: Path, turns: int) -> Figure:
    store = Store(uri)
    (run_id,) = _recorded(store, spool, "one", 1, n_steps=20, n_samples=50_000)

    def bare() -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=SCORES, dst_path=folder
            )
            pq.read_table(path, columns=["action"]).to_pandas()

    seconds = in_turns(
        {
            "ours": lambda: Store(uri).open_record(run_id).scores(["action"]),
            "bare": bare,
        },
        turns=turns,
    )
    return Figure(
        name="scores of a run of 50,000 samples",
        against="download and a bare read",
        value=ratios(seconds, "ours", "bare"),
        target="<= 1.2",
        details={name: f"{Spread.of(each)} s" for name, each in seconds.items()},
    )


def _one_after_the_other(uri: str) -> pd.DataFrame:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("many")
    assert experiment is not None
    frames, token = [], None
    while True:
        found = client.search_runs([experiment.experiment_id], page_token=token)
        for run in found:
            with tempfile.TemporaryDirectory() as folder:
                path = client.download_artifacts(run.info.run_id, SCORES, folder)
                frames.append(pd.read_parquet(path))
        token = found.token
        if not token:
            return pd.concat(frames)


def _many_runs(uri: str, n_runs: int, turns: int, where: str = "") -> Figure:
    os.environ["MLFLOW_TRACKING_URI"] = uri
    seconds = in_turns(
        {
            "ours": lambda: load_scores(MANY, tracking_uri=uri),
            "one after the other": lambda: _one_after_the_other(uri),
        },
        turns=turns,
        warm_up=0,
    )
    return Figure(
        name=f"search and load of {n_runs:,} runs{where}: times faster",
        against="a client that asks for one after the other",
        value=ratios(seconds, "one after the other", "ours"),
        target=">= 4",
        details={name: f"{Spread.of(each)} s" for name, each in seconds.items()},
    )


def _requests(uri: str, n_runs: int) -> tuple[Figure, Figure]:
    """How often the server is asked, by run: for their scores, and for a table of them."""
    with _counted() as other:
        _one_after_the_other(uri)
    with _counted() as scores:
        load_scores(MANY, tracking_uri=uri)
    with _counted() as table:
        runs_frame(load_records(MANY, tracking_uri=uri))
    against = f"{len(other) / n_runs:.3g} of a client that asks for one after the other"
    return (
        Figure(
            name=f"requests for the scores of {n_runs:,} runs, by run",
            against=against,
            value=Spread.of([len(scores) / n_runs]),
            unit="",
            target="<= 1.1",
        ),
        Figure(
            name=f"requests for a table of {n_runs:,} runs, all together",
            against="a page of 1,000 runs in each, and two more",
            value=Spread.of([len(table)]),
            unit="",
            target=f"<= {2 + -(-n_runs // 1000)}",
        ),
    )


@contextmanager
def _counted() -> Iterator[list[str]]:
    """The addresses that this process asks for meanwhile."""
    addresses: list[str] = []
    send = requests.Session.send

    def noted(session: requests.Session, request: Any, **options: Any) -> requests.Response:
        addresses.append(str(request.url))
        return send(session, request, **options)

    with mock.patch.object(requests.Session, "send", noted):
        yield addresses


def _recorded(store: Store, spool: Path, experiment: str, n_runs: int, **size: int) -> list[str]:
    mlflow.set_experiment(experiment)
    history = make_history(n_classes=10, **size)
    found = []
    for number in range(n_runs):
        with store.run(name=f"run {number}") as run:
            record_history(history, run.run_id, store, spool, model=f"model {number % 5}")
        found.append(run.run_id)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
