import json
import re
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import platformdirs
import pytest
from helpers import message

from actiontrack.errors import CorruptRecordError, NotFoundError, StoreError
from actiontrack.record.losses import read_history
from actiontrack.record.manifest import Manifest, read_manifest
from actiontrack.record.samples import Samples, write_samples
from actiontrack.record.steps import StepEntry
from actiontrack.record.vectors import read_scores
from actiontrack.recorder import spool_root
from actiontrack.recorder.packer import pack
from actiontrack.recorder.spool import Destination, Spool

DESTINATION = Destination("sqlite:///x.db", "run1", "cnn", ("process 1",))
MANIFEST = Manifest(
    split="test",
    mode="probe",
    loss_name="loss",
    delta_kind="epoch",
    n_samples=2,
    id_type="int64",
    digests={},
)


def entry_of(step):
    return StepEntry(step, 1.0, 2)


@pytest.fixture
def spool(tmp_path):
    """A spool of two samples and two steps."""
    found = Spool.create(tmp_path / "run1" / "test-probe", MANIFEST, DESTINATION)
    entry = write_samples(found.folder, Samples(sample_ids=np.array([4, 7])))
    found.add_file("samples.parquet", entry)
    for step in (1, 2):
        found.add_step(entry_of(step), {"loss": np.float32([step, step / 2])})
    return found


