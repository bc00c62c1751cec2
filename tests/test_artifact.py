import inspect
import json
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import duckdb
import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from helpers import message
from hypothesis import given, settings
from hypothesis import strategies as st

from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError, StoreError
from actiontrack.history import LossHistory
from actiontrack.record.disk import FileEntry, file_entry
from actiontrack.record.losses import read_history, write_block
from actiontrack.record.manifest import (
    Manifest,
    StepEntry,
    manifest_checksum,
    read_manifest,
    write_manifest,
)
from actiontrack.record.maps import _in_same_file
from actiontrack.record.parquet import copy_file
from actiontrack.record.paths import THUMBNAILS, block_path, check_name
from actiontrack.record.pictures import Pictures, write_thumbnails
from actiontrack.record.samples import Samples, read_samples, write_samples
from actiontrack.record.vectors import (
    read_features,
    read_probabilities,
    read_scores,
    write_features,
    write_probabilities,
    write_scores,
)
from actiontrack.scores import score_table
from actiontrack.testing import make_history


def write(folder, history, **changes):
    """Write a history as a complete record and return its manifest."""
    samples = Samples(
        sample_ids=history.sample_ids, labels=history.labels, true_labels=history.true_labels
    )
    files = {"samples.parquet": write_samples(folder, samples)}
    steps = []
    for row, step in enumerate(history.steps.tolist()):
        columns = {"loss": history.losses, **history.measures, **history.components}
        masked = {
            name: np.ma.MaskedArray(grid[row], mask=~history.seen[row])
            for name, grid in columns.items()
        }
        files[block_path(step)] = write_block(folder, step, masked)
        steps.append(StepEntry(step, float(history.deltas[row]), int(history.seen[row].sum())))
    files["scores.parquet"] = write_scores(folder, score_table(history))
    manifest = Manifest(
        **{
            "split": history.split,
            "mode": history.mode,
            "loss_name": history.loss_name,
            "delta_kind": history.delta_kind,
            "n_samples": history.n_samples,
            "id_type": "int64" if history.sample_ids.dtype.kind == "i" else "string",
            "digests": {"ids": "0" * 64, "labels": None, "inputs": None},
            "class_names": history.class_names,
            "measures": tuple(history.measures),
            "components": tuple(history.components),
            "steps": tuple(steps),
            "files": files,
            "status": "complete",
        }
        | changes
    )
    write_manifest(folder, manifest)
    return manifest


def read(folder):
    """Manifest, and a function that finds the files beside it."""
    manifest = read_manifest(folder / "manifest.json")
    return manifest, lambda path: folder / path


def assert_same_history(found, expected):
    for name in ("losses", "sample_ids", "labels", "true_labels", "steps", "deltas", "seen"):
        a, b = getattr(found, name), getattr(expected, name)
        if b is None:
            assert a is None, name
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)
    for grids in ("measures", "components"):
        a, b = getattr(found, grids), getattr(expected, grids)
        assert list(a) == list(b)
        for name in b:
            np.testing.assert_array_equal(a[name][expected.seen], b[name][expected.seen])
    for name in ("class_names", "split", "mode", "delta_kind", "loss_name"):
        assert getattr(found, name) == getattr(expected, name)


def rewrite_manifest(folder, change, *, checksum=True):
    """Change the manifest's JSON in place, with a checksum that fits unless told otherwise."""
    path = folder / "manifest.json"
    body = json.loads(path.read_text())
    change(body)
    if checksum:
        body["checksum"] = manifest_checksum(body)
    path.write_text(json.dumps(body))


@pytest.fixture
def history():
    return make_history(n_steps=3, n_samples=40)


@pytest.fixture
def record(tmp_path, history):
    folder = tmp_path / "test-probe"
    write(folder, history)
    return folder


# ---------------------------------------------------------------- round trip

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
INTEGERS = st.integers(-(2**63), 2**63 - 1)


