import logging
import math
import re
import shutil
import subprocess
import time
import warnings
from dataclasses import fields, replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import special

from actiontrack.errors import CorruptRecordError, ParameterError, RecordingError, StoreError
from actiontrack.record import digest
from actiontrack.record.manifest import Manifest, read_manifest, write_manifest
from actiontrack.record.paths import block_path
from actiontrack.recorder import Recorder
from actiontrack.scores import score_table
from actiontrack.testing import make_history, record_history

SOME = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
N = 11
LABELS = np.arange(N) % 3


@pytest.fixture
def recorder(store, run_id):
    """A function that opens a recorder of the test's run; all of them are closed at the end."""
    opened = []

    def open_recorder(split="test", **options):
        opened.append(Recorder(split, **{"store": store, "run_id": run_id} | options))
        return opened[-1]

    yield open_recorder
    for each in opened:
        each.close()


@pytest.fixture
def read(store, run_id):
    return lambda name="test-probe": store.open_record(run_id, name)


def losses_at(epoch, ids=None):
    """A loss for each sample and epoch, all of them different."""
    grid = np.random.default_rng(epoch).gamma(1, 1, N).astype(np.float32)
    return grid if ids is None else grid[ids]


def one_epoch(recorder, epoch, **options):
    recorder.update(np.arange(N), losses_at(epoch), labels=LABELS)
    return recorder.end_epoch(epoch, **options)


def files(store, run_id, name="test-probe"):
    """Content of every file of a record, manifest excepted."""
    record = store.open_record(run_id, name)
    return {each: record.fetch(each).read_bytes() for each in record.manifest.files}


def scratch_spools(spool):
    return [each for each in spool.rglob("*") if each.is_file()] if spool.exists() else []


# ---------------------------------------------------------------- what is recorded


def test_three_lines_record_into_the_active_run(store, read, run_id):
    with mlflow.start_run(run_id=run_id), Recorder(class_names=["a", "b", "c"]) as recorder:
        recorder.update(np.arange(N), losses_at(1), labels=LABELS)
        recorder.end_epoch()
    record = read()
    assert record.manifest.complete
    np.testing.assert_array_equal(record.history().losses, [losses_at(1)])
    assert store.get_run(run_id).records == ("test-probe",)


def test_logits_give_the_loss_and_every_measure(recorder, read):
    logits = np.random.default_rng(0).normal(size=(N, 3)).astype(np.float32)
    with recorder() as rec:
        rec.update(np.arange(N), logits=logits, labels=LABELS)
        rec.end_epoch()
    history, p = read().history(), special.softmax(logits.astype(np.float64), axis=1)
    np.testing.assert_allclose(history.losses[0], -np.log(p[np.arange(N), LABELS]), rtol=1e-5)
    assert history.loss_name == "cross_entropy"
    np.testing.assert_array_equal(history.measures["predicted"][0], p.argmax(axis=1))
    np.testing.assert_array_equal(history.measures["correct"][0], p.argmax(axis=1) == LABELS)


def test_given_losses_win_over_those_of_the_logits(recorder, read):
    with recorder() as rec:
        rec.update(np.arange(N), losses_at(1), logits=np.eye(N, 3), labels=LABELS)
        rec.end_epoch()
    np.testing.assert_array_equal(read().history().losses[0], losses_at(1))
    assert read().manifest.loss_name == "loss"
    assert "margin" in read().manifest.measures


def test_components_get_an_action_of_their_own(recorder, read):
    with recorder() as rec:
        for epoch in (1, 2):
            parts = {"box": losses_at(10 + epoch), "classes": losses_at(20 + epoch)}
            rec.update(np.arange(N), losses_at(epoch), components=parts)
            rec.end_epoch()
    expected = losses_at(11).astype(float) + losses_at(12)
    np.testing.assert_allclose(read().scores()["action_box"], expected, rtol=1e-12)
    assert read().manifest.components == ("box", "classes")


def test_scores_are_those_of_the_history(recorder, read):
    with recorder() as rec:
        for epoch in range(1, 4):
            one_epoch(rec, epoch)
    expected = pd.DataFrame([losses_at(each) for each in (1, 2, 3)], dtype=float)
    np.testing.assert_allclose(read().scores()["action"], expected.sum(), rtol=1e-12)


def test_the_untrained_state_is_epoch_zero(recorder, read):
    with recorder() as rec:
        assert rec.last_step is None
        one_epoch(rec, 0)
        assert rec.last_step == 0
        one_epoch(rec, None)
    assert read().history().steps.tolist() == [0, 1]
    assert read().manifest.has_initial_state


