"""The mean of what was recorded, against the mean loss that the framework reports itself.

An adapter computes the losses of single samples from the outputs of a model. Where the framework
says what the mean loss of the same samples is, the two must agree up to rounding. Where they do
not, the adapter has left out something that the framework applies: a transform of the batch,
weights, another set of samples.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

from actiontrack.errors import ParameterError
from actiontrack.recorder.recorder import EpochSummary, Recorder

__all__ = ["AGREES", "LOSS_CHECK", "LossCheck", "differs"]

logger = logging.getLogger("actiontrack")

#: Name of the remark on the record, see `Recorder.note`.
LOSS_CHECK = "loss_check"
#: Note of a record whose means agree with those of the framework.
AGREES = "agrees"


@dataclass(frozen=True)
class _Tolerance:
    """The difference of two means of the same losses that rounding explains."""

    relative: float
    absolute: float


#: By the type in which the model and its loss are computed. Records keep losses as float32.
_TOLERANCES: Mapping[str, _Tolerance] = {
    "float64": _Tolerance(1e-5, 1e-6),
    "float32": _Tolerance(1e-4, 2e-5),
    "float16": _Tolerance(5e-3, 5e-3),
    "bfloat16": _Tolerance(2e-2, 3e-2),
}


def differs(recorded: float, reported: float, precision: str = "float32") -> bool:
    """Whether two means of the same losses differ by more than rounding.

    A mean that is not finite differs from one that is; two that are not finite agree.

    Args:
        recorded: mean of the recorded losses.
        reported: the mean that the framework reports.
        precision: type in which the losses are computed: "float64", "float32", "float16" or
            "bfloat16".

    Raises:
        ParameterError: if the precision is another one.
    """
    if precision not in _TOLERANCES:
        rule = f"must be one of {', '.join(_TOLERANCES)}"
        raise ParameterError("precision", rule, precision, "Name the type of the losses.")
    if not (math.isfinite(recorded) and math.isfinite(reported)):
        return math.isfinite(recorded) != math.isfinite(reported)
    tolerance = _TOLERANCES[precision]
    return abs(recorded - reported) > tolerance.relative * abs(reported) + tolerance.absolute


class LossCheck:
    """Compares each step of one record with what the framework reports, and marks the record.

    The remark ``loss_check`` of the record is "agrees" after the first step that agrees, and says
    where and by how much they differ after the first one that does not; the latter stays. The first
    difference is logged as a warning at once. Nothing here ends a training.

    ::

        check = LossCheck(recorder, source="validation_step")
        summary = recorder.end_epoch()
        check.compare(summary.step, summary.mean_loss, reported, summary.n_seen)

    Args:
        recorder: of the record.
        source: what reports the mean, in words for the message.
        remedy: what to do about a difference, as a sentence. Default: what may have been left out.
    """

    def __init__(
        self, recorder: Recorder, *, source: str = "the framework", remedy: str = ""
    ) -> None:
        self._recorder, self._source = recorder, source
        self._remedy = remedy or (
            "The two are computed from different inputs, weights or losses: compare them on one "
            "batch before you use this record."
        )

    def compare(
        self,
        step: int,
        recorded: float,
        reported: float,
        n_samples: int,
        *,
        precision: str = "float32",
    ) -> bool:
        """Compare one step, after it was recorded. Returns whether the two means agree.

        Args:
            step: n of the recorded step.
            recorded: mean of its losses. Pass NaN where some of them are not finite.
            reported: mean loss of the same samples as the framework reports it.
            n_samples: number of samples.
            precision: type in which the losses are computed, see `differs`.

        Raises:
            ParameterError: if the precision is unknown.
        """
        before = self._recorder.notes.get(LOSS_CHECK, "")
        if not differs(recorded, reported, precision):
            if not before:
                self._recorder.note(LOSS_CHECK, AGREES)
            return True
        if before in {"", AGREES}:
            difference = (
                f"step {step}: the mean of the recorded losses is {recorded:.6g}, {self._source} "
                f"reports {reported:.6g} for the same {n_samples} samples"
            )
            self._recorder.note(LOSS_CHECK, f"differs at {difference}")
            logger.warning("record %s, %s. %s", self._recorder.name, difference, self._remedy)
        return False

    def compare_summary(
        self, summary: EpochSummary | None, reported: float, *, precision: str = "float32"
    ) -> bool:
        """Compare what `Recorder.end_epoch` returned, see `compare`.

        Nothing is compared on a process that does not write, and where repeated samples were
        dropped: there the framework has averaged more of them than the record holds.
        """
        if summary is None or summary.n_duplicates:
            return True
        recorded = math.nan if summary.n_nonfinite else summary.mean_loss
        return self.compare(summary.step, recorded, reported, summary.n_seen, precision=precision)
