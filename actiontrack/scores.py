"""Scores of samples, each a pure function of a loss history. A formula lives here only.

The action is the paper's score (Arriaga, Palacio, Valdenegro-Toro, eq. 2 and 3). The others are
its peers, computed from the same record so that they can be compared on equal terms.

Arrays of shape (n_steps, n_samples) hold one row per recorded step. A sample that was missing in
any of the steps that a score is made of has the score NaN: a sum over fewer steps would make it
look easy. Final loss needs the last step only, EL2N the early ones.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from array_api_compat import array_namespace, device

from actiontrack.errors import ParameterError
from actiontrack.history import FloatArray, LossHistory

__all__ = [
    "EL2N_STEPS",
    "LOW_IS_HARD",
    "action",
    "area_under_margin",
    "classification_measures",
    "confidence",
    "el2n",
    "ensemble_entropy",
    "ensemble_mean",
    "entropy",
    "final_loss",
    "forgetting",
    "hardness_sign",
    "loss_variance",
    "mean_loss",
    "min_max",
    "pixel_action",
    "pool_map",
    "running_score",
    "score_table",
    "variability",
]

#: EL2N is meant for the early steps of training (Paul et al. 2021); the mean is over these many.
EL2N_STEPS = 10

_SAMPLES = 2**14  # whose variance is computed at once
_FEW_CLASSES = 64  # up to which a pass over the samples for each class is the faster way

ScoreArray = npt.NDArray[np.float64]


def action(losses: FloatArray, deltas: FloatArray) -> ScoreArray:
    """Action of each sample: the loss accumulated over training (eq. 2, 3).

    A(x) = Σₙ L(y, m(x; θₙ)) Δn, over the recorded steps and no others.

    Args:
        losses: (n_steps, n_samples), one loss per sample and step.
        deltas: (n_steps,), Δn.

    Returns:
        (n_samples,) float64, in units of loss times the unit of Δn. NaN and infinite losses
        carry through.

    >>> action(np.array([[2.0, 1.0], [1.0, 0.5]]), np.array([1.0, 1.0])).tolist()
    [3.0, 1.5]
    """
    total = np.zeros(losses.shape[1], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        for loss, delta in zip(losses, deltas, strict=True):
            total += loss.astype(np.float64) * float(delta)
    return total


def pixel_action(
    maps: Iterable[FloatArray], deltas: Iterable[float], *, start: FloatArray | None = None
) -> npt.NDArray[np.float32]:
    """Action of each pixel of one sample: its loss accumulated over training (eq. 7).

    A(x_ij) = Σₙ L(y_ij, m(x_ij; θₙ)) Δn. The sum is kept in one array, so `maps` may be read one
    at a time, and it can go on from an earlier one: summing in parts gives the same bits as
    summing at once.

    Args:
        maps: (H, W) loss of each pixel, one map per step.
        deltas: Δn of each step.
        start: (H, W) float32, the action up to the step before. Default: 0.

    Returns:
        (H, W) float32, in units of loss times the unit of Δn. NaN (void that is ignored) and
        infinite losses carry through.

    Raises:
        ParameterError: if there is neither a map nor a start.

    >>> pixel_action([np.array([[1.0, 2.0]]), np.array([[0.5, 0.5]])], [1.0, 2.0]).tolist()
    [[2.0, 3.0]]
    """
    total = None if start is None else np.asarray(start, dtype=np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        for loss, delta in zip(maps, deltas, strict=True):
            term = np.asarray(loss, dtype=np.float64) * float(delta)
            total = (term if total is None else total + term).astype(np.float32)
    if total is None:
        raise ParameterError("maps", "must hold one map at least", 0, "Record an epoch first.")
    return total


def pool_map(values: FloatArray, factor: int) -> npt.NDArray[np.float32]:
    """Mean of each block of factor × factor pixels, of those that are not NaN.

    Blocks at the lower and right edge hold fewer pixels where the size is no multiple.

    Args:
        values: (H, W).
        factor: side of a block in pixels, 1 or more.

    Returns:
        (⌈H / factor⌉, ⌈W / factor⌉) float32; NaN where a block holds nothing but NaN.

    >>> pool_map(np.array([[1.0, 3.0, 5.0], [np.nan, 2.0, 7.0]]), 2).tolist()
    [[2.0, 6.0]]
    """
    if factor == 1:
        return np.asarray(values, dtype=np.float32)
    height, width = values.shape
    padding = [(0, -height % factor), (0, -width % factor)]
    padded = np.pad(np.asarray(values, np.float64), padding, constant_values=np.nan)
    rows, columns = padded.shape[0] // factor, padded.shape[1] // factor
    blocks = padded.reshape(rows, factor, columns, factor)
    counts = (~np.isnan(blocks)).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        means = np.nansum(blocks, axis=(1, 3)) / counts
    return np.asarray(means, dtype=np.float32)


def mean_loss(losses: FloatArray) -> ScoreArray:
    """Mean loss over the steps, (n_samples,) float64."""
    return _mean(losses)


def final_loss(losses: FloatArray) -> ScoreArray:
    """Loss at the last step, (n_samples,) float64."""
    return np.asarray(losses[-1], dtype=np.float64)


def loss_variance(losses: FloatArray) -> ScoreArray:
    """Population variance of the loss over the steps, (n_samples,) float64 (4.1, Fig. 6c)."""
    variance = np.empty(losses.shape[1])
    with np.errstate(invalid="ignore"):
        # Some samples at a time: differences from the mean are as many float64 as there are losses.
        for start in range(0, len(variance), _SAMPLES):
            where = slice(start, start + _SAMPLES)
            losses[:, where].var(axis=0, dtype=np.float64, out=variance[where])
    return variance


def area_under_margin(margins: FloatArray) -> ScoreArray:
    """AUM: mean margin over the steps, (n_samples,) float64; low is hard (Pleiss et al. 2020)."""
    return _mean(margins)


def confidence(target_probabilities: FloatArray) -> ScoreArray:
    """Mean probability of the label over the steps; low is hard (Swayamdipta et al. 2020)."""
    return _mean(target_probabilities)


def variability(target_probabilities: FloatArray) -> ScoreArray:
    """Population standard deviation of the label's probability (Swayamdipta et al. 2020)."""
    return np.asarray(np.sqrt(loss_variance(target_probabilities)))


