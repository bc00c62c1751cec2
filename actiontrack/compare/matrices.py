"""Correlation matrices of many runs in one pass over each: ranks once, products by blocks.

Ranks of all runs are kept in float32 where they are exact there, beside the scores as they came;
what is multiplied is float64, a block of samples at a time. So the memory beside the scores is one
array of their shape, or two where runs are ranked by class too, whatever the number of classes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from actiontrack.compare.sorting import write_ranks, write_ranks_by_class

__all__ = [
    "CONSTANT",
    "Floats",
    "Ints",
    "Method",
    "Products",
    "Scores",
    "block_products",
    "block_width",
    "correlation_matrices",
    "finite_samples",
    "merged",
    "prepared_rows",
    "rank_matrix",
    "ranks_by_class",
]

#: A correlation coefficient.
Method = Literal["spearman", "pearson"]
#: An array of floats.
Floats = NDArray[np.float64]
Scores = NDArray[np.floating]
#: An array of integers.
Ints = NDArray[np.intp]
Products = tuple[Floats, Floats]  # of a block of samples: (R, R) and sums of the rows (R,)
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_BLOCK = 2**20  # elements of a (runs, samples) block: 8 MB of float64
_EXACT = 2**22  # samples up to which float32 holds every centred mid-rank
_THREADED = 2**18  # elements from which several threads rank rows and multiply blocks
_THREADS = 8
CONSTANT = 1e-28  # variance of a row scaled to |x| <= 1 below which it counts as constant


def finite_samples(values: Scores) -> NDArray[np.bool_]:
    """Which samples are finite in every run, (N,), without a mask of all of them."""
    finite = np.ones(values.shape[1], dtype=np.bool_)
    for row in values:
        finite &= np.isfinite(row)
    return finite


def correlation_matrices(
    values: Scores,
    method: Method,
    *,
    columns: Ints | None = None,
    classes: Ints | None = None,
) -> Floats:
    """Correlation of every run with every other over some samples.

    Args:
        values: scores (R, N), any float dtype.
        method: Spearman's ρ with ties at mid-ranks, or Pearson's r.
        columns: positions of the samples that count, (n,). Default: all.
        classes: class of each of them, (n,): what is correlated is then the score minus the mean
            of its class in the same run.

    Returns:
        (R, R) float64, symmetric, in [-1, 1]; NaN in row and column of a run that is constant or
        holds a NaN, and for Pearson's r or with classes of one that holds an infinite score.
    """
    if columns is not None and columns.size <= values.shape[1] // 2:
        values, columns = (
            values.take(columns, axis=1),
            None,
        )  # of a class: a small copy
    n_samples = values.shape[1] if columns is None else columns.size
    if not n_samples:
        return np.full((len(values), len(values)), np.nan)
    if method == "spearman":
        return rank_matrix(_ranks(values, columns, classes))
    rows = _Rows(values, columns, classes)
    return _by_blocks(rows.block, (len(values), n_samples), method)


def rank_matrix(ranks: Scores) -> Floats:
    """The matrix of `correlation_matrices` from centred ranks of one sample or more, (R, n)."""
    return _by_blocks(lambda window: ranks[:, window], ranks.shape, "spearman")


def prepared_rows(
    values: Scores,
    method: Method,
    *,
    columns: Ints | None = None,
    classes: Ints | None = None,
) -> Scores:
    """The rows that are multiplied, each from one run alone: centred ranks, or centred scores.

    `block_products` of the same samples of all runs, `block_width` samples at a time, and `merged`
    in the order of the samples give the matrix of `correlation_matrices`, wherever they are
    computed.

    Args:
        values: scores (R, N) of any number of runs.
        method: as in `correlation_matrices`.
        columns: likewise.
        classes: likewise.

    Returns:
        (R, n), float32 where it is exact, else float64.
    """
    if method == "spearman":
        return _ranks(values, columns, classes)
    rows = _Rows(values, columns, classes)
    prepared = np.empty((len(values), values.shape[1] if columns is None else columns.size))
    for run, row in enumerate(prepared):
        row[:] = rows.residuals(run)
    return prepared


def _ranks(values: Scores, columns: Ints | None, classes: Ints | None) -> Scores:
    """Ranks of each run around 0, (R, n)."""
    rows = None if classes is None else _Rows(values, columns, classes)
    n_samples = values.shape[1] if columns is None else int(columns.size)
    ranks: Scores = np.empty((len(values), n_samples), dtype=_rank_dtype(n_samples))

    def rank(run: int) -> None:
        row = _picked(values, columns, run) if rows is None else rows.residuals(run)
        write_ranks(row, ranks[run], (n_samples + 1) / 2)  # their mean, whatever the ties

    _for_each_row(rank, ranks.shape)
    return ranks


def ranks_by_class(values: Scores, columns: Ints | None, classes: Ints) -> tuple[Scores, Scores]:
    """Ranks of each run around 0: of all samples, and of the samples of each class, (R, n) both.

    Each run is sorted once. They are the ranks that `correlation_matrices` takes of all the
    samples, and of those of one class.

    Args:
        values: scores (R, N).
        columns: as in `correlation_matrices`; the scores there are not NaN.
        classes: class of each of these samples, (n,), from 0.
    """
    shape = len(values), classes.size
    centre = (classes.size + 1) / 2
    sizes = np.bincount(classes)
    codes = classes.astype(np.min_scalar_type(sizes.size))
    overall: Scores = np.empty(shape, dtype=_rank_dtype(classes.size))
    within = np.empty_like(overall)

    def rank(run: int) -> None:
        row = _picked(values, columns, run)
        order = write_ranks(row, overall[run], centre)
        write_ranks_by_class(row, order, codes, sizes, within[run])

    _for_each_row(rank, shape)
    return overall, within


def _rank_dtype(n_samples: int) -> type[np.floating]:
    return np.float32 if n_samples <= _EXACT else np.float64


def _picked(values: Scores, columns: Ints | None, run: int) -> Scores:
    row: Scores = values[run]
    return row if columns is None else row[columns]


class _Rows:
    """Scores of some samples, centred and scaled: all of a run, or blocks of all runs.

    Centred by the mean of all samples, or of those of the same class.
    """

    def __init__(self, values: Scores, columns: Ints | None, classes: Ints | None) -> None:
        self._values, self._columns, self._classes = values, columns, classes
        self._length = values.shape[1] if columns is None else int(columns.size)
        n_classes = 1 if classes is None else int(classes.max(initial=0)) + 1
        self._first = np.zeros(n_classes, dtype=np.intp)  # a sample of each class
        if classes is not None:
            self._first[classes] = np.arange(classes.size)
            self._sizes = np.maximum(np.bincount(classes, minlength=n_classes), 1)
        self._centre = np.empty((len(values), n_classes))
        self._peak = np.ones((len(values), 1))
        _for_each_row(self._measure, (len(values), self._length))

    def residuals(self, run: int) -> Floats:
        """One run, (n,)."""
        row = _picked(self._values, self._columns, run).astype(np.float64)
        with np.errstate(invalid="ignore"):  # inf - inf: NaN, as documented
            row -= self._centre[run, self._class_columns(slice(None))]
            row /= self._peak[run]
        return row

    def block(self, window: slice) -> Floats:
        """All runs, (R, some samples)."""
        columns = window if self._columns is None else self._columns[window]
        block = self._values[:, columns].astype(np.float64)
        with np.errstate(invalid="ignore"):
            block -= self._centre[:, self._class_columns(window)]
            block /= self._peak
        return block

    def _class_columns(self, window: slice) -> Ints | slice:
        """Columns of `_centre` for some samples."""
        return slice(None) if self._classes is None else self._classes[window]

    def _measure(self, run: int) -> None:
        # Relative to a value that occurs, so that what is constant is exactly 0.
        row = _picked(self._values, self._columns, run).astype(np.float64)
        origin = row[self._first]
        with np.errstate(invalid="ignore"):
            if self._classes is None:
                row -= origin
                mean = row.mean(keepdims=True)
            else:
                row -= origin[self._classes]
                mean = np.bincount(self._classes, row, minlength=self._first.size) / self._sizes
            self._centre[run] = origin + mean
            largest = max(row.max(), -row.min())
        if largest > 0:
            self._peak[run] = largest


def _by_blocks(block: Callable[[slice], Scores], shape: tuple[int, int], method: Method) -> Floats:
    """The matrix of all samples from the prepared rows of some, (R, n), asked for in any order."""
    width = block_width(shape[0])
    windows = [slice(start, start + width) for start in range(0, shape[1], width)]
    products = _at_once(lambda window: block_products(block(window)), windows, shape)
    return merged(products, shape[1], method)


def block_width(n_runs: int) -> int:
    """How many samples are multiplied at a time."""
    return max(1, _BLOCK // max(1, n_runs))


def block_products(block: Scores) -> Products:
    """Products of the rows of a block with each other, and their sums.

    Args:
        block: of `prepared_rows`, all runs and some samples (R, n).
    """
    # Of one layout: BLAS rounds products of another in another way.
    rows = np.ascontiguousarray(block, dtype=np.float64)
    return rows @ rows.T, rows.sum(axis=1)


def merged(parts: Iterable[Products], n_samples: int, method: Method) -> Floats:
    """The matrix of `correlation_matrices` from the products of its blocks, in their order.

    Args:
        parts: what `block_products` gives of each block, one at least.
        n_samples: of all of them together.
        method: by which the rows were prepared.
    """
    peak = n_samples / 2 if method == "spearman" else 1.0  # about as large as what was multiplied
    blocks = iter(parts)
    products, sums = (total.copy() for total in next(blocks))
    for more, further in blocks:
        products += more
        sums += further
    covariance = products - np.outer(sums, sums) / n_samples
    variance = np.diagonal(covariance)
    varies = variance > CONSTANT * n_samples * peak**2
    deviation = np.sqrt(np.where(varies, variance, np.nan))
    matrix: Floats = np.clip(covariance / deviation[:, None] / deviation, -1.0, 1.0)
    matrix = (matrix + matrix.T) / 2
    np.fill_diagonal(matrix, np.where(varies, 1.0, np.nan))
    return matrix


def _at_once(
    function: Callable[[_Item], _Result], items: Sequence[_Item], shape: tuple[int, int]
) -> Iterator[_Result]:
    """The results in the order of the items, by several threads where the shape is worth it."""
    if shape[0] * shape[1] < _THREADED or len(items) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        yield from pool.map(function, items)


def _for_each_row(function: Callable[[int], None], shape: tuple[int, int]) -> None:
    for _ in _at_once(function, range(shape[0]), shape):
        pass
