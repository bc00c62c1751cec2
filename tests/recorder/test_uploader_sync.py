"""Spools that were left behind, and the runs that they belong to."""

import re
import shutil

import pytest
from helpers import message
from uploading import assert_whole, losses_at, timed_epoch, warnings_of

from actiontrack.errors import CorruptRecordError, NotFoundError, StoreError
from actiontrack.recorder import Recorder, sync, uploader
from actiontrack.recorder.packer import pack
from actiontrack.store import Store
from actiontrack.store.tags import ELSEWHERE, MANIFEST_TAG


@pytest.fixture
def left_behind(store, new_run, tmp_path):
    """A function that leaves the spool of a record behind, none of it uploaded."""

    def leave(epochs=(1, 2), split="test", run_id=None, *, packed=False):
        run_id = run_id or new_run()
        root = tmp_path / "left"
        options = {"store": store, "run_id": new_run(), "spool": tmp_path / "other"}
        with Recorder(split, patience=0.1, **options) as recorder:
            recorder._writer.uploader.close(0)  # else files come and go while they are copied
            for epoch in epochs:
                timed_epoch(recorder, epoch)
            if packed:
                pack(recorder._writer.spool)
            source = recorder.folder
            shutil.copytree(source, root / run_id / source.name)
        path = root / run_id / f"{split}-probe" / "sync.json"
        path.write_text(path.read_text().replace(source.parent.name, run_id))
        return run_id, root

    return leave


@pytest.mark.parametrize("packed", [False, True])
def test_a_spool_left_behind_is_uploaded_and_marked_unfinished(store, left_behind, packed):
    run_id, root = left_behind(packed=packed)
    assert sync(root) == [f"{run_id}/test-probe"]
    assert_whole(store, run_id, 2, complete=False)
    assert store.get_run(run_id).records == ("test-probe",)
    assert list(root.iterdir()) == []


def test_every_spool_below_a_folder_is_uploaded(store, left_behind):
    run_id, root = left_behind()
    left_behind(split="train", run_id=run_id)
    other, _ = left_behind(epochs=(1,))
    found = sync(root)
    assert sorted(found) == sorted(
        [f"{run_id}/test-probe", f"{run_id}/train-probe", f"{other}/test-probe"]
    )
    assert store.get_run(run_id).records == ("test-probe", "train-probe")


def test_one_record_alone_is_uploaded(left_behind):
    run_id, root = left_behind()
    left_behind()
    assert sync(root / run_id / "test-probe") == [f"{run_id}/test-probe"]
    assert len(list(root.iterdir())) == 1


def test_a_folder_that_does_not_say_where_it_belongs_goes_to_the_run_it_is_named_after(
    store, left_behind
):
    # As earlier versions left them, where an epoch was recorded after the end.
    run_id, root = left_behind()
    (root / run_id / "test-probe" / "sync.json").unlink()
    assert sync(root) == [f"{run_id}/test-probe"]
    assert_whole(store, run_id, 2, complete=False)


