"""Parts of a training session: records by split and mode, the running loss, the progress bar."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

from projects import session
from projects.datasets import load_dataset
from projects.distributed import Group
from projects.loop import choose_compute
from projects.models import build_model
from projects.params import TrainParams, validate
from projects.session import RunningLoss, Session, by_mode, progress
from projects.tasks.classification import Classification

PROBES = {("test", "probe"), ("train", "probe")}


def params(**values):
    small = {"model": "cnn3", "subset": 60, "test_subset": 20, "device": "cpu", "threads": 1}
    return validate(TrainParams, small | values)


@pytest.mark.parametrize(
    ("record", "mode", "expected"),
    [
        ("test", "probe", {("test", "probe")}),
        ("train", "probe", {("train", "probe")}),
        ("test,train", "probe", PROBES),
        ("train", "inline", {("train", "inline")}),
        ("test,train", "inline", {("test", "probe"), ("train", "inline")}),
        ("train", "both", {("train", "probe"), ("train", "inline")}),
        ("test,train", "both", PROBES | {("train", "inline")}),
    ],
)
def test_inline_losses_are_of_training_batches_and_the_test_split_is_always_probed(
    record, mode, expected
):
    assert set(session._records(params(record=record, mode=mode))) == expected


def test_recorders_are_sorted_into_probes_by_split_and_the_inline_one():
    recorders = {("test", "probe"): "a", ("train", "probe"): "b", ("train", "inline"): "c"}
    assert by_mode(recorders) == ({"test": "a", "train": "b"}, "c")
    assert by_mode({("test", "probe"): "a"}) == ({"test": "a"}, None)


# ---------------------------------------------------------------- running loss


def test_the_running_loss_is_the_mean_over_the_samples_of_batches_of_any_size():
    outputs, labels = torch.randn(10, 4), torch.arange(10) % 4
    running = RunningLoss(torch.device("cpu"))
    for rows in (slice(0, 7), slice(7, 10)):
        running.add(outputs[rows], labels[rows])
    assert running.take() == pytest.approx(float(cross_entropy(outputs, labels)), rel=1e-6)


def test_taking_the_running_loss_starts_again():
    running = RunningLoss(torch.device("cpu"), mse_loss)
    running.add(torch.full((2, 1), 3.0), torch.zeros(2, 1))
    assert running.take() == 9.0
    assert running.take() == 0.0


def test_the_running_loss_keeps_no_graph():
    running = RunningLoss(torch.device("cpu"), mse_loss)
    running.add(torch.ones(2, 1, requires_grad=True), torch.zeros(2, 1))
    assert not running._total.requires_grad


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(None, "epoch 2/5: loss 0.123"), (0.5, "epoch 2/5: loss 0.123, accuracy 50.0%")],
)
def test_the_progress_bar_tells_loss_and_accuracy_where_there_is_one(accuracy, expected):
    summary = SimpleNamespace(mean_loss=0.1234, accuracy=accuracy)
    assert progress(2, 5, summary) == expected


# ---------------------------------------------------------------- session


@pytest.fixture(scope="module")
def splits():
    return load_dataset(params())


def prepare(splits, group=None, **values):
    chosen = params(**values)
    options = {} if group is None else {"group": group}
    return Session.prepare(chosen, choose_compute(chosen), splits, task=Classification(), **options)


def test_the_seed_gives_the_initial_weights(splits):
    torch.manual_seed(3)
    expected = build_model("cnn3", in_channels=1, image_size=8, n_classes=10).state_dict()
    for name, weights in prepare(splits, seed=3).model.state_dict().items():
        assert torch.equal(weights, expected[name])


def test_every_process_of_a_group_has_the_same_weights_and_drops_out_other_units(splits):
    first, drawn = prepare(splits, Group(0, 2)), torch.rand(4)
    second, other = prepare(splits, Group(1, 2)), torch.rand(4)
    for ours, theirs in zip(
        first.model.state_dict().values(), second.model.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)
    assert not torch.equal(drawn, other)


def test_a_session_knows_its_splits_by_name(splits):
    prepared = prepare(splits)
    assert prepared.split("train") is splits[0]
    assert prepared.split("test") is splits[1]


def test_fitting_trains_to_the_last_epoch_and_calls_back_after_each(splits):
    prepared, calls = prepare(splits, epochs=3), []
    before = [weights.clone() for weights in prepared.model.parameters()]
    prepared.fit(after_epoch=lambda: calls.append(None))
    assert len(calls) == 3
    pairs = zip(before, prepared.model.parameters(), strict=True)
    assert not any(torch.equal(*pair) for pair in pairs)


def test_an_evaluation_pass_sees_every_sample_once_and_in_order(splits):
    prepared, seen = prepare(splits), []
    prepared.evaluate(splits[1], lambda ids, *_: seen.append(ids))
    np.testing.assert_array_equal(np.concatenate(seen), splits[1].ids)
