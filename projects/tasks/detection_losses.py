"""The losses of a single-shot detector for each image and for each object.

SSD's training loss (Liu et al. 2016, eq. 1), as torchvision computes it over a batch, is

    L = (Σ positive + Σ negative + Σ box) / max(1, N)

where N counts the default boxes of the whole batch that are matched to an object, *positive* is the
cross-entropy of the matched boxes with the class of their object, *negative* that of the hardest
unmatched boxes with the background (three for each matched box, chosen within each image), and
*box* the smooth L1 loss of the matched boxes' offsets. So the share of an image in the batch's loss
depends on the other images through N only.

What is recorded of an image is divided by max(1, n) instead, with n the matched default boxes of
the image itself: the loss that torchvision computes for a batch of this image alone, which does not
depend on what it was batched with. An image without an object has neither matched nor chosen boxes:
its three losses are 0, in training as in the record, whatever the detector finds in it.

What is recorded of an object are the means over the default boxes that are matched to it. Each
object gets the one that overlaps it most, unless two objects want the same: then the later one in
the annotation has it. An object without any has no loss, and is missing from the record.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from projects.models.ssd import PackedSSD

__all__ = ["MultiBoxLosses", "Target", "multibox_losses"]

Target = dict[str, Tensor]


@dataclass(frozen=True, eq=False)
class MultiBoxLosses:
    """Sums over the default boxes of each of B images and of each of their M objects.

    Attributes:
        positive: (B,) float32, classification of the matched default boxes.
        negative: (B,) float32, classification of the hardest unmatched default boxes.
        box: (B,) float32, regression of the matched default boxes.
        n_matched: (B,) int64, matched default boxes.
        object_positive: (M,) float32, objects in the order of images and annotations.
        object_box: (M,) float32.
        object_matched: (M,) int64.
    """

    positive: Tensor
    negative: Tensor
    box: Tensor
    n_matched: Tensor
    object_positive: Tensor
    object_box: Tensor
    object_matched: Tensor

    @property
    def batch(self) -> Tensor:
        """Loss of the batch, a scalar that equals torchvision's."""
        total = self.positive.sum() + self.negative.sum() + self.box.sum()
        return total / self.n_matched.sum().clamp(min=1)

    def of_images(self) -> dict[str, Tensor]:
        """Loss of each image by its own number of matched boxes: name to (B,) float32."""
        count = self.n_matched.clamp(min=1)
        return {
            "positive_classification": self.positive / count,
            "negative_classification": self.negative / count,
            "box_regression": self.box / count,
        }

    def of_objects(self) -> dict[str, Tensor]:
        """Mean loss of each object's default boxes: name to (M,) float32, NaN without any."""
        return {
            "positive_classification": self.object_positive / self.object_matched,
            "box_regression": self.object_box / self.object_matched,
        }


def multibox_losses(
    packed: PackedSSD, outputs: Tensor, targets: Sequence[Target]
) -> MultiBoxLosses:
    """The losses of each image and each object of a batch.

    Where an image has fewer unmatched default boxes than are to be chosen, all of them are; only
    there torchvision counts some matched ones instead.

    Args:
        packed: The detector: its matches, its box coder and its ratio of negatives to positives
            are used.
        outputs: (B, n_boxes, …) of the detector.
        targets: ``boxes``, float32 (n_objects, 4), and ``labels``, int64 (n_objects,) from 1, of
            each of B images.
    """
    heads = packed.heads(outputs)
    parts = [
        _losses_of_image(packed, target, logits=logits, offsets=offsets, matched=matched)
        for target, logits, offsets, matched in zip(
            targets,
            heads["cls_logits"],
            heads["bbox_regression"],
            packed.match(list(targets)),
            strict=True,
        )
    ]
    of_images = [torch.stack(sums) for sums in zip(*(part[:4] for part in parts), strict=True)]
    of_objects = [torch.cat(sums) for sums in zip(*(part[4:] for part in parts), strict=True)]
    return MultiBoxLosses(*of_images, *of_objects)


def _losses_of_image(
    packed: PackedSSD, target: Target, *, logits: Tensor, offsets: Tensor, matched: Tensor
) -> tuple[Tensor, ...]:
    """The fields of `MultiBoxLosses` of one image, in their order."""
    ssd, default_boxes = packed.ssd, packed.default_boxes
    chosen = torch.where(matched >= 0)[0]
    owner = matched[chosen]
    positive = functional.cross_entropy(logits[chosen], target["labels"][owner], reduction="none")
    true_offsets = ssd.box_coder.encode_single(target["boxes"][owner], default_boxes[chosen])
    box = functional.smooth_l1_loss(offsets[chosen], true_offsets, reduction="none").sum(dim=1)

    free = logits[matched < 0]
    background = functional.cross_entropy(
        free, torch.zeros(len(free), dtype=torch.int64, device=free.device), reduction="none"
    )
    n_negative = min(math.ceil(ssd.neg_to_pos_ratio * len(chosen)), len(free))
    negative = background.topk(n_negative).values.sum()

    empty = torch.zeros(len(target["boxes"]), device=logits.device)
    return (
        positive.sum(),
        negative,
        box.sum(),
        torch.tensor(len(chosen), device=logits.device),
        empty.index_add(0, owner, positive),
        empty.index_add(0, owner, box),
        empty.long().index_add(0, owner, torch.ones_like(owner)),
    )
