"""Photographs with a class for every pixel: a folder of images and a folder of masks.

::

    IMAGES/train/**/NAME.jpg    MASKS/train/**/NAME.png
    IMAGES/val/**/NAME.jpg      MASKS/val/**/NAME.png     (or test/)

or flat, ``IMAGES/**/NAME.jpg`` beside ``MASKS/**/NAME.png``, with a split by seed. An image and its
mask have the same path but for the ending. Masks that belong to no image are skipped, and so are
hidden files, see `projects.datasets.files`.

A mask holds class ids as grey levels or palette indices; a colour mask is refused. Images that are
grey or have a palette become RGB. Photographs are turned as their Exif orientation says; a mask
that was drawn on the stored pixels, so that its sides are swapped, is turned along. In memory the
classes are 0 … K − 1, and the pixels without a class, the *void*, have K.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from actiontrack.errors import DataError
from actiontrack.record.digest import INPUT_DIGEST_LENGTH, digest_input, digest_inputs
from projects.datasets.decode import (
    FAILURES,
    decode_photograph,
    in_threads,
    swaps_sides,
    turn_pixels,
    upright,
)
from projects.datasets.files import SUFFIXES, is_image, visible_files
from projects.datasets.split import Ids, SplitName
from projects.datasets.stratify import check_total, pick_per_class

__all__ = ["MaskPair", "MaskSettings", "MaskSplit", "Table", "choose", "open_masks", "read_pairs"]

VOID = "void"
_MAX_ID = 255
_MASK_MODES = ("L", "P", "1", "I", "I;16")


@dataclass(frozen=True, kw_only=True)
class MaskSettings:
    """What to read.

    Attributes:
        images: folder of the images, ``~`` allowed.
        masks: folder of the masks.
        class_names: name of each class id from 0; empty for the numbers that the masks hold.
        void_id: id of the pixels without a class, −1 for none.
        height: images and masks are resized to it; 0 keeps the stored size.
        width: likewise.
        subset: training images to use; 0 for all.
        test_subset: evaluated images to use; 0 for all.
        test_fraction: of the images, for folders without train/.
        split_seed: which images: that split and the subsets.
    """

    images: str
    masks: str
    class_names: tuple[str, ...] = ()
    void_id: int = -1
    height: int = 0
    width: int = 0
    subset: int = 0
    test_subset: int = 0
    test_fraction: float = 0.2
    split_seed: int = 0


@dataclass(frozen=True)
class MaskPair:
    """An image and its mask.

    Attributes:
        sample_id: path of the image relative to the dataset's root, with ``/``.
        image: file of the image.
        mask: file of the mask.
    """

    sample_id: str
    image: Path
    mask: Path


@dataclass(frozen=True, eq=False)
class Table:
    """What the ids in a mask mean.

    Attributes:
        classes: int16 (256,), class of each id, `n_classes` for void, −1 for an id without meaning.
        names: name of each class.
        has_void: whether an id stands for void.
    """

    classes: NDArray[np.int16]
    names: tuple[str, ...]
    has_void: bool

    @classmethod
    def plain(cls, names: tuple[str, ...], void_id: int) -> "Table":
        """Ids from 0 are the classes in order, and one id is void."""
        classes = np.full(_MAX_ID + 1, -1, dtype=np.int16)
        classes[: len(names)] = np.arange(len(names))
        if void_id >= 0:
            classes[void_id] = len(names)
        return cls(classes, names, void_id >= 0)

    def apply(self, ids: NDArray[np.uint8], path: Path) -> NDArray[np.uint8]:
        """Class of each pixel, uint8 (H, W).

        Raises:
            DataError: names the file and the ids that mean nothing.
        """
        classes = self.classes[ids]
        if classes.min() < 0:
            unknown = sorted(set(ids[classes < 0].tolist()))
            raise DataError(
                f"{path} holds the class ids {', '.join(map(str, unknown))}, but there are "
                f"{len(self.names)} classes, 0 to {len(self.names) - 1}. Name more classes with "
                "--classes, or the id of pixels without a class with --void_id."
            )
        return classes.astype(np.uint8)


@dataclass(frozen=True, kw_only=True, eq=False)
class MaskSplit:
    """Images of one split in memory, with the class of every pixel.

    Attributes:
        images: uint8 (N, 3, H, W).
        targets: uint8 (N, H, W), 0 … n_classes − 1, and n_classes for void.
        ids: str (N,), paths of the images.
        class_names: name of each class; the last is "void" where the masks have some.
        n_classes: number of classes, void not counted.
        name: name of the dataset.
        split: ``train`` or ``test``.
        root: folder of the image files.
    """

    images: Tensor
    targets: Tensor
    ids: Ids
    class_names: tuple[str, ...]
    n_classes: int
    name: str
    split: SplitName
    root: str

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of the images relative to `root`: the ids."""
        return tuple(map(str, self.ids))

    @property
    def has_void(self) -> bool:
        """Whether a pixel may have no class."""
        return len(self.class_names) > self.n_classes

    @cached_property
    def input_digests(self) -> list[str]:
        """Digest of each image with its mask, at the size in memory."""
        pairs = zip(self.images.numpy(), self.targets.numpy(), strict=True)
        return [
            digest_inputs((digest_input(image), digest_input(mask)))[:INPUT_DIGEST_LENGTH]
            for image, mask in pairs
        ]


