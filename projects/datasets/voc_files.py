"""The files of a dataset in the layout of Pascal VOC 2007: annotations and lists of images.

::

    PATH/JPEGImages/NAME.jpg        also .jpeg, .png, .bmp, .webp; grey and palette become RGB
    PATH/Annotations/NAME.xml       size, then one <object> per box; none for an image without
    PATH/ImageSets/Main/SET.txt     names of a set, one a line

PATH may also be a folder above: one that holds ``VOC2007`` or ``VOCdevkit/VOC2007``. Hidden files,
see `projects.datasets.files`, are skipped.

Boxes. VOC counts pixels from 1 and includes the last one, so a box covers, in coordinates that
start at 0, ``xmin - 1 .. xmax`` by ``ymin - 1 .. ymax``; ``xmin == xmax`` is one pixel wide. What
reaches over the edge of the image is clipped. A box of which nothing is left then, or whose corners
are swapped, is refused by file and object, or left out where the user asks for it.

Photographs with an Exif orientation. Boxes are taken to be drawn on the photograph as viewers show
it, also where the annotation has no size. An annotation whose size is that of the stored pixels,
with width and height swapped, was drawn on those: its boxes are turned along.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import Element, ParseError

import numpy as np
from numpy.typing import NDArray

from actiontrack.errors import DataError, MissingDependencyError, ParameterError
from projects.datasets.decode import swaps_sides, turn_box
from projects.datasets.files import SUFFIXES, is_visible
from projects.datasets.stratify import check_total, stratified_subset

__all__ = [
    "Annotation",
    "BadBoxes",
    "Difficult",
    "VocSettings",
    "choose",
    "find_image",
    "find_root",
    "list_names",
    "read_annotation",
]

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
        boxes: float32 (n_objects, 4), left, top, right, bottom in pixels of the upright image.
        names: class of each object.
        difficult: bool (n_objects,), VOC's mark for objects that are hard to recognise.
        numbers: position of each object in its file, from 1.
        n_clipped: boxes that reached over the edge.
        n_dropped: boxes without a pixel of the image, left out.
    """

    boxes: NDArray[np.float32]
    names: tuple[str, ...]
    difficult: NDArray[np.bool_]
    numbers: tuple[int, ...]
    n_clipped: int = 0
    n_dropped: int = 0


# ---------------------------------------------------------------- annotations


def read_annotation(
    path: Path, *, size: tuple[int, int], bad_boxes: BadBoxes = "error", orientation: int = 1
) -> Annotation:
    """Read the objects of one image.

    Document types and entities are refused, so that no file can make the reader expand or fetch
    anything.

    Args:
        path: The XML file.
        size: Width and height of the upright image in pixels.
        bad_boxes: "error" refuses boxes that have no pixel of the image, "drop" leaves them out.
        orientation: Exif orientation of the image file, 1 to 8.

    Returns:
        The objects, in pixels of the upright image; none where the file has no ``<object>``.

    Raises:
        DataError: A missing or malformed file, another image size, an object without a name or
            with a box that is no four numbers or has no pixel of the image.
        MissingDependencyError: defusedxml is not installed.
    """
    root = _parse(path)
    stored = _stored_size(path, root, size, orientation)
    drawn_on = stored or size
    boxes, names, difficult, numbers, n_clipped = [], [], [], [], 0
    elements = root.findall("object")
    for number, element in enumerate(elements, 1):
        title = f"{path}: object {number}"
        name = _class_name(element, title)
        box = _box(element, f"{title} ({name})")
        inside = np.clip(box, 0, [*drawn_on, *drawn_on])
        if not (inside[:2] < inside[2:]).all():
            if bad_boxes == "drop":
                continue
            raise DataError(_no_pixel(f"{title} ({name})", element, drawn_on))
        n_clipped += not np.array_equal(box, inside)
        boxes.append(turn_box(inside, orientation, stored) if stored else inside)
        names.append(name)
        difficult.append(_is_true(element.findtext("difficult")))
        numbers.append(number)
    return Annotation(
        boxes=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        names=tuple(names),
        difficult=np.array(difficult, dtype=np.bool_),
        numbers=tuple(numbers),
        n_clipped=n_clipped,
        n_dropped=len(elements) - len(names),
    )


def _class_name(element: Element, title: str) -> str:
    name = (element.findtext("name") or "").strip()
    if not name:
        raise DataError(f"{title} has no name. Name its class or remove it.")
    return name


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
        tag = None if root is None else root.tag
        raise DataError(f"{path} must hold an <annotation>, got <{tag}>. Replace it.")
    return root


def _number(text: str | None) -> float:
    """The number that a text spells, NaN for none: 20 and 20.0 are the same number."""
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _is_true(text: str | None) -> bool:
    return (text or "").strip().lower() in {"true", "yes"} or _number(text) == 1


