"""Slices without a column: the parts into which the features of each class fall.

Features know nothing of the losses of single samples, so that the parts can be tested as any other
attribute is; what they share is for people to see, by their images.
"""

import contextlib

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.cluster.vq import ClusterError, kmeans2

from actiontrack.analysis.loading import score_frame
from actiontrack.analysis.tables import open_record
from actiontrack.errors import ParameterError
from actiontrack.store import StoredRecord

__all__ = ["CLUSTER", "feature_clusters"]

#: Column of `feature_clusters` beside the ids.
CLUSTER = "feature_cluster"
_MOST = 20
_RESTARTS = 5
_ITERATIONS = 50


def feature_clusters(record: StoredRecord, *, k: int = 3, seed: int = 0) -> pd.DataFrame:
    """The part of its class that each sample is in, by k-means of the features.

    Args:
        record: an open record that holds features.
        k: parts of each class, 2 to 20; a class of fewer than 2 k samples stays whole.
        seed: of the starts of k-means, of which the best of five counts.

    Returns:
        sample_id and feature_cluster, such as "cat 1": the class, and the number of the part, the
        largest first. An attribute to be kept, or to be sliced by.

    Raises:
        NotFoundError: if the record holds no features.
        ParameterError: if k is out of its range.
    """
    if not 2 <= k <= _MOST:
        rule = f"must lie in 2..{_MOST}"
        raise ParameterError("k (--from-features)", rule, k, "Pass 3.")
    features = np.asarray(open_record(record).features(), dtype=np.float64)
    table = score_frame([record])
    names = np.empty(len(table), dtype=object)
    rng = np.random.default_rng(seed)
    for name, rows in table.groupby(table["class"].astype(str), sort=True).indices.items():
        parts = _parts(features[rows], k, rng)
        names[rows] = [f"{name} {part + 1}" for part in parts.tolist()]
    return pd.DataFrame({"sample_id": table["sample_id"], CLUSTER: names})


def _parts(
    points: npt.NDArray[np.float64], k: int, rng: np.random.Generator
) -> npt.NDArray[np.intp]:
    """Part of each point, numbered by size; 0 for all where there are too few or they agree."""
    alike = np.zeros(len(points), dtype=np.intp)
    if len(points) < 2 * k or not np.isfinite(points).all():
        return alike
    best, least = alike, np.inf
    for _ in range(_RESTARTS):
        with contextlib.suppress(ClusterError):
            centres, parts = kmeans2(
                points, k, iter=_ITERATIONS, minit="++", missing="raise", rng=rng
            )
            inertia = float(((points - centres[parts]) ** 2).sum())
            if inertia < least:
                best, least = np.asarray(parts, dtype=np.intp), inertia
    order = np.argsort(-np.bincount(best, minlength=k), kind="stable")
    numbers: npt.NDArray[np.intp] = np.argsort(order)[best]
    return numbers
