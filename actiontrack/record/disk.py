"""Files written whole or not at all, with their size and digest."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from actiontrack.errors import StoreError

__all__ = [
    "FileEntry",
    "file_entry",
    "write_file",
]


@dataclass(frozen=True)
class FileEntry:
    """What the manifest promises of one file: sha256 (64 hex characters) and size in bytes."""

    sha256: str
    bytes: int


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file whole or not at all: under a temporary name, then renamed."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. What was recorded before is safe. "
            "Free space or set ACTIONTRACK_SPOOL to a folder that can be written, then try again."
        ) from error


def file_entry(path: Path) -> FileEntry:
    """Size and sha256 of a file on the disk."""
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
