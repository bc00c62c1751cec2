# ruff: noqa: ARG002 - the libraries' own signatures
"""The Trainer of Transformers and the SFTTrainer of TRL under autologging."""

import gc
from typing import ClassVar

import datasets
import mlflow
import numpy as np
import pytest
import torch
from autologging import AutologTests, FailingError, autologged, runs_of, warnings_of
from causal_lm_training import (
    SETTINGS,
    Batches,
    documents,
    loss_alone,
    tiny_model,
    tokenised,
    tokenizer,
)
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from torch import nn
from transformers import (
    DataCollatorForLanguageModeling,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from actiontrack.recorder import causal_lm_watch
from actiontrack.recorder.transformers import ActionTrackCallback
from actiontrack.recorder.trl import track_sft
from actiontrack.testing import AdapterTraining

datasets.disable_progress_bars()

INPUTS, LABELS = load_digits(return_X_y=True)
INPUTS = (INPUTS[:60] / 16).astype(np.float32)
ROWS = [
    {"pixels": torch.tensor(row), "labels": int(label)}
    for row, label in zip(INPUTS, LABELS[:60], strict=True)
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.dropout = nn.Linear(64, 10), nn.Dropout(0.2)

    def forward(self, pixels, labels=None):
        logits = self.layer(self.dropout(pixels))
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class FailsInTheSecondEpoch(TrainerCallback):
    def on_epoch_begin(self, args, state, control, **kwargs):
        if state.epoch:
            raise FailingError


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trainer(*callbacks, train=None, evaluated=None, kind=Trainer, **options):
    args = TrainingArguments("out", **SETTINGS | {"seed": 1} | options)
    return kind(
        Net(), args, train_dataset=ROWS[:40] if train is None else train,
        eval_dataset=evaluated, callbacks=list(callbacks),
    )  # fmt: skip


class TestTransformers(AutologTests):
    framework = "transformers"
    rtol = 1e-4

    def train_as_always(self, *, fails=False):
        batches = Batches()
        trained = trainer(
            batches, *([FailsInTheSecondEpoch()] if fails else []), evaluated=ROWS[40:]
        )
        trained.train()
        losses = []
        for weights in batches.epochs:
            logits = INPUTS[40:].astype(float) @ weights["layer.weight"].numpy().T
            logits = logits + weights["layer.bias"].numpy()
            losses.append(-log_softmax(logits, axis=1)[np.arange(20), LABELS[40:60]])
        weights = [value.numpy() for value in trained.model.state_dict().values()]
        return AdapterTraining(ids=range(20), losses=losses, weights=weights)


class TestSFT(AutologTests):
    framework = "trl"
    rtol, atol = 1e-4, 1e-5
    options: ClassVar[dict] = {"mode": "probe"}

    def train_as_always(self, *, fails=False):
        batches, data = Batches(), documents()
        trained = SFTTrainer(
            tiny_model(), SFTConfig("out", **SETTINGS), train_dataset=data,
            processing_class=tokenizer(),
            callbacks=[batches, *([FailsInTheSecondEpoch()] if fails else [])],
        )  # fmt: skip
        rows = trained.train_dataset
        trained.train()
        plain, losses = tiny_model(), []
        for weights in batches.epochs:
            plain.load_state_dict(weights)
            plain.eval()
            pairs = zip(rows["input_ids"], rows["labels"], strict=True)
            losses.append([np.nanmean(loss_alone(plain, *pair)) for pair in pairs])
        weights = [value.numpy() for value in trained.model.state_dict().values()]
        return AdapterTraining(ids=rows["sample_id"], losses=losses, weights=weights)


@pytest.fixture
def run(store, run_id):
    """The test's run, in which the block trains under autologging; a function that reads it."""
    with autologged(), mlflow.start_run(run_id=run_id):
        yield lambda: store.get_run(run_id)


# ---------------------------------------------------------------- Transformers


def test_without_evaluation_data_the_training_data_are_recorded(run, history):
    trained = trainer()
    before = list(trained.callback_handler.callbacks)
    trained.train()
    assert run().records == ("train-probe",)
    assert run().tags["actiontrack.train-probe.ids"] == "positions in train_dataset"
    assert history(run().run_id, "train-probe").sample_ids.tolist() == list(range(40))
    assert trained.callback_handler.callbacks == before


def test_each_evaluation_dataset_has_a_record_and_ids_are_kept(run, history):
    named = [row | {"sample_id": 100 + index} for index, row in enumerate(ROWS[40:50])]
    trainer(evaluated={"a": named, "b": ROWS[50:]}).train()
    records = ("validation_a-probe", "validation_b-probe")
    assert run().records == records
    assert history(run().run_id, records[0]).sample_ids.tolist() == list(range(100, 110))
    assert "actiontrack.validation_a-probe.ids" not in run().tags
    assert run().tags["actiontrack.validation_b-probe.ids"] == "positions in eval_dataset['b']"


def test_the_run_of_the_trainer_itself_is_recorded_into(store, active_experiment):
    with autologged():
        trainer(report_to="mlflow", num_train_epochs=1).train()
    gc.collect()  # when its callback goes, it ends whichever run is active
    (run,) = runs_of(store, active_experiment)
    assert (run.status, run.records) == ("FINISHED", ("train-probe",))
    assert run.tags["actiontrack.train-probe.autolog"] == "transformers: train_dataset"
    assert mlflow.get_run(run.run_id).data.params["num_train_epochs"] == "1"


def test_a_callback_of_the_users_is_left_alone(run):
    trainer(ActionTrackCallback(ROWS[40:]), evaluated=ROWS[:20]).train()
    assert run().records == ("test-probe",)


def test_a_language_model_under_a_plain_trainer_is_refused(run, caplog):
    collator = DataCollatorForLanguageModeling(tokenizer(), mlm=False)
    args = TrainingArguments("out", **SETTINGS | {"num_train_epochs": 1})
    data = tokenised().remove_columns("sample_id")
    Trainer(tiny_model(), args, train_dataset=data, data_collator=collator).train()
    (text,) = warnings_of(caplog)
    assert text.startswith("this training is not recorded: outputs: not those of a classifier")
    assert run().records == ()


# ---------------------------------------------------------------- TRL


def sft(data=None, callbacks=(), **options):
    args = SFTConfig("out", **SETTINGS | {"num_train_epochs": 1} | options)
    data = documents() if data is None else data
    return SFTTrainer(
        tiny_model(), args, train_dataset=data, processing_class=tokenizer(),
        callbacks=list(callbacks),
    )  # fmt: skip


def test_documents_are_recorded_from_the_training_batches(run, history):
    trained = sft()
    before = list(trained.callback_handler.callbacks)
    trained.train()
    assert run().records == ("train-inline",)
    assert run().tags["actiontrack.train-inline.autolog"] == "trl: documents of train_dataset"
    found = history(run().run_id, "train-inline")
    assert found.sample_ids.tolist() == documents()["sample_id"]
    assert trained.callback_handler.callbacks == before
    assert not {"train", "_actiontrack_watch"} & set(vars(trained))


@pytest.mark.parametrize("packing", [False, True], ids=["unpacked", "packed"])
def test_documents_without_ids_are_refused(run, caplog, packing):
    data = documents() if packing else documents().remove_columns("sample_id")
    sft(data, packing=packing, max_length=128).train()
    (text,) = warnings_of(caplog)
    assert text.startswith("this training is not recorded: ")
    assert "sample_id" in text
    assert run().records == ()


def test_an_error_while_losses_are_read_is_none_of_the_training(run, caplog, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(causal_lm_watch, "token_losses_of", broken)
    trained = sft()
    trained.train()
    assert trained.state.epoch == 1
    assert warnings_of(caplog) == ["this training is not recorded: broken"]


def test_what_the_user_tracks_is_left_alone(run):
    trained = sft()
    track_sft(trained, documents(), split="mine")
    trained.train()
    assert run().records == ("mine-inline",)


def test_what_is_inherited_is_inherited_again():
    function = Trainer.train
    with autologged():
        assert "train" in vars(SFTTrainer)
    assert Trainer.train is SFTTrainer.train is function
    assert "train" not in vars(SFTTrainer)


def test_an_sft_trainer_is_none_of_transformers(store, run_id, caplog):
    with autologged("transformers"), mlflow.start_run(run_id=run_id):
        sft().train()
    assert store.get_run(run_id).records == ()
    assert warnings_of(caplog) == []
