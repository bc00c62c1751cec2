import os
import shutil

import pytest
from helpers import ROOT

from actiontrack.store import RunQuery, Store

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
RECORDS = {"hf_trainer": 2, "torchvision_detector": 2, "ultralytics_detect": 2}
RUNS = {"sklearn_partial_fit": 3}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda each: each.stem)
def test_an_example_runs_and_prints_the_hardest_samples(
    script, warm_python, empty_database, tmp_path
):
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = Store(uri)._client
    client.create_experiment("examples", artifact_location=(tmp_path / "artifacts").as_uri())
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "MLFLOW_EXPERIMENT_NAME": "examples"}
    environment |= {"PYTHONPATH": str(ROOT), "YOLO_CONFIG_DIR": str(tmp_path / "settings")}
    done = warm_python.run([script, "2"], tmp_path, environment, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    header = next(row for row, line in enumerate(lines) if "sample_id" in line)
    actions = [float(line.split()[2]) for line in lines[header + 1 : header + 6]]
    assert actions == sorted(actions, reverse=True)
    assert actions[0] > 0
    runs = Store(uri).find_runs(RunQuery())
    assert [each.status for each in runs] == ["FINISHED"] * RUNS.get(script.stem, 1)
    assert {len(each.records) for each in runs} == {RECORDS.get(script.stem, 1)}


def test_every_example_is_short_and_in_the_table():
    table = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for script in SCRIPTS:
        assert f"[{script.name}]({script.name})" in table
        assert len(script.read_text(encoding="utf-8").splitlines()) <= 60
    assert len(SCRIPTS) == 13
