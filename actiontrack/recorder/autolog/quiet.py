"""What `actiontrack.autolog` adds to a training: the callback of an adapter that never raises."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from actiontrack.errors import RecordingError
from actiontrack.recorder.autolog.processes import agreed, reason_of_writer
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.probe import Tracking
from actiontrack.recorder.recorder import Recorder

__all__ = ["QuietTracking"]


class QuietTracking(Tracking):
    """First base of a callback that autologging adds; the second is the adapter's own.

    ::

        class QuietCallback(QuietTracking, ActionTrackCallback, hooks=("on_epoch_end",)):
            ...

    What a hook raises is a warning, and ends the recording. The record is opened in the run that is
    active when the adapter opens it, or in one that is started then, and says in the tag
    ``actiontrack.<record>.autolog`` what was recorded, and in ``actiontrack.<record>.ids`` if ids
    are positions.

    Args:
        hooks: names of the methods that the framework calls.
        passing: those of them that return their first argument, and do so after an error, too.
        agreeing: those around which several processes agree on whether to go on.

    Attributes:
        training: the training that it belongs to; set by `Training.add`.
        chosen: what is recorded, such as "validation_data".
        positions: whether ids are positions in that.
    """

    training: Training
    chosen: str = ""
    positions: bool = False
    _several: bool = False
    _parted: bool = False

    def __init_subclass__(
        cls,
        hooks: Sequence[str] = (),
        passing: Sequence[str] = (),
        agreeing: Sequence[str] = (),
        **options: Any,
    ) -> None:
        """Wrap the hooks."""
        super().__init_subclass__(**options)
        for name in hooks:
            hook = _quiet(getattr(cls, name), passes=name in passing, agrees=name in agreeing)
            setattr(cls, name, hook)

    def _open(self, split: str, **options: Any) -> Recorder:
        if self.training.silent:  # a finished record would print its result
            options.setdefault("verbose", False)
        inspect.signature(Recorder).bind(split, **options)  # before a run is started for nothing
        gather = options.get("gather")
        self._several = gather is not None
        if gather is None:
            self._open_run(options)
            recorder = super()._open(split, **options)
        else:
            recorder = self._open_together(split, options)
        recorder.note("autolog", f"{self.training.name}: {self.chosen}")
        if self.positions:
            recorder.note("ids", f"positions in {self.chosen}")
        return recorder

    def _agree(self) -> None:
        """Give up where another process has."""
        if not self._several or self._parted or agreed(going_on=not self.training.failed):
            return
        self._parted = True
        if not self.training.failed:
            self.training.give_up("another process has given up")

    def _open_run(self, options: Any) -> None:
        if options.get("run_id") is None:
            self.training.open_run(options.get("store"))

    def _open_together(self, split: str, options: Any) -> Recorder:
        """Open the record of several processes, or none of them."""
        is_writer = options["gather"]({}) is not None
        with reason_of_writer() as reason:
            if is_writer:
                self._open_run(options)
        if reason.text:
            raise RecordingError(reason.text)
        with reason_of_writer() as reason:
            recorder = super()._open(split, **options)
        if reason.text:
            raise RecordingError(reason.text)
        return recorder


def _quiet(hook: Callable[..., Any], *, passes: bool, agrees: bool) -> Callable[..., Any]:
    @functools.wraps(hook)
    def quiet(self: QuietTracking, *args: Any, **kwargs: Any) -> Any:
        if agrees:
            self._agree()
        result = self.training.quietly(hook, self, *args, **kwargs)
        if agrees:
            self._agree()
        return next(iter((*args, *kwargs.values()))) if passes else result

    return quiet
