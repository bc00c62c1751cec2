"""What an adapter declares of itself, in the entry-point group ``actiontrack.adapters``."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from actiontrack.errors import ParameterError
from actiontrack.recorder.autolog.training import Training

__all__ = ["Adapter", "Attach", "load"]

#: Adds what records to a training that is about to begin; see `Training`.
Attach = Callable[[Training], None]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """An adapter of a framework, as its package declares it.

    A package names an object of this class in its entry points, under the name by which
    `actiontrack.autolog` knows it. Reading the declaration must import nothing heavy, so that what
    does is given as text, "module:name"::

        [project.entry-points."actiontrack.adapters"]
        looplet = "actiontrack_looplet:ADAPTER"

    Attributes:
        framework: import name of the framework, such as "xgboost".
        callback: "module:name" of what users attach to a training by hand.
        distribution: the framework's name for pip, where that is another one than its import name.
        trainings: functions that train, as ``{"module": ("function", "Class.method")}``. Each is
            wrapped by `actiontrack.autolog` once its module is imported. Empty: an adapter that
            autologging has nothing to do with.
        attach: function of a `Training`, or "module:name" of one, that adds the callback to it.

    Raises:
        ParameterError: if there are trainings and nothing to attach to them.
    """

    framework: str
    callback: str
    distribution: str = ""
    trainings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    attach: Attach | str | None = None

    def __post_init__(self) -> None:
        """Check that what is wrapped is recorded."""
        if self.trainings and self.attach is None:
            rule = "must be given where there are trainings"
            raise ParameterError("attach", rule, None, "Pass a function of a Training.")

    @property
    def installed(self) -> bool:
        """Whether the framework is installed; it is not imported."""
        names = {self.framework, *(module.partition(".")[0] for module in self.trainings)}
        return any(map(_is_installed, names))

    def attach_to(self, training: Training) -> None:
        """Add what records to a training."""
        function = load(self.attach) if isinstance(self.attach, str) else self.attach
        assert function is not None  # noqa: S101 - checked when it was made
        function(training)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a module that is blocked, or has no spec
        return False


def load(path: str) -> Any:
    """What "module:name" names."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)
