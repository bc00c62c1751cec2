"""The footer of a Parquet file, read without trust before PyArrow may open the file."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actiontrack.errors import CorruptRecordError
from actiontrack.record.limits import check_claim

__all__ = [
    "Footer",
    "Read",
]

#: Gives so many bytes of a file from an offset on, fewer at its end.
Read = Callable[[int, int], bytes]

# Bytes in memory of a value of each physical type of Parquet; of a text its offset counts here.
_BOOLEAN, _INT32, _INT64, _INT96, _FLOAT, _DOUBLE, _BINARY, _FIXED = range(8)
_WIDTHS = {_BOOLEAN: 1, _INT32: 4, _INT64: 8, _INT96: 12, _FLOAT: 4, _DOUBLE: 8, _BINARY: 4}
_MAX_FOOTER = 2**26
_HEADER_WINDOW = 2**10
_MAX_HEADER = 2**20
_DICTIONARY_PAGE = 2
_PREFIX_ENCODING = 7  # DELTA_BYTE_ARRAY repeats the start of the value before: it expands freely
_MAX_DEPTH = 12


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
            chunk.n_values for group in self.groups for chunk in group if chunk.column == column
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
        chosen = [
            chunk
            for group in (map(self.groups.__getitem__, groups) if groups else self.groups)
            for chunk in group
            if columns is None or chunk.column in columns
        ]
        # Numbers take their width whatever their encoding.
        check_claim(
            name, sum(max(chunk.claimed, chunk.n_values * chunk.width) for chunk in chosen), stored
        )
        for chunk in chosen:
            plain = chunk.is_text and chunk.column not in texts
            problem = _problem(chunk, read, stored, dictionary=not plain)
            if problem:
                raise CorruptRecordError(
                    f"{name} is refused before anything is allocated: the column {chunk.column} "
                    f"{problem}. Restore the file, or record the run again."
                )


def _footer(read: Read, stored: int) -> dict[int, Any]:
    tail = read(max(stored - 8, 0), 8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != b"PAR1" or not 0 < length <= min(stored - 8, _MAX_FOOTER):
        raise ValueError("no footer")
    return _struct(read(stored - 8 - length, length), 0, 0)[0]


def _groups(footer: dict[int, Any]) -> tuple[tuple[_Chunk, ...], ...]:
    lengths = [group.get(2, 0) for group in footer[2] if group.get(1) == _FIXED]
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
    expanded, position, problem = 0, chunk.start, ""
    while position < end and not problem:
        try:
            header, size = _page_header(read, position, end)
            kind, unpacked, packed = (int(header[field]) for field in (1, 2, 3))
        except (KeyError, ValueError, TypeError):
            return "has a page without a proper header"
        expanded += unpacked
        position += size + packed
        if min(unpacked, packed) < 0 or position > end:
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


def _page_header(read: Read, position: int, end: int) -> tuple[dict[int, Any], int]:
    """The header of the page at an offset, by field number, and its length in bytes."""
    window = _HEADER_WINDOW
    while True:
        try:
            return _struct(read(position, min(window, end - position)), 0, 0)
        except IndexError:
            if window >= min(_MAX_HEADER, end - position):
                raise ValueError("a header without an end") from None
            window *= 16


# Thrift's compact protocol, as far as Parquet needs it: (bytes, offset) -> (value, offset of what
# follows). Called for every page that is read, so it makes no objects but the values. A field that
# comes twice is refused: which of the two counts is for each reader to say.
def _struct(data: bytes, position: int, depth: int) -> tuple[dict[int, Any], int]:
    """A struct: number of each field -> value."""
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = data[position]
        position += 1
        if not head:
            return fields, position
        if head >> 4:
            number += head >> 4
        else:
            number, position = _signed(data, position)
        if number in fields:
            raise ValueError(f"field {number} comes twice")
        kind = head & 0x0F
        if 4 <= kind <= 6:
            fields[number], position = _signed(data, position)
        elif kind <= 2:
            fields[number] = kind == 1
        else:
            fields[number], position = _value(data, position, kind, depth)


def _value(data: bytes, position: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > _MAX_DEPTH:
        raise ValueError("nested too deeply")
    if 4 <= kind <= 6:
        return _signed(data, position)
    if kind == 12:
        return _struct(data, position, depth + 1)
    if kind in {9, 10}:
        return _list(data, position, depth + 1)
    if kind == 8:
        size, position = _varint(data, position)
    elif kind in {1, 2, 3, 7}:
        size = 8 if kind == 7 else 1
    else:
        raise ValueError(f"no type {kind} in Parquet")
    if position + size > len(data):
        raise IndexError
    return data[position : position + size], position + size


def _list(data: bytes, position: int, depth: int) -> tuple[list[Any], int]:
    head = data[position]
    count, position = head >> 4, position + 1
    if count == 15:
        count, position = _varint(data, position)
    values = []
    for _ in range(min(count, len(data) + 1)):  # each takes a byte or more
        value, position = _value(data, position, head & 0x0F, depth)
        values.append(value)
    return values, position


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("a number without an end")


def _signed(data: bytes, position: int) -> tuple[int, int]:
    value, position = _varint(data, position)
    return (value >> 1) ^ -(value & 1), position
