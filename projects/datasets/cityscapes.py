"""Cityscapes as torchvision reads it: ``leftImg8bit/`` beside ``gtFine/``, 19 classes and void.

The files named ``*_labelIds.png`` count; the ids that the benchmark leaves out of evaluation
(train id 255 or −1) are void.
"""

from pathlib import Path

import numpy as np
from torchvision.datasets import Cityscapes

from actiontrack.errors import DataError
from projects.datasets.masks import MaskPair, MaskSettings, MaskSplit, Table, choose, read_pairs
from projects.datasets.split import SplitName

__all__ = ["open_cityscapes"]

_VOID_TRAIN_IDS = (-1, 255)


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
    found: list[MaskSplit] = []
    parts: tuple[tuple[SplitName, str, str], ...] = (
        ("train", "train", "subset"),
        ("test", "val", "test_subset"),
    )
    for split, folder, argument in parts:
        pairs = choose(
            _pairs(root, folder), getattr(settings, argument), argument, settings.split_seed
        )
        found.append(read_pairs(pairs, table, size=size, name="cityscapes", split=split, root=root))
    return found[0], found[1]


def _pairs(root: Path, folder: str) -> list[MaskPair]:
    try:
        listed = Cityscapes(str(root), split=folder, mode="fine", target_type="semantic")
    except (RuntimeError, OSError) as error:
        raise DataError(
            f"{root} is not Cityscapes: {str(error).splitlines()[0].rstrip('.')}. It must hold "
            f"leftImg8bit/{folder}/CITY/*.png and gtFine/{folder}/CITY/*_labelIds.png."
        ) from error
    pairs = [
        MaskPair(Path(image).relative_to(root).as_posix(), Path(image), Path(targets[0]))
        for image, targets in zip(listed.images, listed.targets, strict=True)
    ]
    if not pairs:
        raise DataError(f"{root / 'leftImg8bit' / folder} has no images. Unpack Cityscapes there.")
    missing = [each.mask for each in pairs if not each.mask.is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(pairs)} images of {folder} have no mask, the first would be "
            f"{missing[0]}. Unpack gtFine there."
        )
    return sorted(pairs, key=lambda each: each.sample_id)


def _table() -> Table:
    trained = sorted(
        (each for each in Cityscapes.classes if each.train_id not in _VOID_TRAIN_IDS),
        key=lambda each: each.train_id,
    )
    classes = np.full(256, -1, dtype=np.int16)
    for each in Cityscapes.classes:
        void = each.train_id in _VOID_TRAIN_IDS
        classes[each.id] = len(trained) if void else each.train_id  # id −1 is stored as 255
    return Table(classes, tuple(each.name for each in trained), has_void=True)
