"""timm: ids that pass through its loaders, which drop whatever is no image and no target.

::

    loader = create_loader(IndexedTargets(dataset), …)              # 1
    for ids, images, labels in with_ids(loader):                    # 2
        recorder.update(ids, logits=model(images), labels=labels)   # 3

The target of an item is the pair of its label and its row: timm's collation keeps pairs of numbers
as they are, its prefetcher too. Nothing of timm is imported here.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from actiontrack.errors import MissingDependencyError, ParameterError, RecordingError

try:
    import torch
    from torch import Tensor
    from torch.utils.data import Dataset
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.timm needs PyTorch: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["IndexedTargets", "with_ids"]


class IndexedTargets(Dataset[tuple[Any, Tensor]]):
    """A dataset whose targets are (label, row), for `timm.data.create_loader`.

    An image that can't be read is an error: timm would put the next one in its place.

    Args:
        dataset: map-style, with items (image, label) and the attribute `transform`, which timm
            sets, such as `timm.data.ImageDataset`.
        ids: one stable id per item. Default: the item's index.

    Raises:
        ParameterError: if the number of ids is not that of the items.
    """

    def __init__(self, dataset: Any, ids: Sequence[int] | Sequence[str] | None = None) -> None:
        if ids is not None and len(ids) != len(dataset):
            rule = f"must have length {len(dataset)}"
            raise ParameterError("ids", rule, len(ids), "Pass one id per item.")
        self.dataset, self.ids = dataset, ids
        if hasattr(dataset, "_max_retries"):
            dataset._max_retries = 1  # noqa: SLF001 - how many rows are tried for one

    @property
    def transform(self) -> Any:
        """What makes the input of a model of an image; that of the dataset."""
        return self.dataset.transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        self.dataset.transform = transform

    def __len__(self) -> int:
        """Number of items."""
        return len(self.dataset)

    def __getitem__(self, row: int) -> tuple[Any, Tensor]:
        """The image, and its label beside its row."""
        image, label, *_ = self.dataset[row]
        return image, torch.tensor([int(label), row])

    def ids_of(self, rows: Tensor) -> Tensor | list[int] | list[str]:
        """The ids of some rows."""
        if self.ids is None:
            return rows
        return [self.ids[row] for row in rows.tolist()]


def with_ids(loader: Any) -> Iterator[tuple[Any, Any, Tensor]]:
    """The batches of one epoch of a loader as (ids, images, labels).

    Args:
        loader: of `timm.data.create_loader`, with the prefetcher or without, of a dataset that is
            an `IndexedTargets`.

    Raises:
        ParameterError: if the dataset is none.
        RecordingError: if the loader mixes images.
    """
    if hasattr(getattr(loader, "loader", loader).collate_fn, "mixup_enabled"):
        raise RecordingError(
            "loader: mixup and cutmix make one image of two, so a loss belongs to neither. Train "
            "with them as they are, and record an evaluation pass over a loader without them."
        )
    dataset = loader.dataset
    while not isinstance(dataset, IndexedTargets):
        if not hasattr(dataset, "dataset"):
            rule = "must be made of an IndexedTargets, as timm drops ids"
            remedy = "create_loader(IndexedTargets(dataset), …)"
            raise ParameterError("loader", rule, type(dataset).__name__, remedy)
        dataset = dataset.dataset
    return _with_ids(loader, dataset)


def _with_ids(loader: Any, dataset: IndexedTargets) -> Iterator[tuple[Any, Any, Tensor]]:
    for images, targets in loader:
        labels, rows = targets.unbind(dim=1)
        yield dataset.ids_of(rows), images, labels
