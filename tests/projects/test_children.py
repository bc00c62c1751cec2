"""Child runs: how many at once, in which order, and what happens if one fails."""

import os
from types import SimpleNamespace

import mlflow.projects
import pytest
from helpers import message

from actiontrack.errors import ActionTrackError
from projects import children
from projects.children import Child, run_children

PARENT = SimpleNamespace(experiment_id="7")


class Submitted:
    """In place of a run that MLflow has started: it ends after so many questions for its state."""

    def __init__(self, run_id, polls, succeeds):
        self.run_id, self._polls, self._succeeds = run_id, polls, succeeds
        self.cancelled = False

    def get_status(self):
        self._polls -= 1
        return "RUNNING" if self._polls >= 0 else "FINISHED"

    def wait(self):
        return self._succeeds

    def cancel(self):
        self.cancelled = True


class Store:
    """In place of the tracking server."""

    def __init__(self):
        self.tags = {}

    def set_tags(self, run_id, tags):
        self.tags[run_id] = dict(tags)


@pytest.fixture
def mlflow_runs(monkeypatch):
    """What was started so far; `polls` and `succeeds` of the runs to come, by their name."""
    log = SimpleNamespace(started=[], most=0, polls={}, fails=set(), environments=[])

    def run(uri, entry_point, *, run_name, **options):
        submitted = Submitted(
            f"id-{run_name}", log.polls.get(run_name, 0), run_name not in log.fails
        )
        log.started.append((entry_point, run_name, options, submitted))
        log.environments.append(os.environ.get("MLFLOW_EXPERIMENT_NAME"))
        active = [entry for *_, entry in log.started if entry._polls >= 0]
        log.most = max(log.most, len(active))
        return submitted

    monkeypatch.setattr(mlflow.projects, "run", run)
    monkeypatch.setattr(children, "_POLL_S", 0)
    return log


def child(name, **tags):
    return Child(entry_point="train", parameters={"seed": name}, name=name, tags=tags)


def test_ids_come_in_the_order_of_the_children_whichever_ends_first(mlflow_runs):
    mlflow_runs.polls = {"a": 5, "b": 1, "c": 1}
    ids = run_children(Store(), PARENT, [child("a"), child("b"), child("c")], parallel=2)
    assert ids == ["id-a", "id-b", "id-c"]


@pytest.mark.parametrize("parallel", [1, 2, 3])
def test_no_more_run_at_once_than_asked_for(mlflow_runs, parallel):
    mlflow_runs.polls = dict.fromkeys("abcde", 2)
    run_children(Store(), PARENT, [child(name) for name in "abcde"], parallel=parallel)
    assert mlflow_runs.most == parallel


def test_a_child_runs_in_this_environment_and_in_the_experiment_of_its_parent(mlflow_runs):
    run_children(Store(), PARENT, [child("a")])
    ((entry_point, _, options, _),) = mlflow_runs.started
    assert entry_point == "train"
    assert options["parameters"] == {"seed": "a"}
    assert (options["env_manager"], options["experiment_id"]) == ("local", "7")


def test_a_child_has_its_tags(mlflow_runs):
    store = Store()
    run_children(store, PARENT, [child("a", place="first"), child("b")])
    assert store.tags == {"id-a": {"place": "first"}, "id-b": {}}


def test_the_name_of_the_experiment_is_hidden_from_children_and_kept_here(mlflow_runs, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    run_children(Store(), PARENT, [child("a")])
    assert mlflow_runs.environments == [None]
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "mine"


def test_a_child_that_fails_stops_the_others(mlflow_runs):
    mlflow_runs.polls, mlflow_runs.fails = {"a": 3, "b": 0}, {"b"}
    text = "step train, run id-b, failed: see its own message above."
    with pytest.raises(ActionTrackError, match=message(text)):
        run_children(Store(), PARENT, [child("a"), child("b"), child("c")], parallel=2)
    assert [name for _, name, _, _ in mlflow_runs.started] == ["a", "b"]
    assert mlflow_runs.started[0][-1].cancelled


def test_an_interruption_stops_all_children(mlflow_runs, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    mlflow_runs.polls = {"a": 9, "b": 9}
    monkeypatch.setattr(children.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_children(Store(), PARENT, [child("a"), child("b")], parallel=2)
    assert all(submitted.cancelled for *_, submitted in mlflow_runs.started)
