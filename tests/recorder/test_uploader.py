import logging
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import mlflow
import numpy as np
import pytest
from helpers import remote_run, upload_threads, wait_until
from recording import files_below
from uploading import N, assert_whole, timed_epoch, warnings_of

from actiontrack.recorder import Recorder, sync, uploader
from actiontrack.recorder.packer import pack
from actiontrack.recorder.spool import Spool
from actiontrack.store import Store
from actiontrack.store.patience import limited


@pytest.fixture
def away(door, caplog):
    """A recorder of one uploaded epoch on a server that is about to go away."""
    caplog.set_level(logging.WARNING, "actiontrack")
    store = Store(door.uri)
    run_id = remote_run(door)
    with Recorder(store=store, run_id=run_id, patience=1.0) as recorder:
        timed_epoch(recorder, 1)
        assert recorder._writer.uploader.drain(20)
        yield recorder, store, run_id


@pytest.mark.parametrize("how", ["pause", "kill", "shut"])
def test_a_server_that_goes_away_costs_no_time_and_no_epoch(
    away, door, mortal_server, how, caplog, spool
):
    recorder, store, run_id = away
    {"pause": mortal_server.pause, "kill": mortal_server.kill, "shut": door.shut}[how]()
    slowest = max(timed_epoch(recorder, epoch) for epoch in range(2, 8))
    assert slowest < 0.5
    start = time.monotonic()
    assert recorder.finish() is False
    assert time.monotonic() - start < 8
    assert recorder.synced is False
    folder = spool / run_id / "test-probe"
    assert warnings_of(caplog)[-1].startswith("record test-probe is not uploaded: ")
    assert warnings_of(caplog)[-1].endswith(
        f"It is safe in {folder}: upload it with 'actiontrack sync {folder}'."
    )
    {"pause": mortal_server.go_on, "kill": mortal_server.start, "shut": door.open}[how]()
    wait_until(lambda: not upload_threads())
    assert sync(spool, store=store) == [f"{run_id}/test-probe"]
    assert_whole(store, run_id, 7)
    assert list(spool.rglob("*")) == []


def test_the_first_failure_is_told_once_with_the_place_of_the_spool(away, door, caplog):
    recorder, _, run_id = away
    door.shut()
    for epoch in (2, 3, 4):
        timed_epoch(recorder, epoch)
    wait_until(lambda: warnings_of(caplog))
    [text] = warnings_of(caplog)
    assert text == (
        f"cannot upload to run {run_id}, training goes on: the tracking server "
        f"{door.uri} does not answer: [Errno 111] Connection refused. Start it, or "
        "correct --tracking-uri or MLFLOW_TRACKING_URI. Everything is kept in "
        f"{recorder.folder}"
    )


def test_a_server_that_comes_back_during_training_receives_everything(
    away, door, caplog, monkeypatch
):
    monkeypatch.setattr(uploader, "_BACKOFF_S", (0.2,))
    recorder, store, run_id = away
    door.shut()
    for epoch in (2, 3):
        timed_epoch(recorder, epoch)
    wait_until(lambda: warnings_of(caplog))
    door.open()
    timed_epoch(recorder, 4)
    wait_until(lambda: recorder.synced)
    assert recorder.finish() is True
    assert_whole(store, run_id, 4)
    assert warnings_of(caplog)[-1] == f"upload to run {run_id} works again."
    history = mlflow.MlflowClient(tracking_uri=store.tracking_uri).get_metric_history(
        run_id, "test-probe/mean_loss"
    )
    assert [each.step for each in history] == [1, 2, 3, 4]


def test_a_pause_between_attempts_does_not_delay_the_end(away, door, caplog, monkeypatch):
    monkeypatch.setattr(uploader, "_BACKOFF_S", (120.0,))
    recorder, store, run_id = away
    door.shut()
    timed_epoch(recorder, 2)
    wait_until(lambda: warnings_of(caplog))
    door.open()
    start = time.monotonic()
    assert recorder._writer.uploader.drain(20) is True
    assert time.monotonic() - start < 10
    recorder.finish()
    assert_whole(store, run_id, 2)


