"""Records that are compacted: what they hold stays the same, and is in few files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import message, remote_run, wait_until
from record_files import assert_same_history, write
from uploading import assert_whole, timed_epoch

from actiontrack.errors import CorruptRecordError, NotFoundError, RecordingError, StoreError
from actiontrack.recorder import Recorder, compact, sync
from actiontrack.recorder.compact import LossFiles, compact_record
from actiontrack.store import Store
from actiontrack.testing import make_history

GOLDEN = sorted(
    next(path.with_suffix("").iterdir())
    for path in (Path(__file__).parents[1] / "golden" / "v1").glob("*.json")
)


@pytest.fixture
def place(store, run_id):
    """A function that puts a record among the artifacts of the test's run; returns its folder."""

    def copy(source, status="complete"):
        folder = store.local_root(store.get_run(run_id)) / "actiontrack" / source.name
        shutil.copytree(source, folder)
        tags = {"actiontrack.format": "1", f"actiontrack.record.{source.name}": status}
        store.set_tags(run_id, tags)
        return folder

    return copy


@pytest.fixture
def scattered(tmp_path, place):
    """A function that puts a record of nine steps in five files into the run."""

    def make(**changes):
        source = tmp_path / "made" / "test-probe"
        history = make_history(n_steps=9, n_samples=20, n_classes=3)
        manifest = write(source, history, **changes)
        return place(source, manifest.status), history

    return make


def files_of(folder):
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def losses_in(folder):
    return sorted(name for name in files_of(folder) if name.startswith(("blocks/", "losses/")))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.parent.name)
def test_a_record_of_format_1_becomes_one_of_format_2_and_means_the_same(
    store, run_id, place, golden
):
    folder = place(golden)
    before, before_files = store.open_record(run_id), files_of(folder)
    done = compact_record(run_id, store=store)
    after, after_files = Store(store.tracking_uri).open_record(run_id), files_of(folder)
    n_steps = before.manifest.n_steps
    assert (done.run_id, done.record) == (run_id, golden.name)
    assert (done.before.version, done.before.n_files, done.n_deleted) == (1, n_steps, n_steps)
    assert done.after == LossFiles(2, 1, len(after_files["losses/000001.parquet"]))
    assert losses_in(folder) == ["losses/000001.parquet"]
    others = (
        set(before_files) - {"manifest.json"} - {block.path for block in before.manifest.blocks}
    )
    assert {name: after_files[name] for name in others} == {
        name: before_files[name] for name in others
    }
    expected = json.loads(golden.parent.with_suffix(".json").read_text(encoding="utf-8"))
    history = after.history()
    assert history.deltas.tolist() == expected["deltas"]
    blocks = sorted((golden / "blocks").iterdir())
    losses = [pd.read_parquet(path)["loss"].to_numpy(np.float32) for path in blocks]
    np.testing.assert_array_equal(history.losses, losses)
    seen = [[value != "missing" for value in row] for row in expected["losses"]]
    assert history.seen.tolist() == seen
    pd.testing.assert_frame_equal(after.scores(), before.scores())
    assert store.get_run(run_id).tags["actiontrack.format"] == "2"


def test_files_that_were_there_before_keep_their_digests(store, run_id, place):
    folder = place(GOLDEN[0])
    before = store.open_record(run_id).manifest
    compact_record(run_id, store=store)
    after = json.loads((folder / "manifest.json").read_text())
    assert after["files"]["samples.parquet"]["sha256"] == before.files["samples.parquet"].digest
    assert "blake3" in after["files"]["losses/000001.parquet"]


def test_the_second_time_there_is_nothing_to_do(store, run_id, place):
    folder = place(GOLDEN[0])
    first = compact_record(run_id, store=store)
    files = files_of(folder)
    second = compact_record(run_id, store=store)
    assert (second.before, second.after, second.n_deleted) == (first.after, first.after, 0)
    assert files_of(folder) == files


def test_many_small_files_of_format_2_become_one(store, run_id, scattered):
    folder, history = scattered(status="recording")
    assert len(losses_in(folder)) == 5
    done = compact_record(run_id, store=store, ended=True)
    assert (done.before.n_files, done.after.n_files, done.n_deleted) == (5, 1, 5)
    assert losses_in(folder) == ["losses/000006.parquet"]
    record = store.open_record(run_id)
    assert_same_history(record.history(), history)
    assert record.manifest.status == "recording"


def test_a_spool_that_is_locked_for_it_is_gone_afterwards(store, run_id, scattered, spool):
    scattered()
    compact_record(run_id, store=store)
    assert list(spool.iterdir()) == []


def test_wherever_it_is_interrupted_the_record_can_be_read_and_is_compacted_then(
    store, run_id, scattered, monkeypatch
):
    folder, history = scattered()
    pristine = folder.with_name("pristine")
    shutil.copytree(folder, pristine)
    calls = []

    def failing(name, left):
        original = getattr(Store, name)

        def call(self, *arguments, **options):
            calls.append(name)
            if len(calls) > left:
                raise KeyboardInterrupt
            return original(self, *arguments, **options)

        return call

    names = ("upload", "tag_record", "delete_artifacts")
    for left in range(4):
        shutil.rmtree(folder)
        shutil.copytree(pristine, folder)
        calls.clear()
        with monkeypatch.context() as patch:
            for name in names:
                patch.setattr(Store, name, failing(name, left))
            with pytest.raises(KeyboardInterrupt):
                compact_record(run_id, store=store)
        assert_same_history(store.open_record(run_id).history(), history)
        compact_record(run_id, store=store)
        assert_same_history(store.open_record(run_id).history(), history)
        assert losses_in(folder) == ["losses/000006.parquet"]
    assert calls == ["upload", "upload", "tag_record", "delete_artifacts"]


