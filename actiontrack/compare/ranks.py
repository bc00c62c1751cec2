"""Ranks and correlation matrices of score columns, with the checks that they share."""

from collections.abc import Sequence
from typing import get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from actiontrack.compare.matrices import (
    Floats,
    Ints,
    Method,
    correlation_matrices,
    finite_samples,
)
from actiontrack.compare.sorting import ascending, mid_ranks, stretch_numbers, stretches
from actiontrack.errors import ParameterError

__all__ = [
    "MIN_SAMPLES",
    "OVERALL",
    "WITHIN_CLASS",
    "average_ranks",
    "check_groups",
    "check_methods",
    "check_options",
    "checked_labels",
    "dense_ranks",
    "finite_columns",
    "pearson_matrix",
    "relative_ranks",
    "run_matrix",
    "sample_vector",
    "spearman_matrix",
    "tails",
    "with_last",
]

#: Name of the part that holds all samples.
OVERALL = "overall"
#: Name of the one correlation of all samples by their scores minus the mean of their class.
WITHIN_CLASS = "within-class"

#: Fewer samples have no correlation.
MIN_SAMPLES = 3
_LONG = 1000  # samples from which rows are ranked one by one
_ROWS = 16  # correlated with the last row at a time: a long history is not ranked all at once


def finite_columns(values: ArrayLike) -> NDArray[np.bool_]:
    """Which samples are finite in every run.

    Args:
        values: Scores, shape ``(R, N)``, any float dtype.

    Returns:
        A mask of shape ``(N,)``.

    Raises:
        ParameterError: ``values`` is not two-dimensional.
    """
    return finite_samples(run_matrix(values))


def average_ranks(values: ArrayLike) -> Floats:
    """Rank each row from 1; ties share the mean of their ranks (mid-ranks).

    Args:
        values: Scores, shape ``(R, N)``, any float dtype. A NaN makes its whole row NaN.

    Returns:
        Ranks, shape ``(R, N)``, float64, each an exact multiple of one half.

    Raises:
        ParameterError: ``values`` is not two-dimensional.

    Example:
        >>> average_ranks([[0.1, 0.7, 0.7, 0.2]])
        array([[1. , 3.5, 3.5, 2. ]])
    """
    rows = run_matrix(values)
    return np.array([mid_ranks(row) for row in rows], dtype=np.float64).reshape(rows.shape)


def relative_ranks(values: ArrayLike) -> Floats:
    """Rank each row from 0 (its least value) to 1 (its greatest); ties as in `average_ranks`.

    Example:
        >>> relative_ranks([[0.1, 0.7, 0.7, 0.2, 0.9]])
        array([[0.   , 0.625, 0.625, 0.25 , 1.   ]])
    """
    ranks = average_ranks(values)
    relative: Floats = (ranks - 1) / max(ranks.shape[1] - 1, 1)
    return relative


def pearson_matrix(values: ArrayLike) -> Floats:
    """Pearson correlation of every run with every other.

    Args:
        values: Scores, shape ``(R, N)``; float32 is centred and multiplied in float64.

    Returns:
        Shape ``(R, R)``, float64, symmetric, in [-1, 1]. A row that is constant or holds a
        non-finite value gives NaN, its diagonal included.

    Raises:
        ParameterError: ``values`` is not two-dimensional.
    """
    return correlation_matrices(run_matrix(values), "pearson")


def spearman_matrix(values: ArrayLike) -> Floats:
    """Spearman's rank correlation of every run with every other, ties at mid-ranks.

    Each run is ranked once and the ranks are correlated by one matrix product.

    Args:
        values: Scores, shape ``(R, N)``, any float dtype.

    Returns:
        Shape ``(R, R)``, float64. A row that is constant or holds a NaN gives NaN.

    Raises:
        ParameterError: ``values`` is not two-dimensional.

    Example:
        >>> spearman_matrix([[1, 2, 3, 4], [1, 4, 9, 16], [4, 3, 2, 1]]).round(3)
        array([[ 1.,  1., -1.],
               [ 1.,  1., -1.],
               [-1., -1.,  1.]])
    """
    return correlation_matrices(run_matrix(values), "spearman")


def with_last(values: ArrayLike, method: Method = "spearman") -> Floats:
    """Correlate every row with the last one, for instance a growing score with the full one.

    Args:
        values: Scores, shape ``(R, N)``, R >= 1, any float dtype. Samples that are NaN in some
            row, and for Pearson's r those that are infinite in some row, are left out.
        method: "spearman" or "pearson".

    Returns:
        Shape ``(R,)``, float64; NaN where a row is constant, and everywhere if fewer than 3
        samples are left.

    Raises:
        ParameterError: ``values`` is not two-dimensional.

    Example:
        >>> with_last([[3, 1, 2], [1, 2, 3], [1, 2, 4]]).round(3).tolist()
        [-0.5, 1.0, 1.0]
    """
    rows = run_matrix(values, at_least=1)
    keep = finite_columns(rows) if method == "pearson" else ~np.isnan(rows).any(axis=0)
    rows = rows[:, keep]
    if rows.shape[1] < MIN_SAMPLES:
        return np.full(len(rows), np.nan)
    parts = [
        correlation_matrices(np.vstack([rows[-1:], rows[start : start + _ROWS]]), method)[0, 1:]
        for start in range(0, len(rows), _ROWS)
    ]
    return np.concatenate(parts)


