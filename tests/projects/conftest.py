"""Trainings that several tests read, each done once, and processes that start in no time."""

import functools

import mlflow
import pytest
from processes import Process
from trained import Trained

from actiontrack.store import Store
from projects.tasks.classification import Classification
from projects.train import train


@pytest.fixture(scope="session")
def train_once(tracking_uri, tmp_path_factory):
    """A function that trains outside of any test; the same parameters give the same run."""
    folder, store = tmp_path_factory.mktemp("trained"), Store(tracking_uri)
    experiment = mlflow.MlflowClient(tracking_uri=tracking_uri).create_experiment(
        "trained once", artifact_location=(folder / "artifacts").as_uri()
    )

    @functools.cache
    def go(params, task_class=Classification):
        task = task_class()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
            patch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
            patch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
            patch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
            run, synced = train(params, store, task=task)
        assert synced
        return Trained(store, store.get_run(run.run_id), task)

    return go


@pytest.fixture
def start_training(warm_python, tmp_path):
    """A function that starts `python -m projects.train` with an environment of its own."""
    started = []

    def start(argv, **environment):
        started.append(Process(warm_python, argv, tmp_path, environment))
        return started[-1]

    yield start
    for process in started:
        process.close()
