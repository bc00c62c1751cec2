"""Cityscapes as torchvision reads it: ``leftImg8bit/`` beside ``gtFine/``, 19 classes and void.

The files named ``*_labelIds.png`` count; the ids that the benchmark leaves out of evaluation
(train id 255 or −1) are void.
"""

from pathlib import Path

import numpy as np
from torchvision.datasets import Cityscapes

from actiontrack.errors import DataError
from projects.datasets.files import visible_files
from projects.datasets.masks import MaskPair, MaskSettings, MaskSplit, Table, choose, read_pairs
from projects.datasets.split import SplitName

__all__ = ["open_cityscapes"]

_VOID_TRAIN_IDS = (-1, 255)
_IMAGE, _MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"


def open_cityscapes(settings: MaskSettings) -> tuple[MaskSplit, MaskSplit]:
    """Read the training split, and the validation split as the evaluated one.

    Args:
        settings: `images` is the root; masks, class names and void id are Cityscapes' own.

    Raises:
        DataError: a missing folder or file, a damaged file, or an id that Cityscapes does not know.
        ParameterError: a subset larger than its split.
    """
    root = Path(settings.images).expanduser().absolute()
    table = _table()
    size = (settings.height, settings.width)
    splits: list[MaskSplit] = []
    parts: tuple[tuple[SplitName, str, str], ...] = (
        ("train", "train", "subset"),
        ("test", "val", "test_subset"),
    )
    for split, folder, argument in parts:
        pairs = choose(
            _pairs(root, folder), getattr(settings, argument), argument, settings.split_seed
        )
        splits.append(
            read_pairs(pairs, table, size=size, name="cityscapes", split=split, root=root)
        )
    return splits[0], splits[1]


def _pairs(root: Path, folder: str) -> list[MaskPair]:
    images, masks = root / "leftImg8bit" / folder, root / "gtFine" / folder
    if not images.is_dir() or not masks.is_dir():
        _unpack(root, folder)
    files = [path for path in visible_files(images) if path.name.endswith(_IMAGE)]
    pairs = [
        MaskPair(
            path.relative_to(root).as_posix(),
            path,
            masks / path.parent.name / f"{path.name.removesuffix(_IMAGE)}{_MASK}",
        )
        for path in files
    ]
    if not pairs:
        raise DataError(f"{images} has no images. Unpack Cityscapes there.")
    missing = [pair.mask for pair in pairs if not pair.mask.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(pairs)} images of {folder} have no mask, the first would be "
            f"{missing[0]}. Unpack gtFine there."
        )
    return sorted(pairs, key=lambda pair: pair.sample_id)


def _unpack(root: Path, folder: str) -> None:
    """Let torchvision unpack the archives that Cityscapes is published as."""
    try:
        Cityscapes(str(root), split=folder, mode="fine", target_type="semantic")
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{root} is not Cityscapes: {str(error).splitlines()[0].rstrip('.')}. It must hold "
            f"leftImg8bit/{folder}/CITY/*.png and gtFine/{folder}/CITY/*_labelIds.png."
        ) from error


def _table() -> Table:
    trained = sorted(
        (label for label in Cityscapes.classes if label.train_id not in _VOID_TRAIN_IDS),
        key=lambda label: label.train_id,
    )
    classes = np.full(256, -1, dtype=np.int16)
    for label in Cityscapes.classes:
        void = label.train_id in _VOID_TRAIN_IDS
        classes[label.id] = len(trained) if void else label.train_id  # id −1 is stored as 255
    return Table(classes, tuple(label.name for label in trained), has_void=True)
