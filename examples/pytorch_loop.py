"""A plain PyTorch loop on handwritten digits. Run: python examples/pytorch_loop.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from actiontrack import Recorder, RunQuery, hardest, load_scores
from actiontrack.recorder.torch import IndexedDataset

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
torch.manual_seed(0)
inputs, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(inputs / 16).float(), torch.tensor(labels))
train, test = (torch.utils.data.Subset(digits, each) for each in (range(1200), range(1200, 1797)))

model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters(), 0.003)
train_loader = DataLoader(train, 64, shuffle=True)
test_loader = DataLoader(IndexedDataset(test), 256)  # batches are (ids, inputs, labels)

with mlflow.start_run() as run, Recorder("test", class_names=range(10)) as recorder:  # 1
    for _ in range(epochs):
        model.train()
        for batch, targets in train_loader:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch), targets).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            for ids, batch, targets in test_loader:
                recorder.update(ids, logits=model(batch), labels=targets)  # 2
        recorder.end_epoch()  # 3

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