def el2n(el2n_by_step: FloatArray, n_steps: int = EL2N_STEPS) -> ScoreArray:
    """Mean EL2N over the first `n_steps` recorded steps, (n_samples,) (Paul et al. 2021)."""
    return _mean(el2n_by_step[:n_steps])


def forgetting(correct: npt.NDArray[np.bool_]) -> ScoreArray:
    """Forgetting events: steps where a right prediction turned wrong (Toneva et al. 2019).

    Samples that were never right count as infinitely forgotten.

    Args:
        correct: (n_steps, n_samples) bool.

    >>> forgetting(np.array([[1, 0], [0, 0], [1, 0], [0, 0]], dtype=bool)).tolist()
    [2.0, inf]
    """
    correct = correct.astype(np.bool_)
    events = (correct[:-1] & ~correct[1:]).sum(axis=0).astype(np.float64)
    events[~correct.any(axis=0)] = np.inf
    return np.asarray(events)


def min_max(scores: FloatArray) -> ScoreArray:
    """Scores scaled to [0, 1] by the smallest and largest finite score (section 4.1).

    Equal scores all become 0.
    """
    values = np.asarray(scores, dtype=np.float64)
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    return np.asarray((values - low) / (high - low if high > low else 1.0))


def ensemble_mean(scores: FloatArray) -> ScoreArray:
    """Mean over models of (n_models, n_samples) scores (section 4.1, Fig. 6b)."""
    return _mean(scores)


def entropy(probabilities: FloatArray) -> ScoreArray:
    """Predictive entropy −Σ p ln p of (n_samples, n_classes) probabilities, in nats (eq. 6).

    >>> entropy(np.array([[1.0, 0.0], [0.5, 0.5]])).round(4).tolist()
    [0.0, 0.6931]
    """
    p = np.asarray(probabilities, dtype=np.float64)
    # 0 - …, so that a certain prediction has entropy 0.0 and not -0.0
    return np.asarray(0.0 - np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(axis=-1))


def ensemble_entropy(probabilities: FloatArray) -> ScoreArray:
    """Entropy of the mean distribution of several models, in nats (eq. 6, section 4.1).

    Args:
        probabilities: (n_models, n_samples, n_classes).

    Returns:
        (n_samples,) float64; models that are certain of different classes give a high entropy.

    >>> ensemble_entropy(np.array([[[1.0, 0.0]], [[0.0, 1.0]]])).round(4).tolist()
    [0.6931]
    """
    return entropy(np.asarray(probabilities).mean(axis=0, dtype=np.float64))


