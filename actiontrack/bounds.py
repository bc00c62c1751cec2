"""What a record may claim, checked before anything is allocated for it.

A record comes from a server, and whoever may write there may write anything, with a sha256 that
fits. A file of a few kilobytes can claim terabytes: by a number in the manifest, by rows in a
Parquet footer, or by pages that expand beyond what the footer says, which Parquet readers do not
check. So the sizes that a file claims are compared with the bytes that it has, page by page.

Two rules hold for all that is read at once. It may take `FREE_BYTES` of memory whatever its file
has, and beyond them at most `MOST_EXPANSION` times the file: losses take less than ten times. And
it may never take more than half of the machine's memory, or ACTIONTRACK_MAX_BYTES.
"""

import contextlib
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from actiontrack.errors import CorruptRecordError, ParameterError

__all__ = [
    "FREE_BYTES",
    "LIMIT_VARIABLE",
    "MAX_SAMPLES",
    "MOST_EXPANSION",
    "Footer",
    "Read",
    "check_claim",
    "check_manifest",
    "check_path",
    "most_bytes",
]

#: Gives so many bytes of a file from an offset on, fewer at its end.
Read = Callable[[int, int], bytes]

FREE_BYTES = 2**28
MOST_EXPANSION = 1000
#: Positions of rows are int32.
MAX_SAMPLES = 2**31 - 1
LIMIT_VARIABLE = "ACTIONTRACK_MAX_BYTES"

_MAX_TEXT = 2**12  # characters of a name in a manifest
_MAX_PATH = 2**9
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_CGROUP = Path("/sys/fs/cgroup/memory.max")
# Bytes in memory of a value of each physical type of Parquet; of a text its offset counts here.
_BOOLEAN, _INT32, _INT64, _INT96, _FLOAT, _DOUBLE, _BINARY, _FIXED = range(8)
_WIDTHS = {_BOOLEAN: 1, _INT32: 4, _INT64: 8, _INT96: 12, _FLOAT: 4, _DOUBLE: 8, _BINARY: 4}
_MAX_FOOTER = 2**26
_HEADER_WINDOW = 2**10
_MAX_HEADER = 2**20
_DICTIONARY_PAGE = 2
_PREFIX_ENCODING = 7  # DELTA_BYTE_ARRAY repeats the start of the value before: it expands freely
_MAX_DEPTH = 12


def most_bytes() -> int:
    """How much memory one reading may take: half of the machine's, or ACTIONTRACK_MAX_BYTES.

    Raises:
        ParameterError: if the variable is no positive number.
    """
    given = os.environ.get(LIMIT_VARIABLE, "")
    if given:
        if not given.isdecimal() or not int(given):
            rule = "must be a positive number of bytes"
            raise ParameterError(LIMIT_VARIABLE, rule, given, "Write 8000000000 for 8 GB.")
        return int(given)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" without a limit, absent elsewhere
        memory = min(memory, int(_CGROUP.read_text()))
    return memory // 2


def check_claim(what: str, claimed: int, stored: int) -> None:
    """Refuse what would take more memory than the bytes on disk can account for.

    Args:
        what: name of the file or record.
        claimed: bytes that it will take in memory.
        stored: bytes that it has on disk.

    Raises:
        CorruptRecordError: if it breaks one of the two rules of this module.
    """
    if claimed <= FREE_BYTES:
        return
    if claimed > MOST_EXPANSION * stored:
        raise CorruptRecordError(
            f"{what} claims {claimed:,} bytes in memory and has {stored:,} on disk: it is refused "
            "before anything is allocated. Restore the file, or record the run again."
        )
    most = most_bytes()
    if claimed > most:
        raise CorruptRecordError(
            f"{what} would take {claimed:,} bytes of memory, of which one reading may take "
            f"{most:,}. Ask for fewer columns, or set {LIMIT_VARIABLE}."
        )


# The manifest


def check_path(name: object) -> str:
    """A path that stays inside the record, on every system.

    Raises:
        ValueError: if it does not.
    """
    text = str(name)
    parts = PurePosixPath(text).parts
    plain = bool(parts) and all(_PART.fullmatch(each) for each in parts)
    if not isinstance(name, str) or not plain or "/".join(parts) != text or len(text) > _MAX_PATH:
        raise ValueError(f"unsafe path {name!r}")
    if text == "manifest.json":
        raise ValueError("the manifest names itself")
    return text


