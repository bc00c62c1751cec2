"""The manifest of a record, and files on the disk."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from helpers import message
from record_files import FIRST, assert_same_history, bare, read, read_all, rewrite_manifest

from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError, StoreError
from actiontrack.record.disk import FileEntry
from actiontrack.record.losses import read_history, write_losses
from actiontrack.record.manifest import (
    Manifest,
    manifest_digest,
    write_manifest,
)
from actiontrack.record.paths import check_name
from actiontrack.record.steps import Block, StepEntry, StepTotals


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
        blocks=(Block("losses/000004.parquet", 0, 7, 3),),
        totals=StepTotals(3, 0, 7, 0.3, 6, 1, 3),
        precision="half",
        log=5,
        partial={"step": 1, "n_seen": 1},
        files={
            "samples.parquet": FileEntry("ab", 3),
            "losses/000004.parquet": FileEntry("cd", 2**20 + 1, pieces=("ef", "01")),
            "scores.parquet": FileEntry("23", 4, "sha256"),
        },
        status="recording",
        writer="actiontrack 0",
    )
    manifest = replace(manifest, split="val_1.x")
    write_manifest(tmp_path, manifest)
    assert read(tmp_path)[0] == manifest


def test_a_manifest_of_version_1_survives_saving_and_loading(old_record, tmp_path):
    before, _ = read(old_record)
    write_manifest(tmp_path / "again", before)
    assert read(tmp_path / "again")[0] == before
    bodies = [
        json.loads((folder / "manifest.json").read_text())
        for folder in (old_record, tmp_path / "again")
    ]
    assert bodies[0] == bodies[1]


def test_the_digest_of_a_manifest_is_the_checksum_of_its_file(record, old_record):
    for folder in (record, old_record):
        body = json.loads((folder / "manifest.json").read_text())
        assert manifest_digest(read(folder)[0]) == body["checksum"]


def test_a_block_of_version_1_that_has_no_file_is_not_part_of_the_record(old_record):
    rewrite_manifest(old_record, lambda body: body["files"].pop("blocks/000002.parquet"))
    text = "the record test-probe has no blocks/000002.parquet."
    with pytest.raises(NotFoundError, match=message(text)):
        read_all(old_record)


def test_steps_of_version_1_are_blocks_of_one_step(old_record):
    manifest, _ = read(old_record)
    assert [
        (block.path, block.first_step, block.last_step, block.n_steps) for block in manifest.blocks
    ] == [(f"blocks/00000{step}.parquet", step, step, 1) for step in (1, 2, 3)]
    assert manifest.totals == StepTotals(3, 1, 3, 3.0, 18)
    assert manifest.steps == tuple(StepEntry(step, 1, 6) for step in (1, 2, 3))


def test_fields_of_version_2_mean_nothing_in_version_1(old_record):
    before, _ = read(old_record)

    def change(body):
        body |= {"blocks": 3, "totals": [], "log": "x", "precision": {}}
        body["files"]["samples.parquet"]["blake3"] = 3

    rewrite_manifest(old_record, change)
    manifest, fetch = read(old_record)
    assert manifest == before
    read_history(manifest, fetch)


def test_a_block_that_is_not_among_the_files_is_refused(record):
    rewrite_manifest(record, lambda body: body["files"].pop("losses/000002.parquet"))
    with pytest.raises(
        CorruptRecordError, match=r"blocks: losses/000002\.parquet is not among the f"
    ):
        read(record)


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


@pytest.mark.parametrize("version", [3, "1", "2", None])
def test_a_manifest_of_a_newer_or_no_version_is_refused(record, version):
    rewrite_manifest(record, lambda body: body.update(version=version))
    text = (
        f"{record / 'manifest.json'} has format version {version}; this package reads up to 2. "
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
    entry = {"blake3": "0" * 64, "bytes": 1}
    rewrite_manifest(record, lambda body: body["files"].update({name: entry}))
    text = f"{record / 'manifest.json'} lacks a field or has a wrong one: unsafe path {name!r}"
    with pytest.raises(CorruptRecordError, match=message(text)):
        read(record)


@pytest.mark.parametrize(
    "field", ["split", "mode", "blocks", "totals", "files", "class_names", "n_samples"]
)
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


@pytest.mark.parametrize("value", [..., None, 3.5])
def test_steps_of_version_1_that_are_absent_or_wrong_are_refused(old_record, value):
    def change(body):
        if value is ...:
            del body["steps"]
        else:
            body["steps"] = value

    rewrite_manifest(old_record, change)
    with pytest.raises(CorruptRecordError, match="lacks a field or has a wrong one"):
        read(old_record)


def block(place, **changes):
    """Change a block of a manifest."""
    return lambda body: body["blocks"][place].update(changes)


def totals(**changes):
    """Change the totals of a manifest."""
    return lambda body: body["totals"].update(changes)


def entry(changes):
    """Put other digests in the place of those of samples.parquet, which has a few bytes."""

    def change(body):
        body["files"]["samples.parquet"] = {"bytes": 900} | changes

    return change


#: A change to the manifest of steps 1 and 2 in one file, 3 in another -> what is said of it.
CONTRADICTIONS = [
    (block(1, first_step=2, n_steps=2), "blocks: 2 steps from 2 to 3 follow 2"),
    (lambda body: body["blocks"].reverse(), "blocks: 2 steps from 1 to 2 follow 3"),
    (block(0, n_steps=3), "blocks: 3 steps from 1 to 2 follow -1"),
    (block(0, n_steps=0), "blocks: 0 steps from 1 to 2 follow -1"),
    (block(0, first_step=2, last_step=1), "blocks: 2 steps from 2 to 1 follow -1"),
    (block(0, n_steps=True), "blocks.n_steps is True, no whole number from 0 to 2147483647"),
    (block(0, first_step=-1), "blocks.first_step is -1, no whole number from 0 to 2147483647"),
    (block(1, last_step=2**31), "blocks.last_step is 2147483648, no whole number from 0 to 2147"),
    (block(0, path="../secret"), "unsafe path '../secret'"),
    (block(0, path=3), "unsafe path 3"),
    (block(1, path="losses/000009.parquet"), "blocks: losses/000009.parquet is not among the f"),
    (block(1, path=FIRST), "blocks: a file comes twice"),
    (lambda body: body["blocks"].append(3), "blocks is int, no object"),
    (lambda body: body["blocks"].pop(), "totals: (3, 1, 3) where the files hold (2, 1, 2)"),
    (lambda body: body["blocks"].clear(), "totals: (3, 1, 3) where the files hold (0, None, None)"),
    (lambda body: body["blocks"][0].pop("n_steps"), "'n_steps'"),
    (lambda body: body["totals"].pop("n_seen"), "'n_seen'"),
    (totals(n_steps=4), "totals: (4, 1, 3) where the files hold (3, 1, 3)"),
    (totals(first_step=0), "totals: (3, 0, 3) where the files hold (3, 1, 3)"),
    (totals(last_step=None), "totals: (3, 1, None) where the files hold (3, 1, 3)"),
    (totals(n_steps=3.0), "totals.n_steps is 3.0, no whole number"),
    (totals(first_step=True), "totals.first_step is True, no whole number"),
    (totals(delta=-1), "totals.delta is -1"),
    (totals(delta=float("nan")), "totals.delta is nan"),
    (totals(delta=float("inf")), "totals.delta is inf"),
    (totals(delta="3"), "totals.delta is 3"),
    (totals(n_seen=3 * 40 + 1), "totals.n_seen is 121, no whole number from 0 to 120"),
    (totals(n_nonfinite=-1), "totals.n_nonfinite is -1, no whole number"),
    (totals(n_duplicates=None), "totals.n_duplicates is None, no whole number"),
    (entry({}), "files.samples.parquet has 0 digests"),
    (entry({"sha256": "ab", "blake3": "ab"}), "files.samples.parquet has 2 digests"),
    (entry({"blake3": "ab", "pieces": "abc"}), "files.samples.parquet.pieces is str, no list"),
    (entry({"blake3": "ab", "pieces": [3]}), "files.samples.parquet.pieces is no text: 3"),
    (entry({"blake3": "ab", "pieces": ["ab"] * 2}), "samples.parquet has 2 pieces of 900 bytes"),
    (
        entry({"blake3": "ab", "bytes": 2**21 + 1, "pieces": ["ab"] * 2}),
        "samples.parquet has 2 pieces of 2097153 bytes",
    ),
]


@pytest.mark.parametrize(
    ("change", "said"), CONTRADICTIONS, ids=[said for _, said in CONTRADICTIONS]
)
def test_a_manifest_that_contradicts_itself_is_refused(record, change, said):
    rewrite_manifest(record, change)
    start = re.escape(f"{record / 'manifest.json'} lacks a field or has a wrong one: ")
    with pytest.raises(CorruptRecordError, match=f"^{start}.*{re.escape(said)}"):
        read(record)


@pytest.mark.parametrize("split", ["../x", "a/b", "", "a-b"])
def test_a_record_whose_name_is_no_plain_name_is_refused(record, split):
    rewrite_manifest(record, lambda body: body.update(split=split))
    with pytest.raises(CorruptRecordError, match="split: must be 1 to 64 letters"):
        read(record)


def test_unknown_fields_and_files_are_ignored(record, history):
    (record / "notes.txt").write_text("hello")
    (record / "losses" / "000009.parquet").write_bytes(b"left behind")

    def change(body):
        body["colour"] = "blue"
        body["blocks"][0]["mood"] = "fine"
        body["totals"]["mood"] = "fine"
        body["steps"] = "listed elsewhere"
        body["files"]["samples.parquet"]["owner"] = "me"
        body["files"]["future.parquet"] = {"blake3": "0" * 64, "bytes": 1}

    rewrite_manifest(record, change)
    assert_same_history(read_history(*read(record)), history)


def test_unknown_fields_of_version_1_are_ignored(old_record):
    before = read_history(*read(old_record))
    rewrite_manifest(old_record, lambda body: body["steps"][0].update(mood="fine"))
    assert_same_history(read_history(*read(old_record)), before)


def test_no_manifest_is_no_record(tmp_path):
    text = f"no record at {tmp_path}: manifest.json is missing."
    with pytest.raises(NotFoundError, match=message(text)):
        read(tmp_path)


def test_a_full_disk_says_what_to_do_and_leaves_the_old_manifest(small_disk):
    write_manifest(small_disk, bare(3))
    (small_disk / "ballast").write_bytes(b"x" * 200_000)
    loss = np.random.default_rng(0).random(100_000).astype(np.float32)
    path = small_disk / "losses" / "000001.parquet"
    start = re.escape(f"cannot write {path}: ")
    end = re.escape(
        " What was recorded before is safe. Free space or set ACTIONTRACK_SPOOL to a folder that "
        "can be written, then try again."
    )
    steps = [StepEntry(1, 1.0, 100_000)]
    with pytest.raises(StoreError, match=f"^{start}.*No space left on device.*{end}$"):
        write_losses(small_disk, "losses/000001.parquet", steps, {"loss": loss[None]})
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
