"""The log of steps on local disk: a frame is appended for each step, and none is rewritten.

So the last of a hundred thousand steps costs what the first did. A frame is whole or it is not
there: one that was cut short by a crash fails its digest and is left out. Logs are numbered; the
manifest says which is the first whose steps are in no file of losses yet.

A frame, in little-endian order::

    4 bytes    "ATL2"
    4 bytes    length of the header
    8 bytes    length of the values
    16 bytes   BLAKE3 of header and values
    header     JSON: the entry of the step and its columns, or {"cut": n}: steps from n on are void
    values     columns one after the other; short ones with bytes of one significance together, zstd
"""

import contextlib
import json
import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from blake3 import blake3

from actiontrack.errors import StoreError
from actiontrack.record.disk import sync_to_disk
from actiontrack.record.limits import check_claim, check_steps
from actiontrack.record.steps import StepEntry

__all__ = ["LOG", "Frame", "StepLog"]

#: Folder of a spooled record that holds its logs; it is no part of the record.
LOG = "log"
_MAGIC = b"ATL2"
_HEAD = struct.Struct("<4sIQ16s")
_CODEC = "zstd"
_PACKED_BYTES = 2**16  # of a column that is compressed, at most
_SEEN = "(seen)"  # no name of a measure or component


@dataclass(frozen=True)
class Frame:
    """One frame of a log.

    Attributes:
        entry: what the step held, or None in a frame that cuts.
        columns: name -> (n_samples,).
        seen: (n_samples,), what samples were seen, or None for all.
        cut: steps from this one on are void, or None in a frame of a step.
    """

    entry: StepEntry | None = None
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    seen: npt.NDArray[np.bool_] | None = None
    cut: int | None = None


