"""A user's own images: one folder per class.

Either ``PATH/train/CLASS/*`` beside ``PATH/test/CLASS/*`` (or ``val`` where there is no
``test``), or ``PATH/CLASS/*`` with a split by seed. Folders inside a class are searched too. Hidden
files, see `projects.datasets.files`, and files that are not images are skipped.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from actiontrack.errors import DataError
from projects.datasets.decode import decode_files
from projects.datasets.files import SUFFIXES, is_image, is_visible, visible_files
from projects.datasets.split import Source, SplitName
from projects.datasets.stratify import allocate, pick_per_class

__all__ = ["open_folder"]

LAYOUT = "Lay images out as PATH/CLASS/*.png or as PATH/train/CLASS/*.png and PATH/test/CLASS/*.png"
Listed = list[tuple[str, str]]  # class, path relative to the root with "/"


def _class_folders(folder: Path) -> list[Path]:
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and is_visible(path.name))
    if not folders:
        raise DataError(f"{folder} has no class folders. {LAYOUT}.")
    return folders


def _list_class(root: Path, folder: Path) -> Listed:
    images = filter(is_image, visible_files(folder))
    names = sorted(path.relative_to(root).as_posix() for path in images)
    if not names:
        raise DataError(f"{folder} has no images ({', '.join(SUFFIXES)}). Fill or remove it.")
    return [(folder.name, name) for name in names]


def _list_split(root: Path, folder: Path) -> Listed:
    return [pair for path in _class_folders(folder) for pair in _list_class(root, path)]


def _test_folder(root: Path) -> Path:
    for name in ("test", "val"):
        if (root / name).is_dir():
            return root / name
    remedy = f"Add one, or pass --dataset folder:{root / 'train'} to split that by seed."
    raise DataError(f"{root} has train/ but neither test/ nor val/. {remedy}")


def _classes(listed: Listed) -> tuple[str, ...]:
    return tuple(sorted({name for name, _ in listed}))


def _check_same_classes(root: Path, train: Listed, test: Listed) -> None:
    differ = sorted(set(_classes(train)) ^ set(_classes(test)))
    if differ:
        raise DataError(
            f"{root}: both splits must have the same classes, but only one has "
            f"{', '.join(differ)}. Add or remove these folders."
        )


def _split_by_seed(root: Path, listed: Listed, fraction: float, seed: int) -> tuple[Listed, Listed]:
    """Put `fraction` of each class into test; at least one image of each class on each side."""
    names, labels, counts = np.unique(
        [c for c, _ in listed], return_inverse=True, return_counts=True
    )
    if counts.min() == 1:
        lone = names[counts.argmin()]
        remedy = "Add more: a split needs one for training and one for testing."
        raise DataError(f"{root / str(lone)} has a single image. {remedy}")
    quota = np.clip(allocate(counts, round(fraction * len(listed))), 1, counts - 1)
    ids = np.array([path for _, path in listed])
    test = set(pick_per_class(ids, labels, quota=quota, seed=seed).tolist())
    return (
        [pair for i, pair in enumerate(listed) if i not in test],
        [pair for i, pair in enumerate(listed) if i in test],
    )


def _list_both(root: Path, fraction: float, seed: int) -> tuple[Listed, Listed]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder. {LAYOUT}.")
    if not (root / "train").is_dir():
        return _split_by_seed(root, _list_split(root, root), fraction, seed)
    train, test = _list_split(root, root / "train"), _list_split(root, _test_folder(root))
    _check_same_classes(root, train, test)
    return train, test


def _source(root: Path, listed: Listed, split: SplitName, image_size: int) -> Source:
    classes = _classes(listed)
    ids = np.array([path for _, path in listed])

    def read(picked: NDArray[np.int64]) -> Tensor:
        files = [root / str(path) for path in ids[picked]]
        return decode_files(files, image_size=image_size, title=f"{root.name} {split}")

    return Source(
        ids=ids,
        labels=np.array([classes.index(name) for name, _ in listed], dtype=np.int64),
        class_names=classes,
        name=root.name,
        split=split,
        read=read,
        root=str(root),
    )


def open_folder(
    path: str, *, test_fraction: float, split_seed: int, image_size: int
) -> tuple[Source, Source]:
    """List the images of a folder. They are decoded later, when they are read.

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
