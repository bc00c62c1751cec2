import numpy as np
import pytest
import torch
from helpers import message, steps_of
from recording import LABELS, N, losses_at, one_epoch

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.roster import samples_of


def interrupted(recorder, epochs):
    with pytest.raises(KeyboardInterrupt), recorder() as rec:  # noqa: PT012
        for epoch in epochs:
            one_epoch(rec, epoch)
        raise KeyboardInterrupt


def refused(rec, text, ids, epoch=None, labels=None):
    """The epoch is refused with this message, and what was there before is untouched."""
    before = rec.last_step
    rec.update(ids, np.arange(1, 1 + len(ids)) / 7, labels=labels)
    with pytest.raises(RecordingError, match=message(text)):
        rec.end_epoch(epoch)
    rec.discard_epoch()
    assert rec.last_step == before


def test_declared_samples_may_come_in_any_order(recorder, read):
    order = np.random.default_rng(0).permutation(N)
    with recorder() as rec:
        rec.describe_samples(
            torch.tensor(order),
            labels=torch.tensor(LABELS[order]),
            true_labels=LABELS[order] + 1,
            paths=[f"{each}.png" for each in order],
        )
        one_epoch(rec, 1)
    samples = read().samples
    assert samples.sample_ids.tolist() == list(range(N))
    assert samples.labels.tolist() == LABELS.tolist()
    assert samples.true_labels.tolist() == (LABELS + 1).tolist()
    assert samples.paths == [f"{each}.png" for each in range(N)]


def test_labels_of_the_first_epoch_complete_the_declared_samples(recorder, read):
    with recorder() as rec:
        rec.describe_samples(np.arange(N), paths=[str(each) for each in range(N)])
        one_epoch(rec, 1)
    assert read().samples.labels.tolist() == LABELS.tolist()
    assert read().samples.paths is not None


def test_repeated_ids_are_refused_by_name(recorder):
    refused(
        recorder(),
        "ids: 2 are repeated in epoch 1 of record test-probe: 3, 5. "
        "Visit each sample once per epoch, or pass duplicates='first'.",
        [3, 5, 3, 5, 4],
    )


def test_repeated_ids_keep_the_first_when_asked(recorder, read):
    with recorder(duplicates="first") as rec:
        rec.update([3, 5, 3], [1, 2, 9])
        summary = rec.end_epoch()
    assert summary.n_duplicates == 1
    assert read().history().losses.tolist() == [[1, 2]]
    assert read().manifest.totals.n_duplicates == 1
    assert [step.n_duplicates for step in steps_of(read())] == [1]


def test_declared_samples_that_are_missing_from_the_first_epoch_are_named(recorder):
    rec = recorder()
    rec.describe_samples(np.arange(N))
    refused(
        rec,
        f"ids: 8 of {N} samples are missing from epoch 1 of record test-probe: "
        "0, 1, 2, 3, 4 and 3 more. Visit every sample (drop_last=False), or pass "
        "allow_missing=True.",
        [8, 9, 10],
    )


@pytest.mark.parametrize("declared", [True, False])
def test_unknown_ids_are_refused_by_name(recorder, declared):
    rec = recorder()
    if declared:
        rec.describe_samples(np.arange(N))
    else:
        one_epoch(rec, 1)
    refused(
        rec,
        f"ids: 2 are unknown to this record: 77, 88. It knows {N} samples, declared or seen in the "
        "first epoch. Declare all of them with describe_samples(ids=...), or drop the others.",
        [*range(N), 77, 88],
    )


def test_a_refused_first_epoch_leaves_a_record_that_is_whole_afterwards(recorder, read):
    with recorder() as rec:
        rec.describe_samples(np.arange(N))
        rec.update([*range(N), 77], np.arange(N + 1) / 7)
        with pytest.raises(RecordingError, match=r"^ids: 1 are unknown to this record: 77\."):
            rec.end_epoch()
        rec.discard_epoch()
        one_epoch(rec, 1)
    np.testing.assert_array_equal(read().history().losses, [losses_at(1)])


def test_string_ids_in_a_record_of_integers_are_refused(recorder):
    rec = recorder()
    one_epoch(rec, 1)
    refused(
        rec,
        "ids: epoch 2 brings strings, the record test-probe has integers. "
        "Pass ids of the same type throughout.",
        [str(each) for each in range(N)],
    )


def test_integer_ids_in_a_record_of_strings_are_refused(recorder):
    rec = recorder()
    rec.describe_samples(["1", "2"])
    refused(
        rec,
        "ids: epoch 1 brings integers, the record test-probe has strings. "
        "Pass ids of the same type throughout.",
        [1, 2],
    )


