"""Groups of loss curves of a similar course, by k-means."""

import contextlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.cluster.vq import ClusterError, kmeans2, vq

from actiontrack.compare.matrices import Floats, Ints
from actiontrack.compare.ranks import spearman_matrix
from actiontrack.errors import ParameterError

__all__ = [
    "CurveClusters",
    "cluster_curves",
]

_TREND = 0.1  # share of its mean level by which a curve has to change, to count as changing
_DIRECTION = 0.5  # Spearman's ρ with the step beyond which a curve goes one way
_RESTARTS = 5  # of k-means, each from its own k-means++ start
_RESTART_SAMPLE = 10_000  # curves that decide between the restarts of k-means
_FEW = 1000  # curves of which mostly k differ, without a look at all
_LLOYD = 10  # iterations of k-means between two looks at whether anything still moves
_MAX_LLOYD = 10  # such looks


@dataclass(frozen=True, kw_only=True)
class CurveClusters:
    """Clusters of loss curves, the hardest first: by the mean of their centre (paper Fig. 2).

    Attributes:
        centres: Mean curve of each cluster, shape ``(k, n_steps)``, float64.
        trends: "decreasing", "flat" or "increasing" for each centre, length k.
        members: Cluster of each sample, shape ``(N,)``, 0 for the hardest; -1 for a sample whose
            curve is not finite, which belongs to none.
        closest: For each cluster the positions of the curves closest to its centre, closest first.
        inertia: Sum of the squared distances of the curves to their centres.
    """

    centres: Floats
    trends: tuple[str, ...]
    members: Ints
    closest: tuple[Ints, ...]
    inertia: float

    @property
    def sizes(self) -> Ints:
        """Number of samples in each cluster, shape ``(k,)``."""
        return np.bincount(self.members[self.members >= 0], minlength=len(self.centres))


def cluster_curves(
    losses: ArrayLike, *, k: int = 3, seed: int = 0, n_closest: int = 3
) -> CurveClusters:
    """Group loss curves by k-means: which samples are learnt, and which are not (paper Fig. 2).

    Euclidean k-means with scikit-learn's k-means++ starts; the best of several restarts, the same
    for the same seed. Of more than 10,000 curves a random part decides which start is the best. A
    centre is "decreasing" or "increasing" if two things hold, otherwise "flat": the straight line
    fitted to it over the recorded steps falls or rises by more than a tenth of the centre's mean
    absolute level between the first step and the last, and the centre goes that way throughout
    (Spearman's ρ with the step is beyond ±0.5). Two centres may have the same trend.

    Args:
        losses: Shape ``(n_steps, N)``, any float dtype.
        k: Number of clusters.
        seed: Seed of the starts.
        n_closest: How many curves to name for each centre.

    Returns:
        The clusters, hardest first.

    Raises:
        ParameterError: ``losses`` is not two-dimensional, k is not positive, or there are
            fewer than k distinct finite curves.
    """
    grid = np.asarray(losses)
    if grid.ndim != 2:
        remedy = "Stack the steps."
        raise ParameterError("losses", "must have shape (steps, samples)", grid.shape, remedy)
    if k < 1:
        raise ParameterError("k", "must be positive", k, "Pass 3, for instance.")
    finite = np.flatnonzero(np.isfinite(grid).all(axis=0))
    curves = np.ascontiguousarray(grid[:, finite].T, dtype=np.float64)
    rng = np.random.RandomState(np.random.MT19937(seed))  # the kind that scikit-learn takes
    starts = _starts(curves, k, rng)
    if len(curves) > _RESTART_SAMPLE:
        part = curves[np.sort(rng.choice(len(curves), _RESTART_SAMPLE, replace=False))]
        starts = [min((_kmeans(part, start) for start in starts), key=lambda fit: fit[0])[1]]
    fits = [_kmeans(curves, start) for start in starts]
    inertia, centres, codes = min(fits, key=lambda fit: fit[0])
    order = np.argsort(-centres.mean(axis=1), kind="stable")
    centres, codes = centres[order], np.argsort(order)[codes]
    members = np.full(grid.shape[1], -1)
    members[finite] = codes
    closest = []
    for number, centre in enumerate(centres):
        rows = np.flatnonzero(codes == number)
        distance = ((curves[rows] - centre) ** 2).sum(axis=1)
        closest.append(finite[rows[np.argsort(distance, kind="stable")[:n_closest]]])
    return CurveClusters(
        centres=centres,
        trends=tuple(_trend(centre) for centre in centres),
        members=members,
        closest=tuple(closest),
        inertia=inertia,
    )


def _starts(curves: Floats, k: int, rng: np.random.RandomState) -> list[Floats]:
    """Centres (k, n_steps) to start from, by k-means++, one set for each restart."""
    n_distinct = _distinct_up_to(curves, k)
    if n_distinct < k:
        rule = f"must be at most {n_distinct}, the number of distinct finite curves"
        raise ParameterError("k", rule, k, "Choose fewer clusters.")
    starts = []
    for _ in range(_RESTARTS):
        with contextlib.suppress(ClusterError):  # two centres of almost equal curves
            starts.append(kmeans2(curves, k, iter=1, minit="++", missing="raise", seed=rng)[0])
    if not starts:
        rule = "must be at most the number of curves that differ by more than rounding"
        raise ParameterError("k", rule, k, "Choose fewer clusters.")
    return starts


def _distinct_up_to(curves: Floats, k: int) -> int:
    """How many of the curves differ, counted no further than k."""
    if len(curves) > _FEW and _distinct_up_to(curves[:_FEW], k) == k:
        return k
    count = 0
    while count < k and len(curves):
        curves = curves[(curves != curves[0]).any(axis=1)]
        count += 1
    return count


def _kmeans(curves: Floats, centres: Floats) -> tuple[float, Floats, Ints]:
    """Iterate until no curve changes its cluster: inertia, centres (k, n_steps), codes (N,)."""
    codes, distances = vq(curves, centres)
    for _ in range(_MAX_LLOYD):
        try:
            centres, _ = kmeans2(curves, centres, iter=_LLOYD, minit="matrix", missing="raise")
        except ClusterError:  # a cluster lost all its curves: this start ends here
            break
        before = codes
        codes, distances = vq(curves, centres)
        if np.array_equal(before, codes):
            break
    return float((distances**2).sum()), centres, codes.astype(np.intp)


def _trend(curve: Floats) -> str:
    steps = np.arange(curve.size) - (curve.size - 1) / 2
    spread = float((steps**2).sum())
    change = float(steps @ curve) / spread * (curve.size - 1) if spread else 0.0
    direction = spearman_matrix(np.stack([curve, steps]))[0, 1]  # NaN if all values are the same
    if abs(change) > _TREND * np.abs(curve).mean() and direction * np.sign(change) > _DIRECTION:
        return "increasing" if change > 0 else "decreasing"
    return "flat"
