"""Arrays of any library, kept on their device until the epoch ends, then copied once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, is_torch_array

from actiontrack.errors import RecordingError
from actiontrack.history import id_array

__all__ = ["canonical_ids", "joined", "shape_error", "snapshot", "to_host"]


def snapshot(values: Any) -> Any:
    """A copy that later changes of `values` can't reach, outside any autograd graph."""
    if hasattr(values, "detach"):
        return values.detach().clone()
    if hasattr(values, "__array_namespace__") and not isinstance(values, np.ndarray):
        return values  # JAX and other immutable arrays
    return np.array(values)


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
