"""Dice, Jaccard and focal loss of each image, and the loss of each pixel (section 4.3).

All take logits (batch, n_outputs, H, W) and targets (batch, H, W). Pixels of the ignored class
count nowhere. With p the softmax of the logits and t the one-hot target, sums over the pixels of
one image:

* dice, of a class: 1 − (2 Σ p t + 1) / (Σ p + Σ t + 1) (Milletari et al. 2016, smoothed by 1);
* jaccard, of a class: 1 − (Σ p t + 1) / (Σ p + Σ t − Σ p t + 1);
* focal, of a pixel: −(1 − p_t)^γ ln p_t (Lin et al. 2017).

Dice and Jaccard are the mean over the classes that the target of the image holds, focal the mean
over its pixels. The paper trains on "a linear combination" and prints no weights; they are 1 here
unless the parameters say otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

__all__ = ["SegmentationLoss"]

_SMOOTH = 1.0


@dataclass(frozen=True, kw_only=True)
class SegmentationLoss:
    """Weights and options of the loss.

    Attributes:
        dice: weight of the dice loss.
        jaccard: weight of the Jaccard loss.
        focal: weight of the focal loss.
        gamma: γ of the focal loss; 0 is the cross-entropy.
        ignored: class whose pixels count nowhere, or None.
    """

    dice: float = 1.0
    jaccard: float = 1.0
    focal: float = 1.0
    gamma: float = 2.0
    ignored: int | None = None

    def components(self, logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Unweighted losses of each image: "dice", "jaccard" and "focal", each (batch,).

        NaN for an image without a pixel that counts.
        """
        log_p = logits.log_softmax(dim=1)
        p, truth, counts = log_p.exp(), self._one_hot(logits, targets), self._counts(targets)
        overlap, predicted, held = (
            (values * counts[:, None]).sum(dim=(2, 3)) for values in (p * truth, p, truth)
        )
        present = held > 0
        dice = 1 - (2 * overlap + _SMOOTH) / (predicted + held + _SMOOTH)
        jaccard = 1 - (overlap + _SMOOTH) / (predicted + held - overlap + _SMOOTH)
        n_classes, n_pixels = present.sum(dim=1), counts.sum(dim=(1, 2))
        focal = self._focal(log_p, truth, self.gamma)
        return {
            "dice": _ratio((dice * present).sum(dim=1), n_classes),
            "jaccard": _ratio((jaccard * present).sum(dim=1), n_classes),
            "focal": _ratio((focal * counts).sum(dim=(1, 2)), n_pixels),
        }

    def per_image(self, components: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the components, (batch,)."""
        dice, jaccard, focal = (components[name] for name in ("dice", "jaccard", "focal"))
        return self.dice * dice + self.jaccard * jaccard + self.focal * focal

    def mean(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Mean over the images that hold a pixel that counts, a scalar to minimise."""
        losses = self.per_image(self.components(logits, targets))
        some = self._counts(targets).flatten(1).any(dim=1)
        return torch.where(some, losses, 0.0).sum() / some.sum().clamp(min=1)

    def pixels(self, logits: Tensor, targets: Tensor, name: str) -> Tensor:
        """Loss of each pixel, (batch, H, W); NaN where it is ignored.

        Args:
            logits: (batch, n_outputs, H, W).
            targets: (batch, H, W).
            name: "focal" or "cross_entropy".
        """
        gamma = self.gamma if name == "focal" else 0.0
        losses = self._focal(logits.log_softmax(dim=1), self._one_hot(logits, targets), gamma)
        return torch.where(self._counts(targets), losses, float("nan"))

    @staticmethod
    def _focal(log_p: Tensor, truth: Tensor, gamma: float) -> Tensor:
        # A sum with the one-hot target: gather has no deterministic gradient on CUDA.
        log_p_target = (log_p * truth).sum(dim=1)
        if gamma == 0:
            return -log_p_target
        return -((1 - log_p_target.exp()).clamp(min=0) ** gamma) * log_p_target

    def _counts(self, targets: Tensor) -> Tensor:
        if self.ignored is None:
            return torch.ones_like(targets, dtype=torch.bool)
        return targets != self.ignored

    def _one_hot(self, logits: Tensor, targets: Tensor) -> Tensor:
        """One-hot targets (batch, n_outputs, H, W); 0 throughout for an ignored pixel."""
        n_outputs = logits.shape[1]
        classes = targets.long()
        if self.ignored is not None:
            classes = torch.where(self._counts(targets), classes, n_outputs)
        hot = nn.functional.one_hot(classes, n_outputs + 1)[..., :n_outputs]
        return hot.movedim(-1, 1).to(logits.dtype)


def _ratio(total: Tensor, count: Tensor) -> Tensor:
    """NaN without a count, and then without a gradient."""
    return torch.where(count > 0, total / count.clamp(min=1), float("nan"))
