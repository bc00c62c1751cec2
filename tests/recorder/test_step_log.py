"""Frames of the log: whole or not there, whatever happens to the file."""

import errno
import json
import os
import stat
from pathlib import Path

import numpy as np
import pytest
from helpers import message
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from actiontrack.errors import StoreError
from actiontrack.record.steps import StepEntry
from actiontrack.recorder.step_log import StepLog

N = 7
SOME = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DTYPES = (np.float32, np.float64, np.int32, np.int64, np.bool_, np.uint8)


def entry_of(step, n_seen=N):
    return StepEntry(step, 0.5 * step, n_seen, n_nonfinite=step, n_duplicates=2 * step)


def losses_of(step):
    return np.random.default_rng(step).gamma(1, 1, N).astype(np.float32)


def append(log, *steps):
    for step in steps:
        log.append(entry_of(step), {"loss": losses_of(step)})


def steps_in(log):
    return [
        frame.entry.step if frame.cut is None else ("cut", frame.cut)
        for frame in log.frames(0, log.number + 1)
    ]


@pytest.fixture
def log(tmp_path):
    """A log in a folder that is not there yet."""
    return StepLog(tmp_path / "test-probe")


@pytest.fixture
def path(tmp_path):
    """Where the first log is."""
    return tmp_path / "test-probe" / "log" / "000000.log"


@st.composite
def written(draw):
    """Columns of one step, masked alike or not at all."""
    n_rows = draw(st.integers(1, 20))
    dtypes = draw(st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4))
    columns = {f"column {row}": draw(hnp.arrays(dtype, n_rows)) for row, dtype in enumerate(dtypes)}
    mask = draw(st.none() | hnp.arrays(np.bool_, n_rows))
    if mask is None:
        return columns, None
    return {name: np.ma.MaskedArray(values, mask) for name, values in columns.items()}, mask


@SOME
@given(written(), st.integers(0, 2**31 - 1), st.floats(1e-9, 1e9))
def test_what_is_appended_comes_back_bit_by_bit(tmp_path_factory, step_columns, number, delta):
    columns, mask = step_columns
    log = StepLog(tmp_path_factory.mktemp("log"))
    n_rows = len(next(iter(columns.values())))
    entry = StepEntry(number, delta, n_rows if mask is None else int((~mask).sum()), 1, 3)
    log.append(entry, columns)
    (frame,) = log.frames(0, 1)
    assert (frame.entry, frame.cut) == (entry, None)
    assert list(frame.columns) == list(columns)
    for name, column in columns.items():
        assert frame.columns[name].dtype == column.dtype
        assert frame.columns[name].tobytes() == np.ma.getdata(column).tobytes()
    if mask is None:
        assert frame.seen is None
    else:
        np.testing.assert_array_equal(frame.seen, ~mask)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_step_comes_back_too(log, dtype):
    values = np.random.default_rng(0).integers(0, 99, 10**6).astype(dtype)
    log.append(entry_of(1, values.size), {"loss": values})
    (frame,) = log.frames(0, 1)
    assert frame.columns["loss"].dtype == values.dtype
    np.testing.assert_array_equal(frame.columns["loss"], values)


@pytest.mark.parametrize("mask", [False, [True, False, True]])
def test_a_component_may_be_called_as_one_likes(log, mask):
    numbers = {"loss": np.float32([1, 2, 3]), "seen": np.float32([4, 5, 6])}
    columns = {name: np.ma.MaskedArray(column, mask) for name, column in numbers.items()}
    log.append(entry_of(1, 3), columns)
    (frame,) = log.frames(0, 1)
    assert {name: column.tolist() for name, column in frame.columns.items()} == {
        "loss": [1, 2, 3],
        "seen": [4, 5, 6],
    }
    np.testing.assert_array_equal(frame.seen, ~np.array(mask))


def test_every_prefix_of_a_log_gives_the_whole_frames_before_its_end(log, path):
    ends = []
    for step in (1, 2, 3):
        append(log, step)
        ends.append(path.stat().st_size)
    log.cut(3)
    ends.append(path.stat().st_size)
    content, expected = path.read_bytes(), [1, 2, 3, ("cut", 3)]
    log.close()
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        assert steps_in(log) == expected[: sum(end <= size for end in ends)], size


@pytest.mark.parametrize("hurt", [1, 2])
def test_a_flipped_byte_ends_the_log_before_its_frame(log, path, hurt):
    ends = [0]
    for step in (1, 2, 3):
        append(log, step)
        ends.append(path.stat().st_size)
    log.close()
    content = path.read_bytes()
    for position in range(ends[hurt], ends[hurt + 1]):
        path.write_bytes(
            content[:position] + bytes([content[position] ^ 0x10]) + content[position + 1 :]
        )
        assert steps_in(log) == [1, 2, 3][:hurt], position


