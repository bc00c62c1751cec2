"""Losses of torchvision's detectors in a pass that leaves the training as it was, bit for bit.

Each image is computed as if it were alone. Images of one size go through the model together, since
a larger one beside them would give them another canvas. What a Faster R-CNN draws of an image
comes from a seed of the image, the same in every pass.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from actiontrack.errors import MissingDependencyError, RecordingError
from actiontrack.recorder.detector_losses import ImageLosses, per_image, replaced
from actiontrack.recorder.torch_probe import evaluating

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:  # pragma: no cover - actiontrack.recorder.torch says so first
    raise MissingDependencyError(
        "actiontrack.recorder.torchvision needs PyTorch: pip install 'actiontrack[train]'"
    ) from error

__all__ = [
    "Compare",
    "as_lists",
    "ids_of",
    "images_and_targets",
    "losses_alone",
    "on_device",
    "seed_of",
]

#: Sees the images of one forward, and the loss that the model itself computes of them together.
Compare = Callable[[ImageLosses, Tensor], None]


def losses_alone(
    model: nn.Module,
    images: Sequence[Tensor],
    targets: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    compare: Compare | None = None,
) -> ImageLosses:
    """The losses of each image in a batch of its own, with norms and dropout as in evaluation.

    Args:
        model: a detector that `family_of` knows; its modes, weights and statistics are afterwards
            as before, and so are the random numbers of the training.
        images: B images, (3, H, W), on the device of the model.
        targets: of each.
        seeds: of what is drawn of each, see `seed_of`.
        compare: called for each forward.
    """
    parts, order = [], []
    with evaluating(model):
        for rows in _of_one_size(model, images):
            with _computing_losses(model, [seeds[row] for row in rows]), per_image(model) as taken:
                own = model([images[row] for row in rows], [targets[row] for row in rows])
            parts += taken
            order += rows
            if compare is not None:
                compare(taken[0], torch.stack(list(own.values())).sum())
    return ImageLosses.joined(parts, order)


def seed_of(sample_id: Any, seed: int = 0) -> int:
    """The seed of a sample, the same on every machine."""
    text = f"{seed} {sample_id}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=7).digest(), "big")


def _of_one_size(model: Any, images: Sequence[Tensor]) -> list[list[int]]:
    """Positions of images that have the same canvas alone, group by group."""
    if model.transform.fixed_size is not None:
        return [list(range(len(images)))]
    groups: dict[Any, list[int]] = {}
    for row, image in enumerate(images):
        groups.setdefault(tuple(image.shape[-2:]), []).append(row)
    return list(groups.values())


@contextmanager
def _computing_losses(model: Any, seeds: Sequence[int]) -> Iterator[None]:
    """The parts that choose between losses and detections compute losses, all others evaluate."""
    stages = [
        part for part in (getattr(model, "rpn", None), getattr(model, "roi_heads", None)) if part
    ]
    device = next(model.parameters()).device
    with ExitStack() as restored:
        for part in (model, *stages):
            restored.enter_context(replaced(part, "training", value=True))
        for part in stages:
            sampler = _Sampler(part.fg_bg_sampler, seeds, device)
            restored.enter_context(replaced(part, "fg_bg_sampler", sampler))
        yield


class _Sampler:
    """Draws for each image from a seed of its own, whatever images are beside it."""

    def __init__(self, sampler: Any, seeds: Sequence[int], device: torch.device) -> None:
        self._sampler, self._seeds = sampler, seeds
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            index = torch.cuda.current_device() if device.index is None else device.index
            self._generators.append(torch.cuda.default_generators[index])

    def __call__(self, matched: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Masks of the drawn positives and negatives of each image."""
        positive: list[Tensor] = []
        negative: list[Tensor] = []
        for rows, seed in zip(matched, self._seeds, strict=True):
            for generator in self._generators:
                generator.manual_seed(seed)
            drawn = self._sampler([rows])
            positive += drawn[0]
            negative += drawn[1]
        return positive, negative


# ---------------------------------------------------------------- batches


def as_lists(items: Sequence[Any]) -> tuple[Any, ...]:
    """Items (image, target) as a batch: images of any size, and their targets."""
    if not all(isinstance(item, list | tuple) for item in items):
        return tuple(items)  # refused by `images_and_targets`
    return tuple(zip(*items, strict=True))


def images_and_targets(batch: Any) -> tuple[list[Any], list[Mapping[str, Any]]]:
    """The images and targets of a batch.

    Raises:
        RecordingError: if it is none of a detector.
    """
    parts = batch if isinstance(batch, list | tuple) else ()
    sizes = [len(part) if hasattr(part, "__len__") else None for part in parts[:2]]
    if len(sizes) < 2 or sizes[0] is None or sizes[0] != sizes[1]:
        raise RecordingError(
            "batch: no images with a target each. Items must be (image, target), as torchvision's "
            "detectors take them; pass a DataLoader with a collate_fn that makes lists of them."
        )
    images, targets = list(parts[0]), list(parts[1])
    for image in images:
        if not (isinstance(image, Tensor) and image.ndim == 3 and image.is_floating_point()):
            raise RecordingError(
                f"images: {type(image).__name__} is no floating-point tensor (3, H, W). Add "
                "torchvision's transforms ToImage and ToDtype(torch.float32, scale=True)."
            )
    return images, targets


def ids_of(targets: Any, id_key: str) -> Any:
    """The ids of a batch, (batch,), from its targets.

    Raises:
        RecordingError: if a target has none, or something else than one number or text.
    """
    ids: list[Any] = []
    for target in targets:
        if not isinstance(target, Mapping) or id_key not in target:
            has = f"has {', '.join(map(str, target))}" if isinstance(target, Mapping) else "is none"
            raise RecordingError(
                f"targets: no {id_key!r} in a target, which {has}. Add the id of the image to its "
                "target, or pass id_key, its name there. Positions in a batch are no ids."
            )
        value = target[id_key]
        if isinstance(value, Tensor):
            if value.numel() != 1:
                raise RecordingError(
                    f"targets: {id_key!r} has the shape {tuple(value.shape)}, and an image has one "
                    "id. Pass id_key, the name of the ids in the targets."
                )
            value = value.detach().reshape(())
        ids.append(value)
    if ids and all(isinstance(value, Tensor) for value in ids):
        return torch.stack(ids)
    return [value.item() if isinstance(value, Tensor) else value for value in ids]


def on_device(targets: Sequence[Mapping[str, Any]], device: Any) -> list[dict[str, Any]]:
    """Targets with their tensors on a device."""
    return [
        {
            name: value.to(device) if isinstance(value, Tensor) else value
            for name, value in target.items()
        }
        for target in targets
    ]
