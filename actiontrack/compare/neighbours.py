"""Nearest neighbours and principal components of feature vectors."""

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial.distance import cdist

from actiontrack.compare.matrices import Floats, Ints
from actiontrack.errors import ParameterError

__all__ = [
    "nearest_neighbours",
    "principal_components",
]

_DISTANCES_AT_ONCE = 2**19  # elements of a block of distances: 4 MB stay in cache


def principal_components(points: ArrayLike, n: int = 2) -> tuple[Floats, Floats]:
    """Principal components of centred points, by singular value decomposition.

    Args:
        points: (n_points, n_features), finite.
        n: how many, at most n_features.

    Returns:
        (n_points, n) coordinates and (n,) share of the variance that each explains (NaN where all
        points are the same). The sign of a component is arbitrary: its largest loading is
        positive.

    Raises:
        ParameterError: if the points are not two-dimensional and finite, or n is out of range.
    """
    values = np.asarray(points, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        rule = "must be finite and have shape (n_points, n_features)"
        raise ParameterError("points", rule, values.shape, "Leave out points that are not finite.")
    if not 1 <= n <= min(values.shape):
        rule = f"must be 1 to {min(values.shape)}"
        raise ParameterError("n", rule, n, "Ask for no more components than features.")
    centred = values - values.mean(axis=0)
    _, singular, loadings = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(loadings[:n]).argmax(axis=1)
    signs = np.sign(loadings[np.arange(n), largest])
    with np.errstate(invalid="ignore"):
        explained = (singular**2 / (singular**2).sum())[:n]
    return centred @ (loadings[:n].T * signs), explained


def nearest_neighbours(
    features: ArrayLike, queries: ArrayLike, *, k: int = 8
) -> tuple[Ints, Floats]:
    """Find the samples closest to others in feature space, by exact L2 distance (paper Fig. 5).

    Args:
        features: Shape ``(N, D)``, any float dtype; distances are computed in float64, for a few
            queries at a time.
        queries: Positions of the samples to look around, integers of shape ``(Q,)``.
        k: Number of neighbours, 1..N-1. A sample is no neighbour of its own.

    Returns:
        Positions of the neighbours, shape ``(Q, k)``, the closest first, equal distances in order
        of position; and their distances, shape ``(Q, k)``, float64.

    Raises:
        ParameterError: A shape is wrong, a feature is not finite, k or a query is out of range.
    """
    points, query_rows = np.asarray(features, dtype=np.float64), np.asarray(queries, dtype=np.intp)
    if points.ndim != 2:
        remedy = "Pass one feature vector per sample."
        raise ParameterError("features", "must have shape (samples, D)", points.shape, remedy)
    _check_neighbours(points, query_rows, k)
    chunk = max(1, _DISTANCES_AT_ONCE // len(points))
    nearest, distance = np.empty((query_rows.size, k), np.intp), np.empty((query_rows.size, k))
    for start in range(0, query_rows.size, chunk):
        rows = query_rows[start : start + chunk]
        matrix = cdist(points[rows], points)
        matrix[np.arange(rows.size), rows] = np.inf
        near = np.argsort(matrix, axis=1, kind="stable")[:, :k]
        nearest[start : start + chunk] = near
        distance[start : start + chunk] = np.take_along_axis(matrix, near, axis=1)
    return nearest, distance


def _check_neighbours(points: Floats, query_rows: Ints, k: int) -> None:
    n_samples = len(points)
    if not np.isfinite(points).all():
        bad = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        rule = "must be finite"
        raise ParameterError("features", rule, f"row {bad}", "Leave such samples out.")
    if not 1 <= k < n_samples:
        rule = f"must lie in 1..{n_samples - 1}, the number of other samples"
        raise ParameterError("k", rule, k, "Choose a smaller k.")
    outside = query_rows[(query_rows < 0) | (query_rows >= n_samples)]
    if outside.size:
        rule = f"must lie in 0..{n_samples - 1}"
        raise ParameterError("queries", rule, int(outside[0]), "Pass positions of samples.")
