"""Two processes train and record together; the record is that of one process."""

import shutil

import numpy as np
import pytest
import torch
from helpers import free_port, steps_of
from processes import Process

from actiontrack.store import RunQuery, Store
from projects.distributed import ALONE, Group, process_group
from projects.params import TrainParams, validate


def test_alone_every_batch_is_whole():
    shares = ALONE.share(torch.arange(10), 4)
    assert [share.tolist() for share in shares] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(("size", "n_samples", "batch"), [(2, 11, 4), (3, 10, 4), (4, 3, 2)])
def test_a_group_covers_every_sample_in_shares_of_equal_size(size, n_samples, batch):
    order = torch.randperm(n_samples, generator=torch.Generator().manual_seed(0))
    shares = [Group(rank, size).share(order, batch) for rank in range(size)]
    assert {tuple(len(share) for share in mine) for mine in shares} == {
        tuple(len(share) for share in shares[0])
    }
    everything = torch.cat([share for mine in shares for share in mine])
    assert sorted(set(everything.tolist())) == list(range(n_samples))
    assert len(everything) == n_samples + (-n_samples % size)


def test_the_number_of_batches_is_that_of_the_shares():
    assert Group(0, 2).n_batches(11, 4) == 3


ARGUMENTS = ["--model", "cnn3", "--subset", "104", "--test_subset", "51", "--epochs", "2"]
ARGUMENTS += ["--record", "test,train", "--mode", "both", "--threads", "1", "--batch_size", "32"]
ARGUMENTS += ["--device", "cpu", "--report", "false"]


@pytest.fixture(scope="module")
def together(warm_python, empty_database, tmp_path_factory):
    """The store in which two processes have trained together, with the variables of torchrun."""
    folder = tmp_path_factory.mktemp("ddp")
    shutil.copy(empty_database, folder / "ddp.db")
    uri = f"sqlite:///{folder}/ddp.db"
    client = Store(uri)._client
    client.create_experiment("ddp", artifact_location=(folder / "artifacts").as_uri())
    environment = {
        "MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "ddp", "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1",
        "ACTIONTRACK_SPOOL": str(folder / "spool"),
    }  # fmt: skip
    ranks = [
        Process(warm_python, ARGUMENTS, folder, environment | {"RANK": str(rank)})
        for rank in range(2)
    ]
    for rank in ranks:
        code, printed = rank.wait()
        assert code == 0, printed
        rank.close()
    return Store(uri)


@pytest.fixture
def run(together):
    (run,) = together.find_runs(RunQuery(experiments=("ddp",)))
    return run


def test_two_processes_record_every_sample_of_the_evaluation_passes_once(together, run):
    record = together.open_record(run, "test-probe")
    assert run.status == "FINISHED"
    assert record.manifest.complete
    history = record.history()
    assert history.losses.shape == (2, 51)
    assert history.seen.all()
    assert [step.n_duplicates for step in steps_of(record)] == [1, 1]


def test_two_processes_record_every_training_sample_once(together, run):
    inline = together.open_record(run, "train-inline")
    assert [step.n_seen for step in steps_of(inline)] == [104, 104]
    assert np.isfinite(inline.history().losses).all()


def test_two_processes_record_the_losses_of_one(together, run, train_once):
    pairs = zip(ARGUMENTS[::2], ARGUMENTS[1::2], strict=True)
    alone = train_once(validate(TrainParams, {name[2:]: value for name, value in pairs}))
    for name in run.records:
        ours, theirs = together.open_record(run, name).history(), alone.record(name).history()
        np.testing.assert_allclose(ours.losses, theirs.losses, rtol=1e-3, atol=1e-4)


def test_without_the_variables_of_torchrun_a_process_trains_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with process_group() as group:
        assert (group.is_main, group.size, group.gather) == (True, 1, None)
