"""Evaluation passes over PyTorch datasets that leave the training as it was, bit for bit."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from actiontrack.errors import (
    ActionTrackError,
    MissingDependencyError,
    ParameterError,
    RecordingError,
)
from actiontrack.recorder.torch_sampling import (
    Samples,
    samples_of,
    unchanged_randomness,
    visits_of,
)

try:
    import torch
    from torch.utils.data import DataLoader, Dataset
except ImportError as error:  # pragma: no cover - actiontrack.recorder.torch says so first
    raise MissingDependencyError(
        "actiontrack.recorder.torch_probe needs PyTorch: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["evaluating", "first_batch", "indexed_loader", "tried"]


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random numbers are then as before.

    Modules that training keeps in evaluation mode, such as frozen batch normalisation, stay so.
    The generators restored are those of Python, NumPy, PyTorch's CPU and the module's own GPU.
    """
    modes = [(part, part.training) for part in module.modules()]
    parameter = next(module.parameters(), None)
    module.eval()
    try:
        with (
            torch.no_grad(),
            unchanged_randomness(None if parameter is None else parameter.device),
        ):
            yield
    finally:
        for part, training in modes:
            part.training = training


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
        data: a map-style dataset, an `IndexedDataset`, or a DataLoader of one of them. A loader's
            own samples are visited, see `visits_of`, with its batch size, workers and collation.
        batch_size: for a dataset without a loader.
        collate: function of a list of items. Default: the loader's, or PyTorch's.
        world_size: number of processes that share the work; the last ones may repeat samples.
        rank: of this process.

    Raises:
        ParameterError: if the dataset has no length or can't be indexed, the loader has no fixed
            samples, or an id is repeated.
    """
    visits = visits_of(data)
    template = data if isinstance(data, DataLoader) else DataLoader(visits.dataset, batch_size)
    samples = samples_of(visits.dataset)
    _check_unique(samples, visits.indices)
    sampling: dict[str, Any]
    if visits.batches is None:
        sampling = {
            "sampler": _share(visits.indices, world_size, rank),
            "batch_size": template.batch_size or batch_size,
        }
    else:
        sampling = {"batch_sampler": _share(visits.batches, world_size, rank)}
    return DataLoader(
        _Pairs(samples, len(visits.dataset)),
        collate_fn=_Collate(collate or _collation(template)),
        **_workers(template, template.num_workers),
        **sampling,
    )


def first_batch(loader: DataLoader[Any]) -> tuple[list[Any], Any] | None:
    """The first (ids, batch) of an indexed loader, or None if it has none."""
    positions = next(iter(loader.batch_sampler or ()), None)
    if positions is None:
        return None
    small = DataLoader(
        loader.dataset,
        batch_sampler=[positions],
        collate_fn=loader.collate_fn,
        **_workers(loader, min(1, loader.num_workers)),
    )
    ids, batch = next(iter(small))
    return ids, batch


@contextmanager
def tried(what: str) -> Iterator[None]:
    """Say of any error that the first batch can't be evaluated; training has not begun.

    Raises:
        RecordingError: in place of errors that are not this package's own.
    """
    try:
        yield
    except ActionTrackError:
        raise
    except Exception as error:
        raise RecordingError(
            f"{what}: the model can't be evaluated on the first batch, and training has not begun. "
            f"{type(error).__name__}: {error}"
        ) from error


def _share(visits: Sequence[Any], world_size: int, rank: int) -> Sequence[Any]:
    """Every world_size-th visit; the last processes begin anew, so that all have as many."""
    if world_size == 1 or not len(visits):
        return visits
    n_visits = -(-len(visits) // world_size)
    return [visits[(rank + turn * world_size) % len(visits)] for turn in range(n_visits)]


def _workers(template: DataLoader[Any], n_workers: int) -> dict[str, Any]:
    """How items are loaded: in as many processes, prepared in the same way."""
    if not n_workers:
        return {}
    return {
        "num_workers": n_workers,
        "worker_init_fn": template.worker_init_fn,
        "multiprocessing_context": template.multiprocessing_context,
        "prefetch_factor": template.prefetch_factor,
        "timeout": template.timeout,
    }


def _collation(template: DataLoader[Any]) -> Callable[[list[Any]], Any]:
    """The loader's own collation; without automatic batching PyTorch's default makes batches."""
    if template.batch_sampler is None and template.collate_fn is torch.utils.data.default_convert:
        return torch.utils.data.default_collate
    return template.collate_fn


def _check_unique(samples: Samples, indices: Sequence[int]) -> None:
    if samples.ids is None:
        return
    ids, counts = np.unique(samples.ids[np.asarray(indices, dtype=np.intp)], return_counts=True)
    if (counts > 1).any():
        raise ParameterError(
            "ids",
            "must be those of one sample each",
            f"{int((counts > 1).sum())} repeated ones, the first {ids[counts > 1][0]!s}",
            "Give each sample of the record its own id.",
        )


class _Pairs(Dataset[tuple[Any, Any]]):
    """Items as (id, item), whatever an item is."""

    def __init__(self, samples: Samples, n_items: int) -> None:
        self.samples, self.n_items = samples, n_items

    def __len__(self) -> int:
        return self.n_items

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.samples[index]


class _Collate:
    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, pairs: list[tuple[Any, Any]]) -> tuple[list[Any], Any]:
        return [sample_id for sample_id, _ in pairs], self.collate([item for _, item in pairs])
