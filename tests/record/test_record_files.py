"""A history as files: what is written is read back, by this package and by others."""

import inspect
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
from record_files import assert_same_history, bare, read, write

from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.history import LossHistory
from actiontrack.record.losses import read_history, write_losses
from actiontrack.record.manifest import (
    Manifest,
    write_manifest,
)
from actiontrack.record.maps import _in_same_file
from actiontrack.record.paths import THUMBNAILS
from actiontrack.record.pictures import Pictures, write_thumbnails
from actiontrack.record.samples import Samples, read_samples, write_samples
from actiontrack.record.steps import StepEntry
from actiontrack.record.vectors import (
    read_features,
    read_probabilities,
    read_scores,
    write_features,
    write_probabilities,
    write_scores,
)
from actiontrack.scores import score_table

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)

INTEGERS = st.integers(-(2**63), 2**63 - 1)

FILE = "losses/000001.parquet"


@st.composite
def histories(draw):
    shape = draw(st.tuples(st.integers(0, 5), st.integers(1, 5)))
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


def test_the_same_history_written_twice_is_the_same_bytes(tmp_path, history):
    for name in ("a", "b"):
        write(tmp_path / name, history)
    names = sorted(each.relative_to(tmp_path / "a") for each in (tmp_path / "a").rglob("*.*"))
    assert len(names) == 5
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


def test_scores_survive_saving_and_loading(record, history):
    found = read_scores(*read(record))
    pd.testing.assert_frame_equal(found, score_table(history), check_dtype=False)


def test_scores_are_read_by_column(record):
    found = read_scores(*read(record), columns=["action", "sample_id"])
    assert found.columns.tolist() == ["action", "sample_id"]


def test_a_score_that_is_not_there_is_named_with_those_that_are(record):
    text = (
        "no score 'acton' in the record. There are: sample_id, label, action, mean_loss, "
        "final_loss, loss_variance, aum, late_margin, confidence, variability, el2n, "
        "forgetting, final_entropy, p_wrong, suggested_class, p_suggested, predicted, correct, "
        "n_steps."
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


def test_pandas_reads_a_file_of_losses_without_this_package(record, history):
    frame = pd.read_parquet(record / "losses" / "000001.parquet")
    assert frame.columns.tolist() == ["sample", "step", "loss", *history.measures]
    assert frame["sample"].tolist() == np.repeat(np.arange(40), 2).tolist()
    assert frame["step"].tolist() == [1, 2] * 40
    np.testing.assert_array_equal(frame["loss"], history.losses[:2].T.ravel())


def test_pyarrow_reads_all_losses_as_one_dataset(record, history):
    frame = pa.dataset.dataset(record / "losses").to_table().to_pandas()
    grid = frame.pivot_table(index="step", columns="sample", values="loss")
    np.testing.assert_array_equal(grid.to_numpy(), history.losses)


def test_a_missing_loss_is_null_and_a_nan_loss_is_nan(tmp_path):
    losses = np.array([[1, np.nan, 0]], np.float32)
    seen = np.array([[True, True, False]])
    write_losses(tmp_path, FILE, [StepEntry(1, 1.0, 2)], {"loss": losses}, seen)
    assert pq.read_table(tmp_path / FILE)["loss"].null_count == 1
    column = pq.read_table(tmp_path / FILE)["loss"].to_pylist()
    assert column[0] == 1
    assert np.isnan(column[1])
    assert column[2] is None


def test_duckdb_finds_nan_losses_and_scores(tmp_path):
    """It trusts the bounds of a column, which leave NaN out: floats must not have any."""
    losses = np.array([1.5, np.nan, 0.5], dtype=np.float32)
    write_losses(tmp_path, FILE, [StepEntry(1, 1.0, 3)], {"loss": losses[None]})
    write_scores(tmp_path, pd.DataFrame({"action": losses.astype(float)}))
    write_features(tmp_path, losses[:, None])
    for path, number in {
        FILE: "loss",
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


def test_losses_are_small_columnar_files(tmp_path):
    loss = np.random.default_rng(0).gamma(1, 1, 100_000).astype(np.float32)
    entry = write_losses(tmp_path, FILE, [StepEntry(1, 1.0, 100_000)], {"loss": loss[None]})
    meta = pq.ParquetFile(tmp_path / FILE).metadata.row_group(0).column(2)
    assert meta.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in meta.encodings
    long_pages = "max_rows_per_page" in inspect.signature(pq.write_table).parameters
    assert entry.bytes < (3.4 if long_pages else 3.5) * loss.size


def test_nothing_is_pickled(record):
    for path in record.rglob("*.parquet"):
        assert path.read_bytes()[:4] == b"PAR1"
