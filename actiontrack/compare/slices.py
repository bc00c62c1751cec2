"""Are the samples of a slice harder than the others, beyond what their classes explain?

A *slice* is a set of samples that share an attribute, or several. Its samples are compared with
those of the same class outside it, so that "night" is not just "cat": by their ranks within the
class, as in van Elteren's stratified rank test (1960), whose statistic is standardised here by the
exact mean and variance that it has when attributes are permuted within classes.

The size of an effect is the chance that a sample of the slice is harder than one of its class
outside it, ties counting one half (`p_harder`): 0.5 where the slice makes no difference. Classes
are averaged with weights n (N - n) / N for n of their N samples in the slice.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control, norm

from actiontrack.compare.matrices import Floats, Ints
from actiontrack.compare.ranks import run_matrix
from actiontrack.compare.sorting import ascending, write_ranks_by_class
from actiontrack.errors import ParameterError

__all__ = [
    "Grouping",
    "SliceEffects",
    "Strata",
    "false_discovery_rates",
    "slice_effects",
    "slice_interval",
    "slice_variances",
]

_BINS = 256  # of the influences of samples, from which resamples are drawn
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Grouping:
    """A partition of the samples by an attribute, or by several.

    Attributes:
        codes: (N,) integers, the group of each sample, from 0.
        n_groups: above all codes.
    """

    codes: NDArray[np.integer]
    n_groups: int

    def crossed(self, second: "Grouping") -> "Grouping":
        """The groups of both at once; codes count through those of `second` first."""
        codes = self.codes * np.intp(second.n_groups)
        codes += second.codes
        return Grouping(codes, self.n_groups * second.n_groups)

    def sizes(self) -> Ints:
        """Samples of each group, (n_groups,)."""
        return np.bincount(self.codes, minlength=self.n_groups)


@dataclass(frozen=True)
class Strata:
    """Samples ranked within their classes.

    Attributes:
        classes: (N,) integers, the class of each sample, from 0.
        sizes: (C,) samples of each class.
        deviations: (N,) rank within the class divided by the size of the class, minus its mean
            there; averaged over runs. From -0.5 (easiest) to 0.5 (hardest).
        variances: (C,) mean square of the deviations of each class.
    """

    classes: NDArray[np.integer]
    sizes: Ints
    deviations: Floats
    variances: Floats

    @classmethod
    def of(cls, values: ArrayLike, classes: ArrayLike | None = None) -> "Strata":
        """Rank the samples of each class.

        Args:
            values: scores where high is hard, shape ``(R, N)``, any float dtype, all finite.
            classes: (N,) integers from 0. Default: all samples are of one class.

        Raises:
            ParameterError: if a shape is wrong, or a score is not finite.
        """
        rows = run_matrix(values)
        n_samples = rows.shape[1]
        codes = np.zeros(n_samples, np.intp) if classes is None else np.asarray(classes)
        if codes.shape != (n_samples,) or codes.dtype.kind not in "iu":
            rule, got = f"must be integers of shape ({n_samples},)", (str(codes.dtype), codes.shape)
            raise ParameterError("classes", rule, got, "Pass the class of each sample.")
        if not np.isfinite(rows).all():
            rule = "must be finite"
            raise ParameterError("values", rule, "NaN or infinite", "Leave such samples out.")
        sizes = np.bincount(codes)
        codes = codes.astype(np.min_scalar_type(max(sizes.size - 1, 0)))
        deviations = np.zeros(n_samples)
        for row in rows:
            ranks = np.empty(n_samples)
            write_ranks_by_class(row, ascending(row)[0], codes, sizes, ranks)
            deviations += ranks
        deviations /= len(rows) * sizes[codes]
        squares = np.bincount(codes, deviations**2, minlength=sizes.size)
        return cls(codes, sizes, deviations, squares / np.maximum(sizes, 1))


@dataclass(frozen=True)
class SliceEffects:
    """What the groups of a `Grouping` differ by from the other samples of their classes.

    Attributes:
        sizes: (G,) samples of each group.
        weights: (G,) the sum of n (N - n) / N over the classes: about the number of samples of the
            group that have others of their class to be compared with.
        p_harder: (G,) chance that a sample of the group is harder than one of its class outside
            it; NaN where classes lie wholly in the group or outside it.
        p_values: (G,) of the permutation of attributes within classes, two-sided, by the normal
            approximation with the exact mean and variance; NaN as `p_harder`.
    """

    sizes: Ints
    weights: Floats
    p_harder: Floats
    p_values: Floats


def slice_effects(strata: Strata, groups: Grouping) -> SliceEffects:
    """Compare each group with the other samples of its classes.

    Args:
        strata: of the samples.
        groups: a partition of the same samples.

    Returns:
        Effects, in the order of the codes of the groups.
    """
    n_classes = strata.sizes.size
    in_class = groups.crossed(Grouping(strata.classes, n_classes)).sizes()
    inside = in_class.reshape(groups.n_groups, n_classes).astype(np.float64)
    outside = strata.sizes - inside
    sums = np.bincount(groups.codes, strata.deviations, minlength=groups.n_groups)
    products = inside * outside
    weights = products @ _inverse(strata.sizes)
    variances = products @ (strata.variances * _inverse(strata.sizes - 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        differences = np.where(weights > 0, sums / weights, np.nan)
        deviates = np.where(variances > 0, sums / np.sqrt(variances), np.nan)
    return SliceEffects(
        sizes=inside.sum(axis=1).astype(np.intp),
        weights=weights,
        p_harder=0.5 + differences,
        p_values=2 * norm.sf(np.abs(deviates)),
    )


def slice_interval(
    strata: Strata, members: NDArray[np.bool_], *, times: int = 500, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of `p_harder` of a slice, over all samples.

    Resamples are drawn from the influences of the samples on the difference of the means of each
    class, rounded to 256 levels, so that a million samples take no longer than a thousand.

    Args:
        strata: of the samples.
        members: (N,) whether a sample is in the slice.
        times: resamples.
        seed: of their draws.

    Returns:
        The ends of the interval; NaN where the slice has no `p_harder`.
    """
    n_classes = strata.sizes.size
    members = np.asarray(members, dtype=np.bool_)
    inside = np.bincount(strata.classes[members], minlength=n_classes).astype(np.float64)
    outside = strata.sizes - inside
    weights = inside * outside * _inverse(strata.sizes)
    if not weights.sum() > 0:
        return np.nan, np.nan
    rng = np.random.default_rng(seed)
    drawn = np.zeros(times)
    centre = 0.0
    for part, n_part, sign in ((members, inside, 1.0), (~members, outside, -1.0)):
        classes, deviations = strata.classes[part], strata.deviations[part]
        scale = weights * _inverse(n_part) / weights.sum()
        influences = sign * deviations * scale[classes]
        centre += influences.sum()
        means = np.bincount(classes, deviations, minlength=n_classes) * _inverse(n_part)
        drawn += _resampled_sums(sign * (deviations - means[classes]) * scale[classes], times, rng)
    tail = (1 - _CONFIDENCE) / 2
    low, high = np.quantile(centre + drawn, (tail, 1 - tail)) + 0.5
    return float(max(low, 0.0)), float(min(high, 1.0))


