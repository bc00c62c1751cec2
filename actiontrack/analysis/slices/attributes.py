"""Attributes of samples and the groups that they form: categories, bins of numbers and times.

A sample without a value is in a group of its own, `MISSING`.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.compare import Grouping
from actiontrack.errors import DataError
from actiontrack.record.attributes import Kind, kind_of

__all__ = [
    "MISSING",
    "Attribute",
    "attribute",
]

#: Name of the group of samples without a value.
MISSING = "missing"

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


def attribute(column: "pd.Series[Any]", *, bins: int) -> Attribute:
    """The groups of a column.

    Args:
        column: of `record.attributes.checked_metadata`.
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
