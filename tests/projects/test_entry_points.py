"""The MLflow Project: its file agrees with the code, and it runs through a real server."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers import ROOT

from actiontrack import analysis
from actiontrack.store import RunQuery, Store
from projects import (
    compare,
    main,
    report,
    train,
    train_autoencoder,
    train_detection,
    train_segmentation,
)
from projects.experiments import curriculum, curves, ensemble, label_noise, model_bias
from projects.experiments.curriculum import CurriculumParams
from projects.experiments.curves import CurvesParams
from projects.experiments.ensemble import EnsembleParams
from projects.experiments.label_noise import LabelNoiseParams
from projects.experiments.model_bias import ModelBiasParams
from projects.params import CompareParams, DemoParams, TrainParams, defaults, run_main
from projects.params.autoencoder import AutoencoderParams
from projects.params.detection import DetectionParams
from projects.params.segmentation import SegmentationParams

MODELS = {
    "main": (main, DemoParams),
    "train": (train, TrainParams),
    "train_detection": (train_detection, DetectionParams),
    "train_segmentation": (train_segmentation, SegmentationParams),
    "train_autoencoder": (train_autoencoder, AutoencoderParams),
    "compare": (compare, CompareParams),
    "report": (report, CompareParams),
    "curves": (curves, CurvesParams),
    "model_bias": (model_bias, ModelBiasParams),
    "label_noise": (label_noise, LabelNoiseParams),
    "ensemble": (ensemble, EnsembleParams),
    "curriculum": (curriculum, CurriculumParams),
}
PROJECT = yaml.safe_load((ROOT / "MLproject").read_text())


def test_every_entry_point_is_known_here():
    assert list(PROJECT["entry_points"]) == list(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_point_declares_every_parameter_with_its_default(name):
    declared = PROJECT["entry_points"][name]["parameters"]
    assert {key: each["default"] for key, each in declared.items()} == defaults(MODELS[name][1])


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_point_passes_every_parameter_on(name):
    module, params = MODELS[name]
    command = PROJECT["entry_points"][name]["command"]
    assert command.startswith(f"python -m {module.__name__} ")
    assert re.findall(r"--(\w+) \{\1\}", command) == list(params.model_fields)


def test_the_project_names_its_conda_environment_and_no_other():
    assert PROJECT["conda_env"] == "conda.yaml"
    assert "python_env" not in PROJECT


def test_the_conda_environment_has_what_the_package_needs():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((ROOT / "conda.yaml").read_text())
    pip = environment["dependencies"][-1]["pip"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["train"] + extras["detection"][1:]
    assert sorted(pip) == sorted(each.partition("#")[0].strip() for each in wanted)


@pytest.mark.parametrize("module", [compare, main, report, train])
def test_an_unknown_parameter_is_refused_with_the_nearest_name(module, capsys):
    known = "epochs" if module in (main, train) else "bootstrap"
    code = run_main(module.main, [f"--{known[:-1]}x", "3"])
    assert code == 2
    assert f"Did you mean --{known}?" in capsys.readouterr().err


def mlflow_run(tracking_uri, *arguments, timeout=300, check=True):
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": tracking_uri,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(
        [sys.executable, "-m", "mlflow", "run", str(ROOT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


SMALL = ["-P", "epochs=2", "-P", "subset=200", "-P", "test_subset=60", "-P", "model=cnn3"]


def test_mlflow_run_train_records_through_a_real_server(server):
    done = mlflow_run(
        server.uri, "-e", "train", "--env-manager", "local", "--experiment-name", "e2e", *SMALL
    )
    store = Store(server.uri)
    (record,) = analysis.load_records(RunQuery(experiments=("e2e",)), store=store)
    assert record.run.status == "FINISHED"
    history = record.history()
    scores = analysis.load_scores(RunQuery(experiments=("e2e",)), store=store)
    np.testing.assert_allclose(
        scores["action"], history.losses.astype(float).sum(axis=0), rtol=1e-12
    )
    assert record.run.run_id in done.stdout


def test_mlflow_run_refuses_a_wrong_value_in_one_line_and_marks_the_run_failed(server):
    done = mlflow_run(
        server.uri, "-e", "train", "--env-manager", "local", "--experiment-name", "bad",
        "-P", "epochs=0", check=False,
    )  # fmt: skip
    assert done.returncode != 0
    expected = "error: epochs: must be an integer >= 1, got '0'. Leave it out for the default, 12."
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    client = Store(server.uri)._client
    experiment = client.get_experiment_by_name("bad")
    assert [each.info.status for each in client.search_runs([experiment.experiment_id])] == [
        "FAILED"
    ]


def test_the_demo_trains_compares_and_reports_in_nested_runs(tmp_path):
    uri = f"sqlite:///{tmp_path}/demo.db"
    client = Store(uri)._client
    client.create_experiment("demo", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow_run(
        uri, "--env-manager", "local", "--experiment-name", "demo", "-P", "epochs=2",
        "-P", "subset=200", "-P", "models=cnn3,vgg5", "-P", "bootstrap=20", "-P", "parallel=2",
    )  # fmt: skip
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    parents = [each for each in runs if "mlflow.parentRunId" not in each.data.tags]
    assert len(runs) == 7
    assert len(parents) == 1
    assert {each.info.status for each in runs} == {"FINISHED"}
    artifacts = tmp_path / "artifacts"
    assert len(list(artifacts.glob("*/artifacts/compare/report.html"))) == 1
    assert len(list(artifacts.glob("*/artifacts/compare/tables/correlation_table.parquet"))) == 1
    assert len(list(artifacts.glob("*/artifacts/report/report.html"))) == 1


@pytest.mark.long
def test_mlflow_run_train_builds_its_own_environment_with_uv(tmp_path):
    if shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None:
        pytest.skip("uv is not installed")
    uri = f"sqlite:///{tmp_path}/uv.db"
    done = mlflow_run(uri, "-e", "train", "--env-manager", "uv", *SMALL, timeout=1800)
    assert "Action per class" in done.stdout
