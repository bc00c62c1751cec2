# ruff: noqa: ARG002 - the libraries' own signatures
"""The Trainer of Transformers and the SFTTrainer of TRL under autologging."""

import datasets
import numpy as np
import pytest
import torch
from autologging import AutologTests, FailingError
from causal_lm_training import SETTINGS, Batches, documents, loss_alone, tiny_model, tokenizer
from scipy.special import log_softmax
from sklearn.datasets import load_digits
from torch import nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from trl import SFTConfig, SFTTrainer

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
        trained = trainer(batches, *([FailsInTheSecondEpoch()] if fails else []), evaluated=ROWS[40:])
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
    options = {"mode": "probe"}

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
