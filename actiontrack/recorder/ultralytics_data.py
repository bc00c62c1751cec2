"""Images, objects and boxes of Ultralytics' data sets, under ids that are paths."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from PIL import ExifTags, Image

from actiontrack.errors import RecordingError
from actiontrack.recorder.detector_boxes import MIN_SCORE
from actiontrack.recorder.epoch import Columns, Gather
from actiontrack.recorder.torch_sampling import unchanged_randomness
from actiontrack.recorder.ultralytics_loss import ObjectLosses

__all__ = [
    "Detections",
    "Images",
    "NamesFiles",
    "evaluation_batches",
    "name_files",
    "named_loader",
    "object_rows",
]


class NamesFiles:
    """A classification data set of Ultralytics whose items name their files, as detection's do.

    Args:
        dataset: with ``samples`` that begin with the path.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getattr__(self, name: str) -> Any:
        """All else is that of the data set."""
        if name.startswith("__") or "dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """The item with its ``im_file``."""
        return {**self.dataset[index], "im_file": str(self.dataset.samples[index][0])}


def name_files(trainer: Any) -> None:
    """See that the data sets of a classification trainer name their files."""
    if trainer.args.task != "classify" or hasattr(trainer.build_dataset, "names_files"):
        return
    build = trainer.build_dataset

    def build_dataset(*args: Any, **kwargs: Any) -> NamesFiles:
        return NamesFiles(build(*args, **kwargs))

    build_dataset.names_files = True  # type: ignore[attr-defined]
    trainer.build_dataset = build_dataset


def named_loader(loader: Any) -> Any:
    """A loader like another one of a data set without names, which was made before it had them."""
    return type(loader)(
        dataset=NamesFiles(loader.dataset),
        batch_size=loader.batch_size,
        sampler=loader.sampler,
        num_workers=loader.num_workers,
        pin_memory=loader.pin_memory,
        worker_init_fn=loader.worker_init_fn,
        generator=loader.generator,
        drop_last=loader.drop_last,
    )


@dataclass(frozen=True)
class Images:
    """The images of one split.

    Attributes:
        root: folder that ids are relative to.
        files: path of each image.
        labels: class of each image, of a classifier's data; else None.
        annotations: of detection data, what Ultralytics knows of the boxes of each image.
    """

    root: Path
    files: Sequence[str]
    labels: npt.NDArray[np.int64] | None = None
    annotations: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, dataset: Any, data: Mapping[str, Any], root: str | Path | None) -> "Images":
        """The images of a data set.

        Args:
            dataset: of a loader of Ultralytics.
            data: what the trainer knows of the data set.
            root: folder that ids are relative to. Default: that of the data set; where images lie
                elsewhere, the deepest folder that has all images of the split.

        Raises:
            RecordingError: if an image is not below `root`.
        """
        samples = getattr(dataset, "samples", None)
        files = dataset.im_files if samples is None else [str(row[0]) for row in samples]
        return cls(
            _root(files, data, root),
            files,
            None if samples is None else np.array([row[1] for row in samples], dtype=np.int64),
            () if samples is not None else dataset.labels,
        )

    def id_of(self, file: str) -> str:
        """The path below the root, with slashes."""
        return Path(os.path.relpath(file, self.root)).as_posix()

    @property
    def ids(self) -> list[str]:
        """Of all images."""
        return [self.id_of(file) for file in self.files]

    @property
    def n_objects(self) -> int:
        """Annotated objects in all images."""
        return sum(len(annotation["cls"]) for annotation in self.annotations)

    def describe_objects(self) -> dict[str, Any]:
        """What `Recorder.describe_samples` gets of the objects: ``PATH#k``, k from 1."""
        counts = [len(annotation["cls"]) for annotation in self.annotations]
        ids = [self.id_of(annotation["im_file"]) for annotation in self.annotations]
        labels = [np.ravel(annotation["cls"]) for annotation in self.annotations]
        return {
            "ids": list(
                chain.from_iterable(
                    (f"{name}#{number + 1}" for number in range(count))
                    for name, count in zip(ids, counts, strict=True)
                )
            ),
            "labels": np.concatenate([*labels, np.zeros(0)]).astype(np.int64),
            "paths": np.repeat(np.array(ids, dtype=object), counts).tolist(),
        }

    def true_boxes(self, class_names: Sequence[str]) -> pd.DataFrame:
        """The annotated boxes as `Recorder.log_boxes` takes them, in the order of the objects."""
        frames = []
        for annotation in self.annotations:
            width, height = _size(annotation["im_file"])
            boxes = np.asarray(annotation["bboxes"], dtype=np.float64).reshape(-1, 4)
            half = boxes[:, 2:] / 2
            corners = np.hstack((boxes[:, :2] - half, boxes[:, :2] + half))
            frames.append(
                _box_rows(
                    self.id_of(annotation["im_file"]),
                    corners * [width, height, width, height],
                    (width, height),
                    np.ravel(annotation["cls"]).astype(np.int64),
                    class_names,
                ).assign(kind="truth", score=np.nan)
            )
        return pd.concat(frames, ignore_index=True)


