"""MNIST, FashionMNIST, KMNIST and CIFAR-10 through torchvision's downloaders."""

import sys
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision import datasets

from actiontrack.errors import DataError
from projects.datasets.split import Source, SplitName

__all__ = ["BUILTIN", "open_builtin"]

BUILTIN = {
    "mnist": datasets.MNIST,
    "fashion_mnist": datasets.FashionMNIST,
    "kmnist": datasets.KMNIST,
    "cifar10": datasets.CIFAR10,
}
MEGABYTES = {"mnist": 12, "fashion_mnist": 31, "kmnist": 21, "cifar10": 170}  # to download
# What torchvision raises for no network, a wrong checksum, a full disk or a damaged file.
FAILURES = (
    *(RuntimeError, OSError, EOFError, ValueError, TypeError, AssertionError),
    HTTPException,
)


def _files(name: str) -> tuple[str, list[str]]:
    """The folder under data_dir, and the names of the files in it."""
    kind: Any = BUILTIN[name]
    if name == "cifar10":
        return "", [kind.filename]
    return f"{kind.__name__}/raw", [file for file, _ in kind.resources]


def _by_hand(name: str, root: Path, error: Exception) -> DataError:
    folder, files = _files(name)
    reason = str(error).strip().splitlines() or [type(error).__name__]  # the cause comes last
    return DataError(
        f"{name} is not in the data_dir {root} and could not be downloaded ({reason[-1]}). "
        f"Without a network place {', '.join(files)} in {root / folder}, or pass --data_dir "
        "with the folder that has them."
    )


def _announce(name: str, root: Path) -> None:
    """Say on stderr what takes a while; torchvision's own bars follow, one per file."""
    folder, files = _files(name)
    if all((root / folder / file).is_file() for file in files):
        print(f"unpacking {name} in {root}", file=sys.stderr, flush=True)
    else:
        size = f"about {MEGABYTES[name]} MB"
        print(f"downloading {name} ({size}) to {root}", file=sys.stderr, flush=True)


def _read_or_download(name: str, root: Path, *, train: bool) -> Any:  # torchvision is untyped
    try:
        return BUILTIN[name](root, train=train, download=False)
    except RuntimeError:  # not there
        _announce(name, root)
        return BUILTIN[name](root, train=train, download=True)


def _fetch(name: str, root: Path, *, train: bool) -> Any:
    try:
        root.mkdir(parents=True, exist_ok=True)
        return _read_or_download(name, root, train=train)
    except FAILURES as error:
        raise _by_hand(name, root, error) from error


def _pixels(data: Any) -> Tensor:  # a tensor or an array, by dataset
    """Bring (N, H, W) or (N, H, W, C) to uint8 (N, C, H, W)."""
    images = torch.as_tensor(data, dtype=torch.uint8)
    return images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2).contiguous()


def _open(name: str, root: Path, split: SplitName) -> Source:
    stored = _fetch(name, root, train=split == "train")
    images = _pixels(stored.data)
    return Source(
        ids=np.arange(len(images), dtype=np.int64),
        labels=np.asarray(stored.targets, dtype=np.int64),
        # MNIST's names are "0 - zero" and so on
        class_names=tuple(text.split(" - ")[0] for text in stored.classes),
        name=name,
        split=split,
        read=lambda picked: images[picked],
    )


def open_builtin(name: str, root: Path) -> tuple[Source, Source]:
    """Open a torchvision dataset, downloading it where it is missing.

    Args:
        name: A key of `BUILTIN`.
        root: Folder for downloads; made if needed.

    Returns:
        Train and test in the official order; the ids are the index in it.

    Raises:
        DataError: The files are missing or damaged and could not be downloaded; the message
            names them and the folder to place them in.
    """
    return _open(name, root, "train"), _open(name, root, "test")
