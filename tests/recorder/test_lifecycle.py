import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from helpers import message, wait_until
from recording import LABELS, N, files, files_below, losses_at, one_epoch, without_traces

from actiontrack.errors import CorruptRecordError, RecordingError, StoreError
from actiontrack.record.manifest import write_manifest
from actiontrack.recorder import Recorder, sync
from actiontrack.recorder.packer import pack
from actiontrack.recorder.spool import Spool


def interrupted(recorder, epochs):
    with pytest.raises(KeyboardInterrupt), recorder() as rec:  # noqa: PT012
        for epoch in epochs:
            one_epoch(rec, epoch)
        raise KeyboardInterrupt


def test_no_active_run_is_refused(store):
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        Recorder(store=store)


def test_a_record_that_is_there_already_is_refused_without_resume(recorder, run_id):
    with recorder() as rec:
        one_epoch(rec, 1)
    text = (
        f"run {run_id} holds a record test-probe with 1 epochs already. "
        "Pass resume=True to continue it, or start a new run: in a notebook, call "
        "mlflow.end_run() before you run the cell again."
    )
    with pytest.raises(RecordingError, match=message(text)):
        recorder()


def test_a_record_that_is_refused_is_not_downloaded(recorder, spool):
    with recorder() as rec:
        one_epoch(rec, 1)
    with pytest.raises(RecordingError, match=r"epochs already\. Pass resume=True"):
        recorder()
    assert {path.name for path in files_below(spool)} <= {".test-probe.lock"}
    assert sync(spool) == []


def test_a_resumed_run_equals_an_uninterrupted_one_byte_for_byte(recorder, store, run_id, new_run):
    interrupted(recorder, [1, 2])
    with recorder(resume=True) as rec:
        assert rec.last_step == 2
        for epoch in (3, 4):
            one_epoch(rec, epoch)
    whole = new_run()
    with Recorder(store=store, run_id=whole) as rec:
        for epoch in (1, 2, 3, 4):
            one_epoch(rec, epoch)
    assert files(store, run_id) == files(store, whole)
    manifests = [store.open_record(each).manifest for each in (run_id, whole)]
    assert without_traces(manifests[0]) == without_traces(manifests[1])


def test_every_change_of_a_record_raises_its_revision(recorder, read):
    with recorder() as rec:
        seen = []
        for epoch in (1, 2):
            one_epoch(rec, epoch)
            seen.append(pack(rec._writer.spool).revision)
    assert seen[0] < seen[1] < read().manifest.revision


def test_the_newer_of_two_copies_is_resumed(recorder, read, tmp_path):
    # The run was continued elsewhere, and this machine holds an older spool with as many epochs.
    interrupted(lambda **options: recorder(spool=tmp_path / "here", **options), [1, 2])
    old = tmp_path / "old"
    with recorder(resume=True, spool=tmp_path / "here") as rec:
        shutil.copytree(rec.folder.parent, old / rec.folder.parent.name)
        rec.update(np.arange(N), losses_at(20), labels=LABELS)
        rec.end_epoch(2)
    with recorder(resume=True, spool=old) as rec:
        assert rec.last_step == 2
        one_epoch(rec, 3)
    np.testing.assert_array_equal(read().history().losses[1], losses_at(20))


def test_a_recorder_that_was_refused_or_closed_frees_the_record(recorder):
    with recorder() as rec:
        one_epoch(rec, 1)
    with pytest.raises(RecordingError, match="holds a record"):
        recorder()
    recorder(resume=True).close()
    recorder(resume=True)


def test_an_epoch_recorded_again_replaces_it_and_all_after_it(recorder, read):
    interrupted(recorder, [1, 2, 3])
    with recorder(resume=True) as rec:
        rec.update(np.arange(N), losses_at(20), labels=LABELS)
        rec.end_epoch(2)
        assert rec.last_step == 2
    np.testing.assert_array_equal(read().history().losses, [losses_at(1), losses_at(20)])
    assert read().manifest.complete


def test_a_complete_record_can_be_continued(recorder, read):
    with recorder() as rec:
        one_epoch(rec, 1)
    with recorder(resume=True) as rec:
        one_epoch(rec, 2)
    expected = losses_at(1).astype(float) + losses_at(2)
    np.testing.assert_allclose(read().scores()["action"], expected, rtol=1e-12)


def test_resuming_and_adding_nothing_leaves_the_record_complete(recorder, read):
    for resume in (False, True):
        with recorder(resume=resume) as rec:
            if not resume:
                one_epoch(rec, 1)
    assert read().manifest.complete


