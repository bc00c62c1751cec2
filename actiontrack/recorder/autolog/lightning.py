"""Lightning under `actiontrack.autolog`: the validation loaders, or else the training loader."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actiontrack.errors import ParameterError
from actiontrack.recorder.autolog.quiet import QuietTracking
from actiontrack.recorder.autolog.training import Training
from actiontrack.recorder.lightning import ActionTrackCallback, has_run
from actiontrack.recorder.lightning_pass import of_class, validation_loaders
from actiontrack.recorder.torch_probe import indexed_loader
from actiontrack.recorder.torch_sampling import are_positions

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["QuietCallback", "attach"]

_HOOKS = (
    *("on_train_start", "on_validation_epoch_start", "on_validation_batch_end"),
    *("on_validation_end", "on_train_epoch_end", "on_train_end", "on_exception"),
)


class _FurtherLoader(QuietTracking, ActionTrackCallback):
    """Records a further validation loader; `QuietCallback` calls its hooks."""


class QuietCallback(
    QuietTracking, ActionTrackCallback, hooks=_HOOKS, agreeing=("on_train_epoch_end",)
):
    """Records the trainer's own data and never raises.

    Evaluates the samples of the validation loader after each epoch, or of the training loader where
    there is none. Further validation loaders have records of their own, "validation_2" and so on.

    Args:
        split: name of the recorded split. Default: "validation", "train" or, with `data`, "test".
        options: further arguments of `ActionTrackCallback`.
    """

    def __init__(self, *, split: str | None = None, **options: Any) -> None:
        super().__init__(split=split or "", **options)
        if self._mode == "inline":
            rule = "must be probe where nothing in the training is changed"
            raise ParameterError(
                "mode", rule, "inline", "Add an ActionTrackCallback to the trainer."
            )
        self._settings = options
        self._others: list[ActionTrackCallback] = []

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Choose the data and open the records."""
        self._choose_data(trainer)
        self._call_all("on_train_start", super().on_train_start, trainer, pl_module)

    def on_validation_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Forget an earlier validation pass of the same epoch."""
        hook = super().on_validation_epoch_start
        self._call_all("on_validation_epoch_start", hook, trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any, batch: Any, *rest: int
    ) -> None:
        """Keep the loss that the module reports of a validation batch."""
        if self._data is not None:  # not in the sanity check before it is chosen
            hook = super().on_validation_batch_end
            arguments = (trainer, pl_module, outputs, batch, *rest)
            self._call_all("on_validation_batch_end", hook, *arguments)

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """See what the validation pass has logged."""
        self._call_all("on_validation_end", super().on_validation_end, trainer, pl_module)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Evaluate and record the epoch."""
        self._call_all("on_train_epoch_end", super().on_train_epoch_end, trainer, pl_module)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Finish the records."""
        self._call_all("on_train_end", super().on_train_end, trainer, pl_module)

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        """Close the records."""
        self._call_all("on_exception", super().on_exception, trainer, pl_module, exception)

    def close(self) -> bool:
        """Stop without finishing. Returns whether everything recorded is uploaded."""
        closed = [callback.close() for callback in self._others]
        return super().close() and all(closed)

    def _choose_data(self, trainer: "Trainer") -> None:
        self._others = []
        loaders, split, self.chosen = [self._data], "test", "data"
        if self._data is None:
            loaders, split = _own_data(trainer)
            self.chosen = f"the {split} loader"
        self._data, self._split = loaders[0], self._split or split
        indexed_loader(self._data)
        self.positions = are_positions(self._data)
        for number, loader in enumerate(loaders[1:], 2):
            further = _FurtherLoader(loader, split=f"{self._split}_{number}", **self._settings)
            further.training = self.training
            further.chosen = f"{split} loader {number}"
            further.positions = are_positions(loader)
            self._others.append(further)

    def _call_all(self, name: str, hook: Callable[..., None], *args: Any) -> None:
        """Call a hook of this callback, then that of each further loader's."""
        hook(*args)
        for callback in self._others:
            getattr(callback, name)(*args)


def attach(training: Training) -> None:
    """Add the callback to a Trainer, unless it has one of ours."""
    trainer = training.arguments["self"]
    if any(isinstance(other, ActionTrackCallback) for other in trainer.callbacks):
        return
    callback = QuietCallback(**training.options)
    if _starts_processes(trainer) and trainer.is_global_zero and not has_run(trainer):
        training.open_run()  # which the processes inherit, and this one ends
    training.add(callback)
    trainer.callbacks.append(callback)
    training.afterwards(trainer.callbacks.remove, callback)


def _own_data(trainer: "Trainer") -> tuple[list[Any], str]:
    """The trainer's validation loaders, or else its training loader."""
    loaders = validation_loaders(trainer)
    return (loaders, "validation") if loaders else ([trainer.train_dataloader], "train")


def _starts_processes(trainer: "Trainer") -> bool:
    """Whether the training runs in processes that Python starts, such as those of a notebook."""
    launcher = getattr(trainer.strategy, "launcher", None)
    return bool(of_class([launcher], "_MultiProcessingLauncher"))
