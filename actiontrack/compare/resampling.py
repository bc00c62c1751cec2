"""The bootstrap by counts: how often a resample holds a sample, not which rows it holds."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from actiontrack.compare.matrices import (
    CONSTANT,
    Floats,
    Ints,
    Method,
    Scores,
    correlation_matrices,
    rank_matrix,
    ranks_by_class,
)
from actiontrack.compare.ranks import MIN_SAMPLES, OVERALL, WITHIN_CLASS, dense_ranks

__all__ = [
    "RESAMPLES_AT_ONCE",
    "Pairs",
    "PartSamples",
    "Resamples",
    "RestOfResamples",
    "matrices_of_parts",
    "percentile_interval",
    "resampled",
    "run_pairs",
    "samples_of_parts",
    "to_resample",
]

#: Elements of a (resamples, runs, samples) block: temporaries of 4 MB stay in cache.
RESAMPLES_AT_ONCE = 2**19


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
    varies = variance > CONSTANT * total[:, :, 0]
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
        Shape ``(B, R, N)``: rank of each sample drawn (of one not drawn: a value without meaning).
    """
    shape = np.broadcast_shapes(dense.shape, (len(counts), 1, 1))
    offsets = np.arange(shape[0] * shape[1]).reshape(*shape[:2], 1) * shape[2]
    cells = (dense + offsets).ravel()
    weights = np.broadcast_to(counts[:, None, :], shape).ravel()
    draws = np.bincount(cells, weights, minlength=cells.size).reshape(shape)
    middle = draws.cumsum(axis=2) - draws / 2 + 0.5
    ranks: Floats = middle.ravel()[cells].reshape(shape)
    return ranks


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The samples behind one value of the column ``class``, ready to be correlated many times."""

    columns: slice  # into the samples sorted by class
    rows: Floats  # (R, n) scaled
    dense: Ints  # (1, R, n)
    starts: Ints | None = None  # first sample of each class, where scores are centred by class

    @property
    def n_samples(self) -> int:
        return int(self.rows.shape[1])

    def correlate(self, method: Method, counts: Floats) -> Floats:
        """Correlation matrices (B, R, R) of the resamples that ``counts`` (B, N) describes."""
        drawn = counts[:, self.columns]
        rows, dense = self.rows[None], self.dense
        if self.starts is not None:
            rows = rows - _class_means(rows, drawn, self.starts)
            dense = dense_ranks(rows) if method == "spearman" else dense
        return _weighted_pearson(
            _weighted_ranks(dense, drawn) if method == "spearman" else rows, drawn
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
        n_samples: number of samples.
        n_dropped: number of further samples that are not finite in some run.
        columns: their positions, None for all.
        classes: class of each, where scores are centred by class.
    """

    name: str
    n_samples: int
    n_dropped: int
    columns: Ints | None = None
    classes: Ints | None = None


def samples_of_parts(
    keep: NDArray[np.bool_], labels: Ints | None, names: Sequence[str]
) -> list[PartSamples]:
    """The samples overall and, with labels, those of every class."""
    n_dropped = int(keep.size - keep.sum())
    columns = np.flatnonzero(keep) if n_dropped else None
    n_samples = keep.size - n_dropped
    overall = PartSamples(name=OVERALL, n_samples=n_samples, n_dropped=n_dropped, columns=columns)
    if labels is None:
        return [overall]
    finite_labels = labels if columns is None else labels[columns]
    order = np.argsort(finite_labels, kind="stable")
    positions = order if columns is None else columns[order]
    edges = np.searchsorted(finite_labels[order], np.arange(len(names) + 1))
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
    return [overall, replace(overall, name=WITHIN_CLASS, classes=finite_labels), *classes]


def matrices_of_parts(
    values: Scores, parts: Sequence[PartSamples], methods: Sequence[Method]
) -> Floats:
    """Correlation matrices (M, K, R, R); NaN for a part of fewer than 3 samples.

    Args:
        values: scores (R, N).
        parts: of `samples_of_parts`.
        methods: which correlations.
    """
    result = np.full((len(methods), len(parts), len(values), len(values)), np.nan)
    for own, method in zip(result, methods, strict=True):
        left = list(enumerate(parts))
        if method == "spearman" and len(parts) > 1:
            own[:1], own[2:] = _spearman_by_class(values, parts)
            left = left[1:2]
        for k, part in left:
            if part.n_samples >= MIN_SAMPLES:
                own[k] = correlation_matrices(
                    values, method, columns=part.columns, classes=part.classes
                )
    return result


