"""What a criterion of Ultralytics makes of single images and objects, out of its own one call.

A detector's item of a batch is ``gain · Σ Nᵢ / max(1, Σ sᵢ)``, with the unnormalised part Nᵢ and
the sum of target scores sᵢ of each image; of masks sᵢ is the number of assigned anchors. An image
alone has ``gain · Nᵢ / max(1, sᵢ)``. With sᵢ beside it, the item of any batch is rebuilt from its
images. No model is called twice: hooks on the modules of the criterion see what it assigns
and sums up. Formulas are those of the papers; nothing here is imported from Ultralytics.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from actiontrack.errors import RecordingError

__all__ = [
    "BatchLosses",
    "Listened",
    "Listener",
    "ObjectLosses",
    "check_criterion",
    "listen",
    "stop_listening",
]

_NO_SCORE = 1e-12  # a sum of target scores that is as good as none
_EPSILON = 1e-7  # of Ultralytics' intersection over union
_SCORES, _ANCHORS = "target_scores", "assigned_anchors"
_PARTS = ("assigner", "bce", "bbox_loss", "hyp", "use_dfl", "class_weights")
_NAMES = frozenset({"box_loss", "cls_loss", "dfl_loss", "l1_loss", "seg_loss", "sem_loss"})


@dataclass(frozen=True)
class ObjectLosses:
    """Losses of the objects of a batch, by image and by the number of the object in it.

    Attributes:
        losses: name -> (batch, most_objects), with the gains of the training: means over the
            anchors of the object, those of its box weighted by their target scores, as in training.
        target_scores: (batch, most_objects), the sum of these for each object.
        n_anchors: (batch, most_objects), anchors that the object was assigned: without any it has
            no loss.
    """

    losses: Mapping[str, Tensor]
    target_scores: Tensor
    n_anchors: Tensor


@dataclass(frozen=True)
class BatchLosses:
    """Losses of the images of one batch, each as Ultralytics has it for a batch of this image.

    Attributes:
        losses: name -> (batch,), with the gains of the training.
        sums: name -> (batch,), "target_scores" and, with masks, "assigned_anchors".
        divided_by: name of a loss -> name of the sum that, raised to 1, it is divided by. A batch's
            item of the others is the plain mean.
        objects: of detectors.
        logits: (batch, n_classes), of classifiers.
    """

    losses: Mapping[str, Tensor]
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    divided_by: Mapping[str, str] = field(default_factory=dict)
    objects: ObjectLosses | None = None
    logits: Tensor | None = None

    def items(self) -> dict[str, Tensor]:
        """What the criterion says of the whole batch, rebuilt from its images: name -> 0-d."""
        rebuilt = {}
        for name, losses in self.losses.items():
            if name in self.divided_by:
                sums = self.sums[self.divided_by[name]]
                rebuilt[name] = (losses * sums.clamp(min=1)).sum() / sums.sum().clamp(min=1)
            else:
                rebuilt[name] = losses.mean()
        return rebuilt


#: Gets the batch of the trainer and its losses.
Listener = Callable[[Mapping[str, Any], BatchLosses], None]


def listen(model: Any, listener: Listener, make: "Callable[[Any], Listened] | None" = None) -> None:
    """Let a listener have the losses of each batch that the criterion of a model is called with.

    Args:
        model: of Ultralytics, not wrapped in another one. Its criterion is made if there is none.
        listener: see `Listener`.
        make: makes what is put in the place of a criterion. Default: `Listened`.

    Raises:
        RecordingError: if the criterion is of an unknown kind.
    """
    if getattr(model, "criterion", None) is None:
        model.criterion = model.init_criterion()
    if not isinstance(model.criterion, Listened):
        check_criterion(model.criterion)
        model.criterion = (make or Listened)(model.criterion)
    if listener not in model.criterion.listeners:
        model.criterion.listeners.append(listener)


def stop_listening(model: Any, listener: Listener) -> None:
    """Undo `listen`: after the last listener the criterion is the one that it was before."""
    criterion = getattr(model, "criterion", None)
    if isinstance(criterion, Listened) and listener in criterion.listeners:
        criterion.listeners.remove(listener)
        if not criterion.listeners:
            model.criterion = criterion.criterion


def check_criterion(criterion: Any) -> None:
    """Refuse criteria whose losses are not known how to be split.

    Raises:
        RecordingError: names the criterion.
    """
    if _is_classifier(criterion):
        return
    leaf = _leaf(criterion)
    names = set(getattr(leaf, "loss_names", [""]))
    if not names <= _NAMES or not all(hasattr(leaf, part) for part in _PARTS):
        raise RecordingError(
            f"the losses of {type(leaf).__name__} can't be told apart by image. Recorded are "
            "those of detection, segmentation and classification by YOLO models."
        )


class Listened:
    """A criterion whose calls are listened to; all else is that of the criterion.

    A copy is one of the criterion alone, so that checkpoints know nothing of listeners.
    """

    def __init__(self, criterion: Any) -> None:
        self.criterion = criterion
        self.listeners: list[Listener] = []

    def __getattr__(self, name: str) -> Any:
        """What the criterion has."""
        if name.startswith("__") or "criterion" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.criterion, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """A copy of the criterion alone."""
        return copy.deepcopy(self.criterion, memo)

    def __reduce__(self) -> Any:
        """The criterion alone."""
        return _itself, (self.criterion,)

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> Any:
        """The criterion's own result."""
        if _is_classifier(self.criterion):
            outcome = self.criterion(preds, batch)
            losses = _of_classifier(preds, batch)
        else:
            taps = _Taps(_leaf(self.criterion))
            with taps.attached():
                outcome = self.criterion(preds, batch)
            losses = taps.losses()
        for listener in self.listeners:
            listener(batch, losses)
        return outcome


