"""Open records: they follow what is recorded, are read once, and keep to their room."""

import contextlib
import gc
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import wait_until

from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError
from actiontrack.record.vectors import read_scores
from actiontrack.recorder import Recorder
from actiontrack.store import Store
from actiontrack.store import record as stored_record
from actiontrack.testing import make_history, record_history
from actiontrack.web.images import ImageRoots
from actiontrack.web.records import Records
from actiontrack.web.samples import image_of


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda records, run: records.open(run, "train-probe"), NotFoundError),
        (lambda records, run: records.open(run, "../../../etc"), ParameterError),
        (lambda records, run: records.open(run[::-1]), NotFoundError),
        (lambda records, run: records.open_all([run, run]), ParameterError),
    ],
)
def test_what_is_no_record_is_an_error_of_ours(records, runs, ask, error):
    with pytest.raises(error):
        ask(records, runs["mlp-0"])


def test_a_record_that_grows_is_read_anew(new_run, store, spool):
    run_id, records = new_run(), Records(store)

    def has_steps(n_steps):
        with contextlib.suppress(NotFoundError):  # nothing is uploaded yet
            return records.open(run_id, "test-probe").manifest.n_steps == n_steps

    with Recorder("test", run_id=run_id, store=store, spool=spool) as recorder:
        for n_steps in (1, 2):
            recorder.update([1, 2, 3], np.array([1.0, 2.0, 3.0]) + n_steps)
            recorder.end_epoch()
            wait_until(partial(has_steps, n_steps))
            before = records.version([run_id], "test-probe")
            frame = records.ask("scores", run_id, "test-probe")
            assert frame["n_steps"].tolist() == [n_steps] * 3
    assert records.version([run_id], "test-probe") != before


@pytest.fixture
def remote(recorded, monkeypatch):
    """The recorded store as if its artifacts were elsewhere, and the paths that it downloads."""
    store, paths = Store(recorded[0]), []
    download = store.download

    def counted(run, path, folder, **options):
        paths.append(path)
        return download(run, path, folder, **options)

    monkeypatch.setattr(store, "local_root", lambda _run: None)
    monkeypatch.setattr(store, "download", counted)
    return store, paths


def test_files_of_a_record_elsewhere_are_downloaded_once_by_many_threads(remote, runs, recorded):
    store, paths = remote
    records, frames = Records(store), []

    def look():
        frames.append(records.ask("curves", runs["mlp-0"], id=["3"]))
        image_of(records, ImageRoots(), runs["mlp-0"], None, 3)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    expected = Records(Store(recorded[0])).ask("curves", runs["mlp-0"], id=["3"])
    for frame in frames:
        pd.testing.assert_frame_equal(frame, expected)
    assert len(frames) == 4
    blocks = records.open(runs["mlp-0"]).manifest.blocks
    losses = [path.rpartition("/losses/")[2] for path in paths if "/losses/" in path]
    assert sorted(losses) == sorted(block.path.removeprefix("losses/") for block in blocks)
    assert sum(block.n_steps for block in blocks) == 12


def test_downloads_of_records_that_left_the_cache_leave_the_disk(remote, runs):
    store, _ = remote
    records = Records(store, disk_bytes=1)
    record = records.open(runs["mlp-0"])
    folder = record._files.scratch
    record.scores()
    assert (folder / "scores.parquet").is_file()
    del record
    gc.collect()
    assert not folder.exists()


def test_an_unchanged_record_is_read_once(recorded, runs, monkeypatch):
    records, calls, read = Records(Store(recorded[0])), [], read_scores
    monkeypatch.setattr(
        stored_record, "read_scores", lambda *a, **k: calls.append(1) or read(*a, **k)
    )
    for _ in range(3):
        records.ask("scores", runs["mlp-0"])
        records.ask("classes", runs["mlp-0"])
    assert len(calls) == 1


def test_an_altered_file_is_refused_when_it_is_read(new_run, store, spool):
    run_id = new_run()
    record_history(make_history(), run_id, store, spool)
    root = store.local_root(store.get_run(run_id))
    path = Path(root) / "actiontrack/test-probe/scores.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(CorruptRecordError, match="truncated or altered"):
        Records(store).ask("scores", run_id)


def test_the_room_of_the_cache_is_read_from_the_environment(store, monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_CACHE_MB", "3")
    assert Records(store)._cache.max_bytes == 3 * 2**20
    monkeypatch.setenv("ACTIONTRACK_CACHE_MB", "much")
    with pytest.raises(ParameterError, match="ACTIONTRACK_CACHE_MB"):
        Records(store)


# The trash


@pytest.fixture
def finished(new_run, store, spool):
    """Id of a run with a record, in an experiment of its own."""
    run_id = new_run()
    record_history(make_history(), run_id, store, spool)
    return run_id


def test_a_run_in_the_trash_is_not_shown_until_it_is_restored(finished, store):
    store._client.delete_run(finished)
    with pytest.raises(NotFoundError, match="in the trash"):
        Records(store).open(finished)
    store._client.restore_run(finished)
    assert Records(store).open(finished).name == "test-probe"


def test_a_run_of_a_deleted_experiment_is_not_shown(finished, store):
    store._client.delete_experiment(store.get_run(finished).experiment_id)
    records = Records(store)
    with pytest.raises(NotFoundError, match="in the trash"):
        records.open(finished)
    assert finished not in {info.run_id for info in records.runs()}