def _spearman_by_class(
    values: Scores, parts: Sequence[PartSamples]
) -> tuple[list[Floats], list[Floats]]:
    """Of all samples, and of each class; each run is sorted once."""
    missing = np.full((len(values), len(values)), np.nan)
    overall, within, *class_parts = parts
    if within.classes is None or overall.n_samples < MIN_SAMPLES:
        return [missing], [missing] * len(class_parts)
    ranks, ranks_in_class = ranks_by_class(values, overall.columns, within.classes)
    matrix = rank_matrix(ranks)
    del ranks
    columns = np.argsort(within.classes, kind="stable")
    ends = np.cumsum([part.n_samples for part in class_parts])
    return [matrix], [
        rank_matrix(ranks_in_class.take(columns[end - part.n_samples : end], axis=1))
        if part.n_samples >= MIN_SAMPLES
        else missing
        for end, part in zip(ends, class_parts, strict=True)
    ]


def _part(rows: Floats, columns: slice) -> _Part:
    return _Part(
        columns=columns, rows=_scaled(rows[:, columns]), dense=dense_ranks(rows[None, :, columns])
    )


def _within_class(rows: Floats, sizes: Ints) -> _Part:
    """Of samples sorted by class, with the number of samples of each class that has some."""
    starts = np.cumsum(sizes) - sizes
    shifted: Floats = rows - np.repeat(
        rows[:, starts], sizes, axis=1
    )  # a constant class is exactly 0
    scaled = shifted / _peak(shifted)
    return _Part(columns=slice(None), rows=scaled, dense=dense_ranks(scaled[None]), starts=starts)


def to_resample(values: Scores, parts: Sequence[PartSamples]) -> list[_Part]:
    """The same parts with their scores, of all (R, N) ones, and the samples sorted by class."""
    overall, *class_parts = parts
    classes = class_parts[1:]  # after the one within classes
    columns = [part.columns for part in classes if part.columns is not None]
    picked = np.concatenate(columns) if columns else overall.columns
    # Row by row in memory, as on the workers of a cluster: sums round by their order.
    rows = np.ascontiguousarray(values if picked is None else values[:, picked], np.float64)
    whole = _part(rows, slice(None))
    if not class_parts:
        return [whole]
    sizes = np.array([part.n_samples for part in classes])
    ends = np.cumsum(sizes)
    sorted_parts = [
        _part(rows, slice(end - size, end)) for end, size in zip(ends, sizes, strict=True)
    ]
    return [whole, _within_class(rows, sizes[sizes > 0]), *sorted_parts]


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


def run_pairs(groups: Sequence[str]) -> Pairs:
    """All pairs of runs, and the pair of models that each belongs to."""
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


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """The draws of a bootstrap over samples, in chunks of a bounded size.

    Attributes:
        n_samples: number of samples, and of the draws of each resample.
        times: number of resamples.
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
        return [min(self.chunk, self.times - start) for start in range(0, self.times, self.chunk)]

    def counts(self) -> Iterator[Floats]:
        """How often each sample occurs in each resample, (chunk, N), chunk by chunk."""
        yield from _drawn(np.random.default_rng(self.seed), self.sizes, self.n_samples)

    def split(self, n_parts: int) -> "Iterator[RestOfResamples]":
        """The same draws as parts that can be drawn apart."""
        rng, sizes = np.random.default_rng(self.seed), self.sizes
        width = max(1, -(-len(sizes) // n_parts))
        for start in range(0, len(sizes), width):
            sizes_of_part = sizes[start : start + width]
            yield RestOfResamples(rng.bit_generator.state, sizes_of_part, self.n_samples)
            for _ in _drawn(
                rng, sizes_of_part, self.n_samples
            ):  # so that the next part begins there
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
    chunks = (pairs.means(pairs.take(_estimate(parts, methods, chunk))) for chunk in counts)
    return np.concatenate(list(chunks))


def _resample_counts(rng: np.random.Generator, times: int, n: int) -> Floats:
    """How often each of n samples occurs in each of ``times`` draws of n: (times, n)."""
    cells = rng.integers(0, n, size=(times, n)) + np.arange(times)[:, None] * n
    return np.bincount(cells.ravel(), minlength=times * n).reshape(times, n).astype(np.float64)


def percentile_interval(draws: Floats, confidence: float) -> Floats:
    """Percentile interval over the first axis, (2, ...); NaN where nothing is defined."""
    undefined = np.isnan(draws).all(axis=0)
    if undefined.all():
        return np.full((2, *draws.shape[1:]), np.nan)
    tail = (1 - confidence) / 2
    interval = np.nanquantile(np.where(undefined, 0.0, draws), [tail, 1 - tail], axis=0)
    return np.where(undefined, np.nan, interval)
