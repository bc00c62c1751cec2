"""A user's own wrong labels, for the paper's section 4.4, from a file."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from actiontrack.errors import DataError
from actiontrack.record.escaping import unescape_cell
from projects.datasets.label_files import (
    ARRAY_SUFFIXES,
    CLEAN,
    LabelSet,
    check_is_file,
    read_label_sets,
)
from projects.datasets.split import Ids, Labels, Source

__all__ = ["digest_file", "read_noisy_labels"]

COLUMNS = ["id", "label"]
CHANCE_SPREAD = 4  # standard deviations above chance that labels of these images must reach
FEWEST = 50  # images; with fewer, chance says nothing
EXAMPLE = "Write one line id,label and one line per wrong label, e.g. 17,3"


def _read(path: Path) -> pd.DataFrame:
    """Read ids and labels as text: "NA" is a class like any other."""
    check_is_file(path, EXAMPLE)
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


def _classes(
    given: NDArray[Any], class_names: tuple[str, ...], path: Path, where: "pd.Series[str]"
) -> Labels:
    """Class of each label, all names or all indices; names come first.

    Args:
        given: labels as text, (N,).
        class_names: of the dataset.
        path: of the file, for messages.
        where: what each label is given to, for messages, (N,).
    """
    labels, indices = pd.Index(given), list(map(str, range(len(class_names))))
    named = pd.Index(class_names).get_indexer(labels)
    numbered = pd.Index(indices).get_indexer(labels)
    classes = named if (named >= 0).all() else numbered
    if (classes < 0).any():
        neither = (named < 0) & (numbered < 0)
        first = int(np.flatnonzero(neither if neither.any() else classes < 0)[0])
        raise DataError(
            f"noisy_labels: {path} gives {where.iloc[first]} the label {str(given[first])!r}. "
            f"Labels must all be class names ({', '.join(class_names)}) or all be class indices "
            f"(0..{len(class_names) - 1})."
        )
    return np.asarray(classes, dtype=np.int64)


def read_noisy_labels(path: Path, train: Source, *, label_set: str = "") -> Labels:
    """Read wrong labels for some or all of the training images.

    Args:
        path: A CSV file with the columns id and label for any of the images, as a person or
            `actiontrack noise --fix` wrote it; or ``.npy`` or
            ``.pt`` with a label for each, in the order of `_order`. Ids are those of the record:
            integers or paths. Labels are class names, or class indices from 0 if they are not all
            names.
        train: The whole training split.
        label_set: Which of the label sets of a ``.pt``; empty if it holds only one.

    Returns:
        int64 (N,), the labels of `train` with those of the file in their place.

    Raises:
        DataError: A missing, empty or odd file, one that would have to be unpickled, an id that is
            unknown or there twice, another number of labels than images, an unknown class or
            label set, by name; labels that fit the images by chance only.
    """
    if path.suffix.lower() in ARRAY_SUFFIXES:
        return _labels_in_order(path, train, label_set)
    if label_set:
        raise DataError(
            f"noisy_labels: {path} is read as a CSV file, which has no label set {label_set!r}. "
            "Leave out what follows the #."
        )
    frame = _read(path)
    frame["id"] = _unescaped(frame["id"], train.ids.astype(str))
    frame["label"] = _unescaped(frame["label"], train.class_names)
    labels = train.labels.copy()
    labels[_positions(frame, train.ids, path)] = _classes(
        frame["label"].to_numpy(), train.class_names, path, "id " + frame["id"]
    )
    return labels


def _unescaped(cells: "pd.Series[str]", names: Iterable[str]) -> "pd.Series[str]":
    """Cells as they were before `escape_cell`, where that is a name and the cell is none."""
    names, plain = set(names), cells.map(unescape_cell)
    return cells.where(cells.isin(names) | ~plain.isin(names), plain)


def _labels_in_order(path: Path, train: Source, label_set: str) -> Labels:
    sets = read_label_sets(path)
    order = _order(train.ids)
    where = pd.Series(np.arange(len(order))).map("position {}".format)
    named = _choose(sets, label_set, path)
    labels = _of_images(sets[named], train, order, path, where)
    if CLEAN in sets and named != CLEAN:
        clean = _of_images(sets[CLEAN], train, order, path, where)
        n_other = int((clean != train.labels).sum())
        if n_other:
            raise DataError(
                f"noisy_labels: the set {CLEAN} of {path} differs from the labels of {n_other} of "
                f"the {len(clean)} training images: they are other images, or in another order."
            )
    _check_better_than_chance(labels, train, path)
    return labels


def _order(ids: Ids) -> Labels:
    """Positions of the training images in the order of a file without ids.

    It is the order of the dataset. In a folder whose files have the numbers 0 to N - 1 for names,
    as CIFAR-10's images often have, it is that of the numbers; else that of the paths.
    """
    positions = np.arange(len(ids))
    if ids.dtype.kind != "U":
        return positions
    stems = [PurePosixPath(path).stem for path in ids.tolist()]
    numbers = np.array([int(stem) if stem.isdecimal() else -1 for stem in stems])
    order = np.argsort(numbers, kind="stable")
    return order if np.array_equal(numbers[order], positions) else positions


def _choose(sets: Mapping[str, LabelSet], label_set: str, path: Path) -> str:
    if label_set in sets:
        return label_set
    if not label_set and len(sets) == 1:
        return next(iter(sets))
    names = ", ".join(sets) or "none"
    if sets.keys() == {""}:
        problem, remedy = f"has no label set {label_set!r}", "Leave out what follows the #"
    elif label_set:
        problem, remedy = f"has no label set {label_set!r}", f"There are: {names}"
    else:
        problem = f"holds several label sets: {names}"
        remedy = f"Choose one by its name, as in {path.name}#{list(sets)[-1]}"
    raise DataError(f"noisy_labels: {path} {problem}. {remedy}.")


def _of_images(
    values: LabelSet, train: Source, order: Labels, path: Path, where: "pd.Series[Any]"
) -> Labels:
    """Class of each training image, from labels in the order of the file."""
    if len(values) != len(order):
        raise DataError(
            f"noisy_labels: {path} holds {len(values)} labels for the {len(order)} training images "
            f"of {train.name}. Give one for each, those outside the subset included, or write a "
            "CSV file of id,label for some of them."
        )
    labels = np.empty(len(order), dtype=np.int64)
    labels[order] = _classes(values.astype(np.str_), train.class_names, path, where)
    return labels


def _check_better_than_chance(labels: Labels, train: Source, path: Path) -> None:
    """Refuse labels that belong to other images: they agree no more often than shuffled ones."""
    n_classes, n = len(train.class_names), len(labels)
    shares = [np.bincount(part, minlength=n_classes) / n for part in (labels, train.labels)]
    chance = float(shares[0] @ shares[1])
    agree = float((labels == train.labels).mean())
    if agree <= chance + CHANCE_SPREAD * np.sqrt(chance * (1 - chance) / n) and n >= FEWEST:
        raise DataError(
            f"noisy_labels: {path} agrees with the labels of {agree:.1%} of the training images, "
            f"no more than by chance ({chance:.1%}): its labels may be in another order. Give a "
            "CSV file of id,label to use them all the same."
        )


def digest_file(path: Path) -> str:
    """Digest of the content of a file of labels: sha256, 64 hex characters.

    Raises:
        DataError: There is no such file.
    """
    check_is_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
