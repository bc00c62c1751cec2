"""Which records measure the same thing, and what is said of the others."""

import re
from dataclasses import replace

import numpy as np
import pytest
from analysis_helpers import N_SAMPLES

from actiontrack import analysis
from actiontrack.errors import NotComparableError, NotFoundError
from actiontrack.history import LossHistory
from actiontrack.record.steps import NO_STEPS
from actiontrack.recorder import Recorder
from actiontrack.testing import make_history


def reasons(left_out):
    return dict(zip(left_out["run_id"], left_out["reason"], strict=True))


def test_the_largest_set_is_compared_and_the_others_say_why_not(record, history):
    kept = [record(history, model="a"), record(history, model="b")]
    shorter = record(replace(make_history(3, N_SAMPLES, 3)), model="a")
    moved = replace(history, labels=(history.labels + 1) % 3)
    inline = replace(moved, mode="inline", loss_name="hinge")
    other, two_reasons = record(moved), record(inline)
    chosen, left_out = analysis.split_comparable([shorter, kept[0], other, kept[1], two_reasons])
    assert [each.run.run_id for each in chosen] == [each.run.run_id for each in kept]
    found = reasons(left_out)
    assert list(found) == [each.run.run_id for each in (shorter, other, two_reasons)]
    assert found[shorter.run.run_id] == "number of steps is 3, not 4"
    assert found[other.run.run_id].startswith("labels of run ")
    assert found[two_reasons.run.run_id].startswith(
        "record is 'test-inline', not 'test-probe'; mode is 'inline', not 'probe'; loss is 'hinge'"
    )


def test_what_was_split_off_is_refused_and_what_was_kept_is_not(record, history):
    moved = replace(history, labels=(history.labels + 1) % 3)
    records = [record(history), record(moved), record(history)]
    with pytest.raises(NotComparableError):
        analysis.align(records)
    chosen, _ = analysis.split_comparable(records)
    assert analysis.align(chosen).values.shape == (2, N_SAMPLES)


def test_other_samples_are_comparable_by_an_inner_join(record, history):
    records = [record(history), record(make_history(4, 2 * N_SAMPLES, 3))]
    chosen, left_out = analysis.split_comparable(records)
    assert (len(chosen), len(left_out)) == (1, 1)
    chosen, left_out = analysis.split_comparable(records, on_mismatch="inner")
    assert (len(chosen), len(left_out)) == (2, 0)


def test_fewer_steps_are_comparable_up_to_a_step_that_all_have(record, history):
    shorter = record(make_history(3, N_SAMPLES, 3))
    records = [record(history), shorter, record(history)]
    assert len(analysis.split_comparable(records, up_to_step=3)[0]) == 3
    chosen, left_out = analysis.split_comparable(records, up_to_step=4)
    assert len(chosen) == 2
    assert reasons(left_out) == {shorter.run.run_id: "no step beyond 3"}


def test_of_sets_of_one_size_the_one_with_more_models_is_taken(record, history):
    moved = replace(history, labels=(history.labels + 1) % 3)
    same = [record(history, model="a"), record(history, model="a")]
    different = [record(moved, model="a"), record(moved, model="b")]
    chosen, _ = analysis.split_comparable([*same, *different])
    assert [each.run.run_id for each in chosen] == [each.run.run_id for each in different]


def test_a_record_without_a_complete_epoch_is_left_out(record, history):
    whole, started = record(history), record(history)
    started.manifest = replace(started.manifest, blocks=(), totals=NO_STEPS)
    chosen, left_out = analysis.split_comparable([started, whole])
    assert [each.run.run_id for each in chosen] == [whole.run.run_id]
    assert reasons(left_out) == {started.run.run_id: "no complete epoch yet"}
    with pytest.raises(NotFoundError, match="none of the 1 records can be scored"):
        analysis.split_comparable([started])


DIFFERENCES = [
    ({"mode": "inline"}, "record is 'test-probe'"),
    ({"split": "train"}, "record is 'test-probe'"),
    ({"loss_name": "focal"}, "loss is 'cross_entropy'"),
    ({"delta_kind": "wall_time"}, "Δn is 'epoch'"),
]


