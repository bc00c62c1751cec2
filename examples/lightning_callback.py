"""A Lightning module, unchanged. Run: python examples/lightning_callback.py [epochs]."""
# ruff: noqa: INP001, T201

import sys
from typing import Any

import lightning
import mlflow
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.lightning import ActionTrackCallback  # 1


class Classifier(lightning.LightningModule):
    """A small network; it knows nothing of actiontrack."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, inputs: torch.Tensor) -> Any:
        """Logits, (batch, 10)."""
        return self.layers(inputs)

    def training_step(self, batch: Any, _: int) -> torch.Tensor:
        """Mean cross-entropy."""
        inputs, labels = batch
        return nn.functional.cross_entropy(self(inputs), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), 0.003)


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
lightning.seed_everything(0)
inputs, labels = load_digits(return_X_y=True)
digits = TensorDataset(torch.tensor(inputs / 16).float(), torch.tensor(labels))
train, test = random_split(digits, [1200, 597])

track = ActionTrackCallback(test, class_names=range(10))  # 2
trainer = lightning.Trainer(max_epochs=epochs, callbacks=[track], logger=False)  # 3
with mlflow.start_run() as run:  # or logger=MLFlowLogger(): the callback follows its run
    trainer.fit(Classifier(), DataLoader(train, 64, shuffle=True))

scores = load_scores(RunQuery(run_ids=[run.info.run_id]))
print(hardest(scores, 5)[["sample_id", "class", "action", "forgetting"]].to_string(index=False))
