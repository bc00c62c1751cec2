"""A training process that is told to stop, and one whose server goes away."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT, wait_until

from actiontrack.store import Store

ARGUMENTS = ["--model", "cnn3", "--subset", "300", "--test_subset", "100", "--threads", "1"]


def start(uri, spool, *more):
    return subprocess.Popen(
        [sys.executable, "-m", "projects.train", *ARGUMENTS, *more],
        env=os.environ | {"MLFLOW_TRACKING_URI": uri, "ACTIONTRACK_SPOOL": str(spool)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def store_uri(tmp_path):
    uri = f"sqlite:///{tmp_path}/run.db"
    client = Store(uri)._client
    client.create_experiment("0th", artifact_location=(tmp_path / "artifacts").as_uri())
    return uri


def test_sigterm_marks_the_run_killed_after_its_epochs_are_uploaded(
    store_uri, tmp_path, monkeypatch
):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "0th")
    spool = tmp_path / "spool"
    process = start(store_uri, spool, "--epochs", "100000")
    try:
        # The signal may come between the fourth block and the manifest: three epochs are certain.
        wait_until(lambda: len(list(spool.glob("*/test-probe/blocks/*.parquet"))) >= 4, 120)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 143
    assert stderr.rstrip().endswith("terminated: what was recorded is safe")
    store = Store(store_uri)
    (run_id,) = [each.name for each in (tmp_path / "artifacts").iterdir()]
    run = store.get_run(run_id)
    assert run.status == "KILLED"
    record = store.open_record(run)
    assert not record.manifest.complete
    history = record.history()
    assert history.n_steps >= 3
    assert np.isfinite(history.losses).all()
    assert not list(spool.glob("*/*/manifest.json"))


def test_a_killed_training_resumes_in_the_same_run(store_uri, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "0th")
    spool, checkpoint = tmp_path / "spool", tmp_path / "last.pt"
    options = ["--epochs", "40", "--checkpoint", str(checkpoint)]
    process = start(store_uri, spool, *options)
    try:
        wait_until(lambda: len(list(spool.glob("*/test-probe/blocks/*.parquet"))) >= 2, 120)
        process.kill()
        process.communicate(timeout=60)
    finally:
        process.kill()
    (run_id,) = [each.parent.name for each in spool.glob("*/test-probe")]
    process = start(store_uri, spool, *options, "--run_id", run_id)
    _, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    record = Store(store_uri).open_record(run_id)
    assert record.run.status == "FINISHED"
    assert record.manifest.complete
    assert record.history().steps.tolist() == list(range(1, 41))
