"""Do two models find the same samples hard? Rank correlation of scores, and other comparisons.

Vocabulary: *values* is an array of shape ``(R, N)`` with one row of scores per run and one column
per sample, columns in the same order in every row; *labels* holds the true class of each column as
an integer into *class_names*; *groups* names the model of each run. Two runs with the same name
are a **same-model** pair, the ceiling against which a **cross-model** pair is read.

Arrays in, tidy frames out. Everything here is pure: no tracking server, no files, no plots.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.cluster.vq import ClusterError, kmeans2, vq
from scipy.spatial.distance import cdist
from scipy.stats import rankdata, t

from actiontrack.errors import ParameterError
from actiontrack.matrices import Method, correlation_matrices, finite_samples, mid_ranks

__all__ = [
    "HIGH_ACTION",
    "HIGH_ENTROPY",
    "MIN_SAMPLES",
    "OVERALL",
    "WITHIN_CLASS",
    "CorrelationResult",
    "CurveClusters",
    "Method",
    "Pairs",
    "PartSamples",
    "Resamples",
    "ScoreSource",
    "accuracy_by_threshold",
    "average_ranks",
    "class_summary",
    "cluster_curves",
    "correlation_by_quantile",
    "correlations",
    "detection",
    "disattenuated",
    "finite_columns",
    "mean_interval",
    "nearest_neighbours",
    "pair_labels",
    "pearson_matrix",
    "principal_components",
    "regions_of_interest",
    "resampled",
    "spearman_matrix",
    "table1",
    "tails",
    "to_resample",
    "top_k_overlap",
    "with_last",
]

Floats = NDArray[np.float64]
Scores = NDArray[np.floating]
Ints = NDArray[np.intp]

HIGH_ACTION = "high action, low entropy"
HIGH_ENTROPY = "low action, high entropy"
OVERALL = "overall"
WITHIN_CLASS = "within-class"
#: Fewer samples have no correlation.
MIN_SAMPLES = 3
_DETECTION = (
    "score", "auroc", "average_precision", "k", "precision_at_k", "n_samples", "n_noisy",
    "n_dropped",
)  # fmt: skip
_QUANTILES = (0.05, 0.25, 0.75, 0.95)  # of class_summary
_CHUNK = 2**19  # elements of a (resamples, runs, samples) block: temporaries of 4 MB stay in cache
_ROWS = 16  # correlated with the last row at a time: a long history is not ranked all at once
_TREND = 0.25  # share of its mean level by which a curve has to change, to count as changing
_RESTARTS = 5  # of k-means, each from its own k-means++ start
_RESTART_SAMPLE = 10_000  # curves that decide between the restarts of k-means
_LLOYD = 10  # iterations of k-means between two looks at whether anything still moves
_MAX_LLOYD = 10  # such looks
_CONSTANT = 1e-28  # variance of a row scaled to |x| <= 1 below which it counts as constant


@dataclass(frozen=True, kw_only=True)
class CurveClusters:
    """Clusters of loss curves, the hardest first: by the mean of their centre (paper Fig. 2).

    Attributes:
        centres: Mean curve of each cluster, shape ``(k, n_steps)``, float64.
        trends: "decreasing", "flat" or "increasing" for each centre, length k.
        members: Cluster of each sample, shape ``(N,)``, 0 for the hardest; -1 for a sample whose
            curve is not finite, which belongs to none.
        closest: For each cluster the positions of the curves closest to its centre, closest first.
        inertia: Sum of the squared distances of the curves to their centres.
    """

    centres: Floats
    trends: tuple[str, ...]
    members: Ints
    closest: tuple[Ints, ...]
    inertia: float

    @property
    def sizes(self) -> Ints:
        """Number of samples in each cluster, shape ``(k,)``."""
        return np.bincount(self.members[self.members >= 0], minlength=len(self.centres))


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


# ---------------------------------------------------------------- matrices


def finite_columns(values: ArrayLike) -> NDArray[np.bool_]:
    """Which samples are finite in every run.

    Args:
        values: Scores, shape ``(R, N)``, any float dtype.

    Returns:
        A mask of shape ``(N,)``.

    Raises:
        ParameterError: ``values`` is not two-dimensional.
    """
    return finite_samples(_runs(values))


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
    rows = _runs(values)
    return np.array([mid_ranks(row) for row in rows], dtype=np.float64).reshape(rows.shape)


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
    return correlation_matrices(_runs(values), "pearson")


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
    return correlation_matrices(_runs(values), "spearman")


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
    rows = _runs(values, at_least=1)
    keep = finite_columns(rows) if method == "pearson" else ~np.isnan(rows).any(axis=0)
    rows = rows[:, keep]
    if rows.shape[1] < MIN_SAMPLES:
        return np.full(len(rows), np.nan)
    parts = [
        correlation_matrices(np.vstack([rows[-1:], rows[start : start + _ROWS]]), method)[0, 1:]
        for start in range(0, len(rows), _ROWS)
    ]
    return np.concatenate(parts)


def _runs(values: ArrayLike, *, at_least: int = 0) -> Floats:
    array = np.asarray(values)
    if array.ndim != 2:
        remedy = "Stack one row of scores per run, samples in the same order."
        raise ParameterError("values", "must have shape (runs, samples)", array.shape, remedy)
    if len(array) < at_least:
        remedy = "Add another run, for instance the same model with another seed."
        raise ParameterError("values", f"must hold at least {at_least} runs", len(array), remedy)
    return array.astype(np.float64, copy=False)


def _source(values: "ArrayLike | ScoreSource", *, keep_float32: bool) -> "ScoreSource":
    """Scores of two runs or more; arrays of another dtype become float64."""
    if isinstance(values, ScoreSource):
        if values.n_runs > 1:
            return values
        array: ArrayLike = np.empty((values.n_runs, 0))
    else:
        array = np.asarray(values)
        if keep_float32 and array.dtype == np.float32 and array.ndim == 2 and len(array) > 1:
            return _Held(array)
    return _Held(_runs(array, at_least=2))


def _scaled(rows: Floats) -> Floats:
    """Shift each row by its first value (so a constant is exactly 0), centre, scale to |x| <= 1."""
    if rows.shape[-1] == 0:
        return rows
    with np.errstate(invalid="ignore"):  # inf - inf: the row becomes NaN, as documented
        shifted: Floats = rows - rows[:, :1]
        shifted -= shifted.mean(axis=1, keepdims=True)
        return shifted / _peak(shifted)


def _peak(rows: Floats) -> Floats:
    peak = np.abs(rows).max(axis=1, keepdims=True, initial=0.0)
    return np.where(peak > 0, peak, 1.0)


def _weighted_pearson(rows: Floats, counts: Floats) -> Floats:
    """Correlate rows whose samples occur ``counts`` times.

    Args:
        rows: Shape ``(B or 1, R, N)``, each row scaled to |x| <= 1, or ranks.
        counts: Shape ``(B, N)``, how often each resample drew each sample.

    Returns:
        Shape ``(B, R, R)``; NaN where a row is constant over the samples drawn.
    """
    total = np.maximum(counts.sum(axis=1), 1.0)[:, None, None]
    centred = rows - rows @ counts[:, :, None] / total
    covariance = (centred * counts[:, None, :]) @ centred.transpose(0, 2, 1)
    variance = np.einsum("bii->bi", covariance)
    varies = variance > _CONSTANT * total[:, :, 0]
    deviation = np.sqrt(np.where(varies, variance, np.nan))
    matrix: Floats = np.clip(covariance / deviation[:, :, None] / deviation[:, None, :], -1.0, 1.0)
    np.einsum("bii->bi", matrix)[...] = np.where(varies, 1.0, np.nan)
    return matrix


def _weighted_ranks(dense: Ints, counts: Floats) -> Floats:
    """Mid-ranks in a resample that drew sample i ``counts[i]`` times, without sorting it.

    With t_g draws of the g-th smallest value, all of them share the rank
    t_1 + ... + t_(g-1) + (t_g + 1) / 2: duplicates tie, as they would in the resampled array.

    Args:
        dense: Dense ranks from 0 of the original samples, shape ``(B or 1, R, N)``.
        counts: Shape ``(B, N)``.

    Returns:
        Shape ``(B, R, N)``: rank of each sample drawn (for one not drawn, a value without use).
    """
    shape = np.broadcast_shapes(dense.shape, (len(counts), 1, 1))
    offsets = np.arange(shape[0] * shape[1]).reshape(*shape[:2], 1) * shape[2]
    cells = (dense + offsets).ravel()
    weights = np.broadcast_to(counts[:, None, :], shape).ravel()
    draws = np.bincount(cells, weights, minlength=cells.size).reshape(shape)
    middle = draws.cumsum(axis=2) - draws / 2 + 0.5
    ranks: Floats = middle.ravel()[cells].reshape(shape)
    return ranks


def _dense(rows: Floats) -> Ints:
    return np.asarray(rankdata(rows, method="dense", axis=-1)).astype(np.intp) - 1


# ---------------------------------------------------------------- parts: one value of `class`


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The samples behind one value of the column ``class``, ready to be correlated many times."""

    where: slice  # into the samples sorted by class
    rows: Floats  # (R, n) scaled
    dense: Ints  # (1, R, n)
    starts: Ints | None = None  # first sample of each class, where scores are centred by class

    @property
    def n_samples(self) -> int:
        return int(self.rows.shape[1])

    def correlate(self, method: Method, counts: Floats) -> Floats:
        """Correlation matrices (B, R, R) of the resamples that ``counts`` (B, N) describes."""
        here = counts[:, self.where]
        rows, dense = self.rows[None], self.dense
        if self.starts is not None:
            rows = rows - _class_means(rows, here, self.starts)
            dense = _dense(rows) if method == "spearman" else dense
        return _weighted_pearson(
            _weighted_ranks(dense, here) if method == "spearman" else rows, here
        )


