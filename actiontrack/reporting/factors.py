"""The factors of a model card: the attributes of the samples, and results by one and by two."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from actiontrack.analysis.options import SlicesOptions, validated
from actiontrack.analysis.slices import Sliced, has_metadata, members_of
from actiontrack.analysis.slices.answers import sample_set_of, slices_of
from actiontrack.errors import DataError, NotComparableError
from actiontrack.store import StoredRecord

__all__ = ["Factors"]

_MIN_SIZE = 30
_MOST_UNITARY, _MOST_INTERSECTIONAL = 40, 10


@dataclass(frozen=True, kw_only=True)
class Factors:
    """The attributes that are kept with a record, and what they do (Mitchell et al. 2019).

    Attributes:
        groups: one row per group of each attribute: attribute, group, n.
        unitary: results of each group: slice, n, accuracy where it is known, median action,
            rank difference with its interval, q_value.
        intersectional: the same of pairs of groups, those that differ most.
    """

    groups: pd.DataFrame
    unitary: pd.DataFrame
    intersectional: pd.DataFrame

    @classmethod
    def of(cls, record: StoredRecord, table: pd.DataFrame) -> "Factors | None":
        """The factors of a record; None without attributes that form groups.

        Args:
            record: an open record.
            table: its score frame.
        """
        if not has_metadata(record):
            return None
        options = validated(SlicesOptions, {"fdr": 1.0, "min_size": _MIN_SIZE})
        try:
            sample_set = sample_set_of([record], options)
            tried = slices_of([record], options).table
        except (DataError, NotComparableError):
            return None
        one, two = (tried.loc[tried["attributes"] == number] for number in (1, 2))
        strongest = (two["p_harder"] - 0.5).abs().nlargest(_MOST_INTERSECTIONAL).index
        return cls(
            groups=_groups(sample_set),
            unitary=_results(one.head(_MOST_UNITARY), sample_set, table),
            intersectional=_results(two.loc[sorted(strongest)], sample_set, table),
        )

    @property
    def names(self) -> Sequence[str]:
        """Names of the attributes."""
        return list(dict.fromkeys(self.groups["attribute"]))


def _groups(sample_set: Sliced) -> pd.DataFrame:
    rows = [
        {"attribute": one.name, "group": group, "n": n}
        for one in sample_set.attributes
        for group, n in zip(one.groups, one.grouping.sizes().tolist(), strict=True)
    ]
    return pd.DataFrame(rows, columns=["attribute", "group", "n"])


def _results(chosen: pd.DataFrame, sample_set: Sliced, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a card of some slices."""
    of_sample = table.set_index("sample_id").loc[sample_set.aligned.sample_ids]
    action = of_sample["action"].to_numpy(dtype=np.float64)
    correct = of_sample["correct"].to_numpy() if "correct" in of_sample.columns else None
    rows = []
    for row in chosen.to_dict("records"):
        members = members_of(sample_set, row["slice"])
        cells: dict[str, Any] = {"slice": row["slice"], "n": row["n"]}
        if correct is not None:
            cells["accuracy"] = float(correct[members].mean())
        cells |= {
            "median action": float(np.median(action[members])),
            "rank difference": row["rank_difference"],
            "95 % interval": _interval(row["ci_low"], row["ci_high"]),
            "q value": row["q_value"],
        }
        rows.append(cells)
    return pd.DataFrame(rows)


def _interval(low: float, high: float) -> str:
    return f"{low - 0.5:+.2f} to {high - 0.5:+.2f}" if np.isfinite(low) else ""