def test_training_begins_and_ends_while_the_server_is_away(door, caplog, spool):
    caplog.set_level(logging.WARNING, "actiontrack")
    store, run_id = Store(door.uri), remote_run(door)
    door.shut()
    recorder = Recorder(store=store, run_id=run_id, patience=0.5)
    assert warnings_of(caplog)[0].startswith("cannot ask the server for earlier records: ")
    for epoch in (1, 2):
        assert timed_epoch(recorder, epoch) < 0.5
    assert recorder.finish() is False
    door.open()
    sync(spool)
    assert_whole(store, run_id, 2)


def test_a_record_without_an_epoch_is_no_reason_to_wait_for_a_dead_server(door, spool):
    store, run_id = Store(door.uri), remote_run(door)
    door.shut()
    start = time.monotonic()
    assert Recorder(store=store, run_id=run_id).close() is True
    assert time.monotonic() - start < 2


def test_a_resumed_spool_that_never_reached_the_server_is_uploaded_whole(door, spool):
    store, run_id = Store(door.uri), remote_run(door)
    door.shut()
    recorder = Recorder(store=store, run_id=run_id, patience=0.1)
    for epoch in (1, 2):
        timed_epoch(recorder, epoch)
    recorder.close()
    door.open()
    with Recorder(store=store, run_id=run_id, resume=True) as recorder:
        timed_epoch(recorder, 3)
    assert_whole(store, run_id, 3)


def test_requests_of_the_upload_do_not_wait_for_those_of_mlflow_itself():
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES as RETRIES

    before = RETRIES.get()
    with limited(), ThreadPoolExecutor(1) as pool:
        assert RETRIES.get() == 1
        assert pool.submit(RETRIES.get).result() == before  # another thread
    assert RETRIES.get() == before > 1


def test_a_server_that_goes_away_in_an_upload_is_noticed_soon_after_its_return(
    away, door, monkeypatch
):
    recorder, store, run_id = away
    upload, interrupted = uploader.upload_files, threading.Event()

    def interrupt(*arguments):
        if not interrupted.is_set():
            door.shut()
            interrupted.set()
        upload(*arguments)

    monkeypatch.setattr(uploader, "upload_files", interrupt)
    timed_epoch(recorder, 2)
    interrupted.wait(20)
    wait_until(lambda: recorder.error)
    door.open()
    start = time.monotonic()
    wait_until(lambda: recorder.synced)
    assert time.monotonic() - start < 5
    recorder.finish()
    assert_whole(store, run_id, 2)


def test_attempts_are_never_further_apart_than_a_few_seconds():
    assert max(uploader._BACKOFF_S) <= 3


def test_a_finish_that_runs_out_of_patience_says_so(store, run_id, caplog, monkeypatch):
    go_on = threading.Event()
    monkeypatch.setattr(uploader, "upload_files", lambda *_: go_on.wait(20))
    recorder = Recorder(store=store, run_id=run_id, patience=0.2)
    timed_epoch(recorder, 1)
    assert recorder.finish() is False
    go_on.set()
    assert warnings_of(caplog)[-1].startswith(
        "record test-probe is not uploaded: the upload took longer than 0.2 seconds, the patience "
        "of the recorder. It is safe in "
    )


def test_looking_at_a_recorder_does_not_end_its_patience(store, run_id, monkeypatch):
    looked = threading.Event()
    monkeypatch.setattr(uploader, "upload_files", lambda *_: looked.wait(20))
    recorder = Recorder(store=store, run_id=run_id, patience=30.0)
    timed_epoch(recorder, 1)
    with ThreadPoolExecutor(1) as pool:
        drained = pool.submit(recorder._writer.uploader.drain, 30)
        wait_until(lambda: recorder._writer.uploader._changed._waiters)
        for _ in range(20):
            assert recorder.synced is False
            time.sleep(0.01)
        assert not drained.done()
        looked.set()
        assert drained.result(60) is True
    assert recorder.finish() is True


def test_looking_at_a_recorder_leaves_an_attempt_that_is_due_now(away, door, caplog, monkeypatch):
    monkeypatch.setattr(uploader, "_BACKOFF_S", (120.0,))
    recorder, store, run_id = away
    door.shut()
    timed_epoch(recorder, 2)
    wait_until(lambda: warnings_of(caplog))
    door.open()
    thread = recorder._writer.uploader
    with thread._changed:  # as a finish that begins does it, before the thread wakes up
        thread._hurried = True
        assert recorder.synced is False
        thread._changed.notify_all()
    wait_until(lambda: recorder.synced)
    recorder.finish()
    assert_whole(store, run_id, 2)


