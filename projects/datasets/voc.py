"""Photographs with boxes in the layout of Pascal VOC 2007, whatever their classes.

::

    PATH/JPEGImages/NAME.jpg        also .jpeg, .png, .bmp, .webp; grey and palette become RGB
    PATH/Annotations/NAME.xml       size, then one <object> per box; none for an image without
    PATH/ImageSets/Main/SET.txt     names of a set, one a line

PATH may also be a folder above: one that holds ``VOC2007`` or ``VOCdevkit/VOC2007``. Without the
lists that are asked for, see `open_voc` for what is taken instead.

Boxes. VOC counts pixels from 1 and includes the last one, so a box covers, in coordinates that
start at 0, ``xmin - 1 .. xmax`` by ``ymin - 1 .. ymax``; ``xmin == xmax`` is one pixel wide. What
reaches over the edge of the image is clipped. A box of which nothing is left then, or that was
turned inside out, is refused by file and object, or left out where the user asks for it.
"""

import math
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional
from tqdm import tqdm

from actiontrack.errors import DataError, MissingDependencyError, ParameterError
from actiontrack.record.digest import INPUT_DIGEST_LENGTH, digest_input, digest_inputs
from projects.datasets.decode import MAX_THREADS, decode_image
from projects.datasets.folder import SUFFIXES
from projects.datasets.split import Ids, SplitName
from projects.datasets.stratify import stratified_subset

__all__ = ["Annotation", "DetectionSplit", "VocSettings", "open_voc", "read_annotation"]

BadBoxes = Literal["error", "drop"]
Difficult = Literal["keep", "ignore"]

AUTO = "auto"
_LAYOUT = "It must hold JPEGImages/ and Annotations/, or VOC2007/ or VOCdevkit/VOC2007/ with them."
_PAIRS = (("train", "val"), ("train", "test"), ("trainval", "test"))
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class VocSettings:
    """What to read of a folder.

    Attributes:
        path: the folder, ``~`` allowed.
        train_set: name of the list of training images, or "auto".
        test_set: name of the list of evaluated images, or "auto".
        classes: the classes, in order; empty for those that the annotations name, sorted.
        bad_boxes: what to do with boxes that have no pixel of the image.
        difficult: whether difficult objects are trained on and recorded ("keep"), or only known
            to the metric, which never counts them ("ignore").
        side: images are resized to this many pixels a side, without keeping the ratio.
        subset: training images to use; 0 for all.
        test_subset: evaluated images to use; 0 for all.
        test_fraction: of the images, for folders without lists.
        split_seed: which images: that split and the subsets.
    """

    path: str
    side: int
    train_set: str = AUTO
    test_set: str = AUTO
    classes: tuple[str, ...] = ()
    bad_boxes: BadBoxes = "error"
    difficult: Difficult = "keep"
    subset: int = 0
    test_subset: int = 0
    test_fraction: float = 0.2
    split_seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Annotation:
    """The objects of one image.

    Attributes:
        boxes: float32 (n_objects, 4), left, top, right, bottom in pixels of the stored image.
        names: class of each object.
        difficult: bool (n_objects,), VOC's mark for objects that are hard to recognise.
        numbers: place of each object in its file, from 1.
        n_clipped: boxes that reached over the edge.
        n_dropped: boxes that were left out.
    """

    boxes: NDArray[np.float32]
    names: tuple[str, ...]
    difficult: NDArray[np.bool_]
    numbers: tuple[int, ...]
    n_clipped: int = 0
    n_dropped: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionSplit:
    """Images of one split in memory at the detector's size, with their objects.

    Attributes:
        images: uint8 (N, 3, side, side).
        sizes: int64 (N, 2), width and height of the stored images in pixels.
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
        return sum(len(self.kept(row)) for row in range(len(self)))

    def scale(self, row: int) -> NDArray[np.float32]:
        """Pixels in memory per pixel of the stored image, float32 (4,), for each coordinate."""
        return np.tile(self.side / self.sizes[row], 2).astype(np.float32)

    @cached_property
    def targets(self) -> Tensor:
        """Kept objects of all images, float32 (N, most objects of an image, 5).

        Label from 1, then left, top, right, bottom in pixels of the image in memory. Rows with
        label 0 fill up images with fewer objects.
        """
        most = max((len(self.kept(row)) for row in range(len(self))), default=0)
        targets = torch.zeros(len(self), most, 5)
        for row, filled in enumerate(targets):
            kept = self.kept(row)
            boxes = self.annotations[row].boxes[kept] * self.scale(row)
            filled[: len(kept), 0] = torch.from_numpy(self.labels(row)[kept] + 1)
            filled[: len(kept), 1:] = torch.from_numpy(boxes)
        return targets

    def kept(self, row: int) -> NDArray[np.int64]:
        """Positions in the annotation of an image of the objects that are trained on, ascending."""
        return _kept(self.annotations[row], difficult=self.difficult)

    def labels(self, row: int) -> NDArray[np.int64]:
        """Index into `class_names` of every object of an image, int64 (n_objects,)."""
        places = [self.class_names.index(name) for name in self.annotations[row].names]
        return np.array(places, dtype=np.int64)

    def object_ids(self, row: int) -> list[str]:
        """Ids of the kept objects of an image, ``NAME#k`` with k counted in the file from 1."""
        numbers = self.annotations[row].numbers
        return [f"{self.ids[row]}#{numbers[each]}" for each in self.kept(row)]


