"""A RetinaNet finds digits. Run: python examples/torchvision_detector.py [epochs].

The digits are scikit-learn's, real ones; the pages are made up: noise with up to three digits each.
"""
# ruff: noqa: INP001, T201

import sys

import mlflow
import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import mobilenet_backbone

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.torchvision import DetectorProbe, RecordedDetector

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
torch.manual_seed(0)
rng = np.random.default_rng(0)
(digits, labels), magnified = load_digits(return_X_y=True), np.ones((4, 4)) / 22


def page(number: int) -> tuple[torch.Tensor, dict[str, object]]:
    """An image of 64 x 64 pixels and its target: boxes, labels from 1, and the id."""
    image, rows = rng.random((64, 64)) / 4, rng.choice(len(digits), number % 4, replace=False)
    corners = rng.permutation([(0, 0), (0, 32), (32, 0), (32, 32)])[: len(rows)]
    for row, (top, left) in zip(rows, corners, strict=True):
        image[top : top + 32, left : left + 32] += np.kron(digits[row].reshape(8, 8), magnified)
    boxes = torch.tensor([[x, y, x + 32, y + 32] for y, x in corners]).reshape(-1, 4).float()
    target = {"boxes": boxes, "labels": torch.tensor(labels[rows] + 1), "image_id": number}
    return torch.tensor(image).float().expand(3, -1, -1), target


train, test = ([page(number) for number in range(first, first + 24)] for first in (0, 24))
loader = DataLoader(train, 8, shuffle=True, collate_fn=lambda pages: [*zip(*pages, strict=True)])
layers = {"fpn": True, "norm_layer": torch.nn.BatchNorm2d}  # the default is frozen, and untrained
backbone = mobilenet_backbone(backbone_name="mobilenet_v3_small", weights=None, **layers)
anchors = AnchorGenerator(((16, 32), (32, 48), (48, 64)), ((1.0,),) * 3)
model = RetinaNet(backbone, num_classes=11, anchor_generator=anchors, min_size=64, max_size=64)
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
probe = DetectorProbe(model, test, class_names=["background", *"0123456789"])  # 1
track = RecordedDetector(model, boxes=False)  # 2
with mlflow.start_run() as run, probe, track:
    for _ in range(epochs):
        model.train()
        for images, targets in loader:
            losses = track(images, targets)  # 3, in place of model(images, targets)
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        track.end_epoch()
        probe.after_epoch()

scores = load_scores(RunQuery(run_ids=[run.info.run_id], record="test-probe"))
print(hardest(scores, 5)[["sample_id", "n_steps", "action"]].to_string(index=False))
