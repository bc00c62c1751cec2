"""Runs of this process: how they begin, nest and end."""

import contextlib
import signal
from concurrent.futures import ThreadPoolExecutor

import mlflow
import pytest
from helpers import wait_until
from store_helpers import status

from actiontrack.store import Store, Terminated
from actiontrack.store.patience import limited


@pytest.mark.parametrize("below", [True, False])
def test_several_runs_at_once_stand_side_by_side(store, experiment, below):
    mlflow.set_experiment(experiment)
    with contextlib.ExitStack() as stack:
        parent = stack.enter_context(store.run(name="parent")) if below else None
        with store.runs(["a", "b", "c"]) as runs:
            assert store.get_run(runs[2].run_id).status == "RUNNING"
    found = [store.get_run(each.run_id) for each in runs]
    assert [each.name for each in found] == ["a", "b", "c"]
    assert [each.status for each in found] == ["FINISHED"] * 3
    assert [each.tags.get("mlflow.parentRunId") for each in found] == [
        parent.run_id if parent else None
    ] * 3


def test_a_server_that_dies_during_a_run_costs_its_status_and_no_more(door, caplog):
    with Store(door.uri).run() as run:
        door.shut()
    [record] = [each for each in caplog.records if each.name == "actiontrack"]
    assert record.getMessage() == (
        f"the status FINISHED of run {run.run_id} is not saved: run {run.run_id}: "
        "the tracking server does not answer: [Errno 111] Connection refused."
    )
    assert mlflow.active_run() is None


def test_a_run_that_ends_well_is_finished(store):
    with store.run(name="good") as run:
        assert store.active_run_id() == run.run_id
        assert status(store, run.run_id) == "RUNNING"
    assert status(store, run.run_id) == "FINISHED"
    assert store.active_run_id() is None
    assert run.name == "good"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ZeroDivisionError, "FAILED"),
        (SystemExit, "FAILED"),
        (KeyboardInterrupt, "KILLED"),
        (Terminated, "KILLED"),
    ],
)
def test_a_run_that_ends_with_an_error_says_how(store, error, expected):
    with pytest.raises(error), store.run() as run:
        raise error
    assert status(store, run.run_id) == expected
    assert store.active_run_id() is None


def test_a_run_that_exists_is_continued(store):
    with store.run() as run:
        pass
    with store.run(run_id=run.run_id) as again:
        assert again.run_id == run.run_id
    assert status(store, run.run_id) == "FINISHED"


def test_the_run_that_mlflow_run_has_started_is_adopted(store, run_id, monkeypatch):
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with store.run() as run:
        assert run.run_id == run_id
    assert status(store, run_id) == "FINISHED"


def test_runs_nest(store, client):
    with store.run() as parent, store.run(nested=True) as child:
        assert store.active_run_id() == child.run_id
    assert client.get_run(child.run_id).data.tags["mlflow.parentRunId"] == parent.run_id
    assert [status(store, each.run_id) for each in (parent, child)] == ["FINISHED"] * 2


def test_the_handler_of_sigterm_is_put_back(store):
    before = signal.getsignal(signal.SIGTERM)
    with store.run():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_of_sigterm_that_python_did_not_install_does_not_end_the_run_with_an_error(
    store, monkeypatch
):
    handler_of_python, set_handler = signal.getsignal(signal.SIGTERM), signal.signal

    def install(number, handler):
        """As of a handler that a library in C has installed: Python does not know the first."""
        before = set_handler(number, handler)
        return None if before is handler_of_python else before

    monkeypatch.setattr(signal, "signal", install)
    try:
        with store.run() as run:
            pass
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        set_handler(signal.SIGTERM, handler_of_python)
    assert status(store, run.run_id) == "FINISHED"


def test_sigterm_is_never_left_to_the_system_between_the_start_and_the_body_of_a_run(
    store, monkeypatch
):
    handlers, set_handler = [], signal.signal

    def install(number, handler):
        handlers.append(handler)
        return set_handler(number, handler)

    monkeypatch.setattr(signal, "signal", install)
    with store.run():
        assert len(handlers) == 1


def test_the_end_of_a_run_leaves_other_threads_their_patience(store, monkeypatch):
    from mlflow import environment_variables as variables

    retries, timeout = (
        variables.MLFLOW_HTTP_REQUEST_MAX_RETRIES,
        variables.MLFLOW_HTTP_REQUEST_TIMEOUT,
    )
    before, seen, end_run = (retries.get(), timeout.get()), [], mlflow.end_run

    def look(status):
        with ThreadPoolExecutor(1) as pool:
            seen.append(pool.submit(lambda: (retries.get(), timeout.get())).result())
        seen.append((retries.get(), timeout.get()))
        end_run(status)

    monkeypatch.setattr(mlflow, "end_run", look)
    with store.run():
        pass
    assert seen == [before, (1, 5)]
    assert (retries.get(), timeout.get()) == before


def test_who_is_less_patient_by_the_environment_stays_so(monkeypatch):
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT as TIMEOUT

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    with limited(timeout_s=5):
        assert TIMEOUT.get() == 2
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")
    with limited(timeout_s=5), limited(timeout_s=6):
        assert TIMEOUT.get() == 5


def test_a_run_works_outside_the_main_thread(store):
    def work():
        with store.run() as run:
            return run.run_id

    with ThreadPoolExecutor(1) as pool:
        assert status(store, pool.submit(work).result()) == "FINISHED"


TRAIN = """
import signal, sys, time
from actiontrack.recorder import Recorder
from actiontrack.store import Store

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run with "&"
store = Store(sys.argv[1])
with store.run(run_id=sys.argv[2]), Recorder(store=store) as recorder:
    recorder.update([1, 2, 3], [0.5, 1.0, 2.0])
    recorder.end_epoch()
    recorder.update([1, 2], [0.5, 1.0])
    print("ready", flush=True)
    time.sleep(20)
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 1), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_marks_the_run_killed_after_what_was_recorded_is_safe(
    start_warm_process, store, run_id, spool, sent, code
):
    process = start_warm_process(TRAIN, store.tracking_uri, run_id)
    wait_until(lambda: process.stdout == "ready\n")
    process.send_signal(sent)
    assert process.wait(60) == code
    assert status(store, run_id) == "KILLED"
    record = store.open_record(run_id)
    assert record.scores()["action"].tolist() == [0.5, 1.0, 2.0]
    assert record.manifest.partial == {"step": 2, "n_seen": 2}
    assert not spool.exists() or list(spool.iterdir()) == []