def test_the_manifest_holds_our_digests(recorder, read):
    inputs = [digest.digest_input(np.full(3, each)) for each in range(N)]
    with recorder(class_names=("a", "b", "c")) as rec:
        rec.describe_samples(np.arange(N), labels=LABELS, input_digests=inputs)
        one_epoch(rec, 1)
    assert read().manifest.digests == {
        "ids": digest.digest_ids(np.arange(N)),
        "labels": digest.digest_labels(LABELS, ("a", "b", "c")),
        "inputs": digest.digest_inputs(inputs),
    }


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


def test_features_and_thumbnails_are_kept_in_canonical_order(recorder, read):
    order = np.random.default_rng(0).permutation(N)
    features = np.arange(2 * N, dtype=np.float32).reshape(N, 2)
    with recorder() as rec:
        one_epoch(rec, 1)
        rec.log_features(order, features[order])
        rec.log_thumbnails(order, [bytes([each]) for each in order])
    np.testing.assert_array_equal(read().features(), features)
    assert read().image_bytes(7) == b"\x07"


def test_probabilities_are_kept_in_canonical_order(recorder, read):
    order = np.random.default_rng(0).permutation(N)
    probabilities = np.random.default_rng(1).dirichlet([1, 1, 1], size=N).astype(np.float32)
    with recorder() as rec:
        one_epoch(rec, 1)
        rec.log_probabilities(order, probabilities[order])
    assert read().has_probabilities
    np.testing.assert_array_equal(read().probabilities(), probabilities)


def test_probabilities_go_with_the_scores_when_training_goes_on(recorder, read):
    with recorder() as rec:
        one_epoch(rec, 1)
        rec.log_probabilities(np.arange(N), np.full((N, 4), 0.25))
    with recorder(resume=True) as rec:
        one_epoch(rec, 2)
    assert read().manifest.n_steps == 2
    assert not read().has_probabilities


def test_probabilities_over_other_than_the_classes_are_refused(recorder):
    rec = recorder(class_names=("a", "b", "c"))
    one_epoch(rec, 1)
    text = (
        f"probabilities: must have shape ({N}, 3), got ({N}, 2). "
        "Pass one distribution over all classes per id."
    )
    with pytest.raises(ParameterError, match=message(text)):
        rec.log_probabilities(np.arange(N), np.full((N, 2), 0.5))


def test_the_summary_and_the_metrics_are_aggregates(recorder, tracking_uri, run_id):
    with recorder() as rec:
        rec.update(np.arange(N), logits=np.eye(3)[LABELS] * [1, 2, 3], labels=LABELS)
        summary = rec.end_epoch(metrics={"lr": 0.5})
    assert (summary.step, summary.n_seen, summary.n_missing, summary.accuracy) == (1, N, 0, 1.0)
    metrics = mlflow.MlflowClient(tracking_uri=tracking_uri).get_run(run_id).data.metrics
    assert metrics == {
        "lr": 0.5,
        "test-probe/mean_loss": pytest.approx(summary.mean_loss),
        "test-probe/nonfinite_losses": 0.0,
        "test-probe/accuracy": 1.0,
    }


def test_two_records_of_one_run_stand_side_by_side(recorder, store, run_id):
    with recorder("test") as test, recorder("train", mode="inline") as train:
        one_epoch(test, 1)
        one_epoch(train, 1)
    assert store.get_run(run_id).records == ("test-probe", "train-inline")


def test_the_spool_is_gone_when_all_is_uploaded(recorder, spool):
    with recorder() as rec:
        one_epoch(rec, 1)
    assert rec.synced is True
    assert scratch_spools(spool) == []


def test_a_recorder_without_an_epoch_leaves_nothing(recorder, store, run_id, spool):
    with recorder():
        pass
    assert store.get_run(run_id).records == ()
    assert scratch_spools(spool) == []


def test_finishing_twice_is_finishing_once(recorder):
    rec = recorder()
    one_epoch(rec, 1)
    assert rec.finish() is True
    assert rec.finish() is True
    assert rec.close() is True


def test_a_history_recorded_again_is_the_same_history(store, new_run, spool):
    history = make_history(n_steps=3, n_samples=20, split="train", mode="inline")
    run_id = new_run()
    assert record_history(history, run_id, store, spool, model="softmax") is True
    found = store.open_record(run_id)
    pd.testing.assert_frame_equal(found.scores(), score_table(history), check_dtype=False)
    np.testing.assert_array_equal(found.history().losses, history.losses)
    assert (found.run.model, found.name) == ("softmax", "train-inline")


