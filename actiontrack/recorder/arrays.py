"""Arrays of any library, kept on their device until the epoch ends, then copied once."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_torch_array

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.history import id_array

__all__ = [
    "PROBABILITIES_AS_LOGITS",
    "canonical_ids",
    "check_classes",
    "class_labels",
    "class_logits",
    "is_single",
    "joined",
    "log_probabilities",
    "looks_like_probabilities",
    "shape_error",
    "snapshot",
    "sum_tolerance",
    "to_host",
    "two_classes",
]

#: Smallest probability that has a logarithm of its own, see `log_probabilities`.
_EPS = float(np.finfo(np.float64).eps)

PROBABILITIES_AS_LOGITS = (
    "logits: every row is non-negative and sums to 1, as probabilities do. If the model ends with "
    "a softmax, pass them as probabilities=: a second softmax changes the loss."
)


def snapshot(values: Any) -> Any:
    """A copy that later changes of `values` can't reach, outside any autograd graph.

    That of a tensor on the host is an array of NumPy, whose operations start sooner.
    """
    if type(values) is np.ndarray:
        return values.copy()
    if hasattr(values, "detach"):
        if getattr(values, "is_cpu", False) and _is_numpy_type(values.dtype):
            return (values.detach() if values.requires_grad else values).numpy().copy()
        return values.detach().clone()
    if hasattr(values, "__array_namespace__") and not isinstance(values, np.ndarray):
        return values  # JAX and other immutable arrays
    return np.array(values)


@cache
def _is_numpy_type(dtype: Any) -> bool:
    """Whether a type of PyTorch is one that NumPy has, and computes in as the host does."""
    return not dtype.is_floating_point or dtype.itemsize >= 4


def to_host(batches: Sequence[Any]) -> npt.NDArray[Any]:
    """One NumPy array from the batches of an epoch, with one copy from their device.

    bfloat16 and float16 become float32, which holds them exactly.
    """
    whole = joined(batches)
    if is_torch_array(whole):
        whole = whole.float() if whole.is_floating_point() and whole.itemsize < 4 else whole
        return np.asarray(whole.cpu().numpy())
    return np.asarray(whole)


def joined(batches: Sequence[Any]) -> Any:
    """One array from those of several batches, where they live."""
    if isinstance(batches[0], np.ndarray):
        return np.concatenate(batches)
    return array_namespace(batches[0]).concat(list(batches))


def canonical_ids(ids: Any) -> npt.NDArray[Any]:
    """Ids as int64 or str, see `history.id_array`.

    Raises:
        ParameterError: if they are not what `history.id_array` takes.
    """
    if hasattr(ids, "detach"):
        ids = ids.detach().cpu().numpy()
    return id_array(ids, "ids", size="batch")


def shape_error(name: str, shape: tuple[int, ...], n_ids: int) -> RecordingError:
    """The error for losses, or further columns, that are not one per sample."""
    if name != "loss":
        return RecordingError(
            f"{name}: must have shape ({n_ids},), one value per id, got {tuple(shape)}."
        )
    if not shape:
        return RecordingError(
            "losses: must have one value per sample, got a single number. "
            "The criterion reduces the batch: construct it with reduction='none'."
        )
    return RecordingError(
        f"losses: must have shape ({n_ids},), one value per id, got {tuple(shape)}. "
        "Average over the other dimensions first, or pass parts of the loss as components."
    )


def class_logits(logits: Any) -> Any:
    """Logits with a column per class; a single one per sample is the margin of class 1.

    Args:
        logits: (batch, n_classes) floating-point array of any library, or a single logit per
            sample, (batch,) or (batch, 1), as `BCEWithLogitsLoss` takes it.

    Returns:
        (batch, n_classes), with the columns 0 and z in place of a single logit z: their softmax is
        1 − σ(z) and σ(z).

    Raises:
        ParameterError: if they are integers or truth values.
    """
    values = logits if hasattr(logits, "shape") else np.asarray(logits)
    namespace = array_namespace(values)
    if namespace.isdtype(values.dtype, ("bool", "integral")):
        raise ParameterError(
            "logits",
            "must be floating-point numbers",
            str(values.dtype),
            "Pass the outputs of the model, not the classes that it predicts.",
        )
    if values.ndim == 1:
        values = namespace.reshape(values, (-1, 1))
    if values.ndim == 2 and values.shape[1] == 1:
        values = namespace.concat([namespace.zeros_like(values), values], axis=1)
    return values


def class_labels(labels: Any) -> Any:
    """Class indices as one integer per sample, also where a binary criterion takes floats.

    Args:
        labels: (batch,) or (batch, 1) array of any library.

    Returns:
        (batch,). Floats that are whole numbers are integers then; others are left as they are.
    """
    values = labels if hasattr(labels, "shape") else np.asarray(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.reshape(-1)
    if array_namespace(values).isdtype(values.dtype, "real floating"):
        whole: Any = values.long() if is_torch_array(values) else np.asarray(values, np.int64)
        return whole if bool((whole == values).all()) else values
    return values


def check_classes(values: Mapping[str, Any]) -> None:
    """Refuse labels beside logits that are no class indices, before an epoch is spent on them.

    Args:
        values: "logits" and "labels", in the shapes that `Recorder.update` takes.

    Raises:
        RecordingError: if there are such labels.
    """
    if not values.keys() >= {"logits", "labels"}:
        return
    labels = to_host([class_labels(values["labels"])])
    n_classes = class_logits(values["logits"]).shape[1]
    if labels.dtype.kind not in "iub":
        raise RecordingError(
            f"labels: must be class indices beside logits, got {labels.dtype.name}. If the targets "
            "are not classes, pass extract, a function that returns the losses alone."
        )
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        wrong = labels[(labels < 0) | (labels >= n_classes)][0]
        raise RecordingError(
            f"labels: must be from 0 to {n_classes - 1} beside logits of {n_classes} classes, got "
            f"{int(wrong)}. Leave out what the loss ignores, or pass extract, a function that "
            "returns the losses alone."
        )


def is_single(outputs: Any) -> bool:
    """Whether outputs, (n,) or (n, n_columns), are one number per sample."""
    return bool(outputs.ndim < 2 or outputs.shape[1] == 1)


def two_classes(probabilities: Any) -> Any:
    """A probability per class, where there was that of class 1 alone."""
    if not is_single(probabilities):
        return probabilities
    column = probabilities.reshape(-1, 1)
    return array_namespace(column).concat([1 - column, column], axis=1)


def log_probabilities(probabilities: Any) -> Any:
    """Natural logarithm of probabilities clipped from below at 2.2e-16, in float64.

    A class of probability 0 has thereby the loss 36.04, where the formula would give infinity, as
    in scikit-learn's ``log_loss`` on float64. Rows of several clipped classes shift the others by
    as little.

    >>> log_probabilities(np.array([1.0, 0.5, 0.0])).round(2).tolist()
    [0.0, -0.69, -36.04]
    """
    if is_torch_array(probabilities):
        return probabilities.double().clamp(min=_EPS).log()
    return np.log(np.maximum(np.asarray(probabilities).astype(np.float64), _EPS))


def looks_like_probabilities(logits: npt.NDArray[Any]) -> bool:
    """Whether every row is non-negative and sums to 1 up to rounding, as those of logits never do.

    Args:
        logits: (n_rows, n_classes) on the host, n_classes ≥ 2. Up to 1,000 rows are looked at.
    """
    rows = logits[:1000].astype(np.float64)
    if rows.ndim != 2 or rows.shape[1] < 2 or not rows.size:
        return False
    tolerance = sum_tolerance(logits, 1e-4)
    return bool((rows >= 0).all() and (np.abs(rows.sum(axis=1) - 1) <= tolerance).all())


def sum_tolerance(probabilities: Any, full: float) -> float:
    """By how much rows of probabilities may miss the sum 1.

    Args:
        probabilities: array of any library.
        full: what float32 and float64 may miss it by; bfloat16 and float16 may by 0.02.
    """
    return 2e-2 if probabilities.dtype.itemsize < 4 else full
