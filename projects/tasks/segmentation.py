"""Segmentation (section 4.3): the loss of each image, its three parts, and that of each pixel.

Void, the pixels without a class, is either a class of its own, which the model can predict
(``counted``, as in the paper), or counts neither in the loss nor in the maps (``ignored``).
The mean intersection over union is over the other classes and over labelled pixels in both cases.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from actiontrack.errors import ParameterError
from actiontrack.record.rasters import as_png
from actiontrack.recorder import Recorder
from projects.datasets.cityscapes import open_cityscapes
from projects.datasets.masks import MaskSettings, MaskSplit, open_masks
from projects.models.unet import UNet
from projects.params.reading import validate
from projects.params.segmentation import SegmentationParams
from projects.tasks.segmentation_losses import SegmentationLoss
from projects.tasks.task import Task, Trained, metric_name

__all__ = ["Segmentation", "class_png", "intersection_over_union", "mask_settings"]

LABEL, PREDICTION = "label", "prediction"


class Segmentation(Task):
    """Images to a class for every pixel. Each training needs an object of its own.

    Attributes:
        latest_metrics: the latest value of each metric, by its name in the run.
    """

    probe_batch = 16

    def __init__(self) -> None:
        self._params = validate(SegmentationParams, {})
        self._loss = SegmentationLoss()
        self._split: MaskSplit | None = None
        self._confusion = torch.zeros(0)
        self._predictions: dict[str, dict[str, NDArray[np.uint8]]] = {}
        self._keeps_pictures = False
        self.latest_metrics: dict[str, float] = {}

    def load(self, params: SegmentationParams) -> tuple[MaskSplit, MaskSplit]:
        """Read images and masks at the size that the parameters name."""
        self._params = params
        train, test = _open(params)
        self._split = train
        ignored = train.n_classes if train.has_void and params.void == "ignored" else None
        self._loss = _loss(params, ignored)
        return train, test

    def build(self, params: SegmentationParams, train: MaskSplit) -> UNet:
        """The U-Net that the parameters name, with an output for void where it is counted.

        Raises:
            ParameterError: Images smaller than the U-Net can halve four times.
        """
        _check_size(train)
        return UNet(
            self._n_outputs(train),
            width_divisor=params.width_divisor,
            imagenet=params.encoder_weights == "imagenet",
        )

    def describe_model(self, params: SegmentationParams, train: MaskSplit) -> Mapping[str, Any]:
        """The arguments of `UNet`."""
        return {
            "name": params.model,
            "n_classes": self._n_outputs(train),
            "width_divisor": params.width_divisor,
            "class_names": train.class_names,
        }

    def augment(
        self, images: Tensor, targets: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Mirror every other image and its mask, where the parameters say so."""
        if self._params.augment == "none":
            return images, targets
        chosen = torch.randint(2, (len(images),), generator=generator).bool().to(images.device)
        return (
            torch.where(chosen[:, None, None, None], images.flip(-1), images),
            torch.where(chosen[:, None, None], targets.flip(-1), targets),
        )

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Weighted dice, Jaccard and focal loss, mean over the images of the batch."""
        return self._loss.mean(outputs, targets)

    def recorder_options(self, params: SegmentationParams, images: MaskSplit) -> Mapping[str, Any]:
        """Names of the losses, and how maps are kept."""
        parts = (
            (params.dice_weight, "dice"),
            (params.jaccard_weight, "jaccard"),
            (params.focal_weight, f"focal(gamma={params.focal_gamma:g})"),
        )
        return {
            "loss_name": " + ".join(f"{weight:g} {name}" for weight, name in parts if weight),
            "pixel_loss_name": params.pixel_loss,
            "void": params.void if images.has_void else "",
            "map_factor": params.map_factor,
            "map_dtype": params.map_dtype,
        }

    def start_pass(self, record: str, *, last: bool) -> None:
        """Start counting; keep the predictions of the trained model."""
        n_classes = len(self._train.class_names)
        self._confusion = torch.zeros(n_classes, n_classes, dtype=torch.int64)
        self._keeps_pictures, self._predictions[record] = last, {}

    def record(self, recorder: Recorder, ids: Any, outputs: Tensor, targets: Tensor) -> None:
        """Record the losses of each image and of each pixel, and count its predictions."""
        components = self._loss.components(outputs, targets)
        recorder.update(ids, self._loss.per_image(components), components=components)
        recorder.update_maps(ids, self._loss.pixels(outputs, targets, self._params.pixel_loss))
        if recorder.name not in self._predictions:
            return  # a training batch
        predicted = outputs.argmax(dim=1).to(torch.uint8)
        self._count(predicted, targets)
        if self._keeps_pictures:
            classes = zip(ids.tolist(), predicted.cpu().numpy(), strict=True)
            self._predictions[recorder.name].update(classes)

    def metrics(self, record: str) -> Mapping[str, float]:
        """Intersection over union of each class and their mean, and the accuracy of pixels."""
        train = self._train
        confusion = self._confusion.numpy().astype(np.float64)
        labelled = confusion[: train.n_classes]
        overlaps = intersection_over_union(confusion, train.n_classes)
        values = {
            "miou": float(np.nanmean(overlaps[: train.n_classes])),
            "pixel_accuracy": float(np.trace(labelled) / max(labelled.sum(), 1)),
        }
        for name, value in zip(train.class_names, overlaps.tolist(), strict=True):
            if np.isfinite(value):
                values[f"iou/{metric_name(name)}"] = value
        self.latest_metrics = {f"{record}/{name}": value for name, value in values.items()}
        return self.latest_metrics

    def log_extras(self, session: Trained, recorder: Recorder, images: MaskSplit) -> None:  # noqa: ARG002
        """Label and prediction of each image, as pictures whose pixel values are classes."""
        predicted = self._predictions.get(recorder.name)
        if not predicted:
            return
        n_classes = images.n_classes
        labels = [class_png(target, n_classes) for target in images.targets.numpy()]
        recorder.log_pictures(LABEL, images.ids, labels)
        pictures = [class_png(predicted[name], n_classes) for name in images.ids.tolist()]
        recorder.log_pictures(PREDICTION, images.ids, pictures)

    @property
    def _train(self) -> MaskSplit:
        assert self._split is not None  # noqa: S101 - loaded before all else
        return self._split

    def _n_outputs(self, train: MaskSplit) -> int:
        return train.n_classes if self._params.void == "ignored" else len(train.class_names)

    def _count(self, predicted: Tensor, targets: Tensor) -> None:
        n_classes = len(self._train.class_names)
        pairs = targets.long() * n_classes + predicted.long()
        counted = torch.bincount(pairs.flatten().cpu(), minlength=n_classes**2)
        self._confusion += counted.reshape(n_classes, n_classes)


def mask_settings(params: SegmentationParams) -> MaskSettings:
    """What to read of the dataset."""
    images, masks = params.folders
    return MaskSettings(
        images=images,
        masks=masks,
        class_names=params.classes,
        void_id=params.void_id,
        height=params.height,
        width=params.width,
        **params.selection,
    )


def _open(params: SegmentationParams) -> tuple[MaskSplit, MaskSplit]:
    read = open_cityscapes if params.is_cityscapes else open_masks
    return read(mask_settings(params))


def _loss(params: SegmentationParams, ignored: int | None) -> SegmentationLoss:
    """The loss, with the class whose pixels count nowhere."""
    return SegmentationLoss(
        dice=params.dice_weight,
        jaccard=params.jaccard_weight,
        focal=params.focal_weight,
        gamma=params.focal_gamma,
        ignored=ignored,
    )


def _check_size(images: MaskSplit) -> None:
    for name, side in zip(("height", "width"), images.targets.shape[1:], strict=True):
        if side < UNet.min_size:
            rule = f"must be at least {UNet.min_size} pixels for the U-Net"
            raise ParameterError(name, rule, side, f"Pass --{name} {UNet.min_size} or more.")


def intersection_over_union(confusion: NDArray[np.float64], n_classes: int) -> NDArray[np.float64]:
    """Intersection over union of each class, NaN for one that is neither there nor predicted.

    Args:
        confusion: (n_outputs, n_outputs) number of pixels, a row per label, a column per
            prediction; void comes last, if there is void.
        n_classes: number of classes without void. Pixels that are labelled void count for void
            only, as in the benchmarks.
    """
    hits = np.diag(confusion)
    labelled = confusion.sum(axis=1)
    predicted = confusion.copy()
    predicted[n_classes:, :n_classes] = 0
    union = labelled + predicted.sum(axis=0) - hits
    with np.errstate(invalid="ignore"):
        ratios: NDArray[np.float64] = hits / union
    return ratios


def class_png(classes: NDArray[np.uint8], n_classes: int) -> bytes:
    """A PNG file of classes (H, W): palette indices are the classes, void is black."""
    colours = colormaps["tab20"](np.arange(n_classes) % 20, bytes=True)
    palette = np.zeros((256, 3), dtype=np.uint8)
    palette[:n_classes] = colours[:, :3]
    image = Image.fromarray(classes)
    image.putpalette(palette.ravel().tolist())
    return as_png(image)