# ---------------------------------------------------------------- Δn


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


def test_delta_in_updates_must_be_given_to_a_probe(recorder):
    rec = recorder(delta_kind="batch")
    text = (
        "delta: must be given with delta_kind='batch' in mode probe, got None. "
        "Pass the number of optimiser updates since the last epoch."
    )
    rec.update(np.arange(N), losses_at(1))
    with pytest.raises(ParameterError, match=message(text)):
        rec.end_epoch()
    assert rec.end_epoch(delta=7).n_seen == N


def test_delta_in_wall_time_is_the_seconds_since_the_last_epoch(recorder, read):
    with recorder(delta_kind="wall_time") as rec:
        for epoch in (1, 2):
            time.sleep(0.05)
            one_epoch(rec, epoch)
    deltas = read().history().deltas
    assert (deltas >= 0.05).all()
    assert (deltas < 2).all()


@pytest.mark.parametrize("delta", [0, -1, math.nan, math.inf])
def test_delta_is_a_positive_number(recorder, delta):
    rec = recorder()
    text = f"delta: must be a positive number, got {delta!r}. Pass Δn of this epoch."
    with pytest.raises(ParameterError, match=message(text)):
        one_epoch(rec, 1, delta=delta)


# ---------------------------------------------------------------- properties

LOGITS = np.random.default_rng(5).normal(size=(2, N, 3)).astype(np.float32)


@SOME
@given(
    order=st.permutations(range(N)),
    cuts=st.lists(st.integers(0, N), max_size=N),
    names=st.sampled_from([np.arange(N), np.array([f"é{each:02d}" for each in range(N)])]),
)
def test_any_partition_and_any_order_of_an_epoch_give_identical_files(
    order, cuts, names, store, new_run
):
    found = []
    for batches in (
        [list(range(N))],
        np.split(np.array(order), sorted(cuts)),
        np.split(np.array(order), N),
    ):
        run_id = new_run()
        with Recorder(store=store, run_id=run_id) as rec:
            for logits in LOGITS:
                for batch in batches:
                    rows = np.array(batch, int)
                    rec.update(names[rows], logits=logits[rows], labels=LABELS[rows])
                rec.end_epoch()
        found.append(files(store, run_id))
    assert found[0] == found[1] == found[2]


@SOME
@given(loss=st.floats(0.125, 64, width=16), n_steps=st.integers(1, 5))
def test_a_constant_loss_over_n_epochs_has_n_times_that_action(loss, n_steps, store, new_run):
    run_id = new_run()
    with Recorder(store=store, run_id=run_id, allow_uniform=True) as rec:
        for _ in range(n_steps):
            rec.update(np.arange(N), np.full(N, loss, np.float32))
            rec.end_epoch()
    scores = store.open_record(run_id).scores()
    assert scores["action"].tolist() == [n_steps * loss] * N


@SOME
@given(cut=st.integers(1, 3))
def test_action_is_the_sum_of_the_actions_of_two_records_of_its_epochs(cut, store, new_run):
    actions = []
    for epochs in (range(1, 5), range(1, cut + 1), range(cut + 1, 5)):
        run_id = new_run()
        with Recorder(store=store, run_id=run_id) as rec:
            for epoch in epochs:
                one_epoch(rec, epoch, delta=1)
        actions.append(store.open_record(run_id).scores()["action"])
    np.testing.assert_allclose(actions[0], actions[1] + actions[2], rtol=1e-12)


# ---------------------------------------------------------------- what comes in


def test_inputs_that_change_after_update_do_not_change_the_record(recorder, read):
    ids, losses, labels = list(range(N)), losses_at(1).copy(), LABELS.copy()
    box = losses_at(2).copy()
    with recorder() as rec:
        rec.update(ids, losses, labels=labels, components={"box": box})
        ids[:], losses[:], labels[:], box[:] = [99] * N, 0, 0, 0
        rec.end_epoch()
    history = read().history()
    assert history.sample_ids.tolist() == list(range(N))
    np.testing.assert_array_equal(history.losses[0], losses_at(1))
    np.testing.assert_array_equal(history.labels, LABELS)
    np.testing.assert_array_equal(history.components["box"][0], losses_at(2))