@pytest.mark.parametrize(("change", "reason"), DIFFERENCES)
def test_runs_that_measure_something_else_are_refused(record, history, change, reason):
    records = [record(history), record(replace(history, **change))]
    with pytest.raises(NotComparableError, match=re.escape(reason)):
        analysis.align(records)


def test_runs_of_different_length_are_refused_with_the_remedy(record, history):
    shorter = make_history(n_steps=3, n_samples=N_SAMPLES, n_classes=3)
    records = [record(history), record(shorter)]
    with pytest.raises(NotComparableError, match=re.escape("up_to_step (--up-to)")):
        analysis.align(records)
    assert analysis.align(records, up_to_step=3).values.shape == (2, N_SAMPLES)


def test_runs_that_include_the_untrained_state_are_not_mixed_with_others(record, history):
    with_initial = replace(history, steps=np.arange(4))
    with pytest.raises(NotComparableError, match="the untrained state n = 0"):
        analysis.align([record(history), record(with_initial)])


def relabelled(history, sample):
    labels = history.labels.copy()
    labels[sample] = (labels[sample] + 1) % 3
    return replace(history, labels=labels)


def test_runs_with_another_label_are_refused(record, history):
    with pytest.raises(NotComparableError, match="labels of run"):
        analysis.align([record(history), record(relabelled(history, 5))])


def test_an_inner_join_keeps_samples_with_the_same_label_and_says_how_many(record, history):
    records = [record(history), record(relabelled(history, 5))]
    aligned = analysis.align(records, on_mismatch="inner")
    assert 5 not in aligned.sample_ids
    assert aligned.values.shape == (2, N_SAMPLES - 1)
    assert aligned.note == f"{N_SAMPLES - 1} of up to {N_SAMPLES} samples are shared by all 2 runs"


def part(history, keep):
    return LossHistory(
        losses=history.losses[:, keep],
        sample_ids=history.sample_ids[keep],
        labels=history.labels[keep],
        class_names=history.class_names,
        loss_name=history.loss_name,
    )


def test_an_inner_join_aligns_by_id_and_not_by_position(record, history):
    shared = np.arange(20, N_SAMPLES)
    records = [record(history), record(part(history, shared))]
    aligned = analysis.align(records, on_mismatch="inner")
    np.testing.assert_array_equal(aligned.sample_ids, shared)
    np.testing.assert_array_equal(aligned.values[0], aligned.values[1])


def test_runs_without_a_common_sample_are_refused(record, history):
    records = [record(part(history, np.arange(30))), record(part(history, np.arange(30, 60)))]
    with pytest.raises(NotComparableError, match="no sample in common"):
        analysis.align(records, on_mismatch="inner")


@pytest.mark.parametrize("first", ["with labels", "without labels"])
def test_an_inner_join_with_a_record_without_labels_is_by_the_rest(record, history, first):
    shared = np.arange(20, N_SAMPLES)
    labelled, plain = record(history), record(replace(part(history, shared), labels=None))
    records = [labelled, plain] if first == "with labels" else [plain, labelled]
    aligned = analysis.align(records, on_mismatch="inner")
    np.testing.assert_array_equal(aligned.sample_ids, shared)
    np.testing.assert_array_equal(aligned.values[0], aligned.values[1])
    assert aligned.note == f"40 of up to {N_SAMPLES} samples are shared by all 2 runs"


def test_an_inner_join_with_a_record_without_input_digests_is_by_the_rest(store, new_run):
    def recorded(ids, **options):
        run_id = new_run()
        with Recorder(store=store, run_id=run_id) as recorder:
            recorder.describe_samples(ids, labels=[0] * len(ids), **options)
            recorder.update(ids, np.arange(len(ids), dtype=float))
            recorder.end_epoch()
        return store.open_record(run_id)

    digests = [character * 64 for character in "abc"]
    records = [recorded([1, 2, 3], input_digests=digests), recorded([2, 3, 4])]
    assert analysis.align(records, on_mismatch="inner").sample_ids.tolist() == [2, 3]
