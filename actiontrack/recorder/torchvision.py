"""torchvision's detectors in a loop of your own: the losses of every image, exactly.

::

    probe = DetectorProbe(model, test_loader)                     # 1: an evaluation pass per epoch
    track = RecordedDetector(model)                               # 2: the training batches
    with mlflow.start_run(), probe, track:
        for _ in range(epochs):
            for images, targets in train_loader:
                losses = track(images, targets)                   # not model(images, targets)
                ...
            track.end_epoch()
            probe.after_epoch()                                   # 3

Faster, Mask and Keypoint R-CNN, RetinaNet, FCOS and SSD, SSDlite among them. Recorded are the
losses that torchvision returns, of each image as if it were a batch of its own, and what each is
divided by, see `batch_losses`. The loss of an image is the sum of its losses.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from actiontrack.errors import MissingDependencyError, RecordingError
from actiontrack.recorder.detector_boxes import (
    MOST_PICTURES,
    Boxes,
    class_name_of,
    listed,
    small_picture,
)
from actiontrack.recorder.detector_losses import (
    COUNTS,
    ImageLosses,
    batch_losses,
    family_of,
    per_image,
    unwrapped,
)
from actiontrack.recorder.detector_pass import (
    as_lists,
    ids_of,
    images_and_targets,
    losses_alone,
    on_device,
    seed_of,
)
from actiontrack.recorder.loss_check import LossCheck
from actiontrack.recorder.probe import Tracking
from actiontrack.recorder.recorder import EpochSummary, Recorder
from actiontrack.recorder.torch import gather
from actiontrack.recorder.torch_probe import evaluating, first_batch, indexed_loader, tried

try:
    import torch
    import torch.distributed as dist
    from torch import Tensor
    from torch.utils.data import DataLoader
except ImportError as error:  # pragma: no cover - actiontrack.recorder.torch says so first
    raise MissingDependencyError(
        "actiontrack.recorder.torchvision needs torchvision: pip install 'actiontrack[train]'"
    ) from error

__all__ = ["COUNTS", "DetectorProbe", "RecordedDetector", "batch_losses"]

_REMEDY = "Parts of the model compute losses of their own: do not use this record."


class _Detecting(Tracking):
    """What both ways share: a recorder that opens with the first batch, and its check."""

    def __init__(
        self,
        model: Any,
        *,
        split: str,
        mode: str,
        id_key: str,
        class_names: Sequence[str] | Mapping[int, str],
        options: dict[str, Any],
    ) -> None:
        self.model, self._detector = model, unwrapped(model)
        self._defaults = {"loss_name": family_of(self._detector), "mode": mode}
        self._split, self._id_key, self._options = split, id_key, options
        self._class_names = class_name_of(class_names)
        self._batches: list[tuple[Tensor, Tensor, int]] = []

    def discard_epoch(self) -> None:
        """Forget the batches since the last epoch, as after a restart of the training."""
        self._batches = []
        if self.recorder is not None:
            self.recorder.discard_epoch()

    def _running(self) -> Recorder:
        if self.recorder is None:
            # The losses are ours, one per image: those of two empty images may be equal.
            defaults = {**self._defaults, "allow_uniform": True}
            if _n_processes() > 1:
                defaults["gather"] = gather
            self._open(self._split, **{**defaults, **self._options})
        assert self.recorder is not None  # noqa: S101 - just opened
        return self.recorder

    def _update(self, ids: Any, losses: ImageLosses) -> None:
        self._running().update(ids, losses.total, components=losses.components)

    def _compare(self, losses: ImageLosses, own: Tensor) -> None:
        """Keep what the model itself says of a batch, to be compared when the epoch ends."""
        self._batches.append((losses.of_batch().detach(), own.detach(), len(losses.total)))

    def _end(self, epoch: int | None, options: dict[str, Any]) -> EpochSummary | None:
        """End the epoch, and compare the batch that differs most from the model's own loss."""
        recorder, batches = self._running(), self._batches
        summary = recorder.end_epoch(epoch, **options)
        self._batches = []
        if summary is None or not batches:
            return summary
        rebuilt = torch.stack([batch[0] for batch in batches]).double().cpu()
        own = torch.stack([batch[1] for batch in batches]).double().cpu()
        difference = (rebuilt - own).abs().nan_to_num(nan=torch.inf)
        row = int(torch.where(rebuilt.isfinite() | own.isfinite(), difference, 0).argmax())
        LossCheck(recorder, source="the model's own loss of a batch", remedy=_REMEDY).compare(
            summary.step,
            float(rebuilt[row]),
            float(own[row]),
            batches[row][2],
            precision=_precision(self._detector),
        )
        return summary


