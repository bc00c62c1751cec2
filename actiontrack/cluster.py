"""A Dask cluster: scores are read where its workers are, and compared there.

The only module that speaks to Dask, which comes with the extra ``dask``. What is computed is the
code of `matrices` and `compare`, in parts that are merged in one order whatever finishes first: the
numbers are those of one process, bit for bit where all run the same NumPy on the same kind of
processor. Scores never come back to the client: masks, matrices and intervals do.

Workers read the artifact store themselves, so they need what a reader needs: the tracking server or
the artifacts' folder, and credentials in their own environment. None are sent.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from operator import getitem
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from actiontrack import __version__, artifact, compare
from actiontrack.compare import Method, Pairs, PartSamples, Resamples
from actiontrack.errors import (
    ActionTrackError,
    MissingDependencyError,
    ParameterError,
    StoreError,
)
from actiontrack.matrices import Products, block_products, block_width, merged, prepared_rows
from actiontrack.store import StoredRecord

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["ClusterScores", "connect", "each_on_cluster"]

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.floating]
Positions = npt.NDArray[np.intp]
Read = Callable[[StoredRecord], Floats]

_TIMEOUT = "10s"
_GROUP = 2**25  # scores of the runs that one task reads at most: 256 MB
_SLAB = 2**23  # numbers that one task multiplies at most: 64 MB
_TASKS = 4  # of one kind for each thread of the cluster: where some are slow, others go on


def connect(address: str) -> "Client":
    """A client of a running cluster.

    Args:
        address: of its scheduler, such as "tcp://10.0.0.1:8786".

    Raises:
        MissingDependencyError: if Dask is not installed.
        StoreError: if the scheduler does not answer within ten seconds.
    """
    distributed = _distributed()
    try:
        _knock(distributed, address)
        client: Client = distributed.Client(address, timeout=_TIMEOUT, set_as_default=False)
    # A timeout, an address that is none, and TLS without a certificate in Dask's configuration.
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise StoreError(
            f"the Dask scheduler {address} does not answer: {reason}. "
            "Start it with 'dask scheduler', or correct its address."
        ) from error
    return client


def _knock(distributed: Any, address: str) -> None:
    """Open a connection and close it: a client that fails to is not rid of before 20 seconds."""

    async def knock() -> None:
        security = distributed.security.Security()
        options = security.get_connection_args("client")
        (await distributed.core.connect(address, timeout=_TIMEOUT, **options)).abort()

    runner = distributed.utils.LoopRunner()
    runner.start()
    try:
        runner.run_sync(knock)
    finally:
        runner.stop()


def each_on_cluster(
    client: "Client",
    function: Callable[..., Any],
    items: Sequence[Any],
    records: Sequence[StoredRecord],
    *shared: Any,
) -> list[Any]:
    """Apply a function to items on the workers, which read what it needs of some records.

    Args:
        client: of the cluster.
        function: called with an item, the records and what is shared.
        items: in the order of the answers; neighbours go to one worker.
        records: sent to every worker once, without their files.
        shared: further arguments, the same for all items.

    Returns:
        The answers, in the order of the items.

    Raises:
        ParameterError: if the client is asynchronous.
        StoreError: if a worker can't read the records, or the cluster fails.
    """
    with _cluster(client):
        _check(client)
        sent = _scattered(client, list(records))
        futures = [
            client.submit(_each, function, chunk, sent, *shared, pure=False)
            for chunk in _chunks(items, _n_tasks(client))
        ]
        return [answer for chunk in _gathered(client, futures) for answer in chunk]


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
        positions: Sequence[Positions] | None,
        n_samples: int,
    ) -> None:
        self.n_runs, self.n_samples = len(records), n_samples
        self._client = client
        with _cluster(client):
            _check(client)
            wanted = max(_n_tasks(client), -(-self.n_runs * n_samples // _GROUP))
            self._groups = _chunks(range(self.n_runs), wanted)
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
        with _cluster(self._client):
            parts = [self._submit(compare.finite_columns, rows) for rows in self._rows]
            mask: npt.NDArray[np.bool_] = self._result(self._submit(_all, parts))
            return mask

    def matrices(self, parts: Sequence[PartSamples], methods: Sequence[Method]) -> Floats:
        """Correlation matrices (M, K, R, R), see `compare.ScoreSource`."""
        shape = (len(methods), len(parts), self.n_runs, self.n_runs)
        result = np.full(shape, np.nan)
        with _cluster(self._client):
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
        with _cluster(self._client):
            ready = self._submit(_to_resample, self._rows, self._sent(parts))
            workers = sorted(self._client.nthreads())
            shares = resamples.split(_n_tasks(self._client))
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
            return np.concatenate(_gathered(self._client, futures))

    def tails(
        self,
        keep: npt.NDArray[np.bool_],
        pairs: Pairs,
        quantiles: Sequence[float],
        methods: Sequence[Method],
    ) -> Floats:
        """Correlations above quantiles, (P, Q, 1 + M), see `compare.ScoreSource`."""
        result = np.full((pairs.run_a.size, len(quantiles), 1 + len(methods)), np.nan)
        group_of = np.repeat(np.arange(len(self._groups)), [len(each) for each in self._groups])
        first, second = group_of[pairs.run_a], group_of[pairs.run_b]
        with _cluster(self._client):
            kept = self._sent(keep)
            places, futures = [], []
            for one, other in sorted(set(zip(first.tolist(), second.tolist(), strict=True))):
                here = np.flatnonzero((first == one) & (second == other))
                shift = 0 if one == other else len(self._groups[one])
                futures.append(
                    self._submit(
                        _tails,
                        [self._rows[each] for each in dict.fromkeys((one, other))],
                        kept,
                        pairs.run_a[here] - self._groups[one][0],
                        pairs.run_b[here] - self._groups[other][0] + shift,
                        quantiles=quantiles,
                        methods=methods,
                    )
                )
                places.append(here)
            for here, found in zip(places, _gathered(self._client, futures), strict=True):
                result[here] = found
        return result

    def _of_batch(
        self, parts: Sequence[PartSamples], sent: "Future[Any]", method: Method
    ) -> Floats:
        """Matrices of some parts, (K, R, R): rows by group of runs, products by slab of samples."""
        width = block_width(self.n_runs)
        slabs = _slabs([each.n_samples for each in parts], width, self.n_runs)
        if not slabs:
            return np.full((len(parts), self.n_runs, self.n_runs), np.nan)
        rows = [self._submit(_prepared, each, sent, method, slabs) for each in self._rows]
        products = [
            self._submit(_products, [self._submit(getitem, each, number) for each in rows], width)
            for number in range(len(slabs))
        ]
        sizes = [each.n_samples for each in parts]
        found = self._submit(_merged, products, slabs, sizes, method, n_runs=self.n_runs)
        matrices: Floats = self._result(found)
        return matrices

    def _submit(
        self, function: Callable[..., Any], *arguments: Any, **options: Any
    ) -> "Future[Any]":
        future: Future[Any] = self._client.submit(function, *arguments, pure=False, **options)
        return future

    def _sent(self, value: Any) -> "Future[Any]":
        """A value in the memory of every worker."""
        return _scattered(self._client, value)

    def _result(self, future: "Future[Any]") -> Any:
        return _gathered(self._client, [future])[0]


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


def _chunks(items: Sequence[Any], n: int) -> list[Sequence[Any]]:
    """At most n contiguous chunks of about one size, none of them empty."""
    n = max(1, min(n, len(items)))
    edges = [len(items) * each // n for each in range(n + 1)]
    return [items[start:stop] for start, stop in pairwise(edges) if stop > start]


def _n_tasks(client: "Client") -> int:
    threads: int = sum(client.nthreads().values())
    return _TASKS * max(1, threads)


# ---------------------------------------------------------------- what workers run


def _each(
    function: Callable[..., Any],
    items: Sequence[Any],
    records: Sequence[StoredRecord],
    *shared: Any,
) -> list[Any]:
    with _on_worker(*records):
        return [function(item, records, *shared) for item in items]


def _read_rows(
    records: Sequence[StoredRecord], read: Read, positions: Sequence[Positions] | None
) -> Floats:
    """Scores of some runs, (R, N)."""
    rows = []
    for number, record in enumerate(records):
        with _on_worker(record):
            row = read(record)
        rows.append(row if positions is None else row[positions[number]])
    return np.stack(rows)


def _all(masks: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    return np.asarray(np.logical_and.reduce(masks))


def _prepared(
    rows: Rows, parts: Sequence[PartSamples], method: Method, slabs: Sequence[Sequence[_Piece]]
) -> list[list[Rows]]:
    """What is multiplied of some runs: for each slab its pieces."""
    ready = {
        number: prepared_rows(rows, method, columns=part.columns, classes=part.classes)
        for number, part in enumerate(parts)
        if part.n_samples >= compare.MIN_SAMPLES
    }
    return [[ready[each.part][:, each.start : each.stop] for each in slab] for slab in slabs]


def _products(groups: Sequence[Sequence[Rows]], width: int) -> list[list[Products]]:
    """Products of each block of each piece of a slab, from the pieces of all groups of runs."""
    found = []
    for piece in zip(*groups, strict=True):
        rows = np.vstack(piece)
        starts = range(0, rows.shape[1], width)
        found.append([block_products(rows[:, at : at + width]) for at in starts])
    return found


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
    for slab, found in zip(slabs, products, strict=True):
        for piece, each in zip(slab, found, strict=True):
            blocks[piece.part] += each
    missing = np.full((n_runs, n_runs), np.nan)
    return np.stack(
        [
            merged(each, size, method) if each else missing
            for each, size in zip(blocks, sizes, strict=True)
        ]
    )


def _to_resample(groups: Sequence[Rows], parts: Sequence[PartSamples]) -> Any:
    return compare.to_resample(np.vstack(groups), parts)


def _resampled(ready: Any, methods: Sequence[Method], pairs: Pairs, share: Any) -> Floats:
    return compare.resampled(ready, methods, pairs, share.counts())


def _tails(
    groups: Sequence[Floats],
    keep: npt.NDArray[np.bool_],
    run_a: Positions,
    run_b: Positions,
    *,
    quantiles: Sequence[float],
    methods: Sequence[Method],
) -> Floats:
    return compare.tails(np.vstack(groups)[:, keep], run_a, run_b, quantiles, methods)


@contextmanager
def _on_worker(*records: StoredRecord) -> Iterator[None]:
    """Say which worker can't reach the artifacts of a run that the client can reach."""
    try:
        yield
    except ActionTrackError as error:
        for record in records:
            reason = _unreachable(record)
            if reason is not None:
                raise StoreError(_without_way(record, reason)) from error
        raise  # it is not the way that is wrong


