"""PyTorch Lightning: per-sample losses of every epoch by one callback.

::

    track = ActionTrackCallback(test_dataset)                   # 1
    Trainer(callbacks=[track], logger=MLFlowLogger(…))          # 2

Works with the package ``lightning`` and, where only that is installed or imported, with
``pytorch_lightning``.
"""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from actiontrack.errors import MissingDependencyError, ParameterError, RecordingError
from actiontrack.recorder.arrays import check_classes
from actiontrack.recorder.images import images_in
from actiontrack.recorder.lightning_check import ReportedLoss
from actiontrack.recorder.lightning_pass import (
    averaged_after_training,
    of_class,
    on_device,
    validating,
    validation_loaders,
    weights,
)
from actiontrack.recorder.probe import Tracking
from actiontrack.recorder.torch import gather
from actiontrack.recorder.torch_probe import first_batch, indexed_loader, tried
from actiontrack.recorder.torch_sampling import same_samples, visits_of
from actiontrack.recorder.whole_epoch import check_same_samples, number_of_samples
from actiontrack.store import Store

__all__ = ["NAMESPACES", "ActionTrackCallback", "has_run"]

#: Where Lightning may live; the classes of the two are different ones.
NAMESPACES = ("lightning.pytorch", "pytorch_lightning")


