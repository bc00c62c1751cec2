"""A file that is verified piece by piece, as it is read: one part costs no other."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from actiontrack.errors import StoreError
from actiontrack.record.disk import FileEntry
from actiontrack.record.limits import PIECE
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import Fetch, altered, present_file, promised_file, verified_file

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["PieceFile", "open_pieces"]


class PieceFile(io.RawIOBase):
    """A file whose every piece is compared with its digest before any of it is handed out.

    Args:
        manifest: the record's manifest.
        name: of the file, for messages.
        path: of the file.
        entry: what the manifest promises of it, its pieces among that.

    Raises:
        CorruptRecordError: on reading, if a piece is not what the manifest promises.
    """

    def __init__(self, manifest: Manifest, name: str, path: Path, entry: FileEntry) -> None:
        super().__init__()
        self._manifest, self._name, self._entry = manifest, name, entry
        self._file = path.open("rb")
        self._position = 0
        self._pieces: dict[int, bytes] = {}

    @property
    def n_pieces_read(self) -> int:
        """Pieces that were read so far."""
        return len(self._pieces)

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._entry.bytes}
        self._position = base[whence] + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill a buffer from the position on: PyArrow takes a part for the end of the file."""
        view = memoryview(buffer).cast("B")
        content = self.read_range(self._position, len(view))
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def read_range(self, start: int, size: int) -> bytes:
        """Bytes from an offset on, verified; fewer at the end of the file."""
        end = min(start + size, self._entry.bytes)
        parts = []
        for number in range(start // PIECE, -(-end // PIECE)):
            first = number * PIECE
            parts.append(self._piece(number)[max(start - first, 0) : end - first])
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def _piece(self, number: int) -> bytes:
        if number not in self._pieces:
            try:
                self._file.seek(number * PIECE)
                content = self._file.read(PIECE)
            except OSError as error:
                raise StoreError(f"cannot read {self._name}: {error.strerror}.") from error
            if not self._entry.matches_piece(number, content):
                raise altered(self._manifest, self._name)
            self._pieces[number] = content
        return self._pieces[number]


def open_pieces(manifest: Manifest, name: str, fetch: Fetch) -> PieceFile | Path:
    """A file of the record to be read in parts, or the whole one verified where it is small.

    Raises:
        CorruptRecordError: if it is missing, or of another size than the manifest says.
    """
    promised = promised_file(manifest, name)
    if not promised.pieces:
        return verified_file(manifest, name, fetch)
    path = present_file(manifest, name, fetch)
    if path.stat().st_size != promised.bytes:
        raise altered(manifest, name)
    return PieceFile(manifest, name, path, promised)
