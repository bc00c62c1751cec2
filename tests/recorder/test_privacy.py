"""Records without names of samples and without images."""

import hashlib
import hmac
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers import message
from mlflow import MlflowClient

from actiontrack import analysis, reporting
from actiontrack.cli import cli
from actiontrack.errors import (
    NotComparableError,
    NotFoundError,
    ParameterError,
    RecordingError,
)
from actiontrack.record.digest import hash_ids, salt_check
from actiontrack.record.samples import read_samples
from actiontrack.recorder import Recorder
from actiontrack.store import RunQuery

SALT, OTHER = "a secret of sixteen", "another secret of the kind"
NAMES = [f"jane.doe/{each}.png" for each in range(6)]


def record_run(store, run_id, *, ids=None, epochs=2, **options):
    """Record six samples with everything that names or shows them; returns what is stored."""
    ids = NAMES if ids is None else ids
    with Recorder("test", run_id=run_id, store=store, **options) as recorder:
        recorder.describe_samples(
            ids, labels=[0] * 6, paths=NAMES, input_digests=[f"{each:032x}" for each in range(6)]
        )
        for epoch in range(epochs):
            recorder.update(ids, np.arange(6.0) + epoch)
            recorder.end_epoch()
        recorder.log_thumbnails(ids, [b"picture"] * 6)
        recorder.log_pictures("label", ids, [b"picture"] * 6)
    return store.open_record(run_id)


def expected(name):
    """The hash of an id, computed as docs/privacy.md says."""
    return hmac.new(SALT.encode(), str(name).encode(), hashlib.sha256).hexdigest()[:32]


def everything_stored(record):
    """All bytes of the record's files, and the run's tags and parameters as text."""
    root = record.store.local_root(record.run)
    files = [each.read_bytes() for each in sorted(root.rglob("*")) if each.is_file()]
    run = MlflowClient(record.store.tracking_uri).get_run(record.run.run_id)
    texts = [json.dumps(run.data.tags | run.data.params).encode()]
    columns = [read_samples(record.manifest, record.fetch)]
    return b"\n".join([*files, *texts, repr(columns).encode()])


def test_ids_are_recorded_as_their_salted_hashes(store, run_id):
    record = record_run(store, run_id, id_salt=SALT)
    assert record.samples.sample_ids.tolist() == sorted(map(expected, NAMES))
    by_id = dict(zip(record.samples.sample_ids, record.history().losses[0], strict=True))
    assert [by_id[expected(each)] for each in NAMES] == [0, 1, 2, 3, 4, 5]


def test_a_number_and_its_text_have_the_same_hash(store, run_id):
    record = record_run(store, run_id, id_salt=SALT, ids=np.arange(6))
    assert record.samples.sample_ids.tolist() == sorted(map(expected, range(6)))
    assert record.manifest.id_type == "string"


