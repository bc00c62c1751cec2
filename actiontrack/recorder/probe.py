"""What the adapters share: a recorder that lives as long as a training, and a fixed probe set."""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.arrays import class_logits, log_probabilities, two_classes
from actiontrack.recorder.context import FinishOnExit
from actiontrack.recorder.loss_check import LossCheck
from actiontrack.recorder.recorder import EpochSummary, Recorder

__all__ = [
    "ArrayProbe",
    "Loss",
    "Tracking",
    "call_in_progress",
    "check_labels",
    "class_indices",
    "class_positions",
    "default_options",
    "losses_of",
    "nearest_mean",
    "same_labels",
]

#: How outputs become losses: a name in `losses_of`, or a function of (labels, outputs).
Loss = str | Callable[[Any, Any], Any]

_ERRORS: Mapping[str, Callable[[Any], Any]] = {"squared_error": np.square, "absolute_error": np.abs}
_CLASSES = frozenset({"logits", "probabilities"})
_MULTILABEL = frozenset({"multilabel_logits", "multilabel_probabilities"})

_BINARY = "binary_cross_entropy"

#: Loss of a label 0 above which 1 − p has less than three digits in float32.
_ROUNDED = 11.0

#: Changes from one label to the next that two different sets of samples do not share by chance.
_ENOUGH_CHANGES = 16


class Tracking(FinishOnExit):
    """A recorder that opens when training begins and ends with it: base of the adapters.

    Libraries without a hook for errors leave the record open when training fails. There, use the
    adapter as a context manager: leaving the block finishes the record, or closes it on an error.

    Attributes:
        recorder: the recorder of the latest training, None before the first.
    """

    recorder: Recorder | None = None
    _options: dict[str, Any]
    _last_updates = _clock = 0.0

    def finish(self) -> bool:
        """Mark the record complete and upload it. Returns whether all of it is uploaded.

        A record that was closed on an error stays unfinished.
        """
        if self.recorder is None or self.recorder.closed:
            return self.recorder is None or self.recorder.synced
        return self.recorder.finish()

    def close(self) -> bool:
        """Stop without finishing. Returns whether everything recorded is uploaded."""
        return self.recorder is None or self.recorder.close()

    def _is_open(self, run_id: str | None) -> bool:
        """Whether a recorder is open for this run, or takes part in recording it."""
        return self.recorder is not None and (
            not self.recorder.closed and self.recorder.run_id in {None, run_id}
        )

    def _open(self, split: str, **options: Any) -> Recorder:
        self.close()
        self.recorder = Recorder(split, **options)
        return self.recorder

    @contextmanager
    def _closed_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _mark(self, updates: float) -> None:
        """Count Δn from here: the number of updates, and the present time."""
        self._last_updates, self._clock = float(updates), time.monotonic()

    def _delta(self, updates: float, epochs: float = 1.0) -> float:
        """Δn since the last mark, in the unit that the options of the recorder ask for."""
        kind = self._options.get("delta_kind", "epoch")
        if kind == "batch":
            return float(updates) - self._last_updates
        return time.monotonic() - self._clock if kind == "wall_time" else float(epochs)


