"""Losses of single images out of one training forward of torchvision's detectors.

torchvision computes the losses of a batch. Each of them is

    L = Σ max(1, c_i) L_i / max(1, Σ c_i)

with L_i the loss of image i in a batch of its own, and c_i what that is divided by: a count of the
image's own. For RetinaNet c_i is 1, a plain mean over images. Here L_i and c_i are taken while the
forward runs, by torchvision's own functions on what belongs to one image: there is no second
forward, and the losses and gradients of the batch stay as they are.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from actiontrack.errors import MissingDependencyError, ParameterError

try:
    import torch
    from torch import Tensor, nn
    from torchvision.models.detection.faster_rcnn import FasterRCNN
    from torchvision.models.detection.fcos import FCOS, FCOSHead
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNN
    from torchvision.models.detection.mask_rcnn import MaskRCNN
    from torchvision.models.detection.retinanet import (
        RetinaNet,
        RetinaNetClassificationHead,
        RetinaNetHead,
        RetinaNetRegressionHead,
    )
    from torchvision.models.detection.roi_heads import (
        RoIHeads,
        fastrcnn_loss,
        keypointrcnn_loss,
        keypoints_to_heatmap,
        maskrcnn_loss,
    )
    from torchvision.models.detection.rpn import RegionProposalNetwork
    from torchvision.models.detection.ssd import SSD
except ImportError as error:  # pragma: no cover - actiontrack.recorder.torchvision says so first
    raise MissingDependencyError(
        "actiontrack.recorder.torchvision needs torchvision: pip install 'actiontrack[train]'"
    ) from error

__all__ = [
    "COUNTS",
    "ImageLosses",
    "batch_losses",
    "family_of",
    "per_image",
    "replaced",
    "unwrapped",
]

#: Loss of torchvision's to the count that it is divided by, where the detector has that count.
COUNTS: Mapping[str, str] = {
    "classification": "n_foreground",  # anchor points of FCOS, matched default boxes of SSD
    "bbox_regression": "n_foreground",
    "bbox_ctrness": "n_foreground",
    "loss_objectness": "n_anchors",  # drawn by the sampler of the region proposal network
    "loss_rpn_box_reg": "n_anchors",
    "loss_classifier": "n_proposals",  # drawn by the sampler of the heads
    "loss_box_reg": "n_proposals",
    "loss_mask": "n_masks",  # drawn proposals with an object
    "loss_keypoint": "n_keypoints",  # visible ones inside of drawn proposals
}

_MISSING = object()


@dataclass(frozen=True, eq=False)
class ImageLosses:
    """What one forward says of each of B images.

    Attributes:
        losses: torchvision's name of a loss to (B,), each that of the image in a batch of its own.
        counts: name of a count, see `COUNTS`, to (B,) int64.
    """

    losses: dict[str, Tensor]
    counts: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        """(B,), the loss of each image: the sum of its own."""
        return torch.stack(list(self.losses.values())).sum(dim=0)

    @property
    def components(self) -> dict[str, Tensor]:
        """Losses and counts under their names, (B,) each."""
        return {**self.losses, **self.counts}

    def of_batch(self) -> Tensor:
        """The loss of the batch, rebuilt: the sum of its parts, a scalar."""
        rebuilt = [
            (losses * self._weights(name)).sum() / self._divisor(name)
            for name, losses in self.losses.items()
        ]
        return torch.stack(rebuilt).sum()

    def _weights(self, name: str) -> Tensor:
        count = self.counts.get(COUNTS[name])
        return torch.ones_like(self.losses[name]) if count is None else count.clamp(min=1)

    def _divisor(self, name: str) -> Any:
        count = self.counts.get(COUNTS[name])
        return len(self.losses[name]) if count is None else count.sum().clamp(min=1)

    @classmethod
    def joined(cls, parts: Sequence["ImageLosses"], order: Sequence[int]) -> "ImageLosses":
        """The images of several forwards as one batch.

        Args:
            parts: of each forward.
            order: position in the batch of each image of the parts.
        """
        rows = torch.argsort(torch.tensor(order)).to(next(iter(parts[0].losses.values())).device)
        return cls(
            *(
                {name: torch.cat([part[name] for part in group])[rows] for name in group[0]}
                for group in ([part.losses for part in parts], [part.counts for part in parts])
            )
        )


def batch_losses(components: Mapping[str, Any]) -> dict[str, float]:
    """What torchvision's losses of a batch of recorded images are.

    Args:
        components: name to (n_images,), losses and counts as they are recorded, such as
            ``{name: values[step, rows] for name, values in history.components.items()}``.

    Returns:
        Name to loss. Mean over the images where a loss has no count.
    """
    rebuilt: dict[str, float] = {}
    for name in components.keys() & COUNTS.keys():
        losses = np.asarray(components[name], dtype=np.float64)
        count = np.asarray(components.get(COUNTS[name], np.ones(losses.shape)), dtype=np.float64)
        rebuilt[name] = float(losses @ np.maximum(count, 1) / max(1.0, float(count.sum())))
    return rebuilt


# ---------------------------------------------------------------- which detectors


def unwrapped(model: Any) -> Any:
    """The detector in a wrapper for several processes, or the model itself."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def family_of(model: Any) -> str:
    """What a detector's losses are called: that of "retinanet", say.

    Raises:
        ParameterError: if it is none of torchvision's, or a part of it that computes losses is not.
    """
    for kind, (name, _) in _FAMILIES.items():
        if isinstance(model, kind):
            _check_parts(model)
            return name
    raise ParameterError(
        "model",
        "must be a Faster, Mask or Keypoint R-CNN, RetinaNet, FCOS or SSD of torchvision",
        type(model).__name__,
        "Pass the detector itself, neither compiled nor scripted. Losses of other models are "
        "recorded by Recorder.update.",
    )


