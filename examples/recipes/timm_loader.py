"""timm: ids through its loaders. Run: python examples/recipes/timm_loader.py [epochs]."""
# ruff: noqa: INP001, T201

import sys

import mlflow
import numpy as np
import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from timm.data import create_loader
from torch import nn

from actiontrack import Recorder, RunQuery, hardest, load_scores
from actiontrack.recorder.timm import IndexedTargets, with_ids  # 1


class Digits(torch.utils.data.Dataset):
    """Some digits of scikit-learn, drawn 32 by 32."""

    transform = None  # set by create_loader

    def __init__(self, rows):
        images, labels = load_digits(return_X_y=True)
        self.images = np.kron(images[rows].reshape(-1, 8, 8), np.ones((4, 4))) * 15.9
        self.labels = labels[rows]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        image = Image.fromarray(self.images[row].astype(np.uint8)).convert("RGB")
        return self.transform(image), self.labels[row]


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
torch.manual_seed(0)
options = {"input_size": 32, "batch_size": 64, "num_workers": 0, "device": torch.device("cpu")}
train = create_loader(Digits(slice(600)), is_training=True, hflip=0, **options)
test = create_loader(IndexedTargets(Digits(slice(600, 800))), **options)  # 2
model = timm.create_model("test_resnet", num_classes=10)
optimizer = torch.optim.AdamW(model.parameters(), 0.002)

with mlflow.start_run() as run, Recorder("test", class_names=range(10)) as recorder:  # 3
    for epoch in range(epochs):
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        model.eval()
        total = 0.0
        with torch.no_grad():
            for ids, images, labels in with_ids(test):  # 4
                logits = model(images)
                total += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
                recorder.update(ids, logits=logits, labels=labels)  # 5
        recorder.end_epoch()  # 6
        mlflow.log_metric("test_loss", total / len(test.dataset), step=epoch + 1)

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
