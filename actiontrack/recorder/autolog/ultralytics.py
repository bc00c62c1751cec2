"""Ultralytics under `actiontrack.autolog`: the trainer's own validation pass."""

from collections.abc import Mapping
from typing import Any

from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.ultralytics import EVENTS, ActionTrackCallback
from actiontrack.recorder.ultralytics_data import Detections, Images
from actiontrack.recorder.ultralytics_loss import Listened, listen

__all__ = ["QuietCallback", "attach"]


class _QuietCriterion(Listened):
    """A criterion that is listened to, and by itself where listening fails."""

    def __init__(self, criterion: Any, training: Training) -> None:
        super().__init__(criterion)
        self.training = training

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> Any:
        outcome = self.training.quietly(super().__call__, preds, batch)
        return self.criterion(preds, batch) if self.training.failed else outcome


class _QuietDetections(Detections):
    """Detections that are not worth a training."""

    def __init__(self, images: Images, training: Training) -> None:
        super().__init__(images)
        self._training = training

    def _take(self, preds: Any, batch: Mapping[str, Any]) -> None:
        self._training.quietly(super()._take, preds, batch)


class QuietCallback(QuietTracking, ActionTrackCallback, hooks=EVENTS):
    """Records what the trainer validates, and never raises."""

    chosen = "the validation pass"

    def __getstate__(self) -> dict[str, Any]:
        """For the processes of a distributed training."""
        return {**super().__getstate__(), "training": self.training}

    def let_go(self) -> None:
        """Take away from the trainer what is left after an error of ours."""
        self._stop()
        self._trainer = self._loader = None

    def _listen(self, model: Any) -> None:
        listen(model, self._receive, lambda criterion: _QuietCriterion(criterion, self.training))

    def _detections_of(self, images: Images) -> Detections:
        return _QuietDetections(images, self.training)


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
    training.afterwards(callback.let_go)
    for functions in trainer.callbacks.values():
        # Before those of Ultralytics itself, one of which ends the run.
        ours = [function for function in functions if _is_of(function, callback)]
        functions[:] = [*ours, *(function for function in functions if function not in ours)]


def _is_of(function: Any, callback: QuietCallback) -> bool:
    return getattr(function, "__self__", None) is callback
