"""The bootstrap by counts: how often a resample holds a sample, not which rows it holds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from actiontrack.compare.counted import SortedRow, Workspace, counted_ranks, sorted_rows
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
    "Pairs",
    "PartSamples",
    "ReadyParts",
    "matrices_of_parts",
    "percentile_interval",
    "resampled",
    "run_pairs",
    "samples_of_parts",
    "to_resample",
]

_MANY = 1000  # samples whose ranks are counted run by run, by an order that is at hand


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


def _weighted_pearson(rows: Floats, counts: Floats, workspace: Workspace) -> Floats:
    """Correlate rows whose samples occur ``counts`` times.

    Args:
        rows: Shape ``(B or 1, R, N)``, each row scaled to |x| <= 1, or ranks.
        counts: Shape ``(B, N)``, how often each resample drew each sample.
        workspace: for what is multiplied.

    Returns:
        Shape ``(B, R, R)``; NaN where a row is constant over the samples drawn.
    """
    shape = len(counts), *rows.shape[1:]
    total = np.maximum(counts.sum(axis=1), 1.0)[:, None, None]
    means = rows @ counts[:, :, None] / total
    centred = np.subtract(rows, means, out=workspace.floats("centred", shape))
    weighted = np.multiply(centred, counts[:, None, :], out=workspace.floats("weighted", shape))
    covariance = weighted @ centred.transpose(0, 2, 1)
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

    def correlate(
        self, method: Method, counts: Floats, workspace: Workspace, ranks: Floats | None = None
    ) -> Floats:
        """Correlation matrices (B, R, R) of the resamples that ``counts`` (B, N) describes.

        Args:
            method: by which.
            counts: of all samples.
            workspace: for temporary arrays.
            ranks: (B, R, n) where they are known already.
        """
        drawn = counts[:, self.columns]
        if ranks is None:
            ranks = self._values(method, drawn, workspace)
        return _weighted_pearson(ranks, drawn, workspace)

    def _values(self, method: Method, drawn: Floats, workspace: Workspace) -> Floats:
        """Scores or ranks of the samples in each resample, (B or 1, R, n)."""
        rows, dense = self.rows[None], self.dense
        if self.starts is not None:
            rows = _residuals(rows, drawn, self.starts, workspace)
            if method == "spearman" and self.n_samples >= _MANY:
                return _ranks_of_drawn(rows, drawn, workspace)
            dense = dense_ranks(rows) if method == "spearman" else dense
        return _weighted_ranks(dense, drawn) if method == "spearman" else rows


def _ranks_of_drawn(rows: Floats, counts: Floats, workspace: Workspace) -> Floats:
    """As `_weighted_ranks`, of scores (B, R, N), sorting no sample that was not drawn."""
    ranks = workspace.floats("ranks", rows.shape)
    for own_rows, own_ranks, own_counts in zip(rows, ranks, counts, strict=True):
        drawn = np.flatnonzero(own_counts)
        drawn_counts = own_counts[drawn].astype(np.intp)
        own_ranks[...] = 0.0
        for row, own in zip(own_rows, own_ranks, strict=True):
            own[drawn] = counted_ranks(row.take(drawn), drawn_counts)
    return ranks


def _residuals(rows: Floats, counts: Floats, starts: Ints, workspace: Workspace) -> Floats:
    """Scores minus the mean of their class in each resample, (B, R, N); classes are contiguous."""
    shape = len(counts), *rows.shape[1:]
    sizes = np.diff(starts, append=rows.shape[-1])
    totals = np.maximum(np.add.reduceat(counts, starts, axis=1), 1.0)
    weighted = np.multiply(rows, counts[:, None, :], out=workspace.floats("weighted", shape))
    means = np.add.reduceat(weighted, starts, axis=2) / totals[:, None, :]
    residuals = workspace.floats("residuals", shape)
    for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        own = slice(start, start + size)
        np.subtract(rows[..., own], means[..., number, None], out=residuals[..., own])
    return residuals


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


@dataclass(frozen=True, kw_only=True)
class ReadyParts:
    """Parts with their scores, and the order of many samples, which spares resamples a sort."""

    parts: Sequence[_Part]
    overall: Sequence[SortedRow] | None
    by_class: Sequence[SortedRow] | None

    def estimate(self, methods: Sequence[Method], counts: Floats, workspace: Workspace) -> Floats:
        """Correlation matrices of each resample, method and part: (B, M, K, R, R)."""
        n_runs = len(self.parts[0].rows)
        shape = (len(counts), len(methods), len(self.parts), n_runs, n_runs)
        result = np.full(shape, np.nan)
        for m, method in enumerate(methods):
            ranks = self._ranks(counts, workspace) if method == "spearman" else {}
            for k, part in enumerate(self.parts):
                if part.n_samples >= MIN_SAMPLES:
                    result[:, m, k] = part.correlate(method, counts, workspace, ranks.get(k))
        return result

    def _ranks(self, counts: Floats, workspace: Workspace) -> dict[int, Floats]:
        """By the number of the part, of those whose order is at hand: (B, R, n)."""
        ranks = {}
        if self.overall is not None:
            ranks[0] = _ranks_of_rows(self.overall, counts, "overall", workspace)
        if self.by_class is not None:
            of_classes = _ranks_of_rows(self.by_class, counts, "by class", workspace)
            for k, part in enumerate(self.parts[2:], 2):
                before = counts[:, : part.columns.start].sum(axis=1)[:, None, None]
                of_classes[..., part.columns] -= before
                ranks[k] = of_classes[..., part.columns]
        return ranks


def _ranks_of_rows(
    rows: Sequence[SortedRow], counts: Floats, purpose: str, workspace: Workspace
) -> Floats:
    ranks = workspace.floats(purpose, (len(counts), len(rows), counts.shape[1]))
    for own_ranks, own_counts in zip(ranks, counts.astype(np.intp), strict=True):
        for row, own in zip(rows, own_ranks, strict=True):
            row.write_ranks(own_counts, own)
    return ranks


def to_resample(values: Scores, parts: Sequence[PartSamples]) -> ReadyParts:
    """The same parts with their scores, of all (R, N) ones, and the samples sorted by class."""
    rows = _sorted_by_class(values, parts)
    sizes = [part.n_samples for part in parts[2:]]
    many = rows.shape[1] >= _MANY
    return ReadyParts(
        parts=_parts(rows, len(parts), sizes),
        overall=sorted_rows(rows) if many else None,
        by_class=sorted_rows(rows, sizes) if many and sizes else None,
    )


def _sorted_by_class(values: Scores, parts: Sequence[PartSamples]) -> Floats:
    columns = [part.columns for part in parts[2:] if part.columns is not None]
    picked = np.concatenate(columns) if columns else parts[0].columns
    # Row by row in memory, as on the workers of a cluster: sums round by their order.
    return np.ascontiguousarray(values if picked is None else values[:, picked], np.float64)


def _parts(rows: Floats, n_parts: int, sizes_of_classes: Sequence[int]) -> list[_Part]:
    whole = _part(rows, slice(None))
    if n_parts == 1:
        return [whole]
    sizes = np.array(sizes_of_classes, dtype=np.intp)
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


def resampled(
    ready: ReadyParts, methods: Sequence[Method], pairs: Pairs, counts: Iterable[Floats]
) -> Floats:
    """Group means of every resample, (times, M, K, G).

    Args:
        ready: of `to_resample`.
        methods: which correlations.
        pairs: of runs.
        counts: how often each sample occurs in each resample, see `Resamples`.
    """
    workspace = Workspace()
    chunks = (
        pairs.means(pairs.take(ready.estimate(methods, chunk, workspace))) for chunk in counts
    )
    return np.concatenate(list(chunks))


def percentile_interval(draws: Floats, confidence: float) -> Floats:
    """Percentile interval over the first axis, (2, ...); NaN where nothing is defined."""
    undefined = np.isnan(draws).all(axis=0)
    if undefined.all():
        return np.full((2, *draws.shape[1:]), np.nan)
    tail = (1 - confidence) / 2
    interval = np.nanquantile(np.where(undefined, 0.0, draws), [tail, 1 - tail], axis=0)
    return np.where(undefined, np.nan, interval)