def test_resuming_a_run_without_a_record_starts_one(recorder, read):
    with recorder(resume=True) as rec:
        one_epoch(rec, 1)
    assert read().manifest.n_steps == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"delta_kind": "wall_time"},
            "delta_kind: the record test-probe was begun with 'epoch', got 'wall_time'.",
        ),
        (
            {"class_names": ("x",)},
            "class_names: the record test-probe was begun with ('a', 'b', 'c'), got ('x',).",
        ),
        (
            {"loss_name": "mse"},
            "loss_name: the record test-probe was begun with 'loss', got 'mse'.",
        ),
    ],
)
def test_resuming_with_other_settings_is_refused(recorder, options, text):
    with recorder(class_names=("a", "b", "c")) as rec:
        one_epoch(rec, 1)
    text += " Resume with the same settings, or start a new run."
    with pytest.raises(RecordingError, match=message(text)):
        recorder(resume=True, **options)


def test_a_local_spool_that_is_newer_than_the_run_wins_and_reaches_it(
    recorder, read, spool, run_id, tmp_path
):
    interrupted(recorder, [1])
    ahead = tmp_path / "ahead"
    with recorder(resume=True, spool=ahead) as rec:
        for epoch in (2, 3):
            one_epoch(rec, epoch)
        rec._writer.uploader.drain(20)
        folder = ahead / run_id / "test-probe"
        shutil.copytree(folder, tmp_path / "saved")
    # The run goes back to epoch 1; the spool of epochs 1 to 3 was left behind by a crash.
    record = read()
    target = record.fetch("manifest.json").parent
    shutil.rmtree(target)
    shutil.copytree(tmp_path / "saved", target)
    keep_epochs(target, 1)
    shutil.copytree(tmp_path / "saved", spool / run_id / "test-probe")
    with recorder(resume=True) as rec:
        assert rec.last_step == 3
    np.testing.assert_array_equal(read().history().losses, [losses_at(each) for each in (1, 2, 3)])


def keep_epochs(folder, n_steps):
    """Make a record on disk one that ended after n epochs."""
    spool = Spool.load(folder)
    revision = spool.manifest.revision
    spool.truncate(n_steps + 1)
    pack(spool)
    spool.update(status="recording")
    shutil.rmtree(folder / "log")
    for path in spool.discard_superseded(spool.manifest):
        assert not (folder / path).exists()
    write_manifest(folder, replace(spool.manifest, revision=revision - 1))


def test_a_run_that_is_newer_than_the_local_spool_wins(recorder, read, spool, run_id, tmp_path):
    with recorder() as rec:
        one_epoch(rec, 1)
        wait_until(lambda: rec.synced)  # else files come and go while they are copied
        shutil.copytree(spool / run_id / "test-probe", tmp_path / "saved")
        for epoch in (2, 3):
            one_epoch(rec, epoch)
    shutil.copytree(tmp_path / "saved", spool / run_id / "test-probe")
    with recorder(resume=True) as rec:
        assert rec.last_step == 3
        one_epoch(rec, 4)
    assert read().history().n_steps == 4


def test_a_damaged_record_is_not_continued(recorder, read):
    interrupted(recorder, [1])
    (block,) = read().manifest.blocks
    read().fetch(block.path).write_bytes(b"")
    text = (
        f"{block.path} of test-probe is truncated or altered: its digest is not that of "
        "the manifest. Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        recorder(resume=True)


def test_a_full_disk_keeps_the_epoch_until_there_is_space(recorder, read, small_disk):
    size = 20_000
    losses = np.random.default_rng(0).random(size).astype(np.float32)
    with recorder(spool=small_disk) as rec:
        rec.update(np.arange(size), losses)
        with pytest.raises(StoreError, match=r"^cannot write .*No space left on device") as caught:
            fill(small_disk, rec)
        assert "Free space or set ACTIONTRACK_SPOOL" in str(caught.value)
        (small_disk / "ballast").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
        assert rec.end_epoch().n_seen == size
    np.testing.assert_array_equal(read().history().losses, [losses])


def fill(folder, rec):
    """Leave room for the manifest and the samples, then end the epoch."""
    (folder / "ballast").write_bytes(b"x" * 220_000)
    rec.end_epoch()


def test_a_spool_that_cannot_be_written_is_refused_before_training(recorder, tmp_path):
    (tmp_path / "blocked").write_text("")
    start = re.escape(f"cannot write the spool {tmp_path / 'blocked'}/")
    with pytest.raises(
        StoreError, match=f"^{start}.*Set ACTIONTRACK_SPOOL to a folder that can be"
    ):
        recorder(spool=tmp_path / "blocked")