@np.errstate(invalid="ignore", over="ignore")  # of impossible classes: computed, never chosen
def classification_measures(logits: Any, labels: Any) -> dict[str, Any]:
    """Cross-entropy and the per-sample measures of a batch, for NumPy, PyTorch or JAX arrays.

    One formula for all array libraries, computed where the arrays live, without copying them to
    the host. Cross-entropy is −ln softmax(logits)[label], EL2N after Paul et al. 2021, the margin
    after Pleiss et al. 2020. A logit of −∞ is a class of probability 0.

    Args:
        logits: (batch, n_classes) floating, n_classes ≥ 2. Below 32 bits, computed in float32.
        labels: (batch,) integer class indices of the same array library. An index that is no
            class gives NaN: a loss of 0 would make the sample look easy.

    Returns:
        name -> (batch,) array: "cross_entropy" and the keys of `history.MEASURES`.
    """
    xp = array_namespace(logits, labels)
    if logits.dtype.itemsize < 4:
        logits = xp.astype(logits, xp.float32)
    n_rows, n_classes = logits.shape
    # A row for each class, where these are few: one pass over all samples is then long enough to
    # be fast, and a sum over the classes is as exact as in any order.
    by_class = n_classes <= _FEW_CLASSES and str(device(logits)) == "cpu"
    axis = 0 if by_class else 1
    if by_class:
        flat = xp.reshape(xp.permute_dims(logits, (1, 0)), (-1,))
        logits = xp.reshape(flat, (n_classes, n_rows))

    def number(value: float) -> Any:
        # Filled on the device: a copy from the host would wait for it.
        return xp.full((), value, dtype=logits.dtype, device=device(logits))

    classes = xp.expand_dims(xp.arange(n_classes, device=device(logits)), axis=1 - axis)
    labels = xp.astype(labels, classes.dtype)
    known = (labels >= 0) & (labels < n_classes)
    unknown = xp.where(known, number(0.0), number(float("nan")))
    place = xp.expand_dims(xp.clip(labels, 0, n_classes - 1), axis=axis)
    top = xp.max(logits, axis=axis, keepdims=True)
    predicted = _argmax(logits, top, classes) if by_class else xp.argmax(logits, axis=axis)
    shifted = logits - top
    # The label's own numbers, and those of the other classes: each is as exact as it can be, where
    # p - 1 of a sure prediction, or a sum of all minus one, would be rounding noise.
    label = xp.squeeze(xp.take_along_axis(shifted, place, axis=axis), axis=axis)
    least = number(float(xp.finfo(logits.dtype).min))
    # In place where nobody sees it: fetching memory takes longer here than the arithmetic.
    others = xp.astype(classes == xp.expand_dims(labels, axis=axis), logits.dtype)
    others *= least
    others += shifted
    of_label = xp.where(known, xp.exp(label), number(0.0))
    of_others = xp.exp(others)
    rest = xp.sum(of_others, axis=axis)
    total = rest + of_label
    log_total = xp.log(total)
    # 0 · −∞ is no number, and a class of probability 0 weighs nothing.
    terms = xp.maximum(others, least)
    terms *= of_others
    weighed = xp.sum(terms, axis=axis) + of_label * xp.maximum(label, least)
    log_p_label = label - log_total + unknown
    largest = xp.max(others, axis=axis)
    margin = label - xp.where(largest > least, largest, number(-float("inf")))
    return {
        "cross_entropy": 0 - log_p_label,  # a perfect prediction has loss 0.0 and not -0.0
        "target_probability": xp.exp(log_p_label),
        "margin": margin + unknown,
        "el2n": xp.sqrt(rest * rest + xp.sum(of_others * of_others, axis=axis)) / total + unknown,
        "entropy": log_total - weighed / total,
        "predicted": xp.astype(predicted, classes.dtype),
        "correct": predicted == labels,
    }


def _argmax(logits: Any, top: Any, classes: Any) -> Any:
    """Index of the first largest of few logits, or of the first NaN, for each column.

    What `argmax` along the first axis says, in a tenth of its time: ranks in bytes.
    """
    xp = array_namespace(logits)
    n_classes = classes.shape[0]
    ranks = xp.astype(n_classes - classes, xp.uint8)
    is_top = (logits >= top) | (logits != logits)  # noqa: PLR0124 - NaN
    rank = xp.max(xp.astype(is_top, xp.uint8) * ranks, axis=0)
    return n_classes - xp.astype(rank, classes.dtype)


