import logging
import math
import time

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import steps_of
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from recording import LABELS, LOGITS, N, files, files_below, losses_at, one_epoch
from scipy import special

from actiontrack.errors import RecordingError
from actiontrack.record import digest
from actiontrack.recorder import Recorder
from actiontrack.scores import score_table
from actiontrack.testing import make_history, record_history

SOME = settings(
    deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


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
    assert files_below(spool) == []


def test_a_history_recorded_again_is_the_same_history(store, new_run, spool):
    history = make_history(n_steps=3, n_samples=20, split="train", mode="inline")
    run_id = new_run()
    assert record_history(history, run_id, store, spool, model="softmax") is True
    found = store.open_record(run_id)
    pd.testing.assert_frame_equal(found.scores(), score_table(history), check_dtype=False)
    np.testing.assert_array_equal(found.history().losses, history.losses)
    assert (found.run.model, found.name) == ("softmax", "train-inline")


NAMES = {"integers": np.arange(N), "texts": np.array([f"é{row:02d}" for row in range(N)])}


def recorded_files(store, run_id, names, batches):
    """What two epochs leave whose samples come in these batches."""
    with Recorder(store=store, run_id=run_id) as rec:
        for logits in LOGITS:
            for batch in batches:
                rows = np.array(batch, int)
                rec.update(names[rows], logits=logits[rows], labels=LABELS[rows])
            rec.end_epoch()
    return files(store, run_id)


@pytest.mark.parametrize("kind", NAMES)
def test_any_partition_and_any_order_of_an_epoch_give_identical_files(kind, store, new_run):
    expected = recorded_files(store, new_run(), NAMES[kind], [range(N)])

    @settings(deadline=None, max_examples=3, phases=[Phase.generate])
    @given(st.permutations(range(N)), st.lists(st.integers(0, N), max_size=N))
    def check(order, cuts):
        batches = np.split(np.array(order), sorted(cuts))
        assert recorded_files(store, new_run(), NAMES[kind], batches) == expected

    check()


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


def test_action_is_the_sum_of_the_actions_of_two_records_of_its_epochs(store, new_run):
    actions = []
    for epochs in (range(1, 5), range(1, 3), range(3, 5)):
        run_id = new_run()
        with Recorder(store=store, run_id=run_id) as rec:
            for epoch in epochs:
                one_epoch(rec, epoch, delta=1)
        actions.append(store.open_record(run_id).scores()["action"])
    np.testing.assert_allclose(actions[0], actions[1] + actions[2], rtol=1e-12)


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
    assert history.n_nonfinite == read().manifest.totals.n_nonfinite == 3
    assert [step.n_nonfinite for step in steps_of(read())] == [3, 0]
    assert read().scores()["action"].isna().tolist() == [True] + [False] * (N - 1)


def test_losses_that_are_all_nan_have_no_mean(recorder):
    rec = recorder()
    rec.update([1, 2], [np.nan, np.nan])
    assert math.isnan(rec.end_epoch().mean_loss)


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


def test_maps_that_come_while_the_recorder_is_being_closed_are_refused(recorder):
    rec = recorder(pixel_loss_name="cross_entropy")
    lock = rec._state.lock

    class Closing:
        """What another thread holds that closes the recorder meanwhile."""

        def __enter__(self):
            rec._state.lock = lock
            rec.close()
            return lock.__enter__()

        def __exit__(self, *error):
            lock.__exit__(*error)

    rec._state.lock = Closing()
    with pytest.raises(RecordingError, match=r"^update_maps: the record test-probe is closed, "):
        rec.update_maps([1], np.ones((1, 2, 2)))
