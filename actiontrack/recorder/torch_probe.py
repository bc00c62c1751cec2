"""Evaluation passes over PyTorch datasets that leave the training as it was, bit for bit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.torch import IndexedDataset

try:
    import torch
    from torch.utils.data import DataLoader, Dataset
    from torch.utils.data.distributed import DistributedSampler
except ImportError as error:  # pragma: no cover - actiontrack.recorder.torch says so first
    raise MissingDependencyError(
        "actiontrack.recorder.torch_probe needs PyTorch: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["evaluating", "indexed_loader"]


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random numbers are then as before.

    Modules that training keeps in evaluation mode, such as frozen batch normalisation, stay so.
    Only the CPU's generator is restored: an evaluation draws none on an accelerator.
    """
    modes = [(each, each.training) for each in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for each, training in modes:
            each.training = training


def indexed_loader(
    data: Any,
    *,
    batch_size: int = 256,
    collate: Callable[[list[Any]], Any] | None = None,
    world_size: int = 1,
    rank: int = 0,
) -> DataLoader[Any]:
    """A loader of (ids, batch) in a fixed order, where batch is as the dataset's own loader's.

    Args:
        data: a map-style dataset, an `IndexedDataset`, or a DataLoader of one of them, from which
            batch size, workers and collation are taken.
        batch_size: for a dataset without a loader.
        collate: function of a list of items. Default: the loader's, or PyTorch's.
        world_size: number of processes that share the work; the last ones may repeat samples.
        rank: of this process.

    Raises:
        ParameterError: if the dataset has no length or can't be indexed.
    """
    given = isinstance(data, DataLoader)
    dataset = data.dataset if given else data
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ParameterError(
            "data",
            "must be a map-style dataset or a DataLoader of one",
            type(dataset).__name__,
            "An iterable has no stable ids: record batches that carry them instead.",
        )
    template = data if given else DataLoader(dataset, batch_size)
    pairs = _Pairs(dataset)
    return DataLoader(
        pairs,
        batch_size=template.batch_size or batch_size,
        sampler=DistributedSampler(pairs, world_size, rank, shuffle=False)
        if world_size > 1
        else None,
        num_workers=template.num_workers,
        collate_fn=_Collate(collate or template.collate_fn),
    )


class _Pairs(Dataset[tuple[Any, Any]]):
    """Items as (id, item), whatever an item is."""

    def __init__(self, dataset: Any) -> None:
        indexed = isinstance(dataset, IndexedDataset)
        self.items: Any = dataset.dataset if indexed else dataset
        self.ids: Any = dataset.ids if indexed else None

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return (index if self.ids is None else self.ids[index]), self.items[index]


class _Collate:
    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, pairs: list[tuple[Any, Any]]) -> tuple[list[Any], Any]:
        return [each for each, _ in pairs], self.collate([item for _, item in pairs])
