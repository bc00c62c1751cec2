"""skorch: a callback. Run: python examples/recipes/skorch_callback.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import numpy as np
import torch
from sklearn.datasets import load_digits
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from torch import nn

from actiontrack import Recorder, RunQuery, hardest, load_scores


class WithIds(NeuralNetClassifier):  # 1: the inputs are a dictionary, of which the module sees one
    def infer(self, x, **params):
        return super().infer(x["inputs"], **params)


class RecordValidation(Callback):  # 2
    def on_batch_end(self, net, batch, training, y_pred, **_):
        if not training:
            inputs, labels = batch
            recorder.update(inputs["ids"], logits=y_pred, labels=labels)  # 3

    def on_epoch_end(self, net, **_):
        recorder.end_epoch()  # 4


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
torch.manual_seed(0)
inputs, labels = load_digits(return_X_y=True)
digits = {"inputs": (inputs / 16).astype(np.float32), "ids": np.arange(len(labels))}

with (
    mlflow.start_run() as run,
    Recorder("validation", class_names=range(10)) as recorder,  # 5
):
    net = WithIds(
        nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.Adam,
        lr=0.003,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        verbose=0,
        callbacks=[RecordValidation()],  # 6
    )
    net.fit(digits, labels)

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
