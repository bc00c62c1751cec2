"""``actiontrack.autolog()``: records every training of this process, in one line."""

import functools
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from actiontrack.errors import ParameterError
from actiontrack.recorder.autolog import patches
from actiontrack.recorder.autolog.adapter import Adapter
from actiontrack.recorder.autolog.installed import declarations, read
from actiontrack.recorder.autolog.training import Settings, Training, is_inside_training
from actiontrack.store.autologging import after_import, is_users_own_run_active, without_warnings

__all__ = ["autolog"]

logger = logging.getLogger("actiontrack")


class _Switch:
    """What is recorded in this process.

    Attributes:
        general: settings of frameworks that were not named, or None where they are off.
        named: those of frameworks that were, likewise.
        adapters: those that are on.
        lock: of the settings.
        recorded: the functions that are recorded, by adapter and function: one that has several
            names has one wrapper, as `pickle` demands.
    """

    def __init__(self) -> None:
        self.general: Settings | None = None
        self.named: dict[str, Settings | None] = {}
        self.adapters: dict[str, Adapter] = {}
        self.lock = threading.Lock()
        self.recorded: dict[tuple[str, Callable[..., Any]], Callable[..., Any]] = {}

    def settings_of(self, name: str) -> Settings | None:
        """How trainings of a framework are recorded, or None where they are not."""
        return self.named.get(name, self.general)


_switch = _Switch()


def autolog(
    *frameworks: str,
    disable: bool = False,
    exclusive: bool = False,
    silent: bool = False,
    **options: Any,
) -> None:
    """Record per-sample losses in every training of this process from now on.

    Of Lightning, the Hugging Face Trainer, TRL's SFTTrainer, Keras, XGBoost, LightGBM and
    Ultralytics, and of every adapter that another package declares, see `adapters`. Nothing is
    imported: what is imported later is seen to then. What is recorded by default, and under which
    ids, says the table in the documentation of the frameworks.

    The record belongs to the framework's own MLflow run, else to the active run, else to a run that
    is started for the training and ended with it. Nothing here raises into the training: what
    fails is logged as a warning, and the training goes on unrecorded. A training to which one of
    our callbacks is attached already is left alone, and so are trainings inside of a training.

    Safe to call again: the latest call counts. As in MLflow, what a call says of frameworks by name
    takes precedence over what a call without names says, before or after::

        actiontrack.autolog(precision="half")
        actiontrack.autolog("keras", batch_size=1024)
        actiontrack.autolog("xgboost", disable=True)

    Other patches, such as those of ``mlflow.autolog``, stay in force before and after.

    Args:
        frameworks: names of adapters, as in `adapters`. Default: all of them.
        disable: stop recording trainings; without names, those of all frameworks, and what was said
            by name is forgotten.
        exclusive: record nothing while a run is active that the user has started.
        silent: log nothing and show no warnings, neither now nor during trainings.
        options: arguments of the callback of the adapter, such as ``split`` or ``loss``, and of
            `actiontrack.Recorder`. Without names, of every callback.

    Raises:
        ParameterError: if there is no adapter of that name.
    """
    with _quietness(silent=silent):
        readable = _read(frameworks, silent=silent, disable=disable)
        settings = None if disable else Settings(options, exclusive, silent)
        with _switch.lock:
            _switch.adapters |= readable
            if frameworks:
                _switch.named |= dict.fromkeys(frameworks, settings)
            else:
                _switch.general = settings
            if disable and not frameworks:
                _switch.named.clear()
        if not disable and not silent:
            _warn_of_missing(frameworks, readable)
        for name, adapter in list(_switch.adapters.items()):
            if _switch.settings_of(name) is not None:
                _hook(name, adapter)
            else:
                _unhook(adapter)
                del _switch.adapters[name]


def _read(frameworks: tuple[str, ...], *, silent: bool, disable: bool) -> dict[str, Adapter]:
    """The adapters of these names, or all; none where they are turned off."""
    declared = declarations()
    unknown = [name for name in frameworks if name not in declared]
    if unknown:
        rule = f"must be of the adapters that are installed: {', '.join(declared)}"
        raise ParameterError("frameworks", rule, unknown[0], "See actiontrack.adapters().")
    if disable:
        return {}
    chosen = {name: declared[name] for name in frameworks or declared}
    readable = read(chosen, _say_nothing if silent else logger.warning)
    without = [name for name in frameworks if name in readable and not readable[name].trainings]
    if without:
        rule = "must be of adapters that autologging can attach to a training"
        raise ParameterError("frameworks", rule, without[0], "See actiontrack.adapters().")
    return {name: adapter for name, adapter in readable.items() if adapter.trainings}


def _warn_of_missing(frameworks: tuple[str, ...], adapters: Mapping[str, Adapter]) -> None:
    for name in frameworks:
        if name in adapters and not adapters[name].installed:
            logger.warning("autolog: %s is not installed.", adapters[name].framework)


def _hook(name: str, adapter: Adapter) -> None:
    """Wrap the functions of an adapter, now or when their module is imported."""
    for module in adapter.trainings:
        hook = functools.partial(_patch, name, adapter, module)
        if module in sys.modules and sys.modules[module] is not None:
            hook(sys.modules[module])
        else:
            after_import(module, f"actiontrack_{name}", hook)


def _patch(name: str, adapter: Adapter, module: str, imported: Any) -> None:
    settings = _switch.settings_of(name)
    if settings is None:
        return  # turned off before the import
    for owner, attribute in _homes(adapter, module, imported, silent=settings.silent):
        try:
            patches.apply(owner, attribute, functools.partial(_recorded, name, adapter))
        except Exception as error:  # noqa: BLE001 - never into the import
            if not settings.silent:
                logger.warning("autolog: trainings by %s.%s: %s", module, attribute, error)


def _unhook(adapter: Adapter) -> None:
    for module in adapter.trainings:
        if (imported := sys.modules.get(module)) is not None:
            for owner, attribute in _homes(adapter, module, imported, silent=True):
                patches.revert(owner, attribute)


def _homes(
    adapter: Adapter, module: str, imported: Any, *, silent: bool
) -> Iterator[tuple[Any, str]]:
    """Where the functions of a module are; what a version of the framework lacks is left out."""
    for path in adapter.trainings[module]:
        try:
            yield patches.home_of(imported, path)
        except AttributeError as error:
            if not silent:
                logger.warning("autolog: trainings by %s.%s: %s", module, path, error)


def _recorded(name: str, adapter: Adapter, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that trains, and is recorded where that is on."""
    if (name, function) in _switch.recorded:
        return _switch.recorded[name, function]

    @functools.wraps(function)
    def recorded(*args: Any, **kwargs: Any) -> Any:
        settings = _switch.settings_of(name)
        if settings is None or is_inside_training() or _is_excluded(settings):
            return function(*args, **kwargs)
        with Training(name, settings, function) as training:
            return training.prepared(adapter.attach_to, args, kwargs)()

    return _switch.recorded.setdefault((name, function), recorded)


def _is_excluded(settings: Settings) -> bool:
    return settings.exclusive and is_users_own_run_active()


def _quietness(*, silent: bool) -> AbstractContextManager[Any]:
    return without_warnings() if silent else nullcontext()


def _say_nothing(message: str, *args: Any) -> None:
    del message, args
