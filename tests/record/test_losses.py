"""Files of losses: several steps of all samples in each, read whole, by step and by sample."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pyarrow.parquet as pq
import pytest
from blake3 import blake3
from helpers import message
from hypothesis import given, settings
from hypothesis import strategies as st
from record_files import FIRST, LAST, altered, bare, missing, read

from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError
from actiontrack.record import losses, pieces
from actiontrack.record.losses import (
    read_blocks,
    read_curve,
    read_step,
    read_steps,
    write_losses,
)
from actiontrack.record.manifest import write_manifest
from actiontrack.record.paths import losses_path
from actiontrack.record.steps import Block, StepEntry, StepTotals

#: What stands for a loss or measure that was not seen, in a history.
ABSENT = {
    "loss": np.nan, "correct": False, "predicted": -1, "largest_other": -1, "box": np.nan,
}  # fmt: skip
NAMES = tuple(ABSENT)


def write_grids(folder, grids, seen, ends, first=1):
    """Write losses as a record of files that end before these rows; returns what steps held."""
    n_steps, n_samples = seen.shape
    steps = [
        StepEntry(first + 2 * row, 0.5 + row, int(seen[row].sum()), row, 2 * row)
        for row in range(n_steps)
    ]
    files, blocks = {}, []
    for number, (start, end) in enumerate(zip([0, *ends], [*ends, n_steps], strict=True), start=1):
        path, rows = losses_path(number), slice(start, end)
        held = {name: grid[rows] for name, grid in grids.items()}
        files[path] = write_losses(folder, path, steps[rows], held, seen[rows])
        blocks.append(Block.of(path, steps[rows]))
    manifest = replace(
        bare(n_samples), components=("box",), measures=("correct", "predicted", "largest_other"),
        blocks=tuple(blocks), totals=StepTotals.of(steps), files=files,
    )  # fmt: skip
    write_manifest(folder, manifest)
    return steps


@st.composite
def grids_and_seen(draw):
    """Columns, what was seen of them, and the rows at which files end."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 7)))
    numbers = hnp.arrays(np.float32, shape, elements=st.floats(width=32))
    grids = {
        "loss": draw(numbers),
        "correct": draw(hnp.arrays(np.bool_, shape)),
        "predicted": draw(hnp.arrays(np.int32, shape)),
        "largest_other": draw(hnp.arrays(np.int32, shape, elements=st.integers(-1, 2**24))),
        "box": draw(numbers),
    }
    ends = sorted(draw(st.sets(st.integers(1, shape[0]))) - {shape[0]})
    return grids, draw(hnp.arrays(np.bool_, shape)), ends


def absent_filled(grids, seen):
    return {name: np.where(seen, grid, ABSENT[name]) for name, grid in grids.items()}


@settings(deadline=None, max_examples=60)
@given(grids_and_seen(), st.integers(1, 9))
def test_losses_are_read_as_written_whole_by_step_and_by_sample(written, group_rows):
    """Nulls in any pattern, several files, and row groups of a few samples."""
    grids, seen, ends = written
    expected = absent_filled(grids, seen)
    with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setattr(losses, "_GROUP_ROWS", group_rows)
        steps = write_grids(Path(scratch), grids, seen, ends)
        manifest, fetch = read(Path(scratch))
        assert read_steps(manifest, fetch) == tuple(steps)
        entries, found, found_seen = read_blocks(manifest, manifest.blocks, fetch, NAMES)
        assert entries == tuple(steps)
        np.testing.assert_array_equal(found_seen, seen)
        for name in NAMES:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        for row, step in enumerate(steps):
            entry, found, found_seen = read_step(manifest, fetch, step.step, NAMES)
            assert entry == step
            np.testing.assert_array_equal(found_seen, seen[row])
            for name in NAMES:
                np.testing.assert_array_equal(found[name], expected[name][row], err_msg=name)
        for sample in range(seen.shape[1]):
            entries, found, found_seen = read_curve(manifest, fetch, sample, NAMES)
            assert entries == tuple(steps)
            np.testing.assert_array_equal(found_seen, seen[:, sample])
            for name in NAMES:
                np.testing.assert_array_equal(found[name], expected[name][:, sample], err_msg=name)