def test_tensors_that_change_after_update_do_not_change_the_record(recorder, read):
    ids, losses, labels = torch.arange(N), torch.tensor(losses_at(1)), torch.tensor(LABELS)
    logits = torch.tensor(LOGITS[0])
    with recorder() as rec, recorder("other") as other:
        rec.update(ids, losses, labels=labels)
        other.update(ids, logits=logits, labels=labels)
        for each in (ids, losses, labels, logits):
            each.zero_()
        rec.end_epoch()
        other.end_epoch()
    np.testing.assert_array_equal(read().history().losses[0], losses_at(1))
    np.testing.assert_array_equal(read().history().labels, LABELS)
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(LOGITS[0]), torch.tensor(LABELS), reduction="none"
    )
    np.testing.assert_allclose(read("other-probe").history().losses[0], expected, rtol=1e-5)


def test_a_loss_with_its_graph_attached_is_recorded_and_can_still_be_backpropagated(recorder, read):
    weight = torch.ones((), requires_grad=True)
    losses = weight * torch.tensor(losses_at(1))
    with recorder("train", mode="inline") as rec:
        rec.update(torch.arange(N), losses)
        losses.mean().backward()
        rec.end_epoch()
    assert weight.grad == pytest.approx(losses_at(1).mean())
    np.testing.assert_array_equal(read("train-inline").history().losses[0], losses_at(1))


def test_logits_with_their_graph_attached_are_recorded(recorder, read):
    model = torch.nn.Linear(4, 3)
    logits = model(torch.randn(N, 4))
    with recorder() as rec:
        rec.update(torch.arange(N), logits=logits, labels=torch.tensor(LABELS))
        rec.end_epoch()
    assert logits.requires_grad
    assert read().manifest.n_steps == 1


def test_bfloat16_losses_are_recorded_exactly(recorder, read):
    losses = torch.tensor(losses_at(1), dtype=torch.bfloat16)
    with recorder() as rec:
        rec.update(torch.arange(N), losses)
        rec.end_epoch()
    np.testing.assert_array_equal(read().history().losses[0], losses.float().numpy())


def test_string_ids_in_unicode_are_kept_in_code_point_order(recorder, read):
    ids = ["z", "é", "猫", "a b", "A", "10", "9", "🦊", "", "ß", "ä"]
    with recorder() as rec:
        rec.update(ids, losses_at(1))
        rec.end_epoch()
    assert read().history().sample_ids.tolist() == sorted(ids)
    assert read().manifest.id_type == "string"
    at = dict(zip(ids, losses_at(1).tolist(), strict=True))
    assert read().history().losses[0].tolist() == [at[each] for each in sorted(ids)]


# ---------------------------------------------------------------- refused


def test_a_reduced_loss_is_refused_with_the_remedy(recorder):
    text = (
        "losses: must have one value per sample, got a single number. "
        "The criterion reduces the batch: construct it with reduction='none'."
    )
    for scalar in (torch.tensor(0.5), 0.5, np.float32(0.5)):
        with pytest.raises(RecordingError, match=message(text)):
            recorder_update(recorder, scalar)


def recorder_update(recorder, losses, ids=(1, 2, 3, 4), **options):
    rec = recorder(resume=True)
    try:
        rec.update(ids, losses, **options)
    finally:
        rec.close()


@pytest.mark.parametrize("shape", [(4, 1), (1,), (3,), (4, 8, 8), (1, 4)])
def test_losses_that_are_not_one_per_id_are_refused(recorder, shape):
    text = (
        f"losses: must have shape (4,), one value per id, got {shape}. "
        "Average over the other dimensions first, or pass parts of the loss as components."
    )
    with pytest.raises(RecordingError, match=message(text)):
        recorder_update(recorder, np.ones(shape))


@pytest.mark.parametrize("shape", [(4, 1), (3,), (4, 3)])
def test_labels_that_are_not_one_per_id_are_refused(recorder, shape):
    text = f"label: must have shape (4,), one value per id, got {shape}."
    with pytest.raises(RecordingError, match=message(text)):
        recorder_update(recorder, np.ones(4), labels=np.ones(shape, int))


def test_a_component_that_is_not_one_per_id_is_refused(recorder):
    text = "box: must have shape (4,), one value per id, got (4, 4)."
    with pytest.raises(RecordingError, match=message(text)):
        recorder_update(recorder, np.ones(4), components={"box": np.ones((4, 4))})


@pytest.mark.parametrize("name", ["loss", "margin", "label", "sample", "step", "batch", "ids"])
def test_a_component_may_not_take_a_name_of_the_record(recorder, name):
    text = f"components: must not take a name of the record itself, got {name!r}. Rename it."
    with pytest.raises(ParameterError, match=message(text)):
        recorder_update(recorder, np.ones(4), components={name: np.ones(4)})