@st.composite
def histories(draw):
    shape = draw(st.tuples(st.integers(0, 3), st.integers(1, 5)))
    some_ids = draw(st.sampled_from([TEXTS, INTEGERS]))
    ids = draw(st.lists(some_ids, min_size=shape[1], max_size=shape[1], unique=True))
    labels = draw(st.none() | hnp.arrays(np.int64, shape[1], elements=INTEGERS))
    seen = draw(hnp.arrays(np.bool_, shape))
    grids = hnp.arrays(np.float32, shape, elements=st.floats(width=32))
    measures = {"correct": hnp.arrays(np.bool_, shape), "margin": grids}
    measures["predicted"] = hnp.arrays(np.int32, shape)
    chosen = draw(st.lists(st.sampled_from(sorted(measures)), unique=True))
    first = draw(st.integers(0, 10**6))
    return LossHistory(
        losses=draw(grids),
        sample_ids=np.sort(np.array(ids)),
        labels=labels,
        true_labels=labels,
        steps=np.arange(first, first + shape[0]),
        deltas=draw(hnp.arrays(np.float64, shape[0], elements=st.floats(1e-9, 1e9))),
        seen=seen,
        measures={name: draw(measures[name]) for name in chosen},
        components=draw(st.fixed_dictionaries({}, optional={"box": grids, "dice": grids})),
        class_names=tuple(draw(st.lists(TEXTS, max_size=3))),
        mode=draw(st.sampled_from(["probe", "inline"])),
        delta_kind=draw(st.sampled_from(["epoch", "batch", "wall_time"])),
        loss_name=draw(TEXTS),
    )


@settings(deadline=None, max_examples=60)
@given(histories())
def test_a_history_survives_saving_and_loading(history):
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_without_scores(folder, history)
        assert_same_history(read_history(*read(folder)), history)


def write_without_scores(folder, history):
    """As `write`; a history without steps has no scores."""
    if history.n_steps:
        write(folder, history)
        return
    entry = write_samples(
        folder,
        Samples(
            sample_ids=history.sample_ids, labels=history.labels, true_labels=history.true_labels
        ),
    )
    manifest = Manifest(
        split=history.split,
        mode=history.mode,
        loss_name=history.loss_name,
        delta_kind=history.delta_kind,
        n_samples=history.n_samples,
        id_type="",
        digests={},
        class_names=history.class_names,
        measures=tuple(history.measures),
        components=tuple(history.components),
        files={"samples.parquet": entry},
    )
    write_manifest(folder, manifest)


def test_a_manifest_survives_saving_and_loading(tmp_path):
    manifest = Manifest(
        split="vål_1.x",
        mode="probe",
        loss_name="ℓ",
        delta_kind="epoch",
        n_samples=2,
        id_type="string",
        digests={"ids": "ab", "labels": None, "inputs": None},
        class_names=("küche", "猫"),
        model="cnn",
        measures=("margin",),
        components=("box",),
        source={"kind": "folder", "root": "/data"},
        steps=(StepEntry(0, 0.1, 2, 1, 3),),
        partial={"step": 1, "n_seen": 1},
        files={"samples.parquet": FileEntry("ab", 3)},
        status="recording",
        writer="actiontrack 0",
    )
    manifest = replace(manifest, split="val_1.x")
    write_manifest(tmp_path, manifest)
    assert read(tmp_path)[0] == manifest


