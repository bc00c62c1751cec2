"""PyTorch Lightning: per-sample losses of every epoch by one callback.

::

    track = ActionTrackCallback(test_dataset)                   # 1
    Trainer(callbacks=[track], logger=MLFlowLogger(…))          # 2

Works with the package ``lightning`` and, where only that is installed or imported, with
``pytorch_lightning``.
"""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from actiontrack.errors import MissingDependencyError, ParameterError, RecordingError
from actiontrack.recorder.probe import Tracking
from actiontrack.recorder.torch import gather
from actiontrack.recorder.torch_probe import evaluating, indexed_loader
from actiontrack.recorder.whole_epoch import number_of_samples
from actiontrack.store import Store

__all__ = ["NAMESPACES", "ActionTrackCallback", "QuietCallback", "has_run"]

logger = logging.getLogger("actiontrack")

#: Where Lightning may live; the classes of the two are different ones.
NAMESPACES = ("lightning.pytorch", "pytorch_lightning")


def _namespace() -> Any:
    for name in [*(each for each in NAMESPACES if each in sys.modules), *NAMESPACES]:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise MissingDependencyError(
        "actiontrack.recorder.lightning needs Lightning: pip install 'actiontrack[lightning]'"
    )


if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    Callback = _namespace().Callback

#: (batch, outputs) -> "logits" or "losses", "labels", and "ids" if the batch carries them.
Extract = Callable[[Any, Any], Mapping[str, Any]]


