"""A file that is verified piece by piece as it is read."""

import io

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st
from record_files import FIRST, altered, bare

from actiontrack.errors import CorruptRecordError, NotFoundError, StoreError
from actiontrack.record.disk import FileEntry, file_entry
from actiontrack.record.manifest import Manifest
from actiontrack.record.pieces import PieceFile, open_pieces

PIECE = 2**20
SIZE = 2 * PIECE + 1000
CONTENT = np.random.default_rng(0).bytes(SIZE)
PLACES = st.integers(0, SIZE + 10) | st.sampled_from([PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, SIZE])


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file.parquet"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("pieces") / "file.parquet"
    path.write_bytes(CONTENT)
    return path


def opened(path):
    entry = FileEntry(
        blake3(CONTENT).hexdigest(),
        SIZE,
        pieces=tuple(
            blake3(CONTENT[start : start + PIECE]).hexdigest() for start in range(0, SIZE, PIECE)
        ),
    )
    return PieceFile(bare(1), FIRST, path, entry)


@given(PLACES, PLACES)
def test_any_part_is_that_of_the_file(whole, start, size):
    with opened(whole) as file:
        assert file.read_range(start, size) == CONTENT[start : start + size]
        file.seek(start)
        assert file.read(size) == CONTENT[start : start + size]
        assert file.tell() == max(start, min(start + size, SIZE))


def test_all_of_it_is_read_in_order(whole):
    with opened(whole) as file:
        assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
        assert file.read() == CONTENT
        assert file.read(1) == b""
        assert file.n_pieces_read == 3


def test_places_are_counted_from_the_start_the_present_one_and_the_end(whole):
    with opened(whole) as file:
        assert file.seek(5) == 5
        assert file.seek(7, io.SEEK_CUR) == file.tell() == 12
        assert file.seek(-3, io.SEEK_END) == SIZE - 3
        assert file.read() == CONTENT[-3:]


def test_only_the_pieces_of_what_is_read_are_read(path):
    with opened(path) as file:
        file.read_range(PIECE - 1, 1)
        assert file.n_pieces_read == 1
        file.read_range(PIECE - 1, 2)
        assert file.n_pieces_read == 2
        path.write_bytes(b"")
        assert file.read_range(PIECE - 1, 2) == CONTENT[PIECE - 1 : PIECE + 1]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_damaged_piece_is_refused_and_the_others_are_read(path, number):
    damaged = bytearray(CONTENT)
    damaged[number * PIECE + 500] ^= 1
    path.write_bytes(damaged)
    with opened(path) as file:
        for other in {0, 1, 2} - {number}:
            start = other * PIECE
            assert file.read_range(start, 9) == CONTENT[start : start + 9]
        with pytest.raises(CorruptRecordError, match=altered(FIRST)):
            file.read_range(number * PIECE, 1)


def test_a_file_that_was_cut_since_it_was_opened_is_refused(path):
    with opened(path) as file:
        path.write_bytes(CONTENT[:PIECE])
        with pytest.raises(CorruptRecordError, match=altered(FIRST)):
            file.read_range(PIECE, 1)


def test_a_disk_that_fails_is_no_damage_of_the_record(path):
    file = opened(path)
    file._file.close()
    file._file = FailingDisk()
    with pytest.raises(StoreError, match=rf"^cannot read {FIRST}: Input/output error\.$"):
        file.read_range(0, 1)


class FailingDisk(io.RawIOBase):
    def seek(self, *_):
        raise OSError(5, "Input/output error")


def manifest_of(entry):
    return Manifest(**{**vars(bare(1)), "files": {FIRST: entry}})


def test_a_file_of_one_piece_is_verified_at_once(tmp_path):
    path = tmp_path / "file.parquet"
    path.write_bytes(b"content")
    manifest = manifest_of(file_entry(path, pieces=True))
    assert open_pieces(manifest, FIRST, lambda _: path) == path
    path.write_bytes(b"contents")
    with pytest.raises(CorruptRecordError, match=altered(FIRST)):
        open_pieces(manifest, FIRST, lambda _: path)


def test_a_file_of_several_pieces_is_not_read_to_be_opened(path):
    with open_pieces(manifest_of(file_entry(path, pieces=True)), FIRST, lambda _: path) as file:
        assert file.n_pieces_read == 0


def test_a_file_that_the_manifest_does_not_name_is_not_opened(path):
    with pytest.raises(NotFoundError, match=f"the record test-probe has no {FIRST}"):
        open_pieces(bare(1), FIRST, lambda _: path)
