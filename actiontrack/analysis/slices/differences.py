"""Is a slice harder for one model than for another, beyond what seeds and samples make of it?

The effect of a slice is its mean rank within the classes minus that of the others, as
rank_difference of `effects.slices`, for each run by itself. Two models differ by the difference of
the means over their runs. Its variance has two parts: that of the means over runs, by the spread
between the runs of each model, and that over samples, of the difference of the ranks of each
sample. Degrees of freedom are those of Welch and Satterthwaite, the samples' being infinite.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from actiontrack import compare
from actiontrack.analysis.slices.effects import (
    SIGNIFICANT,
    Partition,
    Sliced,
    check_options,
    check_order,
    partitions,
    slice_name,
    slice_parts,
)
from actiontrack.errors import DataError, ParameterError
from actiontrack.store.notebook import table_html

__all__ = ["SliceDifferences", "harder_slices", "slice_differences"]

_COLUMNS = [
    *("slice", "attributes", "n", "before", "after", "change", "ci_low", "ci_high", "same_model"),
    *("p_value", "q_value"),
]
_CONFIDENCE = 0.95

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SliceDifferences:
    """By how much slices are harder for one set of runs than for another.

    Attributes:
        table: one row per slice, what became hardest first: slice, attributes, n, before and after
            (rank_difference of the slice, mean over the runs of a set), change (after − before),
            ci_low and ci_high (95 %, over seeds and samples), same_model (the largest difference
            between two runs of one set: the ceiling of chance), p_value, q_value (Benjamini and
            Hochberg's). Interval, same_model and p are NaN unless both sets have two runs.
        n_samples: samples with a finite score in all runs.
        n_before: runs before.
        n_after: runs after.
        score: column of `scores.score_table`.
    """

    table: pd.DataFrame
    n_samples: int
    n_before: int
    n_after: int
    score: str

    def _repr_html_(self) -> str:
        """Show itself in a notebook: the table."""
        return table_html("Change of slices", self.table)


def slice_differences(
    sample_set: Sliced, n_before: int, *, pairs: bool = True, min_size: int = 30
) -> SliceDifferences:
    """Compare the effect of every slice between two sets of runs on the same samples.

    Args:
        sample_set: of `effects.sliced`, the runs before first.
        n_before: how many of the runs are those before.
        pairs: whether to cross attributes.
        min_size: fewest samples of a slice, at least 5.

    Raises:
        DataError: if a run puts the samples in no order, or no slice is large enough.
        ParameterError: if a set is empty, or a number is out of its range.
    """
    n_runs = len(sample_set.hardness)
    check_options(min_size, SIGNIFICANT)
    if not 0 < n_before < n_runs:
        rule = f"must lie in 1..{n_runs - 1}, of {n_runs} runs"
        raise ParameterError("n_before", rule, n_before, "Pass runs of two sets.")
    classes = sample_set.of_class.codes
    strata = [compare.Strata.of(run[None], classes) for run in sample_set.hardness]
    for of_run in strata:
        check_order(of_run, sample_set)
    deviations = np.stack([of_run.deviations for of_run in strata])
    change = deviations[n_before:].mean(axis=0) - deviations[:n_before].mean(axis=0)
    rows = [
        row
        for part in partitions(sample_set, pairs=pairs)
        for row in _rows(sample_set, part, strata, change, n_before=n_before, min_size=min_size)
    ]
    if not rows:
        raise DataError(
            f"no slice of the {sample_set.n_samples} samples has {min_size} of them and enough "
            "others of their classes beside it. Lower min_size (--min-size)."
        )
    table = pd.DataFrame(rows)
    table["q_value"] = compare.false_discovery_rates(table["p_value"])
    order = np.lexsort((-table["n"], -table["change"].round(9)))
    return SliceDifferences(
        table=table.iloc[order].reset_index(drop=True)[_COLUMNS],
        n_samples=sample_set.n_samples,
        n_before=n_before,
        n_after=n_runs - n_before,
        score=sample_set.aligned.score,
    )


def harder_slices(differences: SliceDifferences, threshold: float) -> pd.DataFrame:
    """The slices that became harder by more than a threshold and than chance.

    Args:
        differences: of `slice_differences`.
        threshold: of the change, in mean ranks from 0 to 1. Where a set has one run, chance is not
            known, and the threshold alone decides.

    Raises:
        ParameterError: if the threshold is negative.
    """
    if not threshold >= 0:
        raise ParameterError("threshold", "must be 0 or more", threshold, "Pass 0.05.")
    table = differences.table
    beyond = (table["q_value"] <= SIGNIFICANT) | table["q_value"].isna()
    crossed: pd.DataFrame = table.loc[beyond & (table["change"] > threshold)]
    return crossed.reset_index(drop=True)


def _rows(
    sample_set: Sliced,
    part: Partition,
    strata: Sequence[compare.Strata],
    change: Floats,
    *,
    n_before: int,
    min_size: int,
) -> Iterator[dict[str, Any]]:
    """Rows of the table of the groups of one partition."""
    of_runs = [compare.slice_effects(of_run, part.groups) for of_run in strata]
    effects = np.stack([of_run.p_harder for of_run in of_runs]) - 0.5
    variances = compare.slice_variances(strata[0], change, part.groups)
    usable = replace(of_runs[0], p_values=np.sum([one.p_values for one in of_runs], axis=0))
    for code in part.codes_tried(usable, min_size).tolist():
        parts = slice_parts(sample_set, part.first, part.second, code)
        before, after = effects[:n_before, code], effects[n_before:, code]
        yield {
            "slice": slice_name(parts),
            "attributes": len(parts),
            "n": int(of_runs[0].sizes[code]),
            "before": before.mean(),
            "after": after.mean(),
            **_compared(before, after, float(variances[code])),
        }


def _compared(before: Floats, after: Floats, of_samples: float) -> dict[str, float]:
    """Change of the effect of a slice with its interval and p, NaN without two runs in a set."""
    change = float(after.mean() - before.mean())
    absent = ("ci_low", "ci_high", "same_model", "p_value")
    if min(before.size, after.size) < 2:
        return {"change": change} | dict.fromkeys(absent, float("nan"))
    of_seeds = [runs.var(ddof=1) / runs.size for runs in (before, after)]
    total = of_samples + sum(of_seeds)
    if not total > 0:
        return {"change": change} | dict.fromkeys(absent, float("nan"))
    inverse = sum(
        (share / total) ** 2 / (runs.size - 1)
        for share, runs in zip(of_seeds, (before, after), strict=True)
    )
    degrees = 1 / inverse if inverse > 0 else np.inf
    reach = float(stats.t.ppf((1 + _CONFIDENCE) / 2, degrees) * np.sqrt(total))
    return {
        "change": change,
        "ci_low": change - reach,
        "ci_high": change + reach,
        "same_model": float(max(np.ptp(before), np.ptp(after))),
        "p_value": float(2 * stats.t.sf(abs(change) / np.sqrt(total), degrees)),
    }