def check_manifest(body: Mapping[str, Any]) -> None:
    """Refuse fields of a version 1 manifest whose type or size no record can have.

    Raises:
        ValueError: names the field and what it holds.
        KeyError: if a field is absent.
    """
    for name in ("split", "mode", "loss_name", "delta_kind", "id_type"):
        _text(name, body[name])
    for name in ("model", "pixel_loss_name", "void", "status", "writer"):
        _text(name, body.get(name, ""))
    _choice("id_type", body["id_type"], {"int64", "string", ""})
    _choice("status", body.get("status", "recording"), {"recording", "complete"})
    n_samples = _whole("n_samples", body["n_samples"], MAX_SAMPLES)
    _whole("revision", body.get("revision", 0), 2**63)
    for name, value in _mapping("digests", body["digests"]).items():
        _text(f"digests.{name}", value or "")
    columns: list[str] = []
    for name in ("class_names", "measures", "components"):
        texts = [_text(name, each) for each in _sequence(name, body[name])]
        columns += texts if name != "class_names" else []
    _columns(columns)
    for name in ("source", "maps", "partial", "privacy"):
        if body.get(name) is not None:
            _mapping(name, body[name])
    _maps(body.get("maps") or {})
    for name, value in (body.get("privacy") or {}).items():
        _text(f"privacy.{name}", value)
    _steps(_sequence("steps", body["steps"]), n_samples)
    for name, entry in _mapping("files", body["files"]).items():
        check_path(name)
        _text(f"files.{name}.sha256", _mapping(f"files.{name}", entry)["sha256"])
        _whole(f"files.{name}.bytes", entry["bytes"], 2**63)


def _columns(names: Sequence[str]) -> None:
    for name in names:
        if not _PART.fullmatch(name) or name in {"sample", "step", "loss"}:
            raise ValueError(f"a measure or component is named {name[:80]!r}")
    if len(set(names)) < len(names):
        raise ValueError("two measures or components have the same name")


def _maps(options: Mapping[str, Any]) -> None:
    for name in ("factor", "step", "before"):
        if options.get(name) is not None:
            _whole(f"maps.{name}", options[name], MAX_SAMPLES)
    if options:
        _choice("maps.dtype", options.get("dtype"), {"float32", "float16"})


def _steps(steps: Sequence[Any], n_samples: int) -> None:
    last = -1
    for each in steps:
        entry = _mapping("steps", each)
        step = _whole("steps.step", entry["step"], MAX_SAMPLES)
        if step <= last:
            raise ValueError(f"steps: {step} follows {last}")
        last = step
        delta = entry["delta"]
        if type(delta) not in {int, float} or not 0 < delta < float("inf"):
            raise ValueError(f"steps.delta is {str(delta)[:80]}")
        _whole("steps.n_seen", entry["n_seen"], n_samples)
        for name in ("n_nonfinite", "n_duplicates"):
            _whole(f"steps.{name}", entry.get(name, 0), 2**63)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name[:80]} is no text: {str(value)[:80]}")
    if len(value) > _MAX_TEXT:
        raise ValueError(f"{name[:80]} has {len(value)} characters, more than {_MAX_TEXT}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name[:80]} holds half of a character") from None
    return value


def _whole(name: str, value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name[:80]} is {str(value)[:80]}, no whole number from 0 to {most}")
    return value


def _choice(name: str, value: object, choices: Collection[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {str(value)[:80]!r}")


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name[:80]} is {type(value).__name__}, no object")
    return value


def _sequence(name: str, value: object) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} is {type(value).__name__}, no list")
    return value


# Parquet


@dataclass(frozen=True)
class _Chunk:
    """One column of one row group: where its pages are and what they may become."""

    column: str  # the first part of its path
    start: int
    length: int
    claimed: int  # bytes of its pages once decompressed, as the footer says
    n_values: int
    width: int  # bytes of a value in memory
    is_text: bool