class RecordedDetector(_Detecting):
    """A detector whose training batches are recorded: call it in place of the model.

    The losses that it returns, their gradients and the random numbers of the training are those of
    the model, bit for bit; only while a batch is computed does the model know of the record. A call
    in evaluation mode, or under `torch.no_grad`, is the model's own.

    A recorded loss is that of the training state: it depends on the images beside it through batch
    normalisation and the common canvas, and on what was drawn of it. `DetectorProbe` does without.

    Args:
        model: one of torchvision's detectors, or one in `DistributedDataParallel`.
        split: name of the recorded split.
        id_key: name of the id in a target: an integer, a text, or a tensor of one.
        class_names: of the labels, a mapping or a sequence that begins with the background's, such
            as ``weights.meta["categories"]``. They name boxes.
        boxes: keep the annotated boxes, in pixels of the images that the model gets. Where those of
            an image differ between epochs, as with random augmentation, none are kept.
        options: further arguments of `actiontrack.Recorder`, such as ``run_id``.

    Raises:
        ParameterError: if the model is none of torchvision's, or has a head of another kind.
    """

    def __init__(
        self,
        model: Any,
        *,
        split: str = "train",
        id_key: str = "image_id",
        class_names: Sequence[str] | Mapping[int, str] = (),
        boxes: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(
            model,
            split=split,
            mode="inline",
            id_key=id_key,
            class_names=class_names,
            options=options,
        )
        self._boxes: Boxes | None = Boxes(self._class_names) if boxes else None
        self._frame: pd.DataFrame | None = None
        self._moving: Any = None

    def __call__(self, images: Any, targets: Any = None) -> Any:
        """What the model returns: in training its losses.

        Raises:
            RecordingError: if it is no batch of images with a target each, a target has no id, or a
                batch of one can't be normalised.
        """
        if not (self._detector.training and torch.is_grad_enabled()):
            return self.model(images, targets)
        images_and_targets((images, targets))  # refuses all others
        ids = ids_of(targets, self._id_key)
        with per_image(self._detector) as taken:
            losses = self._forward(images, targets)
        if taken:
            self._update(ids, taken[0])
            self._compare(taken[0], torch.stack([loss.detach() for loss in losses.values()]).sum())
            if self._boxes is not None:
                self._boxes.add("truth", ids, images, targets)
        return losses

    def end_epoch(
        self,
        epoch: int | None = None,
        *,
        delta: float | None = None,
        metrics: Mapping[str, float] | None = None,
        partial: bool | None = None,
    ) -> EpochSummary | None:
        """Record the epoch, see `actiontrack.Recorder.end_epoch`."""
        summary = self._end(epoch, {"delta": delta, "metrics": metrics, "partial": partial})
        if self._boxes is not None:
            self._keep_boxes()
        return summary

    def discard_epoch(self) -> None:
        """Forget the batches since the last epoch, and their boxes."""
        super().discard_epoch()
        if self._boxes is not None:
            self._boxes = Boxes(self._class_names)

    def finish(self) -> bool:
        """Keep the boxes, mark the record complete and upload it."""
        if self.recorder is not None and not self.recorder.closed:
            if self._moving is not None:
                warnings.warn(
                    f"record {self.recorder.name} is left without boxes: those of {self._moving} "
                    "are others in each epoch, as with random augmentation. Pass boxes=False.",
                    stacklevel=2,
                )
            elif self._frame is not None and len(self._frame):
                self.recorder.log_boxes(self._frame)
        return super().finish()

    def _forward(self, images: Any, targets: Any) -> Any:
        try:
            return self.model(images, targets)
        except ValueError as error:
            if len(images) > 1 or "more than 1 value per channel" not in str(error):
                raise
            raise RecordingError(
                "images: a batch of one leaves one value per channel to batch normalisation, as in "
                "the last maps of SSDlite. Leave it out: DataLoader(drop_last=True)."
            ) from error

    def _keep_boxes(self) -> None:
        """Keep the boxes of the first epoch, and see whether they are the same in this one."""
        assert self._boxes is not None  # noqa: S101 - asked for
        frame, self._boxes = self._boxes.frame(), Boxes(self._class_names)
        if self._frame is None:
            self._frame = _of_all_processes(frame)
        elif self._moving is None:
            self._moving = _moved(self._frame, frame)
            added = frame[~frame["sample_id"].isin(self._frame["sample_id"])]
            if len(added):
                self._frame = pd.concat([self._frame, added], ignore_index=True)


class DetectorProbe(_Detecting):
    """Records the losses of a detector on the same images after each epoch of training.

    The losses are those of training mode, with norms, dropout and sizes as in evaluation: of
    several ``min_size`` the last. Each image has the loss that it has alone, on its own canvas and
    with draws from a seed of its own, whatever images are beside it. Weights, statistics, modes and
    random numbers of the training stay as they are, bit for bit. Where images differ in size, those
    of one size in a batch are computed together.

    Args:
        model: one of torchvision's detectors, or one in `DistributedDataParallel`.
        data: a map-style dataset of (image, target), or a DataLoader of one, of which the samples
            are recorded that it visits, without random augmentation. Its first image is tried at
            once.
        split: name of the recorded split.
        id_key: name of the id in a target: an integer, a text, or a tensor of one.
        class_names: of the labels, a mapping or a sequence that begins with the background's.
        batch_size: for a dataset; a DataLoader has its own.
        boxes: keep the annotated boxes, in pixels of the images that the model gets, and those that
            the trained model detects with a score of 0.05 or more: one more pass at the end. Of up
            to 1,000 images small pictures are kept with them.
        seed: of what a Faster, Mask or Keypoint R-CNN draws of each image.
        options: further arguments of `actiontrack.Recorder`, such as ``run_id``.

    Raises:
        ParameterError: if the model is none of torchvision's, or has a head of another kind, or the
            data has no fixed samples.
        RecordingError: if the first image can't be evaluated, or has no id.
    """

    def __init__(
        self,
        model: Any,
        data: Any,
        *,
        split: str = "test",
        id_key: str = "image_id",
        class_names: Sequence[str] | Mapping[int, str] = (),
        batch_size: int = 8,
        boxes: bool = True,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(
            model,
            split=split,
            mode="probe",
            id_key=id_key,
            class_names=class_names,
            options=options,
        )
        self._boxes, self._seed = boxes, seed
        self._data, self._batch_size = data, batch_size
        self._loader = self._loader_of(_n_processes(), _rank())
        with tried("data"), evaluating(self._detector):
            first = first_batch(self._loader)
            if first is not None:
                self._losses_of(first[1], slice(1))
        self._batches = []

    def after_epoch(
        self,
        epoch: int | None = None,
        *,
        delta: float | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> EpochSummary | None:
        """Evaluate and record, see `actiontrack.Recorder.end_epoch`.

        Raises:
            RecordingError: if an image has no id, or one that is repeated.
        """
        self._running()
        with evaluating(self._detector):
            for _, batch in self._loader:
                ids, losses = self._losses_of(batch)
                self._update(ids, losses)
        return self._end(epoch, {"delta": delta, "metrics": metrics})

    def finish(self) -> bool:
        """Keep the boxes, mark the record complete and upload it."""
        recorder = self.recorder
        if self._boxes and recorder is not None and not recorder.closed and _rank() == 0:
            try:
                self._keep_boxes(recorder)
            except Exception as error:  # noqa: BLE001 - the losses are worth more than the boxes
                warnings.warn(
                    f"record {recorder.name} is left without boxes: {error}", stacklevel=2
                )
        return super().finish()

    def _loader_of(self, world_size: int, rank: int) -> DataLoader[Any]:
        own = None if isinstance(self._data, DataLoader) else as_lists
        return indexed_loader(
            self._data, batch_size=self._batch_size, collate=own, world_size=world_size, rank=rank
        )

    def _losses_of(self, batch: Any, rows: slice = slice(None)) -> tuple[Any, ImageLosses]:
        """Ids and losses of a batch, or of some of its images."""
        images, targets = images_and_targets(batch)
        images, targets = images[rows], targets[rows]
        ids = ids_of(targets, self._id_key)
        seeds = [seed_of(sample_id, self._seed) for sample_id in listed(ids)]
        device = next(self._detector.parameters()).device
        losses = losses_alone(
            self._detector,
            [image.to(device) for image in images],
            on_device(targets, device),
            seeds,
            self._compare,
        )
        return ids, losses

    def _keep_boxes(self, recorder: Recorder) -> None:
        """Keep what is annotated and what the model detects, and small pictures beneath."""
        boxes, device = Boxes(self._class_names), next(self._detector.parameters()).device
        pictures: dict[Any, bytes] = {}
        with evaluating(self._detector):
            for _, batch in self._loader_of(1, 0):
                images, targets = images_and_targets(batch)
                ids = ids_of(targets, self._id_key)
                boxes.add("truth", ids, images, targets)
                detected = self._detector([image.to(device) for image in images])
                boxes.add("predicted", ids, images, [_on_host(found) for found in detected])
                if len(pictures) <= MOST_PICTURES:
                    pictures |= zip(listed(ids), map(small_picture, images), strict=True)
        recorder.log_boxes(boxes.frame())
        if len(pictures) <= MOST_PICTURES:
            recorder.log_thumbnails(list(pictures), list(pictures.values()))


def _on_host(detected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: values.cpu() for name, values in detected.items()}


def _n_processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _rank() -> int:
    return dist.get_rank() if _n_processes() > 1 else 0


def _of_all_processes(frame: pd.DataFrame) -> pd.DataFrame:
    """The boxes of all processes on the first one; those of its own on each of the others."""
    parts = gather(frame)
    if parts is None or len(parts) == 1:
        return frame
    whole = pd.concat(parts, keys=range(len(parts)), names=["rank"]).reset_index("rank")
    first = whole.groupby("sample_id")["rank"].transform("first")  # samplers pad with copies
    chosen: pd.DataFrame = whole[whole["rank"] == first].drop(columns="rank")
    return chosen.reset_index(drop=True)


def _moved(before: pd.DataFrame, after: pd.DataFrame) -> Any:
    """The id of an image whose boxes are others than before, or None."""
    both = set(before["sample_id"]) & set(after["sample_id"])
    old, new = (
        frame[frame["sample_id"].isin(both)].sort_values("sample_id", kind="stable")
        for frame in (before, after)
    )
    columns = [name for name in old.columns if name != "score"]
    one, two = (frame[columns].reset_index(drop=True) for frame in (old, new))
    if one.equals(two):
        return None
    groups = two.groupby("sample_id")
    return next(
        sample_id
        for sample_id, rows in one.groupby("sample_id")
        if not rows.reset_index(drop=True).equals(
            groups.get_group(sample_id).reset_index(drop=True)
        )
    )


def _precision(detector: Any) -> str:
    """The type in which the losses are computed, see `loss_check.differs`."""
    dtype = str(next(detector.parameters()).dtype).removeprefix("torch.")
    return dtype if dtype in {"float64", "float16", "bfloat16"} else "float32"
