"""Which samples a PyTorch loader visits, and what their ids are, without loading any of them.

An evaluation pass visits what the loader visits that it was given: of a sampler those samples that
it picks, of a batch sampler its batches. Ids that an `IndexedDataset` gives are found below
`Subset` and `ConcatDataset` too, and never reach the model.
"""

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.recorder.arrays import canonical_ids
from actiontrack.recorder.randomness import unchanged_python_and_numpy
from actiontrack.recorder.torch import IndexedDataset

try:
    import torch
    from torch.utils.data import (
        BatchSampler,
        ConcatDataset,
        DataLoader,
        Dataset,
        DistributedSampler,
        RandomSampler,
        SequentialSampler,
        Subset,
        SubsetRandomSampler,
        WeightedRandomSampler,
    )
except ImportError as error:  # pragma: no cover - actiontrack.recorder.torch says so first
    raise MissingDependencyError(
        "actiontrack.recorder.torch_sampling needs PyTorch: pip install 'actiontrack[train]'"
    ) from error

__all__ = [
    "Samples",
    "Visits",
    "are_positions",
    "same_samples",
    "samples_of",
    "unchanged_randomness",
    "visits_of",
]


@dataclass(frozen=True)
class Visits:
    """The samples that a loader visits in one pass.

    Attributes:
        dataset: of the loader.
        indices: positions in the dataset, each once.
        batches: the same positions by batch, where the loader has batches of its own making.
    """

    dataset: Any
    indices: Sequence[int]
    batches: Sequence[Sequence[int]] | None = None


def visits_of(data: Any) -> Visits:
    """What is visited of a map-style dataset, all of it, or by a DataLoader.

    A loader that shuffles visits the same samples in each pass. Where it draws with replacement, or
    fewer than there are, the samples are those that it may draw. Samplers that are unknown are
    iterated over twice, as copies: a training that uses them goes on as if they had not been.

    Raises:
        ParameterError: if the dataset has no length or can't be indexed, or if the sampler visits
            other samples in each pass.
    """
    dataset: Any = data.dataset if isinstance(data, DataLoader) else data
    _check_map_style(dataset)
    if not isinstance(data, DataLoader):
        return Visits(dataset, range(len(dataset)))
    if data.batch_sampler is None:
        return _of_batches(dataset, data.sampler)
    if type(data.batch_sampler) is not BatchSampler:
        return _of_batches(dataset, data.batch_sampler)
    indices, shuffles = _indices(data.batch_sampler.sampler, dataset)
    if data.batch_sampler.drop_last and not shuffles:
        indices = indices[: len(indices) - len(indices) % data.batch_sampler.batch_size]
    return Visits(dataset, _each_once(indices))


def _check_map_style(dataset: Any) -> None:
    if isinstance(dataset, list | tuple) and any(isinstance(part, DataLoader) for part in dataset):
        raise ParameterError(
            "data",
            "must be one DataLoader: a record holds the samples of one",
            f"{len(dataset)} loaders",
            "Pass one callback per loader, each with a split of its own.",
        )
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise ParameterError(
            "data",
            "must be a map-style dataset or a DataLoader of one",
            type(dataset).__name__,
            "An iterable has no stable ids: record batches that carry them instead.",
        )


def _indices(sampler: Any, dataset: Any) -> tuple[Sequence[int], bool]:
    """Positions that a sampler may visit, and whether their order differs between passes."""
    if isinstance(sampler, DistributedSampler):  # its share; the passes of all processes are one
        wrapped = getattr(sampler.dataset, "_sampler", None)  # Lightning's, around another sampler
        if wrapped is not None:
            return _indices(wrapped, dataset)[0], True
        return range(len(sampler.dataset)), True  # type: ignore[arg-type]
    kind = type(sampler)  # a subclass may do anything
    if kind in {SequentialSampler, RandomSampler}:
        return range(len(sampler.data_source)), kind is RandomSampler
    if kind is SubsetRandomSampler:
        return [int(index) for index in sampler.indices], True
    if kind is WeightedRandomSampler:
        return torch.nonzero(sampler.weights, as_tuple=True)[0].tolist(), True
    first, second = _two_passes(sampler, dataset, lambda index: _position(index, sampler))
    return first, first != second


def _of_batches(dataset: Any, sampler: Any) -> Visits:
    """The batches of a sampler of batches, without the samples that an earlier one brings."""
    first, _ = _two_passes(sampler, dataset, lambda batch: _batch(batch, sampler))
    before: set[int] = set()
    batches: list[list[int]] = []
    for positions in first:
        fresh = [index for index in _each_once(positions) if index not in before]
        before.update(fresh)
        batches += [fresh] if fresh else []
    return Visits(dataset, list(chain.from_iterable(batches)), batches)


def _batch(batch: Any, sampler: Any) -> list[int]:
    if not isinstance(batch, list | tuple):
        raise ParameterError(
            "data",
            "must be a DataLoader that makes batches of single samples",
            "batch_size=None",
            "Pass the dataset of single samples, or a loader with a batch_size.",
        )
    return [_position(index, sampler) for index in batch]


def _two_passes(
    sampler: Any, dataset: Any, read: Callable[[Any], Any]
) -> tuple[list[Any], list[Any]]:
    """What a copy of a sampler gives in two passes over the same samples.

    Raises:
        ParameterError: if it can't be copied, doesn't end, or visits other samples each time.
    """
    remedy = "Pass the dataset, or a Subset of the samples to record."
    try:
        twin = copy.deepcopy(sampler, {id(dataset): dataset})
    except (TypeError, RuntimeError, NotImplementedError) as error:
        rule = "must have a sampler that can be copied, to see what it visits"
        raise ParameterError("data", rule, type(sampler).__name__, remedy) from error
    limit = len(sampler) if hasattr(sampler, "__len__") else 10 * len(dataset) + 1
    with unchanged_randomness():
        first, second = ([read(visit) for visit in islice(iter(twin), limit)] for _ in range(2))
    endless = not hasattr(sampler, "__len__") and len(first) == limit
    if endless or _flat(first) != _flat(second):
        rule = "must have a sampler that visits the same samples in each pass"
        raise ParameterError("data", rule, type(sampler).__name__, remedy)
    return first, second


