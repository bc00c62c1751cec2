"""Text from records on its way into other programs: names of files, and cells of spreadsheets.

Whoever writes a record chooses its ids, its class names and its notes. As the name of a file such
a text must neither leave its folder nor meet another text there. As a cell of a spreadsheet it must
not run as a formula.
"""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

import pandas as pd

__all__ = [
    "distinct_names",
    "escape_cell",
    "escape_cells",
    "joined_name",
    "read_csv",
    "safe_name",
    "to_csv",
    "unescape_cell",
]

_UNSAFE = re.compile(r"[^\w .()+,=@-]|^[\s.]+|[\s.]+$")

#: Names of devices, which Windows refuses as names of files whatever their ending.
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|(com|lpt)[0-9¹²³])(?= *(\.|$))")
_MAX_NAME = 150  # bytes
_MAX_ENDING = 16  # bytes; a longer one is no ending of a file
_DIGEST = 12  # hex characters


def safe_name(text: object) -> str:
    """A file or folder name for any text: what is not plain is percent-encoded.

    Names above 150 bytes are cut before their ending, and tell themselves apart by a digest.

    >>> safe_name("../cat"), safe_name("a cat"), safe_name(".."), safe_name("")
    ('%2E%2E%2Fcat', 'a cat', '%2E%2E', '%')
    >>> safe_name("nul.png")
    '%6Eul.png'
    """
    return _shortened(_escaped(text))


def joined_name(parts: Iterable[object]) -> str:
    """One file name for the parts of a path, with "_" between them.

    >>> joined_name(["train", "a/b.png"])
    'train_a%2Fb.png'
    """
    return _shortened("_".join(_escaped(part) for part in parts) or "%")


def distinct_names(
    names: Sequence[str], keys: Sequence[object], *, taken: Iterable[str] = ()
) -> list[str]:
    """The names, each once, also where case or Unicode normalisation does not tell names apart.

    Names that meet nobody stay as they are. Those that meet get a digest of their key before their
    ending.

    Args:
        names: relative paths with "/", or names.
        keys: what each name stands for, such as the id of a sample; each once.
        taken: names that are in use already.

    >>> distinct_names(["a.png", "A.png", "b.png"], [1, 2, 3])
    ['a-6b86b273ff34.png', 'A-d4735e3a265e.png', 'b.png']
    """
    folded = [_folded(name) for name in names]
    counts = Counter([*folded, *map(_folded, taken)])
    used = set(map(_folded, taken)) | {name for name, count in counts.items() if count == 1}
    distinct = []
    for name, fold, key in zip(names, folded, keys, strict=True):
        salt, candidate = str(key), name
        while counts[fold] > 1 and (candidate == name or _folded(candidate) in used):
            digest = _digest(salt)
            candidate, salt = _marked(name, digest), digest
        used.add(_folded(candidate))
        distinct.append(candidate)
    return distinct


def _escaped(text: object) -> str:
    name = _UNSAFE.sub(lambda match: _encoded(match[0]), str(text)) or "%"
    return _encoded(name[0]) + name[1:] if _DEVICE.match(name) else name


def _encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode(errors="surrogatepass"))


def _shortened(name: str) -> str:
    return name if len(name.encode()) <= _MAX_NAME else _marked(name, _digest(name))


def _marked(name: str, digest: str) -> str:
    """The name with a digest before its ending, cut to the longest that names may be."""
    folder, slash, last = name.rpartition("/")
    ending = PurePosixPath(last).suffix
    if len(ending.encode()) > _MAX_ENDING:
        ending = ""
    stem = last.removesuffix(ending).encode()
    room = _MAX_NAME - len(digest) - 1 - len(ending.encode())
    return f"{folder}{slash}{stem[:room].decode(errors='ignore')}-{digest}{ending}"


def _folded(name: str) -> str:
    """What a file system that ignores case and normalisation takes for the name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_DIGEST]


# A spreadsheet runs a cell that begins with one of these as a formula, also behind quotes and
# spaces. A cell can begin inside a text: a spreadsheet that cuts rows at semicolons does not see
# the quotes of a row that is cut at commas. A number, and a sign alone, run nothing.
_SIGNS = "=+@\uff1d\uff0b\uff0d\uff20-"
_HARMLESS = re.compile(r"[+-](?:(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)?", re.ASCII)
_FORMULA = rf"[\"' ]*[{_SIGNS}]"
_QUOTE_TEXTS: Literal[2] = 2  # csv.QUOTE_NONNUMERIC

# A carriage return ends a row for readers, yet the csv module puts no quotes around it. A row that
# begins with a negative number goes on as a formula where a comma is the sign of decimals: as
# -1,5+A1 for the cells -1 and 5+A1. A number before a quoted text is no formula anywhere.
_NEEDS_QUOTES = re.compile(r"\r|^[+-]", re.MULTILINE)
_AT_START = rf"(?={_FORMULA}|[\"' ]*[\t\r])"
_INSIDE = rf"(?={_FORMULA})"
_RUNS = re.compile(rf"\A{_AT_START}|(?<=[;,\t\r\n]){_INSIDE}")
_ESCAPED = re.compile(rf"\A'{_AT_START}|(?<=[;,\t\r\n])'{_INSIDE}")


def escape_cell(text: str) -> str:
    """A text that no spreadsheet runs as a formula: an apostrophe stands before what it would run.

    `unescape_cell` undoes it. The rule is that of OWASP's "CSV Injection".

    >>> escape_cell("=1+1"), escape_cell("-2.5"), escape_cell("a cat")
    ("'=1+1", '-2.5', 'a cat')
    """
    return text if _HARMLESS.fullmatch(text) else _RUNS.sub("'", text)


def unescape_cell(text: str) -> str:
    """The text that `escape_cell` was given.

    >>> unescape_cell("'=1+1"), unescape_cell("'quoted'")
    ('=1+1', "'quoted'")
    """
    return _ESCAPED.sub("", text)


def escape_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """A table whose texts, and the names of whose columns, run in no spreadsheet."""
    return _each_text(frame, escape_cell)


def to_csv(frame: pd.DataFrame) -> str:
    """A table as CSV for people: rows end in a line feed, and no cell runs as a formula."""
    escaped = escape_cells(frame)
    text = str(escaped.to_csv(index=False, lineterminator="\n"))
    if _NEEDS_QUOTES.search(text):
        text = str(escaped.to_csv(index=False, lineterminator="\n", quoting=_QUOTE_TEXTS))
    return text


def read_csv(source: "str | Path | IO[Any]", **options: Any) -> pd.DataFrame:
    """Read a CSV file that this package wrote, with every text as it was.

    Args:
        source: path of the file, or the open file.
        **options: of `pandas.read_csv`, such as ``dtype={"sample_id": str}``.
    """
    return _each_text(pd.read_csv(source, **options), unescape_cell)


def _each_text(frame: pd.DataFrame, change: Any) -> pd.DataFrame:
    """A table in which a function has changed every text."""

    def changed(value: object) -> object:
        return change(value) if isinstance(value, str) else value

    result = frame.copy(deep=False)
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        if isinstance(column.dtype, pd.CategoricalDtype):
            categories = [changed(value) for value in column.cat.categories]
            result.isetitem(position, column.cat.rename_categories(categories).array)
        elif pd.api.types.is_object_dtype(column) or pd.api.types.is_string_dtype(column):
            result.isetitem(position, column.map(changed).array)
    result.columns = pd.Index([changed(name) for name in frame.columns], dtype=frame.columns.dtype)
    return result