@pytest.mark.parametrize(
    ("ids", "shown"),
    [(np.array([0.0, 1.0]), "[0.0, 1.0]"), (torch.tensor([False, True]), "[False, True]")],
)
def test_ids_that_are_no_names_are_refused(recorder, ids, shown):
    rec = recorder()
    rec.update(ids, [1, 2])
    text = f"ids: must be integers or strings, got {shown}. Give each sample a stable id."
    with pytest.raises(ParameterError, match=message(text)):
        rec.end_epoch()


def test_an_error_about_ids_is_not_hidden_by_the_end_of_the_block(recorder):
    rec = recorder()
    with pytest.raises(ParameterError, match=r"^ids: must be integers or strings"), rec:
        use_float_ids(rec)


def use_float_ids(rec):
    rec.update([0.5, 1.5], [1, 2])
    rec.end_epoch()


@pytest.mark.parametrize("declared", [True, False])
def test_a_label_that_changes_for_an_id_is_refused(recorder, declared):
    rec = recorder()
    if declared:
        rec.describe_samples(np.arange(N), labels=LABELS)
    else:
        one_epoch(rec, 1)
    labels = LABELS.copy()
    labels[[4, 6]] = 2
    refused(
        rec,
        "labels: 2 samples have another label than before, the first is 4: 1 became 2. "
        "Ids must travel with their samples, through shuffling too.",
        np.arange(N),
        labels=labels,
    )


def declared(ids, **columns):
    names = ("labels", "true_labels", "paths", "input_digests")
    return samples_of(np.array(ids), dict.fromkeys(names) | columns)


def test_samples_declared_twice_are_refused():
    text = "ids: 1 are repeated in the samples declared: 3. Give each sample its own id."
    with pytest.raises(RecordingError, match=message(text)):
        declared([3, 4, 3])


@pytest.mark.parametrize("name", ["labels", "true_labels"])
def test_labels_of_another_length_are_refused(name):
    text = f"{name}: must have shape (2,), got (3,). Pass one per id."
    with pytest.raises(ParameterError, match=message(text)):
        declared([3, 4], **{name: [0, 1, 2]})


@pytest.mark.parametrize("labels", [["cat", "dog"], [0.5, 1]])
def test_declared_labels_that_are_no_class_indices_are_refused(labels):
    with pytest.raises(ParameterError, match=r"^labels: must be class indices, got "):
        declared([3, 4], labels=labels)


@pytest.mark.parametrize(
    ("paths", "rule"), [("ab", "be a sequence of texts"), (["a"], "have length 2")]
)
def test_paths_that_are_not_one_per_id_are_refused(paths, rule):
    with pytest.raises(ParameterError, match=f"^paths: must {rule}, got .* Pass one per id"):
        declared([3, 4], paths=paths)


@pytest.mark.parametrize("ids", [np.arange(N + 1), np.arange(N) + 1, [str(x) for x in range(N)]])
def test_resuming_with_other_samples_is_refused(recorder, ids):
    interrupted(recorder, [1])
    rec = recorder(resume=True)
    text = (
        f"ids: the record test-probe has {N} samples, other ones than the {len(ids)} declared now. "
        "Resume with the same data, or start a new run."
    )
    with pytest.raises(RecordingError, match=message(text)):
        rec.describe_samples(ids)


def test_resuming_with_other_labels_is_refused(recorder):
    interrupted(recorder, [1])
    rec = recorder(resume=True)
    text = (
        "labels: the record test-probe was begun with other labels of the same samples. "
        "Resume with the same data, or start a new run."
    )
    with pytest.raises(RecordingError, match=message(text)):
        rec.describe_samples(np.arange(N), labels=LABELS[::-1])


def test_resuming_with_other_inputs_is_refused(recorder):
    with recorder() as rec:
        rec.describe_samples(np.arange(N), input_digests=["a" * 32] * N)
        one_epoch(rec, 1)
    rec = recorder(resume=True)
    text = (
        "inputs: the record test-probe was begun with other inputs of the same samples. "
        "Resume with the same data, or start a new run."
    )
    with pytest.raises(RecordingError, match=message(text)):
        rec.describe_samples(np.arange(N), input_digests=["b" * 32] * N)


def test_resuming_with_the_same_samples_is_accepted(recorder, read):
    interrupted(recorder, [1])
    with recorder(resume=True) as rec:
        rec.describe_samples(np.arange(N)[::-1], labels=LABELS[::-1])
        one_epoch(rec, 2)
    assert read().manifest.n_steps == 2


def test_samples_of_another_epoch_are_refused_after_a_resume(recorder):
    interrupted(recorder, [1])
    rec = recorder(resume=True)
    with pytest.raises(RecordingError, match=r"^labels: 7 samples have another label than before"):
        refused_labels(rec)


def refused_labels(rec):
    rec.update(np.arange(N), losses_at(2), labels=np.zeros(N, int))
    rec.end_epoch()
