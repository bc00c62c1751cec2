"""Which labels are wrong, and what is right: from what a network made of them while it learned.

A network learns what a sample looks like before it learns a wrong label by heart, so the classes
that it gave the sample meanwhile are evidence about the truth:

1. The probabilities of the classes are averaged over the steps, later ones weighing more, and
   sharpened as much as explains the given labels best.
2. The labels are taken to come from the truth through a matrix of confusions, which is estimated
   from all samples together. What follows for each sample is the probability that its label is
   wrong, and the class that is right. It ranks the samples.
3. What was learnt by heart makes these probabilities too small. How many labels are wrong is
   therefore estimated by itself, from the first half of the steps: the confusions of a class are
   those among its most typical samples, the half of which the network was surest. The log-odds of
   all samples are shifted until the probabilities add up to that number.

Sources: mean probabilities of a label over training: Swayamdipta et al. 2020, and with those of
the other classes the comparison of detectors in arXiv 2510.16211; the matrix of confusions and its
estimate by expectation maximisation: Dawid and Skene 1979, and for networks Goldberger and
Ben-Reuven 2017; typical samples: the anchor points of Patrini et al. 2017; sharpening: temperature
scaling, Guo et al. 2017; what is learnt first: Arpit et al. 2017.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.history import FloatArray, IntArray, LossHistory

__all__ = [
    "MEASURES",
    "Evidence",
    "LabelErrors",
    "MeanProbabilities",
    "evidence_of",
    "label_errors",
    "mean_probabilities",
    "step_weights",
]

#: Measures of a classifier, see `history.MEASURES`, from which one learns about its labels.
MEASURES = ("target_probability", "margin", "largest_other")

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_MOST_CLASSES = 2_048  # whose confusions are held: a number for each pair
_RIVALS = 8  # classes whose probabilities are held for each sample; the rest share what remains
_SAMPLES = 2**14  # whose probabilities are added up at once
_FITTED = 2**17  # samples at most that the confusions are estimated from
_SHARPENED = 2**14  # samples at most that the exponent is chosen by
_EXPONENTS = (0.5, 20.0)
_ROUNDS, _TOLERANCE = 200, 1e-6
_LEAST = 1e-5  # mean probability of a class
_TINY = 1e-15  # probability that a label is wrong, or right
_TYPICAL, _FEWEST = 0.5, 30  # samples of a class that its confusions are read from
_START = 9.0  # times as many right labels as wrong ones, before the first round
_PRIOR = 1.0  # samples of each class, spread evenly over all labels, that the estimate starts from


@dataclass(frozen=True)
class MeanProbabilities:
    """Means over the steps of the probabilities of the classes, by sample.

    Attributes:
        label: (n_samples,) of the label; NaN for a sample that was missing in a step.
        rivals: (n_samples, k) of the most probable other classes, in descending order; 0 where
            there are fewer.
        rival_classes: (n_samples, k) their indices, -1 where there are fewer.
        rest: (n_samples,) of each class that is neither.
    """

    label: Floats
    rivals: Floats
    rival_classes: Ints
    rest: Floats


def mean_probabilities(
    target_probability: FloatArray,
    margin: FloatArray,
    largest_other: IntArray,
    *,
    weights: npt.ArrayLike,
    n_classes: int,
) -> MeanProbabilities:
    """Mean probabilities of the classes, from those of the label and of the best other class.

    The best other class has the probability p · exp(−margin), where p is that of the label. What
    the two leave is shared evenly by the other classes.

    Args:
        target_probability: (n_steps, n_samples) softmax probability of the label.
        margin: (n_steps, n_samples) logit of the label minus the largest other logit.
        largest_other: (n_steps, n_samples) class index of the latter.
        weights: (n_steps,) of the steps, with the sum 1.
        n_classes: number of classes.

    >>> means = mean_probabilities(
    ...     np.array([[0.2], [0.5]]), np.log([[0.25], [2.0]]), np.array([[2], [1]]),
    ...     weights=[0.5, 0.5], n_classes=3,
    ... )
    >>> means.label.round(3), means.rivals.round(3), means.rival_classes
    (array([0.35]), array([[0.525, 0.125]]), array([[2, 1]]))
    """
    shares = np.asarray(weights, dtype=np.float64)[:, None]
    n_samples, k = margin.shape[1], min(_RIVALS, len(margin), n_classes - 1)
    label, rest = np.empty(n_samples), np.empty(n_samples)
    rivals, classes = np.empty((n_samples, k)), np.empty((n_samples, k), dtype=np.int64)
    for part in _parts(n_samples):
        p = target_probability[:, part].astype(np.float64)
        other = _other_probability(p, margin[:, part].astype(np.float64))
        spread = np.maximum(1 - p - other, 0.0) / max(n_classes - 2, 1)
        label[part] = (shares * p).sum(axis=0)
        rest[part] = (shares * spread).sum(axis=0)
        above, classes[part] = _largest_sums(shares * (other - spread), largest_other[:, part], k)
        rivals[part] = np.where(classes[part] < 0, 0.0, above + rest[part, None])
    return MeanProbabilities(label, rivals, classes, rest)


def _parts(n_samples: int) -> Iterator[slice]:
    return (slice(start, start + _SAMPLES) for start in range(0, n_samples, _SAMPLES))


def _other_probability(p: Floats, margin: Floats) -> Floats:
    """Probability of the best other class; all that there is where p is too small for a float."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.minimum(np.where(p > 0, p * np.exp(-margin), 1.0), 1 - p)


