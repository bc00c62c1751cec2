"""Correlation of two models among their harder samples only."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from actiontrack.compare.matrices import Method
from actiontrack.compare.ranks import check_groups, check_methods
from actiontrack.compare.resampling import run_pairs
from actiontrack.compare.sources import ScoreSource, score_source
from actiontrack.errors import ParameterError

__all__ = [
    "correlation_by_quantile",
]


def correlation_by_quantile(
    values: ArrayLike | ScoreSource,
    *,
    groups: Sequence[str],
    quantiles: Sequence[float] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    methods: Sequence[Method] = ("spearman", "pearson"),
) -> pd.DataFrame:
    """Correlate the scores of ever harder samples (paper 4.6, Figure 14).

    For each pair of runs a sample's difficulty is the mean of its two mid-ranks, so that neither
    run's scale decides; the samples at or above the quantile of that mean are kept, ranked anew
    and correlated. The paper does not say how it selects. Keeping the top of both runs restricts
    their range, and that alone lowers a correlation, below zero even: two runs of the same model
    suffer it too, so read a cross-model curve against the same-model one, not against zero.

    Args:
        values: Scores, shape ``(R, N)``, R >= 2, any float dtype; or where they are.
        groups: Name of the model of each run, length R.
        quantiles: Each in [0, 1); 0 keeps every sample.
        methods: Which of "spearman" and "pearson" to compute.

    Returns:
        ``method``, ``kind``, ``model_a``, ``model_b``, ``quantile``, ``mean`` over the pairs of
        runs, ``n_samples`` (the smallest number kept for any of the pairs), ``n_pairs``,
        ``n_dropped`` (samples not finite in some run, left out). Fewer than 3 samples give NaN.

    Raises:
        ParameterError: A shape, length, quantile or method is wrong.
    """
    scores = score_source(values, keep_float32=False)
    check_groups(groups, n_runs=scores.n_runs)
    check_methods(methods)
    _check_quantiles(quantiles)
    keep, pairs = scores.finite(), run_pairs(groups)
    correlations = scores.tails(keep, pairs, quantiles, methods)  # (P, Q, 1 + M)
    means = pairs.means(correlations[..., 1:].transpose(2, 1, 0))  # (M, Q, G)
    fewest = np.minimum.reduceat(correlations[..., 0].T.astype(np.intp), pairs.starts, axis=1)
    index = pd.MultiIndex.from_product([methods, range(len(pairs.kinds)), quantiles])
    group = index.get_level_values(1).to_numpy()
    return pd.DataFrame(
        {
            "method": index.get_level_values(0),
            "kind": np.array(pairs.kinds, dtype=object)[group],
            "model_a": np.array(pairs.model_a, dtype=object)[group],
            "model_b": np.array(pairs.model_b, dtype=object)[group],
            "quantile": index.get_level_values(2),
            "mean": means.transpose(0, 2, 1).ravel(),
            "n_samples": np.tile(fewest.T.ravel(), len(methods)),
            "n_pairs": pairs.sizes[group],
            "n_dropped": int((~keep).sum()),
        }
    )


def _check_quantiles(quantiles: Sequence[float]) -> None:
    wrong = [quantile for quantile in quantiles if not 0 <= quantile < 1]
    if wrong or not quantiles:
        remedy = "Pass 0.9 for the hardest tenth."
        raise ParameterError("quantiles", "must lie in [0, 1)", wrong, remedy)
