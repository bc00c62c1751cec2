# ruff: noqa: ARG002 - the libraries' own signatures
"""What the Trainer does with data, weights and losses, and the record with it."""

import logging
import random

import datasets
import mlflow
import numpy as np
import pytest
import torch
from helpers import message
from test_transformers import N, expected, rows, tiny_model, train, without_ids
from torch import nn
from transformers import Trainer, default_data_collator

from actiontrack.errors import RecordingError
from actiontrack.recorder.transformers import ActionTrackCallback, ActionTrackTrainerMixin
from actiontrack.recorder.transformers_data import same_rows

__all__ = ["rows", "train"]  # fixtures

MARK = "actiontrack.test-probe.loss_check"


def warnings_of(caplog):
    return [each.getMessage() for each in caplog.records if each.name == "actiontrack"]


# ---------------------------------------------------------------- columns


@pytest.fixture
def with_text(rows):
    """A tokenised `datasets.Dataset` that still holds its text."""
    columns = {
        "text": [" ".join(map(str, row["input_ids"].tolist())) for row in rows],
        "input_ids": [row["input_ids"].tolist() for row in rows],
        "label": [row["labels"] for row in rows],
    }
    return datasets.Dataset.from_dict(columns)


def test_columns_that_the_trainer_removes_are_removed(
    train, rows, with_text, history, run_id, cross_entropy
):
    track = ActionTrackCallback(with_text)
    _, models = train(track, kind=Trainer, data=with_text, remove_unused_columns=True)
    found = history(run_id)
    np.testing.assert_allclose(found.losses, expected(models, rows, cross_entropy), atol=1e-5)


def test_ids_may_be_a_column_that_the_model_does_not_take(train, with_text, history, run_id):
    named = with_text.add_column("sample_id", [f"é{index:02}" for index in range(N)])
    train(ActionTrackCallback(named), kind=Trainer, data=with_text, remove_unused_columns=True)
    assert history(run_id).sample_ids.tolist() == named["sample_id"]


def of_tensors(items):
    """A collator that can't make a batch of text."""
    return {name: torch.stack([torch.as_tensor(item[name]) for item in items]) for name in items[0]}


def test_text_that_is_not_removed_is_refused_before_training(train, rows, with_text, store, run_id):
    text = r"^data: the model can't be evaluated on the first batch, and training has not begun\. "
    with pytest.raises(RecordingError, match=text):
        train(
            ActionTrackCallback(with_text),
            kind=Trainer,
            data=without_ids(rows),
            given={"data_collator": of_tensors},
        )
    assert train.trainers[-1].state.global_step == 0
    assert store.get_run(run_id).records == ()


def test_labels_that_are_no_classes_are_refused_before_training(train, rows):
    data = [row | {"labels": row["labels"] + 0.5} for row in without_ids(rows)]
    text = (
        "labels: must be class indices beside logits, got float32. If the targets are not classes, "
        "pass extract, a function that returns the losses alone."
    )

    def extract(inputs, outputs):
        return {"logits": outputs["logits"], "labels": inputs["labels"]}

    class NoLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = tiny_model()

        def forward(self, input_ids, labels=None):
            logits = self.model(input_ids).logits
            return {"loss": logits.mean(), "logits": logits}

    class Other(Trainer):
        def __init__(self, model, *args, **kwargs):
            super().__init__(NoLoss(), *args, **kwargs)

    with pytest.raises(RecordingError, match=message(text)):
        train(ActionTrackCallback(data, extract=extract), kind=Other, data=data)
    assert train.trainers[-1].state.global_step == 0


def test_one_output_is_a_regression_unless_it_is_said_to_be_a_logit(rows):
    inputs, outputs = {"labels": torch.tensor([0.0, 1.0])}, {"logits": torch.zeros(2, 1)}
    text = r"^outputs: a single one per sample is a regression in Transformers\. Pass extract"
    with pytest.raises(RecordingError, match=text):
        ActionTrackCallback(rows)._extract(inputs, outputs)


# ---------------------------------------------------------------- collators that drop ids


def without_anything_else(items):
    """Like TRL's: the batch has what the model takes, whatever the items have."""
    return {
        "input_ids": torch.stack([torch.as_tensor(item["input_ids"]) for item in items]),
        "labels": torch.tensor([item["labels"] for item in items]),
    }


