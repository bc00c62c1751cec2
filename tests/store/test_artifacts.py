"""Artifacts on this machine, behind a server, and behind a proxy."""

import os
import uuid
from dataclasses import replace

import mlflow
import pytest
import requests
from helpers import SERVER_PYTHON

from actiontrack.errors import (
    NotFoundError,
    StoreError,
)
from actiontrack.store import RunQuery, Store


def test_a_failing_database_is_an_error_of_ours(tmp_path):
    path = tmp_path / "broken.db"
    path.write_bytes(b"this is no database, whatever its name says" * 100)
    with pytest.raises(
        StoreError, match=r"^tracking store sqlite:.*: the tracking database failed: "
    ):
        Store(f"sqlite:///{path}").find_runs(RunQuery())


@pytest.fixture
def proxied(tracking_uri, tmp_path):
    """The store of a server that keeps artifacts in a folder, and a run that it proxies."""
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    location = f"mlflow-artifacts:/{tmp_path.name}"
    experiment = client.create_experiment(f"proxied {uuid.uuid4()}", artifact_location=location)
    run_id = client.create_run(experiment).info.run_id
    store = Store(tracking_uri, artifacts_destination=str(tmp_path / "kept"))
    return store, store.get_run(run_id)


def test_a_proxied_artifact_is_where_the_server_keeps_it(proxied, tmp_path):
    store, run = proxied
    root = tmp_path / "kept" / tmp_path.name / run.run_id / "artifacts"
    assert store.artifact_root(run) == str(root)
    assert store.local_root(run) == root


def test_a_client_leaves_a_proxied_uri_as_it_is(proxied, tracking_uri):
    _, run = proxied
    store = Store(tracking_uri)
    assert store.artifact_root(run) == run.artifact_uri
    assert store.local_root(run) is None


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "%2e%2e/outside"])
def test_an_artifact_uri_that_leads_out_of_the_server_is_refused(proxied, path):
    store, run = proxied
    with pytest.raises(NotFoundError, match="not below the server's"):
        store.artifact_root(replace(run, artifact_uri=f"mlflow-artifacts:/{path}"))


def test_the_server_writes_lists_and_reads_what_it_proxies(proxied, tmp_path, monkeypatch):
    store, run = proxied
    given = tmp_path / "note.txt"
    given.write_text("text")
    store.upload(run.run_id, given, "actiontrack/notes")
    assert store.list_files(run, "actiontrack/notes") == ["actiontrack/notes/note.txt"]
    monkeypatch.setattr(store, "local_root", lambda _run: None)  # as of an object store
    assert store.list_files(run, "actiontrack/notes") == ["actiontrack/notes/note.txt"]
    assert store.list_files(run, "actiontrack/none") == []
    (tmp_path / "here").mkdir()
    found = store.download(run, "actiontrack/notes/note.txt", tmp_path / "here")
    assert found.read_text() == "text"


def test_an_artifact_is_fetched_by_one_request(server, tmp_path, monkeypatch):
    """MLflow's own download asks for the run, for models of that name and for the kind of path."""
    store = Store(server.uri)
    with store.run(name="one request") as run:
        pass
    (tmp_path / "note.txt").write_text("text")
    store.upload(run.run_id, tmp_path / "note.txt", "actiontrack/notes")
    (tmp_path / "here").mkdir()
    sent = []
    send = requests.Session.send

    def counted(session, request, **options):
        sent.append(request.url)
        return send(session, request, **options)

    store.download(run, "actiontrack/notes/note.txt", tmp_path)  # asks for the server's version
    monkeypatch.setattr(requests.Session, "send", counted)
    found = store.download(run, "actiontrack/notes/note.txt", tmp_path / "here")
    assert found.read_text() == "text"
    if SERVER_PYTHON in os.environ:  # one that can't tell its version is asked for each run
        sent = [url for url in sent if not url.endswith("/server-info")]
    assert len(sent) == 1
    with pytest.raises(NotFoundError, match=r"other\.txt' of run"):
        store.download(run, "actiontrack/notes/other.txt", tmp_path / "here")