def _kept(annotation: Annotation, *, difficult: Difficult) -> NDArray[np.int64]:
    everything = np.ones(len(annotation.names), dtype=np.bool_)
    return np.flatnonzero(everything if difficult == "keep" else ~annotation.difficult)


# ---------------------------------------------------------------- annotations


def read_annotation(
    path: Path, *, size: tuple[int, int], bad_boxes: BadBoxes = "error"
) -> Annotation:
    """Read the objects of one image.

    Document types and entities are refused, so that no file can make the reader expand or fetch
    anything.

    Args:
        path: The XML file.
        size: Width and height of the image in pixels.
        bad_boxes: "error" refuses boxes that have no pixel of the image, "drop" leaves them out.

    Returns:
        The objects; none where the file has no ``<object>``.

    Raises:
        DataError: A missing or malformed file, another image size, an object without a name or
            with a box that is no four numbers or has no pixel of the image.
        MissingDependencyError: defusedxml is not installed.
    """
    root = _parse(path)
    _check_size(path, root, size)
    boxes, names, difficult, numbers, n_clipped = [], [], [], [], 0
    elements = root.findall("object")
    for number, element in enumerate(elements, 1):
        name = (element.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{path}: object {number} has no name. Name its class or remove it.")
        box = _box(element, f"{path}: object {number} ({name})")
        inside = np.clip(box, 0, [*size, *size])
        if not (inside[:2] < inside[2:]).all():
            if bad_boxes == "drop":
                continue
            raise DataError(_no_pixel(f"{path}: object {number} ({name})", element, size))
        n_clipped += not np.array_equal(box, inside)
        boxes.append(inside)
        names.append(name)
        difficult.append((element.findtext("difficult") or "0").strip() == "1")
        numbers.append(number)
    return Annotation(
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        names=tuple(names),
        difficult=np.array(difficult, dtype=np.bool_),
        numbers=tuple(numbers),
        n_clipped=n_clipped,
        n_dropped=len(elements) - len(names),
    )


def _parse(path: Path) -> Element:
    try:
        from defusedxml import DefusedXmlException  # noqa: PLC0415 - an extra
        from defusedxml.ElementTree import parse  # noqa: PLC0415
    except ImportError:
        raise MissingDependencyError(
            "annotations in XML need defusedxml: pip install 'actiontrack[detection]'"
        ) from None
    try:
        root = parse(path, forbid_dtd=True).getroot()
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror}). Each image needs its annotation; one "
            "without objects is <annotation/>."
        ) from error
    except (ParseError, ValueError, LookupError) as error:
        if isinstance(error, DefusedXmlException):
            raise DataError(f"{path} declares a document type. Remove the declaration.") from error
        raise DataError(f"{path} is not well-formed XML ({error}). Mend or replace it.") from error
    if root is None or root.tag != "annotation":
        found = None if root is None else root.tag
        raise DataError(f"{path} must hold an <annotation>, got <{found}>. Replace it.")
    return root


