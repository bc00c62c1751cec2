"""What the compiled loss of a Keras model makes of its outputs, sample by sample."""

import inspect
import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError
from actiontrack.recorder.probe import Loss, class_indices

__all__ = ["ONE_HOT", "SMALLEST", "PerSample", "compiled_loss", "kind_of_outputs"]

SMALLEST = 1e-7  # probability that Keras's cross-entropies take the logarithm of

_SOFTMAX = frozenset({"categorical_crossentropy", "sparse_categorical_crossentropy"})
_BINARY = "binary_crossentropy"
ONE_HOT = frozenset({"categorical_crossentropy"})  # take a column per class
_ERRORS = {"mean_squared_error": "squared_error", "mean_absolute_error": "absolute_error"}
_REMEDY = "Pass loss=, a name or a function of (labels, outputs) that returns a loss per sample."


class PerSample:
    """A loss of Keras without its reduction, as a function of (labels, outputs).

    Args:
        loss: an instance of `keras.losses.Loss`, or a function of (labels, outputs).

    Attributes:
        name: of the loss, such as "categorical_crossentropy".
        settings: its configuration; empty for a function that has none.
    """

    def __init__(self, loss: Any) -> None:
        self.name = _name(loss)
        self.settings: Mapping[str, Any] = _settings(loss)
        self._call = loss.call if isinstance(loss, keras.losses.Loss) else loss
        self._dtype = getattr(loss, "dtype", None)

    def __call__(self, labels: npt.NDArray[Any], outputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(n_samples,) losses, averaged over all but the first dimension.

        Raises:
            ParameterError: if the loss is not one per sample.
        """
        targets = labels.astype(outputs.dtype) if labels.dtype.kind in "biuf" else labels
        if targets.ndim == outputs.ndim - 1 and outputs.shape[-1] == 1:
            targets = targets[..., None]  # a function would broadcast (n,) and (n, 1) to (n, n)
        tensors = (
            keras.ops.convert_to_tensor(part, dtype=self._dtype) for part in (targets, outputs)
        )
        losses = self._call(*tensors)
        values = np.asarray(keras.ops.convert_to_numpy(losses), dtype=np.float64)
        if values.ndim == 0 or len(values) != len(labels):
            rule = f"must be given, as {self.name} returns no loss per sample"
            raise ParameterError("loss", rule, values.shape, _REMEDY)
        return np.asarray(values.reshape(len(values), -1).mean(axis=1))

    @property
    def from_logits(self) -> bool | None:
        """Whether a cross-entropy takes logits; None for another loss."""
        if self.name in _SOFTMAX or self.name == _BINARY:
            return bool(self.settings.get("from_logits", False))
        return None

    @property
    def decides_kind(self) -> bool:
        """Whether it is one of the losses that are recorded by their own formula."""
        return self.from_logits is not None or self.name in _ERRORS

    @property
    def is_mean(self) -> bool:
        """Whether Keras reports the mean over the samples."""
        return self.settings.get("reduction", "mean") in {"sum_over_batch_size", "mean"}

    @property
    def smoothing(self) -> float:
        """How much of a label goes to the other classes in training."""
        return float(self.settings.get("label_smoothing", 0.0))


def compiled_loss(model: Any) -> PerSample | None:
    """The loss that a model was compiled with, or None if it has none of its own.

    Raises:
        ParameterError: if it has several.
    """
    loss = model.loss
    parts = keras.tree.flatten(loss)
    if len(parts) > 1:
        rule = "must be given for a model with several losses"
        raise ParameterError("loss", rule, f"{len(parts)} losses", _REMEDY)
    return PerSample(keras.losses.get(parts[0])) if parts and parts[0] is not None else None


def kind_of_outputs(
    compiled: PerSample | None,
    model: Any,
    labels: npt.NDArray[Any],
    outputs: npt.NDArray[Any],
    *,
    from_logits: bool | None,
) -> Loss:
    """What the outputs are, see `actiontrack.recorder.probe.losses_of`.

    Args:
        compiled: loss of the model.
        model: compiled.
        labels: of the probe.
        outputs: of the model for a few samples, (n_few, …).
        from_logits: what the user says, or None.

    Raises:
        ParameterError: if the user contradicts the compiled loss, or nothing says what the
            outputs mean.
    """
    compiled_logits = None if compiled is None else compiled.from_logits
    if from_logits is not None and compiled_logits not in {None, from_logits}:
        rule = f"must be {compiled_logits}, as in the compiled loss"
        raise ParameterError("from_logits", rule, from_logits, "Leave it out.")
    logits = from_logits if from_logits is not None else compiled_logits
    if compiled is None or (compiled_logits is None and from_logits is not None):
        return _by_activation(model, outputs) if logits is None else _classes(logits=logits)
    if compiled.name in _ERRORS:
        return _ERRORS[compiled.name]
    if compiled.name == _BINARY and outputs.ndim <= 2 and _are_binary(labels):
        several = outputs.ndim == 2 and outputs.shape[1] > 1
        prefix = "multilabel_" if several else ""
        return f"{prefix}{_classes(logits=bool(logits))}"
    if compiled.name in _SOFTMAX and outputs.ndim == 2 and _are_classes(compiled, labels):
        return _classes(logits=bool(logits))
    return compiled


def _classes(*, logits: bool) -> str:
    return "logits" if logits else "probabilities"


def _by_activation(model: Any, outputs: npt.NDArray[Any]) -> Loss:
    """By the activation of the last layer, for a model without a compiled loss."""
    layers = getattr(model, "layers", None) or [None]
    activation = getattr(getattr(layers[-1], "activation", None), "__name__", "unknown")
    single = outputs.ndim == 1 or outputs.shape[-1] == 1
    if activation == "softmax" or (activation == "sigmoid" and single):
        return "probabilities"
    if activation == "sigmoid":
        return "multilabel_probabilities"
    rule = "must be given for a model that has no compiled loss"
    raise ParameterError("loss", rule, f"activation {activation}", _REMEDY)


def _are_binary(labels: npt.NDArray[Any]) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _are_classes(compiled: PerSample, labels: npt.NDArray[Any]) -> bool:
    ignored = compiled.settings.get("ignore_class")
    if ignored is not None and (labels == ignored).any():
        rule = f"must not be the ignored class {ignored}, as these samples have no loss"
        raise ParameterError("labels", rule, ignored, "Leave these samples out of the probe.")
    try:
        class_indices(labels)
    except ParameterError:  # probabilities of the classes, which Keras takes too
        return False
    return True


def _name(loss: Any) -> str:
    if isinstance(loss, keras.losses.Loss):
        name = type(loss).__name__
        wrapped = getattr(loss, "fn", None)
        if name == "LossFunctionWrapper" and wrapped is not None:
            return str(getattr(wrapped, "__name__", name))
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return str(getattr(loss, "__name__", type(loss).__name__))


def _settings(loss: Any) -> Mapping[str, Any]:
    if isinstance(loss, keras.losses.Loss):
        return dict(loss.get_config())
    try:
        parameters = inspect.signature(loss).parameters
    except (TypeError, ValueError):
        return {}
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    return {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty}
