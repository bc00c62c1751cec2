"""A user's own wrong labels, for the paper's section 4.4: a CSV file of ids and labels."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd

from actiontrack.errors import DataError
from projects.datasets.split import Ids, Labels, Source

__all__ = ["digest_file", "read_noisy_labels"]

COLUMNS = ["id", "label"]
EXAMPLE = "Write one line id,label and one line per wrong label, e.g. 17,3"


def _read(path: Path) -> pd.DataFrame:
    """Read ids and labels as text: "NA" is a class like any other."""
    if not path.is_file():
        raise DataError(f"noisy_labels: {path} is not a file. {EXAMPLE}.")
    try:
        frame = pd.read_csv(
            path, usecols=COLUMNS, dtype=str, keep_default_na=False, encoding="utf-8-sig"
        )
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        reason = str(error).strip().splitlines()[0]
        raise DataError(
            f"noisy_labels: {path} must be a CSV file with the columns id and label ({reason}). "
            f"{EXAMPLE}."
        ) from error
    if frame.empty:
        raise DataError(f"noisy_labels: {path} has no rows. {EXAMPLE}.")
    return frame


def _positions(frame: pd.DataFrame, ids: Ids, path: Path) -> Labels:
    repeated = frame["id"].duplicated()
    if repeated.any():
        first = frame["id"][repeated].iloc[0]
        raise DataError(f"noisy_labels: {path} has the id {first} twice. Keep one of them.")
    positions = pd.Index(ids.astype(str)).get_indexer(pd.Index(frame["id"]))
    unknown = positions < 0
    if unknown.any():
        first = frame["id"][unknown].iloc[0]
        raise DataError(
            f"noisy_labels: {path} has {unknown.sum()} ids that no training image has, the first "
            f"is {first!r}. Ids are those of the record, such as {str(ids[0])!r}."
        )
    return np.asarray(positions, dtype=np.int64)


def _classes(frame: pd.DataFrame, class_names: tuple[str, ...], path: Path) -> Labels:
    """Class of each row: all labels are names, or all are indices; names come first."""
    labels, indices = pd.Index(frame["label"]), list(map(str, range(len(class_names))))
    named = pd.Index(class_names).get_indexer(labels)
    numbered = pd.Index(indices).get_indexer(labels)
    classes = named if (named >= 0).all() else numbered
    if (classes < 0).any():
        neither = (named < 0) & (numbered < 0)
        first = frame[neither if neither.any() else classes < 0].iloc[0]
        raise DataError(
            f"noisy_labels: {path} gives id {first['id']} the label {first['label']!r}. Labels "
            f"must all be class names ({', '.join(class_names)}) or all be class indices "
            f"(0..{len(class_names) - 1})."
        )
    return np.asarray(classes, dtype=np.int64)


def read_noisy_labels(path: Path, train: Source) -> Labels:
    """Read wrong labels for some of the training images.

    Args:
        path: A CSV file with the columns id and label. Ids are those of the record: integers or
            paths. Labels are class names, or class indices from 0 if they are not all names.
        train: The whole training split.

    Returns:
        int64 (N,), the labels of `train` with those of the file in their place.

    Raises:
        DataError: A missing, empty or odd file, an id that is unknown or there twice, or an
            unknown class, by name.
    """
    frame = _read(path)
    labels = train.labels.copy()
    labels[_positions(frame, train.ids, path)] = _classes(frame, train.class_names, path)
    return labels


def digest_file(path: Path) -> str:
    """Digest of a file's content: sha256, 64 hex characters."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
