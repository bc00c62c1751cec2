"""What the adapters share: a recorder that lives as long as a training, and a fixed probe set."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.context import FinishOnExit
from actiontrack.recorder.recorder import EpochSummary, Recorder

__all__ = ["ArrayProbe", "Loss", "Tracking", "class_indices", "log_probabilities", "losses_of"]

#: How outputs become losses: a name in `losses_of`, or a function of (labels, outputs).
Loss = str | Callable[[Any, Any], Any]

_ERRORS: Mapping[str, Callable[[Any], Any]] = {"squared_error": np.square, "absolute_error": np.abs}
_EPS = float(np.finfo(np.float64).eps)


class Tracking(FinishOnExit):
    """A recorder that opens when training begins and ends with it: base of the adapters.

    Libraries without a hook for errors leave the record open when training fails. There, use the
    adapter as a context manager: leaving the block finishes the record, or closes it on an error.

    Attributes:
        recorder: the recorder of the latest training, None before the first.
    """

    recorder: Recorder | None = None

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
        self, outputs: Any, loss: Loss, *, step: int | None = None, delta: float | None = None
    ) -> EpochSummary | None:
        """Record one step; opens a recorder if none is open.

        Args:
            outputs: of the model on all samples, see `losses_of`.
            loss: what the outputs are, see `losses_of`.
            step: its number n. Default: one more than the last.
            delta: Δn.
        """
        if self.recorder is None:
            self.begin(**default_name(loss))
        assert self.recorder is not None  # noqa: S101 - begin has opened it
        self.recorder.update(self._ids, **losses_of(loss, outputs, self._labels))
        return self.recorder.end_epoch(step, delta=delta)


def default_name(loss: Loss) -> dict[str, Any]:
    """The recorder's `loss_name` for losses that are not named by what they come from."""
    return {"loss_name": loss} if isinstance(loss, str) and loss in _ERRORS else {}


def losses_of(loss: Loss, outputs: Any, labels: npt.NDArray[Any]) -> dict[str, Any]:
    """Arguments of `Recorder.update` for a model's outputs.

    Args:
        loss: one of

            - "logits": (n, n_classes), or for two classes the margin of class 1, (n,) or (n, 1);
            - "probabilities": the same shapes; see `log_probabilities` for the clipping;
            - "squared_error", "absolute_error": predictions of the shape of the labels, averaged
              over all but the first dimension;
            - a function of (labels, outputs) that returns (n,) losses.
        outputs: of the model, any array that NumPy can read.
        labels: class indices, one-hot labels, or targets.

    Raises:
        ParameterError: if the loss is unknown or the shapes do not fit.
    """
    values = np.asarray(outputs)
    if callable(loss):
        return {"losses": np.asarray(loss(labels, values))}
    if loss in _ERRORS:
        return {"losses": _per_sample(_ERRORS[loss](_same_shape(values, labels) - labels))}
    if loss not in {"logits", "probabilities"}:
        rule = "must be logits, probabilities, squared_error, absolute_error or a function"
        raise ParameterError("loss", rule, loss, "Choose one of these.")
    values = values.astype(np.float64) if loss == "probabilities" else values
    values = _two_columns(values, probabilities=loss == "probabilities")
    logits = log_probabilities(values) if loss == "probabilities" else values
    return {"logits": logits, "labels": class_indices(labels)}


def log_probabilities(probabilities: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Natural logarithm of probabilities clipped from below at 2.2e-16, in float64.

    A class of probability 0 has thereby the loss 36.04, where the formula would give infinity, as
    in scikit-learn's ``log_loss`` on float64. Rows of several clipped classes shift the others by
    as little.

    >>> log_probabilities(np.array([1.0, 0.5, 0.0])).round(2).tolist()
    [0.0, -0.69, -36.04]
    """
    return np.asarray(np.log(np.maximum(probabilities.astype(np.float64), _EPS)))


def class_indices(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Class indices, (n,) int64, from indices of any numeric type, (n, 1), or one-hot rows.

    Raises:
        ParameterError: if they are neither.
    """
    if labels.ndim == 2 and labels.shape[1] > 1:
        return _from_one_hot(labels)
    found = labels.reshape(len(labels), -1)
    if found.shape[1] != 1 or found.dtype.kind not in "iufb" or (found != np.round(found)).any():
        rule = "must be class indices or one-hot rows"
        raise ParameterError("labels", rule, labels[:1].tolist(), "Encode them as 0, 1, …")
    return np.asarray(found[:, 0].astype(np.int64))


def not_tracked(what: str, remedy: str) -> RecordingError:
    """The error for a mode of a library that has no single model to record."""
    return RecordingError(f"{what} can't be recorded. {remedy}")


def _from_one_hot(labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    if not (((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()):
        rule = "must be one-hot where they have a column per class"
        raise ParameterError("labels", rule, labels[:1].tolist(), "Pass a function as the loss.")
    return np.asarray(labels.argmax(axis=1).astype(np.int64))


def _two_columns(values: npt.NDArray[Any], *, probabilities: bool) -> npt.NDArray[Any]:
    if values.ndim == 2 and values.shape[1] > 1:
        return values
    flat = values.reshape(-1)
    return np.stack([1 - flat if probabilities else np.zeros_like(flat), flat], axis=1)


def _same_shape(values: npt.NDArray[Any], labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Predictions in the shape of the targets: (n,) and (n, 1) must not broadcast to (n, n)."""
    if values.size != labels.size:
        rule = f"must have the shape {labels.shape} of the targets"
        raise ParameterError("outputs", rule, values.shape, "Pass a function as the loss.")
    return values.reshape(labels.shape)


def _per_sample(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.asarray(values.reshape(len(values), -1).mean(axis=1))