def open_masks(settings: MaskSettings) -> tuple[MaskSplit, MaskSplit]:
    """Read images and masks of both splits.

    Raises:
        DataError: a missing folder, no images, images without a mask, a damaged file, sizes that
            differ, a colour mask or an id that is no class; the message names the file.
        ParameterError: a subset larger than its split.
    """
    root, masks = (
        Path(folder).expanduser().absolute() for folder in (settings.images, settings.masks)
    )
    for folder, argument in ((root, "IMAGES"), (masks, "MASKS")):
        if not folder.is_dir():
            raise DataError(
                f"{folder} is not a folder. Pass --dataset masks:IMAGES,MASKS with the folder of "
                f"the images and that of the masks; {argument} is missing."
            )
    train, test = _list_both(root, masks, settings)
    train = choose(train, settings.subset, "subset", settings.split_seed)
    test = choose(test, settings.test_subset, "test_subset", settings.split_seed)
    names = settings.class_names or _numbered(train, settings.void_id)
    table = Table.plain(names, settings.void_id)
    size = (settings.height, settings.width)
    return (
        read_pairs(train, table, size=size, name=root.name, split="train", root=root),
        read_pairs(test, table, size=size, name=root.name, split="test", root=root),
    )


def choose(pairs: Sequence[MaskPair], total: int, argument: str, seed: int) -> list[MaskPair]:
    """Choose a subset by seed and ids; a total of 0 keeps all pairs.

    Raises:
        ParameterError: if there are not so many.
    """
    check_total(total, len(pairs), argument)
    return _picked(pairs, total, seed)[0] if total else list(pairs)


def read_pairs(
    pairs: Sequence[MaskPair],
    table: Table,
    *,
    size: tuple[int, int],
    name: str,
    split: SplitName,
    root: Path,
) -> MaskSplit:
    """Decode the images and masks of a split.

    Args:
        pairs: one at least.
        table: what the ids in the masks mean.
        size: height and width to resize to, the images bilinearly, the masks to the nearest
            pixel; 0 keeps the stored size.
        name: of the dataset.
        split: which one.
        root: folder of the image files.

    Raises:
        DataError: see `open_masks`.
    """

    def read(pair: MaskPair) -> tuple[Tensor, Tensor]:
        return _resized(*_read_pair(pair, table), size)

    decoded = in_threads(read, pairs, title=f"{name} {split}")
    _check_one_size([image for image, _ in decoded], pairs)
    return MaskSplit(
        images=torch.stack([image for image, _ in decoded]),
        targets=torch.stack([mask for _, mask in decoded]),
        ids=np.array([pair.sample_id for pair in pairs]),
        class_names=(*table.names, VOID) if table.has_void else table.names,
        n_classes=len(table.names),
        name=name,
        split=split,
        root=str(root),
    )


def _read_pair(pair: MaskPair, table: Table) -> tuple[Tensor, Tensor]:
    """An image, uint8 (3, H, W), and its mask of classes, uint8 (H, W)."""
    pixels, orientation = decode_photograph(pair.image)
    image, ids = pixels.expand(3, -1, -1), _read_ids(pair.mask)
    height, width = image.shape[1:]
    if swaps_sides(orientation) and ids.shape == (width, height) != (height, width):
        ids = turn_pixels(ids, orientation)  # the mask was drawn on the stored pixels
    if ids.shape != (height, width):
        raise DataError(
            f"{pair.mask} is {ids.shape[1]}x{ids.shape[0]}, but its image {pair.image} is "
            f"{width}x{height}. Export the mask at the size of its image."
        )
    return image, torch.from_numpy(table.apply(ids, pair.mask))