def test_a_log_that_is_damaged_does_not_hide_the_next_one(log, path):
    append(log, 1, 2)
    assert log.rotate() == 1
    append(log, 3)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert steps_in(log) == [1, 3]


def test_a_frame_is_what_the_format_says(log, path):
    append(log, 4)
    content = path.read_bytes()
    assert content[:4] == b"ATL2"
    n_header, n_values = np.frombuffer(content[4:8], "<u4")[0], np.frombuffer(content[8:16], "<u8")
    assert len(content) == 32 + n_header + n_values[0]
    header = json.loads(content[32 : 32 + n_header])
    assert header["step"] == {
        "step": 4,
        "delta": 2.0,
        "n_seen": N,
        "n_nonfinite": 4,
        "n_duplicates": 8,
    }
    assert header["columns"] == [["loss", "<f4", N, int(n_values[0]), True]]


def test_a_cut_is_a_frame_among_the_others(log):
    append(log, 1, 2)
    log.cut(2)
    append(log, 2)
    assert steps_in(log) == [1, 2, ("cut", 2), 2]


def test_another_log_begins_only_where_something_was_written(log):
    assert log.rotate() == 0
    append(log, 1)
    assert log.rotate() == 1
    assert log.rotate() == 1
    append(log, 2)
    assert log.numbers() == [0, 1]
    assert [frame.entry.step for frame in log.frames(1, 2)] == [2]


def test_logs_are_discarded_one_by_one(log):
    for step in (1, 2, 3):
        append(log, step)
        log.rotate()
    log.discard(0, 2)
    log.discard(0, 2)  # as after a crash between two of them
    assert log.numbers() == [2]
    assert steps_in(log) == [3]


def test_a_log_without_a_folder_is_empty(log):
    assert (log.numbers(), steps_in(log)) == ([], [])


def test_what_is_no_log_is_left_alone(log, path):
    append(log, 1)
    (path.parent / "notes.log").write_text("not ours")
    assert log.numbers() == [0]


# --- a full disk ---


def test_a_full_disk_leaves_the_log_as_it_was(small_disk):
    log = StepLog(small_disk / "test-probe")
    append(log, 1)
    path = small_disk / "test-probe" / "log" / "000000.log"
    before = path.read_bytes()
    values = np.random.default_rng(0).random(2**20)
    text = (
        f"cannot write {path}: No space left on device. What was recorded before is safe. Free "
        "space or set ACTIONTRACK_SPOOL to a folder that can be written, then try again."
    )
    for _ in range(2):
        with pytest.raises(StoreError, match=message(text)):
            log.append(StepEntry(2, 1.0, values.size), {"loss": values})
        assert path.read_bytes() == before
    append(log, 2)
    assert steps_in(log) == [1, 2]


class Short:
    """A file that takes only a few bytes at once, and none once it is full."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, content):
        size = min(len(content), 5, self._room)
        if not size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room -= size
        return self._file.write(content[:size])


def test_a_frame_that_is_written_in_parts_is_whole(log):
    append(log, 1)
    log._file = Short(log._file, 10_000)
    append(log, 2)
    np.testing.assert_array_equal(list(log.frames(0, 1))[1].columns["loss"], losses_of(2))


@pytest.mark.parametrize("room", [0, 1, 33, 100])
def test_a_disk_that_takes_a_part_of_a_frame_leaves_the_log_as_it_was(log, path, room):
    append(log, 1)
    before = path.read_bytes()
    log._file = Short(log._file, room)
    with pytest.raises(StoreError, match="No space left on device"):
        append(log, 2)
    assert path.read_bytes() == before
    append(log, 2)
    assert steps_in(log) == [1, 2]


# --- a power cut ---


@pytest.fixture
def synced(monkeypatch):
    """What os.fsync was called for: the content of files, and the names in folders."""
    calls, real = [], os.fsync

    def fsync(descriptor):
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append((path, None if is_folder else os.fstat(descriptor).st_size))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


def test_a_durable_step_is_on_the_disk_before_it_counts(tmp_path, synced, path):
    log = StepLog(tmp_path / "test-probe", durable=True)
    append(log, 1)
    assert synced == [
        (str(path.parent), None),
        (str(path.parent.parent), None),
        (str(path), path.stat().st_size),
    ]
    synced.clear()
    append(log, 2)
    log.cut(2)
    assert [name for name, _ in synced] == [str(path)] * 2
    assert synced[-1] == (str(path), path.stat().st_size)


def test_a_step_that_need_not_be_durable_waits_for_no_disk(log, synced):
    append(log, 1, 2)
    assert synced == []


def test_a_step_that_did_not_reach_the_disk_is_not_there(tmp_path, monkeypatch):
    log = StepLog(tmp_path / "test-probe", durable=True)
    append(log, 1)

    def fail(_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(StoreError, match="Input/output error"):
            append(log, 2)
    assert steps_in(log) == [1]
