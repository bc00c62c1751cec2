"""From the log into files, by the side of a plain list of what was recorded."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actiontrack.errors import CorruptRecordError, StoreError
from actiontrack.record.losses import read_history, read_steps
from actiontrack.record.manifest import Manifest
from actiontrack.record.samples import Samples, write_samples
from actiontrack.record.steps import StepEntry, StepTotals
from actiontrack.recorder import packer, packing
from actiontrack.recorder.packer import count_from_one, pack
from actiontrack.recorder.packing import Limits
from actiontrack.recorder.spool import Destination, Spool

N = 5
COLUMNS = ("loss", "correct", "predicted", "box")


def row_of(step, version=0):
    """What one step holds: its entry, its columns, and what was seen."""
    rng = np.random.default_rng([step, version])
    seen = rng.random(N) < 0.8
    seen[0] = True
    columns = {
        "loss": rng.gamma(1, 1, N).astype(np.float32),
        "correct": rng.random(N) < 0.5,
        "predicted": rng.integers(0, 9, N).astype(np.int32),
        "box": rng.random(N).astype(np.float32),
    }
    if version % 2:
        seen[:] = True
    else:
        columns = {name: np.ma.MaskedArray(values, ~seen) for name, values in columns.items()}
    return StepEntry(step, 0.25 + step, int(seen.sum()), step % 2, step % 3), columns, seen


def make_spool(folder):
    manifest = Manifest(
        split="test",
        mode="probe",
        loss_name="loss",
        delta_kind="epoch",
        n_samples=N,
        id_type="int64",
        digests={},
        measures=("correct", "predicted"),
        components=("box",),
    )
    spool = Spool.create(folder, manifest, Destination("sqlite:///x.db", "run1", "cnn"))
    spool.add_file("samples.parquet", write_samples(folder, Samples(sample_ids=np.arange(N))))
    return spool


def add(spool, *rows):
    for entry, columns, _ in rows:
        spool.add_step(entry, columns)


def assert_holds(spool, rows):
    """The record is that of these rows, whether in files or in the log; now it is in files."""
    entries = [entry for entry, _, _ in rows]
    assert spool.steps == entries
    manifest = pack(spool)
    assert list(read_steps(manifest, spool.fetch)) == entries
    assert manifest.totals == StepTotals.of(entries)
    history = read_history(manifest, spool.fetch)
    assert history.steps.tolist() == [entry.step for entry in entries]
    assert history.deltas.tolist() == [entry.delta for entry in entries]
    for row, (_, columns, seen) in enumerate(rows):
        np.testing.assert_array_equal(history.seen[row], seen)
        for name, grid in {
            "loss": history.losses,
            **history.measures,
            **history.components,
        }.items():
            expected = np.ma.getdata(columns[name])[seen]
            assert grid[row][seen].tobytes() == expected.tobytes(), name


def losses_files(spool):
    """Names of the files of losses that are in the folder."""
    return sorted(path.name for path in (spool.folder / "losses").glob("*"))


def named_files(spool):
    return sorted(Path(block.path).name for block in spool.manifest.blocks)


@pytest.fixture
def small(monkeypatch):
    """Files that are large after six steps, and three small ones of a size become one."""
    monkeypatch.setattr(Limits, "of", lambda _: Limits(6, 13))
    monkeypatch.setattr(packing, "_MERGED", 3)


@pytest.fixture
def spool(tmp_path, small):
    """A spool without a step."""
    return make_spool(tmp_path / "test-probe")


# --- whatever is done in whatever order ---

OPERATIONS = st.lists(
    st.tuples(st.just("add"), st.integers(1, 9))
    | st.tuples(st.just("truncate"), st.integers(0, 12))
    | st.tuples(st.sampled_from(["pack", "pack all", "load", "discard"]), st.just(0)),
    min_size=1,
    max_size=30,
)


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(OPERATIONS)
def test_a_record_is_what_was_added_and_not_truncated(small, tmp_path_factory, operations):
    spool, rows = make_spool(tmp_path_factory.mktemp("spool") / "test-probe"), []
    paths = set()
    for version, (what, number) in enumerate(operations):
        if what == "add":
            last = rows[-1][0].step if rows else -1
            new = [row_of(last + 1 + k + (k > 4), version) for k in range(number)]
            add(spool, *new)
            rows += new
        elif what == "truncate":
            start = max(len(rows) - number, 0)
            if start < len(rows):
                assert spool.truncate(rows[start][0].step) is True
            del rows[start:]
        elif what == "load":
            spool = Spool.load(spool.folder)
        elif what == "discard":
            spool.discard_superseded(spool.manifest)
        else:
            before = {block.path for block in spool.manifest.blocks}
            pack(spool, all_small=what == "pack all")
            new_paths = {block.path for block in spool.manifest.blocks} - before
            assert not new_paths & paths, "a number came twice"
            paths |= new_paths | before
        assert [entry for entry, _, _ in rows] == spool.steps
    copy = spool.folder.with_name("copy")
    assert_holds(Spool.load(shutil.copytree(spool.folder, copy)), rows)
    assert_holds(spool, rows)


def test_a_step_may_come_again_and_again(spool):
    rows = [row_of(1), row_of(2)]
    add(spool, *rows)
    for version in range(1, 6):
        spool.truncate(2)
        rows[1] = row_of(2, version)
        add(spool, rows[1])
        if version % 2:
            pack(spool)
    assert_holds(spool, rows)


# --- what is left in the folder ---


def test_merged_files_are_deleted_once_nobody_names_them(spool):
    for step in range(1, 12):
        add(spool, row_of(step))
        pack(spool)
    assert len(losses_files(spool)) > len(named_files(spool))
    before = set(losses_files(spool))
    superseded = spool.discard_superseded(spool.manifest)
    assert losses_files(spool) == named_files(spool)
    assert {Path(path).name for path in superseded} == before - set(named_files(spool))
    assert spool.discard_superseded(spool.manifest) == set()


def test_a_file_that_is_being_uploaded_stays(spool):
    for step in range(1, 3):
        add(spool, row_of(step))
        uploading = pack(spool)
    pack(spool, all_small=True)
    assert spool.discard_superseded(uploading) == set()
    assert all((spool.folder / path).is_file() for path in uploading.files)
    assert spool.discard_superseded(spool.manifest) == {block.path for block in uploading.blocks}


def test_what_is_packed_is_in_no_log_any_more(spool):
    add(spool, *(row_of(step) for step in (1, 2)))
    pack(spool)
    assert spool.log.numbers() == []
    add(spool, row_of(3))
    assert spool.log.numbers() == [spool.manifest.log]


def test_a_number_does_not_come_twice_when_all_was_forgotten(spool):
    add(spool, row_of(1))
    first = pack(spool).blocks
    spool.truncate(1)
    pack(spool)
    spool.discard_superseded(spool.manifest)
    add(spool, row_of(1, 1))
    assert first != pack(spool).blocks
    assert_holds(spool, [row_of(1, 1)])


def test_steps_are_packed_into_few_files(spool):
    add(spool, *(row_of(step) for step in range(1, 41)))
    manifest = pack(spool)
    assert [block.n_steps for block in manifest.blocks] == [10, 10, 10, 10]
    assert [block.first_step for block in manifest.blocks] == [1, 11, 21, 31]


def test_packing_without_a_step_writes_nothing(spool):
    before = spool.manifest
    assert pack(spool) is before
    assert losses_files(spool) == []


# --- what is newer ---


def test_the_revision_rises_with_every_step_however_they_are_packed(tmp_path, small):
    together, alone = (make_spool(tmp_path / name) for name in ("together", "alone"))
    for step in range(1, 6):
        add(together, row_of(step))
        add(alone, row_of(step))
        pack(alone)
    assert pack(together).revision == alone.manifest.revision
    before = alone.manifest.revision
    assert pack(alone, all_small=True).revision == before
    assert pack(together, all_small=True).revision == before


def test_a_copy_that_was_merged_is_no_newer_than_the_record_that_went_on(spool, tmp_path):
    add(spool, *(row_of(step) for step in (1, 2)))
    pack(spool)
    add(spool, row_of(3))
    copy = Spool.load(shutil.copytree(spool.folder, tmp_path / "copy"))
    add(spool, row_of(4))
    assert pack(copy, all_small=True).revision < pack(spool).revision


# --- errors and crashes ---


def some_steps(folder):
    """A spool with files of several sizes and a log that cuts into them. Returns its rows too."""
    spool = make_spool(folder)
    for step in range(1, 9):
        add(spool, row_of(step))
        pack(spool)
    spool.truncate(8)
    add(spool, *(row_of(step, 1) for step in range(8, 25)))
    return spool, [row_of(step, int(step > 7)) for step in range(1, 25)]


class PowerCutError(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def power(monkeypatch):
    """Counts operations on files, and fails at one of them and for ever after."""

    class Power:
        left = None

        def __call__(self, real):
            def operation(*arguments, **options):
                if self.left is not None:
                    if self.left == 0:
                        raise PowerCutError
                    self.left -= 1
                return real(*arguments, **options)

            return operation

    power = Power()
    for owner, name in (
        *((Path, "replace"), (Path, "unlink"), (Path, "write_text"), (Path, "mkdir")),
        (pq, "write_table"),
    ):
        monkeypatch.setattr(owner, name, power(getattr(owner, name)))
    return power


@pytest.mark.parametrize("all_small", [False, True])
def test_a_crash_between_any_two_operations_loses_no_step(tmp_path, small, power, all_small):
    some_steps(tmp_path / "before")
    rows = some_steps(tmp_path / "other")[1]
    n_operations = 0
    while True:
        folder = shutil.copytree(tmp_path / "before", tmp_path / f"after {n_operations}")
        spool = Spool.load(folder)
        power.left = n_operations
        try:
            pack(spool, all_small=all_small)
            spool.discard_superseded(spool.manifest)
            break
        except PowerCutError:
            pass
        finally:
            power.left = None
        left = Spool.load(folder)
        assert left.steps == [entry for entry, _, _ in rows], n_operations
        add(left, row_of(25))
        assert_holds(left, [*rows, row_of(25)])
        n_operations += 1
    assert n_operations > 6
    assert_holds(spool, rows)


def test_a_full_disk_leaves_files_and_log_as_they_were(tmp_path, small, monkeypatch):
    spool, rows = some_steps(tmp_path / "test-probe")
    manifest, files = spool.manifest, losses_files(spool)
    real, written = pq.write_table, []

    def fail(table, path, **options):
        written.append(path)
        if len(written) > 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(table, path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(pq, "write_table", fail)
        with pytest.raises(StoreError, match="No space left on device"):
            pack(spool, all_small=True)
    assert len(written) == 2
    assert (spool.manifest, losses_files(spool)) == (manifest, files)
    assert_holds(Spool.load(spool.folder), rows)


def test_a_manifest_that_cannot_be_written_leaves_the_log(spool, monkeypatch):
    rows = [row_of(1), row_of(2)]
    add(spool, *rows)

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fail)
        with pytest.raises(StoreError, match="No space left on device"):
            pack(spool)
    assert spool.manifest.blocks == ()
    assert_holds(Spool.load(spool.folder), rows)


def test_a_damaged_file_is_not_merged_and_the_log_stays(spool):
    add(spool, row_of(1))
    (block,) = pack(spool).blocks
    (spool.folder / block.path).write_bytes(b"")
    add(spool, row_of(2))
    with pytest.raises(CorruptRecordError, match=r"^losses/000001\.parquet of test-probe is trunc"):
        pack(spool, all_small=True)
    assert [frame.entry.step for frame in spool.log.frames(0, 99)] == [2]


def test_steps_may_be_added_while_others_are_packed(spool, monkeypatch):
    real, later = packer.write_losses, [row_of(3)]

    def write(*arguments, **options):
        while later:
            add(spool, later.pop())
        return real(*arguments, **options)

    monkeypatch.setattr(packer, "write_losses", write)
    add(spool, row_of(1), row_of(2))
    assert pack(spool).n_steps == 2
    assert Spool.load(spool.folder).steps == spool.steps
    assert_holds(spool, [row_of(step) for step in (1, 2, 3)])


# --- numbers that change ---


def test_a_loop_that_counts_from_zero_is_renumbered(spool):
    add(spool, *(row_of(step) for step in (0, 1)))
    pack(spool)
    add(spool, row_of(2))
    before = read_history(pack(spool), spool.fetch)
    count_from_one(spool)
    after = read_history(spool.manifest, spool.fetch)
    assert [entry.step for entry in spool.steps] == after.steps.tolist() == [1, 2, 3]
    assert after.deltas.tolist() == before.deltas.tolist()
    np.testing.assert_array_equal(after.losses, before.losses)
    assert Spool.load(spool.folder).steps == spool.steps
