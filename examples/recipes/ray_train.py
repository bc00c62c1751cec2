"""Ray Train: two workers, and what a failed one leaves. Run: python ray_train.py [epochs]."""
# ruff: noqa: INP001, T201

import os
import sys
import tempfile
from pathlib import Path

import mlflow
import ray
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer, prepare_data_loader, prepare_model
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from actiontrack import Recorder, RunQuery, hardest, load_scores
from actiontrack.recorder.torch import IndexedDataset, gather  # 1
from actiontrack.store import Store  # 2


def train(config):
    torch.manual_seed(0)
    inputs, labels = load_digits(return_X_y=True)
    digits = TensorDataset(torch.tensor(inputs / 16).float(), torch.tensor(labels))
    loader = prepare_data_loader(DataLoader(IndexedDataset(digits), 64, shuffle=True))  # 3
    model = prepare_model(nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)))
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    first = restore(model, optimizer)
    options = {"run_id": config["run_id"], "store": Store(config["uri"]), "resume": True}  # 4
    with Recorder("train", mode="inline", gather=gather, **options) as recorder:  # 5
        for epoch in range(first, config["epochs"] + 1):
            loader.sampler.set_epoch(epoch)
            for ids, batch, targets in loader:  # 6
                logits = model(batch)
                optimizer.zero_grad()
                nn.functional.cross_entropy(logits, targets).backward()
                optimizer.step()
                recorder.update(ids, logits=logits, labels=targets)  # 7
            recorder.end_epoch(epoch)  # 8: before the report, and with its number
            report(epoch, model, optimizer)


def restore(model, optimizer):
    """The next epoch, after that of the last checkpoint."""
    if (checkpoint := ray.train.get_checkpoint()) is None:
        return 1
    with checkpoint.as_directory() as folder:
        states = torch.load(Path(folder) / "states.pt")
    model.load_state_dict(states["model"])
    optimizer.load_state_dict(states["optimizer"])
    return states["epoch"] + 1


def report(epoch, model, optimizer):
    states = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with tempfile.TemporaryDirectory() as folder:
        torch.save(states, Path(folder) / "states.pt")
        first = ray.train.get_context().get_world_rank() == 0
        ray.train.report({}, checkpoint=Checkpoint.from_directory(folder) if first else None)


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports its use elsewhere
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)
with mlflow.start_run() as run, tempfile.TemporaryDirectory() as folder:
    config = {"run_id": run.info.run_id, "uri": mlflow.get_tracking_uri(), "epochs": epochs}
    result = TorchTrainer(
        train,
        train_loop_config=config,
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            storage_path=folder,
            failure_config=FailureConfig(max_failures=1),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
        ),
    ).fit()
ray.shutdown()

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "action", "forgetting"]].to_string(index=False))
