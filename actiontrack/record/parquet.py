"""Parquet tables of a record: written alike, read only after checks."""

import contextlib
import inspect
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actiontrack.errors import CorruptRecordError, NotFoundError, StoreError
from actiontrack.history import IdArray, IntArray
from actiontrack.record.disk import FileEntry, file_entry, write_file
from actiontrack.record.footer import Footer, Read
from actiontrack.record.limits import check_claim
from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import FORMAT_VERSION

__all__ = [
    "INDICES_AS_FLOATS",
    "PAGE_OPTIONS",
    "Fetch",
    "ParquetTable",
    "PieceSource",
    "altered",
    "any_values",
    "check_rows",
    "check_samples",
    "column_values",
    "columns_of",
    "copy_file",
    "corrupt_on_error",
    "frame_columns",
    "id_values",
    "open_any",
    "open_table",
    "optional_texts",
    "optional_values",
    "parquet_reader",
    "present_file",
    "promised_file",
    "verified_file",
    "write_table",
]

#: Columns of texts. They are read as dictionaries, so that one that is repeated counts once.
_TEXTS = ("sample_id", "path", "input_digest", "kind", "class", "text")

#: Class indices that are stored as float32: readers of format 2 from before them take any measure
#: that they do not know for one of floats, and would refuse integers.
INDICES_AS_FLOATS = frozenset({"largest_other"})

#: Columns of class indices, few of which differ.
_INDICES = frozenset({"label", "true_label", "predicted", *INDICES_AS_FLOATS})

#: Kind of a NumPy dtype -> whether a type of Arrow is of it.
_KINDS = {"b": pa.types.is_boolean, "i": pa.types.is_integer, "f": pa.types.is_floating}

#: How pages are packed. zstd has one table of codes for 128 KiB, so that it does well where these
#: are bytes of one significance: pages as long as a mebibyte allows, which later versions of
#: PyArrow cut at 20,000 rows unless told otherwise.
PAGE_OPTIONS: dict[str, Any] = {"compression": "zstd", "compression_level": 3}
if "max_rows_per_page" in inspect.signature(pq.write_table).parameters:
    PAGE_OPTIONS["max_rows_per_page"] = 2**31 - 1


@runtime_checkable
class PieceSource(Protocol):
    """A file that verifies what is read of it, see `actiontrack.record.pieces`."""

    def read_range(self, start: int, size: int) -> bytes:
        """Bytes from an offset on."""


#: Gives the local path of a file of the record, downloading it where needed.
Fetch = Callable[[str], Path]
_THREADED_ROWS = 2**19  # rows of a file from which its columns are decoded by several threads
_IN_MEMORY = 2**27  # bytes of a file up to which it is read at once


def frame_columns(frame: pd.DataFrame) -> dict[str, Any]:
    """Columns of a frame as arrays that Arrow takes."""
    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name].to_numpy()
        columns[str(name)] = pa.array(values.tolist()) if values.dtype.kind in "OUT" else values
    return columns


def _table(columns: Mapping[str, Any]) -> pa.Table:
    arrays: dict[str, pa.Array] = {}
    for name, values in columns.items():
        if isinstance(values, np.ma.MaskedArray):
            arrays[name] = pa.array(values.data, mask=np.ma.getmaskarray(values))
        elif values is not None:
            arrays[name] = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.table(arrays)


def write_table(
    path: Path,
    table: pa.Table,
    row_group: int | None = None,
    *,
    plain: Collection[str] = (),
    pieces: bool = False,
    durable: bool = False,
) -> FileEntry:
    """Write a table as every file of a record is written.

    Args:
        path: of the file.
        table: its content.
        row_group: rows of a row group. Default: PyArrow's.
        plain: columns that are compressed without an encoding before, which is faster.
        pieces: whether parts of the file get digests of their own.
        durable: whether it must outlast a power cut from now on.

    Raises:
        StoreError: if the disk is full.
    """
    floats = [column.name for column in table.schema if pa.types.is_floating(column.type)]
    dictionary = [
        column.name
        for column in table.schema
        if pa.types.is_string(column.type) or column.name in _INDICES
    ]
    encodings = dict.fromkeys(set(floats).difference(dictionary), "BYTE_STREAM_SPLIT")
    positions = {"sample", "step"}.intersection(table.column_names).difference(plain)
    encodings |= dict.fromkeys(positions, "DELTA_BINARY_PACKED")
    # Minimum and maximum leave NaN out, and there are readers that conclude that there is none.
    bounded = [
        column.name
        for column in table.schema
        if not pa.types.is_floating(column.type) and not pa.types.is_nested(column.type)
    ]
    write_file(
        path,
        lambda temporary: pq.write_table(
            table,
            temporary,
            use_dictionary=dictionary,
            column_encoding=encodings,
            row_group_size=row_group,
            write_statistics=bounded,
            **PAGE_OPTIONS,
        ),
        durable=durable,
    )
    return file_entry(path, pieces=pieces)


