"""A Dask cluster: scores are read where its workers are, and compared there.

The only module that speaks to Dask, which comes with the extra ``dask``. What is computed is the
code of `matrices` and `compare`, in parts that are merged in one order whatever finishes first: the
numbers are those of one process, bit for bit where all run the same NumPy on the same kind of
processor. Scores never come back to the client: masks, matrices and intervals do.

Workers read the artifact store themselves, so they need what a reader needs: the tracking server or
the artifacts' folder, and credentials in their own environment. None are sent.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import getitem
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from actiontrack import compare
from actiontrack.analysis.cluster.connection import (
    check_versions,
    cluster_errors,
    gather_results,
    n_chunks,
    n_tasks,
    on_worker,
    scattered,
)
from actiontrack.compare import Method, Pairs, PartSamples, Resamples
from actiontrack.compare.matrices import (
    Floats,
    Ints,
    Products,
    Scores,
    block_products,
    block_width,
    merged,
    prepared_rows,
)
from actiontrack.store import StoredRecord

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = [
    "ClusterScores",
    "Read",
]

#: Reads rows of the scores of one run.
Read = Callable[[StoredRecord], Floats]
_GROUP = 2**25  # scores of the runs that one task reads at most: 256 MB
_SLAB = 2**23  # numbers that one task multiplies at most: 64 MB


class ClusterScores(compare.ScoreSource):
    """One score of several runs, in the memory of a cluster's workers.

    Args:
        client: of the cluster, which must stay open.
        records: one per run, in the order of the rows.
        read: what a worker calls to read the scores of a record, (n_samples,) float64.
        positions: of the samples that count in each record. Default: all.
        n_samples: how many count.

    Raises:
        StoreError: if the cluster has no worker, or one of another version of this package.
        ParameterError: if the client is asynchronous.
    """

    def __init__(
        self,
        client: "Client",
        records: Sequence[StoredRecord],
        read: Read,
        *,
        positions: Sequence[Ints] | None,
        n_samples: int,
    ) -> None:
        self.n_runs, self.n_samples = len(records), n_samples
        self._client = client
        with cluster_errors(client):
            check_versions(client)
            wanted = max(n_tasks(client), -(-self.n_runs * n_samples // _GROUP))
            self._groups = n_chunks(range(self.n_runs), wanted)
            self._rows = [
                self._submit(
                    _read_rows,
                    [records[run] for run in group],
                    read,
                    None if positions is None else [positions[run] for run in group],
                )
                for group in self._groups
            ]

    def finite(self) -> npt.NDArray[np.bool_]:
        """Which samples are finite in every run, (N,)."""
        with cluster_errors(self._client):
            parts = [self._submit(compare.finite_columns, rows) for rows in self._rows]
            mask: npt.NDArray[np.bool_] = self._result(self._submit(_all, parts))
            return mask

    def matrices(self, parts: Sequence[PartSamples], methods: Sequence[Method]) -> Floats:
        """Correlation matrices (M, K, R, R), see `compare.ScoreSource`."""
        shape = (len(methods), len(parts), self.n_runs, self.n_runs)
        result = np.full(shape, np.nan)
        with cluster_errors(self._client):
            for batch in _batches(parts, self.n_samples):
                here = [parts[k] for k in batch]
                sent = self._sent(here)
                for m, method in enumerate(methods):
                    result[m, batch] = self._of_batch(here, sent, method)
        return result

    def resampled(
        self,
        parts: Sequence[PartSamples],
        methods: Sequence[Method],
        pairs: Pairs,
        resamples: Resamples,
    ) -> Floats:
        """Group means of every resample, see `compare.ScoreSource`.

        Every worker holds the scores of all runs for it, as one process would.
        """
        with cluster_errors(self._client):
            ready = self._submit(_to_resample, self._rows, self._sent(parts))
            workers = sorted(self._client.nthreads())
            shares = resamples.split(n_tasks(self._client))
            futures = [
                self._submit(
                    _resampled,
                    ready,
                    methods,
                    pairs,
                    share,
                    workers=[workers[number % len(workers)]],  # not all where the scores are
                    allow_other_workers=True,
                )
                for number, share in enumerate(shares)
            ]
            return np.concatenate(gather_results(self._client, futures))

    def tails(
        self,
        keep: npt.NDArray[np.bool_],
        pairs: Pairs,
        quantiles: Sequence[float],
        methods: Sequence[Method],
    ) -> Floats:
        """Correlations above quantiles, (P, Q, 1 + M), see `compare.ScoreSource`."""
        result = np.full((pairs.run_a.size, len(quantiles), 1 + len(methods)), np.nan)
        group_of = np.repeat(np.arange(len(self._groups)), [len(group) for group in self._groups])
        first, second = group_of[pairs.run_a], group_of[pairs.run_b]
        with cluster_errors(self._client):
            kept = self._sent(keep)
            places, futures = [], []
            for one, other in sorted(set(zip(first.tolist(), second.tolist(), strict=True))):
                here = np.flatnonzero((first == one) & (second == other))
                shift = 0 if one == other else len(self._groups[one])
                futures.append(
                    self._submit(
                        _tails,
                        [self._rows[group] for group in dict.fromkeys((one, other))],
                        kept,
                        pairs.run_a[here] - self._groups[one][0],
                        pairs.run_b[here] - self._groups[other][0] + shift,
                        quantiles=quantiles,
                        methods=methods,
                    )
                )
                places.append(here)
            for here, part in zip(places, gather_results(self._client, futures), strict=True):
                result[here] = part
        return result

    def _of_batch(
        self, parts: Sequence[PartSamples], sent: "Future[Any]", method: Method
    ) -> Floats:
        """Matrices of some parts, (K, R, R): rows by group of runs, products by slab of samples."""
        width = block_width(self.n_runs)
        sizes = [part.n_samples for part in parts]
        slabs = _slabs(sizes, width, self.n_runs)
        if not slabs:
            return np.full((len(parts), self.n_runs, self.n_runs), np.nan)
        prepared = [self._submit(_prepared, rows, sent, method, slabs) for rows in self._rows]
        products = [
            self._submit(
                _products, [self._submit(getitem, pieces, slab) for pieces in prepared], width
            )
            for slab in range(len(slabs))
        ]
        matrices: Floats = self._result(
            self._submit(_merged, products, slabs, sizes, method, n_runs=self.n_runs)
        )
        return matrices

    def _submit(
        self, function: Callable[..., Any], *arguments: Any, **options: Any
    ) -> "Future[Any]":
        future: Future[Any] = self._client.submit(function, *arguments, pure=False, **options)
        return future

    def _sent(self, value: Any) -> "Future[Any]":
        """A value in the memory of every worker."""
        return scattered(self._client, value)

    def _result(self, future: "Future[Any]") -> Any:
        return gather_results(self._client, [future])[0]


@dataclass(frozen=True)
class _Piece:
    """Some samples of a part: its number in the batch, and from where to where."""

    part: int
    start: int
    stop: int


def _batches(parts: Sequence[PartSamples], n_samples: int) -> Iterator[list[int]]:
    """Numbers of the parts that are computed at once: about as many samples as there are."""
    batch: list[int] = []
    size = 0
    for number, part in enumerate(parts):
        if batch and size + part.n_samples > n_samples:
            yield batch
            batch, size = [], 0
        batch.append(number)
        size += part.n_samples
    yield batch


def _slabs(sizes: Sequence[int], width: int, n_runs: int) -> list[list[_Piece]]:
    """Pieces of parts, of whole blocks, so that each list is some work and not too much of it."""
    room = max(width, _SLAB // n_runs // width * width)
    slabs: list[list[_Piece]] = []
    left = 0
    for part, size in enumerate(sizes):
        start = 0
        while start < size >= compare.MIN_SAMPLES:
            if left < min(width, size - start):
                slabs.append([])
                left = room
            stop = min(size, start + max(width, left // width * width))
            slabs[-1].append(_Piece(part, start, stop))
            left -= stop - start
            start = stop
    return slabs


def _read_rows(
    records: Sequence[StoredRecord], read: Read, positions: Sequence[Ints] | None
) -> Floats:
    """Scores of some runs, (R, N)."""
    rows = []
    for number, record in enumerate(records):
        with on_worker(record):
            row = read(record)
        rows.append(row if positions is None else row[positions[number]])
    return np.stack(rows)


def _all(masks: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.logical_and.reduce(masks))


def _prepared(
    rows: Scores, parts: Sequence[PartSamples], method: Method, slabs: Sequence[Sequence[_Piece]]
) -> list[list[Scores]]:
    """What is multiplied of some runs: for each slab its pieces."""
    ready = {
        number: prepared_rows(rows, method, columns=part.columns, classes=part.classes)
        for number, part in enumerate(parts)
        if part.n_samples >= compare.MIN_SAMPLES
    }
    return [[ready[piece.part][:, piece.start : piece.stop] for piece in slab] for slab in slabs]


def _products(groups: Sequence[Sequence[Scores]], width: int) -> list[list[Products]]:
    """Products of each block of each piece of a slab, from the pieces of all groups of runs."""
    products = []
    for piece in zip(*groups, strict=True):
        rows = np.vstack(piece)
        starts = range(0, rows.shape[1], width)
        products.append([block_products(rows[:, start : start + width]) for start in starts])
    return products


def _merged(
    products: Sequence[list[list[Products]]],
    slabs: Sequence[Sequence[_Piece]],
    sizes: Sequence[int],
    method: Method,
    *,
    n_runs: int,
) -> Floats:
    """Matrices of a batch of parts, each from its blocks in the order of the samples."""
    blocks: list[list[Products]] = [[] for _ in sizes]
    for slab, products_of_slab in zip(slabs, products, strict=True):
        for piece, products_of_piece in zip(slab, products_of_slab, strict=True):
            blocks[piece.part] += products_of_piece
    missing = np.full((n_runs, n_runs), np.nan)
    return np.stack(
        [
            merged(blocks_of_part, size, method) if blocks_of_part else missing
            for blocks_of_part, size in zip(blocks, sizes, strict=True)
        ]
    )


def _to_resample(groups: Sequence[Scores], parts: Sequence[PartSamples]) -> Any:
    return compare.to_resample(np.vstack(groups), parts)


def _resampled(ready: Any, methods: Sequence[Method], pairs: Pairs, share: Any) -> Floats:
    return compare.resampled(ready, methods, pairs, share.counts())


def _tails(
    groups: Sequence[Floats],
    keep: npt.NDArray[np.bool_],
    run_a: Ints,
    run_b: Ints,
    *,
    quantiles: Sequence[float],
    methods: Sequence[Method],
) -> Floats:
    return compare.tails(np.vstack(groups)[:, keep], run_a, run_b, quantiles, methods)