def test_the_same_history_written_twice_is_the_same_bytes(tmp_path, history):
    for name in ("a", "b"):
        write(tmp_path / name, history)
    names = sorted(each.relative_to(tmp_path / "a") for each in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 6
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_samples_keep_paths_and_input_digests(tmp_path):
    samples = Samples(
        sample_ids=np.array(["a", "b"]), paths=["x/1.png", "y/ü.png"], input_digests=["0" * 32] * 2
    )
    entry = write_samples(tmp_path, samples)
    manifest = replace(bare(2), id_type="string", files={"samples.parquet": entry})
    found = read_samples(manifest, lambda path: tmp_path / path)
    assert (found.paths, found.input_digests) == (samples.paths, samples.input_digests)
    assert found.labels is None


def bare(n_samples):
    return Manifest(
        split="test",
        mode="probe",
        loss_name="loss",
        delta_kind="epoch",
        n_samples=n_samples,
        id_type="int64",
        digests={},
    )


def test_scores_survive_saving_and_loading(record, history):
    found = read_scores(*read(record))
    pd.testing.assert_frame_equal(found, score_table(history), check_dtype=False)


def test_scores_are_read_by_column(record):
    found = read_scores(*read(record), columns=["action", "sample_id"])
    assert found.columns.tolist() == ["action", "sample_id"]


def test_a_score_that_is_not_there_is_named_with_those_that_are(record):
    text = (
        "no score 'acton' in the record. There are: sample_id, label, action, mean_loss, "
        "final_loss, loss_variance, aum, confidence, variability, el2n, forgetting, "
        "final_entropy, predicted, correct, n_steps."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        read_scores(*read(record), columns=["acton"])


def test_a_history_is_read_with_the_measures_asked_for(record, history):
    found = read_history(*read(record), columns=["margin"])
    assert list(found.measures) == ["margin"]
    np.testing.assert_array_equal(found.measures["margin"], history.measures["margin"])


def test_features_survive_saving_and_loading(tmp_path):
    features = np.random.default_rng(0).normal(size=(7, 3))
    entry = write_features(tmp_path, features)
    manifest = replace(bare(7), files={"features.parquet": entry})
    found = read_features(manifest, lambda path: tmp_path / path)
    np.testing.assert_array_equal(found, features.astype(np.float32))


def test_probabilities_survive_saving_and_loading(tmp_path):
    probabilities = np.random.default_rng(0).dirichlet([1, 2, 3], size=7)
    entry = write_probabilities(tmp_path, probabilities)
    manifest = replace(bare(7), files={"probabilities.parquet": entry})
    found = read_probabilities(manifest, lambda path: tmp_path / path)
    np.testing.assert_array_equal(found, probabilities.astype(np.float32))


def test_pandas_reads_probabilities_as_one_list_per_sample(tmp_path):
    write_probabilities(tmp_path, np.array([[0.25, 0.75], [1.0, 0.0]]))
    frame = pd.read_parquet(tmp_path / "probabilities.parquet")
    assert frame["sample"].tolist() == [0, 1]
    assert [each.tolist() for each in frame["probabilities"]] == [[0.25, 0.75], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([0.5, 0.5], "must have shape (n_samples, n_classes), got (2,)."),
        ([[0.5, 0.5], [1.5, -0.5]], "must be finite and not negative, got [1.5, -0.5]."),
        ([[np.nan, 1.0]], "must be finite and not negative, got [nan, 1.0]."),
        ([[0.5, 0.5], [0.5, 0.25]], "must sum to 1 in each row, within 0.001, got 0.75."),
    ],
)
def test_what_is_no_distribution_over_classes_is_refused(tmp_path, values, problem):
    text = f"probabilities: {problem} Pass softmax(logits) of each sample."
    with pytest.raises(ParameterError, match=message(text)):
        write_probabilities(tmp_path, np.array(values))


def test_each_thumbnail_is_read_alone(tmp_path):
    images = [bytes([each]) * 3 for each in range(130)]
    entry = write_thumbnails(tmp_path, images)
    manifest = replace(bare(130), files={"thumbnails.parquet": entry})
    for row in (0, 63, 64, 129):
        pictures = Pictures(manifest, lambda path: tmp_path / path, THUMBNAILS)
        found = pictures.read(row)
        assert found == images[row]


# ---------------------------------------------------------------- other readers


def test_pandas_reads_a_block_without_this_package(record, history):
    frame = pd.read_parquet(record / "blocks" / "000002.parquet")
    assert frame.columns.tolist() == ["sample", "step", "loss", *history.measures]
    assert (frame["step"] == 2).all()
    np.testing.assert_array_equal(frame["loss"], history.losses[1])


def test_pyarrow_reads_all_blocks_as_one_dataset(record, history):
    frame = pa.dataset.dataset(record / "blocks").to_table().to_pandas()
    grid = frame.pivot_table(index="step", columns="sample", values="loss")
    np.testing.assert_array_equal(grid.to_numpy(), history.losses)


def test_a_missing_loss_is_null_and_a_nan_loss_is_nan(tmp_path):
    loss = np.ma.MaskedArray(np.array([1, np.nan, 0], np.float32), mask=[False, False, True])
    write_block(tmp_path, 1, {"loss": loss})
    assert pq.read_table(tmp_path / "blocks/000001.parquet")["loss"].null_count == 1
    column = pq.read_table(tmp_path / "blocks/000001.parquet")["loss"].to_pylist()
    assert column[0] == 1
    assert np.isnan(column[1])
    assert column[2] is None


def test_duckdb_finds_nan_losses_and_scores(tmp_path):
    """It trusts the bounds of a column, which leave NaN out: floats must not have any."""
    losses = np.array([1.5, np.nan, 0.5], dtype=np.float32)
    write_block(tmp_path, 1, {"loss": losses})
    write_scores(tmp_path, pd.DataFrame({"action": losses.astype(float)}))
    write_features(tmp_path, losses[:, None])
    for path, number in {
        "blocks/000001.parquet": "loss",
        "scores.parquet": "action",
        "features.parquet": "features[1]",
    }.items():
        table = duckdb.read_parquet(str(tmp_path / path))
        assert table.filter(f"isnan({number})").project("sample").fetchall() == [(1,)]
        assert np.isnan(table.aggregate(f"max({number})").fetchall()[0][0])


@given(st.lists(st.integers(0, 90), max_size=30), st.data())
def test_the_samples_of_a_map_file_are_found_among_neighbours(sizes, data):
    """Files of many maps and of one, with samples without a map between them."""
    files = np.repeat(np.arange(len(sizes)), sizes)
    gaps = data.draw(st.lists(st.integers(0, len(files)), max_size=200))
    files = np.insert(files, sorted(gaps), -1).astype(np.int32)
    for sample in np.flatnonzero(files >= 0)[:: max(1, len(files) // 20)]:
        expected = np.flatnonzero(files == files[sample])
        assert _in_same_file(files, int(sample)).tolist() == expected.tolist()


def test_blocks_are_small_columnar_files(tmp_path):
    loss = np.random.default_rng(0).gamma(1, 1, 100_000).astype(np.float32)
    entry = write_block(tmp_path, 1, {"loss": loss})
    meta = pq.ParquetFile(tmp_path / "blocks/000001.parquet").metadata.row_group(0).column(2)
    assert meta.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in meta.encodings
    long_pages = "max_rows_per_page" in inspect.signature(pq.write_table).parameters
    assert entry.bytes < (3.4 if long_pages else 3.5) * loss.size


def test_nothing_is_pickled(record):
    for path in record.rglob("*.parquet"):
        assert path.read_bytes()[:4] == b"PAR1"


# ---------------------------------------------------------------- damage

FILES = ["samples.parquet", "blocks/000002.parquet", "scores.parquet"]


def read_all(folder):
    manifest, fetch = read(folder)
    read_history(manifest, fetch)
    read_scores(manifest, fetch)


def altered(name):
    return message(
        f"{name} of test-probe is truncated or altered: its sha256 is not that of the manifest. "
        "Restore the file, or record the run again."
    )


def missing(name):
    return message(
        f"{name} is named in the manifest of test-probe but missing. "
        "Restore the file, or record the run again."
    )


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(record, name):
    path = record / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptRecordError, match=altered(name)):
        read_all(record)


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file_is_refused(record, name):
    (record / name).write_bytes(b"")
    with pytest.raises(CorruptRecordError, match=altered(name)):
        read_all(record)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 0.99])