def _check_parts(model: Any) -> None:
    """Refuse parts with losses of their own: how these are divided among images is unknown."""
    for part, kind, names in _parts(model):
        own = [name for name in names if getattr(type(part), name, None) is not getattr(kind, name)]
        if own:
            raise ParameterError(
                "model",
                f"must compute its losses by torchvision's {kind.__name__}",
                f"{type(part).__name__} with {own[0]} of its own",
                "How that divides a loss among images is unknown: record by Recorder.update.",
            )


def _parts(model: Any) -> Sequence[tuple[Any, type, tuple[str, ...]]]:
    if isinstance(model, FasterRCNN):
        return (
            (model.rpn, RegionProposalNetwork, ("forward", "compute_loss")),
            (model.roi_heads, RoIHeads, ("forward", "select_training_samples")),
        )
    compute = ("compute_loss",)
    if isinstance(model, SSD):
        return ((model, SSD, compute),)
    if isinstance(model, FCOS):
        return ((model, FCOS, compute), (model.head, FCOSHead, compute))
    head = model.head
    return (
        (model, RetinaNet, compute),
        (head, RetinaNetHead, compute),
        (getattr(head, "classification_head", None), RetinaNetClassificationHead, compute),
        (getattr(head, "regression_head", None), RetinaNetRegressionHead, compute),
    )


# ---------------------------------------------------------------- taking them


