"""Records are read through their run."""

import gc

import numpy as np
import pandas as pd
import pytest
from helpers import message, remote_run

from actiontrack.analysis import verdicts
from actiontrack.errors import (
    CorruptRecordError,
    NotFoundError,
    StoreError,
)
from actiontrack.recorder import Recorder
from actiontrack.scores import score_table
from actiontrack.store import RunQuery, Store
from actiontrack.testing import make_history, record_history


def test_a_record_is_read_through_its_run(store, recorded):
    history = make_history(n_samples=20)
    record = store.open_record(recorded(n_samples=20))
    np.testing.assert_array_equal(record.history().losses, history.losses)
    pd.testing.assert_frame_equal(record.scores(), score_table(history), check_dtype=False)
    assert record.scores(["action"]).columns.tolist() == ["action"]
    assert record.samples.labels.tolist() == history.labels.tolist()


def test_the_test_probe_is_the_record_of_choice(store, recorded, spool):
    run_id = recorded(split="train")
    record_history(make_history(), run_id, store, spool)
    assert store.open_record(run_id).name == "test-probe"
    assert store.open_record(run_id, "train-probe").name == "train-probe"


def test_an_unfinished_record_is_read_up_to_its_last_epoch(store, run_id):
    with Recorder(store=store, run_id=run_id) as recorder:
        recorder.update([1, 2], [0.5, 0.25])
        recorder.end_epoch()
        recorder._writer.uploader.drain(20)
        record = store.open_record(run_id)
        assert not record.manifest.complete
        assert record.scores()["action"].tolist() == [0.5, 0.25]
        assert record.scores(["action"]).columns.tolist() == ["action"]
        with pytest.raises(
            NotFoundError, match=r"^no score 'x' in the record\. There are: sample_id"
        ):
            record.scores(["x"])


