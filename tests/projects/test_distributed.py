"""Two processes train and record together; the record is that of one process."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from helpers import ROOT

from actiontrack import analysis
from actiontrack.store import RunQuery, Store
from projects.distributed import ALONE, Group


def test_alone_every_batch_is_whole():
    shares = ALONE.share(torch.arange(10), 4)
    assert [each.tolist() for each in shares] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(("size", "n_samples", "batch"), [(2, 11, 4), (3, 10, 4), (4, 3, 2)])
def test_a_group_covers_every_sample_in_shares_of_equal_size(size, n_samples, batch):
    order = torch.randperm(n_samples, generator=torch.Generator().manual_seed(0))
    shares = [Group(rank, size).share(order, batch) for rank in range(size)]
    assert {tuple(len(each) for each in mine) for mine in shares} == {
        tuple(len(each) for each in shares[0])
    }
    everything = torch.cat([each for mine in shares for each in mine])
    assert sorted(set(everything.tolist())) == list(range(n_samples))
    assert len(everything) == n_samples + (-n_samples % size)


def test_the_number_of_batches_is_that_of_the_shares():
    assert Group(0, 2).n_batches(11, 4) == 3


ARGUMENTS = ["--model", "cnn3", "--subset", "203", "--test_subset", "101", "--epochs", "2"]
ARGUMENTS += ["--record", "test,train", "--mode", "both", "--threads", "1"]


def launch(uri, *command):
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "OMP_NUM_THREADS": "1"}
    environment["MLFLOW_EXPERIMENT_NAME"] = "ddp"
    done = subprocess.run(
        [sys.executable, "-m", *command, "projects.train", *ARGUMENTS],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


def test_torchrun_with_two_processes_records_every_sample_once(tmp_path):
    uri = f"sqlite:///{tmp_path}/ddp.db"
    client = Store(uri)._client
    client.create_experiment("ddp", artifact_location=(tmp_path / "artifacts").as_uri())
    launch(uri, "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m")
    store = Store(uri)
    (record,) = analysis.load_records(
        RunQuery(experiments=("ddp",), record="test-probe"), store=store
    )
    assert record.run.status == "FINISHED"
    assert record.manifest.complete
    history = record.history()
    assert history.losses.shape == (2, 101)
    assert history.seen.all()
    assert [each.n_duplicates for each in record.manifest.steps] == [1, 1]
    inline = store.open_record(record.run, "train-inline")
    assert [each.n_seen for each in inline.manifest.steps] == [203, 203]
    assert np.isfinite(inline.history().losses).all()
