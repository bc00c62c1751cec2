"""Real data for the adapters: scikit-learn's digits, small enough to train on in milliseconds."""

import mlflow
import numpy as np
import pytest
from scipy import special
from sklearn.datasets import load_digits

from actiontrack.recorder import Recorder


@pytest.fixture(scope="session")
def digits():
    """(inputs, labels) of 120 digits, (120, 64) float32 and (120,) int64."""
    inputs, labels = load_digits(return_X_y=True)
    return (inputs[:120] / 16).astype(np.float32), labels[:120].astype(np.int64)


@pytest.fixture
def history(store):
    """A function that reads the history of a record."""
    return lambda run_id, name="test-probe": store.open_record(run_id, name).history()


@pytest.fixture
def complete(store):
    """A function that says whether a record is finished."""
    return lambda run_id, name="test-probe": store.open_record(run_id, name).manifest.complete


@pytest.fixture
def cross_entropy():
    """−ln softmax(logits)[label] by SciPy, in float64."""

    def losses(logits, labels):
        p = special.log_softmax(np.asarray(logits, np.float64), axis=1)
        return -p[np.arange(len(labels)), np.asarray(labels)]

    return losses


@pytest.fixture
def active_experiment(experiment, monkeypatch):
    """The test's experiment as MLflow's active one, for libraries that start a run themselves."""
    monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID")
    return experiment


@pytest.fixture
def recorder(store, run_id):
    """A function that opens a recorder of the test's run; all of them are closed at the end."""
    opened = []

    def open_recorder(split="test", **options):
        opened.append(Recorder(split, **{"store": store, "run_id": run_id} | options))
        return opened[-1]

    yield open_recorder
    for rec in opened:
        rec.close()


@pytest.fixture
def read(store, run_id):
    """A function that opens a record of the test's run."""
    return lambda name="test-probe": store.open_record(run_id, name)
