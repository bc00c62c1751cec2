"""A connection to a Dask cluster: opened, checked, and used with errors in plain words."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from actiontrack._version import __version__
from actiontrack.errors import (
    ActionTrackError,
    MissingDependencyError,
    ParameterError,
    StoreError,
    reason_of,
)
from actiontrack.record.paths import MANIFEST
from actiontrack.store import StoredRecord

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = [
    "check_versions",
    "cluster_errors",
    "connect",
    "each_on_cluster",
    "gather_results",
    "n_chunks",
    "n_tasks",
    "on_worker",
    "scattered",
]

_TIMEOUT = "10s"
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
        raise StoreError(
            f"the Dask scheduler {address} does not answer: {reason_of(error)}. "
            "Start it with 'dask scheduler', or correct its address."
        ) from error
    return client


def _knock(distributed: Any, address: str) -> None:
    """Try a plain connection first: a Dask client that can't connect takes 20 seconds to close."""

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
    with cluster_errors(client):
        check_versions(client)
        sent = scattered(client, list(records))
        futures = [
            client.submit(_each, function, chunk, sent, *shared, pure=False)
            for chunk in n_chunks(items, n_tasks(client))
        ]
        return [answer for chunk in gather_results(client, futures) for answer in chunk]


def n_chunks(items: Sequence[Any], n: int) -> list[Sequence[Any]]:
    """At most n contiguous chunks of about one size, none of them empty."""
    n = max(1, min(n, len(items)))
    edges = [len(items) * number // n for number in range(n + 1)]
    return [items[start:stop] for start, stop in pairwise(edges) if stop > start]


def n_tasks(client: "Client") -> int:
    """Into how many tasks work is cut: a few for every thread of the cluster."""
    threads: int = sum(client.nthreads().values())
    return _TASKS * max(1, threads)


def _each(
    function: Callable[..., Any],
    items: Sequence[Any],
    records: Sequence[StoredRecord],
    *shared: Any,
) -> list[Any]:
    with on_worker(*records):
        return [function(item, records, *shared) for item in items]


@contextmanager
def on_worker(*records: StoredRecord) -> Iterator[None]:
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
        if record.fetch(MANIFEST).is_file():
            return None
    except ActionTrackError as error:
        return str(error)
    return f"there is nothing at {record.run.artifact_uri}."


def _distributed() -> Any:
    try:
        import distributed  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise MissingDependencyError(
            "comparing on a cluster needs Dask. Install it with: pip install 'actiontrack[dask]'"
        ) from error
    return distributed


def check_versions(client: "Client") -> None:
    """Refuse an asynchronous client, and workers whose actiontrack differs from ours."""
    if client.asynchronous:
        raise ParameterError(
            "client", "must not be asynchronous", repr(client), "Make it without asynchronous=True."
        )

    # By value: a function that goes by its name can't say that the name is unknown over there.
    def of_worker() -> str:
        from actiontrack._version import __version__  # noqa: PLC0415

        return __version__

    versions = client.run(of_worker)
    if not versions:
        raise StoreError(
            f"the Dask cluster {_address(client)} has no worker. Start one with 'dask worker'."
        )
    for worker, version in sorted(versions.items()):
        if version != __version__:
            raise StoreError(
                f"the Dask worker {worker} has actiontrack {version}, this process {__version__}. "
                "Install the same version on both."
            )


def scattered(client: "Client", value: Any) -> "Future[Any]":
    """Send one value to all workers."""
    # In a list, or Dask would send the items of a list or mapping one by one.
    future: Future[Any] = client.scatter([value], broadcast=True, hash=False)[0]
    return future


def gather_results(client: "Client", futures: Sequence["Future[Any]"]) -> list[Any]:
    """Results of futures, in their order."""
    results: list[Any] = client.gather(list(futures))
    return results


@contextmanager
def cluster_errors(client: "Client") -> Iterator[None]:
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
        raise StoreError(
            f"the Dask cluster {_address(client)} failed: {reason_of(error)}. Its workers' logs "
            "tell more; give them more memory if they were killed for it."
        ) from error


def _address(client: "Client") -> str:
    return str(client.scheduler.address if client.scheduler else "(closed)")
