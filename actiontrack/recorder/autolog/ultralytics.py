"""Ultralytics under `actiontrack.autolog`: the trainer's own validation pass."""

from typing import Any

from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.ultralytics import EVENTS, ActionTrackCallback

__all__ = ["QuietCallback", "attach"]


class QuietCallback(QuietTracking, ActionTrackCallback, hooks=(*EVENTS, "_receive")):
    """Records what the trainer validates, and never raises."""

    chosen = "the validation pass"

    def __getstate__(self) -> dict[str, Any]:
        """For the processes of a distributed training."""
        return {**super().__getstate__(), "training": self.training}


def attach(training: Training) -> None:
    """Register the callback with a trainer, unless one of ours is."""
    trainer = training.arguments["self"]
    owners = (
        getattr(function, "__self__", None)
        for functions in trainer.callbacks.values()
        for function in functions
    )
    if any(isinstance(owner, ActionTrackCallback) for owner in owners):
        return
    callback = QuietCallback(**training.options)
    training.add(callback)
    callback.attach(trainer)
    for functions in trainer.callbacks.values():
        # Before those of Ultralytics itself, one of which ends the run.
        ours = [function for function in functions if _is_of(function, callback)]
        functions[:] = [*ours, *(function for function in functions if function not in ours)]


def _is_of(function: Any, callback: QuietCallback) -> bool:
    return getattr(function, "__self__", None) is callback
