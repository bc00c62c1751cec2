"""segmentation_models_pytorch. Run: python examples/recipes/segmentation_models.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import numpy as np
import segmentation_models_pytorch as smp
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from actiontrack import Recorder, RunQuery, hardest, load_scores
from actiontrack.recorder.torch import IndexedDataset  # 1

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
torch.manual_seed(0)
ink = np.kron(load_digits().images[:120], np.ones((4, 4))) / 16  # digits, 32 by 32
noise = np.random.default_rng(0).normal(0, 0.2, (120, 3, 32, 32))
images = torch.tensor(ink[:, None] + noise).float()
masks = torch.tensor(ink[:, None] > 0.5).float()  # where there is ink
train = DataLoader(TensorDataset(images[:80], masks[:80]), 16, shuffle=True)
test = DataLoader(IndexedDataset(TensorDataset(images[80:], masks[80:])), 40)  # 2
model = smp.Unet("mobilenet_v2", encoder_weights=None, in_channels=3, classes=1)
losses_of = smp.losses.SoftBCEWithLogitsLoss(reduction="none")
dice = smp.losses.DiceLoss("binary")
optimizer = torch.optim.Adam(model.parameters(), 0.002)

with (
    mlflow.start_run() as run,
    Recorder("test", loss_name="cross_entropy", pixel_loss_name="cross_entropy") as recorder,  # 3
):
    for epoch in range(epochs):
        model.train()
        for batch, truth in train:
            logits = model(batch)
            optimizer.zero_grad()
            (losses_of(logits, truth).mean() + dice(logits, truth)).backward()
            optimizer.step()
        model.eval()
        total = 0.0
        with torch.no_grad():
            for ids, batch, truth in test:  # 4
                logits = model(batch)
                total += smp.losses.SoftBCEWithLogitsLoss()(logits, truth).item() * len(truth)
                pixels = losses_of(logits, truth)[:, 0]
                recorder.update(ids, pixels.mean(dim=(1, 2)))  # 5
                recorder.update_maps(ids, pixels)  # 6
        recorder.end_epoch()  # 7
        mlflow.log_metric("test_loss", total / len(test.dataset), step=epoch + 1)

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action"]].to_string(index=False))