def _stored_size(
    path: Path, root: Element, size: tuple[int, int], orientation: int
) -> tuple[int, int] | None:
    """Size of the stored pixels if the boxes were drawn on those; None if on the upright image.

    Raises:
        DataError: The annotation is for an image of another size.
    """
    texts = [(root.findtext(f"size/{side}") or "0").strip() for side in ("width", "height")]
    declared = list(map(_number, texts))
    if declared in ([0, 0], list(size)):
        return None
    if swaps_sides(orientation) and declared == list(size[::-1]):
        return size[1], size[0]
    raise DataError(
        f"{path} is for an image of {texts[0]}x{texts[1]} pixels, the image has "
        f"{size[0]}x{size[1]}. Annotate the image as viewers show it."
    )


def _box(element: Element, title: str) -> NDArray[np.float64]:
    """Left, top, right, bottom, float64 (4,), counted from 0."""
    texts = [element.findtext(f"bndbox/{corner}") for corner in _CORNERS]
    values = list(map(_number, texts))
    if not all(map(math.isfinite, values)):
        corners = ", ".join(f"{name} {text}" for name, text in zip(_CORNERS, texts, strict=True))
        raise DataError(f"{title} needs a box of four numbers, got {corners}. Mend or remove it.")
    return np.array(values) - [1, 1, 0, 0]


def _no_pixel(title: str, element: Element, size: tuple[int, int]) -> str:
    box = ", ".join(f"{name} {element.findtext(f'bndbox/{name}')}" for name in _CORNERS)
    return (
        f"{title} has no pixel of the image of {size[0]}x{size[1]}: {box}. Mend or remove it, or "
        "pass --bad_boxes drop to leave such objects out."
    )


# ---------------------------------------------------------------- lists


def find_root(path: str) -> Path:
    """The folder that holds JPEGImages and Annotations.

    Args:
        path: that folder or one above it, ``~`` allowed.

    Raises:
        DataError: No such folder, or several.
    """
    root = Path(path).expanduser().absolute()
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. {_LAYOUT}")
    around = [root, *sorted(root.glob("VOC2*")), *sorted(root.glob("VOCdevkit/VOC2*"))]
    datasets = [p for p in around if (p / "JPEGImages").is_dir() and (p / "Annotations").is_dir()]
    if not datasets:
        raise DataError(f"{root} is not in VOC layout. {_LAYOUT}")
    if len(datasets) > 1:
        names = ", ".join(map(str, datasets))
        raise DataError(f"{root} holds several datasets: {names}. Name one of them.")
    return datasets[0]


def list_names(root: Path, settings: VocSettings) -> tuple[list[str], list[str]]:
    """Names of the training and of the evaluated images.

    Raises:
        DataError: A missing or damaged list, lists that share images, or too few images.
        ParameterError: A list that has to be named.
    """
    folder = root / "ImageSets" / "Main"
    chosen = _choose_pair(folder, (settings.train_set, settings.test_set))
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


def _choose_pair(folder: Path, names: tuple[str, str]) -> tuple[str, str] | None:
    """Names of the two lists, or None to split all images by seed."""
    if AUTO not in names:
        return names
    present = {path.stem for path in folder.glob("*.txt") if is_visible(path.name)}
    for pair in _PAIRS:
        fits = all(name in {AUTO, usual} for name, usual in zip(names, pair, strict=True))
        if fits and present.issuperset(pair):
            return pair
    if names == (AUTO, AUTO):
        return None
    missing, named = ("test_set", names[0]) if names[1] == AUTO else ("train_set", names[1])
    raise ParameterError(
        missing,
        f"must be the name of a list in {folder}, as there is no usual one beside {named}",
        AUTO,
        f"Lists there: {', '.join(sorted(present)) or 'none'}.",
    )


def _read_list(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
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
    files = (root / "Annotations").glob("*.xml")
    names = np.array(sorted(path.stem for path in files if is_visible(path.name)))
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


def choose(names: list[str], settings: VocSettings, argument: str) -> list[str]:
    """A subset of the names by seed; all of them where the setting `argument` is 0.

    Raises:
        ParameterError: There are not so many.
    """
    total = getattr(settings, argument)
    check_total(total, len(names), argument)
    if not total:
        return names
    chosen = _pick(np.array(names), total, settings.split_seed)
    return [names[position] for position in chosen]


def find_image(root: Path, name: str) -> Path:
    """The image file of a name.

    Raises:
        DataError: There is none.
    """
    for suffix in (".jpg", *SUFFIXES):
        for spelling in (suffix, suffix.upper()):
            path = root / "JPEGImages" / f"{name}{spelling}"
            if path.is_file():
                return path
    raise DataError(
        f"{root / 'JPEGImages'} has no image {name} ({', '.join(SUFFIXES)}). Add it, or take its "
        "name out of the list."
    )
