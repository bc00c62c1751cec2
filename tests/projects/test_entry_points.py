"""The MLflow Project: its file agrees with the code, and it runs through a real server."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import mlflow.projects
import numpy as np
import pytest
import yaml
from helpers import ROOT
from mlflow.exceptions import ExecutionException

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
from projects.experiments.label_noise_params import LabelNoiseParams
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
    assert {key: parameter["default"] for key, parameter in declared.items()} == defaults(
        MODELS[name][1]
    )


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
    needed = project["dependencies"] + extras["train"] + extras["detection"][1:]
    assert sorted(pip) == sorted({package.partition("#")[0].strip() for package in needed})


@pytest.mark.parametrize("module", [compare, main, report, train])
def test_an_unknown_parameter_is_refused_with_the_nearest_name(module, capsys):
    name = "epochs" if module in (main, train) else "bootstrap"
    code = run_main(module.main, [f"--{name[:-1]}x", "3"])
    assert code == 2
    assert f"Did you mean --{name}?" in capsys.readouterr().err


def mlflow_run(tracking_uri, *arguments, commands=Path(sys.executable).parent, timeout=300):
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": tracking_uri, "PATH": f"{commands}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        [commands / "python", "-m", "mlflow", "run", str(ROOT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def with_warm_python(monkeypatch, warm_python, tmp_path):
    """`mlflow.projects.run` finds commands first on the path that start at once."""
    folder = tmp_path / "bin"
    folder.mkdir()
    warm_python.install(folder)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


SMALL = ["-P", "epochs=1", "-P", "subset=100", "-P", "test_subset=60", "-P", "model=cnn3"]


def test_mlflow_run_train_records_through_a_real_server(server, with_warm_python):
    words = ["-e", "train", "--env-manager", "local", "--experiment-name", "e2e", *SMALL]
    done = mlflow_run(server.uri, *words, commands=with_warm_python)
    store = Store(server.uri)
    (record,) = analysis.load_records(RunQuery(experiments=("e2e",)), store=store)
    assert record.run.status == "FINISHED"
    history = record.history()
    scores = analysis.load_scores(RunQuery(experiments=("e2e",)), store=store)
    np.testing.assert_allclose(
        scores["action"], history.losses.astype(float).sum(axis=0), rtol=1e-12
    )
    assert record.run.run_id in done.stdout


def test_mlflow_run_refuses_a_wrong_value_in_one_line_and_marks_the_run_failed(
    store, experiment, with_warm_python, capfd
):
    with pytest.raises(ExecutionException, match="failed"):
        mlflow.projects.run(
            str(ROOT), "train", parameters={"epochs": "0"}, env_manager="local",
            experiment_name=experiment,
        )  # fmt: skip
    expected = "error: epochs: must be an integer >= 1, got '0'. Leave it out for the default, 12."
    stderr = capfd.readouterr().err
    assert expected in stderr
    assert "Traceback" not in stderr
    (run,) = mlflow.search_runs(experiment_names=[experiment], output_format="list")
    assert run.info.status == "FAILED"


def test_the_demo_trains_compares_and_reports_in_nested_runs(
    tmp_path, empty_database, with_warm_python, monkeypatch, capsys
):
    shutil.copy(empty_database, tmp_path / "demo.db")
    uri = f"sqlite:///{tmp_path}/demo.db"
    client = Store(uri)._client
    client.create_experiment("demo", artifact_location=(tmp_path / "artifacts").as_uri())
    mlflow.set_tracking_uri(uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "demo")
    words = "--epochs=1 --subset=100 --models=cnn3,vgg5 --seeds=1 --bootstrap=20 --parallel=2"
    main.main(words.split())
    runs = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(runs) == 5
    assert len(parents) == 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    artifacts = tmp_path / "artifacts"
    assert len(list(artifacts.glob("*/artifacts/compare/report.html"))) == 1
    assert len(list(artifacts.glob("*/artifacts/compare/tables/correlation_table.parquet"))) == 1
    (page,) = artifacts.glob("*/artifacts/report/report.html")
    assert f"report     {page}" in capsys.readouterr().out


@pytest.mark.long
def test_mlflow_run_train_builds_its_own_environment_with_uv(tmp_path):
    if shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") is None:
        pytest.skip("uv is not installed")
    uri = f"sqlite:///{tmp_path}/uv.db"
    done = mlflow_run(uri, "-e", "train", "--env-manager", "uv", *SMALL, timeout=1800)
    assert "Action per class" in done.stdout
