# ruff: noqa: ARG002 - the libraries' own signatures
"""Trainings that end, resume or restart inside an epoch, recorded as they go."""

import lightning as L  # noqa: N812 - Lightning's own habit
import mlflow
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import Trainer, TrainerCallback, TrainingArguments

from actiontrack.errors import RecordingError
from actiontrack.recorder.lightning import ActionTrackCallback as LightningCallback
from actiontrack.recorder.torch import IndexedDataset
from actiontrack.recorder.transformers import ActionTrackCallback, ActionTrackTrainerMixin
from actiontrack.recorder.whole_epoch import number_of_samples
from actiontrack.store import Store

N = 20
INPUTS = torch.randn(N, 4, generator=torch.Generator().manual_seed(0))
LABELS = (INPUTS[:, 0] > 0).long()
ROWS = [{"x": INPUTS[row], "labels": LABELS[row], "sample_id": row} for row in range(N)]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 2)

    def forward(self, x, labels=None):
        logits = self.layer(x)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


class TrackedTrainer(ActionTrackTrainerMixin, Trainer):
    """Runs out of memory once, where that is asked for."""

    fails_at = None

    def compute_loss(self, *arguments, **options):
        if self.fails_at is not None and self.state.global_step == self.fails_at:
            self.fails_at = None
            raise RuntimeError("CUDA out of memory.")
        return super().compute_loss(*arguments, **options)


class Stop(TrainerCallback):
    """Ends the process, so to say, after the second checkpoint."""

    def on_save(self, args, state, control, **kwargs):
        if state.global_step == 6:
            raise KeyboardInterrupt


@pytest.fixture
def trainer(run_id, tmp_path):
    """A function that makes a Trainer of four steps an epoch in the active run."""
    mlflow.start_run(run_id=run_id)

    def make(*callbacks, resume=False, **options):
        settings = {
            "output_dir": str(tmp_path / "out"),
            "report_to": "none",
            "remove_unused_columns": False,
            "use_cpu": True,
            "save_strategy": "no",
            "disable_tqdm": True,
            "per_device_train_batch_size": 5,
            "dataloader_pin_memory": False,
        }
        track = ActionTrackCallback(split="train", mode="inline", resume=resume)
        arguments = TrainingArguments(**settings | options)
        return TrackedTrainer(
            model=Model(), args=arguments, train_dataset=ROWS, callbacks=[track, *callbacks]
        )

    return make


@pytest.fixture
def steps(history, run_id):
    """A function that says which steps are recorded, all of them of all samples."""

    def read():
        recorded = history(run_id, "train-inline")
        assert recorded.n_samples == N
        assert np.isfinite(recorded.losses).all()
        return recorded.steps.tolist()

    return read


def test_a_training_that_ends_inside_an_epoch_keeps_the_whole_ones(trainer, steps):
    with pytest.warns(
        UserWarning, match=r"^epoch 3 of record train-inline is partial, .* 10 of 20"
    ):
        trainer(max_steps=10).train()
    assert steps() == [1, 2]


def test_a_training_that_ends_inside_its_first_epoch_says_what_it_holds(trainer, history, run_id):
    with (
        pytest.warns(UserWarning, match=r"^record train-inline holds 15 of 20 samples"),
        pytest.warns(UserWarning, match="is partial"),
    ):
        trainer(max_steps=3).train()
    assert history(run_id, "train-inline").n_samples == 15


def test_a_resume_inside_an_epoch_costs_that_epoch_alone(trainer, steps):
    saving = {"save_strategy": "steps", "save_steps": 3, "num_train_epochs": 3}
    with pytest.raises(KeyboardInterrupt):
        trainer(Stop(), **saving).train()
    with pytest.warns(UserWarning, match=r"^epoch 2 of record train-inline is partial"):
        trainer(resume=True, **saving).train(resume_from_checkpoint=True)
    assert steps() == [1, 3]


@pytest.mark.parametrize("fails_at", [2, 6])
def test_a_restart_with_smaller_batches_goes_on_in_the_same_record(trainer, steps, fails_at):
    training = trainer(auto_find_batch_size=True, num_train_epochs=2)
    training.fails_at = fails_at
    training.train()
    assert steps() == [1, 2]


class Module(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = Model()

    def training_step(self, batch, index):
        return self.model(batch[1], batch[2])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_lightning_that_ends_inside_an_epoch_keeps_the_whole_ones(run_id, steps, tmp_path):
    mlflow.start_run(run_id=run_id)
    track = LightningCallback(split="train", mode="inline")
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    fit = L.Trainer(
        accelerator="cpu",
        max_steps=10,
        callbacks=[track],
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **quiet,
    ).fit
    loader = DataLoader(IndexedDataset(TensorDataset(INPUTS, LABELS)), 5, shuffle=True)
    with pytest.warns(
        UserWarning, match=r"^epoch 3 of record train-inline is partial, .* 10 of 20"
    ):
        fit(Module(), loader)
    assert steps() == [1, 2]


def test_a_loader_that_does_not_say_has_no_number_of_samples():
    assert number_of_samples(DataLoader(ROWS)) == N
    assert number_of_samples(iter([])) is None


@pytest.mark.parametrize("shuffle", [True, False])
def test_lightning_on_half_of_the_batches_is_refused_where_they_are_shuffled(
    run_id, shuffle, tmp_path
):
    """Each epoch would see other samples; without shuffling they are the same ten."""
    mlflow.start_run(run_id=run_id)
    trainer = L.Trainer(
        limit_train_batches=0.5, max_epochs=2, accelerator="cpu", logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[LightningCallback(split="train", mode="inline")], default_root_dir=tmp_path,
    )  # fmt: skip
    loader = DataLoader(IndexedDataset(TensorDataset(INPUTS, LABELS)), 5, shuffle=shuffle)
    if shuffle:
        with pytest.raises(RecordingError, match=r"^the epochs of this training see 2 of 4 shuff"):
            trainer.fit(Module(), loader)
        return
    trainer.fit(Module(), loader)
    history = Store(mlflow.get_tracking_uri()).open_record(run_id, "train-inline").history()
    assert history.losses.shape == (2, 10)
