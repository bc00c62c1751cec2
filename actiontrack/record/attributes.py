"""Attributes of samples: the kinds that a column may be of, and how a table of them is written.

They lie in the folder `metadata/` of a record, one Parquet file per submission, which is never
changed again; its name ends in the digest of its content. A column of a later file takes the place
of that of an earlier one. See docs/format.md.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from actiontrack.errors import DataError, ParameterError
from actiontrack.history import check_choice
from actiontrack.record.disk import FileEntry
from actiontrack.record.parquet import write_table

__all__ = [
    "KINDS",
    "METADATA",
    "Kind",
    "checked_metadata",
    "chosen_columns",
    "digest_of",
    "id_texts",
    "kind_of",
    "kinds_in",
    "write_attributes",
]

#: Folder of the files with attributes.
METADATA = "metadata"
#: category: its values are the groups. number, time: bins that hold equally many samples, or the
#: values where there are few. boolean: false and true.
Kind = Literal["category", "number", "boolean", "time"]
#: The same, to go through.
KINDS: tuple[Kind, ...] = get_args(Kind)
_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"
_LONGEST = 200  # characters of a value
_KINDS_KEY = b"actiontrack.kinds"  # in the file's own metadata: kind of each column


def checked_metadata(
    frame: pd.DataFrame, *, kinds: Mapping[str, str] | None = None, what: str = "metadata"
) -> pd.DataFrame:
    """Metadata with ids as text and every column as one of `KINDS`.

    Args:
        frame: sample_id, text or whole numbers, and a column per attribute.
        kinds: of some columns, in the place of what their values look like.
        what: how messages call the table.

    Returns:
        sample_id; categories as "string", numbers as float64, booleans as "boolean", times as
        datetime64[ns, UTC].

    Raises:
        DataError: if a sample is named twice or not at all, a value is no plain one, or not of the
            kind that was asked for.
        ParameterError: if it is no such frame, or a kind is of no column.
    """
    table: Any = frame
    if not isinstance(table, pd.DataFrame) or "sample_id" not in table.columns:
        columns = list(table.columns) if isinstance(table, pd.DataFrame) else type(table).__name__
        rule = "must be a frame with the column sample_id"
        raise ParameterError("metadata", rule, columns, "Name the samples.")
    names = [str(name) for name in frame.columns if name != "sample_id"]
    if not names:
        raise DataError(f"{what} has no column beside the ids. Add one.")
    if len(set(names)) < len(names):
        raise DataError(f"{what} has two columns of the same name. Rename one.")
    for name in kinds or {}:
        if name not in names:
            raise ParameterError("kinds", f"must be of {', '.join(names)}", name, "Correct it.")
    typed = {name: _typed(what, frame[name], (kinds or {}).get(name)) for name in names}
    return pd.DataFrame({"sample_id": id_texts(what, frame["sample_id"]), **typed})


def chosen_columns(metadata: pd.DataFrame, columns: Sequence[str]) -> list[str]:
    """The attributes of a table that are named, each once; all of them if none is.

    Raises:
        ParameterError: if there is no such attribute.
    """
    names = [str(name) for name in metadata.columns if name != "sample_id"]
    for name in columns:
        if name not in names:
            rule = f"must come from {', '.join(names)}"
            raise ParameterError("columns (--column)", rule, name, "Look into the metadata.")
    return list(dict.fromkeys(columns)) or names


def kind_of(column: "pd.Series[Any]") -> Kind:
    """The kind of a column of `checked_metadata`."""
    if isinstance(column.dtype, pd.BooleanDtype):
        return "boolean"
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        return "time"
    return "number" if column.dtype.kind == "f" else "category"


def id_texts(what: str, column: "pd.Series[Any]") -> pd.Index:
    """Ids as text.

    Args:
        what: how messages call the table.
        column: ids, text or whole numbers.

    Raises:
        DataError: if there is none, one is missing, one is of another kind, or one occurs twice.
    """
    if len(column) == 0:
        raise DataError(f"{what} has no row. Write a row for each sample.")
    absent = column.isna().to_numpy() | (column.astype(object) == "").to_numpy()
    if absent.any():
        row = int(absent.argmax()) + 1
        raise DataError(f"{what} has no id in row {row}. Name the sample, or leave the row out.")
    ids = column.tolist()
    wrong = [value for value in ids if isinstance(value, bool) or not isinstance(value, int | str)]
    if wrong:
        raise DataError(
            f"{what} names a sample {wrong[0]!r}. Ids must be text or whole numbers, as the record "
            "has them."
        )
    texts = pd.Index([str(value) for value in ids], dtype=object)
    twice = texts[texts.duplicated()]
    if len(twice):
        raise DataError(f"{what} names the sample {twice[0]!r} twice. Keep one row of each sample.")
    return texts


def write_attributes(frame: pd.DataFrame, path: Path) -> FileEntry:
    """Write a table of `checked_metadata`, with the kinds: a category may look like a time."""
    kinds = {name: kind_of(frame[name]) for name in frame.columns if name != "sample_id"}
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({_KINDS_KEY: json.dumps(kinds)})
    return write_table(path, table, plain=table.column_names)  # whose names mean nothing to us


def kinds_in(path: Path) -> dict[str, str]:
    """The kind of each column of a file of `write_attributes`.

    Raises:
        ValueError: if the file does not say.
    """
    kinds: dict[str, str] = json.loads((pq.read_schema(path).metadata or {}).get(_KINDS_KEY, b"{}"))
    return kinds


def digest_of(path: str) -> str:
    """The digest that the name of a file holds."""
    return Path(path).stem.rpartition("-")[2]


def _typed(what: str, column: "pd.Series[Any]", kind: str | None) -> "pd.Series[Any]":
    """A column as the kind that was asked for, or that its values are of."""
    if kind is not None:
        check_choice("kinds", kind, KINDS)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(object)
    present = column.dropna()
    if column.dtype.kind == "O" and present.map(_is_nested).any():
        raise DataError(
            f"{what} holds lists in the column {column.name!r}. Give them a column each."
        )
    chosen = kind or _likely(column, present)
    try:
        typed = _as_kind(column, chosen)
    except (ValueError, TypeError, OverflowError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")[:200]  # pandas adds advice
        raise DataError(f"{what}: the column {column.name!r} is no {chosen}: {reason}.") from error
    if chosen == "category" and typed.str.len().max() > _LONGEST:
        raise DataError(
            f"{what} holds texts of more than {_LONGEST} characters in the column {column.name!r}. "
            "Leave it out, or shorten them."
        )
    return typed


def _is_nested(value: Any) -> bool:
    return isinstance(value, list | dict | tuple | set | np.ndarray)


def _likely(column: "pd.Series[Any]", present: "pd.Series[Any]") -> Kind:
    dtype = column.dtype
    if isinstance(dtype, pd.StringDtype) and dtype.na_value is pd.NA:  # what `_as_kind` makes
        return "category"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "time"
    if pd.api.types.is_numeric_dtype(dtype):
        return "number"
    return _kind_of_objects(pd.Series(present.unique()))


def _kind_of_objects(values: "pd.Series[Any]") -> Kind:
    texts = values.astype(str)
    if _all(texts.str.lower().isin(("true", "false"))):
        return "boolean"
    if _all(texts.str.fullmatch(_ISO_DATE)):
        return "time"
    is_text = values.map(lambda value: isinstance(value, str)).any()
    is_number = not is_text and _all(pd.to_numeric(values, errors="coerce").notna())
    return "number" if is_number else "category"


def _all(checks: "pd.Series[bool]") -> bool:
    """Whether there is one at least, and all hold."""
    return bool(len(checks)) and bool(checks.all())


def _as_kind(column: "pd.Series[Any]", kind: str) -> "pd.Series[Any]":
    if kind == "number":
        return pd.to_numeric(column).astype("float64")
    if kind == "time":
        return pd.to_datetime(column, utc=True, format="ISO8601").astype("datetime64[ns, UTC]")
    if kind == "boolean":
        lowered = column.astype("string").str.lower()
        wrong = lowered.dropna().loc[lambda texts: ~texts.isin(("true", "false"))]
        if len(wrong):
            raise ValueError(f"{wrong.iloc[0]!r} is neither true nor false")
        return lowered.eq("true").astype("boolean")
    return column.astype("string")
