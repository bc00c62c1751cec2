"""Files written whole or not at all, with their size and digest."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from blake3 import blake3

from actiontrack.errors import StoreError
from actiontrack.record.limits import PIECE

__all__ = [
    "FileEntry",
    "file_entry",
    "sync_to_disk",
    "write_file",
]


_Content = bytes  # within a class whose field is called bytes
#: Names of digests, as a manifest spells them; in format 1 the first alone means anything.
_ALGORITHMS = ("sha256", "blake3")


@dataclass(frozen=True)
class FileEntry:
    """What the manifest promises of one file.

    Attributes:
        digest: of the whole file, 64 hex characters.
        bytes: its size.
        algorithm: "blake3", or "sha256" in records that were begun in format 1.
        pieces: digests of its parts of `PIECE` bytes, by which one part can be verified without
            the others; of files of losses of more than one piece.
    """

    digest: str
    bytes: int
    algorithm: str = "blake3"
    pieces: tuple[str, ...] = ()

    @classmethod
    def parse(cls, body: Mapping[str, Any]) -> "FileEntry":
        """The entry that a manifest holds, checked before."""
        algorithm = next(name for name in _ALGORITHMS if name in body)
        return cls(body[algorithm], body["bytes"], algorithm, tuple(body.get("pieces", ())))

    def body(self) -> dict[str, Any]:
        """The fields as a manifest holds them."""
        body: dict[str, Any] = {self.algorithm: self.digest, "bytes": self.bytes}
        return body | {"pieces": list(self.pieces)} if self.pieces else body

    def matches(self, content: _Content) -> bool:
        """Whether this is the content of the file."""
        return len(content) == self.bytes and _digest(content, self.algorithm) == self.digest

    def matches_file(self, path: Path) -> bool:
        """Whether the file at a path is the one; it is read in parts."""
        if path.stat().st_size != self.bytes:
            return False
        if self.algorithm == "sha256":
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.digest
        return blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest() == self.digest

    def matches_piece(self, number: int, content: _Content) -> bool:
        """Whether this is the content of one of the pieces."""
        return _digest(content, self.algorithm) == self.pieces[number]


def _digest(content: _Content, algorithm: str) -> str:
    if algorithm == "sha256":
        return hashlib.sha256(content).hexdigest()
    threads = blake3.AUTO if len(content) > PIECE else 1
    return blake3(content, max_threads=threads).hexdigest()


def write_file(path: Path, write: Callable[[Path], object], *, durable: bool = False) -> None:
    """Write a file whole or not at all: under a temporary name, then renamed.

    Args:
        path: where it will be.
        write: writes it to the path that it is given.
        durable: whether it must outlast a power cut from now on.

    Raises:
        StoreError: if the disk is full or can't be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        if durable:
            sync_to_disk(temporary)
        temporary.replace(path)
        if durable:
            sync_to_disk(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. What was recorded before is safe. "
            "Free space or set ACTIONTRACK_SPOOL to a folder that can be written, then try again."
        ) from error


def sync_to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk itself."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_entry(path: Path, *, pieces: bool = False) -> FileEntry:
    """Size and digest of a file on the disk.

    Args:
        path: the file.
        pieces: whether its parts get digests of their own.
    """
    content = path.read_bytes() if pieces else b""
    parts = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    digest = blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
    return FileEntry(
        digest,
        path.stat().st_size,
        pieces=tuple(_digest(part, "blake3") for part in parts) if len(parts) > 1 else (),
    )
