"""Ultralytics: per-image and per-object losses of every epoch, on a `YOLO(...)` object.

::

    track = ActionTrackCallback()                               # 1
    track.attach(model)                                         # 2
    model.train(data="data.yaml", epochs=100)

`attach` registers the callbacks, as Ultralytics takes none as an argument of ``train``. Nothing of
Ultralytics is imported here: the callbacks work on the objects that they are given.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from actiontrack.errors import MissingDependencyError, ParameterError, check_choice
from actiontrack.history import MODES
from actiontrack.recorder.loss_check import LossCheck
from actiontrack.recorder.probe import Tracking
from actiontrack.recorder.recorder import EpochSummary, Recorder
from actiontrack.store import Store

try:
    import torch

    from actiontrack.recorder.torch import gather
    from actiontrack.recorder.torch_sampling import unchanged_randomness
    from actiontrack.recorder.ultralytics_check import (
        check_training,
        first_unmixed,
        note_limits,
        plain_model,
        warn_of_mlflow,
        warn_of_resuming,
    )
    from actiontrack.recorder.ultralytics_data import (
        Detections,
        Images,
        evaluation_batches,
        name_files,
        named_loader,
        object_rows,
    )
    from actiontrack.recorder.ultralytics_loss import (
        BatchLosses,
        listen,
        stop_listening,
    )
except ImportError as error:  # pragma: no cover - exercised by a subprocess
    raise MissingDependencyError(
        "actiontrack.recorder.ultralytics needs PyTorch and Ultralytics: "
        "pip install 'actiontrack[ultralytics]'"
    ) from error

__all__ = ["EVENTS", "ActionTrackCallback"]

#: What the trainer tells a callback of.
EVENTS = (
    *("on_pretrain_routine_start", "on_train_start", "on_train_epoch_start", "on_val_start"),
    *("on_val_end", "on_fit_epoch_end", "on_train_end", "teardown"),
)
#: What the processes of a distributed training get of a callback.
_SETTINGS = frozenset(
    {"_data", "_split", "_mode", "_has_objects", "_has_boxes", "_root", "_loss_check"}
)
_REMEDY = (
    "The recorded losses come from other batches or another criterion than the ones reported. If "
    "yours does not split by image, pass loss_check=False and say so beside the record."
)


class ActionTrackCallback(Tracking):
    """Records the losses of single images and objects of a YOLO model, after each epoch.

    Of detection (also end-to-end), segmentation and classification. Ids are paths relative to the
    data set, those of objects ``PATH#k``. A detector's image has the loss that Ultralytics computes
    for a batch of this image alone: ``box_loss``, ``cls_loss``, ``dfl_loss`` or ``l1_loss``, and
    ``seg_loss`` with the gains of the training, and their sum. The components ``target_scores`` s
    and, with masks, ``assigned_anchors`` say what was divided by: max(1, s) of the image, where
    Ultralytics has max(1, Σ s) of the batch. So the items of every batch can be rebuilt. Records of
    detectors hold the boxes of the last validation.

    Three ways to come by the losses:

    - by itself: the trainer's own validation pass, without another forward pass. Weights are the
      averaged ones (EMA) that the trainer validates;
    - with `data`: an evaluation pass over another split, such as "train", after each epoch. The
      training stays the same, bit for bit;
    - ``mode="inline"``: the training batches. Where mosaic, mixup, cutmix or copy-paste make one
      image of several, a loss belongs to no single one: such epochs are left out with a warning,
      and a training that never closes them is refused.

    The record belongs to Ultralytics' own MLflow run, or to the run that is active already; it is
    finished with the training, and closed when an error ends it. With several processes all of them
    record and rank 0 writes.

    Args:
        data: name of the split to evaluate, as in the data set's YAML file. Default: none, the
            validation pass is recorded.
        split: name of the recorded split. Default: `data`, "train" in mode "inline", or the name
            of the split that the trainer validates, "val".
        mode: "probe" or "inline".
        objects: whether to record the objects of detectors, too, as the split ``<split>_objects``;
            not in mode "inline", where augmentation drops some of them.
        boxes: whether to keep true and predicted boxes; not in mode "inline".
        root: folder that ids are relative to. Default: that of the data set.
        loss_check: whether to compare with the losses that Ultralytics reports.
        options: further arguments of `actiontrack.Recorder`, for both records. To continue the
            record of a training that is resumed, pass its ``run_id`` and ``resume=True``:
            Ultralytics starts a new run then.

    Attributes:
        objects: the recorder of the objects of the latest training, or None.

    Raises:
        ParameterError: if `data` is combined with mode "inline", or the mode is neither.
    """

    objects: Recorder | None
    _trainer: Any
    _loader: Any
    _images: Images | None
    _detections: Detections | None
    _unmixed: bool
    _items: list[dict[str, Any]]

    def __init__(
        self,
        data: str | None = None,
        *,
        split: str | None = None,
        mode: str = "probe",
        objects: bool = True,
        boxes: bool = True,
        root: str | Path | None = None,
        loss_check: bool = True,
        **options: Any,
    ) -> None:
        check_choice("mode", mode, MODES)
        if data is not None and mode == "inline":
            raise ParameterError("data", "must be None in mode inline", data, "Leave it out.")
        self._data, self._split, self._mode, self._options = data, split, mode, options
        passes = mode != "inline"
        self._has_objects, self._has_boxes = objects and passes, boxes and passes
        self._root, self._loss_check = root, loss_check
        self._reset()

    def attach(self, model: Any) -> "ActionTrackCallback":
        """Register the callbacks.

        Args:
            model: a `YOLO` object, or a trainer before its training.

        Returns:
            The object itself.

        Raises:
            ParameterError: if it is neither.
        """
        if not hasattr(model, "add_callback"):
            rule = "must be a YOLO object, or a trainer of Ultralytics"
            raise ParameterError("model", rule, type(model).__name__, "Pass YOLO(…) itself.")
        for event in EVENTS:
            model.add_callback(event, getattr(self, event))
        if hasattr(model, "build_dataset"):  # a trainer has had this event already
            self.on_pretrain_routine_start(model)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """For the processes of a distributed training: without recorders, with the active run."""
        options = {"run_id": Store.active_run_id(), **self._options}
        state = {name: value for name, value in vars(self).items() if name in _SETTINGS}
        return state | {"_options": {name: options[name] for name in options if options[name]}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As it was when it was made."""
        vars(self).update(state)
        self._reset()

    # Events, in the order in which Ultralytics runs them

    def on_pretrain_routine_start(self, trainer: Any) -> None:
        """Let the batches of a classifier name their images, as those of detectors do."""
        name_files(trainer)

    def on_train_start(self, trainer: Any) -> None:
        """Open the records.

        Raises:
            RecordingError: if there is no run, or the losses of this training are none of single
                images.
        """
        self._reset()
        self._trainer = trainer
        self._last_epoch = trainer.start_epoch
        check_training(trainer, self._mode)
        self._several = trainer.world_size > 1
        images = self._images = Images.of(self._dataset(trainer), trainer.data, self._root)
        options = self._recorder_options(trainer, images)
        recorder = self._open(self._split_of(trainer), **options)
        with self._closed_on_error():
            recorder.describe_samples(images.ids, labels=images.labels, paths=images.ids)
            if self._mode == "probe":
                recorder.note("weights", "averaged (EMA), as in validation")
            if self._has_objects and images.n_objects:
                self._open_objects(trainer, options)
            if self._has_boxes and self._validates and images.annotations:
                self._detections = self._detections_of(images)
        if recorder.folder is not None:  # on the process that writes
            note_limits(trainer, recorder, self._mode, validates=self._validates)
            warn_of_resuming(trainer, recorder, resume=bool(self._options.get("resume")))
            warn_of_mlflow(trainer)
        self._mark(trainer.ema.updates)

    def on_train_epoch_start(self, trainer: Any) -> None:
        """Forget an epoch that Ultralytics starts again, out of memory or after a NaN."""
        if self.recorder is None or self.recorder.closed:
            return
        self._forget()
        if self._mode == "inline":
            self._unmixed = self._unmixed or trainer.epoch >= first_unmixed(trainer)
            self._pending = self._unmixed
            if self._pending:
                self._listen(plain_model(trainer.model))
            else:
                self._last_epoch = trainer.epoch + 1
        elif self._data is not None:
            self._pending = True

    def on_val_start(self, validator: Any) -> None:
        """Listen to the criterion of the validation; not to that of ``best.pt`` at the end."""
        if self._trainer is None or not validator.training or not self._validates:
            return
        self._forget()
        self._pending = True
        self._listen(self._trainer.ema.ema)
        if self._detections is not None:
            self._detections.collect(validator)

    def on_val_end(self, validator: Any) -> None:
        """Stop listening, before a checkpoint is made of the model."""
        del validator
        if self._trainer is not None and self._validates:
            stop_listening(self._trainer.ema.ema, self._receive)

    def on_fit_epoch_end(self, trainer: Any) -> None:
        """Record the epoch; that of ``best.pt`` at the end is none."""
        if self._trainer is None:
            return
        self._stop()
        if self._pending:
            if self._data is not None:
                self._evaluate(trainer)
            self._end(trainer)

    def on_train_end(self, trainer: Any) -> None:
        """Finish the records."""
        del trainer
        self.finish()

    def teardown(self, trainer: Any) -> None:
        """Close the records of a training that has failed, and let go of the trainer."""
        del trainer
        self._stop()
        self.close()
        self._trainer = self._loader = None

    def finish(self) -> bool:
        """Mark the records complete and upload them. Returns whether all is uploaded."""
        objects = self.objects
        if self.recorder is not None and not self.recorder.closed:
            self._log_boxes()
        if objects is not None and not objects.closed:
            objects.finish()
        synced = super().finish()
        return synced and (objects is None or objects.synced)

    def close(self) -> bool:
        """Stop without finishing. Returns whether everything recorded is uploaded."""
        synced = self.objects is None or self.objects.close()
        return super().close() and synced

    # How

    def _reset(self) -> None:
        self._trainer = self._loader = self._images = self._detections = self.objects = None
        self._pending = self._unmixed = self._several = self._saw_objects = False
        self._last_epoch = 0
        self._items = []

    @property
    def _validates(self) -> bool:
        """Whether the validation pass of the trainer is what is recorded."""
        return self._mode == "probe" and self._data is None

    def _split_of(self, trainer: Any) -> str:
        default = "train" if self._mode == "inline" else self._data or trainer.args.split
        return self._split or str(default)

    def _dataset(self, trainer: Any) -> Any:
        """The data set whose images are recorded, in loaders whose batches name them."""
        if self._data is not None:
            if not trainer.data.get(self._data):
                splits = [name for name in ("train", "val", "test") if trainer.data.get(name)]
                rule = f"must be a split of the data set, one of {', '.join(splits)}"
                raise ParameterError("data", rule, self._data, "Name one of these.")
            with unchanged_randomness(trainer.device):
                self._loader = trainer.get_dataloader(
                    trainer.data[self._data],
                    batch_size=trainer.test_loader.batch_size,
                    rank=int(os.environ.get("LOCAL_RANK", "-1")),
                    mode="val",
                )
        unnamed = trainer.args.task == "classify" and not hasattr(
            trainer.build_dataset, "names_files"
        )
        if unnamed:  # processes other than the first don't run the event that is before the loaders
            for name in ("train_loader", "test_loader"):
                setattr(trainer, name, named_loader(getattr(trainer, name)))
            trainer.validator.dataloader = trainer.test_loader
            self._loader = self._loader and named_loader(self._loader)
        loader = trainer.train_loader if self._mode == "inline" else trainer.test_loader
        return (self._loader or loader).dataset

    def _recorder_options(self, trainer: Any, images: Images) -> dict[str, Any]:
        names = trainer.data["names"]
        self._class_names = [str(names[label]) for label in sorted(names)]
        options: dict[str, Any] = {
            "mode": self._mode,
            "class_names": self._class_names,
            "source": {"kind": "folder", "root": str(images.root)},
            "allow_uniform": True,  # nothing here reduces a batch
        }
        if trainer.args.task != "classify":
            options["loss_name"] = f"yolo_{trainer.args.task}"
        if self._several:
            options["gather"] = gather
        return {**options, **self._options}

    def _open_objects(self, trainer: Any, options: Mapping[str, Any]) -> None:
        assert self._images is not None  # noqa: S101 - set when training began
        changed = {"loss_name": "yolo_object", "allow_missing": True}
        self.objects = Recorder(f"{self._split_of(trainer)}_objects", **{**options, **changed})
        self.objects.describe_samples(**self._images.describe_objects())

    def _forget(self) -> None:
        """Drop what was recorded of an epoch that is begun anew."""
        for recorder in (self.recorder, self.objects):
            if recorder is not None:
                recorder.discard_epoch()
        self._pending, self._saw_objects, self._items = False, False, []

    def _stop(self) -> None:
        if self._trainer is None:
            return
        for model in (self._trainer.ema.ema, plain_model(self._trainer.model)):
            stop_listening(model, self._receive)
        if self._detections is not None:
            self._detections.stop()

    def _listen(self, model: Any) -> None:
        listen(model, self._receive)

    def _detections_of(self, images: Images) -> Detections:
        return Detections(images)

    def _receive(self, batch: Mapping[str, Any], losses: BatchLosses) -> None:
        assert self.recorder is not None  # noqa: S101 - opened when training began
        assert self._images is not None  # noqa: S101
        ids = [self._images.id_of(file) for file in batch["im_file"]]
        if losses.logits is not None:
            self.recorder.update(ids, logits=losses.logits, labels=batch["cls"])
        else:
            total = torch.stack(list(losses.losses.values())).sum(0)
            self.recorder.update(ids, total, components={**losses.losses, **losses.sums})
        if losses.objects is not None and self.objects is not None:
            names, columns = object_rows(ids, batch, losses.objects)
            self._saw_objects = self._saw_objects or bool(names)
            if names:
                parts = [columns[name] for name in losses.objects.losses]
                self.objects.update(names, np.sum(parts, axis=0), components=columns)
        if self._loss_check and not self._several and self._data is None:
            self._items.append(losses.items())

    def _evaluate(self, trainer: Any) -> None:
        model = trainer.ema.ema
        training = model.training
        model.eval()
        self._listen(model)
        try:
            with evaluation_batches(trainer, self._loader) as batches:
                for batch in batches:
                    model.loss(batch)
        finally:
            stop_listening(model, self._receive)
            model.train(training)

    def _end(self, trainer: Any) -> None:
        step = trainer.epoch + 1
        delta = self._delta(trainer.ema.updates, step - self._last_epoch)
        if self.objects is not None and (self._several or self._saw_objects):
            self.objects.end_epoch(step, delta=delta)
        assert self.recorder is not None  # noqa: S101 - opened when training began
        summary = self.recorder.end_epoch(step, delta=delta)
        if self._detections is not None:
            self._detections.end_epoch(gather if self._several else None)
        self._mark(trainer.ema.updates)
        self._last_epoch, self._pending = step, False
        self._compare(trainer, summary)

    def _compare(self, trainer: Any, summary: EpochSummary | None) -> None:
        """Compare the items that are rebuilt from the images with those of Ultralytics."""
        if summary is None or not self._items:
            return
        assert self.recorder is not None  # noqa: S101 - has recorded an epoch
        inline = self._mode == "inline"
        reported = trainer.tloss if inline else trainer.metrics
        prefix, names = "" if inline else "val/", list(self._items[0])
        means = [torch.stack([items[name] for items in self._items]).mean() for name in names]
        LossCheck(self.recorder, source="Ultralytics", remedy=_REMEDY).compare(
            summary.step,
            sum(float(mean) for mean in means),
            sum(float(reported[f"{prefix}{name}"]) for name in names),
            summary.n_seen,
            precision="float16" if trainer.amp and trainer.device.type != "cpu" else "float32",
        )

    def _log_boxes(self) -> None:
        """Keep the annotated boxes, and those of the last validation."""
        images = self._images
        if not self._has_boxes or images is None or not images.n_objects or not self._last_epoch:
            return
        assert self.recorder is not None  # noqa: S101 - opened when training began
        if self.recorder.folder is None:  # on a process that does not write
            return
        truth = images.true_boxes(self._class_names)
        frames = [truth]
        if self._detections is not None:
            frames.append(self._detections.frame(self._class_names))
        self.recorder.log_boxes(
            pd.concat([part for part in frames if len(part)], ignore_index=True)
        )
        if self.objects is not None:
            ids = images.describe_objects()["ids"]
            self.objects.log_boxes(truth.assign(sample_id=ids))
