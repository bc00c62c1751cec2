"""Photographs with boxes in the layout of Pascal VOC 2007, whatever their classes.

What the files hold is described in `projects.datasets.voc_files`.
"""

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from actiontrack.errors import DataError
from actiontrack.record.digest import INPUT_DIGEST_LENGTH, digest_input, digest_inputs
from projects.datasets.decode import decode_photograph, in_threads
from projects.datasets.split import Ids, SplitName
from projects.datasets.voc_files import (
    Annotation,
    Difficult,
    VocSettings,
    choose,
    find_image,
    find_root,
    list_names,
    read_annotation,
)

__all__ = ["Annotation", "DetectionSplit", "VocSettings", "open_voc", "read_annotation"]


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionSplit:
    """Images of one split in memory at the detector's size, with their objects.

    Attributes:
        images: uint8 (N, 3, side, side).
        sizes: int64 (N, 2), width and height of the upright images before resizing, in pixels.
        annotations: N annotations.
        ids: str (N,), names of the images.
        class_names: name per class; class k has label k + 1, as 0 is the background.
        name: name of the dataset.
        split: ``train`` or ``test``.
        root: folder of the dataset.
        paths: N paths of the images relative to `root`, with ``/``.
        input_digests: N digests of file content and objects, the same at every `side`.
        difficult: see `VocSettings`.
    """

    images: Tensor
    sizes: NDArray[np.int64]
    annotations: tuple[Annotation, ...]
    ids: Ids
    class_names: tuple[str, ...]
    name: str
    split: SplitName
    root: str
    paths: tuple[str, ...]
    input_digests: tuple[str, ...]
    difficult: Difficult = "keep"

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    @property
    def side(self) -> int:
        """Side of the images in memory, in pixels."""
        return int(self.images.shape[-1])

    @property
    def n_objects(self) -> int:
        """Number of objects that are trained on or recorded, of all images."""
        return sum(len(self.objects(row)) for row in range(len(self)))

    def scale(self, row: int) -> NDArray[np.float32]:
        """Pixels in memory per pixel of the image in its own size, float32 (4,), by coordinate."""
        return np.tile(self.side / self.sizes[row], 2).astype(np.float32)

    @cached_property
    def targets(self) -> Tensor:
        """Objects of all images, float32 (N, most objects of an image, 5).

        Label from 1, then left, top, right, bottom in pixels of the image in memory. Rows with
        label 0 fill up images with fewer objects.
        """
        most = max((len(self.objects(row)) for row in range(len(self))), default=0)
        targets = torch.zeros(len(self), most, 5)
        for row, filled in enumerate(targets):
            objects = self.objects(row)
            boxes = self.annotations[row].boxes[objects] * self.scale(row)
            filled[: len(objects), 0] = torch.from_numpy(self.labels(row)[objects] + 1)
            filled[: len(objects), 1:] = torch.from_numpy(boxes)
        return targets

    def objects(self, row: int) -> NDArray[np.int64]:
        """Positions in the annotation of an image of the objects that are trained on, ascending."""
        return _objects(self.annotations[row], difficult=self.difficult)

    def labels(self, row: int) -> NDArray[np.int64]:
        """Index into `class_names` of every object of an image, int64 (n_objects,)."""
        labels = [self.class_names.index(name) for name in self.annotations[row].names]
        return np.array(labels, dtype=np.int64)

    def object_ids(self, row: int) -> list[str]:
        """Ids of the objects of an image, ``NAME#k`` with k counted in the file from 1."""
        numbers = self.annotations[row].numbers
        return [f"{self.ids[row]}#{numbers[position]}" for position in self.objects(row)]


def _objects(annotation: Annotation, *, difficult: Difficult) -> NDArray[np.int64]:
    all_objects = np.ones(len(annotation.names), dtype=np.bool_)
    return np.flatnonzero(all_objects if difficult == "keep" else ~annotation.difficult)


