"""What MLflow does with the package by its own means: evaluate, tag, download."""

import importlib.metadata

import matplotlib.pyplot as plt
import mlflow
import numpy as np
import pandas as pd
import pytest
from scipy import special

import actiontrack
from actiontrack import analysis
from actiontrack.errors import ParameterError
from actiontrack.plugins.context import ActionRunContext
from actiontrack.plugins.evaluator import ActionEvaluator
from actiontrack.testing import make_history, record_history

RNG = np.random.default_rng(0)
INPUTS = pd.DataFrame(RNG.normal(size=(30, 3)), columns=list("abc"))
LABELS = np.array(["cat", "dog", "ant"])[RNG.integers(3, size=30)]
DATA = INPUTS.assign(label=LABELS)
WEIGHTS = RNG.normal(size=(3, 3))


def model(scale):
    return lambda inputs: special.softmax(scale * inputs.to_numpy() @ WEIGHTS, axis=1)


def evaluate(predict, data=DATA, model_type="classifier", **config):
    return mlflow.models.evaluate(
        predict, data, targets="label", model_type=model_type, evaluators="actiontrack",
        evaluator_config=config or None,
    )  # fmt: skip


@pytest.fixture
def in_experiment(experiment):
    mlflow.set_experiment(experiment)


def test_mlflow_finds_the_evaluator_and_the_context_by_their_entry_points():
    found = {
        group: importlib.metadata.entry_points(group=group)["actiontrack"].load()
        for group in ("mlflow.model_evaluator", "mlflow.run_context_provider")
    }
    assert found == {
        "mlflow.model_evaluator": ActionEvaluator,
        "mlflow.run_context_provider": ActionRunContext,
    }


@pytest.mark.usefixtures("in_experiment")
def test_every_evaluation_of_a_run_is_a_step_of_its_record(store):
    with mlflow.start_run() as run:
        results = [evaluate(model(scale)) for scale in (0.5, 1.0, 2.0)]
    record = store.open_record(run.info.run_id)
    classes = np.unique(LABELS)
    codes = np.searchsorted(classes, LABELS)
    losses = [-np.log(model(s)(INPUTS)[np.arange(30), codes]) for s in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(record.history().losses, losses, rtol=1e-5)
    assert record.manifest.class_names == tuple(classes)
    total = np.sum(losses, axis=0)
    assert results[-1].metrics["actiontrack/mean_action"] == pytest.approx(total.mean(), rel=1e-5)
    assert results[-1].metrics["actiontrack/mean_loss"] == pytest.approx(losses[2].mean(), rel=1e-5)
    frame = results[-1].artifacts["actiontrack_scores"].content
    np.testing.assert_allclose(frame["action"], total, rtol=1e-5)


@pytest.mark.usefixtures("in_experiment")
def test_a_regression_is_recorded_by_its_squared_error(store):
    data = INPUTS.assign(label=INPUTS["a"] * 2)
    with mlflow.start_run() as run:
        evaluate(lambda x: x["a"].to_numpy(), data, "regressor", split="val", ids=np.arange(30) * 7)
    record = store.open_record(run.info.run_id)
    assert (record.name, record.manifest.loss_name) == ("val-probe", "squared_error")
    assert record.samples.sample_ids.tolist() == list(range(0, 210, 7))
    np.testing.assert_allclose(record.history().losses[0], INPUTS["a"] ** 2, rtol=1e-5)


def just_labels(inputs):
    return LABELS[: len(inputs)]


@pytest.mark.usefixtures("in_experiment")
def test_an_evaluation_that_names_no_evaluator_is_left_alone(store):
    options = {"targets": "label", "model_type": "classifier"}
    with mlflow.start_run() as run:
        result = mlflow.models.evaluate(just_labels, DATA, **options)
    plt.close("all")  # what MLflow's own evaluator leaves
    assert result.metrics["accuracy_score"] == 1.0
    assert store.get_run(run.info.run_id).records == ()


@pytest.mark.usefixtures("in_experiment")
def test_an_evaluator_in_a_list_of_names_records(store):
    options = {"targets": "label", "model_type": "regressor"}
    data = INPUTS.assign(label=INPUTS["a"])
    with mlflow.start_run() as run:
        mlflow.models.evaluate(
            lambda x: x["a"].to_numpy(), data, evaluators=["default", "actiontrack"], **options
        )
    plt.close("all")  # what MLflow's own evaluator leaves
    assert store.get_run(run.info.run_id).records == ("test-probe",)


REFUSED = {
    "labels instead of probabilities": (just_labels, {}, "model output: must be probabilities"),
    "an unknown option": (model(1), {"spilt": "x"}, "evaluator_config: must hold only"),
    "a label without a column": (
        model(1), {"class_labels": ["cat", "dog", "cow"]}, "class_labels: must hold every label"
    ),
}  # fmt: skip


@pytest.mark.usefixtures("in_experiment")
@pytest.mark.parametrize(("predict", "config", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_can_not_be_recorded_is_refused_with_the_remedy(predict, config, reason):
    with mlflow.start_run(), pytest.raises(ParameterError, match=reason):
        evaluate(predict, **config)


@pytest.mark.usefixtures("in_experiment")
def test_a_regression_of_several_outputs_is_refused():
    data = INPUTS.assign(label=INPUTS["a"])
    reason = r"model output: must be one number per row, shape \(30,\), got \(30, 2\)"
    with mlflow.start_run(), pytest.raises(ParameterError, match=reason):
        evaluate(lambda x: x[["a", "b"]].to_numpy(), data, "regressor")


@pytest.mark.usefixtures("in_experiment")
def test_runs_of_a_recording_process_carry_version_and_model(monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_MODEL", "my-net")
    with mlflow.start_run() as run:
        pass
    tags = mlflow.get_run(run.info.run_id).data.tags
    assert tags["actiontrack.version"] == actiontrack.__version__
    assert tags["actiontrack.model"] == "my-net"


def test_a_process_that_does_not_record_is_not_tagged(in_subprocess):
    code = """
from mlflow.tracking.context.registry import resolve_tags
print(sorted(each for each in resolve_tags() if each.startswith("actiontrack")))
"""
    assert in_subprocess(code).stdout == "[]\n"


def test_plain_mlflow_downloads_scores_that_pandas_reads(new_run, store, spool, tmp_path):
    run_id = new_run()
    history = make_history(3, 20, 3)
    record_history(history, run_id, store, spool)
    path = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="actiontrack/test-probe/scores.parquet", dst_path=str(tmp_path)
    )
    frame = pd.read_parquet(path)
    np.testing.assert_allclose(frame["action"], history.losses.astype(float).sum(axis=0))
    ours = analysis.score_frame([store.open_record(run_id)])
    assert frame["sample_id"].tolist() == ours["sample_id"].tolist()


def test_plain_mlflow_downloads_scores_through_a_server(server, tmp_path, spool):
    from helpers import remote_run

    from actiontrack.store import Store

    run_id = remote_run(server)
    record_history(make_history(3, 20, 3), run_id, Store(server.uri), spool)
    path = mlflow.artifacts.download_artifacts(
        f"runs:/{run_id}/actiontrack/test-probe/scores.parquet",
        dst_path=str(tmp_path),
        tracking_uri=server.uri,
    )
    assert len(pd.read_parquet(path)) == 20