def test_one_flipped_bit_is_refused(record, name, where):
    body = bytearray((record / name).read_bytes())
    body[int(where * len(body))] ^= 1
    (record / name).write_bytes(body)
    with pytest.raises(CorruptRecordError, match=altered(name)):
        read_all(record)


def test_two_blocks_that_changed_places_are_refused(record):
    first, second = (record / block_path(each) for each in (1, 2))
    first.rename(record / "spare")
    second.rename(first)
    (record / "spare").rename(second)
    with pytest.raises(CorruptRecordError, match=altered("blocks/000001.parquet")):
        read_all(record)


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file_is_refused(record, name):
    (record / name).unlink()
    with pytest.raises(CorruptRecordError, match=missing(name)):
        read_all(record)


@pytest.mark.parametrize("name", FILES)
def test_a_symlink_is_refused_even_to_the_right_content(record, name):
    path = record / name
    path.rename(record / "elsewhere")
    path.symlink_to(record / "elsewhere")
    with pytest.raises(CorruptRecordError, match=missing(name)):
        read_all(record)


def test_a_folder_in_the_place_of_a_file_is_refused(record):
    (record / "samples.parquet").unlink()
    (record / "samples.parquet").mkdir()
    with pytest.raises(CorruptRecordError, match=missing("samples.parquet")):
        read_all(record)