def test_the_environment_hashes_the_ids_of_every_recorder(store, run_id, monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_ID_SALT", SALT)
    assert record_run(store, run_id).samples.sample_ids.tolist() == sorted(map(expected, NAMES))


def test_neither_ids_nor_paths_nor_the_salt_are_stored_anywhere(store, run_id, monkeypatch):
    source = {"kind": "folder", "root": "/home/jane/pictures"}
    record = record_run(store, run_id, id_salt=SALT, source=source)
    stored = everything_stored(record)
    assert b"jane" not in stored
    assert SALT.encode() not in stored
    assert record.manifest.source is None
    assert record.samples.paths is None


def test_digests_of_inputs_are_salted_too(store, run_id):
    """Else who has an image could tell whether it is in the data."""
    record = record_run(store, run_id, id_salt=SALT)
    assert set(record.samples.input_digests) == {expected(f"{each:032x}") for each in range(6)}


def test_the_manifest_says_that_ids_are_hashed_and_images_kept_out(store, run_id):
    record = record_run(store, run_id, id_salt=SALT, images=False)
    assert record.manifest.privacy == {
        "ids": "hmac-sha256",
        "salt_check": salt_check(SALT),
        "images": "never",
    }


def test_a_record_of_plain_ids_says_nothing(store, run_id):
    assert record_run(store, run_id).manifest.privacy is None


def test_runs_with_the_same_salt_are_compared(store, new_run):
    runs = [new_run(), new_run()]
    for each in runs:
        record_run(store, each, id_salt=SALT)
    records = analysis.load_records(RunQuery(run_ids=tuple(runs)), store=store)
    aligned = analysis.align(records)
    assert aligned.sample_ids.tolist() == sorted(map(expected, NAMES))
    np.testing.assert_array_equal(aligned.values[0], aligned.values[1])


@pytest.mark.parametrize("on_mismatch", ["error", "inner"])
@pytest.mark.parametrize("other", [OTHER, None])
def test_runs_with_different_salts_are_refused(store, new_run, other, on_mismatch):
    runs = [new_run(), new_run()]
    for each, salt in zip(runs, (SALT, other), strict=True):
        record_run(store, each, id_salt=salt)
    records = analysis.load_records(RunQuery(run_ids=tuple(runs)), store=store)
    rest = (
        "Hashes with different salts, or with and without one, name different samples: record the "
        "runs with the same ACTIONTRACK_ID_SALT."
    )
    with pytest.raises(NotComparableError, match="the salt of hashed ids is") as raised:
        analysis.align(records, on_mismatch=on_mismatch)
    assert str(raised.value).endswith(rest)


@pytest.mark.parametrize("salt", [OTHER, ""])
def test_a_record_is_resumed_with_its_own_salt_only(store, run_id, salt):
    with Recorder("test", run_id=run_id, store=store, id_salt=SALT) as recorder:
        recorder.update(NAMES, np.arange(6.0))
        recorder.end_epoch()
    if not salt:
        with pytest.raises(RecordingError, match=r"got plain ids, images allowed\. Resume"):
            Recorder("test", run_id=run_id, store=store, resume=True)
        return
    with pytest.raises(RecordingError, match=f"begun with hashed ids .salt {salt_check(SALT)}."):
        Recorder("test", run_id=run_id, store=store, resume=True, id_salt=salt)
    with Recorder("test", run_id=run_id, store=store, resume=True, id_salt=SALT) as recorder:
        recorder.update(NAMES, np.arange(6.0))
        recorder.end_epoch()
    assert store.open_record(run_id).manifest.n_steps == 2


def test_a_salt_that_can_be_guessed_is_refused_and_not_shown(store, run_id):
    text = (
        "id_salt: must have 16 characters or more, got '6 of them'. Make one: "
        "python -c 'import secrets; print(secrets.token_hex())'"
    )
    with pytest.raises(ParameterError, match=message(text)):
        Recorder("test", run_id=run_id, store=store, id_salt="secret")


def test_errors_about_ids_do_not_name_them(store, run_id):
    with Recorder("test", run_id=run_id, store=store, id_salt=SALT) as recorder:
        recorder.update([*NAMES, NAMES[0]], np.arange(7.0))
        with pytest.raises(RecordingError, match="1 are repeated") as raised:
            recorder.end_epoch()
        recorder.close()
    assert "jane" not in str(raised.value)
    assert expected(NAMES[0]) in str(raised.value)


def test_maps_and_boxes_find_their_hashed_samples(store, run_id):
    import pandas as pd

    sides = dict.fromkeys(("left", "top", "right", "bottom", "width", "height"), 3.0)
    boxes = pd.DataFrame({"sample_id": NAMES, "kind": "truth", "class": "cat", "score": np.nan})
    options = {"pixel_loss_name": "focal", "id_salt": SALT}
    with Recorder("test", run_id=run_id, store=store, **options) as recorder:
        recorder.update(NAMES, np.arange(6.0))
        recorder.update_maps(NAMES, np.arange(6.0)[:, None, None] * np.ones((6, 2, 2)))
        recorder.end_epoch()
        recorder.log_boxes(boxes.assign(**sides))
        recorder.log_features(NAMES, np.arange(12.0).reshape(6, 2))
    record = store.open_record(run_id)
    (row,) = analysis.positions(record, [expected(NAMES[4])])
    np.testing.assert_array_equal(record.pixel_action(row), np.full((2, 2), 4.0))
    assert record.features()[row].tolist() == [8, 9]
    assert set(record.boxes["sample_id"]) == set(map(expected, NAMES))


def test_images_are_kept_out_by_an_argument_or_the_environment(store, new_run, monkeypatch):
    record = record_run(store, new_run(), images=False)
    assert not [each for each in record.manifest.files if "png" in each or "pictures" in each]
    assert not record.has_thumbnails
    monkeypatch.setenv("ACTIONTRACK_IMAGES", "never")
    record = record_run(store, new_run())
    assert not record.has_thumbnails
    assert record.picture_names == ()
    assert b"picture" not in everything_stored(record)


def test_a_gallery_of_a_record_without_images_says_so(store, run_id):
    record = record_run(store, run_id, images=False)
    text = (
        f"record test-probe of run {run_id} was made without images on purpose: there are none to "
        "show."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        record.image_bytes(0)
    rows = analysis.hardest(analysis.score_frame([record]), 3)
    _, missing = reporting.gallery(record, rows)
    assert missing == 3


def test_a_gallery_of_hashed_ids_says_that_it_cannot_find_images(store, run_id):
    with Recorder("test", run_id=run_id, store=store, id_salt=SALT) as recorder:
        recorder.describe_samples(NAMES, paths=NAMES)
        recorder.update(NAMES, np.arange(6.0))
        recorder.end_epoch()
    text = (
        f"record test-probe of run {run_id} holds hashes in place of ids and no thumbnail of this "
        "sample: its image can't be found. Record with thumbnails to see images."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        store.open_record(run_id).image_bytes(0)


def test_who_asks_for_a_plain_id_is_told_how_to_hash_it(store, run_id):
    record = record_run(store, run_id, id_salt=SALT)
    text = (
        f"record test-probe of run {run_id} has no sample {NAMES[0]!r}. Its ids are hashed: find "
        "those of your samples with 'actiontrack hash-ids'."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        analysis.positions(record, [NAMES[0]])


def test_a_wrong_word_about_images_is_refused(monkeypatch, store, run_id):
    monkeypatch.setenv("ACTIONTRACK_IMAGES", "no")
    text = "ACTIONTRACK_IMAGES: must be never or allowed, got 'no'. Choose one of these."
    with pytest.raises(ParameterError, match=message(text)):
        Recorder("test", run_id=run_id, store=store)


# The command that maps ids to their hashes


def test_hash_ids_prints_the_hashes_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_ID_SALT", SALT)
    path = Path(tmp_path, "ids.txt")
    path.write_text("17\njane,doe\n")
    done = CliRunner().invoke(cli, ["hash-ids", str(path), "--format", "csv"])
    assert done.output == (
        f'sample_id,hash\n17,{expected("17")}\n"jane,doe",{expected("jane,doe")}\n'
    )


def test_hash_ids_reads_standard_input(monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_ID_SALT", SALT)
    done = CliRunner().invoke(cli, ["hash-ids", "--format", "json"], input="x\n")
    assert json.loads(done.output) == [{"sample_id": "x", "hash": expected("x")}]


def test_hash_ids_without_a_salt_says_where_it_goes(monkeypatch):
    monkeypatch.delenv("ACTIONTRACK_ID_SALT", raising=False)
    done = CliRunner().invoke(cli, ["hash-ids"], input="x\n")
    assert isinstance(done.exception, ParameterError)
    assert "ACTIONTRACK_ID_SALT: must hold the salt" in str(done.exception)


def test_two_salts_have_two_checks_and_none_is_in_them():
    assert salt_check(SALT) != salt_check(OTHER)
    assert hash_ids(["x"], SALT) != hash_ids(["x"], OTHER)
    assert SALT not in salt_check(SALT)
