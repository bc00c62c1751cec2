"""What we export, read by the receiving tools themselves, each in an environment of its own.

Their dependencies exclude ours (NumPy, pandas, Pillow), so they can't be part of the test extra.
FiftyOne's datasets need a MongoDB binary; its samples and its importer's format do not.
"""

import subprocess
import sys

import numpy as np
import pytest
from helpers import ROOT
from PIL import Image

from actiontrack.recorder import Recorder
from actiontrack.reporting import exports

pytestmark = pytest.mark.long
N = 8
NAMES = ("ant", "bee & <b>", "cat")

LABEL_STUDIO = """
import json, pathlib, sys
from label_studio_sdk.label_interface import LabelInterface
folder = pathlib.Path(sys.argv[1])
form = LabelInterface((folder / "config.xml").read_text())
form.validate()
tasks = json.loads((folder / "tasks.json").read_text())
for task in tasks:
    predictions = task.pop("predictions")
    assert form.validate_task(task), task["data"]["sample_id"]
    assert all(form.validate_prediction(each) for each in predictions)
wrong = {"model_version": "x", "result": [{"from_name": "label", "to_name": "image",
         "type": "choices", "value": {"choices": ["no such class"]}}]}
assert not form.validate_prediction(wrong)
print(len(tasks))
"""

DATUMARO = """
import sys
import datumaro
found = datumaro.Dataset.import_from(sys.argv[1], "cvat")
names = [each.name for each in found.categories()[datumaro.AnnotationType.label]]
for item in found:
    (tag,) = item.annotations
    assert item.media.data.shape[:2] == (6, 8)
    print(tag.attributes["sample_id"], names[tag.label], tag.attributes["score"], sep="|")
"""

FIFTYONE = """
import json, pathlib, sys
import fiftyone
folder = pathlib.Path(sys.argv[1])
for each in json.loads((folder / "samples.json").read_text())["samples"]:
    sample = fiftyone.Sample.from_dict(each)
    assert pathlib.Path(folder / each["filepath"]).is_file()
    label, action = sample.ground_truth.label, sample.actiontrack_action
    print(sample.sample_id, label, action, sample.tags, sep="|")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """A function that makes an environment with one package and returns its Python."""

    def make(package):
        folder = tmp_path_factory.mktemp("env") / "venv"
        uv = [sys.executable, "-m", "uv"]
        subprocess.run([*uv, "venv", "-q", "--python", sys.executable, folder], check=True)
        python = folder / "bin" / "python"
        install = [*uv, "pip", "install", "-q", "--python", python, package]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{package} can't be installed here: {done.stderr.strip()[-300:]}")
        return python

    return make


@pytest.fixture
def record(new_run, store, spool, tmp_path):
    run_id = new_run()
    Image.new("L", (8, 6), 90).save(tmp_path / "grey.png")
    with Recorder("train", run_id=run_id, store=store, spool=spool, class_names=NAMES) as recorder:
        recorder.update(np.arange(N), np.linspace(2, 1, N), labels=np.arange(N) % 3)
        recorder.end_epoch()
        recorder.log_thumbnails(np.arange(N), [(tmp_path / "grey.png").read_bytes()] * N)
    return store.open_record(run_id)


def read(python, code, folder, home):
    home.mkdir()
    done = subprocess.run(
        [python, "-c", code, folder],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "FIFTYONE_DO_NOT_TRACK": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_label_studio_accepts_the_form_and_every_task(environment, record, tmp_path):
    exports.save_label_studio(record, tmp_path / "out", exports.Suspects(top=4))
    lines = read(environment("label-studio-sdk"), LABEL_STUDIO, tmp_path / "out", tmp_path / "home")
    assert lines[-1] == "4"


def test_datumaro_reads_cvat_s_tags_scores_and_images(environment, record, tmp_path):
    exports.save_cvat(record, tmp_path / "out", exports.Suspects(top=4))
    lines = read(environment("datumaro"), DATUMARO, tmp_path / "out", tmp_path / "home")
    action = record.scores()["action"]
    assert sorted(lines)[:4] == [f"{i}|{NAMES[i % 3]}|{action[i]:.6g}" for i in range(4)]


def test_fiftyone_makes_samples_of_ours(environment, record, tmp_path):
    exports.save_fiftyone(record, tmp_path / "out", exports.Suspects(top=1))
    lines = read(environment("fiftyone"), FIFTYONE, tmp_path / "out", tmp_path / "home")
    action = record.scores()["action"].tolist()
    tags = [["suspect"], *[[]] * (N - 1)]
    assert lines[-N:] == [f"{i}|{NAMES[i % 3]}|{action[i]}|{tags[i]}" for i in range(N)]
