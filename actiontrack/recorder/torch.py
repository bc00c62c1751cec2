"""PyTorch: datasets whose batches carry ids, and recording from several processes."""

from collections.abc import Sequence
from typing import Any, TypeVar

from actiontrack.errors import MissingDependencyError, ParameterError

try:
    import torch.distributed as dist
    from torch.utils.data import Dataset
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.torch needs PyTorch: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["IndexedDataset", "gather"]

_Part = TypeVar("_Part")


class IndexedDataset(Dataset[tuple[Any, ...]]):
    """A dataset whose items are (id, *item), so that ids travel with their batches.

    Args:
        dataset: a map-style dataset.
        ids: one stable id per item. Default: the item's index.

    Raises:
        ParameterError: if the number of ids is not that of the items.
    """

    def __init__(self, dataset: Any, ids: Sequence[int] | Sequence[str] | None = None) -> None:
        if ids is not None and len(ids) != len(dataset):
            raise ParameterError(
                "ids", f"must have length {len(dataset)}", len(ids), "Pass one id per item."
            )
        self.dataset, self.ids = dataset, ids

    def __len__(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        """The id and the item."""
        item = self.dataset[index]
        parts = item if isinstance(item, tuple) else (item,)
        return (index if self.ids is None else self.ids[index], *parts)


def gather(columns: _Part) -> list[_Part] | None:
    """Columns of every process of the default group on rank 0, None on the other ranks.

    Pass it as ``Recorder(gather=gather)`` on every rank. Outside a process group it is the
    identity, so that the same script runs on one process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [columns]
    parts: list[Any] | None = [None] * dist.get_world_size() if dist.get_rank() == 0 else None
    dist.gather_object(columns, parts, dst=0)
    return parts
