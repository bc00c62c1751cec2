import logging
import math

import numpy as np
import pytest
from helpers import message

from actiontrack.errors import ParameterError
from actiontrack.recorder import Recorder
from actiontrack.recorder.loss_check import LossCheck, differs


@pytest.fixture
def recorder(run_id):
    recorder = Recorder("test", run_id=run_id)
    yield recorder
    recorder.close()


def record(recorder, losses=(1.0, 2.0, 4.5)):
    recorder.update(range(len(losses)), np.array(losses))
    return recorder.end_epoch()


def warnings_of(caplog):
    return [each.getMessage() for each in caplog.records if each.name == "actiontrack"]


@pytest.mark.parametrize(
    ("precision", "reported", "expected"),
    [
        ("float32", 2.0 + 1e-4, False),
        ("float32", 2.0 + 1e-3, True),
        ("float64", 2.0 + 1e-4, True),
        ("float64", 2.0 + 1e-5, False),
        ("float16", 2.0 + 5e-3, False),
        ("float16", 2.0 + 5e-2, True),
        ("bfloat16", 2.0 + 5e-2, False),
        ("bfloat16", 2.2, True),
    ],
)
def test_a_difference_counts_beyond_the_rounding_of_the_precision(precision, reported, expected):
    assert differs(2.0, reported, precision) is expected


def test_means_of_float32_and_of_float64_of_the_same_losses_agree():
    losses = np.random.default_rng(0).exponential(1e-3, 100_000)
    assert not differs(losses.mean(), float(losses.astype(np.float32).mean()))
    assert differs(losses.mean(), 1.1 * losses.mean())


@pytest.mark.parametrize(
    ("recorded", "reported", "expected"),
    [(math.nan, 1.0, True), (1.0, math.inf, True), (math.nan, math.inf, False)],
)
def test_a_mean_that_is_not_finite_differs_from_one_that_is(recorded, reported, expected):
    assert differs(recorded, reported) is expected


def test_an_unknown_precision_is_refused():
    text = (
        "precision: must be one of float64, float32, float16, bfloat16, got 'int8'. "
        "Name the type of the losses."
    )
    with pytest.raises(ParameterError, match=message(text)):
        differs(1.0, 1.0, "int8")


def test_a_difference_is_one_warning_with_both_values(recorder, caplog):
    check = LossCheck(recorder, source="model.evaluate", remedy="Look again.")
    with caplog.at_level(logging.WARNING, "actiontrack"):
        for _ in range(2):
            summary = record(recorder)
            assert not check.compare(summary.step, summary.mean_loss, 1.25, summary.n_seen)
    text = (
        "record test-probe, step 1: the mean of the recorded losses is 2.5, model.evaluate reports "
        "1.25 for the same 3 samples. Look again."
    )
    assert warnings_of(caplog) == [text]


def test_a_difference_marks_manifest_and_run(recorder, store, run_id):
    LossCheck(recorder).compare_summary(record(recorder), 1.25)
    recorder.finish()
    mark = (
        "differs at step 1: the mean of the recorded losses is 2.5, the framework reports 1.25 "
        "for the same 3 samples"
    )
    run = store.get_run(run_id)
    assert store.open_record(run, "test-probe").manifest.notes == {"loss_check": mark}
    assert run.tags["actiontrack.test-probe.loss_check"] == mark


def test_agreement_marks_the_record_too(recorder, store, run_id, caplog):
    check = LossCheck(recorder)
    for _ in range(2):
        assert check.compare_summary(record(recorder), 2.5)
    recorder.finish()
    assert store.get_run(run_id).tags["actiontrack.test-probe.loss_check"] == "agrees"
    assert not warnings_of(caplog)


def test_the_first_difference_stays_whatever_follows(recorder):
    check = LossCheck(recorder)
    check.compare_summary(record(recorder), 2.5)
    check.compare_summary(record(recorder), 3.5)
    check.compare_summary(record(recorder), 2.5)
    assert recorder.notes["loss_check"].startswith("differs at step 2: ")


def test_a_resumed_record_keeps_its_mark(run_id, caplog):
    with Recorder("test", run_id=run_id) as recorder:
        LossCheck(recorder).compare_summary(record(recorder), 3.5)
    caplog.clear()
    with Recorder("test", run_id=run_id, resume=True) as recorder:
        check = LossCheck(recorder)
        assert not check.compare_summary(record(recorder), 3.5)
        assert check.compare_summary(record(recorder), 2.5)
        assert recorder.notes["loss_check"].startswith("differs at step 1: ")
    assert not warnings_of(caplog)


def test_losses_that_are_not_finite_are_compared_as_such(recorder):
    check = LossCheck(recorder)
    summary = record(recorder, (1.0, math.nan, 2.0))
    assert check.compare_summary(summary, math.nan)
    assert not check.compare_summary(summary, 1.5)


def test_repeated_samples_are_not_compared(run_id):
    with Recorder("test", run_id=run_id, duplicates="first") as recorder:
        recorder.update([0, 0, 1], np.array([1.0, 1.0, 2.0]))
        assert LossCheck(recorder).compare_summary(recorder.end_epoch(), 4 / 3)
        assert "loss_check" not in recorder.notes


def test_a_process_that_does_not_write_compares_nothing(run_id):
    with Recorder("test", run_id=run_id, gather=lambda _: None) as recorder:
        assert LossCheck(recorder).compare_summary(record(recorder), 9.0)
        assert recorder.notes == {}
