"""Object detection (section 4.2): three losses of each image, and the losses of each object.

The records of a split are ``<split>``, one sample per image without a label, and
``<split>_objects``, one sample per object with its class as the label; `detection_losses` tells how
the losses are normalised. Evaluation passes run in eval mode on images as they are stored.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from actiontrack.errors import MissingDependencyError
from actiontrack.recorder import EpochSummary, Recorder
from projects.datasets.voc import DetectionSplit, VocSettings, open_voc
from projects.loading import Normalisation
from projects.models.detectors import WHOLE_DETECTORS
from projects.models.ssd import DETECTORS, PackedSSD, build_detector
from projects.params.detection import DetectionParams
from projects.params.reading import validate
from projects.tasks.detection_losses import Target, multibox_losses
from projects.tasks.detection_pictures import object_pictures
from projects.tasks.task import Task, Trained, metric_name

if TYPE_CHECKING:
    from torchmetrics.detection import MeanAveragePrecision

__all__ = ["Detection", "ObjectRecorder", "box_table", "unpacked", "voc_settings"]

IMAGE_LOSS = "multibox"
OBJECT_LOSS = "multibox_of_object"
_MIN_SCORE = 0.05  # of the detections that the run stores


class ObjectRecorder(Recorder):
    """Records the images of a split and, beside them, the objects in these images.

    Args:
        split: name of the recorded split; that of the objects is ``<split>_objects``.
        objects: what `Recorder.describe_samples` gets of the objects.
        options: of `Recorder`, for both.
    """

    def __init__(self, split: str, *, objects: Mapping[str, Any], **options: Any) -> None:
        super().__init__(split, **options)
        changed = {"loss_name": OBJECT_LOSS, "allow_missing": True}  # see `detection_losses`
        with ExitStack() as on_failure:
            on_failure.callback(super().close)
            self.objects = Recorder(f"{split}_objects", **options | changed)
            on_failure.callback(self.objects.close)
            self.objects.describe_samples(**objects)
            on_failure.pop_all()

    def end_epoch(
        self,
        epoch: int | None = None,
        *,
        delta: float | None = None,
        metrics: Mapping[str, float] | None = None,
        partial: bool | None = None,
        n_samples: int | None = None,
    ) -> EpochSummary | None:
        """End the epoch of the objects and of the images; returns the images' summary."""
        self.objects.end_epoch(epoch, delta=delta, partial=partial)
        return super().end_epoch(
            epoch, delta=delta, metrics=metrics, partial=partial, n_samples=n_samples
        )

    def finish(self) -> bool:
        """Finish both records."""
        both = (self.objects.finish(), super().finish())
        return all(both)

    def close(self) -> bool:
        """Close both records."""
        both = (self.objects.close(), super().close())
        return all(both)


