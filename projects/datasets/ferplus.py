"""FERPlus: the faces of FER2013 with the votes of ten annotators each (Barsoum et al. 2016).

Two files, row by row in the same order: Kaggle's ``fer2013.csv`` has the pixels and Microsoft's
``fer2013new.csv`` the votes for eight emotions, *unknown* and *NF* (not a face). The labels
follow the rules of Microsoft's reference reader (github.com/microsoft/FERPlus, src/ferplus.py):

* rows without an image name, which all ten call not a face, are dropped;
* a single vote is an outlier and is not counted, nor does it count in the totals below;
* ``majority``: the class with more than half of all votes; a row without one is dropped;
* ``probability``: the classes are taken from the most votes on, until they hold three quarters
  of all votes, until there are three of them, or as far as *unknown* or *NF*; equal counts come
  together. A row is dropped if that is half of the votes or less, or more than three emotions.
  The target is the share of each emotion in what was taken.

A row whose class is *unknown* or *NF* is dropped. Training images are those of Usage Training,
test images those of PrivateTest. PublicTest, the validation set of both publications, is left out.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from actiontrack.errors import DataError
from projects.datasets.split import Source, SplitName

__all__ = ["EMOTIONS", "LabelMode", "majority_shares", "open_ferplus", "probability_shares"]

LabelMode = Literal["majority", "probability"]
Votes = NDArray[np.int64]

EMOTIONS = (
    *("neutral", "happiness", "surprise", "sadness"),
    *("anger", "disgust", "fear", "contempt"),
)
VOTED = [*EMOTIONS, "unknown", "NF"]
SIDE = 48
IMAGES = "fer2013.csv"
VOTES = "fer2013new.csv"
KAGGLE = (
    "kaggle.com/c/challenges-in-representation-learning-facial-expression-recognition-challenge"
)
USAGES = ("Training", "PublicTest", "PrivateTest")


def _without_outliers(votes: Votes) -> Votes:
    return votes * (votes > 1)


def majority_shares(votes: Votes) -> NDArray[np.float32]:
    """Give each row the emotion that more than half of its votes name.

    Args:
        votes: int64 (N, 10), in the order of `EMOTIONS`, then unknown and not a face.

    Returns:
        float32 (N, 8): one 1 a row, or none in a row that has no such emotion.
    """
    counted = _without_outliers(votes)
    majority = 2 * counted > counted.sum(1, keepdims=True)
    return np.asarray(majority[:, : len(EMOTIONS)], dtype=np.float32)


def probability_shares(votes: Votes) -> NDArray[np.float32]:
    """Turn each row's votes into a distribution over the emotions.

    Args:
        votes: int64 (N, 10), in the order of `EMOTIONS`, then unknown and not a face.

    Returns:
        float32 (N, 8): rows that sum to 1, or to 0 where there is no agreement.
    """
    counted, n = _without_outliers(votes), len(EMOTIONS)
    total = counted.sum(1, keepdims=True)
    above = counted[:, None, :] > counted[:, :, None]  # (N, 10, 10): j has more votes than i
    before = (above * counted[:, None, :]).sum(2)
    open_to = (4 * before < 3 * total) & (above.sum(2) < 3) & ~above[:, :, n:].any(2)
    taken = np.where(open_to, counted, 0)[:, :n]
    held = taken.sum(1, keepdims=True)
    agreed = (2 * held > total) & ((taken > 0).sum(1, keepdims=True) <= 3)
    return np.where(agreed, taken / np.maximum(held, 1), 0).astype(np.float32)


def _find(root: Path) -> tuple[Path, Path]:
    """Find both files, each in the folder ferplus of `root` or in `root` itself."""
    files = {
        name: path
        for name in (VOTES, IMAGES)
        for path in (root / name, root / "ferplus" / name)
        if path.is_file()
    }
    missing = [name for name in (IMAGES, VOTES) if name not in files]
    if missing:
        raise DataError(
            f"ferplus needs {IMAGES} (the images, from {KAGGLE}) and {VOTES} (the votes, from "
            f"github.com/microsoft/FERPlus), but there is no {' and no '.join(missing)} in "
            f"{root / 'ferplus'} or {root}. Place both there, or pass --data_dir with the folder "
            "that has them."
        )
    return files[IMAGES], files[VOTES]


def _read(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read columns as text; an empty cell is an empty text."""
    try:
        return pd.read_csv(path, usecols=columns, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"{path} must be a CSV file with the columns {', '.join(columns)} ({reason}). "
            "Download it again."
        ) from error


def _place(row: int) -> str:
    return f"row {row} (line {row + 2})"  # rows from 0 as the ids; line 1 is the header


