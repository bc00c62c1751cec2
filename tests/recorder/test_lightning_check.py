# ruff: noqa: ARG002 - the library's own signatures
"""What the module reports of the samples that are recorded, against the record."""

import logging

import lightning.pytorch as pl
import pytest
import torch
from lightning_training import N_TEST, Net, digits, fit
from torch import nn
from torch.utils.data import DataLoader, Subset

from actiontrack.recorder.lightning import ActionTrackCallback
from actiontrack.recorder.lightning_check import ReportedLoss
from actiontrack.recorder.torch import IndexedDataset

# Advice about the settings of a trainer: workers, logging intervals, loaders that are missing.
pytestmark = pytest.mark.filterwarnings(
    "ignore::lightning.fabric.utilities.warnings.PossibleUserWarning"
)


def own_loss(module, batch, **options):
    return nn.functional.cross_entropy(module(batch[-2]), batch[-1], **options)


class Returns(Net):
    def validation_step(self, batch, _):
        return own_loss(self, batch)


class Logs(Net):
    def validation_step(self, batch, _):
        self.log("val_loss", own_loss(self, batch))


class LogsOneOfTwo(Net):
    def validation_step(self, batch, _, dataloader_idx=0):
        self.log("val/loss", own_loss(self, batch))


class Both(Net):
    def validation_step(self, batch, _):
        return {"loss": own_loss(self, batch), "logits": self(batch[-2])}


class Smoothed(Net):
    def validation_step(self, batch, _):
        return own_loss(self, batch, label_smoothing=0.1)


class LogsSmoothed(Net):
    def validation_step(self, batch, _):
        self.log("val_loss", own_loss(self, batch, label_smoothing=0.1))


class OtherInputs(Net):
    """Does in its step what neither forward nor a hook does."""

    def validation_step(self, batch, _):
        return own_loss(self, [batch[0] / 2, batch[1]])


@pytest.fixture
def mark(store, run_id, caplog):
    """A function that trains, and returns the mark of the record and the warnings."""

    def run(module, track, record="test-probe", **options):
        with caplog.at_level(logging.WARNING, "actiontrack"):
            fit(run_id, module, track, **options)
        text = store.get_run(run_id).tags.get(f"actiontrack.{record}.loss_check")
        return text, [each.getMessage() for each in caplog.records if each.name == "actiontrack"]

    return run


def indexed():
    return DataLoader(IndexedDataset(digits()[1]), 8)


@pytest.mark.parametrize("kind", [Returns, Logs])
def test_a_loss_that_agrees_is_said_in_the_record(mark, kind):
    assert mark(kind(), ActionTrackCallback(digits()[1])) == ("agrees", [])


def test_the_trainers_own_pass_is_compared_too(mark):
    assert mark(Both(), ActionTrackCallback(), val=indexed()) == ("agrees", [])


@pytest.mark.parametrize("kind", [Smoothed, LogsSmoothed, OtherInputs])
def test_a_loss_that_differs_is_one_warning_and_the_training_goes_on(mark, kind, history, run_id):
    module = kind()
    text, warnings = mark(module, ActionTrackCallback(digits()[1]))
    assert text.startswith("differs at step 1: the mean of the recorded losses is ")
    assert "validation_step reports" in text
    assert [warning[:26] for warning in warnings] == ["record test-probe, step 1:"]
    assert history(run_id).n_steps == 2
    assert module.trainer.current_epoch == 2


def test_both_values_of_a_difference_are_told(mark, history, run_id):
    text, _ = mark(Smoothed(), ActionTrackCallback(digits()[1]), epochs=1)
    recorded = history(run_id).losses[0].mean()
    assert f"is {recorded:.6g}, validation_step reports " in text
    assert text.endswith(f"for the same {N_TEST} samples")


def test_the_comparison_can_be_left_out(mark):
    assert mark(Smoothed(), ActionTrackCallback(digits()[1], loss_check=False)) == (None, [])


def losses_of_its_own(batch, outputs):
    losses = nn.functional.cross_entropy(outputs, batch[-1], reduction="none")
    return {"losses": losses * 2, "labels": batch[-1]}


@pytest.mark.parametrize(("loss_check", "expected"), [(None, None), (True, "differs")])
def test_losses_of_ones_own_are_compared_on_request(mark, loss_check, expected):
    track = ActionTrackCallback(digits()[1], extract=losses_of_its_own, loss_check=loss_check)
    text, _ = mark(Returns(), track)
    assert (text and text[:7]) == expected


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ({"limit_val_batches": 2}, slice(None)),  # other samples than those recorded
        ({"val_check_interval": 2}, slice(None)),  # weights of two updates before
        ({}, slice(5)),  # other samples again
    ],
)
def test_other_samples_and_other_weights_are_not_compared(mark, options, data):
    part = Subset(digits()[1], range(N_TEST)[data])
    assert mark(Smoothed(), ActionTrackCallback(part), **options) == (None, [])


def test_data_that_are_picked_in_another_way_are_the_same_samples(mark):
    whole = digits()[1]
    track = ActionTrackCallback(IndexedDataset(Subset(whole, range(N_TEST)[::-1])))
    val = DataLoader(Subset(whole, range(N_TEST)), 8)
    assert mark(Returns(), track, val=val) == ("agrees", [])


def test_of_several_loaders_the_right_one_is_compared(mark):
    train, test = digits()
    val = [DataLoader(train, 8), DataLoader(test, 8)]
    assert mark(LogsOneOfTwo(), ActionTrackCallback(val[1].dataset), val=val) == ("agrees", [])


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_rounding_of_a_precision_is_no_difference(mark, precision):
    track = ActionTrackCallback(digits()[1], batch_size=3)
    assert mark(Returns(), track, precision=precision) == ("agrees", [])


class Inline(Net):
    smoothing = 0.0

    def training_step(self, batch, _):
        logits = self(batch[1])
        loss = nn.functional.cross_entropy(logits, batch[2], label_smoothing=self.smoothing)
        return {"loss": loss, "logits": logits}


class InlineSmoothed(Inline):
    smoothing = 0.1


@pytest.mark.parametrize(("kind", "expected"), [(Inline, "agrees"), (InlineSmoothed, "differs")])
@pytest.mark.parametrize("accumulated", [1, 2])
def test_losses_of_the_training_batches_are_compared(mark, kind, expected, accumulated):
    text, warnings = mark(
        kind(),
        ActionTrackCallback(split="train", mode="inline"),
        "train-inline",
        data=DataLoader(IndexedDataset(digits()[0]), 12, shuffle=True),
        accumulate_grad_batches=accumulated,
    )
    assert text[:7] == expected[:7]
    assert len(warnings) == (expected == "differs")


def test_batches_without_a_size_are_not_compared():
    reported = ReportedLoss("validation_step")
    reported.add(torch.tensor(1.0), "a batch of text")
    assert reported._mean(pl.Trainer(accelerator="cpu", logger=False)) == (None, 0)
