import copy
import multiprocessing
import os
import pickle
import threading

import numpy as np
import pytest
import torch
from helpers import message
from recording import LABELS, N, files_below, losses_at, one_epoch

from actiontrack.errors import RecordingError
from actiontrack.recorder import Recorder


def test_a_recorder_that_got_no_epoch_leaves_nothing_and_says_so(
    recorder, store, run_id, spool, caplog
):
    with recorder():
        pass
    assert store.get_run(run_id).records == ()
    assert files_below(spool) == []
    text = (
        f"record test-probe of run {run_id} got no epoch: nothing is recorded. Call update for "
        "every batch and end_epoch after each epoch."
    )
    assert caplog.messages == [text]


# The end


def test_finishing_twice_is_finishing_once(recorder):
    rec = recorder()
    one_epoch(rec, 1)
    assert rec.finish() is True
    assert rec.finish() is True
    assert rec.close() is True


def test_a_block_may_hold_its_own_finish(recorder, read):
    with recorder() as rec:
        one_epoch(rec, 1)
        assert rec.finish()
    assert read().manifest.complete


UNENDED = (
    "record test-probe has 1 batches after its last epoch. "
    "Call end_epoch to keep them or discard_epoch to drop them."
)


def test_an_epoch_that_was_not_ended_is_refused_at_the_finish(recorder):
    rec = recorder()
    one_epoch(rec, 1)
    rec.update(np.arange(N), losses_at(2))
    with pytest.raises(RecordingError, match=message(UNENDED)):
        rec.finish()
    rec.discard_epoch()
    assert rec.finish() is True


def test_an_epoch_that_was_not_ended_in_a_block_leaves_the_others_uploaded(recorder, read):
    with pytest.raises(RecordingError, match=message(UNENDED)), recorder() as rec:  # noqa: PT012
        one_epoch(rec, 1)
        rec.update(np.arange(N), losses_at(2))
    assert read().manifest.n_steps == 1
    assert read().manifest.partial == {"step": 2, "n_seen": N}


@pytest.fixture
def left(recorder):
    """A recorder whose block has been left."""
    with recorder() as rec:
        one_epoch(rec, 1)
    return rec


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("update", ([1], [0.5])),
        ("end_epoch", ()),
        ("finish", ()),
        ("describe_samples", ([1],)),
        ("update_maps", ([1], np.ones((1, 2, 2)))),
    ],
)
def test_a_call_after_the_block_is_refused_in_words(left, spool, call, arguments):
    text = (
        f"{call}: the record test-probe is closed, what comes now would be lost. Call it inside "
        "the with block and before finish or close, or continue the record with "
        "Recorder(..., resume=True)."
    )
    with pytest.raises(RecordingError, match=message(text)):
        getattr(left, call)(*arguments)
    assert files_below(spool) == []


def test_a_record_that_was_closed_cannot_be_finished(recorder, read):
    rec = recorder()
    one_epoch(rec, 1)
    rec.close()
    with pytest.raises(RecordingError, match=r"^finish: the record test-probe is closed"):
        rec.finish()
    assert not read().manifest.complete


def test_a_block_is_not_entered_again(left):
    with pytest.raises(RecordingError, match=r"^with: the record test-probe is closed"):
        left.__enter__()


def test_a_recorder_says_where_it_records(left, run_id, spool):
    assert (left.name, left.run_id, left.closed) == ("test-probe", run_id, True)
    assert left.folder == spool / run_id / "test-probe"
    assert left.error == ""


def test_a_relative_spool_stays_where_it_is(recorder, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    rec = recorder(spool="local")
    one_epoch(rec, 1)
    monkeypatch.chdir(tmp_path / "elsewhere")
    one_epoch(rec, 2)
    assert rec.finish()
    assert read().history().n_steps == 2
    assert files_below(tmp_path / "elsewhere") == []


# A cell that is run again


def test_a_recorder_that_is_open_already_is_refused_with_the_remedy(recorder, run_id):
    recorder()
    text = (
        f"record test-probe of run {run_id} is being recorded already, by another recorder of "
        "this process. If that one is of a notebook cell or a loop that did not come to its end, "
        "pass resume=True: it is closed, and the record goes on after its last epoch. Or call "
        "mlflow.end_run() and start a new run."
    )
    with pytest.raises(RecordingError, match=message(text)):
        recorder()


def test_resume_takes_over_from_an_earlier_recorder_of_the_process(recorder, read, caplog):
    earlier = recorder()
    one_epoch(earlier, 1)
    with recorder(resume=True) as rec:
        one_epoch(rec, 2)
    assert "an earlier recorder of this process is closed" in caplog.text
    assert read().history().n_steps == 2
    with pytest.raises(RecordingError, match=r"^update: the record test-probe is closed"):
        earlier.update([1], [1])


# Threads and processes


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_threads_that_update_at_once_file_every_loss_under_its_id(recorder, read, library):
    n_samples, n_threads, barrier = 2000, 4, threading.Barrier(4)
    rec = recorder()

    def feed(first):
        barrier.wait()
        for start in range(first * 10, n_samples, n_threads * 10):
            ids = np.arange(start, start + 10)
            rec.update(library(ids), library(ids / 7 + 1))

    threads = [threading.Thread(target=feed, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rec.end_epoch()
    rec.finish()
    expected = (np.arange(n_samples) / 7 + 1).astype(np.float32)
    np.testing.assert_array_equal(read().history().losses[0], expected)


@pytest.mark.parametrize("copied", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_recorder_is_not_copied(recorder, copied):
    with pytest.raises(RecordingError, match=r"^the recorder of test-probe can't be pickled or co"):
        copied(recorder())


def test_a_recorder_is_not_sent_to_a_spawned_process(recorder):
    process = multiprocessing.get_context("spawn").Process(target=print, args=(recorder(),))
    with pytest.raises(RecordingError, match=r"nor sent to another process"):
        process.start()


def test_a_forked_process_does_not_record(recorder):
    rec = recorder()
    rec._state.process = os.getppid()  # as it is in a child
    text = (
        f"update: the recorder of test-probe belongs to process {os.getppid()}, and this one was "
        "forked from it. Record in the process that opened it, or pass gather."
    )
    with pytest.raises(RecordingError, match=message(text)):
        rec.update([1], [1])


# A process that does not write


def test_a_process_that_does_not_write_takes_every_call_and_keeps_nothing(spool):
    with Recorder(gather=lambda columns: None) as rec:  # noqa: ARG005 - another process writes
        rec.describe_samples(np.arange(N), labels=LABELS)
        assert one_epoch(rec, 1) is None
        rec.log_features(np.arange(N), np.ones((N, 2)))
        rec.note("weights", "raw")
    assert (rec.synced, rec.last_step, rec.run_id, rec.folder) == (True, None, None, None)
    assert rec.notes == {}
    assert files_below(spool) == []
    with pytest.raises(RecordingError, match=r"^update: the record test-probe is closed"):
        rec.update([1], [1])