def run_matrix(values: ArrayLike, *, at_least: int = 0) -> Floats:
    """Scores as float64 of shape (runs, samples), checked."""
    array = np.asarray(values)
    if array.ndim != 2:
        remedy = "Stack one row of scores per run, samples in the same order."
        raise ParameterError("values", "must have shape (runs, samples)", array.shape, remedy)
    if len(array) < at_least:
        remedy = "Add another run, for instance the same model with another seed."
        raise ParameterError("values", f"must hold at least {at_least} runs", len(array), remedy)
    return array.astype(np.float64, copy=False)


def dense_ranks(rows: Floats) -> Ints:
    """Dense ranks of each row of finite scores (..., n), from 0."""
    if rows.shape[-1] < _LONG:
        return np.asarray(rankdata(rows, method="dense", axis=-1)).astype(np.intp) - 1
    ranks = np.empty(rows.shape, dtype=np.intp)
    for place in np.ndindex(rows.shape[:-1]):
        order, placed = ascending(rows[place])
        ranks[place] = stretch_numbers(order, stretches(placed))
    return ranks


def check_groups(groups: Sequence[str], *, n_runs: int) -> None:
    """Refuse groups that do not name one model per run."""
    if len(groups) != n_runs:
        rule = f"must name the model of each of the {n_runs} runs"
        raise ParameterError("groups", rule, len(groups), "Pass one name per row of values.")


def check_methods(methods: Sequence[Method]) -> None:
    """Refuse unknown methods, and none at all.

    Raises:
        ParameterError: names those that there are.
    """
    choices = get_args(Method)
    if not methods or not set(methods) <= set(choices):
        remedy = "Pass one or both of them."
        raise ParameterError("methods", f"must come from {list(choices)}", list(methods), remedy)


def check_options(*, methods: Sequence[Method], n_bootstrap: int, confidence: float) -> None:
    """Refuse unknown methods, and bootstrap options out of range."""
    check_methods(methods)
    if n_bootstrap < 0:
        remedy = "Pass 0 to skip the intervals."
        raise ParameterError("n_bootstrap", "must not be negative", n_bootstrap, remedy)
    if not 0 < confidence < 1:
        remedy = "Pass 0.95 for a 95 % interval."
        raise ParameterError("confidence", "must lie between 0 and 1", confidence, remedy)


def checked_labels(labels: ArrayLike, n_samples: int, names: Sequence[str]) -> Ints:
    """Labels as class indices, one per sample, all with a name."""
    _check_names(names)
    codes = np.asarray(labels)
    if codes.shape != (n_samples,):
        remedy = "Pass the true class of each sample, in the order of the scores."
        raise ParameterError("labels", f"must have shape ({n_samples},)", codes.shape, remedy)
    if codes.size and not np.issubdtype(codes.dtype, np.integer):
        remedy = "Pass positions into class_names."
        raise ParameterError("labels", "must be integers", str(codes.dtype), remedy)
    outside = codes[(codes < 0) | (codes >= len(names))]
    if outside.size:
        rule = f"must lie in 0..{len(names) - 1}, the positions of class_names"
        raise ParameterError("labels", rule, int(outside[0]), "Name every class.")
    return codes.astype(np.intp)


def _check_names(names: Sequence[str]) -> None:
    reserved = {OVERALL, WITHIN_CLASS} & set(names)
    if reserved:
        rule = f"must not use {OVERALL!r} or {WITHIN_CLASS!r}, which name rows of the result"
        raise ParameterError("class_names", rule, sorted(reserved), "Rename the class.")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise ParameterError("class_names", "must be distinct", twice, "Rename one of them.")


def tails(
    rows: Floats,
    run_a: Ints,
    run_b: Ints,
    quantiles: Sequence[float],
    methods: Sequence[Method],
) -> Floats:
    """Number of samples, then a correlation per method, per pair and quantile: (P, Q, 1 + M).

    Args:
        rows: finite scores, (R, n).
        run_a: rows of the first run of each pair, (P,).
        run_b: and of the second.
        quantiles: see `correlation_by_quantile`.
        methods: which correlations.
    """
    result = np.full((run_a.size, len(quantiles), 1 + len(methods)), np.nan)
    result[..., 0] = 0
    ranks, dense = average_ranks(rows), dense_ranks(rows)
    for p, (a, b) in enumerate(zip(run_a, run_b, strict=True)):
        difficulty = ranks[a] + ranks[b]
        edges = np.quantile(difficulty, quantiles) if difficulty.size else ()
        for q, edge in enumerate(edges):
            chosen = np.flatnonzero(difficulty >= edge)
            result[p, q, 0] = chosen.size
            if chosen.size >= MIN_SAMPLES:
                for m, method in enumerate(methods, start=1):
                    two = [_tail_values(rows, dense, run, chosen, method) for run in (a, b)]
                    result[p, q, m] = pearson_matrix(np.stack(two))[0, 1]
    return result


def _tail_values(
    rows: Floats, dense: Ints, run: int, chosen: Ints, method: Method
) -> NDArray[np.floating]:
    """Scores of the chosen samples of a run, or their mid-ranks among themselves, without a sort.

    Of the dense ranks among all samples, those of the chosen are counted: c_g of the g-th value
    share the rank c_1 + ... + c_(g-1) + (c_g + 1) / 2.
    """
    if method == "pearson":
        return np.asarray(rows[run, chosen])
    codes = dense[run, chosen]
    counts = np.bincount(codes)
    middle = counts.cumsum() - counts / 2 + 0.5
    return np.asarray(middle[codes])


def sample_vector(score: ArrayLike) -> Floats:
    """Scores as float64 of shape (samples,), checked."""
    array = np.asarray(score)
    if array.ndim != 1:
        remedy = "Pass one score per sample."
        raise ParameterError("score", "must have shape (samples,)", array.shape, remedy)
    return array.astype(np.float64, copy=False)
