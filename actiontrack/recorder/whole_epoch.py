"""How many samples a whole epoch of a loader has, so that a part of one is known by it."""

from collections.abc import Sized
from typing import Any

__all__ = ["number_of_samples"]


def number_of_samples(loader: Any) -> int | None:
    """Samples of the dataset of a loader, or None where it does not say.

    Args:
        loader: a DataLoader, or anything else that may have a ``dataset``.
    """
    dataset = getattr(loader, "dataset", None)
    try:
        return len(dataset) if isinstance(dataset, Sized) else None
    except TypeError:  # of an iterable dataset
        return None