def _size(file: str) -> tuple[int, int]:
    """Width and height of an image as it is shown: Ultralytics forgets them."""
    with Image.open(file) as image:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
        return (image.height, image.width) if turned else image.size


def _root(files: Sequence[str], data: Mapping[str, Any], root: str | Path | None) -> Path:
    folders = {os.path.dirname(os.path.abspath(file)) for file in files}  # noqa: PTH100, PTH120
    default = data.get("path") or Path(str(data["train"])).parent  # of a classifier's data
    chosen = Path(os.path.abspath(root or default))  # noqa: PTH100 - links stay links
    outside = [folder for folder in folders if not Path(folder).is_relative_to(chosen)]
    if outside and root is not None:
        raise RecordingError(
            f"root: images lie outside {chosen}, such as those in {outside[0]}. Pass a folder "
            "that has them all, or leave root out."
        )
    return Path(os.path.commonpath(folders)) if outside else chosen


def _object_numbers(batch_idx: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(n_objects,) which object of its image each one is, from 0, in the order of a batch.

    Args:
        batch_idx: (n_objects,) position of the image of each object.
    """
    images = batch_idx.astype(np.int64)
    counts = np.bincount(images) if images.size else np.zeros(0, dtype=np.int64)
    order = np.argsort(images, kind="stable")
    numbers = np.empty(len(images), dtype=np.int64)
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    numbers[order] = np.arange(len(images)) - starts
    return numbers


def object_rows(
    ids: Sequence[str], batch: Mapping[str, Any], losses: ObjectLosses
) -> tuple[list[str], Columns]:
    """Ids and columns of the objects of a batch that have anchors; others have no loss.

    Args:
        ids: of the images of the batch.
        batch: of the trainer, in which the objects of an image are in their own order.
        losses: of the objects.
    """
    image = batch["batch_idx"].long().cpu().numpy()
    number = _object_numbers(image)
    columns = {**losses.losses, "target_scores": losses.target_scores}
    table = torch.stack([*columns.values(), losses.n_anchors]).cpu().numpy()[:, image, number]
    assigned = table[-1] > 0
    pairs = zip(image[assigned].tolist(), number[assigned].tolist(), strict=True)
    return (
        [f"{ids[row]}#{k + 1}" for row, k in pairs],
        dict(zip(columns, table[:-1, assigned], strict=True)),
    )


class Detections:
    """The boxes that a model predicts in a validation pass, of the latest pass only.

    Args:
        images: of the split.
    """

    def __init__(self, images: Images) -> None:
        self._images = images
        self._batches: list[Columns] = []
        self._epoch: list[Columns] = []
        self._active = False

    def collect(self, validator: Any) -> None:
        """Begin a pass: the validator hands on what it detects, after its own look at it."""
        self._batches, self._active = [], True
        update = validator.update_metrics
        if getattr(update, "collects_for", None) is self:
            return

        def update_metrics(preds: Any, batch: Mapping[str, Any]) -> None:
            update(preds, batch)
            if self._active:
                self._take(preds, batch)

        update_metrics.collects_for = self  # type: ignore[attr-defined]
        validator.update_metrics = update_metrics

    def _take(self, preds: Any, batch: Mapping[str, Any]) -> None:
        ids = [self._images.id_of(file) for file in batch["im_file"]]
        self._batches.append(_detected(preds, batch, ids))

    def stop(self) -> None:
        """End a pass."""
        self._active = False

    def end_epoch(self, gather: Gather | None) -> None:
        """Keep what was collected in place of earlier passes."""
        joined = _joined(self._batches) if self._batches else {}
        parts = [joined] if gather is None else gather(joined)
        self._epoch, self._batches = [part for part in parts or () if part], []

    def frame(self, class_names: Sequence[str]) -> pd.DataFrame:
        """As `Recorder.log_boxes` takes them."""
        if not self._epoch:
            return pd.DataFrame()
        columns = _joined(self._epoch)
        rows = _box_rows(
            columns["ids"], columns["corners"], columns["size"].T, columns["class"], class_names
        )
        return rows.assign(kind="predicted", score=columns["score"])


def _joined(parts: Sequence[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _detected(
    preds: Sequence[Mapping[str, Any]], batch: Mapping[str, Any], ids: Sequence[str]
) -> Columns:
    """Detections of a batch in pixels of the stored images, those of a score of 0.05 and more.

    Args:
        preds: "bboxes", "conf" and "cls" of each image, in pixels of the batch.
        batch: of the validation.
        ids: of its images.
    """
    counts = [len(pred["conf"]) for pred in preds]
    image = np.repeat(np.arange(len(counts)), counts)
    columns = [torch.cat([pred[name].float() for pred in preds]) for name in ("conf", "cls")]
    boxes = torch.cat([pred["bboxes"].float() for pred in preds])
    table = torch.cat((torch.stack(columns, 1), boxes), 1).cpu().numpy()
    chosen = table[:, 0] >= MIN_SCORE
    image, table = image[chosen], table[chosen]
    size = np.array([shape[:2] for shape in batch["ori_shape"]], dtype=np.float64)[image, ::-1]
    ratio = np.array([pair[0] for pair in batch["ratio_pad"]], dtype=np.float64)[image, ::-1]
    margin = np.array([pair[1] for pair in batch["ratio_pad"]], dtype=np.float64)[image]
    corners = (table[:, 2:] - np.tile(margin, 2)) / np.tile(ratio, 2)
    return {
        "ids": np.array(ids)[image],
        "class": table[:, 1].astype(np.int64),
        "score": table[:, 0],
        "corners": np.clip(corners, 0, np.tile(size, 2)),
        "size": size,
    }


def _box_rows(
    ids: Any, corners: Any, size: Any, labels: npt.NDArray[np.int64], class_names: Sequence[str]
) -> pd.DataFrame:
    sides = dict(zip(("left", "top", "right", "bottom"), np.asarray(corners).T, strict=True))
    head = {"sample_id": ids, "class": np.array(class_names, dtype=object)[labels]}
    return pd.DataFrame(head | sides | dict(zip(("width", "height"), size, strict=True)))


@contextmanager
def evaluation_batches(trainer: Any, loader: Any) -> Iterator[Iterator[dict[str, Any]]]:
    """The batches of a loader as the validation of a trainer prepares them; nothing else changes.

    Random states are afterwards as before, and there are no gradients.
    """
    device = trainer.device
    half = device.type != "cpu" and bool(trainer.amp)
    with (
        unchanged_randomness(device),
        torch.inference_mode(),
        torch.autocast(device.type, enabled=half),
    ):
        yield (_prepared(batch, device) for batch in loader)


def _prepared(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    moved = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
    }
    stored = moved["img"].dtype == torch.uint8  # a classifier's images are scaled already
    moved["img"] = moved["img"].float() / 255 if stored else moved["img"].float()
    return moved
