"""What a loaded split is (`ImageSplit`) and what it is before its pixels are read (`Source`)."""

from collections.abc import Callable, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from actiontrack.errors import DataError
from actiontrack.record.digest import digest_input
from projects.params.fields import SplitName

__all__ = ["Ids", "ImageSplit", "Labels", "Source", "SplitName"]

Ids = NDArray[Any]  # int64 or str
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageSplit:
    """Images of one split in memory, with their labels and their stable ids.

    Attributes:
        images: uint8 (N, C, H, W), C = 1 or 3, values 0..255.
        labels: int64 (N,), what the model is trained on, 0..n_classes - 1.
        ids: int64 or str (N,), unique; they never depend on the subset or on the order.
        class_names: One name per class.
        name: Name of the dataset.
        split: ``train`` or ``test``.
        root: Folder of the image files, None for the others.
        paths: N paths relative to `root`, with ``/``; None for images that are not files.
        true_labels: int64 (N,), the labels before noise was added; None without noise.
        soft_labels: float32 (N, n_classes), a distribution over the classes for each image, whose
            maximum is its label; None where the labels are all there is.

    Raises:
        DataError: Parts that do not fit each other, no images, or ids that repeat.
    """

    images: Tensor
    labels: Tensor
    ids: Ids
    class_names: tuple[str, ...]
    name: str
    split: SplitName
    root: str | None = None
    paths: tuple[str, ...] | None = None
    true_labels: Tensor | None = None
    soft_labels: Tensor | None = None

    def __post_init__(self) -> None:
        """Check once that the parts fit each other."""
        self._check_images()
        self._check_lengths()
        self._check_labels()
        self._check_soft_labels()
        if len(np.unique(self.ids)) != len(self.ids):
            raise DataError(f"{self._title}: ids must be unique")

    def _check_images(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            kind = f"{self.images.dtype} {tuple(self.images.shape)}"
            raise DataError(f"{self._title}: images must be uint8 (N, C, H, W), got {kind}")
        if self.images.shape[1] not in (1, 3) or not len(self.images):
            shape = tuple(self.images.shape)
            raise DataError(f"{self._title}: images must have N >= 1 and C = 1 or 3, got {shape}")

    def _check_lengths(self) -> None:
        parts: dict[str, Sized | None] = {"labels": self.labels, "ids": self.ids}
        parts |= {"paths": self.paths, "true_labels": self.true_labels}
        parts |= {"soft_labels": self.soft_labels}
        for part, value in parts.items():
            if value is not None and len(value) != len(self.images):
                count = f"{len(value)} for {len(self.images)} images"
                raise DataError(f"{self._title}: one of {part} per image needed, got {count}")

    def _check_labels(self) -> None:
        for labels in (self.labels, self.true_labels):
            if labels is None:
                continue
            low, high = int(labels.min()), int(labels.max())
            if labels.dtype != torch.int64 or low < 0 or high >= self.n_classes:
                kind = f"{labels.dtype} {low}..{high}"
                rule = f"labels must be int64 0..{self.n_classes - 1}"
                raise DataError(f"{self._title}: {rule}, got {kind}")

    def _check_soft_labels(self) -> None:
        soft = self.soft_labels
        if soft is None:
            return
        if soft.dtype != torch.float32 or soft.shape[1:] != (self.n_classes,):
            kind = f"{soft.dtype} {tuple(soft.shape)}"
            rule = f"soft_labels must be float32 (N, {self.n_classes})"
            raise DataError(f"{self._title}: {rule}, got {kind}")
        if not torch.allclose(soft.sum(1), torch.ones(len(soft))) or bool((soft < 0).any()):
            raise DataError(f"{self._title}: soft_labels must be >= 0 and sum to 1 for each image")
        if not torch.equal(soft.argmax(1), self.labels):
            raise DataError(f"{self._title}: labels must be the most likely of the soft_labels")

    @property
    def _title(self) -> str:
        return f"{self.name} ({self.split})"

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    @cached_property
    def input_digests(self) -> list[str]:
        """Digest of each image, computed once for all that ask; see `digest.digest_input`."""
        return [digest_input(image) for image in self.images.numpy()]

    @property
    def n_classes(self) -> int:
        """Number of classes, those without an image in this split included."""
        return len(self.class_names)

    @property
    def targets(self) -> Tensor:
        """What the loss is taken to: the soft labels where there are some, else the labels."""
        return self.labels if self.soft_labels is None else self.soft_labels

    @property
    def in_channels(self) -> int:
        """Channels of the images, 1 or 3."""
        return self.images.shape[1]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.images.shape[2], self.images.shape[3]

    def with_channels(self, channels: int) -> Self:
        """Return the split with grey images repeated over more channels, if they are fewer."""
        if self.in_channels == channels:
            return self
        return replace(self, images=self.images.repeat(1, channels, 1, 1))

    def take(self, picked: NDArray[np.int64]) -> Self:
        """Return the samples at some positions, int64 (M,), in that order."""
        paths, truth, soft = self.paths, self.true_labels, self.soft_labels
        return replace(
            self,
            images=self.images[picked],
            labels=self.labels[picked],
            ids=self.ids[picked],
            paths=None if paths is None else tuple(paths[row] for row in picked),
            true_labels=None if truth is None else truth[picked],
            soft_labels=None if soft is None else soft[picked],
        )

    def with_noisy_labels(self, labels: Labels) -> Self:
        """Return the split with other labels (int64 (N,)), the present ones kept as the truth."""
        return replace(self, labels=torch.from_numpy(labels), true_labels=self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A split whose pixels are read later, so that a subset reads only its own.

    Attributes:
        ids: int64 or str (N,).
        labels: int64 (N,).
        class_names: One name per class.
        name: Name of the dataset.
        split: ``train`` or ``test``.
        read: Maps positions, int64 (M,), to images, uint8 (M, C, H, W).
        root: Folder of the image files, if they are files; the ids are then their paths.
        soft_labels: float32 (N, n_classes), see `ImageSplit`.
    """

    ids: Ids
    labels: Labels
    class_names: tuple[str, ...]
    name: str
    split: SplitName
    read: Callable[[NDArray[np.int64]], Tensor]
    root: str | None = None
    soft_labels: NDArray[np.float32] | None = None

    def load(self, picked: NDArray[np.int64]) -> ImageSplit:
        """Read the images at some positions, int64 (M,) ascending."""
        ids, soft = self.ids[picked], self.soft_labels
        return ImageSplit(
            images=self.read(picked),
            labels=torch.from_numpy(self.labels[picked]),
            ids=ids,
            class_names=self.class_names,
            name=self.name,
            split=self.split,
            root=self.root,
            paths=None if self.root is None else tuple(map(str, ids)),
            soft_labels=None if soft is None else torch.from_numpy(soft[picked]),
        )
