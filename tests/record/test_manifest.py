"""The manifest of a record, and files on the disk."""

import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import message
from record_files import assert_same_history, bare, read, read_all, rewrite_manifest

from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError, StoreError
from actiontrack.record.disk import FileEntry
from actiontrack.record.losses import read_history, write_block
from actiontrack.record.manifest import (
    Manifest,
    StepEntry,
    write_manifest,
)
from actiontrack.record.paths import check_name


def test_a_manifest_survives_saving_and_loading(tmp_path):
    manifest = Manifest(
        split="vål_1.x",
        mode="probe",
        loss_name="ℓ",
        delta_kind="epoch",
        n_samples=2,
        id_type="string",
        digests={"ids": "ab", "labels": None, "inputs": None},
        class_names=("küche", "猫"),
        model="cnn",
        measures=("margin",),
        components=("box",),
        source={"kind": "folder", "root": "/data"},
        steps=(StepEntry(0, 0.1, 2, 1, 3),),
        partial={"step": 1, "n_seen": 1},
        files={"samples.parquet": FileEntry("ab", 3)},
        status="recording",
        writer="actiontrack 0",
    )
    manifest = replace(manifest, split="val_1.x")
    write_manifest(tmp_path, manifest)
    assert read(tmp_path)[0] == manifest


def test_a_block_that_the_manifest_does_not_name_is_not_part_of_the_record(record):
    rewrite_manifest(record, lambda body: body["files"].pop("blocks/000002.parquet"))
    text = "the record test-probe has no blocks/000002.parquet."
    with pytest.raises(NotFoundError, match=message(text)):
        read_all(record)


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_a_half_written_manifest_is_refused(record, kept):
    path = record / "manifest.json"
    path.write_bytes(path.read_bytes()[:kept])
    text = (
        f"{path} is damaged or half-written: it is not JSON. Restore it, or run "
        "'actiontrack sync' where the run was recorded."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("body", [b"\xff\xfe", b"[" * 200_000, b"NaN,"])
def test_a_manifest_of_nonsense_is_refused(record, body):
    (record / "manifest.json").write_bytes(body)
    with pytest.raises(CorruptRecordError, match="is damaged or half-written: it is not JSON"):
        read(record)


def test_an_altered_manifest_is_refused(record):
    rewrite_manifest(record, lambda body: body.update(loss_name="hinge"), checksum=False)
    text = (
        f"{record / 'manifest.json'} is altered: its checksum does not match. Restore it, or run "
        "'actiontrack sync' where the run was recorded."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("version", [2, "1", None])
def test_a_manifest_of_a_newer_or_no_version_is_refused(record, version):
    rewrite_manifest(record, lambda body: body.update(version=version))
    text = (
        f"{record / 'manifest.json'} has format version {version}; this package reads up to 1. "
        "Upgrade with: pip install -U actiontrack"
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("body", ["[]", "{}", '{"format": "parquet"}', "3"])
def test_other_json_is_not_the_manifest_of_a_record(record, body):
    (record / "manifest.json").write_text(body)
    text = f"{record / 'manifest.json'} is not the manifest of a record."
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\secret"])
def test_a_path_that_leaves_the_record_is_refused(record, name):
    entry = {"sha256": "0" * 64, "bytes": 1}
    rewrite_manifest(record, lambda body: body["files"].update({name: entry}))
    text = f"{record / 'manifest.json'} lacks a field or has a wrong one: unsafe path {name!r}"
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize("field", ["split", "mode", "steps", "files", "class_names", "n_samples"])
@pytest.mark.parametrize("value", [..., None, 3.5])
def test_a_field_that_is_absent_or_wrong_is_refused(record, field, value):
    def change(body):
        if value is ...:
            del body[field]
        else:
            body[field] = value

    rewrite_manifest(record, change)
    with pytest.raises(CorruptRecordError, match="lacks a field or has a wrong one"):
        read(record)


@pytest.mark.parametrize("split", ["../x", "a/b", "", "a-b"])
def test_a_record_whose_name_is_no_plain_name_is_refused(record, split):
    rewrite_manifest(record, lambda body: body.update(split=split))
    with pytest.raises(CorruptRecordError, match="split: must be 1 to 64 letters"):
        read(record)


def test_unknown_fields_and_files_are_ignored(record, history):
    (record / "notes.txt").write_text("hello")
    (record / "blocks" / "000009.parquet").write_bytes(b"left behind")

    def change(body):
        body["colour"] = "blue"
        body["steps"][0]["mood"] = "fine"
        body["files"]["samples.parquet"]["owner"] = "me"
        body["files"]["future.parquet"] = {"sha256": "0" * 64, "bytes": 1}

    rewrite_manifest(record, change)
    assert_same_history(read_history(*read(record)), history)


def test_no_manifest_is_no_record(tmp_path):
    text = f"no record at {tmp_path}: manifest.json is missing."
    with pytest.raises(NotFoundError, match=message(text)):
        read(tmp_path)


def test_a_full_disk_says_what_to_do_and_leaves_the_old_manifest(small_disk):
    write_manifest(small_disk, bare(3))
    (small_disk / "ballast").write_bytes(b"x" * 200_000)
    loss = np.random.default_rng(0).random(100_000).astype(np.float32)
    path = small_disk / "blocks" / "000001.parquet"
    start = re.escape(f"cannot write {path}: ")
    end = re.escape(
        " What was recorded before is safe. Free space or set ACTIONTRACK_SPOOL to a folder that "
        "can be written, then try again."
    )
    with pytest.raises(StoreError, match=f"^{start}.*No space left on device.*{end}$"):
        write_block(small_disk, 1, {"loss": loss})
    assert read(small_disk)[0] == bare(3)
    assert [each.name for each in small_disk.rglob("*.tmp")] == []


def test_a_folder_that_is_a_file_says_what_to_do(tmp_path):
    (tmp_path / "blocked").write_text("")
    path = tmp_path / "blocked" / "manifest.json"
    text = (
        f"cannot write {path}: File exists. "
        "What was recorded before is safe. "
        "Free space or set ACTIONTRACK_SPOOL to a folder that can be written, then try again."
    )
    with pytest.raises(StoreError, match=message(text)):
        write_manifest(tmp_path / "blocked", bare(1))


@pytest.mark.parametrize("name", ["", "a/b", "..", ".x", "a b", "é", "a-b", "x" * 65])
def test_names_are_safe_in_paths_tags_and_urls(name):
    text = (
        "split: must be 1 to 64 letters, digits, dots or underscores, starting with a letter or "
        f"digit, got {name!r}. Choose a plain name such as 'test'."
    )
    with pytest.raises(ParameterError, match=message(text)):
        check_name("split", name)