def _namespace() -> Any:
    for name in [*(name for name in NAMESPACES if name in sys.modules), *NAMESPACES]:
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

    - with `data`: an evaluation pass over it after each epoch, as the Trainer validates: with the
      batch-transfer hooks of module and DataModule, its precision, and the averaged weights of
      `WeightAveraging` and `EMAWeightAveraging`. Model, batches and training stay as they are, bit
      for bit: the pass draws no random numbers of theirs. The first batch is tried before training;
    - without: the trainer's own validation pass, at no cost, if its batches carry ids (see
      `IndexedDataset`) and `validation_step` returns the logits. Of several passes in an epoch
      the last one counts, sanity checks do not;
    - ``mode="inline"``: the training batches, likewise, with ``{"loss": …, "logits": …}`` from
      `training_step`.

    The record belongs to the run of the trainer's MLFlowLogger, else to the active run; no run is
    started. An error in training closes the record, the end of training finishes it. In
    distributed training every process records and rank 0 writes.

    Where a step of the module returns or logs its mean loss of the same samples, the mean of the
    recorded losses is compared with it, see `actiontrack.recorder.loss_check`.

    Args:
        data: a map-style dataset whose items are (inputs, label), or a DataLoader of one, of which
            the samples are recorded that it visits. Ids are those of an `IndexedDataset`, also
            below a `Subset`, else positions in the dataset.
        split: name of the recorded split.
        mode: "probe" or "inline".
        extract: function of (batch, outputs) that returns a mapping with "labels" and "logits" or
            "losses", and with "ids" where `data` is not given. Default: outputs are logits, or a
            mapping that has them; labels are the last part of the batch, ids the first one, or
            the entries "labels" and "sample_id" of a mapping.
        forward: function of (module, batch) that gives the outputs on a batch of `data`. Default:
            the module called with the first part of the batch.
        batch_size: for the evaluation of a dataset; a DataLoader has its own.
        dataloader_idx: which of several validation loaders is recorded, where `data` is not given;
            with `data`, the index that the batch-transfer hooks get. Default: the only one, and
            with `data` the validation loader of the same samples, else 0.
        loss_check: whether to compare with the loss that the module reports. Default: where the
            losses are the cross-entropy of logits, not where `extract` gives losses of its own.
        options: further arguments of `actiontrack.Recorder`.

    Raises:
        ParameterError: if `data` has no length, no fixed samples or repeated ids, or is combined
            with mode "inline".
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
        dataloader_idx: int | None = None,
        loss_check: bool | None = None,
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
        self._dataloader_idx, self._loss_check = dataloader_idx, loss_check
        self._loader: Any = None
        self._watched: int | None = None
        self._reported = ReportedLoss("training_step" if mode == "inline" else "validation_step")
        self._pending = False
        self._n_batches = 0
        self._last_epoch = 0

    # Hooks, in the order in which Lightning calls them

    def on_train_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Open the record and try the first batch.

        Raises:
            RecordingError: if there is neither an MLFlowLogger nor an active run, if there is
                neither `data` nor a validation pass of one loader, or if the first batch can't be
                evaluated, or, in mode "inline", if shuffled epochs see only some of their batches.
        """
        if self._mode == "inline":
            check_same_samples(trainer.train_dataloader, trainer.num_training_batches)
        self._watched = self._choose_loader(trainer)
        options: dict[str, Any] = {"mode": self._mode, "images": images_in(self._data)}
        options |= _run_of(trainer)
        if trainer.world_size > 1:
            options["gather"] = gather
        recorder = self._open(self._split, **{**options, **self._options})
        if self._mode == "probe" and weights(trainer):
            recorder.note("weights", weights(trainer))
        if self._data is not None:
            with self._closed_on_error():
                self._prepare(trainer, pl_module)
        self._remember(trainer, trainer.current_epoch)

    def on_train_batch_end(
        self, trainer: "Trainer", pl_module: "LightningModule", outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Keep the losses of a training batch, in mode "inline"."""
        if self._mode == "inline":
            self._update(self._values(batch, outputs))
            # Of automatic optimization the loss was divided for accumulated gradients.
            automatic = pl_module.automatic_optimization
            scale = trainer.accumulate_grad_batches if automatic else 1
            self._reported.add(outputs, batch, scale)
            self._pending = True
            self._n_batches += 1

    def on_validation_epoch_start(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Forget an earlier validation pass of the same epoch."""
        del pl_module
        if self._mode == "probe" and _fits(trainer):
            self._reported.forget()
            if self._data is None:
                self._running().discard_epoch()
                self._pending = True

    def on_validation_batch_end(
        self,
        trainer: "Trainer",
        pl_module: "LightningModule",
        outputs: Any,
        batch: Any,
        *indices: int,
    ) -> None:
        """Keep the losses of a validation batch, where validation is what is recorded."""
        del pl_module
        dataloader_idx = indices[1] if len(indices) > 1 else 0  # after the number of the batch
        if self._mode != "probe" or trainer.state.fn != "fit":
            return
        if trainer.sanity_checking:
            if self._data is None and dataloader_idx == (self._dataloader_idx or 0):
                # Refuses what can't be recorded before training begins.
                self._values(batch, outputs)
        elif dataloader_idx == self._watched:
            self._reported.add(outputs, batch)
            if self._data is None:
                self._update(self._values(batch, outputs))

    def on_validation_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """See what the validation pass has logged."""
        del pl_module
        if self._mode == "probe" and _fits(trainer) and self._watched is not None:
            several = len(validation_loaders(trainer)) > 1
            self._reported.ends(trainer, self._watched if several else None)

    def on_train_epoch_end(self, trainer: "Trainer", pl_module: "LightningModule") -> None:
        """Evaluate, if that is asked for, and record the epoch."""
        if averaged_after_training(trainer):
            self._running().discard_epoch()
            return
        if self._data is not None:
            self._evaluate(trainer, pl_module)
        if self._pending:
            # Not every epoch is validated.
            epochs = trainer.current_epoch + 1 - self._last_epoch
            is_partial = self._mode == "inline" and self._n_batches < trainer.num_training_batches
            summary = self._running().end_epoch(
                trainer.current_epoch + 1,
                delta=self._delta(trainer.global_step, epochs),
                partial=True if is_partial else None,
                n_samples=number_of_samples(trainer.train_dataloader) if is_partial else None,
            )
            self._remember(trainer, trainer.current_epoch + 1)
            self._compare(trainer, summary)

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

    def _choose_loader(self, trainer: "Trainer") -> int | None:
        """Index of the validation loader whose pass is recorded, or has the samples of `data`."""
        if self._mode == "inline":
            return None
        loaders = validation_loaders(trainer)
        if self._data is not None:
            return _index_of(self._data, loaders)
        if not loaders:
            raise RecordingError(
                "there is no validation pass to record. Give fit a validation loader, or pass data."
            )
        if self._dataloader_idx is None and len(loaders) > 1:
            raise RecordingError(
                f"fit was given {len(loaders)} validation loaders, and a record holds the samples "
                "of one. Add an ActionTrackCallback for each, with a split of its own and "
                "dataloader_idx=0, 1, …, or pass data."
            )
        chosen = self._dataloader_idx or 0
        if not 0 <= chosen < len(loaders):
            rule = f"must be less than the number of validation loaders, {len(loaders)}"
            raise ParameterError("dataloader_idx", rule, chosen, "Count loaders from 0.")
        return chosen

    def _prepare(self, trainer: "Trainer", module: "LightningModule") -> None:
        """Make the loader of the evaluation, and try its first batch: training has not begun."""
        self._loader = indexed_loader(
            self._data,
            batch_size=self._batch_size,
            world_size=trainer.world_size,
            rank=trainer.global_rank,
        )
        with tried("data"), validating(trainer, module):
            first = first_batch(self._loader)
            if first is not None:
                values = self._outcome(trainer, module, *first)
                self._update(values)
                check_classes(values)
        self._running().discard_epoch()

    def _evaluate(self, trainer: "Trainer", module: "LightningModule") -> None:
        with validating(trainer, module):
            for ids, batch in self._loader:
                self._update(self._outcome(trainer, module, ids, batch))
        self._pending = True

    def _outcome(
        self, trainer: "Trainer", module: "LightningModule", ids: Any, batch: Any
    ) -> dict[str, Any]:
        index = self._dataloader_idx if self._dataloader_idx is not None else self._watched
        moved = on_device(trainer, module, batch, index or 0)
        values = dict(self._extract(moved, self._forward(module, moved)))
        # The default reads ids from the batch, which here has none: those of the dataset win.
        if self._extract is _extract:
            values["ids"] = ids
        return {"ids": ids, **values}

    def _values(self, batch: Any, outputs: Any) -> dict[str, Any]:
        values = dict(self._extract(batch, outputs))
        if "ids" not in values or not values.keys() & {"logits", "losses"}:
            raise RecordingError(
                f"{self._reported.step_name}: no ids, or neither logits nor losses in what it was "
                "given and what it returned. Wrap the dataset in IndexedDataset and return "
                "{'logits': …}, or pass extract or data."
            )
        return values

    def _update(self, values: dict[str, Any]) -> None:
        if self._loss_check is None:
            self._loss_check = "losses" not in values
        self._running().update(values.pop("ids"), **values)

    def _compare(self, trainer: "Trainer", summary: Any) -> None:
        if self._mode == "inline":
            self._reported.ends(trainer)
        if self._loss_check and (self._mode == "inline" or self._watched is not None):
            self._reported.compare(trainer, self._running(), summary)
        self._reported.forget()

    def _remember(self, trainer: "Trainer", epoch: int) -> None:
        self._mark(trainer.global_step)
        self._last_epoch, self._pending, self._n_batches = epoch, False, 0


def _fits(trainer: "Trainer") -> bool:
    """Whether this validation belongs to a training, and is no sanity check before it."""
    return bool(trainer.state.fn == "fit" and not trainer.sanity_checking)


def _index_of(data: Any, loaders: list[Any]) -> int | None:
    """Index of the validation loader that visits the samples of `data`, or None."""
    visits = visits_of(data)
    for index, loader in enumerate(loaders):
        try:
            if same_samples(visits, visits_of(loader)):
                return index
        except ParameterError:  # of a loader without fixed samples
            continue
    return None


def has_run(trainer: "Trainer") -> bool:
    """Whether there is a run to record into: that of an MLFlowLogger, or the active one."""
    return bool(of_class(trainer.loggers, "MLFlowLogger")) or Store.active_run_id() is not None


def _run_of(trainer: "Trainer") -> dict[str, Any]:
    """The run of the trainer's MLFlowLogger, or nothing: the recorder takes the active run."""
    loggers = of_class(trainer.loggers, "MLFlowLogger") if trainer.is_global_zero else []
    for logger in loggers:
        return {"run_id": logger.run_id, "store": Store(logger.experiment.tracking_uri)}
    return {}


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
    values: dict[str, Any] = {}
    if isinstance(outputs, Mapping):
        values = {name: outputs[name] for name in ("logits", "losses") if name in outputs}
    elif getattr(outputs, "ndim", 0) == 2:
        values = {"logits": outputs}
    if isinstance(batch, Mapping):
        names = {"ids": "sample_id", "labels": "labels"}
        return values | {key: batch[name] for key, name in names.items() if name in batch}
    return values | {"ids": batch[0], "labels": batch[-1]}
