"""The worst slices of up to three attributes: searched on half of the samples, tested on the rest.

The search is SliceLine (Sagadeeva and Boehm 2021, doi 10.1145/3448016.3457323). What it finds would
look hard on the very samples that it was found on, whatever the data; so it is believed only if it
is hard on the others, too.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.slices.attributes import Attribute
from actiontrack.analysis.slices.effects import (
    CLASS,
    COLUMNS,
    SIGNIFICANT,
    Sliced,
    Slices,
    check_options,
    check_order,
    slice_name,
)
from actiontrack.errors import DataError, MissingDependencyError, ParameterError

__all__ = ["MOST_ATTRIBUTES", "search_slices"]

#: Attributes of a slice at most.
MOST_ATTRIBUTES = 3
_CANDIDATES = 20
#: How much the mean error counts against the size in SliceLine's score: so that a slice of a
#: hundredth of the samples, twice as hard as the mean, still has one above 0.
_ALPHA = 0.99


def search_slices(
    sample_set: Sliced,
    *,
    most_attributes: int = MOST_ATTRIBUTES,
    min_size: int = 30,
    false_discovery_rate: float = SIGNIFICANT,
    n_candidates: int = _CANDIDATES,
    seed: int = 0,
) -> Slices:
    """Search the hardest slices on one half of the samples, and test them on the other half.

    Args:
        sample_set: of `effects.sliced`. The class is an attribute like the others, but none alone.
        most_attributes: of a slice, 1 to 3.
        min_size: fewest samples of a slice, at least 5; half as many in each half.
        false_discovery_rate: up to which q_value a slice is in the table; 1 for all candidates.
        n_candidates: slices that are tested.
        seed: of the halves, and of the bootstrap.

    Returns:
        As `effects.slices`; rank_difference, p_harder, its interval, p_value and q_value are those
        of the second half, whose samples n_tested counts. n_tried are the candidates.

    Raises:
        MissingDependencyError: if sliceline is not installed.
        DataError: if all samples have the same score.
        ParameterError: if a number is out of its range.
    """
    check_options(min_size, false_discovery_rate)
    if not 1 <= most_attributes <= MOST_ATTRIBUTES:
        rule = f"must lie in 1..{MOST_ATTRIBUTES}"
        raise ParameterError("most_attributes (--search)", rule, most_attributes, "Pass 3.")
    attributes = _attributes(sample_set)
    first = _first_half(sample_set.of_class.codes, seed)
    strata = compare.Strata.of(sample_set.hardness[:, first], sample_set.of_class.codes[first])
    check_order(strata, sample_set)
    top = _top_slices(
        np.stack([one.codes[first].astype(np.int64) for one in attributes], axis=1),
        -np.log(0.5 - strata.deviations),  # Savage's scores of the ranks: their mean is near 1
        {"k": n_candidates, "max_l": most_attributes, "min_sup": max(min_size // 2, 1)},
    )
    candidates = [[(attributes[place], code) for place, code in one.items()] for one in top]
    tested = _tested(sample_set, candidates, ~first, min_size=min_size, seed=seed)
    tested["q_value"] = compare.false_discovery_rates(tested["p_value"])
    chosen = tested.loc[tested["q_value"] <= false_discovery_rate]
    order = np.lexsort((-chosen["n"], -chosen["p_harder"].round(9)))
    return Slices(
        table=chosen.iloc[order].reset_index(drop=True),
        n_tried=len(tested),
        n_samples=sample_set.n_samples,
        n_runs=len(sample_set.hardness),
        score=sample_set.aligned.score,
        false_discovery_rate=false_discovery_rate,
        left_out=sample_set.left_out,
        without_row=sample_set.without_row,
        note=sample_set.aligned.note,
    )


def _attributes(sample_set: Sliced) -> list[Attribute]:
    """Those of the samples, and their class."""
    attributes = list(sample_set.attributes)
    if len(sample_set.of_class.groups) > 1 and CLASS not in {one.name for one in attributes}:
        attributes.append(sample_set.of_class)
    return attributes


def _first_half(classes: npt.NDArray[np.integer], seed: int) -> npt.NDArray[np.bool_]:
    """Every other sample of each class, in a random order."""
    shuffled = np.random.default_rng(seed).permutation(classes.size)
    by_class = shuffled[np.argsort(classes[shuffled], kind="stable")]
    first = np.zeros(classes.size, dtype=np.bool_)
    first[by_class[::2]] = True
    return first


def _top_slices(
    codes: npt.NDArray[np.int64], errors: npt.NDArray[np.float64], options: Mapping[str, int]
) -> list[dict[int, int]]:
    """The slices of the highest score by SliceLine: position of each attribute, and its code."""
    try:
        from sliceline.slicefinder import Slicefinder  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingDependencyError(
            "the search of slices needs sliceline: pip install 'actiontrack[slices]'"
        ) from error
    if len(codes) < options["min_sup"] or not errors.any():
        raise DataError(
            f"the first half has only {len(codes)} samples. Lower min_size (--min-size)."
        )
    finder = Slicefinder(alpha=_ALPHA, verbose=False, **options)
    finder.fit(codes, errors)
    return [
        {place: int(code) for place, code in enumerate(row) if code is not None}
        for row in finder.top_slices_
    ]


def _tested(
    sample_set: Sliced,
    candidates: Sequence[Sequence[tuple[Attribute, int]]],
    second: npt.NDArray[np.bool_],
    *,
    min_size: int,
    seed: int,
) -> pd.DataFrame:
    """The candidates that are large enough, with their effects on the second half."""
    classes = sample_set.of_class.codes
    strata = compare.Strata.of(sample_set.hardness[:, second], classes[second])
    overall = compare.Strata.of(sample_set.hardness[:, second])
    score = sample_set.aligned.values.mean(axis=0)  # noqa: PD011 - not a frame's
    rows: list[dict[str, Any]] = []
    for parts in candidates:
        members = np.logical_and.reduce([one.codes == code for one, code in parts])
        part = compare.Grouping(members[second].astype(np.int8), 2)
        effects = compare.slice_effects(strata, part)
        is_small = members.sum() < min_size or effects.weights[-1] < min_size / 6
        if is_small or not np.isfinite(effects.p_values[-1]):
            continue
        low, high = compare.slice_interval(strata, members[second], seed=seed)
        rows.append(
            {
                "slice": slice_name(parts),
                "attributes": len(parts),
                "n": int(members.sum()),
                "n_tested": int(members[second].sum()),
                "share": float(members.mean()),
                "mean": float(score[members].mean()),
                "mean_rest": float(score[~members].mean()) if not members.all() else np.nan,
                "rank_difference": effects.p_harder[1] - 0.5,
                "p_harder": effects.p_harder[1],
                "ci_low": low,
                "ci_high": high,
                "p_value": effects.p_values[1],
                "p_harder_overall": compare.slice_effects(overall, part).p_harder[1],
            }
        )
    columns = [name for name in COLUMNS if name != "q_value"]
    columns.insert(columns.index("n") + 1, "n_tested")
    return pd.DataFrame(rows, columns=columns)