def test_a_damaged_record_is_refused(store, recorded):
    record = store.open_record(recorded())
    [block] = record.manifest.blocks
    record.fetch(block.path).write_bytes(b"")
    text = (
        f"run {record.run.run_id} (run): {block.path} of test-probe is truncated or "
        "altered: its digest is not that of the manifest. Restore the file, or record the run "
        "again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        record.history()


def test_a_manifest_that_is_being_replaced_gets_a_second_look(store, recorded, client):
    import threading

    run_id = recorded()
    path = store.open_record(run_id).fetch("manifest.json")
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    timer = threading.Timer(0.1, path.write_bytes, [whole])
    timer.start()
    assert store.open_record(run_id).manifest.complete
    timer.join()
    path.write_bytes(whole[:50])
    client.set_terminated(run_id)
    with pytest.raises(CorruptRecordError, match="is damaged or half-written: it is not JSON"):
        store.open_record(run_id)


@pytest.fixture
def with_images(store, run_id, tmp_path):
    """A record that refers to images in a folder."""
    root = tmp_path / "images"
    root.mkdir()
    (root / "0.png").write_bytes(b"zero")
    (tmp_path / "secret").write_bytes(b"secret")
    source = {"kind": "folder", "root": str(root)}
    with Recorder(store=store, run_id=run_id, source=source) as recorder:
        recorder.describe_samples([0, 1, 2], paths=["0.png", "../secret", "gone.png"])
        recorder.update([0, 1, 2], [1, 2, 3])
        recorder.end_epoch()
    return store.open_record(run_id), root


def test_images_come_from_the_recorded_folder(with_images):
    assert with_images[0].image_bytes(0) == b"zero"


def test_an_image_outside_the_recorded_folder_is_not_read(with_images):
    record, root = with_images
    text = f"image '../secret' lies outside the dataset's folder {root}."
    with pytest.raises(NotFoundError, match=message(text)):
        record.image_bytes(1)


def test_an_image_that_is_not_on_this_machine_says_what_to_do(with_images):
    record, root = with_images
    text = (
        f"image 'gone.png' is not at {root} on this machine: No such file or directory. "
        "Record with thumbnails to see images elsewhere."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        record.image_bytes(2)


def test_a_record_without_images_says_what_to_do(store, recorded):
    run_id = recorded()
    text = (
        f"record test-probe of run {run_id} refers to no image files and holds no thumbnail of "
        "this sample. Record with thumbnails to see images."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        store.open_record(run_id).image_bytes(0)


def test_a_record_without_features_says_so(store, recorded):
    opened = store.open_record(recorded())
    text = (
        f"record test-probe of run {opened.run.run_id} ({opened.run.name}) holds no features. "
        "Record them with the training parameter save_features=true, or with "
        "Recorder.log_features."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        opened.features()


def test_a_record_without_probabilities_says_so(store, recorded):
    record = store.open_record(recorded())
    assert not record.has_probabilities
    text = "the record test-probe has no probabilities.parquet."
    with pytest.raises(NotFoundError, match=message(text)):
        record.probabilities()


def test_a_record_goes_through_a_server_with_proxied_artifacts(server, spool):
    store, run_id = Store(server.uri), remote_run(server)
    history = make_history(n_samples=30, n_steps=5)
    assert record_history(history, run_id, store, spool, "softmax") is True
    [run] = store.find_runs(RunQuery(run_ids=(run_id,)))
    assert store.local_root(run) is None
    record = store.open_record(run)
    np.testing.assert_array_equal(record.history().losses, history.losses)
    pd.testing.assert_frame_equal(record.scores(), score_table(history), check_dtype=False)
    assert record.manifest.complete


def test_downloads_are_removed_with_their_record(server, spool):
    store, run_id = Store(server.uri), remote_run(server)
    record_history(make_history(), run_id, store, spool)
    record = store.open_record(run_id)
    folder = record._files.scratch
    assert (folder / "manifest.json").is_file()
    del record
    gc.collect()
    assert not folder.exists()


def test_a_download_that_is_cut_leaves_nothing(server, spool, monkeypatch):
    store, run_id = Store(server.uri), remote_run(server)
    record_history(make_history(), run_id, store, spool)
    record = store.open_record(run_id)

    def cut(_run, _path, folder, *, name):
        (folder / name).write_bytes(b"half of it")
        raise StoreError("the connection is gone")

    monkeypatch.setattr(store, "download", cut)
    with pytest.raises(StoreError):
        record.fetch("scores.parquet")
    assert [each.name for each in record._files.scratch.iterdir()] == ["manifest.json"]


def test_a_file_that_the_server_lost_is_missing(server, spool):
    store, run_id = Store(server.uri), remote_run(server)
    record_history(make_history(), run_id, store, spool)
    [losses] = server.folder.glob(f"artifacts/*/{run_id}/**/losses/*.parquet")
    losses.unlink()
    record = store.open_record(run_id)
    text = (
        f"run {run_id} ({record.run.name}): losses/{losses.name} is named in the manifest of "
        "test-probe but missing. Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        record.history()


def test_an_unknown_run_and_record_are_not_found_on_a_server(server):
    store, run_id = Store(server.uri), remote_run(server)
    with pytest.raises(
        NotFoundError, match=message(f"run '{'0' * 32}': Run with id={'0' * 32} not found.")
    ):
        store.get_run("0" * 32)
    with pytest.raises(
        NotFoundError, match=r"has no readable record 'test-probe'\. Its records: none\.$"
    ):
        store.open_record(run_id, "test-probe")


@pytest.mark.parametrize("linked", [".", "losses", "manifest.json", "verdicts"])
def test_a_record_that_is_or_holds_a_link_is_refused(store, run_id, spool, tmp_path, linked):
    """Whoever may write artifacts must not read what else lies on the machine of the reader."""
    record_history(make_history(), run_id, store, spool)
    record = store.open_record(run_id)
    place = (store.local_root(record.run) / "actiontrack/test-probe" / linked).resolve()
    elsewhere = tmp_path / "elsewhere"
    if linked == "verdicts":
        elsewhere.mkdir()
        (elsewhere / "1.jsonl").write_text("root:x:0:0")
    else:
        place.rename(elsewhere)
    place.symlink_to(elsewhere)
    with pytest.raises(CorruptRecordError, match="is, or lies in, a symbolic link"):
        _history_and_verdicts(store, run_id)


def _history_and_verdicts(store, run_id):
    record = store.open_record(run_id)
    record.history()
    verdicts.read(record)


def test_an_error_about_a_file_names_the_run_and_not_the_folder(store, recorded):
    record = store.open_record(recorded("calm-cod"))
    folder = record.fetch("samples.parquet").parent
    (folder / "samples.parquet").write_bytes(b"")
    with pytest.raises(CorruptRecordError) as caught:
        _ = record.samples
    assert str(caught.value).startswith(f"run {record.run.run_id} (calm-cod): samples.parquet ")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(CorruptRecordError) as damaged:
        store.open_record(record.run.run_id)
    assert str(folder) not in str(caught.value) + str(damaged.value)
    assert record.run.run_id in str(damaged.value)