def _itself(criterion: Any) -> Any:
    return criterion


def _is_classifier(criterion: Any) -> bool:
    return type(criterion).__name__ == "v8ClassificationLoss"


def _leaf(criterion: Any) -> Any:
    """The criterion whose items are reported: of end-to-end models that of the one-to-one head."""
    return getattr(criterion, "one2one", criterion)


@torch.no_grad()
def _of_classifier(preds: Any, batch: Mapping[str, Any]) -> BatchLosses:
    logits = preds[1] if isinstance(preds, list | tuple) else preds
    logits = logits.detach().float()
    return BatchLosses(
        {"loss": functional.cross_entropy(logits, batch["cls"], reduction="none")}, logits=logits
    )


class _Taps:
    """What the modules of a detection criterion are given and give, in one call of it."""

    def __init__(self, leaf: Any) -> None:
        self._leaf = leaf
        self._masks: list[Tensor] = []

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Hooks on the criterion, for one call."""
        leaf = self._leaf
        handles = [
            leaf.assigner.register_forward_hook(self._assigned),
            leaf.bce.register_forward_hook(self._classified),
            leaf.bbox_loss.register_forward_hook(self._regressed),
        ]
        mask_loss = getattr(leaf, "single_mask_loss", None)
        if mask_loss is not None:  # called once per image that has assigned anchors

            def masked(*args: Any) -> Any:
                loss = mask_loss(*args)
                self._masks.append(loss.detach().float())
                return loss

            leaf.single_mask_loss = masked
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            if mask_loss is not None:
                del leaf.single_mask_loss

    @torch.no_grad()
    def _assigned(self, module: Any, args: Any, output: Any) -> None:
        del module
        _, _, scores, self._foreground, objects = output
        self._weights = scores.detach().float().sum(-1)  # (batch, n_anchors)
        self._most_objects = args[3].shape[1]
        self._index = self._foreground.nonzero(as_tuple=True)
        self._owner = objects[self._index].long()

    @torch.no_grad()
    def _classified(self, module: Any, args: Any, output: Tensor) -> None:
        del module, args
        losses = output.detach()
        if self._leaf.class_weights is not None:  # multiplied in place after this hook
            losses = losses * self._leaf.class_weights
        self._cls = losses.float().sum(-1)  # (batch, n_anchors)

    @torch.no_grad()
    def _regressed(self, module: Any, args: Any, output: Any) -> None:
        del output
        distances, boxes, anchors, targets, _, _, _, size, stride = (
            value.detach() for value in args
        )
        index, (_, anchor) = self._index, self._index
        anchors, target = anchors[anchor], targets[index]
        self._box = (1 - _complete_iou(boxes[index], target)).float()
        sides = torch.cat((anchors - target[:, :2], target[:, 2:] - anchors), -1)
        if self._leaf.use_dfl:
            losses = _focal_distance(distances[index], sides, module.dfl_loss.reg_max)
        else:
            scale = stride[anchor] / size[[1, 0, 1, 0]]
            losses = (distances[index] * scale - sides * scale).abs().mean(-1)
        self._distance = losses.float()

    def losses(self) -> BatchLosses:
        """Of the call that was listened to."""
        hyp, image = self._leaf.hyp, self._index[0]
        last = "dfl_loss" if self._leaf.use_dfl else "l1_loss"
        gains = {"box_loss": hyp.box, "cls_loss": hyp.cls, last: hyp.dfl}
        n_images, weights = len(self._weights), self._weights[self._index]
        sums = {_SCORES: self._weights.sum(1)}
        divided_by = dict.fromkeys(gains, _SCORES)
        totals = {
            "box_loss": _added(self._box * weights, image, n_images),
            "cls_loss": self._cls.sum(1),
            last: _added(self._distance * weights, image, n_images),
        }
        if hasattr(self._leaf, "bcedice_loss"):
            sums[_ANCHORS] = self._foreground.sum(1).float()
            totals["seg_loss"], gains["seg_loss"] = self._mask_totals(), hyp.box
            divided_by["seg_loss"] = _ANCHORS
        losses = {
            name: gains[name] * total / sums[divided_by[name]].clamp(min=1)
            for name, total in totals.items()
        }
        return BatchLosses(losses, sums, divided_by, self._objects(gains, last))

    def _mask_totals(self) -> Tensor:
        totals = torch.zeros_like(self._weights[:, 0])
        if self._masks:
            totals[self._foreground.any(1)] = torch.stack(self._masks)
        return totals

    def _objects(self, gains: Mapping[str, float], last: str) -> ObjectLosses:
        """Means over the anchors of each object."""
        shape = (len(self._weights), self._most_objects)
        position = self._index[0] * self._most_objects + self._owner

        def added(values: Tensor) -> Tensor:
            return _added(values, position, math.prod(shape)).view(shape)

        weights = self._weights[self._index]
        scores, n_anchors = added(weights), added(torch.ones_like(weights))
        # Without any score an object counts for nothing in the batch; its anchors then weigh alike.
        alike = scores.view(-1)[position] < _NO_SCORE
        plain = torch.where(alike, 1.0, weights)
        total = torch.where(scores < _NO_SCORE, n_anchors.clamp(min=1), scores)
        losses = {
            name: gains[name] * added(part * plain) / total
            for name, part in (("box_loss", self._box), (last, self._distance))
        }
        losses["cls_loss"] = gains["cls_loss"] * added(self._cls[self._index])
        losses["cls_loss"] = losses["cls_loss"] / n_anchors.clamp(min=1)
        return ObjectLosses(losses, scores, n_anchors)


def _added(values: Tensor, position: Tensor, size: int) -> Tensor:
    """(size,) sums of the values at each position."""
    return torch.zeros(size, device=values.device).index_add_(0, position, values)


def _complete_iou(boxes: Tensor, targets: Tensor) -> Tensor:
    """(n,) complete intersection over union (Zheng et al. 2020) of (n, 4) corners."""
    left, top, right, bottom = boxes.unbind(-1)
    true_left, true_top, true_right, true_bottom = targets.unbind(-1)
    width, height = right - left, bottom - top + _EPSILON
    true_width, true_height = true_right - true_left, true_bottom - true_top + _EPSILON
    across = (right.minimum(true_right) - left.maximum(true_left)).clamp(min=0)
    down = (bottom.minimum(true_bottom) - top.maximum(true_top)).clamp(min=0)
    union = width * height + true_width * true_height - across * down + _EPSILON
    iou = across * down / union
    hull_width = right.maximum(true_right) - left.minimum(true_left)
    hull_height = bottom.maximum(true_bottom) - top.minimum(true_top)
    diagonal = hull_width**2 + hull_height**2 + _EPSILON
    sideways = true_left + true_right - left - right
    updown = true_top + true_bottom - top - bottom
    distance = (sideways**2 + updown**2) / 4
    angle = (true_width / true_height).atan() - (width / height).atan()
    shape = 4 / math.pi**2 * angle**2
    share = shape / (1 - iou + shape + _EPSILON)
    return iou - (distance / diagonal + shape * share)


def _focal_distance(logits: Tensor, sides: Tensor, n_bins: int) -> Tensor:
    """(n,) distribution focal loss (Li et al. 2020) of (n, 4 · n_bins) logits, over four sides."""
    target = sides.clamp(0, n_bins - 1 - 0.01)
    below = target.long()
    share = below + 1 - target  # of the bin below
    log_p = functional.log_softmax(logits.view(-1, 4, n_bins), dim=-1)
    lower, upper = (
        log_p.gather(-1, position[..., None])[..., 0] for position in (below, below + 1)
    )
    return -(lower * share + upper * (1 - share)).mean(-1)
