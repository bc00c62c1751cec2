"""A record through the team's server: login, PostgreSQL and S3, with nothing lost on the way."""

import uuid

import mlflow
import numpy as np
import pytest
from helpers import free_port

from actiontrack.errors import NotFoundError, StoreError
from actiontrack.recorder import Recorder
from actiontrack.store import Store

pytestmark = pytest.mark.server


def test_a_record_comes_back_bit_by_bit(team_store, team_run, spool):
    losses = np.random.default_rng(0).gamma(1, 1, (3, 50)).astype(np.float32)
    run_id = team_run()
    with Recorder(store=team_store, run_id=run_id, spool=spool) as recorder:
        for row in losses:
            recorder.update(np.arange(50), row)
            recorder.end_epoch()
    np.testing.assert_array_equal(team_store.open_record(run_id).history().losses, losses)


@pytest.fixture
def direct(running, tracking_uri, monkeypatch):
    """A run whose artifacts lie on S3 without a server in between, and its store."""
    endpoint = f"http://127.0.0.1:{running.s3.port}"
    for name, value in {**running.s3.keys, "MLFLOW_S3_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    client, store = mlflow.MlflowClient(tracking_uri), Store(tracking_uri)
    place = f"s3://mlflow/{uuid.uuid4().hex}"
    experiment = client.create_experiment(f"direct {uuid.uuid4().hex[:8]}", artifact_location=place)
    return store, store.get_run(client.create_run(experiment).info.run_id)


def test_artifacts_on_s3_itself_come_back(direct, tmp_path):
    store, run = direct
    (tmp_path / "note.txt").write_text("text")
    store.upload(run.run_id, tmp_path / "note.txt", "actiontrack/notes")
    (tmp_path / "here").mkdir()
    assert store.list_files(run, "actiontrack/notes") == ["actiontrack/notes/note.txt"]
    found = store.download(run, "actiontrack/notes/note.txt", tmp_path / "here")
    assert found.read_text() == "text"


def test_what_s3_itself_lacks_is_not_found(direct, tmp_path):
    store, run = direct
    assert store.list_files(run, "actiontrack/none") == []
    with pytest.raises(NotFoundError, match=r"actiontrack/none\.txt' of run .* not found"):
        store.download(run, "actiontrack/none.txt", tmp_path)


def test_an_s3_that_does_not_answer_is_said(direct, tmp_path, monkeypatch):
    store, run = direct
    monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match="Could not connect to the endpoint"):
        store.download(run, "actiontrack/none.txt", tmp_path)
