"""A training that was interrupted and resumed gives what an uninterrupted one gives."""

import re

import pytest
import torch
from torch import nn

from actiontrack.errors import DataError
from projects import train as training
from projects.checkpoint import Checkpoint
from projects.params import TrainParams, validate

SMALL = {"model": "cnn3", "subset": 200, "test_subset": 60, "augment": "flip_crop", "epochs": 4}


def digests(record):
    return {
        name: each.sha256
        for name, each in record.manifest.files.items()
        if name.startswith(("blocks", "scores", "samples"))
    }


@pytest.fixture
def train(store, experiment):
    import mlflow

    mlflow.set_experiment(experiment)

    def go(**values):
        run, _ = training.train(validate(TrainParams, SMALL | values), store)
        return store.open_record(run.run_id)

    return go


class InterruptedTrainingError(Exception):
    """Stands for a crash after a given number of epochs."""


def crash_after(monkeypatch, epoch):
    real = Checkpoint.save

    def save(self, done, *state):
        if done > epoch:
            raise InterruptedTrainingError
        real(self, done, *state)

    monkeypatch.setattr(Checkpoint, "save", save)


def test_a_resumed_training_equals_an_uninterrupted_one_byte_for_byte(
    train, store, tmp_path, monkeypatch, new_run
):
    whole = train(model="cnn_keras")
    run_id, path = new_run(), str(tmp_path / "last.pt")
    options = {"model": "cnn_keras", "run_id": run_id, "checkpoint": path}
    with monkeypatch.context() as patch:
        # The third epoch is recorded and its checkpoint is not: it is trained and recorded again.
        crash_after(patch, 2)
        with pytest.raises(InterruptedTrainingError):
            train(**options)
    assert store.get_run(run_id).status == "FAILED"
    assert store.open_record(run_id).manifest.n_steps == 3
    resumed = train(**options)
    assert store.get_run(run_id).status == "FINISHED"
    assert digests(resumed) == digests(whole)


def test_other_parameters_are_refused_on_resume(train, tmp_path, new_run):
    from actiontrack.errors import ParameterError

    options = {"run_id": new_run(), "checkpoint": str(tmp_path / "last.pt")}
    train(**options)
    message = (
        "batch_size: must stay '128', as the run was started with, got '64'. "
        "Start a new run, or pass the same value."
    )
    with pytest.raises(ParameterError, match=re.escape(message)):
        train(batch_size=64, **options)


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(b"not a checkpoint")
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(DataError, match=r"is damaged or belongs to another model: .* Delete it"):
        Checkpoint(path).load(model, optimizer, torch.Generator())


def test_without_a_file_nothing_is_done_yet(tmp_path):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert Checkpoint(tmp_path / "none.pt").load(model, optimizer, torch.Generator()) == 0