class Detection(Task):
    """Images to boxes with classes. Each training needs an object of its own.

    Attributes:
        latest_metrics: the latest value of each metric, by its name in the run.
    """

    probe_batch = 32
    recorder_class: ClassVar[type[Recorder]] = ObjectRecorder

    def __init__(self) -> None:
        self._params = validate(DetectionParams, {})
        self._splits: dict[str, DetectionSplit] = {}
        self._detector: PackedSSD | None = None
        self._metric: MeanAveragePrecision | None = None
        self._measured = False
        self.latest_metrics: dict[str, float] = {}

    def load(self, params: DetectionParams) -> tuple[DetectionSplit, DetectionSplit]:
        """Read the dataset at the size of the detector.

        Raises:
            MissingDependencyError: if a package of the extra "detection" is missing.
        """
        if params.metric != "never":
            self._metric = _average_precision()
        self._params = params
        train, test = open_voc(voc_settings(params))
        self._splits = {"train": train, "test": test}
        return train, test

    def build(self, params: DetectionParams, train: DetectionSplit) -> PackedSSD:
        """The detector that the parameters name."""
        ssd = build_detector(params.model, n_classes=len(train.class_names), weights=params.weights)
        normalisation = Normalisation.of(train)
        self._detector = PackedSSD(ssd, mean=normalisation.mean, std=normalisation.std)
        return self._detector

    def augment(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mirror every other image and its boxes, where the parameters say so."""
        if self._params.augment == "none":
            return images, targets
        chosen = torch.randint(2, (len(images),), generator=generator).bool().to(images.device)
        mirrored = targets.clone()
        mirrored[..., [1, 3]] = images.shape[-1] - targets[..., [3, 1]]
        return (
            torch.where(chosen[:, None, None, None], images.flip(-1), images),
            torch.where(chosen[:, None, None], mirrored, targets),
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch that torchvision computes: classification and box regression."""
        return self._built.total(outputs, unpacked(targets))

    def recorder_options(
        self,
        params: DetectionParams,  # noqa: ARG002 - of the interface
        images: DetectionSplit,
    ) -> Mapping[str, Any]:
        """The name of the loss, and the objects of the images."""
        rows = range(len(images))
        counts = [len(images.objects(row)) for row in rows]
        objects = {
            "ids": np.array([object_id for row in rows for object_id in images.object_ids(row)]),
            "labels": np.concatenate([images.labels(row)[images.objects(row)] for row in rows]),
            "paths": np.repeat(images.paths, counts).tolist(),
            "input_digests": np.repeat(images.input_digests, counts).tolist(),
        }
        return {"loss_name": IMAGE_LOSS, "objects": objects}

    def start_pass(self, record: str, *, last: bool) -> None:  # noqa: ARG002
        """Decide whether this pass measures detections."""
        when = self._params.metric
        self._measured = when == "epoch" or (when == "end" and last)
        if self._metric is not None:
            self._metric.reset()

    def record(self, recorder: Any, ids: Any, outputs: Tensor, targets: Tensor) -> None:
        """Record each image and each object; measure the detections of an evaluation pass."""
        packed = self._built
        losses = multibox_losses(packed, outputs, unpacked(targets))
        of_images = losses.of_images()
        recorder.update(ids, sum(of_images.values()), components=of_images)
        matched = losses.object_matched > 0
        if matched.any():
            of_objects = {name: loss[matched] for name, loss in losses.of_objects().items()}
            of_image = self._object_ids[recorder.name.rpartition("-")[0]]
            object_ids = np.array([name for image in ids for name in of_image[str(image)]])
            recorder.objects.update(
                object_ids[matched.cpu().numpy()], sum(of_objects.values()), components=of_objects
            )
        self._measure(recorder, ids, lambda: packed.detections(outputs))

    def metrics(self, record: str) -> Mapping[str, float]:
        """Mean average precision at IoU 0.5 (VOC's), over 0.5 to 0.95 (COCO's), and per class."""
        if not self._measured or self._metric is None:
            return {}
        result = self._metric.compute()
        values = {f"{record}/{name}": float(result[name]) for name in ("map", "map_50")}
        names = self._splits["train"].class_names
        for label, value in zip(
            result["classes"].reshape(-1).tolist(),
            result["map_per_class"].reshape(-1).tolist(),
            strict=True,
        ):
            name = metric_name(names[label - 1])
            values[f"{record}/map_per_class/{name}"] = float(value)
        measured = {name: value for name, value in values.items() if value >= 0}
        self.latest_metrics |= measured
        return measured

    def log_extras(self, session: Trained, recorder: Any, images: DetectionSplit) -> None:
        """Small pictures of the objects, and the boxes that the trained detector predicts."""
        pictures = object_pictures(images, session.params.thumbnails)
        if pictures is not None:
            recorder.objects.log_thumbnails(*pictures)
        if not recorder.name.endswith("-probe"):
            return
        detections: list[dict[str, Tensor]] = []
        packed = self._built
        session.evaluate(
            images, lambda _, outputs, __: detections.extend(packed.detections(outputs))
        )
        recorder.log_boxes(box_table(images, detections))

    def _measure(self, recorder: Any, ids: Any, detect: Callable[[], Any]) -> None:
        """Hand the detections of images to the metric, in an evaluation pass that measures."""
        if self._measured and recorder.name.endswith("-probe") and self._metric is not None:
            truth = self._truth[recorder.name.rpartition("-")[0]]
            self._metric.update(detect(), [truth[str(image)] for image in ids])

    @property
    def _built(self) -> PackedSSD:
        assert self._detector is not None  # noqa: S101 - training builds first
        return self._detector

    @cached_property
    def _object_ids(self) -> dict[str, dict[str, list[str]]]:
        """Split, then image to ids of its objects."""
        return {
            split: {str(name): images.object_ids(row) for row, name in enumerate(images.ids)}
            for split, images in self._splits.items()
        }

    @cached_property
    def _truth(self) -> dict[str, dict[str, Target]]:
        """Split, then image to all of its objects; the metric counts no difficult ones."""
        return {
            split: {str(name): _truth(images, row) for row, name in enumerate(images.ids)}
            for split, images in self._splits.items()
        }


def voc_settings(params: DetectionParams) -> VocSettings:
    """What to read of the dataset, at the size that the detector works on."""
    return VocSettings(
        path=params.path,
        side=params.image_size or _side_of(params.model),
        train_set=params.train_set,
        test_set=params.test_set,
        classes=params.classes,
        bad_boxes=params.bad_boxes,
        difficult=params.difficult,
        **params.selection,
    )


def _side_of(model: str) -> int:
    return (DETECTORS if model in DETECTORS else WHOLE_DETECTORS)[model].side


def box_table(images: DetectionSplit, predictions: Sequence[Mapping[str, Tensor]]) -> pd.DataFrame:
    """Annotated and detected boxes of a split in pixels of the images in their own size.

    Args:
        images: The split.
        predictions: Detections of each image, in pixels of the images in memory.

    Returns:
        One row per box: sample_id, class, left, top, right, bottom, width and height (of the
        image), kind ("truth" or "predicted") and score (NaN for the truth). Detections below a
        score of 0.05 are left out.
    """
    frames = []
    for row, detections in enumerate(predictions):
        certain = (detections["scores"] >= _MIN_SCORE).cpu().numpy()
        boxes = detections["boxes"].float().cpu().numpy()[certain] / images.scale(row)
        labels = detections["labels"].cpu().numpy()[certain] - 1
        scores = detections["scores"].float().cpu().numpy()[certain]
        truth = images.annotations[row].boxes
        frames += [
            _box_rows(images, row, truth, images.labels(row)).assign(kind="truth", score=np.nan),
            _box_rows(images, row, boxes, labels).assign(kind="predicted", score=scores),
        ]
    return pd.concat(frames, ignore_index=True)


def _box_rows(
    images: DetectionSplit, row: int, boxes: NDArray[Any], labels: NDArray[Any]
) -> pd.DataFrame:
    sides = dict(zip(("left", "top", "right", "bottom"), boxes.T, strict=True))
    names = np.array(images.class_names, dtype=object)[labels]
    head = {"sample_id": images.ids[row], "class": names}
    size = dict(zip(("width", "height"), images.sizes[row], strict=True))
    return pd.DataFrame(head | sides | size)


def unpacked(targets: Tensor) -> list[Target]:
    """Boxes and labels of each image from its rows with a label, (B, M, 5)."""
    return [
        {"boxes": rows[:, 1:], "labels": rows[:, 0].long()}
        for rows in (padded[padded[:, 0] > 0] for padded in targets)
    ]


def _truth(images: DetectionSplit, row: int) -> Target:
    annotation = images.annotations[row]
    return {
        "boxes": torch.from_numpy(annotation.boxes * images.scale(row)),
        "labels": torch.from_numpy(images.labels(row) + 1),
        "iscrowd": torch.from_numpy(annotation.difficult.astype(np.int64)),
    }


def _average_precision() -> "MeanAveragePrecision":
    try:
        from torchmetrics.detection import MeanAveragePrecision  # noqa: PLC0415 - an extra

        metric = MeanAveragePrecision(class_metrics=True)
    except ImportError:
        raise MissingDependencyError(
            "the mean average precision needs torchmetrics and pycocotools: "
            "pip install 'actiontrack[detection]', or pass --metric never"
        ) from None
    metric.warn_on_many_detections = False  # the 100 best of an image count, as COCO and VOC do
    return metric