def _read_ids(path: Path) -> NDArray[np.uint8]:
    """Ids of a mask, uint8 (H, W)."""
    try:
        with Image.open(path) as image:
            mode = image.mode
            ids = np.array(upright(image))
    except FAILURES as error:
        raise DataError(f"{path} can't be decoded ({error}). Replace or remove it.") from error
    if mode not in _MASK_MODES or ids.ndim != 2:
        raise DataError(
            f"{path} is a colour image ({mode}): a mask holds class ids as grey levels or palette "
            "indices. Convert its colours to ids."
        )
    if ids.size and int(ids.max()) > _MAX_ID:
        raise DataError(
            f"{path} holds the class id {int(ids.max())}: ids go up to {_MAX_ID}. Convert them."
        )
    return ids.astype(np.uint8)


def _resized(image: Tensor, mask: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    sides = [side or stored for side, stored in zip(size, mask.shape, strict=True)]
    if sides == list(mask.shape):
        return image, mask
    nearest = InterpolationMode.NEAREST_EXACT
    return (
        functional.resize(image, sides, antialias=True),
        functional.resize(mask[None], sides, interpolation=nearest)[0],
    )


def _check_one_size(images: Sequence[Tensor], pairs: Sequence[MaskPair]) -> None:
    for image, pair in zip(images, pairs, strict=True):
        if image.shape != images[0].shape:
            (h, w), (h1, w1) = image.shape[1:], images[0].shape[1:]
            raise DataError(
                f"images must have one size: {pair.image} is {w}x{h} and {pairs[0].image} is "
                f"{w1}x{h1}. Pass --height {min(h, h1)} --width {min(w, w1)} to resize them."
            )


def _list_both(
    root: Path, masks: Path, settings: MaskSettings
) -> tuple[list[MaskPair], list[MaskPair]]:
    if not (root / "train").is_dir():
        pairs = _pairs(root, root, masks)
        n_test = min(max(1, round(settings.test_fraction * len(pairs))), len(pairs) - 1)
        if not n_test:
            raise DataError(f"{root} has a single image. Add more: a split needs two.")
        test, train = _picked(pairs, n_test, settings.split_seed)
        return train, test
    held_out = next((name for name in ("test", "val") if (root / name).is_dir()), None)
    if held_out is None:
        raise DataError(
            f"{root} has train/ but neither test/ nor val/. Add one, or pass --dataset "
            f"masks:{root / 'train'},{masks / 'train'} to split that by seed."
        )
    return _pairs(root, root / "train", masks), _pairs(root, root / held_out, masks)


def _pairs(root: Path, folder: Path, masks: Path) -> list[MaskPair]:
    files = sorted(filter(is_image, visible_files(folder)))
    if not files:
        raise DataError(f"{folder} has no images ({', '.join(SUFFIXES)}). Fill it.")
    pairs, missing = [], []
    for file in files:
        stem = file.relative_to(root).with_suffix("")
        candidates = [masks / stem.with_name(stem.name + ending) for ending in SUFFIXES]
        mask = next((path for path in candidates if path.is_file()), None)
        if mask is None:
            missing.append(candidates[0])
        else:
            pairs.append(MaskPair(file.relative_to(root).as_posix(), file, mask))
    if missing:
        raise DataError(
            f"{len(missing)} of {len(files)} images in {folder} have no mask, the first would be "
            f"{missing[0]}. Add the masks, or remove the images."
        )
    return pairs


def _picked(
    pairs: Sequence[MaskPair], total: int, seed: int
) -> tuple[list[MaskPair], list[MaskPair]]:
    """Some pairs, chosen by a hash of seed and id, and the rest."""
    ids = np.array([pair.sample_id for pair in pairs])
    one_class = np.zeros(len(ids), dtype=np.int64)
    chosen = set(pick_per_class(ids, one_class, quota=np.array([total]), seed=seed).tolist())
    return (
        [pair for row, pair in enumerate(pairs) if row in chosen],
        [pair for row, pair in enumerate(pairs) if row not in chosen],
    )


def _numbered(pairs: Sequence[MaskPair], void_id: int) -> tuple[str, ...]:
    """Classes from 0 to the greatest id in the masks, named by their numbers."""
    ids: set[int] = set()
    for pair in pairs:
        ids |= set(np.unique(_read_ids(pair.mask)).tolist())
    ids.discard(void_id)
    if not ids:
        raise DataError(f"{pairs[0].mask} and the other masks hold void only: there is no class.")
    return tuple(map(str, range(max(ids) + 1)))
