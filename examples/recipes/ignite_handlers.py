"""PyTorch Ignite: handlers. Run: python examples/recipes/ignite_handlers.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import torch
from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
from ignite.metrics import Loss
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from actiontrack import Recorder, RunQuery, hardest, load_scores
from actiontrack.recorder.torch import IndexedDataset  # 1

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
torch.manual_seed(0)
inputs, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(inputs / 16).float(), torch.tensor(labels))
train = DataLoader(Subset(digits, range(1200)), 64, shuffle=True)
test = DataLoader(IndexedDataset(Subset(digits, range(1200, 1797))), 256)  # 2
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters(), 0.003)
criterion = nn.CrossEntropyLoss()
trainer = create_supervised_trainer(model, optimizer, criterion)
evaluator = create_supervised_evaluator(
    model,
    metrics={"loss": Loss(criterion)},
    prepare_batch=lambda batch, **_: batch[1:],  # 3: the model sees no ids
)


@evaluator.on(Events.ITERATION_COMPLETED)  # 4
def record(engine):
    logits, targets = engine.state.output
    recorder.update(engine.state.batch[0], logits=logits, labels=targets)


@evaluator.on(Events.COMPLETED)  # 5
def end_epoch():
    recorder.end_epoch()


@trainer.on(Events.EPOCH_COMPLETED)
def evaluate(engine):
    loss = evaluator.run(test).metrics["loss"]
    mlflow.log_metric("test_loss", loss, step=engine.state.epoch)


with mlflow.start_run() as run, Recorder("test", class_names=range(10)) as recorder:  # 6
    trainer.run(train, max_epochs=epochs)

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