@pytest.fixture
def small(tmp_path):
    """Three steps of four samples in two files, and a loss that was not seen."""
    grids = {
        "loss": np.arange(12, dtype=np.float32).reshape(3, 4),
        "correct": np.eye(3, 4, dtype=np.bool_),
        "predicted": np.arange(12, dtype=np.int32).reshape(3, 4) % 3,
        "largest_other": np.arange(1, 13, dtype=np.int32).reshape(3, 4) % 3,
        "box": np.full((3, 4), np.nan, np.float32),
    }
    seen = np.ones((3, 4), np.bool_)
    seen[1, 2] = False
    write_grids(tmp_path, grids, seen, [2])
    return tmp_path


def test_rows_lie_sample_by_sample_and_step_by_step_within_one(small):
    table = pq.read_table(small / FIRST)
    assert table.column_names == ["sample", "step", *NAMES]
    assert table["sample"].to_pylist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert table["step"].to_pylist() == [1, 3] * 4
    assert table["loss"].to_pylist() == [0, 4, 1, 5, 2, None, 3, 7]
    assert table["predicted"].to_pylist() == [0, 1, 1, 2, 2, None, 0, 1]
    assert table["correct"].to_pylist() == [True, False, False, True, False, None, False, False]
    kinds = [str(kind) for kind in table.schema.types]
    assert kinds == ["int32", "int32", "float", "bool", "int32", "float", "float"]


def test_a_column_may_be_null_only_where_something_was_not_seen(small):
    some, none = (pq.read_schema(small / path) for path in (FIRST, LAST))
    assert [field.nullable for field in some] == [False] * 2 + [True] * len(NAMES)
    assert not any(field.nullable for field in none)


def test_the_largest_other_is_a_dictionary_of_floats_that_earlier_readers_take(small):
    """Whatever measure a reader does not know it takes for one of floats."""
    column = pq.read_table(small / LAST)["largest_other"]
    assert str(column.type) == "float"
    assert column.to_pylist() == [0, 1, 2, 0]
    row = pq.read_metadata(small / LAST).row_group(0)
    chunks = {
        row.column(number).path_in_schema: row.column(number) for number in range(row.num_columns)
    }
    assert "RLE_DICTIONARY" in chunks["largest_other"].encodings


@pytest.mark.parametrize("number", [0.5, np.nan, np.inf, 2.0**40])
def test_an_index_that_is_no_whole_number_is_refused(tmp_path, number):
    grid = np.full((1, 4), number, np.float32)
    write_grids(tmp_path, {"loss": grid, "largest_other": grid}, np.ones((1, 4), np.bool_), [])
    manifest, fetch = read(tmp_path)
    with pytest.raises(CorruptRecordError, match=re.escape(f"{FIRST} can't be read")):
        read_blocks(manifest, manifest.blocks, fetch, ["loss", "largest_other"])