def _class_means(rows: Floats, counts: Floats, starts: Ints) -> Floats:
    """Mean of each sample's class in each resample, shape (B, R, N); classes are contiguous."""
    sizes = np.diff(starts, append=rows.shape[-1])
    totals = np.maximum(np.add.reduceat(counts, starts, axis=1), 1.0)
    sums = np.add.reduceat(rows * counts[:, None, :], starts, axis=2)
    return np.repeat(sums / totals[:, None, :], sizes, axis=2)


@dataclass(frozen=True, kw_only=True)
class PartSamples:
    """The samples behind one value of the column ``class``.

    Attributes:
        name: the value.
        n_samples: how many.
        n_dropped: how many more there are that are not finite in some run.
        columns: their positions, None for all.
        classes: class of each, where scores are centred by class.
    """

    name: str
    n_samples: int
    n_dropped: int
    columns: Ints | None = None
    classes: Ints | None = None


def _samples_of_parts(
    keep: NDArray[np.bool_], labels: Ints | None, names: Sequence[str]
) -> list[PartSamples]:
    n_dropped = int(keep.size - keep.sum())
    columns = np.flatnonzero(keep) if n_dropped else None
    n_samples = keep.size - n_dropped
    overall = PartSamples(name=OVERALL, n_samples=n_samples, n_dropped=n_dropped, columns=columns)
    if labels is None:
        return [overall]
    kept = labels if columns is None else labels[columns]
    order = np.argsort(kept, kind="stable")
    positions = order if columns is None else columns[order]
    edges = np.searchsorted(kept[order], np.arange(len(names) + 1))
    dropped = np.bincount(labels[~keep], minlength=len(names))
    classes = [
        PartSamples(
            name=name,
            n_samples=int(edges[code + 1] - edges[code]),
            n_dropped=int(dropped[code]),
            columns=positions[edges[code] : edges[code + 1]],
        )
        for code, name in enumerate(names)
    ]
    return [overall, replace(overall, name=WITHIN_CLASS, classes=kept), *classes]


