"""Choosing samples class by class, by a seed and by their ids only.

Samples are ranked by a hash of seed and id instead of by a random generator: the choice is the
same with every version of every library, a smaller subset lies inside a larger one, and a file
added to a folder changes at most its neighbours in rank. The run's own seed plays no part:
runs that are to be compared must have the same samples.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from actiontrack.errors import ParameterError
from projects.datasets.split import Ids, Labels

__all__ = ["allocate", "check_total", "pick_per_class", "stratified_subset"]

Positions = NDArray[np.int64]


def check_total(total: int, size: int, argument: str, *, split: str = "the split") -> None:
    """Check that a split has as many images as a subset is to have.

    Args:
        total: How many to choose; 0 for all of them.
        size: How many there are.
        argument: The parameter that says how many.
        split: Words for the split.

    Raises:
        ParameterError: There are not so many.
    """
    if total > size:
        rule = f"must be at most {size}, the images of {split}"
        raise ParameterError(argument, rule, total, f"Pass --{argument} 0 for all of them.")


def allocate(counts: Positions, total: int) -> Positions:
    """Share a total out in proportion to the classes' sizes (largest remainder method).

    Args:
        counts: int64 (n_classes,), samples per class.
        total: How many to choose, at most ``counts.sum()``.

    Returns:
        int64 (n_classes,) that sums to `total`; each within 1 of its exact share. The earlier
        class wins a tie.
    """
    # Whole numbers throughout: share = count * total / N, remainder over N.
    shares, remainders = np.divmod(counts * total, counts.sum())
    missing = total - int(shares.sum())
    shares[np.argsort(-remainders, kind="stable")[:missing]] += 1
    return shares


def _rank_key(seed: int, sample_id: object) -> bytes:
    return hashlib.blake2b(f"{seed}/{sample_id}".encode(), digest_size=16).digest()


def pick_per_class(ids: Ids, labels: Labels, *, quota: Positions, seed: int) -> Positions:
    """Choose a given number of samples of each class.

    Args:
        ids: int64 or str (N,), unique.
        labels: int64 (N,).
        quota: int64 (n_classes,), how many of each class, at most its size.
        seed: Another seed, another choice.

    Returns:
        Positions, int64 (quota.sum(),), ascending.
    """
    keys = [_rank_key(seed, sample_id) for sample_id in ids.tolist()]
    ranked = np.asarray(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.int64)
    chosen = [ranked[labels[ranked] == c][:n] for c, n in enumerate(quota)]
    return np.sort(np.concatenate(chosen))


def stratified_subset(
    ids: Ids, labels: Labels, *, n_classes: int, total: int, seed: int
) -> Positions:
    """Choose a subset with the class proportions of the whole.

    Args:
        ids: int64 or str (N,), unique.
        labels: int64 (N,), 0..n_classes - 1.
        n_classes: Number of classes.
        total: Size of the subset, at most N.
        seed: Another seed, another choice.

    Returns:
        Positions, int64 (total,), ascending.
    """
    counts = np.bincount(labels, minlength=n_classes).astype(np.int64)
    return pick_per_class(ids, labels, quota=allocate(counts, total), seed=seed)
