"""The Kubernetes job that MLflow's project backend makes of our files, as the API would read it."""

import json
import re

import pytest
import yaml
from helpers import ROOT

kubernetes = pytest.importorskip("kubernetes")

FOLDER = ROOT / "deploy" / "kubernetes"


def rendered(**parameters):
    from mlflow.projects._project_spec import load_project
    from mlflow.projects.kubernetes import _get_kubernetes_job_definition, _get_run_command

    project = load_project(str(FOLDER))
    command = project.get_entry_point("train").compute_command(parameters, None)
    return _get_kubernetes_job_definition(
        project.name,
        project.docker_env["image"],
        "sha256:0",
        _get_run_command([command]),
        {"MLFLOW_RUN_ID": "abc"},
        yaml.safe_load((FOLDER / "job.yaml").read_text()),
    )


def test_the_job_is_one_that_kubernetes_understands():
    body = rendered()
    client = kubernetes.client.ApiClient()
    job = client.deserialize(json.dumps(body), "V1Job", "application/json")
    spec = job.spec.template.spec
    assert spec.restart_policy == "Never"
    assert {each.name for each in spec.volumes} >= {
        each.name for each in spec.containers[0].volume_mounts
    }


def test_the_container_runs_the_training_with_its_parameters():
    container = rendered(model="vgg5", seed="3")["spec"]["template"]["spec"]["containers"][0]
    command = " ".join(container["command"])
    assert command.startswith("python -m projects.train ")
    assert "--model vgg5 " in command
    assert "--seed 3 " in command


def test_the_container_knows_its_run_and_spools_to_its_volume():
    container = rendered()["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment == {"MLFLOW_RUN_ID": "abc", "ACTIONTRACK_SPOOL": "/spool"}
    assert [each["mountPath"] for each in container["volumeMounts"]] == ["/spool"]


def test_the_entry_point_is_that_of_the_project():
    ours = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]["train"]
    assert yaml.safe_load((FOLDER / "MLproject").read_text())["entry_points"] == {"train": ours}


def test_the_backend_configuration_points_at_the_template_and_the_image():
    config = json.loads((FOLDER / "backend.json").read_text())
    assert (ROOT / config["kube-job-template-path"]).is_file()
    image = yaml.safe_load((FOLDER / "MLproject").read_text())["docker_env"]["image"]
    assert config["repository-uri"] == image


def test_the_image_holds_all_that_the_entry_point_needs():
    text = (FOLDER / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (.+) \S+$", text, flags=re.MULTILINE):
        assert all((ROOT / name).exists() for name in source.split())
    assert "COPY projects projects" in text
