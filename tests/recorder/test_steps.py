import math

import numpy as np
import pytest
from helpers import message
from recording import LABELS, N, losses_at, one_epoch

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder import state
from actiontrack.recorder.steps import check_gap, default_delta, positive_weight, recorded_step


def step_of(epoch, last=None, first_epoch=None, left_out=()):
    return recorded_step(epoch, last=last, first_epoch=first_epoch, left_out=left_out)


# Δn


def test_delta_of_an_epoch_is_one(recorder, read):
    with recorder() as rec:
        one_epoch(rec, 1)
        one_epoch(rec, 2, delta=2.5)
    assert read().history().deltas.tolist() == [1.0, 2.5]


def test_delta_in_updates_is_the_number_of_batches_when_inline(recorder, read):
    with recorder("train", mode="inline", delta_kind="batch") as rec:
        for batch in np.array_split(np.arange(N), 4):
            rec.update(batch, losses_at(1, batch))
        rec.end_epoch()
    assert read("train-inline").history().deltas.tolist() == [4.0]


def test_delta_in_updates_must_be_given_to_a_probe():
    text = (
        "delta: must be given with delta_kind='batch' in mode probe, got None. "
        "Pass the number of optimiser updates since the last epoch."
    )
    with pytest.raises(ParameterError, match=message(text)):
        default_delta("batch", "probe", 3, 1.0)


def test_delta_in_wall_time_is_the_seconds_since_the_last_epoch(recorder, read, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(state, "monotonic", lambda: now[0])
    with recorder(delta_kind="wall_time") as rec:
        for seconds in (2.5, 4.0):
            now[0] += seconds
            rec.update(np.arange(N), losses_at(1))
            rec.end_epoch()
    assert read().history().deltas.tolist() == [2.5, 4.0]


@pytest.mark.parametrize("delta", [0, -1, math.nan, math.inf, "x", None])
def test_delta_is_a_positive_number(delta):
    text = f"delta: must be a positive number, got {delta!r}. Pass Δn of this epoch."
    with pytest.raises(ParameterError, match=message(text)):
        positive_weight(delta)


# Numbers


def test_the_first_step_is_1_and_every_other_one_more_than_the_last():
    assert [step_of(None), step_of(None, last=4)] == [(1, 0), (5, 0)]


def test_a_number_that_was_recorded_before_is_taken_again():
    assert step_of(2, last=4) == (2, 0)


def test_epochs_before_a_number_are_missing():
    assert step_of(4, last=1) == (4, 2)
    text = (
        "epoch 4 follows 1: 2 epochs are missing from record test-probe. "
        "Record every epoch, or pass delta to say what the step weighs."
    )
    with pytest.raises(RecordingError, match=message(text)):
        check_gap(2, 4, 1, "test-probe")


def test_epochs_that_were_kept_apart_are_not_missing():
    assert step_of(4, last=1, left_out={2, 3, 9}) == (4, 0)


def test_a_step_after_a_gap_may_say_what_it_weighs(recorder, read):
    with recorder() as rec:
        one_epoch(rec, 1)
        assert one_epoch(rec, 4, delta=3).step == 4
    assert read().history().deltas.tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("epoch", "rule"), [(-1, "0 or more"), (1.5, "an integer"), ("1", "an in")]
)
def test_a_number_that_is_none_is_refused(epoch, rule):
    with pytest.raises(ParameterError, match=f"^epoch: must be {rule}.*, got {epoch!r}\\. "):
        step_of(epoch)


@pytest.mark.parametrize("number", [2, 2.0, np.int64(2)])
def test_whole_numbers_of_any_kind_are_taken(number):
    assert step_of(number) == (2, 0)


@pytest.mark.parametrize("batches", [[], [[]]])
def test_an_empty_epoch_is_refused(recorder, batches):
    rec = recorder()
    for batch in batches:
        rec.update(batch, batch)
    text = "epoch 1 of record test-probe is empty. Call update for every batch first."
    with pytest.raises(RecordingError, match=message(text)):
        rec.end_epoch()
    rec.close()


# Epoch 0


def test_the_untrained_state_is_epoch_zero(recorder, read):
    with recorder(first_epoch=1) as rec:
        assert rec.last_step is None
        one_epoch(rec, 0)
        assert rec.last_step == 0
        one_epoch(rec, None)
    assert read().history().steps.tolist() == [0, 1]
    assert read().manifest.has_initial_state


def test_an_epoch_0_is_told_at_once_with_the_way_back(recorder, caplog):
    rec = recorder()
    one_epoch(rec, 0)
    [text] = caplog.messages
    assert text.startswith("epoch 0 of record test-probe is recorded as the untrained model")
    assert "pass first_epoch=0 to the recorder" in text
    one_epoch(rec, 1)
    assert len(caplog.messages) == 1


def test_a_loop_that_counts_from_0_is_recorded_as_one_that_counts_from_1(recorder, read):
    with recorder(first_epoch=0) as rec:
        steps = [one_epoch(rec, epoch).step for epoch in range(3)]
    assert steps == read().history().steps.tolist() == [1, 2, 3]
    assert not read().manifest.has_initial_state


def test_a_record_that_was_begun_at_0_by_mistake_is_counted_from_1_when_resumed(recorder, read):
    with recorder(first_epoch=1, class_names=("a", "b", "c")) as rec:
        for epoch in (0, 1):
            rec.update(np.arange(N), losses_at(epoch), labels=LABELS, components={"x": LABELS})
            rec.end_epoch(epoch)
    before = read().scores()
    with recorder(resume=True, first_epoch=0):
        pass
    history = read().history()
    assert history.steps.tolist() == [1, 2]
    np.testing.assert_array_equal(history.losses, [losses_at(0), losses_at(1)])
    np.testing.assert_array_equal(history.components["x"], [LABELS, LABELS])
    assert read().manifest.complete
    np.testing.assert_array_equal(read().scores()["action"], before["action"])


def test_a_record_that_was_counted_from_1_goes_on_as_the_loop_counts(recorder, read):
    with recorder(first_epoch=1) as rec:
        one_epoch(rec, 0)
    with recorder(resume=True, first_epoch=0) as rec:
        assert one_epoch(rec, 1).step == 2
    np.testing.assert_array_equal(read().history().losses, [losses_at(0), losses_at(1)])


def test_samples_that_were_missing_stay_so_when_a_record_is_counted_from_1(recorder, read):
    with recorder(first_epoch=1, allow_missing=True) as rec:
        one_epoch(rec, 0)
        rec.update([3, 4], losses_at(1, [3, 4]), labels=LABELS[[3, 4]])
        rec.end_epoch(1)
    with recorder(resume=True, first_epoch=0, allow_missing=True):
        pass
    assert np.flatnonzero(read().history().seen[1]).tolist() == [3, 4]
