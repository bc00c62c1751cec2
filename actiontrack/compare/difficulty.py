"""Difficulty by class, accuracy by score, and regions of high action or entropy."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from actiontrack.compare.matrices import Floats
from actiontrack.compare.ranks import checked_labels, run_matrix, sample_vector
from actiontrack.errors import ParameterError

__all__ = [
    "HIGH_ACTION",
    "HIGH_ENTROPY",
    "accuracy_by_threshold",
    "class_summary",
    "mean_interval",
    "regions_of_interest",
]

_QUANTILES = (0.05, 0.25, 0.75, 0.95)  # of class_summary
#: Name of the region of high action and low entropy (section 4.3).
HIGH_ACTION = "high action, low entropy"
#: Name of the region of low action and high entropy.
HIGH_ENTROPY = "low action, high entropy"


def class_summary(
    score: ArrayLike, labels: ArrayLike, *, class_names: Sequence[str]
) -> pd.DataFrame:
    """Summarise a score per class, the hardest class first (paper 4.1, Figure 6a).

    Args:
        score: Shape ``(N,)``, any float dtype.
        labels: Class of each sample, integers of shape ``(N,)``.
        class_names: Name of each class, indexed by label.

    Returns:
        One row per class, ordered by median, highest first, classes without samples last:
        ``rank`` (1 = hardest), ``class``, ``n`` (finite samples), ``mean``, ``std`` (n - 1 in the
        denominator), ``median``, ``q05``, ``q25``, ``q75``, ``q95``, ``min``, ``max`` (all float64,
        in the score's unit, over finite samples) and ``n_nonfinite``.

    Raises:
        ParameterError: A shape, label or class name is wrong.
    """
    scores = sample_vector(score)
    codes = checked_labels(labels, scores.size, class_names)
    finite = np.isfinite(scores)
    everything = range(len(class_names))
    grouped = pd.Series(scores[finite]).groupby(codes[finite])
    frame = grouped.agg(["count", "mean", "std", "median", "min", "max"]).reindex(everything)
    tails = grouped.quantile(np.array(_QUANTILES)).unstack().reindex(everything)  # noqa: PD010
    summary = pd.DataFrame(
        {
            "class": np.array(class_names, dtype=object),
            "n": frame["count"].fillna(0).astype(np.int64),
            **{column: frame[column] for column in ("mean", "std", "median")},
            **{f"q{round(100 * q):02d}": tails.get(q, np.nan) for q in _QUANTILES},
            **{column: frame[column] for column in ("min", "max")},
            "n_nonfinite": np.bincount(codes[~finite], minlength=len(class_names)),
        }
    ).sort_values("median", ascending=False, kind="stable", ignore_index=True)
    summary.insert(0, "rank", np.arange(1, len(summary) + 1))
    return summary


def accuracy_by_threshold(
    score: ArrayLike, correct: ArrayLike, *, thresholds: ArrayLike
) -> pd.DataFrame:
    """Accuracy among the samples that are left once lower scores are masked (paper 4.1, Fig. 6c).

    Args:
        score: Shape ``(N,)``, for the paper's figure min–max normalised to [0, 1].
        correct: Shape ``(N,)``, bool or 0/1: was the sample classified correctly?
        thresholds: Shape ``(T,)``, in the score's unit.

    Returns:
        ``threshold``, ``accuracy`` (share of correct among samples with score >= threshold, NaN
        if there are none) and ``n``, the number of such samples. A NaN score is above no threshold.

    Raises:
        ParameterError: Shapes differ, or ``correct`` holds something else than 0 and 1.
    """
    scores, right = sample_vector(score), np.asarray(correct)
    if right.shape != scores.shape:
        remedy = "Pass one bit per sample."
        raise ParameterError("correct", f"must have shape {scores.shape}", right.shape, remedy)
    if not np.isin(right, (0, 1)).all():
        bad = right[~np.isin(right, (0, 1))][0].item()
        raise ParameterError("correct", "must be bool or 0/1", bad, "Pass prediction == label.")
    levels = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    order = np.argsort(scores[~np.isnan(scores)])
    below = np.searchsorted(scores[~np.isnan(scores)][order], levels, side="left")
    hits = np.r_[right[~np.isnan(scores)][order][::-1].cumsum()[::-1], 0][below]
    n = order.size - below
    accuracy = np.divide(hits, n, out=np.full(levels.shape, np.nan), where=n > 0)
    return pd.DataFrame({"threshold": levels, "accuracy": accuracy, "n": n})


def regions_of_interest(
    action: ArrayLike, entropy: ArrayLike, *, share: float = 0.02
) -> NDArray[np.object_]:
    """Find the samples on which action and entropy disagree (paper 4.1, Fig. 6b and 7).

    The paper marks its two regions by eye, as squares beside the diagonal. Here a sample belongs
    to one of them if action - entropy lies above the quantile ``1 - share`` of all samples, or
    below the quantile ``share``, and has the right sign: the same scores give the same regions.
    With high action and low entropy the models tend to be certain of another class than the label;
    with low action and high entropy they tend to hesitate, and not to contradict the label.

    Args:
        action: Shape ``(N,)``, any float dtype, normalised to [0, 1].
        entropy: Shape ``(N,)``, likewise.
        share: Part of the samples in each region, above 0 and at most 0.5.

    Returns:
        Shape ``(N,)``: "high action, low entropy", "low action, high entropy", or "" for a
        sample in neither region or with a score that is not finite.

    Raises:
        ParameterError: Shapes differ, or ``share`` is out of range.

    Example:
        >>> regions_of_interest([0.1, 0.2, 0.3, 1.0], [1.0, 0.3, 0.2, 0.1], share=0.25).tolist()
        ['low action, high entropy', '', '', 'high action, low entropy']
    """
    a, e = sample_vector(action), sample_vector(entropy)
    if a.shape != e.shape:
        remedy = "Pass both scores of the same samples."
        raise ParameterError("entropy", f"must have shape {a.shape}", e.shape, remedy)
    if not 0 < share <= 0.5:
        remedy = "Pass 0.02 for 2 % of the samples in each region."
        raise ParameterError("share", "must lie above 0 and at most at 0.5", share, remedy)
    regions = np.full(a.shape, "", dtype=object)
    keep = np.flatnonzero(np.isfinite(a) & np.isfinite(e))
    if keep.size:
        difference = a[keep] - e[keep]
        low, high = np.quantile(difference, (share, 1 - share))
        regions[keep[(difference > high) & (difference > 0)]] = HIGH_ACTION
        regions[keep[(difference < low) & (difference < 0)]] = HIGH_ENTROPY
    return regions


def mean_interval(values: ArrayLike, *, confidence: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Mean over runs and its confidence interval by Student's t (paper Fig. 6c).

    Args:
        values: Shape ``(R, T)``, one row per run; NaN entries are left out.
        confidence: Level of the interval, between 0 and 1.

    Returns:
        Mean, lower and upper end, each of shape ``(T,)``, float64; NaN ends where fewer than two
        runs have a value, a NaN mean where none has.

    Raises:
        ParameterError: ``values`` is not two-dimensional.
    """
    rows = run_matrix(values)
    n = (~np.isnan(rows)).sum(axis=0)
    some, several = np.where(n > 0, n, np.nan), np.where(n > 1, n, np.nan)
    mean = np.nansum(rows, axis=0) / some
    deviation = np.sqrt(np.nansum((rows - mean) ** 2, axis=0) / (several - 1))
    half = t.ppf((1 + confidence) / 2, several - 1) * deviation / np.sqrt(several)
    return mean, mean - half, mean + half