def _flat(visits: Sequence[Any]) -> set[int]:
    return set(chain.from_iterable(part if isinstance(part, list) else [part] for part in visits))


def _position(index: Any, sampler: Any) -> int:
    try:
        return operator.index(index)
    except TypeError:
        raise ParameterError(
            "data",
            "must have a sampler that gives positions in the dataset",
            f"{index!r} from {type(sampler).__name__}",
            "Pass the dataset, or a Subset of the samples to record.",
        ) from None


def _each_once(indices: Sequence[int]) -> Sequence[int]:
    return indices if isinstance(indices, range) else list(dict.fromkeys(indices))


@contextmanager
def unchanged_randomness(device: torch.device | None = None) -> Iterator[None]:
    """Random states of Python, NumPy and PyTorch are afterwards as before.

    Args:
        device: an accelerator whose generator is restored beside that of the CPU.
    """
    cuda = [device] if device is not None and device.type == "cuda" else []
    with unchanged_python_and_numpy(), torch.random.fork_rng(devices=cuda):
        yield


# ---------------------------------------------------------------- items and ids


@dataclass(frozen=True)
class Samples:
    """Items of a dataset without their ids, and the ids.

    Attributes:
        items: a map-style dataset.
        ids: (n_items,) int64 or str, or None where the positions are the ids.
        carried: whether the first part of an item is its id.
    """

    items: Any
    ids: npt.NDArray[Any] | None = None
    carried: bool = False

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """The id and the item."""
        item = self.items[index]
        if self.carried:
            return item[0], item[1:]
        return (index if self.ids is None else self.ids[index]), item


def samples_of(dataset: Any) -> Samples:
    """Items and ids of a dataset; those of an `IndexedDataset` are found below others.

    Raises:
        ParameterError: if ids are neither integers nor strings, or if only some parts of a
            `ConcatDataset` have ids.
    """
    if isinstance(dataset, IndexedDataset):
        ids = range(len(dataset)) if dataset.ids is None else dataset.ids
        return Samples(_without_ids(samples_of(dataset.dataset)), canonical_ids(ids))
    if type(dataset) is Subset:
        return _of_subset(dataset)
    if type(dataset) is ConcatDataset:
        return _of_parts(dataset)
    return Samples(dataset, carried=_carries_ids(dataset))


def _of_subset(dataset: Any) -> Samples:
    inner = samples_of(dataset.dataset)
    if inner.carried:
        return Samples(dataset, carried=True)
    if inner.ids is None:
        return Samples(dataset)
    positions = np.asarray(dataset.indices, dtype=np.intp)
    return Samples(Subset(inner.items, dataset.indices), inner.ids[positions])


def _of_parts(dataset: Any) -> Samples:
    parts = [samples_of(part) for part in dataset.datasets]
    if all(part.ids is None and not part.carried for part in parts):
        return Samples(dataset)
    if all(part.carried for part in parts):
        return Samples(dataset, carried=True)
    if any(part.ids is None for part in parts):
        raise ParameterError(
            "data",
            "must have ids in every part of a ConcatDataset, or in none",
            [type(part).__name__ for part in dataset.datasets],
            "Wrap the whole: IndexedDataset(ConcatDataset(…), ids).",
        )
    ids = canonical_ids([sample for part in parts if part.ids is not None for sample in part.ids])
    return Samples(ConcatDataset([part.items for part in parts]), ids)


class _Rest(Dataset[Any]):
    """Items without the id that they begin with."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index][1:]


def _without_ids(samples: Samples) -> Any:
    return _Rest(samples.items) if samples.carried else samples.items


def _carries_ids(dataset: Any) -> bool:
    """Whether a wrapper of an `IndexedDataset` passes the ids on, as its first item shows."""
    below, depth = getattr(dataset, "dataset", None), 0
    while below is not None and not isinstance(below, IndexedDataset) and depth < 10:
        below, depth = getattr(below, "dataset", None), depth + 1
    if not isinstance(below, IndexedDataset) or not len(dataset):
        return False
    with unchanged_randomness():
        item = dataset[0]
    if not isinstance(item, tuple) or len(item) < 2:
        return False
    if not isinstance(item[0], int | np.integer | str):
        return False
    return item[0] in (range(len(below)) if below.ids is None else below.ids)


def are_positions(data: Any) -> bool:
    """Whether the ids of a dataset, or of that of a loader, are positions in it."""
    samples = samples_of(visits_of(data).dataset)
    return samples.ids is None and not samples.carried


def same_samples(one: Visits, other: Visits) -> bool:
    """Whether two loaders visit the same items of the same dataset, in whatever order."""
    (root, positions), (other_root, others) = (_rooted(visits) for visits in (one, other))
    return root is other_root and np.array_equal(np.sort(positions), np.sort(others))


def _rooted(visits: Visits) -> tuple[Any, npt.NDArray[np.intp]]:
    """The dataset below all subsets, and the positions in it."""
    dataset, positions = visits.dataset, np.asarray(visits.indices, dtype=np.intp)
    while isinstance(dataset, IndexedDataset) or type(dataset) is Subset:
        if not isinstance(dataset, IndexedDataset):
            positions = np.asarray(dataset.indices, dtype=np.intp)[positions]
        dataset = dataset.dataset
    return dataset, positions
