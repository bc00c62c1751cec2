"""Files of losses that were merged into larger ones: in the spool, and in the run."""

import logging
from pathlib import Path

import mlflow
import numpy as np
import pytest
from uploading import assert_whole, expected, timed_epoch, warnings_of

from actiontrack.errors import CorruptRecordError
from actiontrack.recorder import Recorder, packing, uploader


@pytest.fixture
def every_epoch(monkeypatch):
    """Every epoch is uploaded before the next one, and three small files of a size become one."""
    monkeypatch.setattr(uploader, "_PAUSE_S", 0.0)
    monkeypatch.setattr(packing, "_MERGED", 3)

    def record(recorder, epochs):
        for epoch in epochs:
            timed_epoch(recorder, epoch)
            assert recorder._writer.uploader.drain(60)

    return record


def losses_files(folder):
    return sorted(path.name for path in (folder / "losses").iterdir())


def in_run(store, run_id):
    """Folder of the record among the artifacts of the run."""
    return store.local_root(store.get_run(run_id)) / "actiontrack" / "test-probe"


def named(store, run_id):
    return sorted(Path(block.path).name for block in store.open_record(run_id).manifest.blocks)


def test_files_that_were_merged_are_not_in_the_run_at_the_end(store, run_id, every_epoch):
    with Recorder(store=store, run_id=run_id, patience=60.0) as recorder:
        every_epoch(recorder, range(1, 8))
        assert losses_files(recorder.folder) == named(store, run_id)
        assert len(losses_files(in_run(store, run_id))) > len(named(store, run_id))
    assert losses_files(in_run(store, run_id)) == named(store, run_id)
    assert len(named(store, run_id)) == 1
    assert_whole(store, run_id, 7)


def test_a_reader_that_has_read_the_manifest_finds_its_files_for_a_while(
    store, run_id, every_epoch
):
    with Recorder(store=store, run_id=run_id, patience=60.0) as recorder:
        every_epoch(recorder, (1, 2))
        reader = store.open_record(run_id)
        every_epoch(recorder, range(3, 8))
        assert not {block.path for block in reader.manifest.blocks} & set(
            store.open_record(run_id).manifest.files
        )
        np.testing.assert_array_equal(reader.history().losses, expected(2))


def test_files_that_were_merged_leave_the_run_in_time(store, run_id, every_epoch, monkeypatch):
    monkeypatch.setattr(uploader, "_READ_WITHIN_S", 0.0)
    with Recorder(store=store, run_id=run_id, patience=60.0) as recorder:
        for last in range(1, 12):
            every_epoch(recorder, [last])
            assert losses_files(in_run(store, run_id)) == named(store, run_id)
            assert_whole(store, run_id, last, complete=False)


def test_a_store_that_deletes_nothing_changes_nothing(
    store, run_id, every_epoch, monkeypatch, caplog
):
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    def refuse(*_, **__):
        raise mlflow.MlflowException("deletion is not allowed here")

    monkeypatch.setattr(LocalArtifactRepository, "delete_artifacts", refuse)
    caplog.set_level(logging.INFO, "actiontrack")
    with Recorder(store=store, run_id=run_id, patience=60.0) as recorder:
        every_epoch(recorder, range(1, 8))
    assert recorder.synced
    assert warnings_of(caplog) == []
    assert set(losses_files(in_run(store, run_id))) > set(named(store, run_id))
    assert_whole(store, run_id, 7)


def test_an_epoch_that_comes_again_after_all_was_forgotten_stays_in_the_run(
    store, run_id, every_epoch
):
    with Recorder(store=store, run_id=run_id, patience=60.0) as recorder:
        every_epoch(recorder, (1, 2))
        recorder._writer.spool.truncate(1)
        recorder._writer.uploader.submit()
        assert recorder._writer.uploader.drain(60)
        every_epoch(recorder, (1, 2, 3))
    assert_whole(store, run_id, 3)


def test_what_is_merged_during_an_upload_is_still_uploaded(
    store, run_id, every_epoch, monkeypatch, caplog
):
    caplog.set_level(logging.WARNING, "actiontrack")
    real = uploader.pack

    def pack_and_merge(spool):
        manifest = real(spool)
        real(spool, all_small=True)  # as another thread does at the end
        return manifest

    with Recorder(store=store, run_id=run_id, patience=60.0) as recorder:
        every_epoch(recorder, (1, 2))
        monkeypatch.setattr(uploader, "pack", pack_and_merge)
        every_epoch(recorder, (3, 4))
    assert warnings_of(caplog) == []
    assert_whole(store, run_id, 4)


def test_a_record_that_was_opened_before_its_files_were_merged_is_read_up_to_then(
    store, run_id, every_epoch
):
    with Recorder(store=store, run_id=run_id) as recorder:
        every_epoch(recorder, [1, 2])
        opened = store.open_record(run_id)
        every_epoch(recorder, [3, 4])
    assert not any(opened.fetch(block.path).exists() for block in opened.manifest.blocks)
    whole = store.open_record(run_id).history()
    history = opened.history()
    assert history.steps.tolist() == [1, 2]
    np.testing.assert_array_equal(history.losses, whole.losses[:2])
    assert opened.loss_curve(0)["loss"].tolist() == whole.losses[:2, 0].tolist()
    np.testing.assert_array_equal(opened.losses_of_step(2)["loss"], whole.losses[1])


def test_a_file_that_the_newest_manifest_names_must_be_there(store, run_id, every_epoch):
    with Recorder(store=store, run_id=run_id) as recorder:
        every_epoch(recorder, [1, 2])
    opened = store.open_record(run_id)
    [block] = opened.manifest.blocks
    opened.fetch(block.path).unlink()
    with pytest.raises(CorruptRecordError, match=f"{block.path} is named in the manifest"):
        opened.history()