def test_a_folder_that_lacks_files_which_the_run_has_not_either_is_refused(left_behind):
    run_id, root = left_behind(packed=True)
    folder = root / run_id / "test-probe"
    (folder / "losses" / "000001.parquet").unlink()
    text = (
        f"{folder} lacks 1 files of its record, losses/000001.parquet among them, and run {run_id} "
        "does not hold them either. Delete the folder: what the run holds is whole."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        sync(root)


def test_nothing_left_behind_is_nothing_to_do(tmp_path):
    assert sync(tmp_path / "none") == []


def test_a_dead_server_leaves_the_spool_where_it_is(left_behind):
    run_id, root = left_behind()
    before = sorted((root / run_id / "test-probe").rglob("*"))
    with pytest.raises(
        StoreError, match=r"^the tracking server http://127\.0\.0\.1:9 does not ans"
    ):
        sync(root, store=Store("http://127.0.0.1:9"))
    assert sorted((root / run_id / "test-probe").rglob("*")) == before


def test_a_run_that_is_gone_leaves_the_spool_where_it_is(left_behind):
    gone = "0" * 32
    _, root = left_behind(run_id=gone)
    with pytest.raises(
        NotFoundError, match=f"^run '{'0' * 32}': Run with id={'0' * 32} not found.* Delete "
    ):
        sync(root)
    assert (root / gone / "test-probe" / "manifest.json").exists()


def test_a_damaged_spool_is_refused(left_behind):
    run_id, root = left_behind()
    path = root / run_id / "test-probe" / "manifest.json"
    path.write_text("{")
    with pytest.raises(CorruptRecordError, match=f"^{re.escape(str(path))} is damaged"):
        sync(root)


def test_one_record_that_fails_does_not_keep_the_others(store, left_behind):
    broken, root = left_behind()
    (root / broken / "test-probe" / "manifest.json").write_text("{")
    whole, _ = left_behind()
    with pytest.raises(CorruptRecordError, match="is damaged or half-written"):
        sync(root)
    assert_whole(store, whole, 2, complete=False)


def test_several_records_that_fail_are_told_together(left_behind):
    for _ in range(2):
        broken, root = left_behind()
        (root / broken / "test-probe" / "manifest.json").write_text("{")
    with pytest.raises(
        StoreError, match=r"^2 records are not uploaded\. .*test-probe: .*test-probe: "
    ):
        sync(root)


def test_a_record_that_is_being_recorded_is_left_alone(store, run_id, spool, caplog):
    with Recorder(store=store, run_id=run_id, spool=spool) as recorder:
        timed_epoch(recorder, 1)
        assert sync(spool) == []
        timed_epoch(recorder, 2)
    assert_whole(store, run_id, 2)
    assert any("is being recorded now: left alone." in each for each in warnings_of(caplog))


def test_a_stale_spool_does_not_replace_a_newer_record(store, left_behind, tmp_path):
    run_id, root = left_behind()
    stale = tmp_path / "stale"
    shutil.copytree(root, stale)
    with Recorder(store=store, run_id=run_id, spool=root, resume=True) as recorder:
        timed_epoch(recorder, 3)
    with pytest.raises(
        StoreError, match=rf"^run {run_id} holds a newer test-probe \(revision \d+\)"
    ):
        sync(stale)
    assert_whole(store, run_id, 3)


def test_aggregates_of_epochs_that_were_not_uploaded_come_with_the_record(store, left_behind):
    run_id, root = left_behind()
    sync(root)
    history = store._client.get_metric_history(run_id, "test-probe/mean_loss")
    found = {each.step: each.value for each in history}
    means = {step: float(losses_at(step).mean(dtype=float)) for step in (1, 2)}
    assert found == pytest.approx(means)


def test_aggregates_that_arrive_twice_are_there_once(store, run_id):
    for _ in range(2):
        store.log_metrics(run_id, {"loss": 0.5}, 1, time_ms=1000)
    assert len(store._client.get_metric_history(run_id, "loss")) == 1


def test_only_what_the_run_lacks_is_uploaded(store, left_behind):
    run_id, root = left_behind()
    saved = root.with_name("saved")
    shutil.copytree(root, saved)
    sync(root)
    block = store.open_record(run_id).fetch("losses/000001.parquet")
    before = block.stat().st_mtime_ns
    sync(saved)
    assert block.stat().st_mtime_ns == before


def test_readers_go_by_the_file_of_a_manifest_before_sync_changes_any(
    store, left_behind, monkeypatch
):
    run_id, root = left_behind()
    store.set_tags(run_id, {f"{MANIFEST_TAG}test-probe": "of an earlier state"})
    tags = []

    def upload(*_arguments):
        tags.append(store.get_run(run_id).tags[f"{MANIFEST_TAG}test-probe"])
        raise StoreError("the server is away.")

    monkeypatch.setattr(uploader, "upload_files", upload)
    with pytest.raises(StoreError, match="away"):
        sync(root)
    assert tags == [ELSEWHERE]