def _check_same_rows(images: pd.DataFrame, votes: pd.DataFrame, paths: tuple[Path, Path]) -> None:
    if len(images) != len(votes):
        raise DataError(
            f"{paths[0]} has {len(images)} rows and {paths[1]} has {len(votes)}, but row by row "
            "they must be about the same image. Download them again."
        )
    usage = images["Usage"]
    valid = usage.isin(USAGES)
    if not valid.all():
        row = int(valid.argmin())
        rule = f"Usage must be one of {', '.join(USAGES)}, got {usage[row]!r}"
        raise DataError(f"{paths[0]}, {_place(row)}: {rule}. Download it again.")
    same = usage == votes["Usage"]
    if not same.all():
        row = int(same.argmin())
        raise DataError(
            f"{paths[1]}, {_place(row)}: Usage must be {usage[row]!r} as in {paths[0].name}, got "
            f"{votes['Usage'][row]!r}. The files must have their rows in the same order."
        )


def _counts(votes: pd.DataFrame, path: Path) -> Votes:
    texts = votes[VOTED]
    whole = texts.apply(lambda column: column.str.fullmatch("[0-9]{1,3}"))
    if not whole.all(axis=None):
        row, column = np.argwhere(~whole.to_numpy(dtype=bool))[0].tolist()
        got = f"{VOTED[column]} must be a number of votes, got {texts.iloc[row, column]!r}"
        raise DataError(f"{path}, {_place(row)}: {got}. Download it again.")
    return texts.to_numpy(dtype=str).astype(np.int64)


def _damage(texts: pd.Series, path: Path) -> DataError:
    """Name the first row whose pixels can't be read."""
    for row, text in zip(texts.index.tolist(), texts, strict=True):
        values = text.split()
        wrong = [value for value in values if not value.isdecimal() or int(value) > 255]
        if len(values) != SIDE * SIDE or wrong:
            got = f"the value {wrong[0]!r}" if wrong else f"{len(values)} values"
            rule = f"pixels must be {SIDE * SIDE} integers 0..255"
            return DataError(f"{path}, {_place(row)}: {rule}, got {got}. Download it again.")
    return DataError(f"{path}: the pixels can't be read. Download it again.")


def _pixels(texts: pd.Series, path: Path) -> Tensor:
    """Parse blank-separated grey values to uint8 (N, 1, 48, 48)."""
    if (texts == "").any():  # loadtxt passes over empty lines
        raise _damage(texts, path)
    try:
        values = np.loadtxt(texts.tolist(), dtype=np.uint8, comments=None, ndmin=2)
    except ValueError as error:
        raise _damage(texts, path) from error
    if values.shape[1] != SIDE * SIDE:
        raise _damage(texts, path)
    return torch.from_numpy(values.reshape(-1, 1, SIDE, SIDE))


def open_ferplus(root: Path, labels: LabelMode) -> tuple[Source, Source]:
    """Open FERPlus; the pixels are parsed when they are read.

    Args:
        root: Folder with ``fer2013.csv`` and ``fer2013new.csv``, or with a folder ``ferplus`` that
            has them.
        labels: ``majority`` for one class a row, ``probability`` for soft labels as well, whose
            most likely emotion (the first of equals) is then the label. The two keep different
            rows. Barsoum et al. draw a label from this distribution at each step or train on
            the cross-entropy with it; here it is the latter.

    Returns:
        Train and test; images are 1x48x48; the ids are the row of both files, from 0. FER2013's
        own labels are not used.

    Raises:
        DataError: A missing file, wrong columns, rows that do not fit each other, votes that are
            no counts, a split without a row; later, when reading, wrong pixels. Files and rows
            are named.
    """
    paths = _find(root)
    images = _read(paths[0], ["pixels", "Usage"])
    votes = _read(paths[1], ["Usage", "Image name", *VOTED])
    _check_same_rows(images, votes, paths)
    counts = _counts(votes, paths[1])
    shares = majority_shares(counts) if labels == "majority" else probability_shares(counts)
    usable = shares.any(axis=1) & (votes["Image name"] != "").to_numpy()

    def source(usage: str, split: SplitName) -> Source:
        rows = np.flatnonzero(usable & (images["Usage"] == usage).to_numpy())
        if not len(rows):
            raise DataError(
                f"{paths[1]}: no row of Usage {usage} has a label by {labels}. Download it again."
            )
        return Source(
            ids=rows,
            labels=shares[rows].argmax(axis=1),
            class_names=EMOTIONS,
            name="ferplus",
            split=split,
            read=lambda picked: _pixels(images["pixels"].iloc[rows[picked]], paths[0]),
            soft_labels=shares[rows] if labels == "probability" else None,
        )

    return source("Training", "train"), source("PrivateTest", "test")
