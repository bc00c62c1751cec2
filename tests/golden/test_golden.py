"""Records of every released format version stay readable, number by number.

The expectations beside each record are plain JSON, made from what was fed to the recorder. They are
compared with what this package reads, and with what others read without it.
"""

import hashlib
import json
import shutil
from pathlib import Path

import duckdb
import mlflow
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from actiontrack import analysis
from actiontrack.record.losses import read_curve, read_history, read_step, read_steps
from actiontrack.record.manifest import manifest_digest, read_manifest
from actiontrack.record.maps import read_map, read_map_index
from actiontrack.record.pictures import Pictures, read_boxes
from actiontrack.record.samples import read_samples
from actiontrack.record.vectors import read_features, read_probabilities, read_scores
from actiontrack.store import RunQuery, Store

HERE = Path(__file__).parent
RECORDS = sorted(each.with_suffix("") for each in HERE.glob("v*/*.json"))

#: sha256 of every file of a version, in order of their names: the bytes that were released.
RELEASED = {
    "v1": "9f18143475520ba0945a9e0065988ee21100e72e6efbfe1115688d87cdd0344c",
    "v2": "7a8b48bf73144399fede1a1e57160f76f1e92b641ad3a04f05c5f5d0771a2e66",
}

#: sha256 of the other fields of every manifest, by which records are told apart.
DIGESTS = {
    "v1/classification": "d6db1ec432cb97ecff2ac12031aee585341a82e78fa645df830a0186d002449d",
    "v1/detection": "abc60bc54a914627b39e6c4f349ff9dd0afbb4b673c732d99a423c6420169bc8",
    "v1/hashed": "b3144eafc7dd3bf4a4dae2f2a721209df40ecdc2a3cb271db9600ff9bb23dd35",
    "v1/inline": "4dcd9addf4590edba8529108388d473bb5eabdd09f21f0eca34b9bd4f79f344b",
    "v1/pixels": "81b609df313257074477cf34c3e150820c2da87c0a988e4f94f4bca7e4a9c9a0",
    "v1/regression": "cc56589c197ded7d266cf33215edc2858b394e89da8c4ed66e5d48bfe0a80957",
    "v2/classification": "9305a23e9a1aa08b230f126493f0c60fa1b44cbf16464749a62d24c916e91622",
    "v2/detection": "aa20c26027d14c19ebe169b154d234df706a679e056418e0b8137594021a6288",
    "v2/hashed": "8b048ac2b68571deec41fb234fcf3f40db7d9bad86a1bec2c066c44ec6fdad92",
    "v2/inline": "4c2ff0d830d8c857ae86902cc46b7080938185b45bb986979da95303e656c886",
    "v2/long": "5d99f192f2e904a9219e646832660a4ec2f7eca0e435eb793a9cc011f4a5e893",
    "v2/pixels": "379fd74d5623d44d988147fd442cf43b131a7b3fbb06df2e3d6f679b266271c8",
    "v2/regression": "786d5581643a6b648372e99ccd3c4786a508e69787093a2982107b6a739e4734",
    "v2/rounded": "3c2164b63496ce2d6928ad268cad3ec11a57d1cc8fb8ff17cef8d67c8567e492",
}


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
    names |= {"long", "rounded"}
    assert {each.name for each in RECORDS if each.parent.name == "v2"} == names


def test_a_manifest_has_the_digest_that_it_had(golden, manifest):
    folder = golden[0].parent
    assert manifest.version == int(folder.parent.name[1:])
    assert manifest_digest(manifest) == DIGESTS[f"{folder.parent.name}/{folder.name}"]


def test_files_of_several_steps_and_of_one_are_there(golden, manifest):
    """A record of a few steps is one file in version 2, a long one several of many row groups."""
    sizes = [block.n_steps for block in manifest.blocks]
    if manifest.version == 1:
        assert set(sizes) == {1}
    elif golden[0].parent.name == "long":
        groups = [pq.read_metadata(path).num_row_groups for path in losses_of(golden[0])]
        assert sum(sizes) == 40
        assert len(sizes) > 2
        assert max(groups) > 1
    else:
        assert len(sizes) == 1


def losses_of(folder):
    """The files of losses, as the manifest names them."""
    body = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if body["version"] == 1:
        return [folder / f"blocks/{step['step']:06d}.parquet" for step in body["steps"]]
    return [folder / block["path"] for block in body["blocks"]]


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


