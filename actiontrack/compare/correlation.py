"""Correlations between runs and between models, overall and class by class, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from actiontrack.compare.draws import RESAMPLES_AT_ONCE, Resamples
from actiontrack.compare.matrices import Floats, Ints, Method
from actiontrack.compare.ranks import MIN_SAMPLES, check_groups, check_options, checked_labels
from actiontrack.compare.resampling import (
    Pairs,
    PartSamples,
    percentile_interval,
    run_pairs,
    samples_of_parts,
)
from actiontrack.compare.sources import ScoreSource, score_source
from actiontrack.errors import ParameterError

__all__ = [
    "CorrelationResult",
    "correlations",
    "disattenuated",
    "pair_labels",
    "table1",
]


@dataclass(frozen=True, kw_only=True)
class CorrelationResult:
    """Correlations of scores between runs, as two tidy frames (paper 4.6, Table 1).

    Attributes:
        pairs: One row per method, pair of runs and class: ``method``, ``run_a``, ``run_b`` (row
            positions, ``run_a < run_b``), ``class``, ``value``, ``n_samples``, ``n_dropped``.
        groups: One row per method, pair of models and class: ``method``, ``kind``
            ("cross-model" or "same-model"), ``model_a``, ``model_b``, ``class``, ``mean`` over the
            pairs of runs, ``ci_low``, ``ci_high``, ``n_pairs``, ``n_samples``, ``n_dropped``.
    """

    pairs: pd.DataFrame
    groups: pd.DataFrame


def correlations(
    values: ArrayLike | ScoreSource,
    labels: ArrayLike | None = None,
    *,
    groups: Sequence[str],
    class_names: Sequence[str] = (),
    methods: Sequence[Method] = ("spearman", "pearson"),
    n_bootstrap: int = 500,
    seed: int = 0,
    confidence: float = 0.95,
) -> CorrelationResult:
    """Correlate the scores of runs, overall and per class, with intervals (paper 4.6, Table 1).

    The column ``class`` takes "overall" (all samples), "within-class" (each run's scores minus
    the mean of their class, all samples: what is left once easy and hard classes are taken out)
    and each class name. Without ``labels`` there is only "overall".

    The interval is a percentile bootstrap over **samples**, each resample shared by all runs and
    classes. It tells how far another test set of this size might move the mean correlation; it
    does not tell how far other seeds would. Every resample is exact: class means, ranks and ties
    are those of the resampled array, computed from the counts of its draws.

    Args:
        values: Scores, shape ``(R, N)``, R >= 2, any float dtype; or where they are.
        labels: Class of each sample, integers of shape ``(N,)``, or None.
        groups: Name of the model of each run, length R.
        class_names: Name of each class, indexed by label.
        methods: Which of "spearman" and "pearson" to compute.
        n_bootstrap: Number of resamples; 0 gives NaN intervals.
        seed: Seed of the resampling.
        confidence: Level of the interval, between 0 and 1.

    Returns:
        Both frames. A sample that is not finite in some run is left out of all of them and
        counted in ``n_dropped``. A class with fewer than 3 samples, and a pair with a constant
        run, give NaN, and so does the mean of a group with such a pair. Resamples in which the
        mean is undefined are left out of the interval.

    Raises:
        ParameterError: A shape, length, label, class name or option is wrong.
    """
    scores = score_source(values, keep_float32=True)
    check_groups(groups, n_runs=scores.n_runs)
    check_options(methods=methods, n_bootstrap=n_bootstrap, confidence=confidence)
    codes = None if labels is None else checked_labels(labels, scores.n_samples, class_names)
    parts, pairs = samples_of_parts(scores.finite(), codes, class_names), run_pairs(groups)
    estimates = pairs.take(scores.matrices(parts, methods))  # (M, K, P)
    means = pairs.means(estimates)
    draws = np.full((1, *means.shape), np.nan)
    n_samples = parts[0].n_samples
    if n_bootstrap and n_samples >= MIN_SAMPLES:
        chunk = max(1, RESAMPLES_AT_ONCE // (scores.n_runs * n_samples))
        resamples = Resamples(n_samples=n_samples, times=n_bootstrap, chunk=chunk, seed=seed)
        draws = scores.resampled(parts, methods, pairs, resamples)
    interval = np.where(np.isnan(means), np.nan, percentile_interval(draws, confidence))
    return CorrelationResult(
        pairs=_pairs_frame(parts, methods, pairs, estimates),
        groups=_groups_frame(parts, methods, pairs, means, interval),
    )


def _pairs_frame(
    parts: Sequence[PartSamples], methods: Sequence[Method], pairs: Pairs, estimates: Floats
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            **_keys(parts, methods, {"run_a": pairs.run_a, "run_b": pairs.run_b}),
            "value": estimates.ravel(),
            **_counts(parts, methods, pairs.run_a.size),
        }
    )


def _groups_frame(
    parts: Sequence[PartSamples],
    methods: Sequence[Method],
    pairs: Pairs,
    means: Floats,
    ci: Floats,
) -> pd.DataFrame:
    inner = {"kind": pairs.kinds, "model_a": pairs.model_a, "model_b": pairs.model_b}
    return pd.DataFrame(
        {
            **_keys(parts, methods, inner),
            "mean": means.ravel(),
            "ci_low": ci[0].ravel(),
            "ci_high": ci[1].ravel(),
            "n_pairs": np.tile(pairs.sizes, len(methods) * len(parts)),
            **_counts(parts, methods, len(pairs.kinds)),
        }
    )


def _keys(
    parts: Sequence[PartSamples],
    methods: Sequence[Method],
    inner: Mapping[str, ArrayLike],
) -> dict[str, NDArray[np.generic]]:
    """The key columns of a frame whose rows run over method, class and the ``inner`` columns."""
    columns = {key: np.asarray(column) for key, column in inner.items()}
    size = next(iter(columns.values())).size
    names = np.array([part.name for part in parts], dtype=object)
    outer = len(methods) * len(parts)
    return {
        "method": np.repeat(np.array(methods, dtype=object), len(parts) * size),
        **{key: np.tile(column, outer) for key, column in columns.items()},
        "class": np.tile(np.repeat(names, size), len(methods)),
    }


def _counts(parts: Sequence[PartSamples], methods: Sequence[Method], size: int) -> dict[str, Ints]:
    n_samples = np.array([part.n_samples for part in parts])
    n_dropped = np.array([part.n_dropped for part in parts])
    return {
        "n_samples": np.tile(np.repeat(n_samples, size), len(methods)),
        "n_dropped": np.tile(np.repeat(n_dropped, size), len(methods)),
    }


def table1(groups_frame: pd.DataFrame, method: Method = "spearman") -> pd.DataFrame:
    """Lay the group means out as the paper's Table 1.

    Args:
        groups_frame: ``CorrelationResult.groups``.
        method: Which correlation to show.

    Returns:
        Rows "a / b" for pairs of models, then "a twice" for the same-model baseline; columns
        "overall", "within-class" and the classes; values the mean correlation over pairs of runs.

    Raises:
        ParameterError: The frame holds no rows of that method.
    """
    chosen = groups_frame[groups_frame["method"] == method]
    if chosen.empty:
        computed = sorted(set(groups_frame["method"]))
        raise ParameterError("method", f"must be one of {computed}", method, "Compute it first.")
    chosen = chosen.assign(pair=pair_labels(chosen))
    wide = chosen.pivot(index="pair", columns="class", values="mean")  # noqa: PD010 - 1 value a cell
    wide = wide.reindex(index=chosen["pair"].unique(), columns=chosen["class"].unique())
    return wide.rename_axis(index="pair", columns=None)


def pair_labels(frame: pd.DataFrame) -> pd.Series:
    """Name each row's pair of models: "a / b", or "a twice" for two runs of one model.

    Args:
        frame: Any frame with the columns ``kind``, ``model_a`` and ``model_b``.

    Returns:
        Strings, aligned with the frame's index.
    """
    cross = frame["model_a"].astype(str) + " / " + frame["model_b"].astype(str)
    return cross.where(frame["kind"] != "same-model", frame["model_a"].astype(str) + " twice")


def disattenuated(r_ab: ArrayLike, r_aa: ArrayLike, r_bb: ArrayLike) -> Floats:
    r"""Correlation between models once the noise between runs of each is taken out.

    .. math:: r_{ab} / \sqrt{r_{aa}\, r_{bb}}

    Spearman's correction for attenuation (1904): the same-model correlations are the models'
    reliabilities. It is an estimate and may exceed 1; it is not clipped.

    Args:
        r_ab: Cross-model correlation, a number or an array of any shape.
        r_aa: Same-model correlation of the first model.
        r_bb: Same-model correlation of the second model.

    Returns:
        float64 of the broadcast shape; NaN where a reliability is not positive.

    Example:
        >>> float(disattenuated(0.4, 1.0, 0.25))
        0.8
    """
    first, second = np.asarray(r_aa, np.float64), np.asarray(r_bb, np.float64)
    usable = (first > 0) & (second > 0)
    scale = np.sqrt(np.where(usable, first * second, np.nan))
    return np.asarray(np.asarray(r_ab, np.float64) / scale)