def test_a_file_that_is_no_parquet_is_refused_even_with_its_own_sha256(record):
    (record / "samples.parquet").write_bytes(b"PAR1 nonsense PAR1")
    promise(record, "samples.parquet")
    text = (
        "samples.parquet has no proper Parquet footer. Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read_all(record)


def promise(record, name):
    """Name the file in the manifest as it is now."""
    entry = file_entry(record / name)
    rewrite_manifest(record, lambda body: body["files"].update({name: vars(entry)}))


def test_a_block_with_another_number_of_rows_is_refused(record):
    write_block(record, 2, {"loss": np.ones(39, np.float32)})
    promise(record, "blocks/000002.parquet")
    text = (
        "blocks/000002.parquet has 39 rows where the manifest says 40. "
        "Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read_all(record)


def test_a_block_without_its_columns_is_refused(record):
    write_block(record, 2, {"loss": np.ones(40, np.float32)})
    promise(record, "blocks/000002.parquet")
    text = (
        "blocks/000002.parquet lacks the columns correct, el2n, entropy, margin, predicted, "
        "target_probability. Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read_all(record)


def test_samples_that_break_the_rules_are_refused_even_with_their_own_sha256(record):
    write_samples(record, Samples(sample_ids=np.zeros(40, np.int64)))
    promise(record, "samples.parquet")
    text = (
        "samples.parquet can't be read as the record's format 1: sample_ids: must be unique and "
        "ascending, got [0, 0, 0, 0, 0]. Sort by id first. "
        "Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read_all(record)


def test_a_block_that_the_manifest_does_not_name_is_not_part_of_the_record(record):
    rewrite_manifest(record, lambda body: body["files"].pop("blocks/000002.parquet"))
    text = "the record test-probe has no blocks/000002.parquet."
    with pytest.raises(NotFoundError, match=message(text)):
        read_all(record)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_half_written_manifest_is_refused(record, kept):
    path = record / "manifest.json"
    path.write_bytes(path.read_bytes()[:kept])
    text = (
        f"{path} is damaged or half-written: it is not JSON. Restore it, or run "
        "'actiontrack sync' where the run was recorded."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 200_000, b"NaN,"])
def test_a_manifest_of_nonsense_is_refused(record, body):
    (record / "manifest.json").write_bytes(body)
    with pytest.raises(CorruptRecordError, match="is damaged or half-written: it is not JSON"):
        read(record)


def test_an_altered_manifest_is_refused(record):
    rewrite_manifest(record, lambda body: body.update(loss_name="hinge"), checksum=False)
    text = (
        f"{record / 'manifest.json'} is altered: its checksum does not match. Restore it, or run "
        "'actiontrack sync' where the run was recorded."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("version", [2, "1", None])
def test_a_manifest_of_a_newer_or_no_version_is_refused(record, version):
    rewrite_manifest(record, lambda body: body.update(version=version))
    text = (
        f"{record / 'manifest.json'} has format version {version}; this package reads up to 1. "
        "Upgrade with: pip install -U actiontrack"
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("body", ["[]", "{}", '{"format": "parquet"}', "3"])
def test_other_json_is_not_the_manifest_of_a_record(record, body):
    (record / "manifest.json").write_text(body)
    text = f"{record / 'manifest.json'} is not the manifest of a record."
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\secret"])
def test_a_path_that_leaves_the_record_is_refused(record, name):
    entry = {"sha256": "0" * 64, "bytes": 1}
    rewrite_manifest(record, lambda body: body["files"].update({name: entry}))
    text = f"{record / 'manifest.json'} lacks a field or has a wrong one: unsafe path {name!r}"
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("field", ["split", "mode", "steps", "files", "class_names", "n_samples"])
@pytest.mark.parametrize("value", [..., None, 3.5])
def test_a_field_that_is_absent_or_wrong_is_refused(record, field, value):
    def change(body):
        if value is ...:
            del body[field]
        else:
            body[field] = value

    rewrite_manifest(record, change)
    with pytest.raises(CorruptRecordError, match="lacks a field or has a wrong one"):
        read(record)


@pytest.mark.parametrize("split", ["../x", "a/b", "", "a-b"])
def test_a_record_whose_name_is_no_plain_name_is_refused(record, split):
    rewrite_manifest(record, lambda body: body.update(split=split))
    with pytest.raises(CorruptRecordError, match="split: must be 1 to 64 letters"):
        read(record)


def test_unknown_fields_and_files_are_ignored(record, history):
    (record / "notes.txt").write_text("hello")
    (record / "blocks" / "000009.parquet").write_bytes(b"left behind")

    def change(body):
        body["colour"] = "blue"
        body["steps"][0]["mood"] = "fine"
        body["files"]["samples.parquet"]["owner"] = "me"
        body["files"]["future.parquet"] = {"sha256": "0" * 64, "bytes": 1}

    rewrite_manifest(record, change)
    assert_same_history(read_history(*read(record)), history)


def test_no_manifest_is_no_record(tmp_path):
    text = f"no record at {tmp_path}: manifest.json is missing."
    with pytest.raises(NotFoundError, match=message(text)):
        read(tmp_path)


def test_a_copied_file_is_verified_first(record, tmp_path):
    manifest, fetch = read(record)
    copy_file(manifest, FILES[1], fetch, tmp_path / "copy")
    assert (tmp_path / "copy" / FILES[1]).read_bytes() == (record / FILES[1]).read_bytes()
    (record / FILES[1]).write_bytes(b"")
    with pytest.raises(CorruptRecordError, match=altered(FILES[1])):
        copy_file(manifest, FILES[1], fetch, tmp_path / "copy")


# ---------------------------------------------------------------- writing fails


def test_a_full_disk_says_what_to_do_and_leaves_the_old_manifest(small_disk):
    write_manifest(small_disk, bare(3))
    (small_disk / "ballast").write_bytes(b"x" * 200_000)
    loss = np.random.default_rng(0).random(100_000).astype(np.float32)
    path = small_disk / "blocks" / "000001.parquet"
    start = re.escape(f"cannot write {path}: ")
    end = re.escape(
        " What was recorded before is safe. Free space or set ACTIONTRACK_SPOOL to a folder that "
        "can be written, then try again."
    )
    with pytest.raises(StoreError, match=f"^{start}.*No space left on device.*{end}$"):
        write_block(small_disk, 1, {"loss": loss})
    assert read(small_disk)[0] == bare(3)
    assert [each.name for each in small_disk.rglob("*.tmp")] == []


def test_a_folder_that_is_a_file_says_what_to_do(tmp_path):
    (tmp_path / "blocked").write_text("")
    path = tmp_path / "blocked" / "manifest.json"
    text = (
        f"cannot write {path}: File exists. "
        "What was recorded before is safe. "
        "Free space or set ACTIONTRACK_SPOOL to a folder that can be written, then try again."
    )
    with pytest.raises(StoreError, match=message(text)):
        write_manifest(tmp_path / "blocked", bare(1))


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", "é", "a-b", "x" * 65])
def test_names_are_safe_in_paths_tags_and_urls(name):
    text = (
        "split: must be 1 to 64 letters, digits, dots or underscores, starting with a letter or "
        f"digit, got {name!r}. Choose a plain name such as 'test'."
    )
    with pytest.raises(ParameterError, match=message(text)):
        check_name("split", name)