def test_neither_losses_nor_logits_is_refused(recorder):
    text = "losses: must be given, or logits with labels, got None. Pass one of the two."
    with pytest.raises(ParameterError, match=message(text)):
        recorder_update(recorder, None, labels=np.ones(4, int))


def test_logits_without_labels_are_refused(recorder):
    text = "labels: must be given with logits, got None. Pass labels."
    with pytest.raises(ParameterError, match=message(text)):
        recorder_update(recorder, None, logits=np.ones((4, 2)))


def test_a_forgotten_reduction_is_refused_at_the_end_of_the_epoch(recorder):
    rec = recorder()
    rec.update(np.arange(N), torch.full((N,), 0.25))
    text = (
        f"losses: all {N} losses of batch 1 are 0.25. The criterion reduces the batch: construct "
        "it with reduction='none'. If the losses are right, pass allow_uniform=True."
    )
    with pytest.raises(RecordingError, match=message(text)):
        rec.end_epoch()


def test_equal_losses_from_logits_are_no_forgotten_reduction(recorder, read):
    with recorder() as rec:
        rec.update(np.arange(N), logits=np.zeros((N, 3)), labels=LABELS)
        rec.end_epoch()
    assert read().history().losses[0] == pytest.approx(np.log(3))


def refused(rec, text, ids, epoch=None, labels=None):
    """The epoch is refused with this message, and what was there before is untouched."""
    before = rec.last_step
    rec.update(ids, np.arange(1, 1 + len(ids)) / 7, labels=labels)
    with pytest.raises(RecordingError, match=message(text)):
        rec.end_epoch(epoch)
    rec.discard_epoch()
    assert rec.last_step == before


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
    assert read().manifest.steps[0].n_duplicates == 1


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


def test_labels_that_are_no_class_indices_are_refused(recorder):
    text = (
        "labels: must be class indices, got float64. "
        "Pass the losses alone if the targets are not classes."
    )
    refused(recorder(), text, np.arange(N), labels=LABELS / 2)


@pytest.mark.parametrize("label", [-100, 3])
def test_a_label_that_is_no_class_of_the_logits_is_refused(recorder, label):
    rec = recorder()
    labels = LABELS.copy()
    labels[5] = label
    rec.update(np.arange(N), logits=LOGITS[0], labels=labels)
    text = (
        f"labels: 1 samples have a label outside 0 to 2, the first is 5: {label}. "
        "Leave out what the loss ignores."
    )
    with pytest.raises(RecordingError, match=message(text)):
        rec.end_epoch()


def test_no_active_run_is_refused(store):
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        Recorder(store=store)


def test_a_record_that_is_there_already_is_refused_without_resume(recorder, run_id):
    with recorder() as rec:
        one_epoch(rec, 1)
    text = (
        f"run {run_id} holds a record test-probe with 1 epochs already. "
        "Pass resume=True to continue it, or start a new run."
    )
    with pytest.raises(RecordingError, match=message(text)):
        recorder()


def test_an_epoch_after_a_gap_is_refused(recorder):
    rec = recorder()
    one_epoch(rec, 1)
    refused(
        rec,
        "epoch 4 follows 1: 2 epochs are missing from record test-probe. "
        "Record every epoch, or pass delta to say what the step weighs.",
        np.arange(N),
        epoch=4,
    )
    assert one_epoch(rec, 4, delta=3).step == 4


def test_a_negative_epoch_is_refused(recorder):
    text = "epoch: must be 0 or more, got -1. Count epochs from 1."
    with pytest.raises(ParameterError, match=message(text)):
        recorder().end_epoch(-1)


@pytest.mark.parametrize("batches", [[], [[]]])
def test_an_empty_epoch_is_refused(recorder, batches):
    rec = recorder()
    for each in batches:
        rec.update(each, each)
    text = "epoch 1 of record test-probe is empty. Call update for every batch first."
    with pytest.raises(RecordingError, match=message(text)):
        rec.end_epoch()


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


def test_samples_declared_twice_are_refused(recorder):
    text = "ids: 1 are repeated in the samples declared: 3. Give each sample its own id."
    with pytest.raises(RecordingError, match=message(text)):
        recorder().describe_samples([3, 4, 3])


def test_labels_of_another_length_are_refused(recorder):
    text = "labels: must have shape (2,), got (3,). Pass one per id."
    with pytest.raises(ParameterError, match=message(text)):
        recorder().describe_samples([3, 4], labels=[0, 1, 2])


