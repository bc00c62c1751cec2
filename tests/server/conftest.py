"""Fixtures: the team's server, started once, whole again for every test."""

import os
import uuid

import mlflow
import pytest
from services import Team, missing

from actiontrack.store import Store

REQUIRED = bool(os.environ.get("CI")) or os.environ.get("ACTIONTRACK_SERVER") == "required"


def pytest_runtest_setup(item):
    """Where a service is absent its tests are skipped, or fail where they are required."""
    if item.get_closest_marker("server") and (lacking := missing()):
        reason = f"not installed: {', '.join(lacking)} (make team-server, pip install -e '.[dev]')"
        (pytest.fail if REQUIRED else pytest.skip)(reason)


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    team = Team(tmp_path_factory.mktemp("team"))
    yield team
    team.close()


@pytest.fixture
def team(running, monkeypatch):
    """The team's server; what a test has cut, slowed or killed is back for the next one."""
    for name, value in running.login.items():
        monkeypatch.setenv(name, value)
    yield running
    running.door.heal()
    running.door.open()
    if running.database.process is None:
        running.database.restart()
    if not running.server.alive:
        running.server.start()


@pytest.fixture
def few_retries(monkeypatch):
    """MLflow's client gives up within seconds; it would try for four minutes."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")


@pytest.fixture
def team_store(team):
    return Store(team.uri)


@pytest.fixture
def team_experiment(team):
    """Id of a new experiment on the team's server."""
    client = mlflow.MlflowClient(tracking_uri=team.uri)
    return client.create_experiment(f"test {uuid.uuid4().hex[:8]}")


@pytest.fixture
def team_run(team, team_experiment):
    """A function that starts a run in the test's experiment and returns its id."""
    client = mlflow.MlflowClient(tracking_uri=team.uri)
    return lambda **options: client.create_run(team_experiment, **options).info.run_id
