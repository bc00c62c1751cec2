"""Wrong labels on purpose, for the paper's section 4.4."""

from typing import Literal

import numpy as np

from actiontrack.errors import ParameterError
from projects.datasets.split import Labels

__all__ = ["NoiseKind", "add_label_noise"]

NoiseKind = Literal["symmetric", "asymmetric"]


def _shift(kind: NoiseKind, count: int, n_classes: int, rng: np.random.Generator) -> Labels:
    """How many classes to move each label on: never 0 modulo the number of classes."""
    if kind == "asymmetric":
        return np.ones(count, dtype=np.int64)
    return rng.integers(1, n_classes, size=count, dtype=np.int64)


def add_label_noise(
    labels: Labels, *, n_classes: int, fraction: float, kind: NoiseKind, seed: int
) -> Labels:
    """Replace the labels of a random part of the samples by wrong ones.

    *Symmetric*: uniformly one of the other classes, so a noisy label is always wrong; Zhang et
    al. 2017 ("Understanding deep learning requires rethinking generalization") and the paper
    draw from all classes, which leaves 1 / n_classes of them right by chance. *Asymmetric*:
    class c becomes c + 1 modulo n_classes.

    Args:
        labels: int64 (N,), 0..n_classes - 1; not changed.
        n_classes: Number of classes.
        fraction: Part of the samples, 0 <= fraction < 1; exactly ``round(fraction * N)`` change.
        kind: ``symmetric`` or ``asymmetric``.
        seed: Seed of the generator.

    Returns:
        int64 (N,).

    Raises:
        ParameterError: Noise with a single class.
    """
    noisy = labels.copy()
    count = round(fraction * len(labels))
    if count == 0:
        return noisy
    if n_classes == 1:
        rule = "must be 0 for a dataset with one class"
        raise ParameterError("label_noise", rule, fraction, "Leave it out.")
    rng = np.random.default_rng(seed)
    where = rng.choice(len(labels), size=count, replace=False)
    noisy[where] = (noisy[where] + _shift(kind, count, n_classes, rng)) % n_classes
    return noisy
