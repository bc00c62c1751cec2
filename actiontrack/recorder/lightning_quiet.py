"""What `actiontrack.autolog` adds to a trainer: a callback that never raises."""

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from actiontrack.errors import ParameterError
from actiontrack.recorder.lightning import ActionTrackCallback
from actiontrack.recorder.lightning_pass import validation_loaders
from actiontrack.recorder.torch_probe import indexed_loader

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

__all__ = ["QuietCallback"]

logger = logging.getLogger("actiontrack")


class QuietCallback(ActionTrackCallback):
    """Records the trainer's own data and never raises: what `actiontrack.autolog` adds.

    Evaluates the samples of the validation loader after each epoch, or of the training loader where
    there is none. Further validation loaders have records of their own, "validation_2" and so on.
    The first failure is logged as a warning and ends the recording.

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
        self._failed = False

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Choose the data and open the record."""
        self._quietly("on_train_start", self._start, trainer, pl_module)

    def on_validation_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Forget an earlier validation pass of the same epoch."""
        hook = super().on_validation_epoch_start
        self._quietly("on_validation_epoch_start", hook, trainer, pl_module)

    def on_validation_batch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any, batch: Any, *rest: int
    ) -> None:
        """Keep the loss that the module reports of a validation batch."""
        hook = super().on_validation_batch_end
        args = (trainer, pl_module, outputs, batch, *rest)
        if self._data is not None:  # not in the sanity check before it is chosen
            self._quietly("on_validation_batch_end", hook, *args)

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """See what the validation pass has logged."""
        self._quietly("on_validation_end", super().on_validation_end, trainer, pl_module)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Evaluate and record the epoch."""
        self._quietly("on_train_epoch_end", super().on_train_epoch_end, trainer, pl_module)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Finish the record."""
        self._quietly("on_train_end", super().on_train_end, trainer, pl_module)

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        """Close the record."""
        self._quietly("on_exception", super().on_exception, trainer, pl_module, exception)

    def _start(self, trainer: "Trainer", module: "LightningModule") -> None:
        self._others = []
        split = "test"
        if self._data is None:
            loaders, split = _own_data(trainer)
            self._data = loaders[0]
            for index, loader in enumerate(loaders[1:], 2):
                name = f"{self._split or split}_{index}"
                self._others.append(ActionTrackCallback(loader, split=name, **self._settings))
        self._split = self._split or split
        indexed_loader(self._data)
        super().on_train_start(trainer, module)

    def _quietly(self, name: str, hook: Callable[..., None], *args: Any) -> None:
        """Call a hook of this callback, then that of each further loader's."""
        if self._failed:
            return
        try:
            hook(*args)
            for callback in self._others:
                getattr(callback, name)(*args)
        except Exception as error:  # noqa: BLE001 - never into the training
            self._failed = True
            logger.warning("this training is not recorded any further: %s", error)
            for callback in (self, *self._others):
                with contextlib.suppress(Exception):
                    callback.close()


def _own_data(trainer: "Trainer") -> tuple[list[Any], str]:
    """The trainer's validation loaders, or else its training loader."""
    loaders = validation_loaders(trainer)
    return (loaders, "validation") if loaders else ([trainer.train_dataloader], "train")