def _matrices(values: Scores, parts: Sequence[PartSamples], methods: Sequence[Method]) -> Floats:
    """Correlation matrices (M, K, R, R); NaN for a part of fewer than 3 samples."""
    result = np.full((len(methods), len(parts), len(values), len(values)), np.nan)
    for k, part in enumerate(parts):
        for m, method in enumerate(methods):
            if part.n_samples >= MIN_SAMPLES:
                result[m, k] = correlation_matrices(
                    values, method, columns=part.columns, classes=part.classes
                )
    return result


def _part(rows: Floats, where: slice) -> _Part:
    return _Part(where=where, rows=_scaled(rows[:, where]), dense=_dense(rows[None, :, where]))


def _within_class(rows: Floats, sizes: Ints) -> _Part:
    """Of samples sorted by class, with the number of samples of each class that has some."""
    starts = np.cumsum(sizes) - sizes
    shifted: Floats = rows - np.repeat(
        rows[:, starts], sizes, axis=1
    )  # a constant class is exactly 0
    scaled = shifted / _peak(shifted)
    return _Part(where=slice(None), rows=scaled, dense=_dense(scaled[None]), starts=starts)


def to_resample(values: Scores, parts: Sequence[PartSamples]) -> list[_Part]:
    """The same parts with their scores (R, N) at hand, the samples sorted by class."""
    overall, *others = parts
    classes = others[1:]  # after the one within classes
    columns = [each.columns for each in classes if each.columns is not None]
    picked = np.concatenate(columns) if columns else overall.columns
    # Row by row in memory, as it is after it was sent elsewhere: sums round by their order.
    rows = np.ascontiguousarray(values if picked is None else values[:, picked], np.float64)
    whole = _part(rows, slice(None))
    if not others:
        return [whole]
    sizes = np.array([each.n_samples for each in classes])
    ends = np.cumsum(sizes)
    here = [_part(rows, slice(end - size, end)) for end, size in zip(ends, sizes, strict=True)]
    return [whole, _within_class(rows, sizes[sizes > 0]), *here]