@dataclass(frozen=True)
class Footer:
    """What the footer of a Parquet file says of sizes.

    PyArrow's own objects for it are not asked: those of a damaged footer end the process.

    Attributes:
        groups: chunks of each row group.
    """

    groups: tuple[tuple[_Chunk, ...], ...]

    @classmethod
    def of(cls, name: str, read: Read, stored: int) -> "Footer":
        """The footer of a file.

        Args:
            name: of the file, for messages.
            read: gives bytes of the file.
            stored: bytes that the file has.

        Raises:
            CorruptRecordError: if it is none.
        """
        try:
            return cls(_groups(_footer(read, stored)))
        except (IndexError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise CorruptRecordError(
                f"{name} has no proper Parquet footer. Restore the file, or record the run again."
            ) from error

    def n_values(self, column: str) -> int:
        """Number of values of a column, those in lists counted one by one."""
        return sum(
            each.n_values for group in self.groups for each in group if each.column == column
        )

    def check(
        self,
        name: str,
        read: Read,
        stored: int,
        *,
        columns: Collection[str] | None = None,
        groups: Sequence[int] = (),
        texts: Collection[str] = (),
    ) -> None:
        """Refuse a file whose columns expand beyond what it may claim.

        Args:
            name: of the file, for messages.
            read: gives bytes of the file.
            stored: bytes that the file has.
            columns: columns that will be read. Default: all of them.
            groups: row groups that will be read. Default: all of them.
            texts: columns that will be read as dictionaries, so that a text that is repeated
                counts once; in other columns of texts a dictionary is refused.

        Raises:
            CorruptRecordError: if the footer claims too much, or a page more than the footer.
        """
        wanted = [
            each
            for group in (map(self.groups.__getitem__, groups) if groups else self.groups)
            for each in group
            if columns is None or each.column in columns
        ]
        # Numbers take their width whatever their encoding.
        check_claim(
            name, sum(max(each.claimed, each.n_values * each.width) for each in wanted), stored
        )
        for each in wanted:
            plain = each.is_text and each.column not in texts
            problem = _problem(each, read, stored, dictionary=not plain)
            if problem:
                raise CorruptRecordError(
                    f"{name} is refused before anything is allocated: the column {each.column} "
                    f"{problem}. Restore the file, or record the run again."
                )


def _footer(read: Read, stored: int) -> dict[int, Any]:
    tail = read(max(stored - 8, 0), 8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or not 0 < length <= min(stored - 8, _MAX_FOOTER):
        raise ValueError("no footer")
    return _struct(read(stored - 8 - length, length), 0, 0)[0]


def _groups(footer: dict[int, Any]) -> tuple[tuple[_Chunk, ...], ...]:
    lengths = [each.get(2, 0) for each in footer[2] if each.get(1) == _FIXED]
    fixed = max(lengths, default=0)
    return tuple(
        tuple(_chunk(column[3], fixed) for column in group[1]) for group in footer.get(4, ())
    )


def _chunk(column: dict[int, Any], fixed: int) -> _Chunk:
    """From Parquet's ColumnMetaData; `fixed` is the width of values of a fixed number of bytes."""
    start, dictionary, kind = column[9], column.get(11), column[1]
    if dictionary is not None and 0 < dictionary < start:
        start = dictionary
    return _Chunk(
        column=column[3][0].decode(),
        start=start,
        length=column[7],
        claimed=column[6],
        n_values=column[5],
        width=fixed if kind == _FIXED else _WIDTHS[kind],
        is_text=kind in {_FIXED, _BINARY},
    )


def _problem(chunk: _Chunk, read: Read, stored: int, *, dictionary: bool) -> str:
    """What is wrong with the pages of a chunk, or nothing."""
    end = chunk.start + chunk.length
    if min(chunk.start, chunk.length, chunk.claimed, chunk.n_values) < 0 or end > stored:
        return "lies outside the file"
    expanded, at, problem = 0, chunk.start, ""
    while at < end and not problem:
        try:
            header, size = _page_header(read, at, end)
            kind, unpacked, packed = (int(header[each]) for each in (1, 2, 3))
        except (KeyError, ValueError, TypeError):
            return "has a page without a proper header"
        expanded += unpacked
        at += size + packed
        if min(unpacked, packed) < 0 or at > end:
            problem = "has a page of an impossible size"
        elif expanded > chunk.claimed:
            problem = f"has pages of {expanded:,} bytes where its footer says {chunk.claimed:,}"
        elif kind == _DICTIONARY_PAGE and not dictionary:
            problem = "repeats its values by a dictionary"
        elif _encoding(header) == _PREFIX_ENCODING:
            problem = "repeats parts of its values"
    return problem


def _encoding(header: Mapping[int, Any]) -> object:
    for place, field in ((5, 2), (8, 4)):  # data pages of version 1 and 2
        if isinstance(header.get(place), dict):
            return header[place].get(field)
    return None


def _page_header(read: Read, at: int, end: int) -> tuple[dict[int, Any], int]:
    """The header of the page at an offset, by field number, and its length in bytes."""
    window = _HEADER_WINDOW
    while True:
        try:
            return _struct(read(at, min(window, end - at)), 0, 0)
        except IndexError:
            if window >= min(_MAX_HEADER, end - at):
                raise ValueError("a header without an end") from None
            window *= 16


# Thrift's compact protocol, as far as Parquet needs it: (bytes, offset) -> (value, offset of what
# follows). Called for every page that is read, so it makes no objects but the values. A field that
# comes twice is refused: which of the two counts is for each reader to say.


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """A struct: number of each field -> value."""
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if not head:
            return fields, at
        if head >> 4:
            number += head >> 4
        else:
            number, at = _signed(data, at)
        if number in fields:
            raise ValueError(f"field {number} comes twice")
        kind = head & 0x0F
        if 4 <= kind <= 6:
            fields[number], at = _signed(data, at)
        elif kind <= 2:
            fields[number] = kind == 1
        else:
            fields[number], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if 4 <= kind <= 6:
        return _signed(data, at)
    if kind == 12:
        return _struct(data, at, depth + 1)
    if kind in {9, 10}:
        return _list(data, at, depth + 1)
    if kind == 8:
        size, at = _varint(data, at)
    elif kind in {1, 2, 3, 7}:
        size = 8 if kind == 7 else 1
    else:
        raise ValueError(f"no type {kind} in Parquet")
    if at + size > len(data):
        raise IndexError
    return data[at : at + size], at + size


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    head = data[at]
    count, at = head >> 4, at + 1
    if count == 15:
        count, at = _varint(data, at)
    values = []
    for _ in range(min(count, len(data) + 1)):  # each takes a byte or more
        value, at = _value(data, at, head & 0x0F, depth)
        values.append(value)
    return values, at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number without an end")


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
