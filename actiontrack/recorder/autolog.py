"""``actiontrack.autolog()``: records every Lightning training of this process, in one line."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from typing import Any

from actiontrack.store import Store

__all__ = ["autolog"]

logger = logging.getLogger("actiontrack")

_patches: dict[Any, tuple[Callable[..., Any], Callable[..., Any]]] = {}
_settings: Mapping[str, Any] | None = None


def autolog(*, disable: bool = False, **options: Any) -> None:
    """Record per-sample losses in every `Trainer.fit` of PyTorch Lightning from now on.

    After each epoch the samples of the validation loader are evaluated, or of the training loader
    where there is none. Of several validation loaders each has a record: "validation",
    "validation_2" and so on.
    The record belongs to the run of the trainer's MLFlowLogger, else to the active run, else to a
    run that is started for the training and ended with it. Nothing here raises into the
    training: what fails is logged as a warning, and the training goes on unrecorded. A trainer
    that has an `ActionTrackCallback` already is left alone.

    Safe to call again: the latest options count. Other patches of `fit`, such as that of
    ``mlflow.pytorch.autolog``, stay in force before and after.

    Args:
        disable: stop recording trainings.
        options: arguments of `actiontrack.recorder.lightning.ActionTrackCallback`, such as
            ``data`` or ``extract``. Default of ``split``: "validation", "train" or, with ``data``,
            "test". The mode is "probe".

    Raises:
        MissingDependencyError: if Lightning is not installed.
    """
    global _settings  # noqa: PLW0603 - one switch per process is what autologging is
    if disable:
        _settings = None
        for trainer in list(_patches):
            _unpatch(trainer)
        return
    from actiontrack.recorder import lightning  # noqa: PLC0415 - says so if Lightning is missing

    for trainer in _trainers(lightning.NAMESPACES):
        _patch(trainer)
    _settings = dict(options)


def _trainers(namespaces: Sequence[str]) -> list[Any]:
    """The Trainer of each package of Lightning that is installed."""
    trainers = []
    for name in namespaces:
        with suppress(ImportError):
            trainers.append(import_module(name).Trainer)
    return trainers


def _patch(trainer: Any) -> None:
    ours, _ = _patches.get(trainer, (None, None))
    if ours is None or ours not in _layers(trainer.fit):
        original = trainer.fit
        trainer.fit = _recorded(original)
        _patches[trainer] = trainer.fit, original


def _unpatch(trainer: Any) -> None:
    # Where another library has patched on top, ours stays below and does nothing.
    ours, original = _patches.get(trainer, (None, None))
    if ours is not None and trainer.fit is ours:
        trainer.fit = original
        del _patches[trainer]


def _layers(function: Any) -> list[Any]:
    """A function and what it wraps, outermost first."""
    layers = [function]
    while hasattr(layers[-1], "__wrapped__"):
        layers.append(layers[-1].__wrapped__)
    return layers


def _recorded(fit: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fit)
    def recorded(trainer: Any, *args: Any, **kwargs: Any) -> Any:
        with ExitStack() as stack:
            if _settings is not None:
                _prepare(trainer, stack, _settings)
            return fit(trainer, *args, **kwargs)

    return recorded


def _prepare(trainer: Any, stack: ExitStack, options: Mapping[str, Any]) -> None:
    """Add the callback for this training, in a run; failures are logged."""
    from actiontrack.recorder import lightning, lightning_quiet  # noqa: PLC0415 - autolog() alone

    if any(isinstance(other, lightning.ActionTrackCallback) for other in trainer.callbacks):
        return
    try:
        callback = lightning_quiet.QuietCallback(**options)
        if trainer.is_global_zero and not lightning.has_run(trainer):
            stack.enter_context(Store().run())
    except Exception as error:  # noqa: BLE001 - never into the training
        logger.warning("this training is not recorded: %s", error)
        return
    trainer.callbacks.append(callback)
    stack.callback(trainer.callbacks.remove, callback)
