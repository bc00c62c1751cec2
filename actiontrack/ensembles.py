"""What several models say of a sample together: mean scores, and the entropy of their predictions.

The paper's section 4.1; `actiontrack.scores` offers these under its own name.
"""

import numpy as np
import numpy.typing as npt

from actiontrack.history import FloatArray

__all__ = ["ensemble_entropy", "ensemble_mean", "entropy", "min_max"]


def min_max(scores: FloatArray) -> npt.NDArray[np.float64]:
    """Scores scaled to [0, 1] by the smallest and largest finite one; equal ones to 0 (4.1)."""
    values = np.asarray(scores, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    return np.asarray((values - low) / (high - low if high > low else 1.0))


def ensemble_mean(scores: FloatArray) -> npt.NDArray[np.float64]:
    """Mean over models of (n_models, n_samples) scores (section 4.1, Fig. 6b)."""
    with np.errstate(invalid="ignore"):
        return np.asarray(scores.mean(axis=0, dtype=np.float64))


def entropy(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    """Predictive entropy −Σ p ln p of (n_samples, n_classes) probabilities, in nats (eq. 6).

    >>> entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).round(4).tolist()
    [0.0, 0.6931]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    # 0 - …, so that a certain prediction has entropy 0.0 and not -0.0
    return np.asarray(0.0 - np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(axis=-1))


def ensemble_entropy(probabilities: FloatArray) -> npt.NDArray[np.float64]:
    """Entropy of the mean distribution of several models, in nats (eq. 6, section 4.1).

    Args:
        probabilities: (n_models, n_samples, n_classes).

    Returns:
        (n_samples,) float64; models that are certain of different classes give a high entropy.

    >>> ensemble_entropy(np.array([[[1.0, 0.0]], [[0.0, 1.0]]])).round(4).tolist()
    [0.6931]
    """
    return entropy(np.asarray(probabilities).mean(axis=0, dtype=np.float64))