@pytest.mark.parametrize("column", ["loss", "entropy", "predicted"])
def test_what_is_not_the_same_bit_by_bit_is_not_uploaded(
    store, run_id, scattered, monkeypatch, column
):
    folder, _ = scattered()
    before = files_of(folder)
    original = compact.read_blocks

    def read(manifest, blocks, fetch, names):
        steps, grids, seen = original(manifest, blocks, fetch, names)
        if len(blocks) == 1 and column in grids:
            grids[column].view(np.uint8)[-1, -1] ^= 1
        return steps, grids, seen

    monkeypatch.setattr(compact, "read_blocks", read)
    text = (
        f"record test-probe: the column {column} is not the same once it is compacted. "
        "Nothing was uploaded, and the record is as it was. Please report this."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        compact_record(run_id, store=store)
    assert files_of(folder) == before


def test_a_run_that_may_be_recording_is_refused(store, run_id, scattered):
    folder, _ = scattered(status="recording")
    before = files_of(folder)
    name = store.get_run(run_id).name
    text = (
        f"run {run_id} ({name}) is marked RUNNING and its record test-probe is not finished: a "
        "process may be recording it. Wait until it has ended. If it was killed, call "
        "'actiontrack sync' on its machine, which uploads what it left, then compact with --ended."
    )
    with pytest.raises(RecordingError, match=message(text)):
        compact_record(run_id, store=store)
    assert files_of(folder) == before


def test_a_record_that_waits_in_the_spool_of_this_machine_is_refused(
    store, run_id, scattered, spool
):
    folder, _ = scattered()
    shutil.copytree(folder, spool / run_id / "test-probe")
    waiting = spool / run_id / "test-probe"
    text = (
        f"record test-probe of run {run_id} waits in {waiting} and may hold more than the run. "
        f"Upload it first: actiontrack sync {waiting}"
    )
    with pytest.raises(RecordingError, match=message(text)):
        compact_record(run_id, store=store)
    assert (waiting / "manifest.json").is_file()


def test_a_record_that_this_machine_records_is_refused_whatever_is_known(store, run_id):
    with Recorder(store=store, run_id=run_id) as recorder:
        for epoch in (1, 2):
            timed_epoch(recorder, epoch)
            wait_until(lambda: recorder.synced)
        with pytest.raises(RecordingError, match="is being recorded already, by another recorder"):
            compact_record(run_id, store=store, ended=True)


def test_a_process_that_was_said_to_have_ended_loses_nothing(store, run_id, tmp_path):
    recorder = Recorder(store=store, run_id=run_id, spool=tmp_path / "elsewhere")
    for epoch in (1, 2):
        timed_epoch(recorder, epoch)
        wait_until(lambda: recorder.synced)
    assert compact_record(run_id, store=store, ended=True).after.n_files == 1
    timed_epoch(recorder, 3)
    wait_until(lambda: recorder._writer.uploader.refused)
    assert recorder.close() is False
    assert_whole(store, run_id, 2, complete=False)
    sync(tmp_path / "elsewhere")
    assert_whole(store, run_id, 3, complete=False)


def test_a_record_goes_on_after_it(store, run_id):
    with Recorder(store=store, run_id=run_id) as recorder:
        timed_epoch(recorder, 1)
        wait_until(lambda: recorder.synced)
        recorder.close()
    compact_record(run_id, store=store, ended=True)
    with Recorder(store=store, run_id=run_id, resume=True) as recorder:
        timed_epoch(recorder, 2)
    assert_whole(store, run_id, 2)


def test_a_damaged_file_is_named_and_the_record_stays(store, run_id, scattered):
    folder, _ = scattered()
    damaged = folder / "losses/000003.parquet"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    before, tags = files_of(folder), store.get_run(run_id).tags
    with pytest.raises(CorruptRecordError, match=r"losses/000003\.parquet of test-probe is trunc"):
        compact_record(run_id, store=store)
    assert files_of(folder) == before
    assert store.get_run(run_id).tags == tags


def test_a_record_that_changes_meanwhile_stays_as_it_is_then(store, run_id, scattered, monkeypatch):
    folder, history = scattered()
    original = compact._compacted

    def compacted(stored, scratch):
        spool = original(stored, scratch)
        write(folder, replace(history, losses=history.losses + 1))
        return spool

    monkeypatch.setattr(compact, "_compacted", compacted)
    with pytest.raises(RecordingError, match="has changed meanwhile: a process is recording it"):
        compact_record(run_id, store=store)
    assert len(losses_in(folder)) == 5


def test_a_record_behind_a_server_is_compacted_through_it(server, tmp_path):
    store, run_id = Store(server.uri), remote_run(server)
    with Recorder(store=store, run_id=run_id, spool=tmp_path / "elsewhere") as recorder:
        for epoch in (1, 2):
            timed_epoch(recorder, epoch)
            wait_until(lambda: recorder.synced)
        assert compact_record(run_id, store=store, ended=True).before.n_files == 2
        paths = store.list_files(store.get_run(run_id), "actiontrack/test-probe/losses")
        assert len(paths) == 1
        assert_whole(store, run_id, 2, complete=False)
        assert compact_record(run_id, store=store, ended=True).n_deleted == 0
        recorder.close()


def test_an_unknown_run_is_not_found(store):
    with pytest.raises(NotFoundError, match=r"^run 'nothing': not found by id or name"):
        compact_record("nothing", store=store)


def test_a_server_that_is_away_is_named(tmp_path):
    with pytest.raises(StoreError):
        compact_record("abc", store=Store("http://127.0.0.1:9"))
