"""One training that autologging records: its arguments, its run, and what may go wrong."""

import functools
import inspect
import logging
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from actiontrack.errors import RecordingError
from actiontrack.recorder.context import FinishOnExit
from actiontrack.recorder.randomness import unchanged_python_and_numpy
from actiontrack.store import Store
from actiontrack.store.autologging import without_warnings

__all__ = ["Settings", "Training", "is_inside_training"]

logger = logging.getLogger("actiontrack")

_UPLOADS = "actiontrack-upload"  # how the names of threads begin that upload


@dataclass(frozen=True)
class Settings:
    """How `actiontrack.autolog` was called.

    Attributes:
        options: for the callback of the adapter.
        exclusive: nothing is recorded into runs that the user has started.
        silent: nothing is said.
        told: reasons for which trainings were not recorded, each of which is told once.
    """

    options: Mapping[str, Any]
    exclusive: bool = False
    silent: bool = False
    told: set[str] = field(default_factory=set)


class Training:
    """A training that is about to begin.

    The function `attach` of an `Adapter` gets one, chooses the data, and adds its callback both
    to the arguments of the training and, by `add`, to this object. An exception of `attach` is a
    warning with its text, and the training goes on unrecorded.

    Attributes:
        name: of the adapter.
        function: what trains; `attach` may put another callable in its place.
        arguments: those that it was called with, by name, ``self`` included; what `attach` changes
            the training sees.
        options: of `actiontrack.autolog`, for the callback.
    """

    def __init__(self, name: str, settings: Settings, function: Callable[..., Any]) -> None:
        self.name, self.function, self._settings = name, function, settings
        self.options = dict(settings.options)
        self._bound: inspect.BoundArguments | None = None
        self._callbacks: list[FinishOnExit] = []
        self._runs, self._changes = ExitStack(), ExitStack()
        self._process, self._failed, self._is_elsewhere = os.getpid(), False, False

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the training by name."""
        assert self._bound is not None  # noqa: S101 - bound before `attach` is called
        return self._bound.arguments

    @property
    def failed(self) -> bool:
        """Whether recording was given up."""
        return self._failed

    @property
    def silent(self) -> bool:
        """Whether nothing is to be said."""
        return self._settings.silent

    def add(self, callback: Any) -> None:
        """Finish a callback with this training, and close it where that fails.

        Args:
            callback: of a subclass of `QuietTracking`.
        """
        callback.training = self
        self._callbacks.append(callback)

    def afterwards(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function when the training has ended, such as one that takes a callback away."""
        self._changes.callback(function, *args)

    def open_run(self, store: Store | None = None) -> None:
        """See to it that a run is active: one is started, and ended with the training.

        Args:
            store: the tracking server. Default: MLflow's current one.

        Raises:
            RecordingError: if there is none in a process that the training has started.
            StoreError: if the server does not answer.
        """
        if Store.active_run_id() is None:
            if self._is_elsewhere:
                raise RecordingError(
                    "there is no active MLflow run in the processes of this training. Call "
                    "mlflow.start_run() before it, or pass run_id to autolog."
                )
            with unchanged_python_and_numpy():  # MLflow draws the name of the run
                self._runs.enter_context((store or Store()).run())

    def prepared(
        self, attach: Callable[[Self], None], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[], Any]:
        """The call of the training, with what `attach` adds to it."""
        plain = functools.partial(self.function, *args, **kwargs)
        try:
            self._bound = inspect.signature(self.function).bind(*args, **kwargs)
        except TypeError:
            return plain  # which says what is wrong with the arguments
        with self._quietness():
            try:
                attach(self)
            except Exception as error:  # noqa: BLE001 - never into the training
                self._failed = True
                self.tell("this training is not recorded: %s", error)
                self._end()
                return plain
        bound = self._bound
        return lambda: self.function(*bound.args, **bound.kwargs)

    def quietly(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what records; the first error is a warning, and ends the recording."""
        if self._failed:
            return None
        with self._quietness():
            try:
                return function(*args, **kwargs)
            except Exception as error:  # noqa: BLE001 - never into the training
                self.give_up(error)
        return None

    def give_up(self, reason: Any) -> None:
        """Say why this training is not recorded any further, and close its records."""
        self._failed = True
        further = " any further" if any(map(_has_recorded, self._callbacks)) else ""
        self.tell(f"this training is not recorded{further}: %s", reason)
        for callback in self._callbacks:
            self._safely(callback.close)

    def tell(self, message: str, reason: Any) -> None:
        """Log a warning, each once for each call of `actiontrack.autolog`."""
        text = message % reason
        if text not in self._settings.told and not self._settings.silent:
            self._settings.told.add(text)
            logger.warning("%s", text)

    def __enter__(self) -> Self:
        """Trainings that begin inside of this one are part of it."""
        _inside.depth = getattr(_inside, "depth", 0) + 1
        if self._settings.silent:
            _silence.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish after a normal end, close after an error, and end the run that was started."""
        _inside.depth -= 1
        try:
            if not self._failed:
                ends = [callback.finish if kind is None else callback.close for callback in
                        self._callbacks]  # fmt: skip
                for end in ends:
                    self.quietly(end)
            self._end()
            self._end_run(kind, error, trace)
        finally:
            if self._settings.silent:
                _silence.end()

    def __getstate__(self) -> dict[str, Any]:
        """For another process, which has no part in the end of this training."""
        return {"name": self.name, "settings": self._settings}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        """A training that is recorded into the run that is active there."""
        Training.__init__(self, state["name"], state["settings"], lambda: None)
        self._is_elsewhere = True

    def _end(self) -> None:
        self._safely(self._changes.close)

    def _end_run(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.getpid() != self._process:
            return
        try:
            self._runs.__exit__(kind, error, trace)
        except BaseException as raised:
            if raised is error:
                return  # goes on by itself
            if not isinstance(raised, Exception):
                raise
            self.tell("the run of this training was not ended: %s", raised)

    def _safely(self, function: Callable[[], Any]) -> None:
        try:
            function()
        except Exception as error:  # noqa: BLE001 - never into the training
            logger.debug("after a training: %s", error)

    def _quietness(self) -> AbstractContextManager[Any]:
        return without_warnings() if self._settings.silent else nullcontext()


def _has_recorded(callback: Any) -> bool:
    recorder = getattr(callback, "recorder", None)
    return recorder is not None and recorder.last_step is not None


class _Silence(logging.Filter):
    """Drops what is logged by threads whose training is silent, and by their uploads."""

    def __init__(self) -> None:
        super().__init__()
        self._threads: Counter[int] = Counter()

    def begin(self) -> None:
        self._threads[threading.get_ident()] += 1
        logger.addFilter(self)

    def end(self) -> None:
        self._threads -= Counter({threading.get_ident(): 1})
        if not self._threads:
            logger.removeFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        uploads = str(record.threadName).startswith(_UPLOADS)
        return not (uploads or record.thread in self._threads)


_silence = _Silence()
_inside = threading.local()


def is_inside_training() -> bool:
    """Whether this thread is inside a training that autologging has seen the beginning of."""
    return getattr(_inside, "depth", 0) > 0