@pytest.mark.parametrize("ids", [[1, 2], np.arange(N + 1)])
def test_features_of_other_samples_are_refused(recorder, ids):
    rec = recorder()
    one_epoch(rec, 1)
    text = (
        "ids: must be those of the record test-probe, each once. "
        "Declare the samples or record an epoch first."
    )
    with pytest.raises(RecordingError, match=message(text)):
        rec.log_features(ids, np.ones((len(ids), 2)))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "train"}, "mode: must be one of probe, inline, got 'train'."),
        ({"delta_kind": "h"}, "delta_kind: must be one of epoch, batch, wall_time, got 'h'."),
        ({"duplicates": "last"}, "duplicates: must be one of error, first, got 'last'."),
    ],
)
def test_an_option_that_is_no_choice_is_refused(recorder, options, text):
    with pytest.raises(ParameterError, match=message(f"{text} Choose one of these.")):
        recorder(**options)


def test_a_split_that_is_no_plain_name_is_refused(recorder):
    text = (
        "split: must be 1 to 64 letters, digits, dots or underscores, starting with a letter or "
        "digit, got '../x'. Choose a plain name such as 'test'."
    )
    with pytest.raises(ParameterError, match=message(text)):
        recorder("../x")


def test_a_source_that_json_cannot_hold_is_refused(recorder):
    text = (
        "source: must be plain text, numbers and lists, got {'root': PosixPath('/data')}. "
        "Convert paths with str."
    )
    with pytest.raises(ParameterError, match=message(text)):
        recorder(source={"root": Path("/data")})


# ---------------------------------------------------------------- kept and counted


def test_nan_and_infinite_losses_are_kept_and_counted(recorder, read):
    losses = losses_at(1)
    losses[[0, 1, 2]] = np.nan, np.inf, -np.inf
    with recorder() as rec:
        rec.update(np.arange(N), losses)
        summary = rec.end_epoch()
        one_epoch(rec, 2)
    assert summary.n_nonfinite == 3
    assert summary.mean_loss == pytest.approx(losses[3:].mean())
    history = read().history()
    np.testing.assert_array_equal(history.losses[0], losses)
    assert history.seen.all()
    assert history.n_nonfinite == read().manifest.steps[0].n_nonfinite == 3
    assert read().scores()["action"].isna().tolist() == [True] + [False] * (N - 1)


def test_losses_that_are_all_nan_have_no_mean(recorder):
    rec = recorder()
    rec.update([1, 2], [np.nan, np.nan])
    assert math.isnan(rec.end_epoch().mean_loss)


def test_a_partial_epoch_is_counted_and_not_summed(recorder, read):
    with pytest.raises(ZeroDivisionError), recorder() as rec:  # noqa: PT012
        one_epoch(rec, 1)
        rec.update([0, 1, 2], [1, 2, 3], labels=LABELS[:3])
        raise ZeroDivisionError
    manifest = read().manifest
    assert manifest.partial == {"step": 2, "n_seen": 3}
    assert not manifest.complete
    np.testing.assert_array_equal(read().scores()["action"], losses_at(1).astype(float))


def test_drop_last_gives_no_action_to_those_that_were_dropped(recorder, read):
    with recorder("train", mode="inline", allow_missing=True) as rec:
        rec.describe_samples(np.arange(N))
        for dropped in (2, 5):
            kept = np.delete(np.arange(N), dropped)
            rec.update(kept, losses_at(1, kept))
            assert rec.end_epoch().n_missing == 1
    scores = read("train-inline").scores()
    assert scores["sample_id"][scores["action"].isna()].tolist() == [2, 5]
    assert scores["n_steps"].tolist() == [1 if each in (2, 5) else 2 for each in range(N)]
    assert [each.n_seen for each in read("train-inline").manifest.steps] == [N - 1, N - 1]


def test_a_later_epoch_that_misses_samples_is_warned_about_once(recorder, read):
    rec = recorder()
    one_epoch(rec, 1)
    rec.update([0, 1], [1, 2])
    text = (
        f"epoch 2 of record test-probe missed {N - 2} samples. "
        "They have no action, as a shorter sum would make them look easy."
    )
    with pytest.warns(UserWarning, match=message(text)) as caught:
        rec.end_epoch()
    assert caught[0].filename == __file__
    rec.update([0, 1], [1, 2])
    rec.end_epoch()
    rec.finish()
    assert read().scores()["action"].notna().sum() == 2