def copy_file(manifest: Manifest, name: str, fetch: Fetch, folder: Path) -> None:
    """Copy one file of a record into `folder`, verified.

    Raises:
        CorruptRecordError: if it is missing, truncated or altered.
    """
    source = verified_file(manifest, name, fetch)
    write_file(folder / name, lambda path: shutil.copyfile(source, path))


def column_values(column: pa.ChunkedArray | pa.Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A column without nulls as NumPy, if its type is of the kind of `dtype`."""
    if not _KINDS[dtype.kind](column.type) or column.null_count:
        raise TypeError(f"a column of {dtype.name} is {column.type}, or has values that are absent")
    numbers = (
        column.to_numpy()
        if isinstance(column, pa.ChunkedArray)
        else column.to_numpy(zero_copy_only=False)
    )
    return np.asarray(numbers, dtype=dtype if dtype.kind != "i" else None)


@dataclass(frozen=True)
class ParquetTable:
    """A verified table of the record, or one that is verified as it is read.

    Attributes:
        name: of the file, for messages.
        names: of the columns.
        file: an open reader.
        footer: what the footer says of sizes.
        stored: bytes of the file.
        read: gives bytes of the file.
        opened: makes a source that PyArrow can read.
    """

    name: str
    names: Sequence[str]
    file: pq.ParquetFile
    footer: Footer
    stored: int
    read: Read
    opened: Callable[[], Any]

    @property
    def metadata(self) -> pq.FileMetaData:
        """What the footer says."""
        return self.file.metadata

    @property
    def n_groups(self) -> int:
        """Number of row groups."""
        return len(self.footer.groups)

    def reopened(self) -> pq.ParquetFile:
        """A reader of its own for a thread."""
        return pq.ParquetFile(self.opened(), metadata=self.metadata)


def columns_of(table: ParquetTable, columns: Sequence[str]) -> pa.Table:
    """Some columns, once it is sure that they take no more memory than they may."""
    missing = set(columns) - set(table.names)
    if missing:
        raise CorruptRecordError(
            f"{table.name} lacks the columns {', '.join(sorted(missing))}. "
            "Restore the file, or record the run again."
        )
    n_rows = table.metadata.num_rows
    with corrupt_on_error(table.name):
        table.footer.check(table.name, table.read, table.stored, columns=set(columns), texts=_TEXTS)
        chosen = table.file.read(columns=list(columns), use_threads=n_rows > _THREADED_ROWS)
        if chosen.num_rows != n_rows or len(chosen.column_names) != len(columns):
            raise ValueError(f"{chosen.num_rows} rows where its footer says {n_rows}")
        return chosen


def open_table(manifest: Manifest, name: str, fetch: Fetch) -> ParquetTable:
    """A verified table of the record, one row per sample."""
    table = open_any(manifest, name, fetch)
    check_rows(table.metadata, name, manifest.n_samples)
    return table


def check_rows(metadata: pq.FileMetaData, name: str, n_samples: int) -> None:
    """Refuse a file whose number of rows differs from the manifest's."""
    if metadata.num_rows != n_samples:
        raise CorruptRecordError(
            f"{name} has {metadata.num_rows} rows where the manifest says "
            f"{n_samples}. Restore the file, or record the run again."
        )


def check_samples(samples: Any, name: str, manifest: Manifest) -> None:
    """Refuse row positions of samples that the record does not have.

    Args:
        samples: a series of integers.
        name: of the file.
        manifest: of the record.

    Raises:
        CorruptRecordError: names the file and the record.
    """
    if not samples.between(0, manifest.n_samples - 1).all():
        raise CorruptRecordError(
            f"{name} names samples beyond the {manifest.n_samples} of the record {manifest.name}. "
            "Restore the file, or record the run again."
        )


def open_any(
    manifest: Manifest, name: str, fetch: Fetch, source: PieceSource | Path | None = None
) -> ParquetTable:
    """A table of the record with any number of rows.

    Args:
        manifest: the record's manifest.
        name: of the file.
        fetch: gives the local path of a file of the record.
        source: the file, verified, or verified as it is read. Default: it is verified now.
    """
    held = _source(manifest, name, fetch) if source is None else source
    stored = promised_file(manifest, name).bytes

    def opened() -> Any:
        return pa.BufferReader(held) if isinstance(held, bytes) else held

    read = held.read_range if isinstance(held, PieceSource) else parquet_reader(held)
    footer = Footer.of(name, read, stored)
    with corrupt_on_error(name):
        file = pq.ParquetFile(opened())
        names = file.schema_arrow.names  # made each time that it is asked for
        texts = [text for text in _TEXTS if text in names]
        if texts:
            file = pq.ParquetFile(opened(), metadata=file.metadata, read_dictionary=texts)
            file.schema_arrow  # noqa: B018 - it is made now or never
        return ParquetTable(name, names, file, footer, stored, read, opened)


def parquet_reader(source: Path | bytes) -> Read:
    """Gives bytes of a file that is in memory or on disk."""
    if isinstance(source, bytes):
        return lambda start, size: source[start : start + size]

    def read(start: int, size: int) -> bytes:
        with source.open("rb") as file:
            file.seek(start)
            return file.read(size)

    return read


def _source(manifest: Manifest, name: str, fetch: Fetch) -> Path | bytes:
    """A verified file: its bytes, read once for the digest and for the reader, if they are few."""
    promised = promised_file(manifest, name)
    if promised.bytes > _IN_MEMORY:
        return verified_file(manifest, name, fetch)
    path = present_file(manifest, name, fetch)
    try:
        with path.open("rb") as file:
            data = file.read(promised.bytes + 1)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}.") from error
    if not promised.matches(data):
        raise altered(manifest, name)
    return data


