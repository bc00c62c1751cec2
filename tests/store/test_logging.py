"""Parameters, metrics and datasets of a run."""

import mlflow
import pytest
from helpers import message

from actiontrack.errors import (
    ParameterError,
)


def test_parameters_are_logged_once_and_compared_afterwards(store, run_id):
    store.log_params(run_id, {"lr": 0.1, "model": "cnn"})
    store.log_params(run_id, {"lr": "0.10", "model": "cnn", "epochs": 3, "amp": True})
    store.log_params(run_id, {"amp": "true", "epochs": 3.0})
    assert store.get_run(run_id).params == {
        "lr": "0.1",
        "model": "cnn",
        "epochs": "3",
        "amp": "True",
    }


def test_a_parameter_that_the_shell_quoted_is_the_same(store, run_id, client):
    client.log_param(run_id, "dataset", "'folder:my data'")
    store.log_params(run_id, {"dataset": "folder:my data"})


@pytest.mark.parametrize(("before", "now"), [(0.1, 0.2), ("cnn", "resnet"), (True, False)])
def test_a_parameter_that_differs_is_refused(store, run_id, before, now):
    store.log_params(run_id, {"x": before})
    text = (
        f"x: must stay {str(before)!r}, as the run was started with, got {str(now)!r}. "
        "Start a new run, or pass the same value."
    )
    with pytest.raises(ParameterError, match=message(text)):
        store.log_params(run_id, {"x": now})


def test_a_dataset_is_logged_with_our_digest(store, run_id, client):
    store.log_dataset(run_id, name="digits", digest="ab" * 32, source="sklearn", context="test")
    [found] = client.get_run(run_id).inputs.dataset_inputs
    assert (found.dataset.name, found.dataset.digest) == ("digits", "ab" * 16)
    assert [(each.key, each.value) for each in found.tags] == [("mlflow.data.context", "test")]


def test_metrics_are_logged_at_their_step(store, run_id, client):
    store.log_metrics(run_id, {"a": 1.0, "b": float("nan")}, step=7)
    [point] = client.get_metric_history(run_id, "a")
    assert (point.value, point.step) == (1.0, 7)


def test_nothing_to_log_is_no_request(store, run_id, monkeypatch):
    store.log_params(run_id, {"x": 1})

    def refuse(*_arguments, **_options):
        raise AssertionError("a request that says nothing")

    monkeypatch.setattr(mlflow.MlflowClient, "log_batch", refuse)
    store.log_params(run_id, {"x": 1})
    store.set_tags(run_id, {})
    store.log_steps(run_id, [])
