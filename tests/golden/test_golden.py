"""Records of every released format version stay readable, number by number.

The expectations beside each record are plain JSON, made from what was fed to the recorder. They are
compared with what this package reads, and with what pandas reads without it.
"""

import hashlib
import json
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from actiontrack import analysis
from actiontrack.record.losses import read_history
from actiontrack.record.manifest import read_manifest
from actiontrack.record.maps import read_map, read_map_index
from actiontrack.record.pictures import Pictures, read_boxes
from actiontrack.record.samples import read_samples
from actiontrack.record.vectors import read_features, read_probabilities, read_scores
from actiontrack.store import RunQuery, Store

HERE = Path(__file__).parent
RECORDS = sorted(each.with_suffix("") for each in HERE.glob("v*/*.json"))

#: sha256 of every file of a version, in order of their names: the bytes that were released.
RELEASED = {"v1": "9f18143475520ba0945a9e0065988ee21100e72e6efbfe1115688d87cdd0344c"}


@pytest.fixture(params=RECORDS, ids=lambda each: f"{each.parent.name}-{each.name}")
def golden(request):
    """Folder of a record, and what must be read from it."""
    (folder,) = request.param.iterdir()
    return folder, json.loads(request.param.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture
def manifest(golden):
    return read_manifest(golden[0] / "manifest.json")


@pytest.fixture
def fetch(golden):
    return lambda path: golden[0] / path


def numbers(values):
    """Expected numbers, of which some are told as text."""
    words = {"missing": np.nan, "nan": np.nan, "inf": np.inf}
    return np.array([[words.get(each, each) for each in row] for row in values], dtype=float)


@pytest.mark.parametrize("version", sorted(RELEASED))
def test_the_files_of_a_version_are_those_that_were_released(version):
    digest = hashlib.sha256()
    for path in sorted(each for each in (HERE / version).rglob("*") if each.is_file()):
        digest.update(path.relative_to(HERE).as_posix().encode() + path.read_bytes())
    assert digest.hexdigest() == RELEASED[version]


def test_every_kind_of_record_is_there():
    names = {"classification", "detection", "pixels", "regression", "inline", "hashed"}
    assert {each.name for each in RECORDS if each.parent.name == "v1"} == names


def test_losses_steps_and_ids_are_read(golden, manifest, fetch):
    history = read_history(manifest, fetch)
    expected = golden[1]
    assert history.sample_ids.tolist() == expected["sample_ids"]
    np.testing.assert_allclose(history.losses, numbers(expected["losses"]), rtol=1e-5)
    assert history.deltas.tolist() == expected["deltas"]
    n_steps = len(expected["losses"])
    assert history.steps.tolist() == expected.get("steps", list(range(1, n_steps + 1)))
    seen = [[each != "missing" for each in row] for row in expected["losses"]]
    assert history.seen.tolist() == seen


def test_scores_are_read(golden, manifest, fetch):
    scores = read_scores(manifest, fetch)
    assert scores["sample_id"].tolist() == golden[1]["sample_ids"]
    np.testing.assert_allclose(scores["action"], numbers([golden[1]["action"]])[0], rtol=1e-5)


def test_labels_and_what_belongs_to_samples_are_read(golden, manifest, fetch):
    expected = golden[1]
    samples = read_samples(manifest, fetch)
    for name in ("labels", "true_labels"):
        found = getattr(samples, name)
        assert (None if found is None else found.tolist()) == expected.get(name)
    assert samples.paths == expected.get("paths")
    assert list(manifest.class_names) == expected.get("class_names", [])


def test_optional_files_are_read(golden, manifest, fetch):
    expected = golden[1]
    read = {
        "features": lambda: read_features(manifest, fetch).tolist(),
        "probabilities": lambda: read_probabilities(manifest, fetch).tolist(),
        "thumbnails": lambda: pictures(manifest, fetch, "thumbnails.parquet"),
        "labels_png": lambda: pictures(manifest, fetch, "pictures/label.parquet"),
        "boxes": lambda: boxes(manifest, fetch, expected["sample_ids"]),
    }
    for name, reading in read.items():
        if name in expected:
            assert reading() == expected[name], name
    if "maps" in expected:
        index = read_map_index(manifest, fetch)
        for sample, wanted in enumerate(expected["maps"]):
            found = read_map(manifest, fetch, index, sample)
            np.testing.assert_array_equal(found, numbers(wanted))


def pictures(manifest, fetch, name):
    read = Pictures(manifest, fetch, name).read
    return [read(sample).hex() for sample in range(manifest.n_samples)]


def boxes(manifest, fetch, ids):
    rows = read_boxes(manifest, fetch).to_numpy(dtype=object).tolist()
    return [
        [ids[row[0]], *("nan" if each != each else each for each in row[1:])]  # noqa: PLR0124
        for row in rows
    ]


def test_measures_and_components_are_read(golden, manifest, fetch):
    expected = golden[1]
    history = read_history(manifest, fetch)
    for name in ("predicted", "target_probability"):
        if name in expected:
            np.testing.assert_allclose(history.measures[name], expected[name], rtol=1e-5)
    for name, grid in expected.get("components", {}).items():
        np.testing.assert_array_equal(history.components[name], grid)


def test_pandas_reads_the_same_without_this_package(golden):
    folder, expected = golden
    samples = pd.read_parquet(folder / "samples.parquet")
    assert samples["sample_id"].tolist() == expected["sample_ids"]
    assert samples["sample"].tolist() == list(range(len(samples)))
    paths = sorted((folder / "blocks").iterdir())
    losses = np.array([pd.read_parquet(each)["loss"].to_numpy(dtype=float) for each in paths])
    np.testing.assert_allclose(losses, numbers(expected["losses"]), rtol=1e-5)
    scores = pd.read_parquet(folder / "scores.parquet")
    np.testing.assert_allclose(scores["action"], numbers([expected["action"]])[0], rtol=1e-5)


def test_what_was_kept_out_is_known(golden, manifest):
    hashed = golden[0].parent.name == "hashed"
    assert manifest.has_hashed_ids is hashed
    assert manifest.hides_images is hashed


def test_a_record_among_the_artifacts_of_a_run_is_found_and_compared(
    golden, manifest, store, new_run, tracking_uri
):
    runs = [new_run(), new_run()]
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    for run_id in runs:
        root = Store(tracking_uri).local_root(store.get_run(run_id))
        shutil.copytree(golden[0], root / "actiontrack" / manifest.name)
        client.set_tag(run_id, f"actiontrack.record.{manifest.name}", "complete")
        client.set_tag(run_id, "actiontrack.format", "1")
    records = analysis.load_records(RunQuery(run_ids=tuple(runs)), store=store)
    aligned = analysis.align(records)
    expected = numbers([golden[1]["action"]] * 2)
    np.testing.assert_allclose(aligned.values, expected, rtol=1e-5)