def test_a_warning_turned_into_an_error_loses_nothing(recorder, read):
    rec = recorder()
    one_epoch(rec, 1)
    rec.update([0, 1], [1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="missed 9 samples"):
            rec.end_epoch()
    rec.finish()
    assert read().history().n_steps == 2


# ---------------------------------------------------------------- resume


def interrupted(recorder, epochs):
    with pytest.raises(KeyboardInterrupt), recorder() as rec:  # noqa: PT012
        for epoch in epochs:
            one_epoch(rec, epoch)
        raise KeyboardInterrupt


def test_a_resumed_run_equals_an_uninterrupted_one_byte_for_byte(recorder, store, run_id, new_run):
    interrupted(recorder, [1, 2])
    with recorder(resume=True) as rec:
        assert rec.last_step == 2
        for epoch in (3, 4):
            one_epoch(rec, epoch)
    whole = new_run()
    with Recorder(store=store, run_id=whole) as rec:
        for epoch in (1, 2, 3, 4):
            one_epoch(rec, epoch)
    assert files(store, run_id) == files(store, whole)
    manifests = [store.open_record(each).manifest for each in (run_id, whole)]
    assert replace(manifests[0], revision=0) == replace(manifests[1], revision=0)


def test_every_change_of_a_record_raises_its_revision(recorder, read):
    with recorder() as rec:
        seen = []
        for epoch in (1, 2):
            one_epoch(rec, epoch)
            seen.append(rec._writer.spool.manifest.revision)
    assert seen[0] < seen[1] < read().manifest.revision


def test_the_newer_of_two_copies_is_resumed(recorder, read, tmp_path):
    # The run was continued elsewhere, and this machine holds an older spool with as many epochs.
    interrupted(lambda **options: recorder(spool=tmp_path / "here", **options), [1, 2])
    old = tmp_path / "old"
    with recorder(resume=True, spool=tmp_path / "here") as rec:
        shutil.copytree(rec.folder.parent, old / rec.folder.parent.name)
        rec.update(np.arange(N), losses_at(20), labels=LABELS)
        rec.end_epoch(2)
    with recorder(resume=True, spool=old) as rec:
        assert rec.last_step == 2
        one_epoch(rec, 3)
    np.testing.assert_array_equal(read().history().losses[1], losses_at(20))


def test_a_record_is_recorded_by_one_recorder_at_a_time(recorder, run_id):
    recorder()
    expected = (
        f"record test-probe of run {run_id} is being recorded already, by another process or "
        "another recorder. Record into a run of your own, or wait."
    )
    with pytest.raises(RecordingError, match=message(expected)):
        recorder(resume=True)


def test_a_recorder_that_was_refused_or_closed_frees_the_record(recorder):
    with recorder() as rec:
        one_epoch(rec, 1)
    with pytest.raises(RecordingError, match="holds a record"):
        recorder()
    recorder(resume=True).close()
    recorder(resume=True)


def test_an_epoch_recorded_again_replaces_it_and_all_after_it(recorder, read):
    interrupted(recorder, [1, 2, 3])
    with recorder(resume=True) as rec:
        rec.update(np.arange(N), losses_at(20), labels=LABELS)
        rec.end_epoch(2)
        assert rec.last_step == 2
    np.testing.assert_array_equal(read().history().losses, [losses_at(1), losses_at(20)])
    assert read().manifest.complete


def test_a_complete_record_can_be_continued(recorder, read):
    with recorder() as rec:
        one_epoch(rec, 1)
    with recorder(resume=True) as rec:
        one_epoch(rec, 2)
    expected = losses_at(1).astype(float) + losses_at(2)
    np.testing.assert_allclose(read().scores()["action"], expected, rtol=1e-12)


def test_resuming_and_adding_nothing_leaves_the_record_complete(recorder, read):
    for resume in (False, True):
        with recorder(resume=resume) as rec:
            if not resume:
                one_epoch(rec, 1)
    assert read().manifest.complete


def test_resuming_a_run_without_a_record_starts_one(recorder, read):
    with recorder(resume=True) as rec:
        one_epoch(rec, 1)
    assert read().manifest.n_steps == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"delta_kind": "wall_time"},
            "delta_kind: the record test-probe was begun with 'epoch', got 'wall_time'.",
        ),
        (
            {"class_names": ("x", "y")},
            "class_names: the record test-probe was begun with ('a', 'b'), got ('x', 'y').",
        ),
        (
            {"loss_name": "mse"},
            "loss_name: the record test-probe was begun with 'loss', got 'mse'.",
        ),
    ],
)
def test_resuming_with_other_settings_is_refused(recorder, options, text):
    with recorder(class_names=("a", "b")) as rec:
        one_epoch(rec, 1)
    text += " Resume with the same settings, or start a new run."
    with pytest.raises(RecordingError, match=message(text)):
        recorder(resume=True, **options)


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