@pytest.mark.parametrize("collator", [without_anything_else, default_data_collator])
def test_ids_survive_a_data_collator_that_drops_them(train, rows, history, run_id, collator):
    track = ActionTrackCallback(split="train", mode="inline")
    train(track, given={"data_collator": collator}, eval_strategy="epoch")
    found = history(run_id, "train-inline")
    assert found.sample_ids.tolist() == list(range(100, 100 + N))
    assert found.labels.tolist() == [row["labels"] for row in rows]


def test_a_collator_that_keeps_the_ids_stays_as_it_is(train):
    track = ActionTrackCallback(split="train", mode="inline")
    trainer, _ = train(track, given={"data_collator": default_data_collator})
    assert trainer.data_collator is default_data_collator


# ---------------------------------------------------------------- the loss that is reported


@pytest.mark.parametrize("text", [False, True])
def test_the_loss_of_evaluation_agrees(train, rows, with_text, store, run_id, caplog, text):
    data = with_text if text else without_ids(rows)
    with caplog.at_level(logging.WARNING, "actiontrack"):
        train(
            ActionTrackCallback(data, batch_size=4),
            kind=Trainer,
            data=data,
            eval_data=data,
            eval_strategy="epoch",
            remove_unused_columns=True,
        )
    assert store.get_run(run_id).tags[MARK] == "agrees"
    assert not warnings_of(caplog)


class Weighted(Trainer):
    """Evaluates another loss than the plain one."""

    def prediction_step(self, *args, **kwargs):
        loss, *rest = super().prediction_step(*args, **kwargs)
        return loss * 2, *rest


def test_a_loss_of_evaluation_that_differs_is_told_and_training_goes_on(
    train, rows, store, history, run_id, caplog
):
    data = without_ids(rows)
    with caplog.at_level(logging.WARNING, "actiontrack"):
        train(
            ActionTrackCallback(data),
            kind=Weighted,
            data=data,
            eval_data=data,
            eval_strategy="epoch",
        )
    recorded = history(run_id).losses[0].mean(dtype=float)
    assert store.get_run(run_id).tags[MARK] == (
        f"differs at step 1: the mean of the recorded losses is {recorded:.6g}, the Trainer's "
        f"evaluation reports {2 * recorded:.6g} for the same {N} samples"
    )
    (text,) = warnings_of(caplog)
    assert text.startswith("record test-probe, step 1: the mean of the recorded losses is ")
    assert history(run_id).n_steps == 2


def first_output(_, outputs):
    return {"losses": outputs["logits"][:, 0]}


def test_evaluations_in_the_middle_of_an_epoch_are_not_compared(train, rows, store, run_id):
    data = without_ids(rows)
    train(
        ActionTrackCallback(data),
        kind=Weighted,
        data=data,
        eval_data=data,
        eval_strategy="steps",
        eval_steps=3,
    )
    # The tenth and last step is the end of the second epoch.
    assert store.get_run(run_id).tags[MARK].startswith("differs at step 2: ")


@pytest.mark.parametrize(
    ("track", "options"),
    [
        ({"loss_check": False}, {}),
        ({}, {"label_smoothing_factor": 0.1}),
        ({"extract": first_output}, {}),
    ],
    ids=["left out", "smoothed", "losses of one's own"],
)
def test_what_is_no_plain_mean_of_the_same_samples_is_not_compared(
    train, rows, store, run_id, track, options
):
    data = without_ids(rows)
    train(
        ActionTrackCallback(data, **track),
        kind=Weighted,
        data=data,
        eval_data=data,
        **{"eval_strategy": "epoch"} | options,
    )
    assert MARK not in store.get_run(run_id).tags


def test_other_samples_are_not_compared(train, rows, store, run_id):
    data = without_ids(rows)
    train(
        ActionTrackCallback(data[:9]),
        kind=Weighted,
        data=data,
        eval_data=data,
        eval_strategy="epoch",
    )
    assert MARK not in store.get_run(run_id).tags


def inline_mark(train, store, run_id, **options):
    train(ActionTrackCallback(split="train", mode="inline"), **options)
    return store.get_run(run_id).tags.get("actiontrack.train-inline.loss_check")


