"""Steps of a record: which number an epoch has, what it weighs, and what it held."""

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.record.steps import StepEntry
from actiontrack.recorder.epoch import EpochRows

__all__ = [
    "ZERO",
    "Epoch",
    "EpochSummary",
    "check_gap",
    "default_delta",
    "positive_weight",
    "recorded_step",
    "seen_values",
    "summarise",
]

#: What is said of an epoch 0 that may or may not be the untrained model.
ZERO = (
    "epoch 0 of record %s is recorded as the untrained model, before any training. If your "
    "loop counts its epochs from 0, pass first_epoch=0 to the recorder: they are recorded as 1, 2 "
    "and so on then, and with resume=True this record is corrected. If 0 is the untrained model, "
    "pass first_epoch=1."
)


@dataclass(frozen=True)
class EpochSummary:
    """What one recorded epoch held.

    Attributes:
        step: n of eq. 3.
        n_seen: samples seen.
        n_missing: samples of the record that were not seen.
        n_duplicates: repeated ids that were dropped.
        n_nonfinite: losses that are NaN or infinite; they are kept.
        mean_loss: mean of the finite losses.
        accuracy: fraction predicted right, or None without logits.
        partial: whether the epoch was kept apart: no score includes it.
    """

    step: int
    n_seen: int
    n_missing: int
    n_duplicates: int
    n_nonfinite: int
    mean_loss: float
    accuracy: float | None
    partial: bool = False

    def metrics(self, record: str) -> dict[str, float]:
        """Aggregates for the tracking server; never one value per sample."""
        values = {"mean_loss": self.mean_loss, "nonfinite_losses": float(self.n_nonfinite)}
        if self.accuracy is not None:
            values["accuracy"] = self.accuracy
        return {f"{record}/{name}": value for name, value in values.items()}


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch on its way into the record.

    Attributes:
        step: n of eq. 3.
        numbered: whether the training has said which number it has.
        delta: Δn.
        rows: its losses, each sample once.
        metrics: further aggregates for the tracking server.
        partial: whether it is part of an epoch only. None: the ids tell.
        n_samples: samples of a whole epoch, where the training has said so.
        n_classes: number of classes of the logits, or None without logits.
        loss_name: definition of the loss, for the first epoch.
    """

    step: int
    delta: float
    rows: EpochRows
    numbered: bool = True
    metrics: Mapping[str, float] = field(default_factory=dict)
    partial: bool | None = None
    n_samples: int | None = None
    n_classes: int | None = None
    loss_name: str = "loss"

    def at_step(self, step: int) -> "Epoch":
        """The same epoch under another number."""
        return replace(self, step=step)


def recorded_step(
    epoch: Any, *, last: int | None, first_epoch: int | None, left_out: Collection[int]
) -> tuple[int, int]:
    """The step that an epoch is recorded as, and how many steps are missing before it.

    Args:
        epoch: number as the loop counts it, or None for one more than the last.
        last: the last recorded step, or None.
        first_epoch: number that the loop gives to the first trained epoch, 0 or 1.
        left_out: steps that were partial and kept apart: they are not missing.

    Raises:
        ParameterError: if the number is no integer of 0 or more.
    """
    if epoch is None:
        return (1 if last is None else last + 1), 0
    number = _integer(epoch)
    if number < 0:
        raise ParameterError("epoch", "must be 0 or more", number, "Count epochs from 1.")
    step = number + 1 if first_epoch == 0 else number
    if last is None or step <= last + 1:
        return step, 0
    return step, step - last - 1 - sum(last < number < step for number in left_out)


def _integer(epoch: Any) -> int:
    try:
        if isinstance(epoch, float) and epoch.is_integer():
            return int(epoch)
        return operator.index(epoch)
    except TypeError:
        remedy = "Pass the number of the epoch, or nothing."
        raise ParameterError("epoch", "must be an integer", epoch, remedy) from None


def check_gap(n_missing: int, step: int, last: int | None, record: str) -> None:
    """Refuse a step after others that were never recorded.

    Raises:
        RecordingError: if steps are missing before it.
    """
    if n_missing:
        raise RecordingError(
            f"epoch {step} follows {last}: {n_missing} epochs are missing from record "
            f"{record}. Record every epoch, or pass delta to say what the step weighs."
        )


def default_delta(kind: str, mode: str, n_batches: int, seconds: float) -> float:
    """Δn where none is passed.

    Args:
        kind: one of `history.DELTA_KINDS`.
        mode: "probe" or "inline".
        n_batches: batches of the epoch.
        seconds: since the last recorded epoch.

    Raises:
        ParameterError: if only the training can tell.
    """
    if kind == "epoch":
        return 1.0
    if kind == "wall_time":
        return max(seconds, 1e-9)
    if mode == "probe":
        raise ParameterError(
            "delta",
            "must be given with delta_kind='batch' in mode probe",
            None,
            "Pass the number of optimiser updates since the last epoch.",
        )
    return float(n_batches)


def positive_weight(delta: Any) -> float:
    """Δn as a number.

    Raises:
        ParameterError: if it is no positive number.
    """
    try:
        weight = float(delta)
    except (TypeError, ValueError):
        weight = float("nan")
    if not (np.isfinite(weight) and weight > 0):
        raise ParameterError("delta", "must be a positive number", delta, "Pass Δn of this epoch.")
    return weight


def seen_values(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The values of a column of the samples that were seen; nothing is copied if all were."""
    if np.ma.getmask(column) is np.ma.nomask:
        return np.ma.getdata(column)
    return np.ma.compressed(column)


def summarise(
    entry: StepEntry, n_samples: int, columns: Mapping[str, Any], *, partial: bool = False
) -> EpochSummary:
    """What one epoch held.

    Args:
        entry: its line in the manifest.
        n_samples: samples of the record.
        columns: name -> (n_samples,), masked where a sample was not seen.
        partial: whether it was kept apart.
    """
    loss = seen_values(columns["loss"])
    finite = loss[np.isfinite(loss)] if entry.n_nonfinite else loss
    correct = columns.get("correct")
    return EpochSummary(
        step=entry.step,
        n_seen=entry.n_seen,
        n_missing=n_samples - entry.n_seen,
        n_duplicates=entry.n_duplicates,
        n_nonfinite=entry.n_nonfinite,
        mean_loss=float(finite.mean(dtype=np.float64)) if finite.size else float("nan"),
        accuracy=None if correct is None else float(seen_values(correct).mean()),
        partial=partial,
    )