def test_row_groups_are_of_whole_samples_and_as_many_rows_as_fit(tmp_path):
    n_steps, n_samples = 3, 2**17
    steps = [StepEntry(step, 1.0, n_samples) for step in range(n_steps)]
    write_losses(tmp_path, FIRST, steps, {"loss": np.zeros((n_steps, n_samples), np.float32)})
    meta = pq.read_metadata(tmp_path / FIRST)
    sizes = [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]
    whole = 2**18 // n_steps * n_steps
    assert sizes == [whole, n_steps * n_samples - whole]
    starts = [meta.row_group(group).column(0).statistics.min for group in range(len(sizes))]
    assert starts == [0, whole // n_steps]


def test_a_sample_of_more_steps_than_a_row_group_has_rows_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(losses, "_GROUP_ROWS", 2)
    steps = [StepEntry(step, 1.0, 2) for step in range(3)]
    write_losses(tmp_path, FIRST, steps, {"loss": np.zeros((3, 2), np.float32)})
    meta = pq.read_metadata(tmp_path / FIRST)
    assert [meta.row_group(group).num_rows for group in range(meta.num_row_groups)] == [3, 3]


def test_the_same_losses_are_the_same_bytes(tmp_path):
    loss = np.random.default_rng(0).random((2, 50)).astype(np.float32)
    steps = [StepEntry(step, 1.0, 50) for step in (1, 2)]
    entries = [
        write_losses(tmp_path, losses_path(number), steps, {"loss": layout})
        for number, layout in enumerate((loss, np.asfortranarray(loss), loss[::1]))
    ]
    assert entries[0] == entries[1] == entries[2]


@pytest.mark.parametrize("step", [0, 2, 4, 6])
def test_a_step_that_was_not_recorded_is_not_found(small, step):
    """Between two files, within one, before and behind them."""
    text = f"record test-probe has no step {step}. Its last one is 5."
    with pytest.raises(NotFoundError, match=message(text)):
        read_step(*read(small), step, ["loss"])


def test_one_step_needs_no_other_file(small):
    (small / FIRST).unlink()
    _, grids, _ = read_step(*read(small), 5, ["loss"])
    assert grids["loss"].tolist() == [8, 9, 10, 11]


@pytest.mark.parametrize("sample", [-1, 4, 10**12])
def test_a_sample_that_there_is_not_has_no_curve(small, sample):
    text = f"sample: must be a row position below 4, got {sample}. Look it up among the sample ids."
    with pytest.raises(ParameterError, match=message(text)):
        read_curve(*read(small), sample, ["loss"])


def test_steps_step_and_curve_of_a_record_of_version_1_are_those_of_its_files(old_record):
    manifest, fetch = read(old_record)
    tables = [pq.read_table(old_record / f"blocks/00000{step}.parquet") for step in (1, 2, 3)]
    expected = np.array([table["loss"].to_numpy() for table in tables])
    assert [entry.step for entry in read_steps(manifest, fetch)] == [1, 2, 3]
    for row, step in enumerate((1, 2, 3)):
        entry, grids, seen = read_step(manifest, fetch, step, ["loss", "predicted"])
        assert (entry.step, seen.all()) == (step, True)
        np.testing.assert_array_equal(grids["loss"], expected[row])
        assert grids["predicted"].tolist() == tables[row]["predicted"].to_pylist()
    for sample in range(6):
        entries, grids, seen = read_curve(manifest, fetch, sample, ["loss"])
        assert [entry.step for entry in entries] == [1, 2, 3]
        assert seen.all()
        np.testing.assert_array_equal(grids["loss"], expected[:, sample])


# A file of several pieces


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of 4 MiB in row groups of 2**18 rows; its losses."""
    folder = tmp_path_factory.mktemp("large") / "test-probe"
    n_steps, n_samples = 4, 2**18
    loss = np.random.default_rng(0).random((n_steps, n_samples)).astype(np.float32)
    steps = [StepEntry(step, 1.0, n_samples) for step in range(1, n_steps + 1)]
    entry = write_losses(folder, FIRST, steps, {"loss": loss})
    manifest = replace(
        bare(n_samples), blocks=(Block.of(FIRST, steps),), totals=StepTotals.of(steps),
        files={FIRST: entry},
    )  # fmt: skip
    write_manifest(folder, manifest)
    return folder, loss


def opened_pieces(monkeypatch):
    """The files that are read in pieces from now on."""
    opened = []
    start = pieces.PieceFile.__init__

    def noted(self, *arguments):
        start(self, *arguments)
        opened.append(self)

    monkeypatch.setattr(pieces.PieceFile, "__init__", noted)
    return opened


def test_the_pieces_of_a_file_are_named_in_the_manifest(large):
    folder, _ = large
    manifest, _ = read(folder)
    content = (folder / FIRST).read_bytes()
    parts = [content[start : start + 2**20] for start in range(0, len(content), 2**20)]
    assert len(parts) > 3
    assert manifest.files[FIRST].pieces == tuple(blake3(part).hexdigest() for part in parts)


@pytest.mark.parametrize("sample", [0, 2**16 - 1, 2**16, 2**18 - 1])
def test_a_curve_of_a_large_file_is_read_from_some_of_its_pieces(large, monkeypatch, sample):
    folder, loss = large
    opened = opened_pieces(monkeypatch)
    _, grids, _ = read_curve(*read(folder), sample, ["loss"])
    np.testing.assert_array_equal(grids["loss"], loss[:, sample])
    manifest, _ = read(folder)
    n_pieces = len(manifest.files[FIRST].pieces)
    assert [0 < file.n_pieces_read <= n_pieces - 1 for file in opened] == [True]


def test_what_steps_held_is_read_from_the_last_pieces(large, monkeypatch):
    folder, _ = large
    opened = opened_pieces(monkeypatch)
    assert [entry.step for entry in read_steps(*read(folder))] == [1, 2, 3, 4]
    assert [file.n_pieces_read <= 2 for file in opened] == [True]


def flipped(folder, offset):
    """Flip a bit of the large file."""
    with (folder / FIRST).open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("place", ["first", "last"])
def test_a_damaged_piece_hurts_the_samples_in_it_and_no_other(large, place):
    folder, loss = large
    size = (folder / FIRST).stat().st_size
    offset, hurt, whole = {
        "first": (2**19, 0, 2**18 - 1),
        "last": (size // 2**20 * 2**20 - 1000, 2**18 - 1, 0),  # before the footer's
    }[place]
    manifest, fetch = read(folder)
    flipped(folder, offset)
    try:
        _, grids, _ = read_curve(manifest, fetch, whole, ["loss"])
        np.testing.assert_array_equal(grids["loss"], loss[:, whole])
        with pytest.raises(CorruptRecordError, match=altered(FIRST)):
            read_curve(manifest, fetch, hurt, ["loss"])
        with pytest.raises(CorruptRecordError, match=altered(FIRST)):
            read_blocks(manifest, manifest.blocks, fetch, ["loss"])
    finally:
        flipped(folder, offset)


def test_a_damaged_footer_hurts_every_curve(large):
    folder, _ = large
    manifest, fetch = read(folder)
    offset = (folder / FIRST).stat().st_size - 5
    flipped(folder, offset)
    try:
        with pytest.raises(CorruptRecordError, match=altered(FIRST)):
            read_curve(manifest, fetch, 0, ["loss"])
        with pytest.raises(CorruptRecordError, match=altered(FIRST)):
            read_steps(manifest, fetch)
    finally:
        flipped(folder, offset)


@pytest.mark.parametrize("n_bytes", [-1, 1])
def test_a_large_file_of_another_size_has_no_curve(large, tmp_path, n_bytes):
    folder, _ = large
    manifest, _ = read(folder)
    content = (folder / FIRST).read_bytes()
    path = tmp_path / "other.parquet"
    path.write_bytes(content[:n_bytes] if n_bytes < 0 else content + b"\0" * n_bytes)
    with pytest.raises(CorruptRecordError, match=altered(FIRST)):
        read_curve(manifest, lambda _: path, 0, ["loss"])


def test_a_large_file_that_is_missing_or_a_link_has_no_curve(large, tmp_path):
    folder, _ = large
    manifest, _ = read(folder)
    path = tmp_path / "other.parquet"
    with pytest.raises(CorruptRecordError, match=missing(FIRST)):
        read_curve(manifest, lambda _: path, 0, ["loss"])
    path.symlink_to(folder / FIRST)
    with pytest.raises(CorruptRecordError, match=missing(FIRST)):
        read_curve(manifest, lambda _: path, 0, ["loss"])
