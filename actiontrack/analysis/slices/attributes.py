"""Attributes of samples and the groups that they form: categories, bins of numbers and times.

A sample without a value is in a group of its own, `MISSING`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.analysis.id_tables import id_texts
from actiontrack.compare import Grouping
from actiontrack.errors import DataError, ParameterError
from actiontrack.history import check_choice

__all__ = [
    "KINDS",
    "MISSING",
    "Attribute",
    "Kind",
    "attribute",
    "checked_metadata",
    "chosen_columns",
    "kind_of",
]

#: category: its values are the groups. number, time: bins that hold equally many samples, or the
#: values where there are few. boolean: false and true.
Kind = Literal["category", "number", "boolean", "time"]
#: The same, to go through.
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Name of the group of samples without a value.
MISSING = "missing"

_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"
_LONGEST = 200  # characters of a value
_DAY = 86_400 * 10**9  # nanoseconds


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """A column of metadata, as groups of samples.

    Attributes:
        name: of the column.
        kind: one of `KINDS`.
        groups: their names, in order: ascending, `MISSING` last if a sample has no value.
        codes: (n_samples,) position of each sample's group in `groups`.
    """

    name: str
    kind: Kind
    groups: tuple[str, ...]
    codes: npt.NDArray[np.integer]

    @property
    def grouping(self) -> Grouping:
        """The groups, for `compare.slice_effects`."""
        return Grouping(self.codes, len(self.groups))


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


def attribute(column: "pd.Series[Any]", *, bins: int) -> Attribute:
    """The groups of a column.

    Args:
        column: of `checked_metadata`.
        bins: into how many a number or a time is cut where it has more than twice as many values.

    Raises:
        DataError: if it has one group only, or a group for every sample.
    """
    name, kind = str(column.name), kind_of(column)
    if kind in {"number", "time"}:
        codes, groups = _binned(_numbers(column, kind), kind, bins)
    else:
        values, uniques = pd.factorize(column, sort=True)
        words = [str(value) for value in uniques.tolist()]
        groups = [word.lower() for word in words] if kind == "boolean" else words
        codes = np.asarray(values)
    if (codes < 0).any():
        codes = np.where(codes < 0, len(groups), codes)
        groups = [*groups, MISSING if MISSING not in groups else f"{MISSING} (no value)"]
    _check_groups(name, groups, codes.size)
    codes = codes.astype(np.min_scalar_type(len(groups)))
    return Attribute(name=name, kind=kind, groups=tuple(groups), codes=codes)


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


def _numbers(column: "pd.Series[Any]", kind: Kind) -> npt.NDArray[np.float64]:
    """Values as float64, NaN where there is none; times in nanoseconds."""
    if kind == "number":
        return column.to_numpy(dtype=np.float64)
    numbers = column.astype("int64").to_numpy(dtype=np.float64)
    return np.where(column.isna(), np.nan, numbers)


def _binned(
    values: npt.NDArray[np.float64], kind: Kind, bins: int
) -> tuple[npt.NDArray[np.intp], list[str]]:
    """Bins that hold about equally many samples, or the values where there are few; -1 without."""
    missing = np.isnan(values)
    present = values[~missing]
    uniques = np.unique(present[: 10**5]) if present.size else present
    if uniques.size <= 2 * bins:
        uniques = np.unique(present)
    codes = np.full(values.size, -1, dtype=np.intp)
    if uniques.size <= 2 * bins:
        codes[~missing] = np.searchsorted(uniques, present)
        return codes, _texts(uniques, kind)
    edges = _edges(present, bins)
    codes[~missing] = np.searchsorted(edges[1:-1], present, side="right")
    distinct = np.unique(edges)
    names = dict(zip(distinct.tolist(), _texts(distinct, kind), strict=True))
    groups = [f"{names[low]} to {names[high]} (excl.)" for low, high in itertools.pairwise(edges)]
    low, high = names[edges[-2]], names[edges[-1]]
    return codes, [*groups[:-1], low if low == high else f"{low} to {high}"]


def _edges(present: npt.NDArray[np.float64], bins: int) -> npt.NDArray[np.float64]:
    """Quantiles that bound the bins; the last may be twice the greatest value, a bin by itself."""
    edges = np.unique(np.quantile(present, np.linspace(0, 1, bins + 1), method="higher"))
    if edges.size > 2:
        return edges
    low, high = edges  # nearly all samples have one of these
    inner = high if np.median(present) == high else present[present > low].min()
    return np.array([low, inner, high])


def _texts(numbers: npt.NDArray[np.float64], kind: Kind) -> list[str]:
    """Distinct texts of ascending numbers or times."""
    if kind == "time":
        times = pd.to_datetime(numbers.astype(np.int64), utc=True)
        day_only = bool((np.diff(numbers) >= _DAY).all())
        return [time.strftime("%Y-%m-%d" if day_only else "%Y-%m-%dT%H:%M:%S") for time in times]
    for digits in (4, 6, 9):
        texts = [f"{number:.{digits}g}" for number in numbers]
        if len(set(texts)) == len(texts):
            return texts
    return [repr(float(number)) for number in numbers]


def _check_groups(name: str, groups: Sequence[str], n_samples: int) -> None:
    if len(groups) < 2:
        only = f" ({groups[0]})" if groups else ""
        raise DataError(
            f"the column {name!r} has one group only{only}: there is nothing to compare."
        )
    if len(groups) >= max(n_samples, 3):
        raise DataError(
            f"the column {name!r} has as many values as rows ({n_samples}): it names samples, "
            "and no slice. Leave it out."
        )