class ArrayProbe(Tracking):
    """Records what a model says about the same samples after every step.

    Args:
        labels: (n_samples,) class indices, or (n_samples, ...) targets of a regression.
        ids: (n_samples,) stable ids. Default: 0 to n_samples - 1.
        split: name of the recorded split.
        options: further arguments of `Recorder`, such as ``class_names`` or ``run_id``.
    """

    def __init__(
        self, labels: Any, *, ids: Any = None, split: str = "test", **options: Any
    ) -> None:
        self._labels = np.asarray(labels)
        self._ids = np.arange(len(self._labels)) if ids is None else ids
        self._split, self._options = split, options
        if len(self._ids) != len(self._labels):
            raise ParameterError(
                "ids",
                f"must have length {len(self._labels)}",
                len(self._ids),
                "Pass one id per label.",
            )

    def begin(self, **defaults: Any) -> Recorder:
        """Open a new recorder; the options of this probe win over the defaults.

        Raises:
            RecordingError: if there is no active run and none is named.
        """
        return self._open(self._split, **{**defaults, **self._options})

    def record(
        self,
        outputs: Any,
        loss: Loss,
        *,
        step: int | None = None,
        delta: float | None = None,
        components: Mapping[str, Any] | None = None,
    ) -> EpochSummary | None:
        """Record one step; opens a recorder if none is open.

        Args:
            outputs: of the model on all samples, see `losses_of`.
            loss: what the outputs are, see `losses_of`.
            step: its number n. Default: one more than the last.
            delta: Δn.
            components: further losses by name, see `Recorder.update`.
        """
        if self.recorder is None:
            self.begin(**default_options(loss))
        assert self.recorder is not None  # noqa: S101 - begin has opened it
        losses = losses_of(loss, outputs, self._labels)
        self.recorder.update(self._ids, **losses, components=components)
        return self.recorder.end_epoch(step, delta=delta)

    def compare(
        self,
        summary: EpochSummary | None,
        recorded: float,
        reported: float,
        source: str,
        precision: str = "float32",
    ) -> None:
        """Compare a recorded step with the mean loss that the framework reports.

        A difference beyond rounding is a warning and a remark on the record, see `LossCheck`.

        Args:
            summary: of the step.
            recorded: the mean of its losses, with the weights and limits of the framework.
            reported: the framework's own mean for the same samples.
            source: what reports it, in words.
            precision: see `actiontrack.recorder.loss_check.differs`.
        """
        if self.recorder is not None and summary is not None:
            check = LossCheck(self.recorder, source=source)
            means = float(recorded), float(reported)
            check.compare(summary.step, *means, summary.n_seen, precision=precision)

    def compare_mean(
        self,
        summary: EpochSummary | None,
        reported: float,
        source: str,
        loss: str,
        outputs: npt.NDArray[Any],
        *,
        smallest: float = 0.0,
        weights: npt.NDArray[Any] | None = None,
    ) -> None:
        """Compare a recorded step with a mean loss that a library has clipped, see `compare`.

        Args:
            summary: of the step.
            reported: the library's own mean for the same samples.
            source: what reports it, in words.
            loss: what the outputs are, see `nearest_mean`.
            outputs: of the model on all samples.
            smallest: see `nearest_mean`.
            weights: see `nearest_mean`.
        """
        recorded = nearest_mean(
            reported, loss, outputs, self._labels, smallest=smallest, weights=weights
        )
        self.compare(summary, recorded, reported, source)


def default_options(loss: Loss) -> dict[str, Any]:
    """Options of the recorder for losses that are computed here: their name where it is not plain.

    Losses that are all equal are right then: nothing here reduces a batch.
    """
    if not isinstance(loss, str):
        return {}
    names = {**{name: name for name in _ERRORS}, **dict.fromkeys(_MULTILABEL, _BINARY)}
    return {"allow_uniform": True} | ({"loss_name": names[loss]} if loss in names else {})


def losses_of(loss: Loss, outputs: Any, labels: npt.NDArray[Any]) -> dict[str, Any]:
    """Arguments of `Recorder.update` for a model's outputs.

    Args:
        loss: one of

            - "logits": (n, n_classes), or for two classes the margin of class 1, (n,) or (n, 1);
            - "probabilities": the same shapes; see `log_probabilities` for the clipping;
            - "multilabel_logits", "multilabel_probabilities": (n, n_labels) independent yes/no
              outputs, with 0/1 labels of that shape; binary cross-entropy, averaged over the
              labels of a sample;
            - "squared_error", "absolute_error": predictions of the shape of the labels, averaged
              over all but the first dimension;
            - a function of (labels, outputs) that returns (n,) losses.
        outputs: of the model, any array that NumPy can read.
        labels: class indices, one-hot labels, or targets.

    Raises:
        ParameterError: if the loss is unknown, the shapes do not fit or logits are integers.
    """
    values = np.asarray(outputs)
    if callable(loss):
        return {"losses": np.asarray(loss(labels, values))}
    if loss in _ERRORS:
        return {"losses": _per_sample(_ERRORS[loss](_same_shape(values, labels) - labels))}
    if loss in _MULTILABEL:
        return {"losses": _per_sample(_yes_no_losses(loss, values, labels))}
    if loss not in _CLASSES:
        names = ", ".join([*sorted(_CLASSES | _MULTILABEL), *_ERRORS])
        raise ParameterError("loss", f"must be {names} or a function", loss, "Choose one of these.")
    if loss == "probabilities":
        logits = log_probabilities(two_classes(values.astype(np.float64)))
    else:
        logits = class_logits(values)
    return {"logits": logits, "labels": class_indices(labels)}


