"""Batches of normalised images from a split in memory, each sample with its id."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, Self

import torch
from torch import Tensor

from actiontrack.errors import ParameterError
from projects.datasets.split import Ids
from projects.distributed import ALONE, Group

__all__ = ["Augment", "Batch", "Normalisation", "Split", "batches", "flip_and_crop"]

Augment = Literal["none", "flip_crop", "flip_shift"]
_SHIFTS: dict[str, dict[str, Any]] = {
    "flip_crop": {},
    "flip_shift": {"divisor": 16, "padding": "reflect"},
}
Batch = tuple[Ids, Tensor, Tensor]


class Split(Protocol):
    """What batches need of a split: uint8 images (N, C, H, W), a target and an id for each."""

    @property
    def images(self) -> Tensor:
        """Images, uint8 (N, C, H, W)."""

    @property
    def targets(self) -> Tensor:
        """What the loss is taken to, (N, …)."""

    @property
    def ids(self) -> Ids:
        """Stable ids, (N,)."""

    def __len__(self) -> int:
        """Count the images."""


@dataclass(frozen=True, eq=False)
class Normalisation:
    """Mean and standard deviation per channel, of pixel values scaled to 0..1.

    Attributes:
        mean: float32 (C,).
        std: float32 (C,), above 0.
    """

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, train: Split) -> Self:
        """Measure the training split, exactly and without a float copy of its images.

        Args:
            train: The split; its 256 possible pixel values are counted per channel.

        Returns:
            Mean and (population) standard deviation; a constant channel gets 1 / 255, one grey
            level, so that it can be divided by.
        """
        levels = torch.arange(256, dtype=torch.float64) / 255
        channels = train.images.transpose(0, 1).flatten(1)  # (C, N * H * W)
        counts = torch.stack([torch.bincount(c, minlength=256) for c in channels]).cpu()
        weights = counts.double() / counts.sum(1, keepdim=True)  # (C, 256)
        mean = weights @ levels
        var = (weights * (levels - mean[:, None]) ** 2).sum(1)
        return cls(mean.float(), var.sqrt().clamp(min=1 / 255).float())

    def apply(self, images: Tensor) -> Tensor:
        """Scale images: uint8 (B, C, H, W) to float32 of the same shape and device."""
        scale = (1 / (255 * self.std)).to(images.device)[:, None, None]
        shift = (self.mean / self.std).to(images.device)[:, None, None]
        return images.float() * scale - shift


def _padding(images: Tensor, divisor: int) -> int:
    """A part of the shorter side, at least 1 pixel."""
    return max(1, round(min(images.shape[2:]) / divisor))


def _random(high: int, count: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randint(high, (count, 1), generator=generator).to(device)


def flip_and_crop(
    images: Tensor, generator: torch.Generator, *, divisor: int = 8, padding: str = "constant"
) -> Tensor:
    """Shift each image at random and mirror every other one, the whole batch at once.

    Images are padded, by default with zeros (the mean colour once normalised), 4 pixels a side at
    32x32 and in proportion at other sizes, cropped at a random place and, with probability 1/2,
    mirrored left to right (He et al. 2016). Mirrored digits or letters are other signs: choose
    this for photographs.

    Args:
        images: float (B, C, H, W).
        generator: On the CPU, so that a seed gives the same crops on every device.
        divisor: How many times the shift at most goes into the shorter side.
        padding: Mode of `torch.nn.functional.pad`, such as ``reflect``.

    Returns:
        float (B, C, H, W) in channels_last memory.
    """
    count, _, height, width = images.shape
    pad, device = _padding(images, divisor), images.device
    padded = torch.nn.functional.pad(images, (pad, pad, pad, pad), mode=padding)
    top, left = (_random(2 * pad + 1, count, generator, device) for _ in range(2))
    mirror = _random(2, count, generator, device).bool()
    rows = top + torch.arange(height, device=device)  # (B, H)
    columns = torch.arange(width, device=device)
    columns = left + torch.where(mirror, columns.flip(0), columns)  # (B, W)
    sample = torch.arange(count, device=device)[:, None, None]
    # Index arrays around a slice put the slice last: (B, H, W, C), which is channels_last.
    return padded[sample, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _check(*, batch_size: int, generator: torch.Generator | None, random: bool) -> None:
    if batch_size < 1:
        rule = "must be an integer >= 1"
        raise ParameterError("batch_size", rule, batch_size, "Pass for example 128.")
    if random and (generator is None or generator.device.type != "cpu"):
        rule = "must be a torch.Generator on the CPU to shuffle or augment"
        remedy = "Pass torch.Generator().manual_seed(seed)."
        raise ParameterError("generator", rule, generator, remedy)


def _order(split: Split, *, shuffle: bool, generator: torch.Generator | None) -> Tensor:
    if shuffle:
        return torch.randperm(len(split), generator=generator)
    return torch.arange(len(split))


def batches(
    split: Split,
    *,
    batch_size: int,
    normalisation: Normalisation,
    shuffle: bool = False,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
    augment: Augment = "none",
    group: Group = ALONE,
) -> Iterator[Batch]:
    """Go through a split once; every sample comes exactly once, the last batch may be smaller.

    Args:
        split: Images in memory.
        batch_size: Images per batch.
        normalisation: Of the training split, also for the test split.
        shuffle: In random order instead of the split's.
        generator: On the CPU; needed to shuffle or augment, advanced by doing so.
        device: Where the images, which travel as uint8, and the targets go.
        augment: ``flip_crop`` applies `flip_and_crop` to the normalised images; ``flip_shift``
            too, with half the shift, into the mirrored edge.
        group: Processes that share each batch, see `Group.share`.

    Returns:
        An iterator of ids, array (B,); images, float32 (B, C, H, W) in channels_last memory; and
        targets of the loss: labels, int64 (B,), or soft labels, float32 (B, n_classes), where the
        split has some.

    Raises:
        ParameterError: A batch size below 1 or a generator that is missing or not on the CPU;
            raised by the call itself.
    """
    _check(batch_size=batch_size, generator=generator, random=shuffle or augment != "none")
    order = _order(split, shuffle=shuffle, generator=generator)

    def load(index: Tensor) -> Batch:
        images = normalisation.apply(split.images[index].to(device))
        if augment != "none" and generator is not None:
            images = flip_and_crop(images, generator, **_SHIFTS[augment])
        images = images.contiguous(memory_format=torch.channels_last)
        return split.ids[index.numpy()], images, split.targets[index].to(device)

    return map(load, group.share(order, batch_size))