def score_table(history: LossHistory) -> pd.DataFrame:
    """Every score that the history gives, one row per sample in the order of `sample_ids`.

    Columns: sample_id, label and true_label where known, action, mean_loss, final_loss,
    loss_variance, and for a classifier aum, confidence, variability, el2n, forgetting,
    final_entropy, predicted, correct (both at the last step); action_<name> for each further
    loss component; n_steps, the steps in which the sample was seen.

    Raises:
        ParameterError: if the history has no step.
    """
    _check_has_steps(history)
    return pd.DataFrame(_sample_columns(history) | _score_columns(history))


def running_score(history: LossHistory, score: str = "action") -> ScoreArray:
    """A score after each recorded step: what `score_table` would say of the history up to there.

    Actions are cumulative sums; any other score is computed from the steps so far.

    Args:
        history: at least one step.
        score: column of `score_table`, such as "action", "aum" or "action_<component>".

    Returns:
        (n_steps, n_samples) float64; the last row is the full score.

    Raises:
        ParameterError: if the history has no step, or does not give that score.
    """
    _check_has_steps(history)
    actions = {"action": history.losses}
    actions |= {f"action_{name}": values for name, values in history.components.items()}
    if score in actions:
        with np.errstate(invalid="ignore"):
            terms = actions[score].astype(np.float64) * history.deltas[:, None]
            return np.asarray(terms.cumsum(axis=0))
    if score in _FROM_LOSS:
        return _of_each_prefix(_FROM_LOSS[score], history.losses)
    measure, function = _FROM_MEASURE.get(score, ("", final_loss))
    if measure not in history.measures:
        measured = [
            name for name, (source, _) in _FROM_MEASURE.items() if source in history.measures
        ]
        known = ", ".join([*actions, *_FROM_LOSS, *measured])
        raise ParameterError("score", f"must be one of {known}", score, "Choose one of these.")
    values = _of_each_prefix(function, history.measures[measure])
    if score == "forgetting":
        values[~np.logical_and.accumulate(history.seen, axis=0)] = np.nan
    return values


def _of_each_prefix(function: Callable[[Any], Any], values: npt.NDArray[Any]) -> ScoreArray:
    rows = [function(values[: step + 1]) for step in range(len(values))]
    return np.stack(rows).astype(np.float64)


def _check_has_steps(history: LossHistory) -> None:
    if history.n_steps == 0:
        raise ParameterError(
            "history", "must have at least one step", 0, "Record an epoch before asking for scores."
        )


def _sample_columns(history: LossHistory) -> dict[str, Any]:
    columns: dict[str, Any] = {"sample_id": history.sample_ids}
    if history.labels is not None:
        columns["label"] = history.labels
    if history.true_labels is not None:
        columns["true_label"] = history.true_labels
    return columns


def _score_columns(history: LossHistory) -> dict[str, Any]:
    # Missing losses are NaN already, so every sum and mean over steps shows it.
    losses = history.losses
    columns: dict[str, Any] = {"action": action(losses, history.deltas)}
    columns |= {name: score(losses) for name, score in _FROM_LOSS.items()}
    for name, values in history.components.items():
        columns[f"action_{name}"] = action(values, history.deltas)
    columns |= _measure_scores(history)
    columns["n_steps"] = history.seen.sum(axis=0)
    return columns


_FROM_LOSS: Mapping[str, Callable[[Any], Any]] = {
    "mean_loss": mean_loss,
    "final_loss": final_loss,
    "loss_variance": loss_variance,
}
_FROM_MEASURE: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "aum": ("margin", area_under_margin),
    "confidence": ("target_probability", confidence),
    "variability": ("target_probability", variability),
    "el2n": ("el2n", el2n),
    "forgetting": ("correct", forgetting),
    "final_entropy": ("entropy", final_loss),
    "predicted": ("predicted", lambda values: values[-1]),
    "correct": ("correct", lambda values: values[-1]),
}


def _measure_scores(history: LossHistory) -> dict[str, Any]:
    complete = history.seen.all(axis=0)
    columns: dict[str, Any] = {}
    for name, (measure, score) in _FROM_MEASURE.items():
        if measure in history.measures:
            columns[name] = score(history.measures[measure])
    if "forgetting" in columns:
        columns["forgetting"] = np.where(complete, columns["forgetting"], np.nan)
    return columns


def _mean(values: FloatArray) -> ScoreArray:
    with np.errstate(invalid="ignore"):
        return np.asarray(values.mean(axis=0, dtype=np.float64))


#: Scores of which a low value means a hard sample.
LOW_IS_HARD = frozenset({"aum", "confidence"})


def hardness_sign(score: str) -> float:
    """The factor by which a score becomes one of which high is hard: 1.0, or -1.0."""
    return -1.0 if score in LOW_IS_HARD else 1.0
