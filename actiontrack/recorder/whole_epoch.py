"""Whole epochs of a loader: how many samples they have, and whether they are the same ones."""

from collections.abc import Sized
from typing import Any

from actiontrack.errors import RecordingError

__all__ = ["check_same_samples", "number_of_samples"]


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


def check_same_samples(loader: Any, n_batches: float) -> None:
    """Refuse a training whose shuffled epochs see only some of their batches.

    Each epoch would see other samples, and no sample all epochs.

    Args:
        loader: of the training batches.
        n_batches: batches of one epoch.

    Raises:
        RecordingError: names both numbers and the remedies.
    """
    sampler = getattr(loader, "sampler", None)
    shuffles = type(sampler).__name__ == "RandomSampler" or getattr(sampler, "shuffle", False)
    if shuffles and isinstance(loader, Sized) and n_batches < len(loader):
        raise RecordingError(
            f"the epochs of this training see {n_batches:g} of {len(loader)} shuffled batches, "
            "others in every epoch: no sample would have a loss in each. Record an evaluation pass "
            "(mode='probe'), do not shuffle, or train on a subset of the dataset."
        )
