"""What one call of `update` brings: ids, one value per sample, and outputs to be measured."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array

from actiontrack.errors import ParameterError
from actiontrack.recorder.arrays import (
    class_labels,
    class_logits,
    is_single,
    log_probabilities,
    looks_like_probabilities,
    shape_error,
    snapshot,
    sum_tolerance,
    to_host,
    two_classes,
)
from actiontrack.recorder.checks import component_name

__all__ = ["Batch", "are_probabilities", "batch_ids", "batch_of", "check_shapes", "first_outputs"]

_SUM_TOLERANCE = 1e-3  # by which a distribution of float32 numbers may miss 1
#: Types that have passed a check, which takes longer than the rest: of outputs, and of labels.
_floating_types: set[Any] = set()
_integer_types: set[Any] = set()


@dataclass(slots=True)
class Batch:
    """One batch of an epoch.

    Attributes:
        columns: name -> (size,), copies that later changes of the inputs can't reach.
        outputs: logits (size, n_classes) and labels (size,) whose measures are columns too.
        invalid: 0-d, whether probabilities are no distributions; it stays on its device.
    """

    columns: dict[str, Any]
    outputs: tuple[Any, Any] | None = None
    invalid: Any = None

    @property
    def n_classes(self) -> int | None:
        """Number of classes of the outputs, or None without outputs."""
        return None if self.outputs is None else int(self.outputs[0].shape[1])


def batch_ids(ids: Any) -> Any:
    """The ids of a batch, if they are a sequence.

    Raises:
        ParameterError: if they are a single id, a text, or have no length.
    """
    shape = getattr(ids, "shape", None)
    if shape is not None and len(shape) == 1:
        return ids
    if shape is None and isinstance(ids, str | bytes | Mapping):
        sized = False
    else:
        sized = shape is None and hasattr(ids, "__len__")
    if not sized:
        value = ids if shape is None else tuple(shape)
        raise ParameterError("ids", "must have shape (batch,)", value, "Pass one id per sample.")
    return ids


def batch_of(
    size: int,
    *,
    losses: Any = None,
    logits: Any = None,
    probabilities: Any = None,
    labels: Any = None,
    components: Mapping[str, Any] | None = None,
) -> Batch:
    """A batch from the arguments of `actiontrack.recorder.Recorder.update`.

    Raises:
        ParameterError: if an argument is missing, is no array of numbers, or outputs do not have
            one row per id.
    """
    if logits is not None and probabilities is not None:
        rule = "must be left out with logits"
        raise ParameterError("probabilities", rule, "both", "Pass the one that the model returns.")
    name, outputs = (
        ("logits", logits) if probabilities is None else ("probabilities", probabilities)
    )
    if losses is None and outputs is None:
        rule = "must be given, or logits with labels"
        raise ParameterError("losses", rule, None, "Pass one of the two.")
    batch = Batch({})
    if losses is not None:
        batch.columns["loss"] = _numbers("losses", losses)
    if outputs is not None:
        _add_outputs(batch, name, outputs, labels, size)
    elif labels is not None:
        batch.columns["label"] = _numbers("labels", labels)
    for component, values in (components or {}).items():
        batch.columns[component_name(component)] = _numbers(component, values)
    return batch


def check_shapes(columns: Mapping[str, Any], size: int) -> None:
    """Check that every column has one value per id.

    Raises:
        RecordingError: names the column.
    """
    for name, values in columns.items():
        if tuple(values.shape) != (size,):
            raise shape_error(name, tuple(values.shape), size)


def first_outputs(batch: Batch) -> Any:
    """A copy of what was passed as logits, of 1,000 samples at most; it stays on its device."""
    return None if batch.outputs is None else snapshot(batch.outputs[0][:1000])


def are_probabilities(outputs: Any) -> bool:
    """Whether outputs, (n, n_classes) or None, look like rows of probabilities."""
    return outputs is not None and looks_like_probabilities(to_host([outputs]))


def _add_outputs(batch: Batch, name: str, outputs: Any, labels: Any, size: int) -> None:
    if labels is None:
        raise ParameterError("labels", f"must be given with {name}", None, "Pass labels.")
    values = _floating(name, outputs)
    if name == "logits":
        values = snapshot(values)
    shape = values.shape
    if len(shape) not in {1, 2} or shape[0] != size:
        raise ParameterError(
            name,
            f"must have shape ({size}, n_classes), one row per id",
            tuple(shape),
            "Pass the outputs of the same batch as the ids.",
        )
    if name == "probabilities":
        values = two_classes(values.detach() if hasattr(values, "detach") else values)
        batch.invalid = _no_distributions(values)
        logits = log_probabilities(values)
    else:
        logits = class_logits(values) if is_single(values) else values
    batch.columns["label"] = column = _alongside(_class_labels(labels), logits)
    batch.outputs = logits, column


def _class_labels(labels: Any) -> Any:
    """A copy of class indices, whole floats among them, as (batch,)."""
    values = _as_array("labels", labels)
    if values.dtype in _integer_types and values.ndim == 1:
        return snapshot(values)
    if array_namespace(values).isdtype(values.dtype, "integral"):
        _integer_types.add(values.dtype)
    return snapshot(class_labels(values))


def _floating(name: str, values: Any) -> Any:
    values = _as_array(name, values)
    if values.dtype not in _floating_types:
        if array_namespace(values).isdtype(values.dtype, ("bool", "integral")):
            rule = "must be floating-point numbers"
            remedy = "Pass the outputs of the model, not the classes that it predicts."
            raise ParameterError(name, rule, str(values.dtype), remedy)
        _floating_types.add(values.dtype)
    return values


def _no_distributions(probabilities: Any) -> Any:
    sums, tolerance = probabilities.sum(1), sum_tolerance(probabilities, _SUM_TOLERANCE)
    return ((probabilities < 0).any() | (abs(sums - 1) > tolerance).any()) | (
        sums != sums  # noqa: PLR0124 - NaN
    ).any()


def _alongside(labels: Any, logits: Any) -> Any:
    """Labels in the array library of the logits, where those are."""
    if isinstance(labels, np.ndarray) and isinstance(logits, np.ndarray):
        return labels
    if type(labels) is type(logits) and getattr(labels, "device", 0) == getattr(
        logits, "device", 0
    ):
        return labels
    if is_torch_array(logits):
        if is_torch_array(labels):
            return labels.to(logits.device)
        return array_namespace(logits).asarray(labels, device=device(logits))
    if isinstance(logits, np.ndarray):
        return to_host([labels])
    return array_namespace(logits).asarray(labels) if isinstance(labels, np.ndarray) else labels


def _numbers(name: str, values: Any) -> Any:
    """A copy of numbers that later changes can't reach."""
    return snapshot(_as_array(name, values))


def _as_array(name: str, values: Any) -> Any:
    """An array of numbers: as it is, or made of a list, a number or the like."""
    if hasattr(values, "detach"):
        return values
    try:
        array = values if hasattr(values, "shape") else np.asarray(values)
        kind = getattr(array.dtype, "kind", "f")
        if kind == "O" and not any(value is None for value in array.ravel()):
            array, kind = np.asarray(array, dtype=np.float64), "f"
    except (TypeError, ValueError, RuntimeError):
        kind = "O"
    if kind in "OSUTMm":
        rule, remedy = "must be an array of numbers", "Pass a NumPy, PyTorch or JAX array."
        raise ParameterError(name, rule, values, remedy)
    return array