def test_the_queue_stays_small_however_long_the_server_is_away(away, door):
    recorder, *_ = away
    door.shut()
    for epoch in range(2, 60):
        timed_epoch(recorder, epoch)
    manifest = pack(recorder._writer.spool)
    assert (manifest.n_steps, manifest.n_samples) == (59, N)
    assert len(manifest.blocks) < 32
    assert len(files_below(recorder.folder)) < 64


# ---------------------------------------------------------------- kill -9

TRAIN = f"""
import sys
import time
import numpy as np
from actiontrack.recorder import Recorder
from actiontrack.store import Store

def losses_at(epoch):
    return np.random.default_rng(epoch).gamma(1, 1, {N}).astype(np.float32)

recorder = Recorder(store=Store(sys.argv[1]), run_id=sys.argv[2])
stop = int(sys.argv[3])
for epoch in range(1, 10_000):
    recorder.update(np.arange({N} // 2), losses_at(epoch)[:{N} // 2])
    if epoch == stop:
        print("ready", flush=True)
        time.sleep(60)
    recorder.update(np.arange({N} // 2, {N}), losses_at(epoch)[{N} // 2:])
    recorder.end_epoch()
    print(epoch, flush=True)
"""


@pytest.fixture
def training(start_warm_process, store, run_id):
    """A function that starts training in a process of its own and waits for words from it."""

    def start(words, stop=0):
        process = start_warm_process(TRAIN, store.tracking_uri, run_id, stop)
        wait_until(lambda: words in process.stdout)
        return process

    return start


def test_kill_9_in_an_epoch_leaves_all_epochs_before_it(training, store, run_id, spool):
    process = training("ready\n", stop=4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = Spool.load(spool / run_id / "test-probe")
    assert [step.step for step in found.steps] == [1, 2, 3]
    assert sync(spool) == [f"{run_id}/test-probe"]
    assert_whole(store, run_id, 3, complete=False)
    assert store.open_record(run_id).scores()["action"].notna().all()


def test_kill_9_between_two_epochs_loses_none_that_has_ended(training, store, run_id, spool):
    process = training("300\n")
    process.send_signal(signal.SIGKILL)
    process.wait()
    told = len(process.stdout.split())
    assert sync(spool) == [f"{run_id}/test-probe"]
    n_epochs = store.open_record(run_id).manifest.n_steps
    assert n_epochs in {told, told + 1}
    assert_whole(store, run_id, n_epochs, complete=False)


def test_training_goes_on_after_kill_9_where_it_was_cut_off(training, store, run_id, spool):
    process = training("ready\n", stop=3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with Recorder(store=store, run_id=run_id, resume=True) as recorder:
        assert recorder.last_step == 2
        timed_epoch(recorder, 3)
    assert_whole(store, run_id, 3)
    assert list(spool.rglob("*")) == []


@pytest.mark.long
@pytest.mark.parametrize("seed", range(30))
def test_kill_9_at_a_random_moment_loses_at_most_the_epoch_under_way(
    training, store, run_id, spool, seed
):
    process = training("1\n")
    time.sleep(random.Random(seed).uniform(0, 0.4))
    process.send_signal(signal.SIGKILL)
    process.wait()
    told = len(process.stdout.split())
    assert sync(spool) == [f"{run_id}/test-probe"]
    n_epochs = store.open_record(run_id).manifest.n_steps
    assert n_epochs in {told, told + 1}
    assert_whole(store, run_id, n_epochs, complete=False)


@pytest.mark.long
def test_an_outage_of_a_minute_costs_training_nothing_and_loses_nothing(door):
    store, run_id = Store(door.uri), remote_run(door)
    seconds, done = [], 0
    with Recorder(store=store, run_id=run_id, patience=60.0) as recorder:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            done += 1
            seconds.append(timed_epoch(recorder, done))
            if done == 3:
                assert recorder._writer.uploader.drain(20)
                door.shut()
            time.sleep(0.5)
        door.open()
    assert recorder.synced
    # The epochs of the outage take what those before it took, with room for a busy machine.
    assert np.median(seconds[3:]) < 3 * np.median(seconds[:3]) + 0.05
    assert max(seconds) < 1
    assert_whole(store, run_id, done)
    steps = store._client.get_metric_history(run_id, "test-probe/mean_loss")
    assert sorted(each.step for each in steps) == list(range(1, done + 1))