class ActionTrackCallback(Tracking, Callback):
    """Records the per-sample losses of a LightningModule, after each epoch of training.

    Three ways to come by the losses:

    - with `data`: an evaluation pass over it after each epoch, in evaluation mode. Model, batches
      and training stay as they are, bit for bit: the pass draws no random numbers of theirs;
    - without: the trainer's own validation pass, at no cost, if its batches carry ids (see
      `IndexedDataset`) and `validation_step` returns the logits. Of several passes in an epoch
      the last one counts, sanity checks do not;
    - ``mode="inline"``: the training batches, likewise, with ``{"loss": …, "logits": …}`` from
      `training_step`.

    The record belongs to the run of the trainer's MLFlowLogger, else to the active run; no run is
    started. An error in training closes the record, the end of training finishes it. In
    distributed training every process records and rank 0 writes.

    Args:
        data: a map-style dataset whose items are (inputs, label), or a DataLoader of one. Ids are
            those of an `IndexedDataset`, else positions in the dataset.
        split: name of the recorded split.
        mode: "probe" or "inline".
        extract: function of (batch, outputs) that returns a mapping with "labels" and "logits" or
            "losses", and with "ids" where `data` is not given. Default: outputs are logits, or a
            mapping that has them; labels are the last part of the batch, ids the first one, or
            the entries "labels" and "sample_id" of a mapping.
        forward: function of (module, batch) that gives the outputs on a batch of `data`. Default:
            the module called with the first part of the batch.
        batch_size: for the evaluation of a dataset; a DataLoader has its own.
        options: further arguments of `actiontrack.Recorder`.

    Raises:
        ParameterError: if `data` has no length or is combined with mode "inline".
    """

    def __init__(
        self,
        data: Any = None,
        *,
        split: str = "test",
        mode: str = "probe",
        extract: Extract | None = None,
        forward: Callable[[Any, Any], Any] | None = None,
        batch_size: int = 256,
        **options: Any,
    ) -> None:
        super().__init__()
        if data is not None and mode == "inline":
            raise ParameterError(
                "data", "must be None in mode inline", type(data).__name__, "Leave it out."
            )
        if data is not None:
            indexed_loader(data)  # refuses what has no ids before training begins
        self._data, self._batch_size = data, batch_size
        self._split, self._mode, self._options = split, mode, options
        self._extract, self._forward = extract or _extract, forward or _forward
        self._pending = False
        self._n_batches = 0
        self._last_updates = self._last_epoch = 0
        self._clock = 0.0

    # Hooks, in the order in which Lightning calls them

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:  # noqa: ARG002
        """Open the record.

        Raises:
            RecordingError: if there is neither an MLFlowLogger nor an active run, or if there is
                neither `data` nor a validation pass.
        """
        if self._data is None and self._mode == "probe" and not trainer.enable_validation:
            raise RecordingError(
                "there is no validation pass to record. Give fit a validation loader, or pass data."
            )
        options: dict[str, Any] = {"mode": self._mode, **_run_of(trainer)}
        if trainer.world_size > 1:
            options["gather"] = gather
        self._open(self._split, **{**options, **self._options})
        self._remember(trainer, trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep the losses of a training batch, in mode "inline"."""
        del trainer, pl_module
        if self._mode == "inline":
            self._update(batch, outputs, "training_step")
            self._pending = True
            self._n_batches += 1

    def on_validation_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Forget an earlier validation pass of the same epoch."""
        del pl_module
        if self._reuses_validation(trainer):
            self._running().discard_epoch()
            self._pending = True

    def on_validation_batch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep the losses of a validation batch, where validation is what is recorded."""
        del pl_module
        if self._reuses_validation(trainer):
            self._update(batch, outputs, "validation_step")

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Evaluate, if that is asked for, and record the epoch."""
        if self._data is not None:
            self._evaluate(trainer, pl_module)
        if self._pending:
            is_partial = self._mode == "inline" and self._n_batches < trainer.num_training_batches
            self._running().end_epoch(
                trainer.current_epoch + 1,
                delta=self._delta(trainer),
                partial=True if is_partial else None,
                n_samples=number_of_samples(trainer.train_dataloader) if is_partial else None,
            )
            self._remember(trainer, trainer.current_epoch + 1)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Finish the record."""
        del trainer, pl_module
        self.finish()

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        """Close the record: what is complete is kept."""
        del trainer, pl_module, exception
        self.close()

    # How

    def _running(self) -> Any:
        assert self.recorder is not None  # noqa: S101 - opened when training began
        return self.recorder

    def _reuses_validation(self, trainer: "Trainer") -> bool:
        fitting = trainer.state.fn == "fit" and not trainer.sanity_checking
        return fitting and self._mode == "probe" and self._data is None

    def _update(self, batch: Any, outputs: Any, origin: str) -> None:
        found = dict(self._extract(batch, outputs))
        if "ids" not in found or not ("logits" in found or "losses" in found):
            raise RecordingError(
                f"{origin}: no ids, or neither logits nor losses in what it was given and what it "
                "returned. Wrap the dataset in IndexedDataset and return {'logits': …}, or pass "
                "extract or data."
            )
        self._running().update(found.pop("ids"), **found)

    def _evaluate(self, trainer: "Trainer", module: "LightningModule") -> None:
        loader = indexed_loader(
            self._data,
            batch_size=self._batch_size,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
        )
        with evaluating(module), trainer.precision_plugin.val_step_context():
            for ids, batch in loader:
                moved = module.transfer_batch_to_device(batch, module.device, 0)
                self._update_indexed(ids, moved, self._forward(module, moved))
        self._pending = True

    def _remember(self, trainer: "Trainer", epoch: int) -> None:
        self._last_updates, self._last_epoch = trainer.global_step, epoch
        self._clock, self._pending, self._n_batches = time.monotonic(), False, 0

    def _update_indexed(self, ids: Any, batch: Any, outputs: Any) -> None:
        # The default reads ids from the batch, which here has none: those of the dataset win.
        found = dict(self._extract(batch, outputs))
        if self._extract is _extract:
            found["ids"] = ids
        self._running().update(found.pop("ids", ids), **found)

    def _delta(self, trainer: "Trainer") -> float:
        """Δn since the last recorded state, also where not every epoch is validated."""
        kind = self._options.get("delta_kind", "epoch")
        if kind == "batch":
            return float(trainer.global_step - self._last_updates)
        if kind == "wall_time":
            return time.monotonic() - self._clock
        return float(trainer.current_epoch + 1 - self._last_epoch)


class QuietCallback(ActionTrackCallback):
    """Records the trainer's own data and never raises: what `actiontrack.autolog` adds.

    Evaluates the validation data after each epoch, or the training data where there are none.
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
        self._failed = False

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Choose the data and open the record."""
        self._quietly(self._start, trainer, pl_module)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Evaluate and record the epoch."""
        self._quietly(super().on_train_epoch_end, trainer, pl_module)

    def on_train_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Finish the record."""
        self._quietly(super().on_train_end, trainer, pl_module)

    def on_exception(
        self, trainer: "Trainer", pl_module: "LightningModule", exception: BaseException
    ) -> None:
        """Close the record."""
        self._quietly(super().on_exception, trainer, pl_module, exception)

    def _start(self, trainer: "Trainer", module: "LightningModule") -> None:
        split = "test"
        if self._data is None:
            self._data, split = _own_data(trainer)
        self._split = self._split or split
        indexed_loader(self._data)
        super().on_train_start(trainer, module)

    def _quietly(self, hook: Callable[..., None], *args: Any) -> None:
        if self._failed:
            return
        try:
            hook(*args)
        except Exception as error:  # noqa: BLE001 - never into the training
            self._failed = True
            logger.warning("this training is not recorded any further: %s", error)
            with contextlib.suppress(Exception):
                self.close()


def has_run(trainer: "Trainer") -> bool:
    """Whether there is a run to record into: that of an MLFlowLogger, or the active one."""
    return bool(_mlflow_loggers(trainer)) or Store.active_run_id() is not None


def _own_data(trainer: "Trainer") -> tuple[Any, str]:
    """The trainer's validation loader, the first of several, else its training loader."""
    found: Any = trainer.val_dataloaders if trainer.enable_validation else None
    while isinstance(found, list | tuple):
        found = found[0] if found else None
    return (trainer.train_dataloader, "train") if found is None else (found, "validation")


def _run_of(trainer: "Trainer") -> dict[str, Any]:
    """The run of the trainer's MLFlowLogger, or nothing: the recorder takes the active run."""
    for each in _mlflow_loggers(trainer) if trainer.is_global_zero else ():
        return {"run_id": each.run_id, "store": Store(each.experiment.tracking_uri)}
    return {}


def _mlflow_loggers(trainer: "Trainer") -> list[Any]:
    """Those of either package."""
    return [
        each
        for each in trainer.loggers
        if any(kind.__name__ == "MLFlowLogger" for kind in type(each).__mro__)
    ]


def _forward(module: Any, batch: Any) -> Any:
    if not isinstance(batch, tuple | list):
        raise ParameterError(
            "forward",
            "must be given where batches are not (inputs, labels)",
            type(batch).__name__,
            "Pass a function of (module, batch).",
        )
    return module(batch[0])


def _extract(batch: Any, outputs: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if isinstance(outputs, Mapping):
        found = {name: outputs[name] for name in ("logits", "losses") if name in outputs}
    elif getattr(outputs, "ndim", 0) == 2:
        found = {"logits": outputs}
    if isinstance(batch, Mapping):
        names = {"ids": "sample_id", "labels": "labels"}
        return found | {key: batch[name] for key, name in names.items() if name in batch}
    return found | {"ids": batch[0], "labels": batch[-1]}
