"""How well wrong labels are ranked and mended, and how far two rankings share their top."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from actiontrack.compare.matrices import Floats
from actiontrack.compare.ranks import run_matrix
from actiontrack.errors import ParameterError

__all__ = [
    "calibration_error",
    "correction",
    "detection",
    "top_k_overlap",
]

_DETECTION = (
    "score", "auroc", "average_precision", "k", "precision_at_k", "n_samples", "n_noisy",
    "n_dropped",
)  # fmt: skip


def detection(
    scores: Mapping[str, ArrayLike],
    is_noisy: ArrayLike,
    *,
    ks: Sequence[int] | None = None,
    low_is_hard: Collection[str] = frozenset(),
) -> pd.DataFrame:
    """Measure how well scores find wrong labels (paper 4.4; it prints no such number).

    Args:
        scores: Name to scores of shape ``(N,)``, any float dtype. A high score means a suspect.
        is_noisy: Shape ``(N,)``, bool: is the label wrong?
        ks: For each k, how many of the k most suspect samples are noisy. Default: the number of
            noisy samples, at which precision and recall are the same.
        low_is_hard: Names of the scores of which a low value means a suspect.

    Returns:
        One row per score and k: ``score``, ``auroc`` (the chance that a noisy sample scores above
        a clean one, ties counting one half), ``average_precision`` (over distinct scores, as
        scikit-learn has it), ``k``, ``precision_at_k`` (where equal scores straddle the k-th
        place, its mean over their orders), ``n_samples``, ``n_noisy``, ``n_dropped``. Samples
        with a NaN score are left out and counted; an infinite score is the most extreme one.
        NaN where a score is left with no noisy or no clean sample, or fewer than k samples.

    Raises:
        ParameterError: A shape is wrong, no or every sample is noisy, or a k is not in 1..N.
    """
    noisy = np.asarray(is_noisy)
    if noisy.ndim != 1 or noisy.dtype != np.bool_:
        rule, got = "must be bool of shape (samples,)", (str(noisy.dtype), noisy.shape)
        raise ParameterError("is_noisy", rule, got, "Pass label != true_label.")
    if noisy.all() or not noisy.any():
        rule = f"must mark some of the {noisy.size} samples and not all"
        raise ParameterError("is_noisy", rule, int(noisy.sum()), "Record a run with wrong labels.")
    wrong = [k for k in ks or () if not 1 <= k <= noisy.size]
    if wrong:
        rule = f"must lie in 1..{noisy.size}, the number of samples"
        raise ParameterError("ks", rule, wrong, "Choose a smaller k.")
    rows: list[dict[str, object]] = []
    for name, raw in scores.items():
        values = np.asarray(raw, dtype=np.float64)
        if values.shape != noisy.shape:
            rule = f"must have shape {noisy.shape}"
            raise ParameterError(name, rule, values.shape, "Pass one score per sample.")
        keep = ~np.isnan(values)
        suspicion = -values[keep] if name in low_is_hard else values[keep]
        rows += _detected(name, suspicion, noisy[keep], ks=ks, n_dropped=int((~keep).sum()))
    return pd.DataFrame(rows, columns=list(_DETECTION))


def _detected(
    name: str,
    suspicion: Floats,
    noisy: NDArray[np.bool_],
    *,
    ks: Sequence[int] | None,
    n_dropped: int,
) -> list[dict[str, object]]:
    """The rows of one score without NaN, high for a suspect."""
    n, n_noisy = noisy.size, int(noisy.sum())
    chosen = [n_noisy] if ks is None else list(ks)
    row: dict[str, object] = {"score": name, "auroc": np.nan, "average_precision": np.nan}
    row |= {"n_samples": n, "n_noisy": n_noisy, "n_dropped": n_dropped}
    if not 0 < n_noisy < n:
        return [row | {"k": k, "precision_at_k": np.nan} for k in chosen]
    above = float(rankdata(suspicion)[noisy].sum()) - n_noisy * (n_noisy + 1) / 2
    row["auroc"] = above / (n_noisy * (n - n_noisy))
    order = np.argsort(-suspicion, kind="stable")
    ends = np.r_[np.flatnonzero(suspicion[order][1:] != suspicion[order][:-1]) + 1, n]
    hits = noisy[order].cumsum()[ends - 1]  # noisy samples at or above each distinct score
    row["average_precision"] = float((np.diff(hits, prepend=0) / n_noisy) @ (hits / ends))
    expected = np.interp(chosen, np.r_[0, ends], np.r_[0, hits], right=np.nan)
    return [
        row | {"k": k, "precision_at_k": float(e) / k}
        for k, e in zip(chosen, expected, strict=True)
    ]


def calibration_error(probabilities: ArrayLike, outcomes: ArrayLike, *, n_bins: int = 15) -> float:
    """Expected calibration error: how far probabilities are from the shares that come true.

    The mean over the samples of the distance between the mean probability of a bin of equal width
    and the share of its samples whose outcome is true (Guo et al. 2017, eq. 5).

    Args:
        probabilities: Shape ``(N,)``, in 0..1; N at least 1.
        outcomes: Shape ``(N,)``, bool.
        n_bins: Number of bins.

    Raises:
        ParameterError: The shapes differ, or a probability is not in 0..1.

    >>> round(calibration_error([0.9, 0.9, 0.1, 0.1], [True, True, False, True]), 3)
    0.25
    """
    p, true = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.bool_)
    if p.ndim != 1 or p.shape != true.shape or not p.size:
        rule = f"must have shape {true.shape}, of one sample at least"
        raise ParameterError("probabilities", rule, p.shape, "Pass one per outcome.")
    if not ((p >= 0) & (p <= 1)).all():
        rule, value = "must lie in 0..1", [float(p.min()), float(p.max())]
        raise ParameterError("probabilities", rule, value, "Leave out samples without one.")
    bins = np.minimum((p * n_bins).astype(np.int64), n_bins - 1)
    excess = np.bincount(bins, weights=p - true, minlength=n_bins)
    return float(np.abs(excess).sum() / p.size)


def correction(
    suggested: ArrayLike, flagged: ArrayLike, labels: ArrayLike, true_labels: ArrayLike
) -> dict[str, float]:
    """How well suggested classes mend wrong labels.

    Args:
        suggested: Shape ``(N,)``, class index that is right if the label is wrong.
        flagged: Shape ``(N,)``, bool: is the label taken to be wrong?
        labels: Shape ``(N,)``, the given class indices.
        true_labels: Shape ``(N,)``, the true ones.

    Returns:
        ``n_wrong``, ``n_flagged``, ``wrong_of_flagged`` (precision), ``flagged_of_wrong``
        (recall), ``right_of_wrong`` (share of the wrong labels whose suggestion is the truth) and
        ``right_of_flagged`` (the same of the flagged ones: one with a right label counts against
        it); NaN where there are none to take a share of.
    """
    right = np.asarray(suggested) == np.asarray(true_labels)
    flags = np.asarray(flagged, dtype=np.bool_)
    wrong = np.asarray(labels) != np.asarray(true_labels)
    return {
        "n_wrong": float(wrong.sum()),
        "n_flagged": float(flags.sum()),
        "wrong_of_flagged": _share(wrong[flags]),
        "flagged_of_wrong": _share(flags[wrong]),
        "right_of_wrong": _share(right[wrong]),
        "right_of_flagged": _share(right[flags]),
    }


def _share(values: NDArray[np.bool_]) -> float:
    return float(values.mean()) if values.size else float("nan")


def top_k_overlap(values: ArrayLike, k: int) -> Floats:
    """Share of the k highest-scored samples that two runs have in common.

    Args:
        values: Scores, shape ``(R, N)``. Equal scores at the edge are taken in column order; a NaN
            counts as the lowest score.
        k: How many samples, 1..N.

    Returns:
        Shape ``(R, R)``, float64, in [0, 1]; 1 on the diagonal. Chance level is k / N.

    Raises:
        ParameterError: ``values`` is not two-dimensional, or k lies outside 1..N.

    Example:
        >>> top_k_overlap([[4, 3, 2, 1], [4, 1, 2, 3]], 2)
        array([[1. , 0.5],
               [0.5, 1. ]])
    """
    scores = run_matrix(values)
    if not 1 <= k <= scores.shape[1]:
        rule = f"must lie in 1..{scores.shape[1]}, the number of samples"
        raise ParameterError("k", rule, k, "Choose a smaller k.")
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    member = np.zeros(scores.shape)
    np.put_along_axis(member, top, 1.0, axis=1)
    return np.asarray(member @ member.T / k)
