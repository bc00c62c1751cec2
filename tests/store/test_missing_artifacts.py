"""A missing artifact is no failure, though many servers call it one."""

import pytest
from forwarder import ARTIFACTS, missing_is_a_failure
from helpers import message, remote_run

from actiontrack.errors import CorruptRecordError, NotFoundError, StoreError
from actiontrack.store import Store
from actiontrack.store.translation import ForbiddenError, UnauthenticatedError
from actiontrack.testing import make_history, record_history


@pytest.fixture
def old(forwarder):
    """As a server of MLflow 2.22 or 3.10 answers."""
    forwarder.answer = missing_is_a_failure
    return forwarder


@pytest.fixture
def recorded_run(old, server, spool):
    store, run_id = Store(old.uri), remote_run(server)
    record_history(make_history(), run_id, store, spool)
    old.forget()
    return store, run_id


def of_artifacts(forwarder):
    return [(method, path) for method, path in forwarder.asked if path.startswith(ARTIFACTS)]


def fails(how_often, what="samples.parquet"):
    """As of a server that fails for a while when a file is asked for."""
    left = [how_often]

    def answer(request, status, body):
        if request[1].endswith(what) and left[0] > 0:
            left[0] -= 1
            return 500, b"its store is away"
        return status, body

    return answer


def test_a_missing_manifest_is_not_found_after_two_requests(old, server):
    store, run_id = Store(old.uri), remote_run(server)
    run = store.get_run(run_id)
    old.forget()
    text = f"run {run_id} ({run.name}) has no readable record 'test-probe'. Its records: none."
    with pytest.raises(NotFoundError, match=message(text)):
        store.open_record(run, "test-probe")
    asked = of_artifacts(old)
    assert [path.rpartition("/")[2] for _, path in asked] == ["manifest.json", "artifacts"]


def test_a_file_that_is_lost_damages_the_record(old, server, recorded_run):
    store, run_id = recorded_run
    [losses] = server.folder.glob(f"artifacts/*/{run_id}/**/losses/*.parquet")
    losses.unlink()
    with pytest.raises(CorruptRecordError, match=f"{losses.name} is named in the manifest of"):
        store.open_record(run_id).history()


@pytest.mark.parametrize(("lost", "expected"), [("losses/*.parquet", 6), ("manifest.json", 4)])
def test_commands_keep_their_exit_codes(old, server, recorded_run, run_cli, lost, expected):
    _, run_id = recorded_run
    for path in server.folder.glob(f"artifacts/*/{run_id}/**/{lost}"):
        path.unlink()
    words = ["compact", run_id] if expected == 4 else ["curves", "--run", run_id, "--sample", "1"]
    assert run_cli(*words, "--tracking-uri", old.uri)[0] == expected


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_is_there_is_asked_for_again(old, recorded_run, times, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    store, run_id = recorded_run
    old.answer = fails(times)
    assert len(store.open_record(run_id).samples.sample_ids)


def test_a_server_that_goes_on_failing_is_said_to_fail(old, recorded_run, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    store, run_id = recorded_run
    old.answer = fails(100)
    with pytest.raises(StoreError, match=r"the tracking server fails: too many 500 error resp"):
        _ = store.open_record(run_id).samples


def test_a_folder_that_cannot_be_listed_lacks_nothing(old, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    store, run = Store(old.uri), Store(server.uri).get_run(remote_run(server))
    old.answer = lambda request, status, body: (
        (500, b"away") if request[1].startswith(ARTIFACTS) else (status, body)
    )
    with pytest.raises(StoreError, match="the tracking server fails"):
        store.open_record(run, "test-probe")


@pytest.mark.parametrize("status", [401, 403])
def test_a_listing_that_is_refused_is_told_and_nothing_is_repeated(old, recorded_run, status):
    store, run_id = recorded_run
    record = store.open_record(run_id)

    def answer(request, was, body):
        if request[1].endswith("samples.parquet"):
            return 500, b"away"
        return (status, b"no") if request[1] == ARTIFACTS else (was, body)

    old.answer = answer
    old.forget()
    with pytest.raises((ForbiddenError, UnauthenticatedError)):
        _ = record.samples
    assert len(of_artifacts(old)) == 2


def test_a_missing_permission_is_told_after_one_request(old, recorded_run):
    store, run_id = recorded_run
    record = store.open_record(run_id)
    old.answer = lambda request, status, body: (
        (403, b"Permission denied") if request[1].endswith("samples.parquet") else (status, body)
    )
    old.forget()
    with pytest.raises(ForbiddenError, match=r"the tracking server refuses: Permission denied\."):
        _ = record.samples
    assert len(of_artifacts(old)) == 1