def class_indices(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Class indices, (n,) int64, from indices of any numeric type, (n, 1), or one-hot rows.

    Raises:
        ParameterError: if they are neither.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _from_one_hot(labels)
    column = labels.reshape(len(labels), -1)
    numeric = column.shape[1] == 1 and column.dtype.kind in "iufb"
    if not numeric or (column != np.round(column)).any():
        rule = "must be class indices or one-hot rows"
        raise ParameterError("labels", rule, labels[:1].tolist(), "Encode them as 0, 1, …")
    return np.asarray(column[:, 0].astype(np.int64))


def check_labels(loss: Loss, labels: npt.NDArray[Any], n_classes: int | None = None) -> None:
    """Refuse labels that do not fit the outputs, before the training begins.

    Args:
        loss: what the outputs are, see `losses_of`.
        labels: of the probe.
        n_classes: that the model tells apart, or its number of labels; None if unknown.

    Raises:
        ParameterError: if they are no class indices below `n_classes`, or no rows of 0 and 1.
    """
    if loss in _CLASSES:
        indices = class_indices(labels)
        wrong = indices[(indices < 0) | (indices >= (n_classes or np.inf))]
        if wrong.size:
            rule = f"must be class indices 0 to {n_classes - 1 if n_classes else 'n_classes - 1'}"
            remedy = "Encode them as 0, 1, …, in the order of the classes in training."
            raise ParameterError("labels", rule, np.unique(wrong)[:3].tolist(), remedy)
    elif loss in _MULTILABEL:
        fits = labels.ndim == 2 and n_classes in {None, labels.shape[1]}
        if not fits or not ((labels == 0) | (labels == 1)).all():
            rule = f"must be 0 or 1 in each of {n_classes or 'several'} columns"
            remedy = "Pass the labels as in training, or a function as the loss."
            raise ParameterError("labels", rule, labels[:1].tolist(), remedy)


def class_positions(
    labels: npt.NDArray[Any], classes: npt.NDArray[Any], remedy: str = "Leave these samples out."
) -> npt.NDArray[np.intp]:
    """(n,) index of each label among the classes of an estimator.

    Args:
        labels: (n,) or (n, 1), as the estimator was trained on, text too.
        classes: (n_classes,) as in its `classes_`.
        remedy: for a label that is none of them.

    Raises:
        ParameterError: if a label is none of the classes.
    """
    table = {label: index for index, label in enumerate(classes.tolist())}
    values = labels.reshape(len(labels), -1)[:, 0].tolist()
    positions = np.array([table.get(value, -1) for value in values], dtype=np.intp)
    unknown = labels[positions < 0]
    if unknown.size:
        raise ParameterError(
            "labels",
            "must be classes of the estimator",
            np.unique(unknown)[:3].tolist(),
            remedy,
        )
    return positions


def nearest_mean(
    reported: float,
    loss: str,
    outputs: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    smallest: float = 0.0,
    weights: npt.NDArray[Any] | None = None,
) -> float:
    """The mean of the recorded losses, as near to a library's own as its rounding leaves open.

    Libraries put a smallest probability in the place of smaller ones, and take −ln(1 − p) of a
    float32 p for a label 0: near p = 1 that is anything up to the limit, where the loss that is
    recorded goes on.

    Args:
        reported: mean of the library.
        loss: what the outputs are, see `losses_of`; no function.
        outputs: of the model on all samples.
        labels: of the samples.
        smallest: probability that the library takes the logarithm of; 0 if it takes any.
        weights: (n,) of the samples in the mean. Default: all alike.
    """
    if loss in _ERRORS:
        losses = losses_of(loss, outputs, labels)["losses"]
        return float(np.average(losses, weights=weights))
    if loss in _MULTILABEL:
        losses, zero = _yes_no_losses(loss, outputs, labels), labels == 0
    else:
        arguments = losses_of(loss, outputs, labels)
        logits = arguments["logits"].astype(np.float64)
        with np.errstate(invalid="ignore"):  # of a model that has diverged
            log_p = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        losses = -log_p[np.arange(len(log_p)), arguments["labels"]]
        zero = (arguments["labels"] == 0) & (np.size(outputs) == len(losses))
    largest = -np.log(smallest) if smallest else np.inf
    rounded = zero & (losses > _ROUNDED) & bool(smallest)
    bounds = np.where(rounded, _ROUNDED, losses), np.where(rounded, largest, losses)
    low, high = (
        float(np.average(_per_sample(np.minimum(bound, largest)), weights=weights))
        for bound in bounds
    )
    if np.isnan(low) or np.isnan(reported):
        return low  # min and max would hide it
    return min(max(reported, low), high)


def same_labels(labels: npt.NDArray[Any], others: npt.NDArray[Any]) -> bool:
    """Whether two sets of samples have the same labels in an order that is no coincidence."""
    labels, others = np.asarray(labels), np.asarray(others)
    if labels.size != others.size or not np.array_equal(labels.ravel(), others.ravel()):
        return False
    return int(np.count_nonzero(np.diff(labels.ravel()))) >= _ENOUGH_CHANGES


def call_in_progress(function: Callable[..., Any]) -> Mapping[str, Any] | None:
    """Arguments and local variables of the call of `function` from within which this is called.

    Libraries tell their callbacks little of the training. This reads what it was started with, and
    changes nothing.

    Returns:
        The variables by name, or None if no such call is in progress.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_code is code:
            return dict(frame.f_locals)
        frame = frame.f_back
    return None


def not_tracked(what: str, remedy: str) -> RecordingError:
    """The error for a mode of a library that has no single model to record."""
    return RecordingError(f"{what} can't be recorded. {remedy}")


def _from_one_hot(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if not (((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()):
        rule = "must be one-hot where they have a column per class"
        raise ParameterError("labels", rule, labels[:1].tolist(), "Pass a function as the loss.")
    return np.asarray(labels.argmax(axis=1).astype(np.int64))


def _yes_no_losses(
    loss: str, outputs: npt.NDArray[Any], labels: npt.NDArray[Any]
) -> npt.NDArray[np.float64]:
    """−y ln p − (1 − y) ln (1 − p) of each label of each sample, in the shape of the labels."""
    check_labels(loss, labels)
    values = _same_shape(outputs, labels)
    if loss == "multilabel_logits":
        z = values.astype(np.float64)
        with np.errstate(invalid="ignore"):  # of a model that has diverged
            return np.asarray(np.logaddexp(0, np.where(labels == 1, -z, z)))
    return np.asarray(-log_probabilities(np.where(labels == 1, values, 1 - values)))


def _same_shape(values: npt.NDArray[Any], labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Predictions in the shape of the targets: (n,) and (n, 1) must not broadcast to (n, n)."""
    if values.size != labels.size:
        rule = f"must have the shape {labels.shape} of the targets"
        raise ParameterError("outputs", rule, values.shape, "Pass a function as the loss.")
    return values.reshape(labels.shape)


def _per_sample(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(values.reshape(len(values), -1).mean(axis=1))
