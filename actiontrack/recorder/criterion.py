"""Per-sample losses from the criterion that a training script has already (PyTorch).

A criterion reduces its batch to one number. Undoing the reduction is not enough where the training
loss is not the plain loss of a sample:

- class weights and label smoothing: the plain loss is recorded, the training loss beside it as the
  component ``training_loss``;
- ``ignore_index``: an ignored sample has no loss. It is refused, as loss 0 would make it look easy.
  Of a sequence the ignored tokens are left out of the mean;
- mixup and cutmix (class probabilities as targets): the loss belongs to no single sample. It is
  refused, unless the labels of the samples are given too.

All this holds for modules, for functions and for `functools.partial` of them. Losses are computed
in float32 at least, and outside autocast: in bfloat16 those of easy samples are 0.
"""

import contextlib
import copy
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from actiontrack.errors import MissingDependencyError, ParameterError, RecordingError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.criterion needs PyTorch: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["PerSampleLoss", "full_precision"]

Criterion = Callable[..., Tensor]

#: Criteria whose floating-point targets are class probabilities; the latter came with PyTorch 2.13.
_CROSS_ENTROPIES = (nn.CrossEntropyLoss, getattr(nn, "LinearCrossEntropyLoss", nn.CrossEntropyLoss))


class PerSampleLoss:
    """A criterion without its reduction: one loss per sample, averaged over all else.

    Call it with the arguments of the criterion and pass the result on::

        per_sample = PerSampleLoss(nn.CrossEntropyLoss(label_smoothing=0.1))
        recorder.update(ids, **per_sample(logits, labels), labels=labels)

    Outputs of any task will do: (batch, n_classes) logits, (batch, n_classes, tokens) sequences,
    (batch, n_labels) multi-label logits, (batch,) or (batch, n_outputs) regression. Parameters of
    the criterion, such as the head of `torch.nn.LinearCrossEntropyLoss`, are shared with it: what
    it learns counts. In bfloat16 or float16 they are copied to float32 for each batch.

    A module of your own has to look at its ``reduction`` when it is called, and should have what it
    ignores as its ``ignore_index``. Under another name, an ignored label is recognised where it is
    no class index and its loss is exactly 0. One that is an index, such as 255 of 1,000 classes,
    can't be told from a sample that is easy: leave those samples out yourself.

    Args:
        criterion: a module with a ``reduction``, or a function that takes one, such as
            `torch.nn.functional.mse_loss`, or a `functools.partial` of it.

    Raises:
        ParameterError: if it has no reduction to undo.
    """

    def __init__(self, criterion: nn.Module | Criterion) -> None:
        if isinstance(criterion, nn.Module):
            reduces = hasattr(criterion, "reduction")
        else:
            reduces = "reduction" in _defaults(criterion)
        if not reduces:
            raise ParameterError(
                "criterion",
                "must be a torch.nn loss with a reduction, or a function that takes one",
                type(criterion).__name__,
                "Compute one loss per sample yourself and pass it to Recorder.update(ids, losses).",
            )
        self._criterion = criterion

    def __call__(
        self, outputs: Tensor, targets: Tensor, *, labels: Tensor | None = None
    ) -> dict[str, Any]:
        """The losses of a batch, outside any autograd graph.

        Args:
            outputs: (batch, …) what the criterion takes first.
            targets: what the criterion takes second.
            labels: (batch,) class indices of the samples themselves, where targets are mixtures.

        Returns:
            Arguments of `Recorder.update`: "losses", (batch,) float32 or float64, and "components"
            with "training_loss", (batch,), where that differs.

        Raises:
            RecordingError: if samples are ignored, if targets are mixtures and there are no labels,
                or if the criterion reduces its batch whatever its ``reduction`` says.
        """
        with torch.no_grad(), full_precision(outputs.device):
            outputs, targets = _widened(outputs), _widened(targets)
            training = _unreduced(self._criterion)
            mixed = _is_mixture(self._criterion, outputs, targets)
            if mixed and labels is None:
                raise RecordingError(
                    "targets: class probabilities mix several samples (mixup, cutmix), so their "
                    "loss belongs to no single one. Pass the samples' own labels=, or record an "
                    "evaluation pass (mode='probe')."
                )
            plain = _without_weights(training)
            losses = plain(outputs, targets if labels is None else labels)
            if plain is training and not mixed:
                return {"losses": losses}
            return {
                "losses": losses,
                "components": {"training_loss": training(outputs, targets)},
            }


