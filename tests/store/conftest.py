"""Runs with records in a real store."""

import mlflow
import pytest

from actiontrack.testing import make_history, record_history


@pytest.fixture
def client(tracking_uri):
    return mlflow.MlflowClient(tracking_uri=tracking_uri)


@pytest.fixture
def recorded(store, new_run, spool):
    """A function that records a small history into a new run and returns the run's id."""

    def record(run_name="run", model="", params=None, **changes):
        run_id = new_run(run_name=run_name)
        store.log_params(run_id, params or {})
        record_history(make_history(**changes), run_id, store, spool, model)
        return run_id

    return record