def verified_file(manifest: Manifest, name: str, fetch: Fetch) -> Path:
    """Local path of a file whose size and digest are those of the manifest."""
    promised, path = promised_file(manifest, name), present_file(manifest, name, fetch)
    try:
        as_promised = promised.matches_file(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}.") from error
    if not as_promised:
        raise altered(manifest, name)
    return path


def promised_file(manifest: Manifest, name: str) -> FileEntry:
    """What the manifest promises of a file; a file that it does not name is an error."""
    promised = manifest.files.get(name)
    if promised is None:
        raise NotFoundError(f"the record {manifest.name} has no {name}.")
    return promised


def present_file(manifest: Manifest, name: str, fetch: Fetch) -> Path:
    """Local path of a file of the record, which must be there and no link."""
    path = fetch(name)
    if not path.is_file() or path.is_symlink():
        raise CorruptRecordError(
            f"{name} is named in the manifest of {manifest.name} but missing. "
            "Restore the file, or record the run again."
        )
    return path


def altered(manifest: Manifest, name: str) -> CorruptRecordError:
    """The error of a file that is not the one that the manifest promises."""
    return CorruptRecordError(
        f"{name} of {manifest.name} is truncated or altered: its digest is not that of the "
        "manifest. Restore the file, or record the run again."
    )


# What Arrow, NumPy and pandas raise for a file that is not what it should be.
_UNREADABLE = (
    *(pa.ArrowException, KeyError, IndexError, TypeError, ValueError),
    *(ArithmeticError, AttributeError, MemoryError, RuntimeError),
)


@contextlib.contextmanager
def corrupt_on_error(name: str) -> Iterator[None]:
    """Turn what PyArrow raises on a damaged file into a `CorruptRecordError`."""
    try:
        yield
    except _UNREADABLE as error:
        raise _unreadable(name, error) from error
    except OSError as error:
        if error.errno is not None:
            raise StoreError(f"cannot read {name}: {error.strerror}.") from error
        raise _unreadable(name, error) from error  # what Arrow raises for a damaged file


def _unreadable(name: str, error: BaseException) -> CorruptRecordError:
    reason = (str(error).strip() or type(error).__name__).rstrip(".")
    return CorruptRecordError(
        f"{name} can't be read as the record's format {FORMAT_VERSION}: {reason}. "
        "Restore the file, or record the run again."
    )


def id_values(column: pa.ChunkedArray, stored: int) -> IdArray:
    """Ids as int64 or text."""
    if pa.types.is_integer(column.type):
        return column_values(column, np.dtype(np.int64))
    texts, longest = _texts(column, stored)
    check_claim("sample_id", 4 * longest * len(texts), stored)  # NumPy pads all of them
    return np.array(texts.to_pylist(), dtype=np.str_)


def _texts(column: pa.ChunkedArray, stored: int) -> tuple[pa.ChunkedArray, int]:
    """A column of texts that was read as a dictionary, spelt out, and bytes of the longest."""
    if not pa.types.is_dictionary(column.type) or not pa.types.is_string(column.type.value_type):
        raise TypeError(f"a column of texts is {column.type}")
    total = longest = 0
    for chunk in column.chunks:
        chunk.validate(full=True)
        chunk.dictionary.validate(full=True)
        sizes = pc.binary_length(chunk.dictionary).take(chunk.indices)
        total += pc.sum(sizes).as_py() or 0
        longest = max(longest, pc.max(sizes).as_py() or 0)
        if chunk.null_count or sizes.null_count:
            raise ValueError("a text is absent")
    check_claim("a column of texts", total, stored)
    return column.cast(pa.string()), longest


def any_values(column: pa.ChunkedArray, stored: int) -> Any:
    """A column of texts as a list, one of numbers or truth values as NumPy."""
    if pa.types.is_dictionary(column.type):
        return _texts(column, stored)[0].to_pylist()
    if not any(is_kind(column.type) for is_kind in _KINDS.values()):
        raise TypeError(f"a column is {column.type}")
    return column.to_numpy()


def optional_values(table: pa.Table, name: str) -> IntArray | None:
    """An integer column, or None where the table lacks it."""
    if name not in table.column_names:
        return None
    return column_values(table[name], np.dtype(np.int64))


def optional_texts(table: pa.Table, name: str, stored: int) -> list[str] | None:
    """A text column, or None where the table lacks it."""
    return _texts(table[name], stored)[0].to_pylist() if name in table.column_names else None