def _check_size(path: Path, root: Element, size: tuple[int, int]) -> None:
    told = tuple((root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height"))
    if told not in {("0", "0"), tuple(map(str, size))}:
        raise DataError(
            f"{path} is for an image of {told[0]}x{told[1]} pixels, the image has "
            f"{size[0]}x{size[1]}. Annotate the image as it is stored."
        )


def _box(element: Element, title: str) -> NDArray[np.float64]:
    """Left, top, right, bottom, float64 (4,), counted from 0."""
    texts = [element.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    try:
        values = [float(each or "") for each in texts]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        shown = ", ".join(f"{name} {each}" for name, each in zip(_CORNERS, texts, strict=True))
        raise DataError(f"{title} needs a box of four numbers, got {shown}. Mend or remove it.")
    return np.array(values) - [1, 1, 0, 0]


def _no_pixel(title: str, element: Element, size: tuple[int, int]) -> str:
    box = ", ".join(f"{name} {element.findtext(f'bndbox/{name}')}" for name in _CORNERS)
    return (
        f"{title} has no pixel of the image of {size[0]}x{size[1]}: {box}. Mend or remove it, or "
        "pass --bad_boxes drop to leave such objects out."
    )


# ---------------------------------------------------------------- lists


def _find_root(path: str) -> Path:
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. {_LAYOUT}")
    around = [root, *sorted(root.glob("VOC2*")), *sorted(root.glob("VOCdevkit/VOC2*"))]
    found = [p for p in around if (p / "JPEGImages").is_dir() and (p / "Annotations").is_dir()]
    if not found:
        raise DataError(f"{root} is not in VOC layout. {_LAYOUT}")
    if len(found) > 1:
        names = ", ".join(str(each) for each in found)
        raise DataError(f"{root} holds several datasets: {names}. Name one of them.")
    return found[0]


def _lists(root: Path, settings: VocSettings) -> tuple[list[str], list[str]]:
    """Names of the training and of the evaluated images."""
    wanted, folder = (settings.train_set, settings.test_set), root / "ImageSets" / "Main"
    chosen = _choose_pair(folder, wanted)
    if chosen is None:
        return _split_by_seed(root, settings)
    train, test = (_read_list(folder / f"{name}.txt") for name in chosen)
    shared = sorted(set(train) & set(test))
    if shared:
        raise DataError(
            f"{folder}: {len(shared)} images are both in {chosen[0]}.txt and in {chosen[1]}.txt, "
            f"the first is {shared[0]}. Choose other lists by --train_set and --test_set."
        )
    return train, test


def _choose_pair(folder: Path, wanted: tuple[str, str]) -> tuple[str, str] | None:
    """Names of the two lists, or None to split all images by seed."""
    if AUTO not in wanted:
        return wanted
    there = {path.stem for path in folder.glob("*.txt")}
    for pair in _PAIRS:
        fits = all(w in {AUTO, name} for w, name in zip(wanted, pair, strict=True))
        if fits and there.issuperset(pair):
            return pair
    if wanted == (AUTO, AUTO):
        return None
    missing = "test_set" if wanted[1] == AUTO else "train_set"
    raise ParameterError(
        missing,
        f"must be the name of a list in {folder}, as there is no usual one beside "
        f"{wanted[0] if missing == 'test_set' else wanted[1]}",
        AUTO,
        f"Lists there: {', '.join(sorted(there)) or 'none'}.",
    )


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list {path} can't be read ({error}). Name another one.") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DataError(f"the list {path} is empty. Name another one.")
    repeated = sorted(name for name, count in Counter(names).items() if count > 1)
    if repeated:
        raise DataError(
            f"the list {path} names {len(repeated)} images more than once, the first is "
            f"{repeated[0]}. Name each image once."
        )
    return names


def _split_by_seed(root: Path, settings: VocSettings) -> tuple[list[str], list[str]]:
    names = np.array(sorted(path.stem for path in (root / "Annotations").glob("*.xml")))
    n_test = round(settings.test_fraction * len(names))
    if not 0 < n_test < len(names):
        raise DataError(
            f"{root} has no lists in ImageSets/Main and {len(names)} annotations, of which "
            f"{n_test} would be for testing. Add images or pass another --test_fraction."
        )
    test = _pick(names, n_test, settings.split_seed)
    return names[np.setdiff1d(np.arange(len(names)), test)].tolist(), names[test].tolist()


def _pick(names: NDArray[Any], total: int, seed: int) -> NDArray[np.int64]:
    """Ascending positions of some of the names, by a seed."""
    same = np.zeros(len(names), dtype=np.int64)
    return stratified_subset(names, same, n_classes=1, total=total, seed=seed)


def _subset(names: list[str], settings: VocSettings, argument: str) -> list[str]:
    total = getattr(settings, argument)
    if total > len(names):
        rule = f"must be at most {len(names)}, the images of the split"
        raise ParameterError(argument, rule, total, f"Pass --{argument} 0 for all of them.")
    if not total:
        return names
    kept = _pick(np.array(names), total, settings.split_seed)
    return [names[each] for each in kept]


# ---------------------------------------------------------------- splits


def open_voc(settings: VocSettings) -> tuple[DetectionSplit, DetectionSplit]:
    """Read the training and the evaluated images of a folder.

    Which lists: those named; where they are "auto", the first of train and val, train and test,
    trainval and test that are there. Without any of these pairs all images are split by seed.

    Each image is decoded once and kept as 3 · side² bytes: 1.4 GB for VOC 2007's 5,011 trainval
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
    root = _find_root(settings.path)
    train, test = _lists(root, settings)
    wanted: tuple[tuple[SplitName, list[str]], ...] = (
        ("train", _subset(train, settings, "subset")),
        ("test", _subset(test, settings, "test_subset")),
    )
    read = {split: _read_images(root, names, settings, split) for split, names in wanted}
    classes = _classes(root, read, settings.classes)
    splits = [
        DetectionSplit(
            images=torch.stack([each.pixels for each in read[split]]),
            sizes=np.array([each.size for each in read[split]], dtype=np.int64),
            annotations=tuple(each.annotation for each in read[split]),
            ids=np.array(names),
            class_names=classes,
            name=root.name,
            split=split,
            root=str(root),
            paths=tuple(each.path for each in read[split]),
            input_digests=tuple(each.digest for each in read[split]),
            difficult=settings.difficult,
        )
        for split, names in wanted
    ]
    for each in splits:
        if not each.n_objects:
            raise DataError(f"{root}: no image of the {each.split} split has an object. Add some.")
    return splits[0], splits[1]


@dataclass(frozen=True)
class _Image:
    path: str
    pixels: Tensor
    size: tuple[int, int]
    annotation: Annotation
    digest: str


def _read_images(root: Path, names: list[str], settings: VocSettings, split: str) -> list[_Image]:
    read = partial(_read_image, root, settings)
    with ThreadPoolExecutor(MAX_THREADS) as pool:
        bar = tqdm(
            pool.map(read, names), total=len(names), desc=f"{root.name} {split}", unit="image",
            disable=None, leave=False,
        )  # fmt: skip
        return list(bar)


def _read_image(root: Path, settings: VocSettings, name: str) -> _Image:
    path = _find_image(root, name)
    image = decode_image(path)
    height, width = image.shape[1:]
    annotation = read_annotation(
        root / "Annotations" / f"{name}.xml", size=(width, height), bad_boxes=settings.bad_boxes
    )
    side = [settings.side, settings.side]
    pixels = functional.resize(image.expand(3, -1, -1), side, antialias=True)
    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    used = _kept(annotation, difficult=settings.difficult)
    parts = (content, annotation.boxes[used], np.array(annotation.names, dtype=np.str_)[used])
    return _Image(
        path=path.relative_to(root).as_posix(),
        pixels=pixels,
        size=(width, height),
        annotation=annotation,
        digest=digest_inputs([digest_input(each) for each in parts])[:INPUT_DIGEST_LENGTH],
    )


def _find_image(root: Path, name: str) -> Path:
    for suffix in (".jpg", *SUFFIXES):
        path = root / "JPEGImages" / f"{name}{suffix}"
        if path.is_file():
            return path
    raise DataError(
        f"{root / 'JPEGImages'} has no image {name} ({', '.join(SUFFIXES)}). Add it, or take its "
        "name out of the list."
    )


def _classes(
    root: Path, read: dict[SplitName, list[_Image]], named: tuple[str, ...]
) -> tuple[str, ...]:
    if not named:
        every = {name for each in read.values() for one in each for name in one.annotation.names}
        return tuple(sorted(every))
    for image in (one for each in read.values() for one in each):
        for number, name in zip(image.annotation.numbers, image.annotation.names, strict=True):
            if name not in named:
                file = root / "Annotations" / f"{Path(image.path).stem}.xml"
                raise DataError(
                    f"{file}: object {number} is of the class {name!r}, which is not among "
                    f"{', '.join(named)}. Correct it, or name all classes by --classes."
                )
    return named
