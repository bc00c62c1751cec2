"""An evaluation pass as the Lightning Trainer makes it, that leaves the training as it was."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from actiontrack.recorder.torch_probe import evaluating

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = [
    "averaged_after_training",
    "of_class",
    "on_device",
    "validating",
    "validation_loaders",
    "weights",
]


@contextmanager
def validating(trainer: "Trainer", module: "LightningModule") -> Iterator[None]:
    """The state in which the Trainer validates: stage, precision, averaged weights, no gradients.

    Under Lightning's `WeightAveraging` and `EMAWeightAveraging` the weights are the averaged ones,
    as in validation. Everything is as before at the end.
    """
    stage = trainer.state.stage
    with ExitStack() as stack:
        stack.enter_context(evaluating(module))
        trainer.state.stage = type(stage).VALIDATING if stage is not None else None
        stack.callback(setattr, trainer.state, "stage", stage)
        for callback in _callbacks(trainer, "WeightAveraging"):
            callback.on_validation_epoch_start(trainer, module)
            stack.callback(callback.on_validation_epoch_end, trainer, module)
        stack.enter_context(trainer.precision_plugin.val_step_context())
        yield


def on_device(
    trainer: "Trainer", module: "LightningModule", batch: Any, dataloader_idx: int = 0
) -> Any:
    """A batch as the Trainer hands it to `validation_step`.

    Converted by the precision, then by the hooks ``on_before_batch_transfer``,
    ``transfer_batch_to_device`` and ``on_after_batch_transfer`` of the DataModule or the module.
    """
    batch = trainer.precision_plugin.convert_input(batch)
    batch = module._on_before_batch_transfer(batch, dataloader_idx)  # noqa: SLF001 - as the Trainer
    return trainer.strategy.batch_to_device(batch, dataloader_idx=dataloader_idx)


def weights(trainer: "Trainer") -> str:
    """Which weights are evaluated, where a callback of Lightning averages them; else empty."""
    for callback in _callbacks(trainer, "WeightAveraging"):
        return f"averaged by {type(callback).__name__}, as in validation"
    for callback in _callbacks(trainer, "StochasticWeightAveraging"):
        return f"raw; {type(callback).__name__} puts the average in their place after training"
    return ""


def averaged_after_training(trainer: "Trainer") -> bool:
    """Whether this epoch trains nothing.

    `StochasticWeightAveraging` adds it for the statistics of batch normalisation.
    """
    return any(
        trainer.current_epoch > callback.swa_end
        for callback in _callbacks(trainer, "StochasticWeightAveraging")
    )


def state_of(trainer: "Trainer") -> tuple[Any, ...]:
    """What tells the weights of two passes apart: updates, and averages taken after an epoch."""
    averaging = _callbacks(trainer, "WeightAveraging")
    return trainer.global_step, *(
        getattr(callback, "_latest_update_epoch", None) for callback in averaging
    )


def validation_loaders(trainer: "Trainer") -> list[Any]:
    """The loaders of validation, in the order of their ``dataloader_idx``; empty without one."""
    return _flat(trainer.val_dataloaders) if trainer.enable_validation else []


def _flat(loaders: Any) -> list[Any]:
    if loaders is None:
        return []
    parts = getattr(loaders, "flattened", loaders)  # of a CombinedLoader
    if isinstance(parts, dict):
        parts = list(parts.values())
    if isinstance(parts, list | tuple):
        return [loader for part in parts for loader in _flat(part)]
    return [parts]


def of_class(objects: Iterable[Any], name: str) -> list[Any]:
    """Those of a class of Lightning, of either package."""
    return [
        candidate
        for candidate in objects
        if any(kind.__name__ == name for kind in type(candidate).__mro__)
    ]


def _callbacks(trainer: "Trainer", name: str) -> list[Any]:
    return of_class(trainer.callbacks, name)  # type: ignore[attr-defined]