def full_precision(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """No autocast, which computes in bfloat16 or float16."""
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


@dataclass(frozen=True)
class _Unreduced:
    """A criterion that gives one loss per sample.

    Attributes:
        criterion: a module whose reduction is "none", or a function.
        options: what a function is called with beside its own defaults.
        ignored: labels that it ignores.
        summed: whether it adds the losses of one sample up, as reduction "batchmean" does.
        n_classes: number of classes, or None where outputs have a column for each.
    """

    criterion: Criterion
    options: Mapping[str, Any]
    ignored: frozenset[int]
    summed: bool
    n_classes: int | None = None

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(batch,) losses."""
        losses = self.criterion(outputs, targets, **self.options)
        if losses.ndim == 0 or losses.shape[0] != outputs.shape[0]:
            raise RecordingError(
                f"criterion: {_name(self.criterion)} gives losses of shape {tuple(losses.shape)} "
                f"for {outputs.shape[0]} samples. It does not look at its reduction when it is "
                'called: construct it with reduction="none", or compute one loss per sample '
                "yourself."
            )
        ignored = self._ignored_of(losses, outputs, targets)
        if losses.ndim == 1:
            _refuse_ignored(ignored, targets)
            return losses
        losses, ignored = losses.flatten(1), ignored.flatten(1)
        total = losses.masked_fill(ignored, 0.0).sum(dim=1)
        return total if self.summed else total / (~ignored).sum(dim=1)  # NaN where none counts

    def _ignored_of(self, losses: Tensor, outputs: Tensor, targets: Tensor) -> Tensor:
        """Which losses are those of ignored labels; nothing waits for the device."""
        ignored = torch.zeros_like(losses, dtype=torch.bool)
        indices = targets.shape == losses.shape and targets.shape != outputs.shape
        if targets.is_floating_point() or not indices:
            return ignored
        for label in self.ignored:
            ignored = ignored | (targets == label)
        n_classes = self.n_classes or outputs.shape[1]
        beyond = targets >= n_classes
        # Where one of them has a loss, outputs have no column per class: then they are classes.
        beyond = beyond & ~(beyond & (losses != 0)).any()
        return ignored | (((targets < 0) | beyond) & (losses == 0))


def _refuse_ignored(ignored: Tensor, targets: Tensor) -> None:
    n_ignored = int(ignored.sum())
    if n_ignored:
        raise RecordingError(
            f"targets: {n_ignored} of {len(targets)} samples have the ignored label "
            f"{int(targets[ignored][0])}. They have no loss, and 0 would make them look easy: "
            "leave them out of the batch that you record."
        )


def _unreduced(criterion: nn.Module | Criterion) -> _Unreduced:
    """Of a criterion as it is now, whatever was trained or set since the last batch."""
    if isinstance(criterion, nn.Module):
        twin = _twin(criterion)
        indices = [getattr(part, "ignore_index", None) for part in twin.modules()]
        summed = twin.reduction == "batchmean"
        twin.reduction = "none"  # type: ignore[assignment]
        n_classes = getattr(twin, "num_classes", None)
        return _Unreduced(
            twin, {}, _integers(indices), summed, n_classes if type(n_classes) is int else None
        )
    options = _defaults(criterion)
    summed = options["reduction"] == "batchmean"
    ignored = _integers([options.get("ignore_index")])
    return _Unreduced(criterion, {"reduction": "none"}, ignored, summed)


def _without_weights(training: _Unreduced) -> _Unreduced:
    """Itself, or without class weights and label smoothing where it has any."""
    if not isinstance(training.criterion, nn.Module):
        neutral = _neutral(_defaults(training.criterion))
        options = {**training.options, **neutral}
        return replace(training, options=options) if neutral else training
    plain = _twin(training.criterion)
    changed = False
    for part in plain.modules():
        names = ("weight", "pos_weight", "label_smoothing")
        for name, value in _neutral({name: getattr(part, name, None) for name in names}).items():
            setattr(part, name, value)
            changed = True
    return replace(training, criterion=plain) if changed else training


def _neutral(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values that weigh nothing in place of those that weigh; a learned weight is a head."""
    weights = [
        name
        for name in ("weight", "pos_weight")
        if isinstance(options.get(name), Tensor) and not isinstance(options[name], nn.Parameter)
    ]
    neutral: dict[str, Any] = dict.fromkeys(weights)
    return neutral | ({"label_smoothing": 0.0} if options.get("label_smoothing") else {})


def _is_mixture(criterion: nn.Module | Criterion, outputs: Tensor, targets: Tensor) -> bool:
    """Whether targets are class probabilities where class indices are usual."""
    if not targets.is_floating_point():
        return False
    function = criterion
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, nn.Module):
        parts = list(function.modules())
        if any(isinstance(part, _CROSS_ENTROPIES) for part in parts):
            return True
        smooths = any(hasattr(part, "label_smoothing") for part in parts)
    else:
        if function is nn.functional.cross_entropy:
            return True
        smooths = "label_smoothing" in _defaults(criterion)
    if not smooths or targets.shape != outputs.shape or targets.ndim < 2:
        return False
    sums = targets.sum(dim=1)  # 1 in every row: not the labels of a multi-label problem
    return bool((targets >= 0).all()) and torch.allclose(sums, torch.ones_like(sums))


def _twin(module: nn.Module) -> nn.Module:
    """A copy that shares parameters and buffers, of which attributes can be set.

    Those of fewer than 32 bits are float32 in the copy.
    """
    twin = copy.copy(module)
    for name in ("_parameters", "_buffers"):
        values = vars(module)[name]
        twin.__dict__[name] = {
            key: value if value is None else _shared(value) for key, value in values.items()
        }
    twin.__dict__["_modules"] = {
        name: part if part is None else _twin(part)
        for name, part in module._modules.items()  # noqa: SLF001
    }
    return twin


def _shared(value: Tensor) -> Tensor:
    """The same object, unless it has fewer than 32 bits."""
    if not value.is_floating_point() or value.itemsize >= 4:
        return value
    wide = value.detach().float()
    return nn.Parameter(wide) if isinstance(value, nn.Parameter) else wide


def _widened(values: Tensor) -> Tensor:
    """Outside any autograd graph, floating-point numbers of fewer than 32 bits as float32."""
    values = values.detach()
    return values.float() if values.is_floating_point() and values.itemsize < 4 else values


def _defaults(function: Criterion) -> dict[str, Any]:
    """Arguments of a function that have a default, those that a partial has bound included."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if parameter.default is not parameter.empty
    }


def _integers(values: list[Any]) -> frozenset[int]:
    return frozenset(value for value in values if type(value) is int)


def _name(criterion: Criterion) -> str:
    while isinstance(criterion, functools.partial):
        criterion = criterion.func
    return getattr(criterion, "__name__", type(criterion).__name__)
