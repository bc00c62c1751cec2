"""Two processes on one record, from machines of their own: a spool each, and one run."""

import logging
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers import message, remote_run, wait_until

from actiontrack.errors import RecordingError, StoreError
from actiontrack.recorder import Recorder, sync
from actiontrack.recorder.spool import Spool
from actiontrack.store import Store

N = 20


def losses_of(who, epoch):
    return np.random.default_rng([who, epoch]).gamma(1, 1, N).astype(np.float32)


def record(recorder, who, epoch):
    recorder.update(np.arange(N), losses_of(who, epoch))
    recorder.end_epoch(epoch)


def held(store, run_id):
    return store.open_record(run_id).history().losses


def writer(store, run_id):
    return store.get_run(run_id).writer("test-probe")


def cut_off(machine, epochs):
    """A recorder whose first epoch is in the run, and the others on its machine alone."""
    recorder = machine("one", patience=0.1)
    record(recorder, 1, 1)
    wait_until(lambda: recorder.synced)
    recorder._writer.uploader.close(0)
    for epoch in range(2, epochs + 1):
        record(recorder, 1, epoch)
    return recorder


@pytest.fixture
def machine(store, run_id, tmp_path):
    """A function that opens a recorder as another machine would; all are closed at the end."""
    opened = []

    def open_recorder(name, **options):
        options = {"store": store, "run_id": run_id, "patience": 60.0} | options
        opened.append(Recorder(spool=tmp_path / name, **options))
        return opened[-1]

    yield open_recorder
    for each in opened:
        each.close()


def test_the_run_names_the_process_that_records_it(store, run_id, machine):
    machine("one")
    assert re.fullmatch(
        r"process \d+ on \S+ since 2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 \([0-9a-f]{8}\)",
        writer(store, run_id),
    )


def test_a_second_process_is_refused_and_the_first_one_loses_nothing(store, run_id, machine):
    first = machine("one")
    text = (
        f"run {run_id}: its record test-probe is written by another process: "
        f"{writer(store, run_id)}. Record into a run of your own, or continue that record with "
        "resume=True once the process has ended."
    )
    with pytest.raises(RecordingError, match=message(text)):
        machine("two")
    for epoch in (1, 2):
        record(first, 1, epoch)
    assert first.finish() is True
    np.testing.assert_array_equal(held(store, run_id), [losses_of(1, 1), losses_of(1, 2)])


def test_of_many_that_begin_at_once_at_most_one_is_let_in(store, run_id, machine):
    def begin(number):
        try:
            return machine(f"number {number}")
        except RecordingError:
            return None

    with ThreadPoolExecutor(6) as pool:
        opened = [each for each in pool.map(begin, range(6)) if each is not None]
    assert len(opened) <= 1
    tags = [each for each in store.get_run(run_id).tags if each.startswith("actiontrack.writer.")]
    assert len(tags) == len(opened)


def test_other_records_of_the_run_are_free(store, run_id, machine):
    record(machine("one"), 1, 1)
    record(machine("two", split="train"), 2, 1)


def test_a_process_that_recorded_nothing_lets_go(store, run_id, machine):
    machine("one").close()
    assert writer(store, run_id) == ""
    record(machine("two"), 2, 1)


def test_a_recorder_that_could_not_open_lets_go(store, run_id, machine, tmp_path):
    folder = tmp_path / "one" / run_id
    folder.mkdir(parents=True)
    (folder / "test-probe").write_text("no folder")
    with pytest.raises(StoreError, match=r"^cannot write the spool "):
        machine("one")
    assert writer(store, run_id) == ""


def test_resume_takes_over_and_the_process_before_is_told(store, run_id, machine, tmp_path):
    first = machine("one")
    record(first, 1, 1)
    wait_until(lambda: first.synced)
    second = machine("two", resume=True)
    record(first, 1, 2)
    wait_until(lambda: first._writer.uploader.refused)
    folder = tmp_path / "one" / run_id / "test-probe"
    text = (
        f"run {run_id}: its record test-probe is written by another process: "
        f"{writer(store, run_id)}. Record into a run of your own, or continue that record with "
        f"resume=True once the process has ended. The epochs of this one are in {folder}."
    )
    with pytest.raises(RecordingError, match=message(text)):
        record(first, 1, 3)
    for epoch in (2, 3):
        record(second, 2, epoch)
    assert second.finish() is True
    expected = [losses_of(1, 1), losses_of(2, 2), losses_of(2, 3)]
    np.testing.assert_array_equal(held(store, run_id), expected)
    assert first.finish() is False
    assert [step.step for step in Spool.load(folder).steps] == [1, 2, 3]


def test_the_end_does_not_wait_for_a_record_that_was_taken_over(machine, caplog):
    caplog.set_level(logging.WARNING, "actiontrack")
    first = machine("one", patience=600.0)
    record(first, 1, 1)
    wait_until(lambda: first.synced)
    machine("two", resume=True)
    record(first, 1, 2)
    assert first.finish() is False
    assert "is written by another process" in caplog.records[-1].getMessage()


def test_what_was_left_behind_does_not_replace_what_another_process_recorded(
    store, run_id, machine, tmp_path
):
    first = cut_off(machine, epochs=5)  # of a greater revision than that of the run
    second = machine("two", resume=True)
    record(second, 2, 2)
    assert second.finish() is True
    first.close()
    with pytest.raises(
        StoreError,
        match=rf"^run {run_id}: its record test-probe is written by another process, process \d+ ",
    ):
        sync(tmp_path / "one", store=store)
    with pytest.raises(
        RecordingError,
        match=rf"^run {run_id} and \S+/one/{run_id}/test-probe hold record test-probe with other ",
    ):
        machine("one", resume=True)
    np.testing.assert_array_equal(held(store, run_id), [losses_of(1, 1), losses_of(2, 2)])


def test_a_spool_that_holds_all_of_the_run_is_continued_after_a_process_that_added_nothing(
    store, run_id, machine
):
    cut_off(machine, epochs=2).close()
    machine("two", resume=True).close()
    again = machine("one", resume=True)
    assert again.last_step == 2
    record(again, 1, 3)
    assert again.finish() is True
    expected = [losses_of(1, epoch) for epoch in (1, 2, 3)]
    np.testing.assert_array_equal(held(store, run_id), expected)


def test_of_two_that_began_while_the_server_was_away_the_first_to_arrive_is_kept(
    door, machine, tmp_path
):
    run_id, store = remote_run(door), Store(door.uri)
    door.shut()
    options = {"store": store, "run_id": run_id}
    one, two = machine("one", **options), machine("two", **options)
    record(one, 1, 1)
    record(two, 2, 1)
    door.open()
    arrived = [each._writer.uploader.drain(60) for each in (one, two)]
    assert sorted(arrived) == [False, True]
    kept, other, who = (one, two, 1) if arrived[0] else (two, one, 2)
    with pytest.raises(RecordingError, match="is written by another process"):
        record(other, 3 - who, 2)
    record(kept, who, 2)
    assert kept.finish() is True
    np.testing.assert_array_equal(held(store, run_id), [losses_of(who, 1), losses_of(who, 2)])