def _largest_sums(values: Floats, classes: IntArray, k: int) -> tuple[Floats, Ints]:
    """Sums over the steps of the values of a class, (n_samples, k): the largest, and the classes.

    Where a sample has fewer classes the sum is −∞ and the class -1.
    """
    order = np.argsort(classes, axis=0, kind="stable")
    classes = np.take_along_axis(classes, order, axis=0).astype(np.int64)
    values = np.take_along_axis(values, order, axis=0)
    ends = np.ones(classes.shape, dtype=np.bool_)
    ends[:-1] = classes[1:] != classes[:-1]
    for step in range(1, len(values)):
        values[step] += np.where(ends[step - 1], 0.0, values[step - 1])
    sums = np.where(ends & (classes >= 0), values, -np.inf)
    rows = np.argsort(-sums, axis=0, kind="stable")[:k]
    largest = np.take_along_axis(sums, rows, axis=0)
    named = np.where(np.isneginf(largest), -1, np.take_along_axis(classes, rows, axis=0))
    return largest.T, named.T


@dataclass(frozen=True)
class LabelErrors:
    """What the probabilities say of the labels.

    Attributes:
        p_wrong: (n_samples,) probability that the label is wrong; NaN where there is no label, or
            the sample was missing in a step.
        suggested_class: (n_samples,) index of the class that is right if the label is wrong, -1
            where none is known.
        p_suggested: (n_samples,) probability that this class is right.
        n_wrong: expected number of wrong labels.
        low: the least that it may be: as step 2 has it, from all steps alike.
        high: the most: from the first half of the steps, if all samples are as typical.
    """

    p_wrong: Floats
    suggested_class: Ints
    p_suggested: Floats
    n_wrong: float
    low: float
    high: float


@dataclass(frozen=True)
class Evidence:
    """What a record holds about the labels of its samples; a slice of it is that of some steps.

    Attributes:
        labels: (n_samples,) class indices; negative where unknown.
        target_probability: (n_steps, n_samples), see `history.MEASURES`.
        margin: (n_steps, n_samples).
        largest_other: (n_steps, n_samples).
    """

    labels: IntArray
    target_probability: FloatArray
    margin: FloatArray
    largest_other: IntArray

    def __getitem__(self, steps: slice) -> "Evidence":
        """The same of some of the steps."""
        probability, margin, other = self.target_probability, self.margin, self.largest_other
        return Evidence(self.labels, probability[steps], margin[steps], other[steps])

    @cached_property
    def errors(self) -> LabelErrors:
        """What it says of the labels; computed once."""
        return label_errors(self)

    @property
    def n_classes(self) -> int:
        """Number of classes up to the largest index."""
        return int(max(self.labels.max(initial=-1), self.largest_other.max(initial=-1))) + 1

    def of(self, rows: Ints) -> "Evidence":
        """The same of some of the samples."""
        return Evidence(
            np.asarray(self.labels[rows], dtype=np.int64),
            self.target_probability[:, rows],
            self.margin[:, rows],
            self.largest_other[:, rows],
        )

    def usable(self) -> Ints:
        """Row positions of the samples that have a label and were seen in every step."""
        finite = np.isfinite(self.target_probability).all(axis=0) & ~np.isnan(self.margin).any(
            axis=0
        )
        return np.flatnonzero((np.asarray(self.labels) >= 0) & finite)


def evidence_of(history: LossHistory) -> Evidence | None:
    """What a history holds about its labels; None without labels, or without one of `MEASURES`."""
    if history.labels is None or not history.measures.keys() >= set(MEASURES):
        return None
    measures: list[Any] = [history.measures[name] for name in MEASURES]
    return Evidence(history.labels, *measures)