# ---------------------------------------------------------------- groups of pairs


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """All pairs of runs, sorted by pair of models: cross-model first, then same-model."""

    run_a: Ints
    run_b: Ints
    starts: Ints  # first pair of each group
    kinds: list[str]
    model_a: list[str]
    model_b: list[str]

    @property
    def sizes(self) -> Ints:
        """Number of pairs of each group."""
        return np.diff(self.starts, append=self.run_a.size)

    def take(self, matrices: Floats) -> Floats:
        """The pairs of matrices: (..., R, R) -> (..., P)."""
        return matrices[..., self.run_a, self.run_b]

    def means(self, values: Floats) -> Floats:
        """(..., P) -> (..., G): the mean of each group; NaN if any of its pairs is."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=-1) / self.sizes)


def _pairs(groups: Sequence[str]) -> Pairs:
    models = list(dict.fromkeys(groups))
    codes = np.array([models.index(name) for name in groups])
    run_a, run_b = np.triu_indices(len(groups), 1)
    low, high = np.minimum(codes[run_a], codes[run_b]), np.maximum(codes[run_a], codes[run_b])
    keys = np.stack([low == high, low, high])
    order = np.lexsort((run_b, run_a, high, low, low == high))
    keys = keys[:, order]
    new = np.r_[True, (keys[:, 1:] != keys[:, :-1]).any(axis=0)]
    same, first, second = keys[:, new].tolist()
    return Pairs(
        run_a=run_a[order],
        run_b=run_b[order],
        starts=np.flatnonzero(new),
        kinds=["same-model" if flag else "cross-model" for flag in same],
        model_a=[models[code] for code in first],
        model_b=[models[code] for code in second],
    )


# ---------------------------------------------------------------- where the scores are


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """The draws of a bootstrap over samples, in chunks of a bounded size.

    Attributes:
        n_samples: how many are drawn of as many, each time.
        times: how often.
        chunk: how many resamples are correlated at once.
        seed: of the draws.
    """

    n_samples: int
    times: int
    chunk: int
    seed: int

    @property
    def sizes(self) -> list[int]:
        """Number of resamples of each chunk."""
        return [min(self.chunk, self.times - at) for at in range(0, self.times, self.chunk)]

    def counts(self) -> Iterator[Floats]:
        """How often each sample occurs in each resample, (chunk, N), chunk by chunk."""
        yield from _drawn(np.random.default_rng(self.seed), self.sizes, self.n_samples)

    def split(self, n_parts: int) -> "Iterator[RestOfResamples]":
        """The same draws as parts that can be drawn apart."""
        rng, sizes = np.random.default_rng(self.seed), self.sizes
        width = max(1, -(-len(sizes) // n_parts))
        for start in range(0, len(sizes), width):
            here = sizes[start : start + width]
            yield RestOfResamples(rng.bit_generator.state, here, self.n_samples)
            for _ in _drawn(rng, here, self.n_samples):  # to where the next part begins
                pass


@dataclass(frozen=True)
class RestOfResamples:
    """Some chunks of `Resamples`: the state of the generator before them, and their sizes."""

    state: Mapping[str, object]
    sizes: Sequence[int]
    n_samples: int

    def counts(self) -> Iterator[Floats]:
        """As `Resamples.counts`, of these chunks."""
        rng = np.random.default_rng()
        rng.bit_generator.state = self.state
        yield from _drawn(rng, self.sizes, self.n_samples)


def _drawn(rng: np.random.Generator, sizes: Sequence[int], n: int) -> Iterator[Floats]:
    for size in sizes:
        yield _resample_counts(rng, size, n)


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


class _Held(ScoreSource):
    """Scores in an array."""

    def __init__(self, values: Scores) -> None:
        self.n_runs, self.n_samples = values.shape
        self._values = values

    def finite(self) -> NDArray[np.bool_]:
        return finite_samples(self._values)

    def matrices(self, parts: Sequence[PartSamples], methods: Sequence[Method]) -> Floats:
        return _matrices(self._values, parts, methods)

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


# ---------------------------------------------------------------- Table 1


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
    scores = _source(values, keep_float32=True)
    _check_groups(groups, n_runs=scores.n_runs)
    _check_options(methods=methods, n_bootstrap=n_bootstrap, confidence=confidence)
    codes = None if labels is None else _checked_labels(labels, scores.n_samples, class_names)
    parts, pairs = _samples_of_parts(scores.finite(), codes, class_names), _pairs(groups)
    estimates = pairs.take(scores.matrices(parts, methods))  # (M, K, P)
    means = pairs.means(estimates)
    draws = np.full((1, *means.shape), np.nan)
    n_samples = parts[0].n_samples
    if n_bootstrap and n_samples >= MIN_SAMPLES:
        chunk = max(1, _CHUNK // (scores.n_runs * n_samples))
        resamples = Resamples(n_samples=n_samples, times=n_bootstrap, chunk=chunk, seed=seed)
        draws = scores.resampled(parts, methods, pairs, resamples)
    interval = np.where(np.isnan(means), np.nan, _interval(draws, confidence))
    return CorrelationResult(
        pairs=_pairs_frame(parts, methods, pairs, estimates),
        groups=_groups_frame(parts, methods, pairs, means, interval),
    )


def _estimate(parts: Sequence[_Part], methods: Sequence[Method], counts: Floats) -> Floats:
    """Correlation matrices of each resample, method and part: (B, M, K, R, R)."""
    n_runs = len(parts[0].rows)
    result = np.full((len(counts), len(methods), len(parts), n_runs, n_runs), np.nan)
    for k, part in enumerate(parts):
        for m, method in enumerate(methods):
            if part.n_samples >= MIN_SAMPLES:
                result[:, m, k] = part.correlate(method, counts)
    return result


def resampled(
    parts: Sequence[_Part], methods: Sequence[Method], pairs: Pairs, counts: Iterable[Floats]
) -> Floats:
    """Group means of every resample, (times, M, K, G).

    Args:
        parts: of `to_resample`.
        methods: which correlations.
        pairs: of runs.
        counts: how often each sample occurs in each resample, see `Resamples`.
    """
    chunks = (pairs.means(pairs.take(_estimate(parts, methods, each))) for each in counts)
    return np.concatenate(list(chunks))


def _resample_counts(rng: np.random.Generator, times: int, n: int) -> Floats:
    """How often each of n samples occurs in each of ``times`` draws of n: (times, n)."""
    cells = rng.integers(0, n, size=(times, n)) + np.arange(times)[:, None] * n
    return np.bincount(cells.ravel(), minlength=times * n).reshape(times, n).astype(np.float64)


def _interval(draws: Floats, confidence: float) -> Floats:
    """Percentile interval over the first axis, (2, ...); NaN where nothing is defined."""
    undefined = np.isnan(draws).all(axis=0)
    if undefined.all():
        return np.full((2, *draws.shape[1:]), np.nan)
    tail = (1 - confidence) / 2
    interval = np.nanquantile(np.where(undefined, 0.0, draws), [tail, 1 - tail], axis=0)
    return np.where(undefined, np.nan, interval)


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
        held = sorted(set(groups_frame["method"]))
        raise ParameterError("method", f"must be one of {held}", method, "Compute it first.")
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


# ---------------------------------------------------------------- checks


def _check_groups(groups: Sequence[str], *, n_runs: int) -> None:
    if len(groups) != n_runs:
        rule = f"must name the model of each of the {n_runs} runs"
        raise ParameterError("groups", rule, len(groups), "Pass one name per row of values.")


def _check_options(*, methods: Sequence[Method], n_bootstrap: int, confidence: float) -> None:
    known = get_args(Method)
    if not methods or not set(methods) <= set(known):
        remedy = "Pass one or both of them."
        raise ParameterError("methods", f"must come from {list(known)}", list(methods), remedy)
    if n_bootstrap < 0:
        remedy = "Pass 0 to skip the intervals."
        raise ParameterError("n_bootstrap", "must not be negative", n_bootstrap, remedy)
    if not 0 < confidence < 1:
        remedy = "Pass 0.95 for a 95 % interval."
        raise ParameterError("confidence", "must lie between 0 and 1", confidence, remedy)


def _checked_labels(labels: ArrayLike, n_samples: int, names: Sequence[str]) -> Ints:
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


# ---------------------------------------------------------------- Figure 14


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
    scores = _source(values, keep_float32=False)
    _check_groups(groups, n_runs=scores.n_runs)
    _check_options(methods=methods, n_bootstrap=0, confidence=0.5)
    _check_quantiles(quantiles)
    keep, pairs = scores.finite(), _pairs(groups)
    found = scores.tails(keep, pairs, quantiles, methods)  # (P, Q, 1 + M)
    means = pairs.means(found[..., 1:].transpose(2, 1, 0))  # (M, Q, G)
    fewest = np.minimum.reduceat(found[..., 0].T.astype(np.intp), pairs.starts, axis=1)
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


def tails(
    rows: Floats,
    run_a: Ints,
    run_b: Ints,
    quantiles: Sequence[float],
    methods: Sequence[Method],
) -> Floats:
    """Number kept, then one correlation per method, for each pair and quantile: (P, Q, 1 + M).

    Args:
        rows: finite scores, (R, n).
        run_a: rows of the first run of each pair, (P,).
        run_b: and of the second.
        quantiles: see `correlation_by_quantile`.
        methods: which correlations.
    """
    result = np.full((run_a.size, len(quantiles), 1 + len(methods)), np.nan)
    result[..., 0] = 0
    ranks, dense = average_ranks(rows), _dense(rows)
    for p, (a, b) in enumerate(zip(run_a, run_b, strict=True)):
        difficulty = ranks[a] + ranks[b]
        edges = np.quantile(difficulty, quantiles) if difficulty.size else ()
        for q, edge in enumerate(edges):
            chosen = np.flatnonzero(difficulty >= edge)
            result[p, q, 0] = chosen.size
            if chosen.size >= MIN_SAMPLES:
                for m, method in enumerate(methods, start=1):
                    two = [_tail_values(rows, dense, each, chosen, method) for each in (a, b)]
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


# ---------------------------------------------------------------- one run


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
    scores = _samples(score)
    codes = _checked_labels(labels, scores.size, class_names)
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
    scores, right = _samples(score), np.asarray(correct)
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
    a, e = _samples(action), _samples(entropy)
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


# ---------------------------------------------------------------- curves


def cluster_curves(
    losses: ArrayLike, *, k: int = 3, seed: int = 0, n_closest: int = 3
) -> CurveClusters:
    """Group loss curves by k-means: which samples are learnt, and which are not (paper Fig. 2).

    Euclidean k-means with k-means++ starts; the best of several restarts, the same for the same
    seed. Of more than 10,000 curves a random part decides which start is the best. A centre's
    trend is that of the straight line fitted to it over the recorded steps: "decreasing" or
    "increasing" if the line falls or rises by more than a quarter of the centre's mean absolute
    level between the first step and the last, otherwise "flat". Two centres may have the same
    trend.

    Args:
        losses: Shape ``(n_steps, N)``, any float dtype.
        k: Number of clusters.
        seed: Seed of the starts.
        n_closest: How many curves to name for each centre.

    Returns:
        The clusters, hardest first.

    Raises:
        ParameterError: ``losses`` is not two-dimensional, k is not positive, or there are
            fewer than k distinct finite curves.
    """
    grid = np.asarray(losses)
    if grid.ndim != 2:
        remedy = "Stack the steps."
        raise ParameterError("losses", "must have shape (steps, samples)", grid.shape, remedy)
    if k < 1:
        raise ParameterError("k", "must be positive", k, "Pass 3, for instance.")
    where = np.flatnonzero(np.isfinite(grid).all(axis=0))
    curves = np.ascontiguousarray(grid[:, where].T, dtype=np.float64)
    rng = np.random.default_rng(seed)
    starts = [_starts(curves, k, rng) for _ in range(_RESTARTS)]
    if len(curves) > _RESTART_SAMPLE:
        part = curves[np.sort(rng.choice(len(curves), _RESTART_SAMPLE, replace=False))]
        starts = [min((_kmeans(part, each) for each in starts), key=lambda fit: fit[0])[1]]
    fits = [_kmeans(curves, each) for each in starts]
    inertia, centres, codes = min(fits, key=lambda fit: fit[0])
    order = np.argsort(-centres.mean(axis=1), kind="stable")
    centres, codes = centres[order], np.argsort(order)[codes]
    members = np.full(grid.shape[1], -1)
    members[where] = codes
    closest = []
    for number, centre in enumerate(centres):
        own = np.flatnonzero(codes == number)
        distance = ((curves[own] - centre) ** 2).sum(axis=1)
        closest.append(where[own[np.argsort(distance, kind="stable")[:n_closest]]])
    return CurveClusters(
        centres=centres,
        trends=tuple(_trend(centre) for centre in centres),
        members=members,
        closest=tuple(closest),
        inertia=inertia,
    )


def _starts(curves: Floats, k: int, rng: np.random.Generator) -> Floats:
    """k-means++: each further centre is drawn with the squared distance to the nearest one."""
    chosen: list[int] = []
    nearest = np.ones(len(curves))
    while len(chosen) < k:
        total = nearest.sum()
        if not total > 0:
            rule = f"must be at most {len(chosen)}, the number of distinct finite curves"
            raise ParameterError("k", rule, k, "Choose fewer clusters.")
        chosen.append(int(rng.choice(len(curves), p=nearest / total)))
        distance = ((curves - curves[chosen[-1]]) ** 2).sum(axis=1)
        nearest = distance if len(chosen) == 1 else np.minimum(nearest, distance)
    return curves[chosen]


def _kmeans(curves: Floats, centres: Floats) -> tuple[float, Floats, Ints]:
    """Iterate until no curve changes its cluster: inertia, centres (k, n_steps), codes (N,)."""
    codes, distances = vq(curves, centres)
    for _ in range(_MAX_LLOYD):
        try:
            centres, _ = kmeans2(curves, centres, iter=_LLOYD, minit="matrix", missing="raise")
        except ClusterError:  # a cluster lost all its curves: this start ends here
            break
        before = codes
        codes, distances = vq(curves, centres)
        if np.array_equal(before, codes):
            break
    return float((distances**2).sum()), centres, codes.astype(np.intp)


def _trend(curve: Floats) -> str:
    steps = np.arange(curve.size) - (curve.size - 1) / 2
    spread = float((steps**2).sum())
    change = float(steps @ curve) / spread * (curve.size - 1) if spread else 0.0
    if abs(change) <= _TREND * np.abs(curve).mean():
        return "flat"
    return "increasing" if change > 0 else "decreasing"


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
    rows = _runs(values)
    n = (~np.isnan(rows)).sum(axis=0)
    some, several = np.where(n > 0, n, np.nan), np.where(n > 1, n, np.nan)
    mean = np.nansum(rows, axis=0) / some
    deviation = np.sqrt(np.nansum((rows - mean) ** 2, axis=0) / (several - 1))
    half = t.ppf((1 + confidence) / 2, several - 1) * deviation / np.sqrt(several)
    return mean, mean - half, mean + half


# ---------------------------------------------------------------- detection


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
    for name, given in scores.items():
        values = np.asarray(given, dtype=np.float64)
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


# ---------------------------------------------------------------- features


def principal_components(points: ArrayLike, n: int = 2) -> tuple[Floats, Floats]:
    """Principal components of centred points, by singular value decomposition.

    Args:
        points: (n_points, n_features), finite.
        n: how many, at most n_features.

    Returns:
        (n_points, n) coordinates and (n,) share of the variance that each explains (NaN where all
        points are the same). The sign of a component is arbitrary: its largest loading is
        positive.

    Raises:
        ParameterError: if the points are not two-dimensional and finite, or n is out of range.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        rule = "must be finite and have shape (n_points, n_features)"
        raise ParameterError("points", rule, values.shape, "Leave out points that are not finite.")
    if not 1 <= n <= min(values.shape):
        rule = f"must be 1 to {min(values.shape)}"
        raise ParameterError("n", rule, n, "Ask for no more components than features.")
    centred = values - values.mean(axis=0)
    _, singular, loadings = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(loadings[:n]).argmax(axis=1)
    signs = np.sign(loadings[np.arange(n), largest])
    with np.errstate(invalid="ignore"):
        explained = (singular**2 / (singular**2).sum())[:n]
    return centred @ (loadings[:n].T * signs), explained


