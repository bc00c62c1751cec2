"""Accelerate, on any number of processes. Run: accelerate launch accelerate_loop.py [epochs]."""
# ruff: noqa: INP001, T201

import contextlib
import sys

import mlflow
import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from actiontrack import Recorder, RunQuery, hardest, load_scores
from actiontrack.recorder.torch import IndexedDataset, gather  # 1

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
torch.manual_seed(0)
inputs, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(inputs / 16).float(), torch.tensor(labels))
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.Adam(model.parameters(), 0.003)
loader = DataLoader(IndexedDataset(digits), 64, shuffle=True)  # 2
accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
is_main = accelerator.is_main_process

with (
    mlflow.start_run() if is_main else contextlib.nullcontext() as run,
    Recorder("train", mode="inline", class_names=range(10), gather=gather) as recorder,  # 3
):
    for epoch in range(epochs):
        losses = []
        for ids, batch, targets in loader:  # 4
            with accelerator.accumulate(model):
                logits = model(batch)
                loss = nn.functional.cross_entropy(logits, targets, reduction="none")
                accelerator.backward(loss.mean())
                optimizer.step()
                optimizer.zero_grad()
            losses.append(accelerator.gather_for_metrics(loss.detach()))
            recorder.update(ids, logits=logits, labels=targets)  # 5
        recorder.end_epoch()  # 6
        if is_main:
            mlflow.log_metric("train_loss", torch.cat(losses).mean().item(), step=epoch + 1)

if is_main:
    scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
    print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
accelerator.end_training()