def open_voc(settings: VocSettings) -> tuple[DetectionSplit, DetectionSplit]:
    """Read the training and the evaluated images of a folder.

    Which lists: those named; where they are "auto", the first of train and val, train and test,
    trainval and test that are there. Without any of these pairs all images are split by seed.

    Each image is decoded once and held as 3 · side² bytes: 1.4 GB for VOC 2007's 5,011 trainval
    images at side 300.

    Args:
        settings: What to read.

    Returns:
        Train and test.

    Raises:
        DataError: A folder in another layout, a missing or damaged list, image or annotation, a
            bad box, a class that is not among the named ones, no object in a split.
        ParameterError: A list that has to be named, or a subset larger than its split.
        MissingDependencyError: defusedxml is not installed.
    """
    root = find_root(settings.path)
    train, test = list_names(root, settings)
    names: dict[SplitName, list[str]] = {
        "train": choose(train, settings, "subset"),
        "test": choose(test, settings, "test_subset"),
    }
    images = {split: _read_images(root, names[split], settings, split) for split in names}
    classes = _classes(root, images, settings.classes)
    splits = [_split(root, split, images[split], classes, settings) for split in names]
    for part in splits:
        if not part.n_objects:
            raise DataError(f"{root}: no image of the {part.split} split has an object. Add some.")
    return splits[0], splits[1]


@dataclass(frozen=True)
class _Image:
    name: str
    path: str
    pixels: Tensor
    size: tuple[int, int]
    annotation: Annotation
    digest: str


def _split(
    root: Path,
    split: SplitName,
    images: list[_Image],
    classes: tuple[str, ...],
    settings: VocSettings,
) -> DetectionSplit:
    return DetectionSplit(
        images=torch.stack([image.pixels for image in images]),
        sizes=np.array([image.size for image in images], dtype=np.int64),
        annotations=tuple(image.annotation for image in images),
        ids=np.array([image.name for image in images]),
        class_names=classes,
        name=root.name,
        split=split,
        root=str(root),
        paths=tuple(image.path for image in images),
        input_digests=tuple(image.digest for image in images),
        difficult=settings.difficult,
    )


def _read_images(root: Path, names: list[str], settings: VocSettings, split: str) -> list[_Image]:
    read = partial(_read_image, root, settings)
    return in_threads(read, names, title=f"{root.name} {split}")


def _read_image(root: Path, settings: VocSettings, name: str) -> _Image:
    path = find_image(root, name)
    image, orientation = decode_photograph(path)
    height, width = image.shape[1:]
    annotation = read_annotation(
        root / "Annotations" / f"{name}.xml",
        size=(width, height),
        bad_boxes=settings.bad_boxes,
        orientation=orientation,
    )
    side = [settings.side, settings.side]
    pixels = functional.resize(image.expand(3, -1, -1), side, antialias=True)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    used = _objects(annotation, difficult=settings.difficult)
    parts = (content, annotation.boxes[used], np.array(annotation.names, dtype=np.str_)[used])
    return _Image(
        name=name,
        path=path.relative_to(root).as_posix(),
        pixels=pixels,
        size=(width, height),
        annotation=annotation,
        digest=digest_inputs(digest_input(part) for part in parts)[:INPUT_DIGEST_LENGTH],
    )


def _classes(
    root: Path, images: dict[SplitName, list[_Image]], named: tuple[str, ...]
) -> tuple[str, ...]:
    """The classes in order: those named, which must hold all, or those of the annotations."""
    both_splits = [image for split in images.values() for image in split]
    if not named:
        return tuple(sorted({name for image in both_splits for name in image.annotation.names}))
    for image in both_splits:
        for number, name in zip(image.annotation.numbers, image.annotation.names, strict=True):
            if name not in named:
                file = root / "Annotations" / f"{image.name}.xml"
                raise DataError(
                    f"{file}: object {number} is of the class {name!r}, which is not among "
                    f"{', '.join(named)}. Correct it, or name all classes by --classes."
                )
    return named
