"""Scores of samples, each a pure function of a loss history. A formula lives here only.

The action is the paper's score (Arriaga, Palacio, Valdenegro-Toro, eq. 2 and 3). The others are
its peers, computed from the same record so that they can be compared on equal terms.

Arrays of shape (n_steps, n_samples) hold one row per recorded step. A sample that was missing in
one of the steps that a score needs has the score NaN: a sum over fewer steps would make it look
easy. Final loss needs the last step only, EL2N the early ones. `SCORES` lists all of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.ensembles import ensemble_entropy, ensemble_mean, entropy, min_max
from actiontrack.errors import ParameterError
from actiontrack.history import DELTA_KINDS, FloatArray, LossHistory, classification_measures
from actiontrack.label_errors import evidence_of

__all__ = [
    "EL2N_STEPS",
    "LOW_IS_HARD",
    "SCORES",
    "Score",
    "action",
    "area_under_margin",
    "classification_measures",
    "confidence",
    "el2n",
    "ensemble_entropy",
    "ensemble_mean",
    "entropy",
    "final_loss",
    "find_score",
    "forgetting",
    "hardness_sign",
    "late_margin",
    "loss_variance",
    "mean_loss",
    "min_max",
    "pixel_action",
    "running_score",
    "score_table",
    "score_unit",
    "unranked",
    "variability",
]

#: EL2N is meant for the early steps of training (Paul et al. 2021); the mean is over these many.
EL2N_STEPS = 10
_COUNTS = {  # components that are no losses: of a document, and of an image for a detector
    "n_tokens", "n_foreground", "n_anchors", "n_proposals", "n_masks", "n_keypoints",
    "target_scores", "assigned_anchors",
}  # fmt: skip
_SAMPLES = 2**14  # whose variance is computed at once

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

    A(x_ij) = Σₙ L(y_ij, m(x_ij; θₙ)) Δn, in one array: `maps` may be read one at a time. A sum
    that goes on from an earlier one has the same bits as one that is made at once.

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
            columns = slice(start, start + _SAMPLES)
            losses[:, columns].var(axis=0, dtype=np.float64, out=variance[columns])
    return variance


def area_under_margin(margins: FloatArray) -> ScoreArray:
    """AUM: mean margin over the steps, (n_samples,) float64; low is hard (Pleiss et al. 2020)."""
    return _mean(margins)


def late_margin(margins: FloatArray) -> ScoreArray:
    """AUM with late steps counting more: the n-th step n times; low is hard.

    Args:
        margins: (n_steps, n_samples).

    Returns:
        Σ n · margin / Σ n, (n_samples,) float64.

    >>> late_margin(np.array([[0.0, 3.0], [3.0, 0.0]])).tolist()
    [2.0, 1.0]
    """
    return np.asarray(_running_late_margin(margins)[-1])


def _running_late_margin(margins: FloatArray) -> ScoreArray:
    weights = np.arange(1.0, len(margins) + 1)[:, None]
    with np.errstate(invalid="ignore"):
        return np.asarray((margins * weights).cumsum(axis=0) / weights.cumsum(axis=0))


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


@dataclass(frozen=True, kw_only=True)
class Score:
    """One score: how it is computed, and what there is to say about it.

    Attributes:
        function: takes the arrays of `inputs`, the steps first, and gives (n_samples,) values.
        inputs: "losses", "deltas", "seen", names of `history.MEASURES`, "label_evidence" (of type
            `label_errors.Evidence`), "n_tokens", or "components" for a score of each further
            loss, whose column is the score's name with the component in place of NAME.
        hard: the side that hard samples are on: "high", "low", or "neither".
        unit: of the values; {loss} stands for the loss and {delta} for the unit of Δn.
        sentence: what it is, in one line.
        source: section of the paper, or citation; "" for a plain statistic.
        ranks: whether samples are ordered by it. False for facts such as the prediction.
        running: from the same arrays the score after each step, (n_steps, n_samples). Default:
            `function` of the first step, of the first two, and so on.
    """

    function: Callable[..., Any]
    inputs: tuple[str, ...]
    hard: Literal["high", "low", "neither"]
    unit: str
    sentence: str
    source: str = ""
    ranks: bool = True
    running: Callable[..., Any] | None = None


def _running_action(losses: FloatArray, deltas: FloatArray) -> ScoreArray:
    with np.errstate(invalid="ignore"):
        return np.asarray((losses.astype(np.float64) * deltas[:, None]).cumsum(axis=0))


def _complete_forgetting(correct: npt.NDArray[np.bool_], seen: npt.NDArray[np.bool_]) -> ScoreArray:
    """Forgetting events; NaN for a sample that was missing in a step."""
    return np.where(seen.all(axis=0), forgetting(correct), np.nan)


#: Every score, by its column in the score table, in the order of the columns.
SCORES: dict[str, Score] = {
    "action": Score(
        function=action, inputs=("losses", "deltas"), hard="high", unit="{loss} × {delta}",
        sentence="Σ loss · Δn over the recorded steps", source="Arriaga et al., eq. 2 and 3",
        running=_running_action,
    ),
    "mean_loss": Score(
        function=mean_loss, inputs=("losses",), hard="high", unit="{loss}",
        sentence="mean of the loss over the steps",
    ),
    "final_loss": Score(
        function=final_loss, inputs=("losses",), hard="high", unit="{loss}",
        sentence="loss at the last step",
    ),
    "loss_variance": Score(
        function=loss_variance, inputs=("losses",), hard="high", unit="{loss}²",
        sentence="variance of the loss over the steps", source="Arriaga et al., section 4.1",
    ),
    "action_NAME": Score(
        function=action, inputs=("components", "deltas"), hard="high", unit="{loss} × {delta}",
        sentence="action of one part of the loss", source="Arriaga et al., section 4.2",
        running=_running_action,
    ),
    "perplexity": Score(
        function=np.errstate(over="ignore")(lambda losses, _: np.exp(final_loss(losses))),
        inputs=("losses", "n_tokens"), hard="high", unit="tokens", sentence="e to the final loss",
    ),
    "aum": Score(
        function=area_under_margin, inputs=("margin",), hard="low", unit="logits",
        sentence="mean margin: logit of the label minus the largest other one",
        source="Pleiss et al. 2020",
    ),
    "late_margin": Score(
        function=late_margin, inputs=("margin",), hard="low", unit="logits",
        sentence="mean margin with the n-th step counting n times",
        source="after Pleiss et al. 2020",
        running=_running_late_margin,
    ),
    "confidence": Score(
        function=confidence, inputs=("target_probability",), hard="low", unit="probability",
        sentence="mean probability of the label", source="Swayamdipta et al. 2020",
    ),
    "variability": Score(
        function=variability, inputs=("target_probability",), hard="neither", unit="probability",
        sentence="standard deviation of the label's probability", source="Swayamdipta et al. 2020",
    ),
    "el2n": Score(
        function=el2n, inputs=("el2n",), hard="high", unit="probability, L2 norm",
        sentence=f"length of (probabilities − one-hot label), mean of the first {EL2N_STEPS} steps",
        source="Paul et al. 2021",
    ),
    "forgetting": Score(
        function=_complete_forgetting, inputs=("correct", "seen"), hard="high", unit="events",
        sentence="times that a right prediction turned wrong; infinite if never right",
        source="Toneva et al. 2019",
    ),
    "final_entropy": Score(
        function=final_loss, inputs=("entropy",), hard="high", unit="nats",
        sentence="entropy of the prediction at the last step", source="Arriaga et al., eq. 6",
    ),
    "p_wrong": Score(
        function=lambda evidence: evidence.errors.p_wrong, inputs=("label_evidence",), hard="high",
        unit="probability", sentence="probability that the label is wrong",
        source="actiontrack.label_errors, after Dawid and Skene 1979",
    ),
    "suggested_class": Score(
        function=lambda evidence: evidence.errors.suggested_class, inputs=("label_evidence",),
        hard="neither", unit="class index", ranks=False,
        sentence="class that is right if the label is wrong",
    ),
    "p_suggested": Score(
        function=lambda evidence: evidence.errors.p_suggested, inputs=("label_evidence",),
        hard="neither", unit="probability", ranks=False,
        sentence="probability that the suggested class is right",
    ),
    "predicted": Score(
        function=lambda values: values[-1], inputs=("predicted",), hard="neither",
        unit="class index", ranks=False, sentence="class predicted at the last step",
    ),
    "correct": Score(
        function=lambda values: values[-1], inputs=("correct",), hard="neither",
        unit="", ranks=False, sentence="whether the prediction at the last step is the label",
    ),
    "n_tokens": Score(
        function=final_loss, inputs=("n_tokens",), hard="neither", unit="tokens", ranks=False,
        sentence="tokens of the document that have a loss, at the last step",
    ),
    "n_steps": Score(
        function=lambda seen: seen.sum(axis=0), inputs=("seen",), hard="neither",
        unit="steps", ranks=False, sentence="steps in which the sample was seen",
    ),
}  # fmt: skip

#: Scores of which a low value means a hard sample.
LOW_IS_HARD = frozenset(name for name, score in SCORES.items() if score.hard == "low")


def find_score(name: str) -> Score | None:
    """The entry of a column of the score table, such as "aum" or "action_box"; None if no score."""
    part = "action_NAME" if name.startswith("action_") else ""
    return SCORES.get(name) or SCORES.get(part)


def hardness_sign(name: str) -> float:
    """The factor by which a score becomes one of which high is hard: 1.0, or -1.0."""
    score = find_score(name)
    return -1.0 if score is not None and score.hard == "low" else 1.0


def score_unit(name: str, delta_kind: str | None = None, *, loss: str = "loss") -> str:
    """Unit of a score, "" for none.

    Args:
        name: column of the score table. A mean of a score, such as "mean_action", has its unit.
        delta_kind: one of `history.DELTA_KINDS`; None where it is not known.
        loss: what to call the loss.

    >>> score_unit("action", "epoch"), score_unit("action", "wall_time"), score_unit("aum")
    ('loss × epochs', 'loss × s', 'logits')
    """
    score = find_score(name) or find_score(name.removeprefix("mean_"))
    if score is None:
        return ""
    return score.unit.format(loss=loss, delta=DELTA_KINDS.get(delta_kind or "", "Δn"))


def unranked() -> frozenset[str]:
    """Columns of the score table by which samples are not ordered, such as "predicted"."""
    facts = (name for name, score in SCORES.items() if not score.ranks)
    return frozenset(["sample_id", "label", "true_label", *facts])


def score_table(history: LossHistory) -> pd.DataFrame:
    """Every score that the history gives, one row per sample in the order of `sample_ids`.

    Columns: sample_id, label and true_label where they were recorded, then those of `SCORES`
    whose inputs the history holds: a classifier has all of them, action_<name> comes for each
    further loss component.

    Raises:
        ParameterError: if the history has no step.
    """
    columns: dict[str, Any] = {"sample_id": history.sample_ids}
    if history.labels is not None:
        columns["label"] = history.labels
    if history.true_labels is not None:
        columns["true_label"] = history.true_labels
    # Missing losses are NaN already, so every sum and mean over steps shows it.
    for name, (score, inputs) in _scores_of(history).items():
        columns[name] = score.function(*inputs)
    return pd.DataFrame(columns)


def running_score(history: LossHistory, score: str = "action") -> ScoreArray:
    """A score after each recorded step: what `score_table` would say of the history up to there.

    Args:
        history: at least one step.
        score: column of `score_table`, such as "action", "aum" or "action_<component>".

    Returns:
        (n_steps, n_samples) float64; the last row is the full score.

    Raises:
        ParameterError: if the history has no step, or does not give that score.
    """
    columns = _scores_of(history)
    if score not in columns:
        names = ", ".join(name for name, (entry, _) in columns.items() if entry.ranks)
        raise ParameterError("score", f"must be one of {names}", score, "Choose one of these.")
    entry, inputs = columns[score]
    if entry.running is not None:
        return np.asarray(entry.running(*inputs), dtype=np.float64)
    rows = [
        entry.function(*(values[: step + 1] for values in inputs))
        for step in range(history.n_steps)
    ]
    return np.stack(rows).astype(np.float64)


def _scores_of(history: LossHistory) -> dict[str, tuple[Score, list[npt.NDArray[Any]]]]:
    """Column, entry and input arrays of every score that the history gives."""
    if history.n_steps == 0:
        raise ParameterError(
            "history", "must have at least one step", 0, "Record an epoch before asking for scores."
        )
    arrays = {name: getattr(history, name) for name in ("losses", "deltas", "seen")}
    components = dict(history.components)
    counts = {name: components.pop(name) for name in _COUNTS & components.keys()}
    arrays |= dict(history.measures) | counts
    if (evidence := evidence_of(history)) is not None:
        arrays["label_evidence"] = evidence
    columns: dict[str, tuple[Score, list[npt.NDArray[Any]]]] = {}
    for name, score in SCORES.items():
        parts: Any = components if "components" in score.inputs else {"NAME": None}
        for part, values in parts.items():
            available = arrays if values is None else arrays | {"components": values}
            inputs = [available[source] for source in score.inputs if source in available]
            if len(inputs) == len(score.inputs):
                columns[name.replace("NAME", part)] = score, inputs
    return columns


def _mean(values: FloatArray) -> ScoreArray:
    with np.errstate(invalid="ignore"):
        return np.asarray(values.mean(axis=0, dtype=np.float64))