@contextmanager
def per_image(model: Any) -> Iterator[list[ImageLosses]]:
    """Take the losses of single images from the forward that runs inside.

    Args:
        model: a detector that `family_of` knows, in training mode.

    Yields:
        An empty list; the forward adds what it says of its images. Nothing stays on the model.
    """
    taken: list[ImageLosses] = []
    parts = ImageLosses({}, {})
    take = next(take for kind, (_, take) in _FAMILIES.items() if isinstance(model, kind))
    with ExitStack() as restored:
        take(model, parts, restored)
        yield taken
    if parts.losses:
        taken.append(parts)


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an object an attribute of its own, which it loses again."""
    attributes = vars(owner)
    before = attributes.get(name, _MISSING)
    attributes[name] = value
    try:
        yield
    finally:
        if before is _MISSING:
            del attributes[name]
        else:
            attributes[name] = before


def _take_single_stage(model: Any, taken: ImageLosses, restored: ExitStack) -> None:
    """RetinaNet, FCOS and SSD: the same function again on what belongs to each image."""
    owner = model if isinstance(model, SSD) else model.head
    compute, counts_foreground = owner.compute_loss, not isinstance(model, RetinaNet)

    def compute_loss(targets: Any, outputs: Any, anchors: Any, matched: Any) -> Any:
        losses = compute(targets, outputs, anchors, matched)
        with torch.no_grad():
            slices = [slice(row, row + 1) for row in range(len(targets))]
            alone = [
                compute(targets[s], {k: v[s] for k, v in outputs.items()}, anchors[s], matched[s])
                for s in slices
            ]
            taken.losses.update(
                {name: torch.stack([part[name] for part in alone]) for name in losses}
            )
            if counts_foreground:
                taken.counts["n_foreground"] = torch.stack([(rows >= 0).sum() for rows in matched])
        return losses

    restored.enter_context(replaced(owner, "compute_loss", compute_loss))


def _take_two_stages(model: Any, taken: ImageLosses, restored: ExitStack) -> None:
    """Faster, Mask and Keypoint R-CNN."""
    _take_anchors(model.rpn, taken, restored)
    heads, chosen = model.roi_heads, _Chosen()
    select = heads.select_training_samples

    def select_training_samples(proposals: Any, targets: Any) -> Any:
        samples = select(proposals, targets)
        chosen.keep(samples, targets)
        return samples

    restored.enter_context(replaced(heads, "select_training_samples", select_training_samples))
    predictors = (
        (heads.box_predictor, chosen.of_boxes),
        (heads.mask_predictor if heads.has_mask() else None, chosen.of_masks),
        (heads.keypoint_predictor if heads.has_keypoint() else None, chosen.of_keypoints),
    )
    for predictor, losses_of in predictors:
        if predictor is not None:
            hook = predictor.register_forward_hook(partial(_after_predictor, taken, losses_of))
            restored.callback(hook.remove)


def _after_predictor(
    taken: ImageLosses, losses_of: Callable[[Any], "_Counted"], _: Any, __: Any, outputs: Any
) -> None:
    with torch.no_grad():
        losses_of(outputs).put(taken)


def _take_anchors(rpn: Any, taken: ImageLosses, restored: ExitStack) -> None:
    """The region proposal network: its own loss again with the anchors that it has drawn."""
    sampler, compute = rpn.fg_bg_sampler, rpn.compute_loss
    drawn: list[Any] = []

    def draw(labels: Any) -> Any:
        drawn[:] = sampler(labels)
        return tuple(drawn)

    def compute_loss(objectness: Any, offsets: Any, labels: Any, encoded: Any) -> Any:
        losses = compute(objectness, offsets, labels, encoded)
        sizes = [len(rows) for rows in labels]
        parts = zip(
            objectness.split(sizes), offsets.split(sizes), labels, encoded, *drawn, strict=True
        )
        counted = _Counted(("loss_objectness", "loss_rpn_box_reg"), "n_anchors")
        with torch.no_grad():
            for logits, deltas, label, target, positive, negative in parts:
                again = partial(_again, ([positive], [negative]))
                with replaced(rpn, "fg_bg_sampler", again):
                    alone = compute(logits, deltas, [label], [target])
                counted.add(alone, (positive | negative).sum())
            counted.put(taken)
        return losses

    restored.enter_context(replaced(rpn, "fg_bg_sampler", draw))
    restored.enter_context(replaced(rpn, "compute_loss", compute_loss))


def _again(drawn: Any, labels: Any) -> Any:
    """What a sampler has drawn before."""
    del labels
    return drawn


@dataclass
class _Counted:
    """Losses of single images that are means over something that is counted."""

    names: tuple[str, ...]
    count: str
    losses: list[tuple[Tensor, ...]] = field(default_factory=list)
    counts: list[Tensor] = field(default_factory=list)

    def add(self, losses: tuple[Tensor, ...], count: Any) -> None:
        """Keep those of the next image."""
        self.losses.append(losses)
        self.counts.append(torch.as_tensor(count, device=losses[0].device))

    def put(self, taken: ImageLosses) -> None:
        """Hand them over: 0 for an image of which nothing is counted, not 0 / 0."""
        count = torch.stack(self.counts)
        for name, values in zip(self.names, zip(*self.losses, strict=True), strict=True):
            taken.losses[name] = torch.where(count > 0, torch.stack(values), 0)
        taken.counts[self.count] = count


class _Chosen:
    """The proposals that the heads have drawn of each image, and the losses that they bring."""

    def keep(self, samples: Any, targets: Any) -> None:
        """Keep what `RoIHeads.select_training_samples` has returned."""
        self.proposals, self.matched, self.labels, self.encoded = samples
        self.targets = targets
        self.with_object = [torch.where(labels > 0)[0] for labels in self.labels]

    def of_boxes(self, outputs: Any) -> _Counted:
        """Classification and box regression of all proposals."""
        counted = _Counted(("loss_classifier", "loss_box_reg"), "n_proposals")
        sizes = [len(labels) for labels in self.labels]
        parts = zip(
            *(part.split(sizes) for part in outputs), self.labels, self.encoded, strict=True
        )
        for logits, offsets, labels, encoded in parts:
            counted.add(fastrcnn_loss(logits, offsets, [labels], [encoded]), len(labels))
        return counted

    def of_masks(self, outputs: Any) -> _Counted:
        """Masks of the proposals with an object."""
        counted = _Counted(("loss_mask",), "n_masks")
        for target, logits, proposals, matched in self._objects(outputs):
            masks, labels = [target["masks"]], [target["labels"]]
            loss = maskrcnn_loss(logits, [proposals], masks, labels, [matched])
            counted.add((loss,), len(matched))
        return counted

    def of_keypoints(self, outputs: Any) -> _Counted:
        """Keypoints of the proposals with an object: visible ones, inside of the proposal."""
        counted = _Counted(("loss_keypoint",), "n_keypoints")
        for target, logits, proposals, matched in self._objects(outputs):
            keypoints = target["keypoints"]
            loss = keypointrcnn_loss(logits, [proposals], [keypoints], [matched])
            _, valid = keypoints_to_heatmap(keypoints[matched], proposals, logits.shape[-1])
            counted.add((loss,), valid.sum())
        return counted

    def _objects(self, outputs: Tensor) -> Iterator[tuple[Any, Tensor, Tensor, Tensor]]:
        """Target, outputs, proposals and matched objects of each image."""
        parts = torch.split(outputs, [len(rows) for rows in self.with_object])
        for image, rows in enumerate(self.with_object):
            yield (
                self.targets[image],
                parts[image],
                self.proposals[image][rows],
                self.matched[image][rows],
            )


#: Detector to the name of its loss and to what takes it; a class before those that it is made of.
_FAMILIES: Mapping[type, tuple[str, Callable[[Any, ImageLosses, ExitStack], None]]] = {
    KeypointRCNN: ("keypoint_rcnn", _take_two_stages),
    MaskRCNN: ("mask_rcnn", _take_two_stages),
    FasterRCNN: ("faster_rcnn", _take_two_stages),
    RetinaNet: ("retinanet", _take_single_stage),
    FCOS: ("fcos", _take_single_stage),
    SSD: ("ssd", _take_single_stage),
}