def test_one_step_and_one_sample_are_read_alone(golden, manifest, fetch):
    expected = numbers(golden[1]["losses"])
    steps = read_steps(manifest, fetch)
    for row, step in enumerate(steps):
        entry, grids, _ = read_step(manifest, fetch, step.step, ["loss"])
        assert entry == step
        np.testing.assert_allclose(grids["loss"], expected[row], rtol=1e-5)
    for sample in range(manifest.n_samples):
        entries, grids, _ = read_curve(manifest, fetch, sample, ["loss"])
        assert entries == steps
        np.testing.assert_allclose(grids["loss"], expected[:, sample], rtol=1e-5)


def test_what_steps_held_is_read(golden, manifest, fetch):
    expected = golden[1]
    steps, totals = read_steps(manifest, fetch), manifest.totals
    seen = [[each for each in row if each != "missing"] for row in expected["losses"]]
    n_nonfinite = [sum(isinstance(each, str) for each in row) for row in seen]
    assert [step.delta for step in steps] == expected["deltas"]
    assert [step.n_seen for step in steps] == list(map(len, seen))
    assert [step.n_nonfinite for step in steps] == n_nonfinite
    n_duplicates = expected.get("n_duplicates", [0] * len(steps))
    assert [step.n_duplicates for step in steps] == n_duplicates
    assert (totals.n_steps, totals.delta) == (len(steps), sum(expected["deltas"]))
    assert (totals.first_step, totals.last_step) == (steps[0].step, steps[-1].step)
    assert totals.n_seen == sum(map(len, seen))
    assert (totals.n_nonfinite, totals.n_duplicates) == (sum(n_nonfinite), sum(n_duplicates))


def test_losses_were_rounded_where_the_manifest_says_so(golden, manifest, fetch):
    """Eleven bits of twenty-four: the expected numbers are exact."""
    is_rounded = golden[0].parent.name == "rounded"
    assert manifest.precision == ("half" if is_rounded else "full")
    losses = read_history(manifest, fetch).losses
    if is_rounded:
        np.testing.assert_array_equal(losses, numbers(golden[1]["losses"]).astype(np.float32))
        assert not (losses.view(np.uint32)[np.isfinite(losses)] & (2**13 - 1)).any()


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


def by_pandas(paths):
    return pd.concat([pd.read_parquet(path) for path in paths])


def by_duckdb(paths):
    return duckdb.read_parquet(list(map(str, paths))).df()


def by_dask(paths):
    frames = pytest.importorskip("dask.dataframe")
    return frames.read_parquet(list(map(str, paths))).compute()


def by_polars(paths):
    return pytest.importorskip("polars").read_parquet(paths).to_pandas()


@pytest.mark.parametrize("reader", [by_pandas, by_duckdb, by_dask, by_polars])
def test_other_readers_read_the_same_losses(golden, reader):
    folder, expected = golden
    frame = reader(losses_of(folder)).sort_values(["step", "sample"])
    wanted = numbers(expected["losses"])
    n_steps, n_samples = wanted.shape
    steps = expected.get("steps", range(1, n_steps + 1))
    assert frame["step"].tolist() == np.repeat(steps, n_samples).tolist()
    assert frame["sample"].tolist() == [*range(n_samples)] * n_steps
    losses = frame["loss"].to_numpy(dtype=float).reshape(n_steps, n_samples)
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


def test_duckdb_tells_what_was_missed_from_what_was_no_number(golden):
    folder, expected = golden
    rows = duckdb.read_parquet(list(map(str, losses_of(folder)))).order("step, sample")
    found = rows.project("loss IS NULL, coalesce(isnan(loss), false)").fetchall()
    told = [each for row in expected["losses"] for each in row]
    assert found == [(each == "missing", each == "nan") for each in told]


def test_pandas_reads_the_same_without_this_package(golden):
    folder, expected = golden
    samples = pd.read_parquet(folder / "samples.parquet")
    assert samples["sample_id"].tolist() == expected["sample_ids"]
    assert samples["sample"].tolist() == list(range(len(samples)))
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
        client.set_tag(run_id, "actiontrack.format", str(manifest.version))
    records = analysis.load_records(RunQuery(run_ids=tuple(runs)), store=store)
    aligned = analysis.align(records)
    expected = numbers([golden[1]["action"]] * 2)
    np.testing.assert_allclose(aligned.values, expected, rtol=1e-5)