def test_the_environment_names_the_root_and_a_change_of_folder_does_not_move_it(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("ACTIONTRACK_SPOOL", "somewhere")
    monkeypatch.chdir(tmp_path)
    assert spool_root() == tmp_path / "somewhere"


def test_the_default_root_is_the_state_folder_of_the_user(monkeypatch):
    monkeypatch.delenv("ACTIONTRACK_SPOOL")
    assert spool_root() == platformdirs.user_state_path("actiontrack") / "spool"


@pytest.fixture(params=["log", "files", "both"])
def any_spool(request, spool):
    """The spool with its steps in the log, in files of losses, or the first in a file alone."""
    if request.param == "files":
        pack(spool)
    if request.param == "both":
        spool.truncate(2)
        pack(spool)
        spool.add_step(entry_of(2), {"loss": np.float32([2, 1])})
    return spool


def test_the_manifest_on_disk_is_the_manifest_in_memory(any_spool):
    assert read_manifest(any_spool.folder / "manifest.json") == any_spool.manifest
    assert any_spool.steps == [entry_of(1), entry_of(2)]


def test_a_step_writes_no_manifest(spool):
    before = (spool.folder / "manifest.json").stat()
    spool.add_step(entry_of(3), {"loss": np.float32([3, 1.5])})
    assert (spool.folder / "manifest.json").stat() == before


def test_a_spool_that_was_left_behind_is_the_same(any_spool):
    spool = any_spool
    found = Spool.load(spool.folder)
    assert found.manifest == spool.manifest
    assert found.steps == spool.steps
    assert found.last_step == 2
    assert found.destination() == DESTINATION
    assert found.sample_ids().tolist() == [4, 7]
    assert found.labels() is None


def test_a_spool_without_samples_knows_none(tmp_path):
    assert Spool.create(tmp_path / "x", MANIFEST, DESTINATION).sample_ids() is None


def test_truncation_forgets_steps_and_scores(spool):
    pack(spool)
    spool.complete()
    assert spool.truncate(2) is True
    assert "scores.parquet" not in spool.manifest.files
    assert spool.manifest.status == "recording"
    for left in (spool, Spool.load(spool.folder)):
        assert left.steps == [entry_of(1)]
    pack(spool)
    assert sorted(spool.manifest.files) == ["losses/000002.parquet", "samples.parquet"]
    assert read_history(spool.manifest, spool.fetch).losses.tolist() == [[1, 0.5]]


def test_truncation_after_the_last_step_does_nothing(spool):
    assert spool.truncate(3) is False


def test_completion_writes_the_scores(spool):
    pack(spool)
    spool.complete()
    found = read_scores(spool.manifest, spool.fetch)
    assert found["action"].tolist() == [3.0, 1.5]
    assert spool.manifest.complete


def test_a_new_spool_replaces_what_was_left_behind(spool):
    found = Spool.create(spool.folder, MANIFEST, DESTINATION)
    assert [each.name for each in found.folder.iterdir()] == ["sync.json"]


def test_a_removed_spool_leaves_no_empty_folder(spool, tmp_path):
    spool.remove()
    assert list(tmp_path.glob("run1*")) == []


def test_a_removed_spool_leaves_its_neighbours(spool, tmp_path):
    other = Spool.create(tmp_path / "run1" / "train-inline", MANIFEST, DESTINATION)
    spool.remove()
    assert other.folder.is_dir()


def test_a_copy_holds_the_same_files(spool, tmp_path):
    pack(spool)
    copy = Spool.copy(tmp_path / "copy", spool.manifest, spool.fetch)
    assert copy.manifest == spool.manifest
    assert copy.steps == spool.steps
    for name in spool.manifest.files:
        assert (copy.folder / name).read_bytes() == (spool.folder / name).read_bytes()


def test_a_copy_replaces_what_the_folder_held(spool, tmp_path):
    pack(spool)
    other = Spool.load(shutil.copytree(spool.folder, tmp_path / "copy"))
    for step in (3, 4):
        other.add_step(entry_of(step), {"loss": np.float32([step, step])})
    copy = Spool.copy(tmp_path / "copy", spool.manifest, spool.fetch)
    assert copy.steps == Spool.load(copy.folder).steps == [entry_of(1), entry_of(2)]


def test_a_damaged_record_is_not_copied(spool, tmp_path):
    (spool.folder / "samples.parquet").write_bytes(b"")
    with pytest.raises(CorruptRecordError, match=r"^samples\.parquet of test-probe is truncated"):
        Spool.copy(tmp_path / "copy", spool.manifest, spool.fetch)
    assert not (tmp_path / "copy" / "manifest.json").exists()


def test_no_spool_is_not_found(tmp_path):
    text = f"no record at {tmp_path / 'x'}: manifest.json is missing."
    with pytest.raises(NotFoundError, match=message(text)):
        Spool.load(tmp_path / "x")


@pytest.mark.parametrize("body", [None, "", "[]", '{"run_id": "x"}'])
def test_a_spool_that_does_not_say_where_it_belongs_is_damaged(spool, body):
    path = spool.folder / "sync.json"
    path.unlink()
    if body is not None:
        path.write_text(body)
    text = f"{path} does not say where the record belongs."
    with pytest.raises(CorruptRecordError, match=message(text)):
        spool.destination()


def test_the_destination_is_plain_json(spool):
    body = json.loads((spool.folder / "sync.json").read_text())
    assert body == {
        "tracking_uri": "sqlite:///x.db",
        "run_id": "run1",
        "model": "cnn",
        "writers": ["process 1"],
    }


def test_the_destination_is_replaced_as_a_whole(spool, tmp_path):
    path = spool.folder / "sync.json"
    before = path.read_text()
    (tmp_path / "same file").hardlink_to(path)
    spool.write_destination(replace(DESTINATION, writers=("process 2",)))
    assert (tmp_path / "same file").read_text() == before
    assert spool.writers() == ("process 2",)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(file.name for file in spool.folder.glob("*sync*")) == ["sync.json"]


def test_a_spool_of_an_earlier_version_names_no_process(spool):
    path = spool.folder / "sync.json"
    body = json.loads(path.read_text())
    del body["writers"]
    path.write_text(json.dumps(body))
    assert spool.destination().writers == spool.writers() == ()


@pytest.mark.parametrize("root", ["blocked", "/proc/nowhere", "/sys/kernel/nowhere"])
def test_a_spool_that_cannot_be_written_names_the_remedy(tmp_path, root):
    (tmp_path / "blocked").write_text("a file")
    folder = tmp_path / root / "run1"
    start = re.escape(f"cannot write the spool {folder}: ")
    end = re.escape(". Set ACTIONTRACK_SPOOL to a folder that can be written.")
    with pytest.raises(StoreError, match=f"^{start}.+{end}$"):
        Spool.create(folder, MANIFEST, DESTINATION)


def test_an_error_without_a_number_of_the_system_is_told_in_its_own_words(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("the archive is read-only")

    monkeypatch.setattr(Path, "mkdir", refuse)
    text = (
        f"cannot write the spool {tmp_path / 'x'}: the archive is read-only. "
        "Set ACTIONTRACK_SPOOL to a folder that can be written."
    )
    with pytest.raises(StoreError, match=message(text)):
        Spool.create(tmp_path / "x", MANIFEST, DESTINATION)
