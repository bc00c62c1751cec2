"""Files of a record on the disk: their digests, whole and piece by piece."""

import hashlib
import os

import pytest
from blake3 import blake3

from actiontrack.record import disk
from actiontrack.record.disk import FileEntry, file_entry, write_file
from actiontrack.record.limits import PIECE

SIZES = [0, 1, 1023, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 17]


@pytest.fixture(params=SIZES)
def file(request, tmp_path):
    """A file of random bytes, and its content."""
    content = os.urandom(request.param)
    path = tmp_path / "file.parquet"
    path.write_bytes(content)
    return path, content


def test_the_official_digest_of_no_bytes(tmp_path):
    """As the paper on BLAKE3 has it: the library is the one that others use."""
    (tmp_path / "empty").touch()
    digest = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
    assert file_entry(tmp_path / "empty") == FileEntry(digest, 0)


def test_an_entry_is_size_and_blake3_of_the_content(file):
    path, content = file
    entry = file_entry(path)
    assert entry == FileEntry(blake3(content).hexdigest(), len(content), "blake3", ())
    assert entry.body() == {"blake3": blake3(content).hexdigest(), "bytes": len(content)}


def test_pieces_are_the_digests_of_every_mebibyte_of_a_larger_file(file):
    path, content = file
    entry = file_entry(path, pieces=True)
    parts = [content[start : start + 2**20] for start in range(0, len(content), 2**20)]
    expected = tuple(blake3(part).hexdigest() for part in parts) if len(content) > 2**20 else ()
    assert entry.pieces == expected
    assert (entry.digest, entry.bytes) == (blake3(content).hexdigest(), len(content))
    for number, part in enumerate(parts if expected else []):
        assert entry.matches_piece(number, part)
        assert not entry.matches_piece(number, part[:-1] + bytes([part[-1] ^ 1]))
        assert not entry.matches_piece(number, part[:-1])


@pytest.mark.parametrize("algorithm", ["blake3", "sha256"])
def test_content_matches_by_size_and_digest(file, algorithm):
    path, content = file
    digests = {"blake3": blake3(content).hexdigest(), "sha256": hashlib.sha256(content).hexdigest()}
    entry = FileEntry(digests[algorithm], len(content), algorithm)
    assert entry.matches(content)
    assert entry.matches_file(path)
    flipped = bytes([content[-1] ^ 1]) if content else b"\0"
    for altered in (content + b"\0", content[:-1] + b"\1\2", content[:-1] + flipped):
        path.write_bytes(altered)
        assert not entry.matches(altered)
        assert not entry.matches_file(path)


def test_a_digest_of_one_algorithm_is_not_that_of_the_other(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    digest = hashlib.sha256(b"content").hexdigest()
    assert not FileEntry(digest, 7).matches(b"content")
    assert not FileEntry(digest, 7).matches_file(tmp_path / "file")


@pytest.mark.parametrize(
    "entry",
    [
        FileEntry("ab", 3),
        FileEntry("ab", 3, "sha256"),
        FileEntry("ab", 2**20 + 1, pieces=("cd", "ef")),
    ],
)
def test_an_entry_survives_as_the_manifest_holds_it(entry):
    assert FileEntry.parse(entry.body()) == entry


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_that_must_outlast_a_power_cut_is_synced_before_and_after_it_has_its_name(
    tmp_path, monkeypatch, durable
):
    path, synced = tmp_path / "folder" / "file", []
    sync = disk.sync_to_disk

    def noted(place):
        synced.append((place, path.exists()))
        sync(place)

    monkeypatch.setattr(disk, "sync_to_disk", noted)
    write_file(path, lambda temporary: temporary.write_bytes(b"x"), durable=durable)
    temporary = path.with_name(".file.tmp")
    assert synced == ([(temporary, False), (path.parent, True)] if durable else [])
    assert path.read_bytes() == b"x"
    assert not temporary.exists()


def test_a_file_that_could_not_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")

    def half(temporary):
        temporary.write_bytes(b"ha")
        raise ValueError("the writer fails")

    with pytest.raises(ValueError, match="the writer fails"):
        write_file(path, half)
    assert path.read_bytes() == b"before"