class StepLog:
    """The logs of one record.

    Args:
        folder: folder of the record in the spool.
        number: of the log that is appended to.
        durable: whether a step must outlast a power cut once it is appended.
    """

    def __init__(self, folder: Path, number: int = 0, *, durable: bool = False) -> None:
        self._folder, self.number, self.durable = folder / LOG, number, durable
        self._file: BinaryIO | None = None

    def append(self, entry: StepEntry, columns: Mapping[str, npt.NDArray[Any]]) -> None:
        """Append a step.

        Args:
            entry: what it held.
            columns: name -> (n_samples,), all masked alike where a sample was not seen.

        Raises:
            StoreError: if the disk is full; the log is as it was.
        """
        values = {name: np.ma.getdata(column) for name, column in columns.items()}
        mask = np.ma.getmask(next(iter(columns.values())))
        if mask is not np.ma.nomask:
            values[_SEEN] = ~np.ma.getmaskarray(next(iter(columns.values())))
        packed: list[bytes | memoryview] = [_packed(column) for column in values.values()]
        described = [
            [name, column.dtype.str, column.size, len(part), isinstance(part, bytes)]
            for (name, column), part in zip(values.items(), packed, strict=True)
        ]
        self._write({"step": entry.body(), "columns": described}, packed)

    def cut(self, step: int) -> None:
        """Make the steps from `step` on void.

        Raises:
            StoreError: if the disk is full; the log is as it was.
        """
        self._write({"cut": step}, [])

    def rotate(self) -> int:
        """Begin another log. Returns its number: those below it are written to no more."""
        self.close()
        if self._path(self.number).is_file():
            self.number += 1
        return self.number

    def frames(self, first: int, end: int) -> Iterator[Frame]:
        """The frames of the logs from `first` on, those before `end`, in order.

        A log ends where a frame is cut short or damaged: what follows can't be told.
        """
        for number in range(first, end):
            path = self._path(number)
            if path.is_file():
                yield from _frames(path)

    def discard(self, first: int, end: int) -> None:
        """Delete the logs from `first` on, those before `end`."""
        for number in range(first, end):
            with contextlib.suppress(OSError):
                self._path(number).unlink(missing_ok=True)

    def numbers(self) -> list[int]:
        """Numbers of the logs that there are, ascending."""
        return sorted(int(path.stem) for path in self._folder.glob("*.log") if path.stem.isdigit())

    def close(self) -> None:
        """Close the file; the next frame opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __del__(self) -> None:
        """A recorder that nobody closed leaves no file open."""
        self.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.log"

    def _write(self, header: Mapping[str, Any], parts: list[bytes | memoryview]) -> None:
        text = json.dumps(header, separators=(",", ":")).encode()
        digest = blake3(text)
        for part in parts:
            digest.update(part)
        size = sum(map(len, parts))
        head = _HEAD.pack(_MAGIC, len(text), size, digest.digest(length=16))
        try:
            file = self._opened()
            start = file.tell()
            try:
                rest = memoryview(b"".join([head, text, *parts]))
                while rest:  # a disk that is nearly full takes a part of it
                    rest = rest[file.write(rest) :]
                if self.durable:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(start)
                raise
        except OSError as error:
            self.close()
            raise StoreError(
                f"cannot write {self._path(self.number)}: {error.strerror or error}. What was "
                "recorded before is safe. Free space or set ACTIONTRACK_SPOOL to a folder that can "
                "be written, then try again."
            ) from error

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._path(self.number)
            self._file = path.open("ab", buffering=0)
            if self.durable:
                sync_to_disk(self._folder)
                sync_to_disk(self._folder.parent)
        return self._file


def _frames(path: Path) -> Iterator[Frame]:
    size = path.stat().st_size
    with path.open("rb") as file:
        while head := file.read(_HEAD.size):
            frame = _frame(file, head, size)
            if frame is None:
                return
            yield frame


def _frame(file: BinaryIO, head: bytes, size: int) -> Frame | None:
    """The next frame, or None if it is not whole."""
    if len(head) < _HEAD.size:
        return None
    magic, n_header, n_values, digest = _HEAD.unpack(head)
    if magic != _MAGIC or n_header + n_values > size - file.tell():
        return None
    text, values = file.read(n_header), file.read(n_values)
    if blake3(text).update(values).digest(length=16) != digest:
        return None
    header = json.loads(text)
    if "cut" in header:
        return Frame(cut=int(header["cut"]))
    columns: dict[str, npt.NDArray[Any]] = {}
    position = 0
    for name, dtype, n_rows, length, is_packed in header["columns"]:
        part = values[position : position + length]
        columns[name] = _unpacked(part, np.dtype(dtype), n_rows, is_packed=is_packed)
        position += length
    n_samples = max((len(column) for column in columns.values()), default=0)
    check_steps([header["step"]], n_samples)
    seen = columns.pop(_SEEN, None)
    return Frame(StepEntry(**header["step"]), columns, seen)


def _packed(column: npt.NDArray[Any]) -> bytes | memoryview:
    """The bytes of a column, compressed where there are few: of many steps they are many.

    Those of a large epoch are written as they are, which holds the training for less.
    """
    values = np.ascontiguousarray(column)
    raw = values.view(np.uint8)
    if values.nbytes > _PACKED_BYTES:
        return raw.data
    planes = np.ascontiguousarray(raw.reshape(-1, values.dtype.itemsize).T)
    packed: bytes = pa.compress(planes, codec=_CODEC, asbytes=True)
    return packed


def _unpacked(
    part: bytes, dtype: np.dtype[Any], n_rows: int, *, is_packed: bool
) -> npt.NDArray[Any]:
    check_claim("a step of the log", n_rows * dtype.itemsize, len(part))
    if not is_packed:
        return np.frombuffer(part, dtype=dtype, count=n_rows)
    raw = pa.decompress(part, n_rows * dtype.itemsize, codec=_CODEC, asbytes=True)
    planes = np.frombuffer(raw, dtype=np.uint8).reshape(dtype.itemsize, n_rows)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype)
