"""A training process that is told to stop, and one that is killed."""

import shutil
import signal

import numpy as np
import pytest
from helpers import wait_until

from actiontrack.store import Store

ARGUMENTS = ["--model", "cnn3", "--subset", "100", "--test_subset", "50", "--threads", "1"]
ARGUMENTS += ["--device", "cpu", "--report", "false"]


@pytest.fixture
def store_uri(tmp_path, empty_database):
    shutil.copy(empty_database, tmp_path / "run.db")
    uri = f"sqlite:///{tmp_path}/run.db"
    client = Store(uri)._client
    client.create_experiment("0th", artifact_location=(tmp_path / "artifacts").as_uri())
    return uri


@pytest.fixture
def start(start_training, store_uri, spool):
    """A function that starts a training with further words on its command line."""
    environment = {"MLFLOW_TRACKING_URI": store_uri, "ACTIONTRACK_SPOOL": str(spool)}
    environment["MLFLOW_EXPERIMENT_NAME"] = "0th"
    return lambda *words: start_training([*ARGUMENTS, *words], **environment)


def n_epochs(spool):
    """How many epochs are recorded: their aggregates are noted once they are in the log."""
    return sum(path.read_text().count("\n") for path in spool.glob("*/test-probe/metrics.jsonl"))


def test_sigterm_marks_the_run_killed_after_its_epochs_are_uploaded(
    start, store_uri, spool, tmp_path
):
    process = start("--epochs", "100000")
    wait_until(lambda: n_epochs(spool) >= 4, 120)
    process.terminate()
    code, printed = process.wait(60)
    assert code == 128 + signal.SIGTERM
    assert printed.rstrip().endswith("terminated: what was recorded is safe")
    store = Store(store_uri)
    (run_id,) = [folder.name for folder in (tmp_path / "artifacts").iterdir()]
    run = store.get_run(run_id)
    assert run.status == "KILLED"
    record = store.open_record(run)
    assert not record.manifest.complete
    history = record.history()
    assert history.n_steps >= 4
    assert np.isfinite(history.losses).all()
    assert not list(spool.glob("*/*/manifest.json"))


def test_a_killed_training_resumes_in_the_same_run(start, store_uri, spool, tmp_path):
    options = ["--epochs", "20", "--checkpoint", str(tmp_path / "last.pt")]
    process = start(*options)
    wait_until(lambda: n_epochs(spool) >= 2, 120)
    process.kill()
    (run_id,) = [folder.parent.name for folder in spool.glob("*/test-probe")]
    code, printed = start(*options, "--run_id", run_id).wait()
    assert code == 0, printed
    record = Store(store_uri).open_record(run_id)
    assert record.run.status == "FINISHED"
    assert record.manifest.complete
    assert record.history().steps.tolist() == list(range(1, 21))
