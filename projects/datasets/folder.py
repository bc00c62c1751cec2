"""A user's own images: one folder per class.

Either ``PATH/train/CLASS/*`` beside ``PATH/test/CLASS/*`` (or ``val`` where there is no
``test``), or ``PATH/CLASS/*`` with a split by seed. Folders inside a class are searched too;
names that begin with a dot and files that are not images are passed over.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from actiontrack.errors import DataError
from projects.datasets.decode import decode_files
from projects.datasets.split import Source, SplitName
from projects.datasets.stratify import allocate, pick_per_class

__all__ = ["SUFFIXES", "open_folder"]

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
LAYOUT = "Lay images out as PATH/CLASS/*.png or as PATH/train/CLASS/*.png and PATH/test/CLASS/*.png"
Found = list[tuple[str, str]]  # class, path relative to the root with "/"


def _class_folders(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not found:
        raise DataError(f"{folder} has no class folders. {LAYOUT}.")
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES):
                yield Path(parent, name)


def _list_class(root: Path, folder: Path) -> Found:
    names = sorted(path.relative_to(root).as_posix() for path in _walk(folder))
    if not names:
        raise DataError(f"{folder} has no images ({', '.join(SUFFIXES)}). Fill or remove it.")
    return [(folder.name, name) for name in names]


def _list_split(root: Path, folder: Path) -> Found:
    return [pair for c in _class_folders(folder) for pair in _list_class(root, c)]


def _test_folder(root: Path) -> Path:
    for name in ("test", "val"):
        if (root / name).is_dir():
            return root / name
    remedy = f"Add one, or pass --dataset folder:{root / 'train'} to split that by seed."
    raise DataError(f"{root} has train/ but neither test/ nor val/. {remedy}")


def _classes(found: Found) -> tuple[str, ...]:
    return tuple(sorted({name for name, _ in found}))


def _check_same_classes(root: Path, train: Found, test: Found) -> None:
    differ = sorted(set(_classes(train)) ^ set(_classes(test)))
    if differ:
        raise DataError(
            f"{root}: both splits must have the same classes, but only one has "
            f"{', '.join(differ)}. Add or remove these folders."
        )


def _split_by_seed(root: Path, found: Found, fraction: float, seed: int) -> tuple[Found, Found]:
    """Put `fraction` of each class into test; at least one image of each class on each side."""
    names, labels, counts = np.unique(
        [c for c, _ in found], return_inverse=True, return_counts=True
    )
    if counts.min() == 1:
        lone = names[counts.argmin()]
        remedy = "Add more: a split needs one for training and one for testing."
        raise DataError(f"{root / str(lone)} has a single image. {remedy}")
    quota = np.clip(allocate(counts, round(fraction * len(found))), 1, counts - 1)
    ids = np.array([path for _, path in found])
    test = set(pick_per_class(ids, labels, quota=quota, seed=seed).tolist())
    return (
        [pair for i, pair in enumerate(found) if i not in test],
        [pair for i, pair in enumerate(found) if i in test],
    )


def _list_both(root: Path, fraction: float, seed: int) -> tuple[Found, Found]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. {LAYOUT}.")
    if not (root / "train").is_dir():
        return _split_by_seed(root, _list_split(root, root), fraction, seed)
    train, test = _list_split(root, root / "train"), _list_split(root, _test_folder(root))
    _check_same_classes(root, train, test)
    return train, test


def _source(root: Path, found: Found, split: SplitName, image_size: int) -> Source:
    classes = _classes(found)
    ids = np.array([path for _, path in found])

    def read(picked: NDArray[np.int64]) -> Tensor:
        files = [root / str(path) for path in ids[picked]]
        return decode_files(files, image_size=image_size, title=f"{root.name} {split}")

    return Source(
        ids=ids,
        labels=np.array([classes.index(name) for name, _ in found], dtype=np.int64),
        class_names=classes,
        name=root.name,
        split=split,
        read=read,
        root=str(root),
    )


def open_folder(
    path: str, *, test_fraction: float, split_seed: int, image_size: int
) -> tuple[Source, Source]:
    """List the images of a folder; they are decoded when they are read.

    Args:
        path: The folder, ``~`` allowed.
        test_fraction: Part of the images for testing where there is no ``train`` folder.
        split_seed: Seed of that split.
        image_size: Side of the square to resize and crop to; 0 keeps the stored size, which
            must then be one.

    Returns:
        Train and test; the ids are paths relative to the folder, e.g. ``test/frog/02405.jpg``;
        classes in the order of their names.

    Raises:
        DataError: A missing folder, no or different classes, a class without images; later, when
            reading, a damaged image or sizes that differ.
    """
    root = Path(path).expanduser().absolute()
    train, test = _list_both(root, test_fraction, split_seed)
    return _source(root, train, "train", image_size), _source(root, test, "test", image_size)