def label_errors(evidence: Evidence) -> LabelErrors:
    """Which labels are wrong, and which class is right; the module says how.

    Samples without a label, and those that were missing in a step, have no part in it. With one
    class, or more than 2,048, nothing is known of any: all are NaN.
    """
    n_samples, rows = len(evidence.labels), evidence.usable()
    p_wrong, p_suggested = np.full((2, n_samples), np.nan)
    suggested = np.full(n_samples, -1, dtype=np.int64)
    part, n_classes = evidence.of(rows), evidence.n_classes
    if not len(rows) or not 2 <= n_classes <= _MOST_CLASSES:
        return LabelErrors(p_wrong, suggested, p_suggested, np.nan, np.nan, np.nan)
    numbers = _numbers(part, n_classes)
    candidates = _candidates(part, step_weights(part.margin), n_classes)
    posterior, classes = candidates.truth(None), candidates.classes
    wrong = _adding_up(1 - posterior[:, 0], numbers[0])
    best = posterior[:, 1:].argmax(axis=1)[:, None]
    others = np.maximum(1 - posterior[:, 0], _TINY)
    share = np.minimum(np.take_along_axis(posterior, best + 1, axis=1)[:, 0] / others, 1.0)
    p_wrong[rows], p_suggested[rows] = wrong, wrong * share
    named = np.take_along_axis(classes, best + 1, axis=1)[:, 0]
    suggested[rows] = np.where(named < n_classes, named, -1)
    return LabelErrors(
        p_wrong, suggested, p_suggested, n_wrong=numbers[0], low=min(numbers), high=max(numbers)
    )


def step_weights(margin: FloatArray) -> Floats:
    """How much a step counts, (n_steps,) with the sum 1.

    In proportion to its number, as a network knows more the longer it learns, and to the share of
    the labels that it does not agree with: one that has learnt all by heart says nothing.

    Args:
        margin: (n_steps, n_samples).
    """
    disagreeing = (margin <= 0).sum(axis=1) + 1.0
    weights = np.arange(1, len(margin) + 1) * disagreeing
    return np.asarray(weights / weights.sum())


def _numbers(evidence: Evidence, n_classes: int) -> list[float]:
    """How many labels are wrong: the best estimate, then those that are too low and too high."""
    n_steps = len(evidence.margin)
    all_steps = _candidates(evidence, np.full(n_steps, 1 / n_steps), n_classes)
    half = (n_steps + 1) // 2
    first = _candidates(evidence[:half], np.full(half, 1 / half), n_classes)
    return [
        first.n_wrong(first.typical(_TYPICAL)),
        all_steps.n_wrong(None),
        first.n_wrong(first.typical(1.0)),
    ]


def _adding_up(probabilities: Floats, total: float) -> Floats:
    """Probabilities of the same order whose log-odds are shifted so that they add up to a total."""
    from scipy.optimize import brentq  # noqa: PLC0415 - a recorder starts without SciPy
    from scipy.special import expit, logit  # noqa: PLC0415

    odds = logit(np.clip(probabilities, _TINY, 1 - _TINY))
    reach = float(np.abs(odds).max()) + 40.0
    total = float(np.clip(total, _TINY * len(odds), (1 - _TINY) * len(odds)))
    shift = brentq(lambda shift: expit(odds + shift).sum() - total, -reach, reach)
    return np.asarray(expit(odds + shift))


def _candidates(evidence: Evidence, weights: Floats, n_classes: int) -> "_Candidates":
    """What may be the truth of each sample, by the mean probabilities."""
    means = mean_probabilities(
        evidence.target_probability, evidence.margin, evidence.largest_other,
        weights=weights, n_classes=n_classes,
    )  # fmt: skip
    return _Candidates.of(np.asarray(evidence.labels, np.int64), means, n_classes)