def _without_way(record: StoredRecord, reason: str) -> str:
    from distributed import get_worker  # noqa: PLC0415

    return (
        f"the Dask worker {get_worker().address} can't read record {record.name} of run "
        f"{record.run.run_id} ({record.run.name}): {reason} Give workers the same way to the "
        "artifacts as this process: the mounted folder, or the server and its credentials in "
        "their environment."
    )


def _unreachable(record: StoredRecord) -> str | None:
    """Why this process can't fetch the manifest of a record, None if it can."""
    try:
        if record.fetch(artifact.MANIFEST).is_file():
            return None
    except ActionTrackError as error:
        return str(error)
    return f"there is nothing at {record.run.artifact_uri}."


# ---------------------------------------------------------------- the cluster


def _distributed() -> Any:
    try:
        import distributed  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise MissingDependencyError(
            "comparing on a cluster needs Dask. Install it with: pip install 'actiontrack[dask]'"
        ) from error
    return distributed


def _check(client: "Client") -> None:
    if client.asynchronous:
        raise ParameterError(
            "client", "must not be asynchronous", repr(client), "Make it without asynchronous=True."
        )

    # By value: a function that goes by its name can't say that the name is unknown over there.
    def of_worker() -> str:
        from actiontrack import __version__  # noqa: PLC0415

        return __version__

    found = client.run(of_worker)
    if not found:
        raise StoreError(
            f"the Dask cluster {_address(client)} has no worker. Start one with 'dask worker'."
        )
    for worker, version in sorted(found.items()):
        if version != __version__:
            raise StoreError(
                f"the Dask worker {worker} has actiontrack {version}, this process {__version__}. "
                "Install the same version on both."
            )


def _scattered(client: "Client", value: Any) -> "Future[Any]":
    # In a list, or Dask would send the items of a list or mapping one by one.
    future: Future[Any] = client.scatter([value], broadcast=True, hash=False)[0]
    return future


def _gathered(client: "Client", futures: Sequence["Future[Any]"]) -> list[Any]:
    found: list[Any] = client.gather(list(futures))
    return found


@contextmanager
def _cluster(client: "Client") -> Iterator[None]:
    """Errors of the cluster as ours; those of our own code on workers are ours already."""
    from concurrent.futures import CancelledError  # noqa: PLC0415

    distributed = _distributed()
    try:
        yield
    except ActionTrackError:
        raise
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"a worker of the Dask cluster {_address(client)} lacks {error.name}. Install the same "
            "packages on workers as here: pip install 'actiontrack[dask]'"
        ) from error
    except (distributed.scheduler.KilledWorker, CancelledError, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        raise StoreError(
            f"the Dask cluster {_address(client)} failed: {reason}. Its workers' logs tell more; "
            "give them more memory if they were killed for it."
        ) from error


def _address(client: "Client") -> str:
    return str(client.scheduler.address if client.scheduler else "(closed)")