def test_the_loss_of_training_agrees(train, store, run_id):
    assert inline_mark(train, store, run_id) == "agrees"


class WithPenalty(Trainer):
    """Trains on more than the loss of the batch."""

    def compute_loss(self, model, inputs, *args, **kwargs):
        loss, outputs = super().compute_loss(model, inputs, *args, **kwargs)
        return loss + 0.5, outputs


def test_a_loss_of_training_that_differs_is_told(train, store, run_id, caplog):
    class Both(ActionTrackTrainerMixin, WithPenalty):
        pass

    with caplog.at_level(logging.WARNING, "actiontrack"):
        mark = inline_mark(train, store, run_id, kind=Both)
    assert mark.startswith("differs at step 1: ")
    assert "the training reports" in warnings_of(caplog)[0]


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing_factor": 0.1},
        {"gradient_accumulation_steps": 2},
        {"given": {"compute_loss_func": lambda outputs, _, **__: outputs["logits"].mean()}},
    ],
    ids=["smoothed", "accumulated", "of one's own"],
)
def test_a_loss_that_is_no_plain_mean_of_the_batch_is_not_compared(train, store, run_id, options):
    mark = inline_mark(train, store, run_id, **options)
    assert mark is None


def test_a_copy_without_columns_has_the_same_rows(with_text):
    assert same_rows(with_text, with_text.remove_columns("text"))
    other = with_text.select([1, *range(1, N)]).remove_columns("text")
    assert not same_rows(with_text, other)
    assert not same_rows(with_text, with_text.select(range(N - 1)))
    assert not same_rows(list(with_text), list(with_text))


# ---------------------------------------------------------------- weights, training as it was


class ScheduleFree(torch.optim.SGD):
    """Trains other weights than it evaluates, as schedule-free optimisers do."""

    shift = 0.1

    def _move(self, by):
        with torch.no_grad():
            for group in self.param_groups:
                for value in group["params"]:
                    value.add_(by)

    def eval(self):
        self._move(self.shift)

    def train(self):
        self._move(-self.shift)


class WithScheduleFree(Trainer):
    def create_optimizer(self, *args):
        self.optimizer = ScheduleFree(self.model.parameters(), lr=0.01)
        return self.optimizer


def test_a_schedule_free_optimiser_is_evaluated_in_its_own_mode(
    train, rows, store, history, run_id, cross_entropy
):
    data = without_ids(rows)
    _, models = train(ActionTrackCallback(data), kind=WithScheduleFree, data=data)
    for model in models:
        with torch.no_grad():
            for value in model.parameters():
                value.add_(ScheduleFree.shift)
    np.testing.assert_allclose(
        history(run_id).losses, expected(models, rows, cross_entropy), atol=1e-4
    )
    tags = store.get_run(run_id).tags
    assert tags["actiontrack.test-probe.weights"] == "averaged by ScheduleFree, as in evaluation"


def noisy(items):
    """A collator that draws random numbers of every kind."""
    batch = without_anything_else(items)
    draw = random.random() + np.random.rand() + torch.rand(()).item()  # noqa: NPY002
    batch["input_ids"] = (batch["input_ids"] + int(draw * 5)) % 17
    return batch


@pytest.mark.parametrize("mode", ["probe", "inline"])
@pytest.mark.parametrize("kind", [Trainer, WithScheduleFree])
def test_recording_changes_neither_weights_nor_random_states(train, rows, run_id, mode, kind):
    class Tracked(ActionTrackTrainerMixin, kind):
        pass

    outcomes = []
    for recorded in (True, False):
        track = ActionTrackCallback(rows) if mode == "probe" else None
        track = track or ActionTrackCallback(split="train", mode="inline")
        trainer, _ = train(
            *([track] if recorded else []),
            kind=Tracked,
            active=recorded,
            given={"data_collator": noisy},
            eval_strategy="epoch",
        )
        generators = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
        weights = [value.tolist() for value in trainer.model.state_dict().values()]
        outcomes.append((weights, *generators[:2], generators[2].tolist()))
    assert outcomes[0] == outcomes[1]
    mlflow.end_run()
