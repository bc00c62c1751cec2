"""Fixtures: a store with one run of each kind, and our pages on it without a server."""

import contextlib
import shutil

import flask
import mlflow
import pytest
from records import everything

from actiontrack.store import Store
from actiontrack.web.app import install
from actiontrack.web.permissions import Everybody
from actiontrack.web.records import Records


@pytest.fixture(scope="session")
def recorded(tmp_path_factory, empty_database):
    """URI of a SQLite store and name -> run id of its runs, see `records.everything`."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copy(empty_database, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):  # MLflow makes ./mlruns
        patch.setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        before = mlflow.get_tracking_uri()
        runs = everything(uri)
        mlflow.set_tracking_uri(before)
    return uri, runs


@pytest.fixture(scope="session")
def runs(recorded):
    return recorded[1]


@pytest.fixture(scope="session")
def records(recorded):
    """The recorded store as a server reads it."""
    return Records(Store(recorded[0]))


@pytest.fixture(scope="session")
def make_client():
    """A function that puts our pages on a store and returns a Flask client."""

    def make(store, permissions=None, **options):
        app = flask.Flask("pages")
        app.config["TESTING"] = True
        install(app, permissions or Everybody(), store=store, key=b"secret", **options)
        return app.test_client()

    return make


@pytest.fixture(scope="session")
def site(recorded, make_client):
    """A Flask client on the recorded store; its cookies are shared, so don't rely on none."""
    return make_client(Store(recorded[0]))


@pytest.fixture
def get(site):
    """A function that asks the API for JSON: path below /actiontrack/api/, then parameters."""

    def ask(path, status=200, **parameters):
        answer = site.get(f"/actiontrack/api/{path}", query_string=parameters)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.get_json()

    return ask
