"""Tables of samples from outside, from CSV or Parquet: what stands in a row belongs to its id.

A value belongs to the sample whose id stands beside it, never to a position.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from actiontrack.errors import ActionTrackError, CorruptRecordError, DataError, ParameterError
from actiontrack.record.escaping import unescape_cell
from actiontrack.record.footer import Footer
from actiontrack.record.parquet import parquet_reader

__all__ = ["ids_differ", "read_id_table"]

_MAX_BYTES = 2**30
_DELIMITERS = ",;\t"
_ID_COLUMNS = ("id", "sample_id")
_ABSENT = ["", "NA", "NaN", "nan", "null"]  # cells of CSV without a value
_BY_POSITION = frozenset({".npy", ".npz"})


def read_id_table(
    path: Path, *, id_column: str | None = None, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table of samples.

    The kind is told by the ending: .csv, cut at commas, semicolons or tabs, or .parquet. Cells of
    CSV that `record.escaping.escape_cell` has changed are read as they were. Arrays of NumPy are
    refused: their values are by position.

    Args:
        path: the file, one row per sample.
        id_column: column of the ids, text or whole numbers. Default: "id", else "sample_id".
        columns: the columns to read. Default: all but the ids.

    Returns:
        One row per row of the file, in its order: sample_id, and the columns as they stand there.

    Raises:
        DataError: if the file can't be read.
        ParameterError: if the ending is none of these, or there is no such column.
    """
    path = Path(path)
    reader = {".csv": _from_csv, ".parquet": _from_parquet}.get(path.suffix.lower())
    if reader is None:
        raise _wrong_ending(path)
    id_columns = _ID_COLUMNS if id_column is None else (id_column,)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} is larger than {_MAX_BYTES >> 20} MiB. Split it.")
        table = reader(path, id_columns)
    except CorruptRecordError as error:
        raise DataError(
            f"{path} is no Parquet file that can be read safely. Write it again, or as CSV."
        ) from error
    except ActionTrackError:
        raise
    except (OSError, ValueError, TypeError, pa.ArrowException, pd.errors.ParserWarning) as error:
        reason = str(error).strip().rstrip(".")
        raise DataError(
            f"{path} can't be read: {reason}. Write a table of id and value."
        ) from error
    return _chosen(path, table, id_columns, columns)


def ids_differ(sample_id: object, table: pd.DataFrame, *, hashed: bool) -> str:
    """What a message says where no id of a table is that of a sample, and how to mend it.

    Args:
        sample_id: of a sample, as an example.
        table: with ids as text, see `record.attributes.id_texts`.
        hashed: whether the ids of the samples are hashes.
    """
    examples = f"{str(sample_id)!r}, those of the table like {table['sample_id'].iloc[0]!r}"
    remedy = "Ids are compared as text, never by position: write those of the record."
    if hashed:
        remedy = "Ids of the runs are hashed: hash the others with 'actiontrack hash-ids'."
    return f"their ids look like {examples}. {remedy}"


def _wrong_ending(path: Path) -> ParameterError:
    if path.suffix.lower() in _BY_POSITION:
        rule = "must name the sample of each value"
        remedy = (
            "Its values are by position, which is no id. Write a table: "
            "pandas.DataFrame({'id': ids, 'value': values}).to_csv('difficulty.csv', index=False)."
        )
    else:
        rule, remedy = "must end in .csv or .parquet", "Write it as one of these."
    return ParameterError("file", rule, path.name, remedy)


def _from_csv(path: Path, id_columns: Sequence[str]) -> pd.DataFrame:
    options: dict[str, Any] = {"encoding": "utf-8-sig", "index_col": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # more cells than columns
        for delimiter in reversed(_DELIMITERS):
            head: pd.DataFrame = pd.read_csv(path, sep=delimiter, nrows=0, **options)
            chosen = [name for name in id_columns if name in head.columns]
            if chosen:
                break
        else:
            return head
        # A text such as "NA" is an id like any other, and no number of it loses its zeros.
        absent = {str(name): _ABSENT for name in head.columns.drop(chosen[0])}
        table: pd.DataFrame = pd.read_csv(
            path, sep=delimiter, dtype={chosen[0]: str}, na_values=absent, keep_default_na=False,
            low_memory=False, **options,
        )  # fmt: skip
    return table.assign(**{chosen[0]: table[chosen[0]].map(unescape_cell)})


def _from_parquet(path: Path, _id_columns: Sequence[str]) -> pd.DataFrame:
    stored, read = path.stat().st_size, parquet_reader(path)
    footer = Footer.of(path.name, read, stored)
    schema = pq.read_schema(path)
    is_text = (pa.types.is_string, pa.types.is_large_string)
    texts = [field.name for field in schema if any(check(field.type) for check in is_text)]
    footer.check(path.name, read, stored, texts=texts)
    with pq.ParquetFile(path, read_dictionary=texts) as file:
        frame: pd.DataFrame = file.read().to_pandas(ignore_metadata=True)
    return frame


def _chosen(
    path: Path, table: pd.DataFrame, id_columns: Sequence[str], columns: Sequence[str]
) -> pd.DataFrame:
    """The ids, as sample_id, and the columns of values."""
    names = ", ".join(map(str, table.columns))
    present = [name for name in id_columns if name in table.columns]
    if not present:
        raise DataError(
            f"{path} has no column {' or '.join(id_columns)} for the ids, but {names}. "
            "Name it with id_column (--id)."
        )
    others = table.drop(columns=present[0])
    missing = [name for name in columns if name not in others.columns]
    if missing:
        rule = f"must come from {', '.join(map(str, others.columns))}"
        raise ParameterError("columns (--value)", rule, missing[0], f"Look into {path.name}.")
    values = others[list(columns)] if columns else others.drop(columns="sample_id", errors="ignore")
    return pd.concat([table[present[0]].rename("sample_id"), values], axis=1)
