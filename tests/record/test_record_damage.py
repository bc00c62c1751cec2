"""Files of a record that are damaged are refused."""

import numpy as np
import pytest
from helpers import message
from record_files import altered, missing, promise, read, read_all

from actiontrack.errors import CorruptRecordError
from actiontrack.record.losses import write_losses
from actiontrack.record.parquet import copy_file
from actiontrack.record.paths import losses_path
from actiontrack.record.samples import Samples, write_samples
from actiontrack.record.steps import StepEntry

LAST = "losses/000002.parquet"
FILES = ["samples.parquet", LAST, "scores.parquet"]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(record, name):
    path = record / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CorruptRecordError, match=altered(name)):
        read_all(record)


@pytest.mark.parametrize("name", FILES)
def test_an_empty_file_is_refused(record, name):
    (record / name).write_bytes(b"")
    with pytest.raises(CorruptRecordError, match=altered(name)):
        read_all(record)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.5, 0.99])
def test_one_flipped_bit_is_refused(record, name, where):
    body = bytearray((record / name).read_bytes())
    body[int(where * len(body))] ^= 1
    (record / name).write_bytes(body)
    with pytest.raises(CorruptRecordError, match=altered(name)):
        read_all(record)


def test_two_files_of_losses_that_changed_places_are_refused(record):
    first, second = (record / losses_path(number) for number in (1, 2))
    first.rename(record / "spare")
    second.rename(first)
    (record / "spare").rename(second)
    with pytest.raises(CorruptRecordError, match=altered("losses/000001.parquet")):
        read_all(record)


@pytest.mark.parametrize("name", FILES)
def test_a_deleted_file_is_refused(record, name):
    (record / name).unlink()
    with pytest.raises(CorruptRecordError, match=missing(name)):
        read_all(record)


@pytest.mark.parametrize("name", FILES)
def test_a_symlink_is_refused_even_to_the_right_content(record, name):
    path = record / name
    path.rename(record / "elsewhere")
    path.symlink_to(record / "elsewhere")
    with pytest.raises(CorruptRecordError, match=missing(name)):
        read_all(record)


def test_a_folder_in_the_place_of_a_file_is_refused(record):
    (record / "samples.parquet").unlink()
    (record / "samples.parquet").mkdir()
    with pytest.raises(CorruptRecordError, match=missing("samples.parquet")):
        read_all(record)


def test_a_file_that_is_no_parquet_is_refused_even_with_its_own_digest(record):
    (record / "samples.parquet").write_bytes(b"PAR1 nonsense PAR1")
    promise(record, "samples.parquet")
    text = (
        "samples.parquet has no proper Parquet footer. Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read_all(record)


def test_losses_of_another_number_of_samples_are_refused(record):
    write_losses(record, LAST, [StepEntry(3, 1.0, 39)], {"loss": np.ones((1, 39), np.float32)})
    promise(record, LAST)
    text = (
        "losses/000002.parquet has 39 rows where the manifest says 40. "
        "Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read_all(record)


def test_losses_without_their_measures_are_refused(record):
    write_losses(record, LAST, [StepEntry(3, 1.0, 40)], {"loss": np.ones((1, 40), np.float32)})
    promise(record, LAST)
    text = (
        "losses/000002.parquet lacks the columns correct, el2n, entropy, largest_other, margin, "
        "predicted, target_probability. Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read_all(record)


def test_samples_that_break_the_rules_are_refused_even_with_their_own_digest(record):
    write_samples(record, Samples(sample_ids=np.zeros(40, np.int64)))
    promise(record, "samples.parquet")
    text = (
        "samples.parquet can't be read as the record's format 2: sample_ids: must be unique and "
        "ascending, got [0, 0, 0, 0, 0]. Sort by id first. "
        "Restore the file, or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        read_all(record)


def test_a_copied_file_is_verified_first(record, tmp_path):
    manifest, fetch = read(record)
    copy_file(manifest, FILES[1], fetch, tmp_path / "copy")
    assert (tmp_path / "copy" / FILES[1]).read_bytes() == (record / FILES[1]).read_bytes()
    (record / FILES[1]).write_bytes(b"")
    with pytest.raises(CorruptRecordError, match=altered(FILES[1])):
        copy_file(manifest, FILES[1], fetch, tmp_path / "copy")
