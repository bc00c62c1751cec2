"""fastai: a callback. Run: python examples/recipes/fastai_callback.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import torch
from fastai.callback.core import Callback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.torch_core import set_seed
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import TensorDataset

from actiontrack import Recorder, RunQuery, hardest, load_scores
from actiontrack.recorder.torch import IndexedDataset  # 1


class RecordValidation(Callback):  # 2
    def before_batch(self):
        self.ids, *inputs = self.xb
        self.learn.xb = tuple(inputs)

    def after_loss(self):
        if not self.training:
            recorder.update(self.ids, logits=self.pred, labels=self.y)  # 3

    def after_validate(self):
        recorder.end_epoch()  # 4


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
set_seed(0)
inputs, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(inputs / 16).float(), torch.tensor(labels))
digits = IndexedDataset(digits)  # 5: items are (id, inputs, label)
parts = (torch.utils.data.Subset(digits, rows) for rows in (range(1200), range(1200, 1797)))
loaders = DataLoaders.from_dsets(*parts, bs=64, num_workers=0, device="cpu")
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

with (
    mlflow.start_run() as run,
    Recorder("validation", class_names=range(10)) as recorder,  # 6
):
    learner = Learner(loaders, model, loss_func=nn.CrossEntropyLoss())
    learner.add_cb(RecordValidation())  # 7
    with learner.no_logging():
        learner.fit(epochs, 0.003)

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
