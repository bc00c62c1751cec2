"""Difficulties of samples from outside: tables of ids and values, from files or from frames."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.analysis.id_tables import read_id_table
from actiontrack.errors import DataError, ParameterError
from actiontrack.record.attributes import id_texts

__all__ = [
    "checked_difficulties",
    "read_difficulties",
]


def read_difficulties(
    path: Path, *, id_column: str | None = None, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Read difficulties of samples that were measured elsewhere, such as by annotators.

    Args:
        path: the file, one row per sample, see `id_tables.read_id_table`.
        id_column: column of the ids, text or whole numbers. Default: "id", else "sample_id".
        columns: columns of the values. Default: all but the ids.

    Returns:
        One row per row of the file, in its order: sample_id, as text, and a float64 column for
        each measure of difficulty; NaN where the file has no value.

    Raises:
        DataError: if the file can't be read, names a sample twice or not at all, or holds what is
            no number.
        ParameterError: if the ending is none of these, or there is no such column.
    """
    table = read_id_table(Path(path), id_column=id_column, columns=columns)
    return checked_difficulties(table, what=str(path))


def checked_difficulties(outside: pd.DataFrame, *, what: str = "outside") -> pd.DataFrame:
    """Difficulties with ids as text and values as float64, if they are that.

    Args:
        outside: sample_id, text or whole numbers, and a column for each measure.
        what: how messages call the table.

    Raises:
        DataError: if a sample is named twice or not at all, or a value is no number.
        ParameterError: if it is no such frame.
    """
    value: Any = outside
    if not isinstance(value, pd.DataFrame) or "sample_id" not in value.columns:
        columns = list(value.columns) if isinstance(value, pd.DataFrame) else type(value).__name__
        remedy = "Pass what read_difficulties(…) gives."
        raise ParameterError(
            "outside", "must be a frame with the column sample_id", columns, remedy
        )
    measures = [name for name in outside.columns if name != "sample_id"]
    if not measures:
        raise DataError(f"{what} has no column of values beside the ids. Add one.")
    ids = id_texts(what, outside["sample_id"])
    numbers = {str(name): _numbers(what, outside[name]) for name in measures}
    return pd.DataFrame({"sample_id": ids, **numbers})


def _numbers(what: str, column: "pd.Series[Any]") -> npt.NDArray[np.float64]:
    """Values as float64, NaN where there is none."""
    if column.dtype.kind in "mM":
        wrong = column.dropna()
    else:
        plain = column.astype(object)
        numbers = pd.to_numeric(plain, errors="coerce")
        wrong = plain[numbers.isna() & plain.notna()]
    if len(wrong):
        raise DataError(
            f"{what} holds {str(wrong.iloc[0])[:80]!r} in the column {column.name}, which is no "
            "number. Name the columns of values with columns (--value)."
        )
    return numbers.to_numpy(dtype=np.float64, na_value=np.nan)
