"""Where compared scores come from: an array in memory, or the workers of a cluster."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from actiontrack.compare.draws import Resamples
from actiontrack.compare.matrices import Floats, Method, Scores, finite_samples
from actiontrack.compare.ranks import run_matrix, tails
from actiontrack.compare.resampling import (
    Pairs,
    PartSamples,
    matrices_of_parts,
    resampled,
    to_resample,
)

__all__ = [
    "ScoreSource",
    "score_source",
]


def score_source(values: "ArrayLike | ScoreSource", *, keep_float32: bool) -> "ScoreSource":
    """Scores of two runs or more; arrays of another dtype become float64."""
    if isinstance(values, ScoreSource):
        if values.n_runs > 1:
            return values
        array: ArrayLike = np.empty((values.n_runs, 0))
    else:
        array = np.asarray(values)
        if keep_float32 and array.dtype == np.float32 and array.ndim == 2 and len(array) > 1:
            return _InMemory(array)
    return _InMemory(run_matrix(array, at_least=2))


class ScoreSource(ABC):
    """Scores (R, N), wherever they are, and what comparisons ask of them.

    `correlations` and `correlation_by_quantile` take one instead of an array: the scores stay
    where they are, and the answers are small.

    Attributes:
        n_runs: R.
        n_samples: N.
    """

    n_runs: int
    n_samples: int

    @abstractmethod
    def finite(self) -> NDArray[np.bool_]:
        """Which samples are finite in every run, (N,)."""

    @abstractmethod
    def matrices(self, parts: Sequence[PartSamples], methods: Sequence[Method]) -> Floats:
        """Correlation matrices (M, K, R, R); NaN for a part of fewer than 3 samples."""

    @abstractmethod
    def resampled(
        self,
        parts: Sequence[PartSamples],
        methods: Sequence[Method],
        pairs: Pairs,
        resamples: Resamples,
    ) -> Floats:
        """Group means of every resample, (times, M, K, G): see `resampled`."""

    @abstractmethod
    def tails(
        self,
        keep: NDArray[np.bool_],
        pairs: Pairs,
        quantiles: Sequence[float],
        methods: Sequence[Method],
    ) -> Floats:
        """Correlations above quantiles, of the samples to keep, (P, Q, 1 + M): see `tails`."""


class _InMemory(ScoreSource):
    """Scores in an array."""

    def __init__(self, values: Scores) -> None:
        self.n_runs, self.n_samples = values.shape
        self._values = values

    def finite(self) -> NDArray[np.bool_]:
        return finite_samples(self._values)

    def matrices(self, parts: Sequence[PartSamples], methods: Sequence[Method]) -> Floats:
        return matrices_of_parts(self._values, parts, methods)

    def resampled(
        self,
        parts: Sequence[PartSamples],
        methods: Sequence[Method],
        pairs: Pairs,
        resamples: Resamples,
    ) -> Floats:
        return resampled(to_resample(self._values, parts), methods, pairs, resamples.counts())

    def tails(
        self,
        keep: NDArray[np.bool_],
        pairs: Pairs,
        quantiles: Sequence[float],
        methods: Sequence[Method],
    ) -> Floats:
        rows = self._values[:, keep].astype(np.float64, copy=False)
        return tails(rows, pairs.run_a, pairs.run_b, quantiles, methods)