def nearest_neighbours(
    features: ArrayLike, queries: ArrayLike, *, k: int = 8
) -> tuple[Ints, Floats]:
    """Find the samples closest to others in feature space, by exact L2 distance (paper Fig. 5).

    Args:
        features: Shape ``(N, D)``, any float dtype; distances are computed in float64, for a few
            queries at a time.
        queries: Positions of the samples to look around, integers of shape ``(Q,)``.
        k: Number of neighbours, 1..N-1. A sample is no neighbour of its own.

    Returns:
        Positions of the neighbours, shape ``(Q, k)``, the closest first, equal distances in order
        of position; and their distances, shape ``(Q, k)``, float64.

    Raises:
        ParameterError: A shape is wrong, a feature is not finite, k or a query is out of range.
    """
    points, wanted = np.asarray(features, dtype=np.float64), np.asarray(queries, dtype=np.intp)
    if points.ndim != 2:
        remedy = "Pass one feature vector per sample."
        raise ParameterError("features", "must have shape (samples, D)", points.shape, remedy)
    _check_neighbours(points, wanted, k)
    chunk = max(1, _CHUNK // len(points))
    where, distance = np.empty((wanted.size, k), np.intp), np.empty((wanted.size, k))
    for start in range(0, wanted.size, chunk):
        rows = wanted[start : start + chunk]
        matrix = cdist(points[rows], points)
        matrix[np.arange(rows.size), rows] = np.inf
        near = np.argsort(matrix, axis=1, kind="stable")[:, :k]
        where[start : start + chunk] = near
        distance[start : start + chunk] = np.take_along_axis(matrix, near, axis=1)
    return where, distance


def _check_neighbours(points: Floats, wanted: Ints, k: int) -> None:
    n_samples = len(points)
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        rule = "must be finite"
        raise ParameterError("features", rule, f"row {bad}", "Leave such samples out.")
    if not 1 <= k < n_samples:
        rule = f"must lie in 1..{n_samples - 1}, the number of other samples"
        raise ParameterError("k", rule, k, "Choose a smaller k.")
    outside = wanted[(wanted < 0) | (wanted >= n_samples)]
    if outside.size:
        rule = f"must lie in 0..{n_samples - 1}"
        raise ParameterError("queries", rule, int(outside[0]), "Pass positions of samples.")


# ---------------------------------------------------------------- overlap


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
    scores = _runs(values)
    if not 1 <= k <= scores.shape[1]:
        rule = f"must lie in 1..{scores.shape[1]}, the number of samples"
        raise ParameterError("k", rule, k, "Choose a smaller k.")
    top = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    member = np.zeros(scores.shape)
    np.put_along_axis(member, top, 1.0, axis=1)
    return np.asarray(member @ member.T / k)


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


def _samples(score: ArrayLike) -> Floats:
    array = np.asarray(score)
    if array.ndim != 1:
        remedy = "Pass one score per sample."
        raise ParameterError("score", "must have shape (samples,)", array.shape, remedy)
    return array.astype(np.float64, copy=False)
