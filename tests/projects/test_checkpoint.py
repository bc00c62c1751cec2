"""A training that was interrupted and resumed gives what an uninterrupted one gives."""

import mlflow
import pytest
import torch
from helpers import message
from torch import nn

from actiontrack.errors import DataError, ParameterError, StoreError
from projects import train as training
from projects.checkpoint import Checkpoint
from projects.loop import look_ahead, make_optimizer
from projects.params import TrainParams, validate

SMALL = {"model": "cnn_keras", "subset": 100, "test_subset": 40, "augment": "flip_crop"}
SMALL |= {"epochs": 3, "batch_size": 50, "threads": 1, "device": "cpu", "report": False}


def digests(record):
    """Of the files of losses, in their order, of the scores and the samples."""
    files = record.manifest.files
    names = [*(block.path for block in record.manifest.blocks), "scores.parquet", "samples.parquet"]
    return [files[name].digest for name in names]


class InterruptedTrainingError(Exception):
    """Stands for a crash after a given number of epochs."""


def crash_after(monkeypatch, epoch):
    real = Checkpoint.save

    def save(self, done, *state):
        if done > epoch:
            raise InterruptedTrainingError
        real(self, done, *state)

    monkeypatch.setattr(Checkpoint, "save", save)


@pytest.fixture
def resume(store, experiment, new_run, tmp_path):
    """A function that starts a training, or resumes it when it is called again."""
    mlflow.set_experiment(experiment)
    options = {"run_id": new_run(), "checkpoint": str(tmp_path / "last.pt")}

    def go(**values):
        training.train(validate(TrainParams, SMALL | options | values), store)
        return store.open_record(options["run_id"])

    go.run_id = options["run_id"]
    return go


def test_a_resumed_training_equals_an_uninterrupted_one_byte_for_byte(
    train_once, resume, store, monkeypatch
):
    with monkeypatch.context() as patch:
        # The second epoch is recorded and its checkpoint is not: it is trained and recorded again.
        crash_after(patch, 1)
        with pytest.raises(InterruptedTrainingError):
            resume()
    assert store.get_run(resume.run_id).status == "FAILED"
    assert store.open_record(resume.run_id).manifest.n_steps == 2
    resumed = resume()
    assert store.get_run(resume.run_id).status == "FINISHED"
    assert digests(resumed) == digests(train_once(validate(TrainParams, SMALL)).record())


def test_other_parameters_are_refused_on_resume(resume):
    resume(model="cnn3", epochs=1)
    text = (
        "batch_size: must stay '50', as the run was started with, got '64'. "
        "Start a new run, or pass the same value."
    )
    with pytest.raises(ParameterError, match=message(text)):
        resume(model="cnn3", epochs=1, batch_size=64)


@pytest.fixture
def state():
    """Model, optimiser and generator of a training."""
    model = nn.Linear(1, 1)
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), torch.Generator()


def test_what_is_saved_is_what_is_loaded(tmp_path, state):
    model, optimizer, generator = state
    model(torch.ones(1, 1)).backward()
    optimizer.step()
    Checkpoint(tmp_path / "new" / "last.pt").save(7, *state)
    expected = [weights.clone() for weights in model.parameters()]
    drawn = torch.rand(3, generator=generator), torch.rand(3)
    optimizer.step()
    assert Checkpoint(tmp_path / "new" / "last.pt").load(*state) == 7
    assert all(map(torch.equal, model.parameters(), expected))
    assert torch.equal(torch.rand(3, generator=generator), drawn[0])
    assert torch.equal(torch.rand(3), drawn[1])
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["last.pt"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, state):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "last.pt"
    with pytest.raises(StoreError, match=rf"^cannot write the checkpoint {path}: "):
        Checkpoint(path).save(1, *state)


def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path, state):
    path = tmp_path / "last.pt"
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(DataError, match=r"is damaged or belongs to another model: .* Delete it"):
        Checkpoint(path).load(*state)


def test_the_checkpoint_of_another_model_is_named_with_the_remedy(tmp_path, state):
    path = tmp_path / "last.pt"
    Checkpoint(path).save(1, *state)
    with pytest.raises(DataError, match=r"is damaged or belongs to another model: .* Delete it"):
        Checkpoint(path).load(nn.Linear(2, 2), *state[1:])


def test_without_a_file_no_epoch_is_done(tmp_path, state):
    assert Checkpoint(tmp_path / "none.pt").load(*state) == 0


def test_the_means_of_the_weights_are_part_of_a_checkpoint(tmp_path):
    chosen = validate(TrainParams, {"optimizer": "sgd", "lookahead": 1, "epochs": 4})
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(model, chosen)

    def update(model, optimizer, done):
        optimizer.zero_grad()
        (model(torch.ones(4, 3)) ** 2).mean().backward()
        optimizer.step()
        look_ahead(optimizer, chosen, done=done, per_epoch=1)

    update(model, optimizer, 1)
    update(model, optimizer, 2)
    file = Checkpoint(tmp_path / "last.pt")
    file.save(2, model, optimizer, torch.Generator())
    update(model, optimizer, 3)
    resumed = nn.Linear(3, 2)
    other = make_optimizer(resumed, chosen)
    assert file.load(resumed, other, torch.Generator()) == 2
    update(resumed, other, 3)
    torch.testing.assert_close(resumed.weight, model.weight, rtol=0, atol=0)