@dataclass(frozen=True)
class _Candidates:
    """What may be the truth of each sample: the label, its rivals, or any other class.

    Attributes:
        labels: (n_samples,) class indices.
        classes: (n_samples, 1 + k) the label and its rivals; n_classes stands for none.
        logs: (n_samples, 2 + k) logarithms of their mean probabilities, then of the rest.
        n_rest: (n_samples,) number of classes that are neither.
        n_classes: number of classes.
    """

    labels: Ints
    classes: Ints
    logs: Floats
    n_rest: Ints
    n_classes: int

    @classmethod
    def of(cls, labels: Ints, means: MeanProbabilities, n_classes: int) -> "_Candidates":
        """From the mean probabilities."""
        rivals = np.where(means.rival_classes < 0, n_classes, means.rival_classes)
        probabilities = np.column_stack((means.label, means.rivals, means.rest)) + _LEAST
        return cls(
            labels=labels,
            classes=np.column_stack((labels, rivals)),
            logs=np.log(probabilities),
            n_rest=n_classes - 1 - (means.rival_classes >= 0).sum(axis=1),
            n_classes=n_classes,
        )

    def take(self, rows: Ints) -> "_Candidates":
        """Some of the samples."""
        parts = (self.labels[rows], self.classes[rows], self.logs[rows], self.n_rest[rows])
        return _Candidates(*parts, self.n_classes)

    def sharpened(self, exponent: float) -> Floats:
        """(n_samples, 2 + k) probabilities to the power of the exponent, of the rest together."""
        powers = np.exp(exponent * (self.logs - self.logs.max(axis=1, keepdims=True)))
        powers[:, 1:-1] *= self.classes[:, 1:] < self.n_classes
        powers[:, -1] *= self.n_rest
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def posterior(self, prior: Floats, likelihood: Floats) -> tuple[Floats, Floats]:
        """Probabilities of the candidates given the label, and that of the label, (n_samples,)."""
        joint = prior[:, :-1] * likelihood[self.classes, self.labels[:, None]]
        total = joint.sum(axis=1) + prior[:, -1] * likelihood[-1, self.labels]
        return joint / total[:, None], total

    def truth(self, likelihood: Floats | None) -> Floats:
        """Probabilities of the label and its rivals to be the truth, (n_samples, 1 + k).

        They add up to 1 with those of the classes that are neither. The mean probabilities are
        sharpened as much as makes the labels most likely.

        Args:
            likelihood: of the labels by truth; None for the most likely one, too.
        """
        from scipy.optimize import minimize_scalar  # noqa: PLC0415 - a recorder starts without it

        drawn = np.random.default_rng(0).permutation(len(self.labels))
        few, many = (self.take(np.sort(drawn[:size])) for size in (_SHARPENED, _FITTED))
        chosen = minimize_scalar(
            lambda exponent: -few.fit(exponent, likelihood)[1],
            bounds=_EXPONENTS, method="bounded", options={"xatol": 0.02},
        )  # fmt: skip
        likelihood, _ = many.fit(float(chosen.x), likelihood)
        return self.posterior(self.sharpened(float(chosen.x)), likelihood)[0]

    def n_wrong(self, likelihood: Floats | None) -> float:
        """Expected number of wrong labels, see `truth`."""
        return float((1 - self.truth(likelihood)[:, 0]).sum())

    def typical(self, share: float) -> Floats:
        """Probabilities of the labels by truth: those among the samples most typical of a class.

        Args:
            share: how many of the samples whose most probable class it is are typical of it.
        """
        best = self.logs[:, :-1].argmax(axis=1)[:, None]
        top = np.take_along_axis(self.classes, best, axis=1)[:, 0]
        sureness = np.take_along_axis(self.logs, best, axis=1)[:, 0]
        order = np.lexsort((-sureness, top))
        sizes = np.bincount(top, minlength=self.n_classes)
        rank = np.arange(len(top)) - np.repeat(sizes.cumsum() - sizes, sizes)
        wanted = np.maximum(np.minimum(sizes, _FEWEST), (share * sizes).astype(np.int64))
        rows = order[rank < np.repeat(wanted, sizes)]
        counts = np.zeros((self.n_classes, self.n_classes))
        np.add.at(counts, (top[rows], self.labels[rows]), 1.0)
        return self._likelihood(counts)

    def fit(self, exponent: float, likelihood: Floats | None) -> tuple[Floats, float]:
        """Probabilities of the labels by truth, given or most likely; the mean log-likelihood."""
        if likelihood is None:
            return self.fitted(exponent)
        return likelihood, float(
            np.log(self.posterior(self.sharpened(exponent), likelihood)[1]).mean()
        )

    def fitted(self, exponent: float) -> tuple[Floats, float]:
        """Probabilities of the labels by truth, the most likely ones; mean log-likelihood.

        Returns:
            (n_classes + 1, n_classes), the last row for a truth that is none of the candidates;
            and the mean over the samples of the logarithm of the probability of the label.
        """
        prior, n_classes = self.sharpened(exponent), self.n_classes
        cells = self.classes * n_classes + self.labels[:, None]
        likelihood = self._likelihood(np.eye(n_classes + 1, n_classes) * _START)
        before = -np.inf
        for _ in range(_ROUNDS):
            posterior, total = self.posterior(prior, likelihood)
            counts = np.bincount(
                cells.ravel(), posterior.ravel(), minlength=(n_classes + 1) * n_classes
            )
            likelihood = self._likelihood(counts.reshape(n_classes + 1, n_classes))
            after = float(np.log(total).mean())
            if after - before < _TOLERANCE:
                break
            before = after
        return likelihood, after

    def _likelihood(self, counts: npt.NDArray[Any]) -> Floats:
        """From expected numbers of samples by truth and label, (n_classes + 1, n_classes)."""
        n = self.n_classes
        counts = counts[:n] + _PRIOR / n
        likelihood = counts / counts.sum(axis=1, keepdims=True)
        others = (likelihood.sum(axis=0) - likelihood.diagonal()) / max(n - 1, 1)
        return np.vstack((likelihood, others))
