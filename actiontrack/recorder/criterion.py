"""Per-sample losses from the criterion that a training script has already (PyTorch).

A criterion reduces its batch to one number. Undoing the reduction is not enough where the training
loss is not the plain loss of a sample:

- class weights and label smoothing: the plain loss is recorded, the training loss beside it as the
  component ``training_loss``;
- ``ignore_index``: an ignored sample has no loss. It is refused, as loss 0 would make it look easy.
  Of a sequence the ignored tokens are left out of the mean;
- mixup and cutmix (class probabilities as targets): the loss belongs to no single sample. It is
  refused, unless the labels of the samples are given too.
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any

from actiontrack.errors import MissingDependencyError, ParameterError, RecordingError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.criterion needs PyTorch: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["PerSampleLoss"]


class PerSampleLoss:
    """A criterion without its reduction: one loss per sample, averaged over all else.

    Call it with the arguments of the criterion and pass the result on::

        per_sample = PerSampleLoss(nn.CrossEntropyLoss(label_smoothing=0.1))
        recorder.update(ids, **per_sample(logits, labels), labels=labels)

    Outputs of any task will do: (batch, n_classes) logits, (batch, n_classes, tokens) sequences,
    (batch, n_labels) multi-label logits, (batch,) or (batch, n_outputs) regression.

    Args:
        criterion: a module of `torch.nn` with a ``reduction``, or a function that takes one, such
            as `torch.nn.functional.mse_loss`.

    Raises:
        ParameterError: if it has no reduction to undo.
    """

    def __init__(self, criterion: nn.Module | Callable[..., Tensor]) -> None:
        self._training = _unreduced(criterion)
        self._plain = _without_weights(self._training)
        self._ignored = getattr(criterion, "ignore_index", None)

    def __call__(
        self, outputs: Tensor, targets: Tensor, *, labels: Tensor | None = None
    ) -> dict[str, Any]:
        """The losses of a batch, outside any autograd graph.

        Args:
            outputs: (batch, …) what the criterion takes first.
            targets: what the criterion takes second.
            labels: (batch,) class indices of the samples themselves, where targets are mixtures.

        Returns:
            Arguments of `Recorder.update`: "losses", (batch,), and "components" with
            "training_loss", (batch,), where that differs.

        Raises:
            RecordingError: if samples are ignored, or targets are mixtures and there are no labels.
        """
        with torch.no_grad():
            outputs, targets = outputs.detach(), targets.detach()
            mixed = _is_mixture(self._training, outputs, targets)
            if mixed and labels is None:
                raise RecordingError(
                    "targets: class probabilities mix several samples (mixup, cutmix), so their "
                    "loss belongs to no single one. Pass the samples' own labels=, or record an "
                    "evaluation pass (mode='probe')."
                )
            plain_targets = targets if labels is None else labels
            self._check_ignored(plain_targets)
            losses = self._per_sample(self._plain, outputs, plain_targets)
            if self._plain is self._training and not mixed:
                return {"losses": losses}
            training = self._per_sample(self._training, outputs, targets)
            return {"losses": losses, "components": {"training_loss": training}}

    def _check_ignored(self, targets: Tensor) -> None:
        if self._ignored is None or targets.is_floating_point() or targets.ndim != 1:
            return
        ignored = int((targets == self._ignored).sum())
        if ignored:
            raise RecordingError(
                f"targets: {ignored} of {len(targets)} samples have the ignored label "
                f"{self._ignored}. They have no loss, and 0 would make them look easy: leave them "
                "out of the batch that you record."
            )

    def _per_sample(
        self, criterion: Callable[..., Tensor], outputs: Tensor, targets: Tensor
    ) -> Tensor:
        losses = criterion(outputs, targets)
        if losses.ndim == 1:
            return losses
        counted = torch.ones_like(losses, dtype=torch.bool)
        if self._ignored is not None and targets.shape == losses.shape:
            counted = targets != self._ignored
        losses, counted = losses.flatten(1), counted.flatten(1)
        total = torch.where(counted, losses, torch.zeros_like(losses)).sum(dim=1)
        return total / counted.sum(dim=1)  # NaN where every token is ignored: kept and counted


def _unreduced(criterion: nn.Module | Callable[..., Tensor]) -> Callable[..., Tensor]:
    if isinstance(criterion, nn.Module) and hasattr(criterion, "reduction"):
        unreduced = copy.deepcopy(criterion)
        unreduced.reduction = "none"  # type: ignore[assignment]
        return unreduced
    if not isinstance(criterion, nn.Module) and _takes_reduction(criterion):
        return lambda outputs, targets: criterion(outputs, targets, reduction="none")
    raise ParameterError(
        "criterion",
        "must be a torch.nn loss with a reduction, or a function that takes one",
        type(criterion).__name__,
        "Compute one loss per sample yourself and pass it to Recorder.update(ids, losses).",
    )


def _takes_reduction(function: Callable[..., Tensor]) -> bool:
    try:
        return "reduction" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _without_weights(criterion: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The criterion itself, or a copy without class weights and label smoothing."""
    if not isinstance(criterion, nn.Module):
        return criterion
    weights = [
        name for name in ("weight", "pos_weight") if getattr(criterion, name, None) is not None
    ]
    smoothed = bool(getattr(criterion, "label_smoothing", 0.0))
    if not weights and not smoothed:
        return criterion
    plain = copy.deepcopy(criterion)
    for name in weights:
        setattr(plain, name, None)
    if smoothed:
        plain.label_smoothing = 0.0  # type: ignore[assignment]
    return plain


def _is_mixture(criterion: Callable[..., Tensor], outputs: Tensor, targets: Tensor) -> bool:
    """Class probabilities where class indices are usual."""
    return (
        isinstance(criterion, nn.CrossEntropyLoss)
        and targets.is_floating_point()
        and targets.shape == outputs.shape
    )