def _resampled_sums(values: Floats, times: int, rng: np.random.Generator) -> Floats:
    """Sums of resamples of values, (times,)."""
    low, high = float(values.min()), float(values.max())
    if low == high:
        return np.full(times, low * values.size)
    step = (high - low) / (_BINS - 1)
    counts = np.bincount(np.rint((values - low) / step).astype(np.intp), minlength=_BINS)
    levels = low + step * np.arange(_BINS)
    filled = counts > 0
    draws = rng.multinomial(values.size, counts[filled] / values.size, size=times)
    sums: Floats = draws @ levels[filled]
    return sums


def slice_variances(strata: Strata, values: Floats, groups: Grouping) -> Floats:
    """Variance over samples of the weighted difference of means that `p_harder` is made of.

    Args:
        strata: of the samples, for their classes.
        values: (N,) of the samples, in place of their deviations.
        groups: a partition of the samples.

    Returns:
        (G,), NaN where classes lie wholly in the group or outside it.
    """
    n_classes = strata.sizes.size
    cells = groups.crossed(Grouping(strata.classes, n_classes))
    shape = (groups.n_groups, n_classes)
    n_in = cells.sizes().reshape(shape).astype(np.float64)
    n_out = strata.sizes - n_in
    sums, squares = (
        np.bincount(cells.codes, powers, n_in.size).reshape(shape).astype(np.float64)
        for powers in (values, values**2)
    )
    spread = _squared_error(n_in, sums, squares)
    outer_sums, outer_squares = (part.sum(axis=0) - part for part in (sums, squares))
    spread += _squared_error(n_out, outer_sums, outer_squares)
    weights = n_in * n_out * _inverse(strata.sizes)
    totals = weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        variances: Floats = (weights**2 * spread).sum(axis=1) / totals**2
    return variances


def false_discovery_rates(p_values: ArrayLike) -> Floats:
    """Benjamini and Hochberg's (1995) adjusted p-values: the rate of false discoveries up to each.

    Args:
        p_values: (M,) of all that was tried; NaN for what could not be.

    Returns:
        (M,) in 0..1, NaN where there was none.
    """
    tried = np.asarray(p_values, dtype=np.float64)
    rates = np.full(tried.shape, np.nan)
    usable = np.isfinite(tried)
    if usable.any():
        rates[usable] = false_discovery_control(tried[usable])
    return rates


def _squared_error(n: Floats, sums: Floats, squares: Floats) -> Floats:
    """Squared standard error of means, from sums and sums of squares."""
    share = _inverse(n)
    return np.maximum(squares * share - (sums * share) ** 2, 0) * share


def _inverse(sizes: Floats | Ints) -> Floats:
    """One over each, 0 where there is none."""
    whole = np.asarray(sizes, dtype=np.float64)
    return np.where(whole > 0, 1 / np.where(whole > 0, whole, 1.0), 0.0)
