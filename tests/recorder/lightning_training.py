# ruff: noqa: ARG002 - the library's own signatures
"""A user's module and a short training with it, for the tests of the Lightning adapter."""

import functools

import lightning.pytorch as pl
import mlflow
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

N_TRAIN, N_TEST = 40, 20


@functools.cache
def digits():
    """Training and test data with pixels from 0 to 16, the same datasets each time."""
    inputs, labels = load_digits(return_X_y=True)
    inputs, labels = torch.tensor(inputs[:60]).float(), torch.tensor(labels[:60])
    train, test = slice(N_TRAIN), slice(N_TRAIN, N_TRAIN + N_TEST)
    return tuple(TensorDataset(inputs[rows], labels[rows]) for rows in (train, test))


class Net(pl.LightningModule):
    """Keeps the losses of single samples that its own validation step has computed."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(64, 10)
        self.passes = []

    def forward(self, inputs):
        return self.layer(inputs)

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self(batch[-2]), batch[-1])

    def on_validation_epoch_start(self):
        if not self.trainer.sanity_checking:
            self.passes.append([])

    def validation_step(self, batch, _, dataloader_idx=0):
        losses = nn.functional.cross_entropy(self(batch[-2]), batch[-1], reduction="none")
        if not self.trainer.sanity_checking:
            self.passes[-1] += losses.tolist()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.01)


def fit(
    run_id, module, *callbacks, data=None, val=None, datamodule=None, epochs=2, seed=0, **options
):
    """Train in the run, or in none where it is None; returns the trainer."""
    pl.seed_everything(seed, verbose=False)
    quiet = ("enable_progress_bar", "enable_model_summary", "enable_checkpointing", "logger")
    trainer = pl.Trainer(
        callbacks=list(callbacks),
        max_epochs=epochs,
        accelerator="cpu",
        **dict.fromkeys(quiet, False) | options,
    )
    if run_id is not None:
        mlflow.start_run(run_id=run_id)
    if datamodule is not None:
        trainer.fit(module, datamodule=datamodule)
    else:
        loader = data or DataLoader(digits()[0], 16, shuffle=True)
        trainer.fit(module, loader, DataLoader(digits()[1], 8) if val is None else val)
    return trainer