def test_a_local_spool_that_is_newer_than_the_run_wins_and_reaches_it(
    recorder, read, spool, run_id, tmp_path
):
    interrupted(recorder, [1])
    ahead = tmp_path / "ahead"
    with recorder(resume=True, spool=ahead) as rec:
        for epoch in (2, 3):
            one_epoch(rec, epoch)
        folder = ahead / run_id / "test-probe"
        shutil.copytree(folder, tmp_path / "saved")
        rec._writer.uploader.drain(20)
    # The run goes back to epoch 1; the spool of epochs 1 to 3 was left behind by a crash.
    record = read()
    target = record.fetch("manifest.json").parent
    shutil.rmtree(target)
    shutil.copytree(tmp_path / "saved", target)
    keep_epochs(target, 1)
    shutil.copytree(tmp_path / "saved", spool / run_id / "test-probe")
    with recorder(resume=True) as rec:
        assert rec.last_step == 3
    np.testing.assert_array_equal(read().history().losses, [losses_at(each) for each in (1, 2, 3)])


def keep_epochs(folder, n_steps):
    """Make a record on disk one that ends after n epochs."""
    manifest = read_manifest(folder / "manifest.json")
    values = {each.name: getattr(manifest, each.name) for each in fields(Manifest)}
    for step in manifest.steps[n_steps:]:
        (folder / block_path(step.step)).unlink()
    kept = {block_path(each.step) for each in manifest.steps[:n_steps]}
    kept.add("samples.parquet")
    values["steps"] = manifest.steps[:n_steps]
    values["files"] = {name: each for name, each in manifest.files.items() if name in kept}
    write_manifest(folder, Manifest(**values))


def test_a_run_that_is_newer_than_the_local_spool_wins(recorder, read, spool, run_id, tmp_path):
    with recorder() as rec:
        one_epoch(rec, 1)
        shutil.copytree(spool / run_id / "test-probe", tmp_path / "saved")
        for epoch in (2, 3):
            one_epoch(rec, epoch)
    shutil.copytree(tmp_path / "saved", spool / run_id / "test-probe")
    with recorder(resume=True) as rec:
        assert rec.last_step == 3
        one_epoch(rec, 4)
    assert read().history().n_steps == 4


def test_a_damaged_record_is_not_continued(recorder, read):
    interrupted(recorder, [1])
    read().fetch("blocks/000001.parquet").write_bytes(b"")
    text = (
        "blocks/000001.parquet of test-probe is truncated or altered: its sha256 is not that of "
        "the manifest. Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        recorder(resume=True)


# ---------------------------------------------------------------- the disk


def test_a_full_disk_keeps_the_epoch_until_there_is_space(recorder, read, small_disk):
    size = 20_000
    losses = np.random.default_rng(0).random(size).astype(np.float32)
    with recorder(spool=small_disk) as rec:
        rec.update(np.arange(size), losses)
        with pytest.raises(StoreError, match=r"^cannot write .*No space left on device") as caught:
            fill(small_disk, rec)
        assert "Free space or set ACTIONTRACK_SPOOL" in str(caught.value)
        (small_disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
        assert rec.end_epoch().n_seen == size
    np.testing.assert_array_equal(read().history().losses, [losses])


def fill(folder, rec):
    """Leave room for the manifest and the samples, then end the epoch."""
    (folder / "ballast").write_bytes(b"x" * 220_000)
    rec.end_epoch()


def test_a_spool_that_cannot_be_written_is_refused_before_training(recorder, tmp_path):
    (tmp_path / "blocked").write_text("")
    start = re.escape(f"cannot write the spool {tmp_path / 'blocked'}/")
    with pytest.raises(
        StoreError, match=f"^{start}.*Set ACTIONTRACK_SPOOL to a folder that can be"
    ):
        recorder(spool=tmp_path / "blocked")


# ---------------------------------------------------------------- speed


def test_update_and_end_epoch_do_not_wait_for_the_upload(recorder):
    with recorder() as rec:
        start = time.monotonic()
        for epoch in (1, 2, 3):
            for batch in range(200):
                ids = np.arange(batch * 50, batch * 50 + 50)
                rec.update(ids, ids / 7 + epoch)
            rec.end_epoch()
        assert time.monotonic() - start < 2


def test_nothing_is_logged_when_all_goes_well(recorder, caplog):
    with caplog.at_level(logging.DEBUG, "actiontrack"), recorder() as rec:
        one_epoch(rec, 1)
    assert caplog.records == []
