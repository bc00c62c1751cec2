"""What a recorder refuses before it records anything: options, names and numbers out of range."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.history import MEASURES, check_choice
from actiontrack.record.paths import check_name
from actiontrack.recorder.epoch import EpochRows

__all__ = [
    "check_class_indices",
    "check_class_names",
    "check_maps",
    "check_n_classes",
    "check_source",
    "component_name",
    "metric_values",
    "warn_of_missing_folder",
]

logger = logging.getLogger("actiontrack")

#: Names of columns of the record itself.
_RESERVED = frozenset({*MEASURES, "loss", "label", "sample", "step", "batch", "ids"})
_METRIC_NAME = re.compile(r"[\w.\- :/]{1,250}", re.ASCII)


def check_class_names(class_names: Sequence[Any]) -> tuple[str, ...]:
    """Names of the class indices as texts.

    Raises:
        ParameterError: if two of them are equal.
    """
    names = tuple(str(name) for name in class_names)
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if repeated:
        remedy = "Give each class a name of its own."
        raise ParameterError("class_names", "must differ from each other", repeated, remedy)
    return names


def check_n_classes(n_classes: int, class_names: Sequence[str]) -> None:
    """Check that every class of the outputs has a name, where classes have names.

    Raises:
        ParameterError: if there are fewer names than classes.
    """
    if class_names and n_classes > len(class_names):
        rule = f"must name all {n_classes} classes of the outputs"
        remedy = "Pass one name per class, in the order of the class indices."
        raise ParameterError("class_names", rule, f"{len(class_names)} names", remedy)


def check_class_indices(
    rows: EpochRows, n_classes: int | None, class_names: Sequence[str]
) -> npt.NDArray[np.integer] | None:
    """Labels of an epoch as class indices; whole numbers that came as floats are integers then.

    Args:
        rows: the epoch.
        n_classes: number of classes of the logits, or None without logits.
        class_names: names of the classes, or none.

    Returns:
        (n_seen,), or None without labels.

    Raises:
        RecordingError: if labels are no class indices, or beyond the classes.
    """
    labels = rows.columns.get("label")
    if labels is None:
        return None
    whole = labels.astype(np.int64) if labels.dtype.kind == "f" and _is_whole(labels) else labels
    if whole.dtype.kind not in "iub":
        raise RecordingError(
            f"labels: must be class indices, got {labels.dtype.name}. "
            "Pass the losses alone if the targets are not classes."
        )
    _check_range(rows.ids, whole, n_classes, class_names)
    return whole


def _is_whole(labels: npt.NDArray[np.floating]) -> bool:
    return bool((np.isfinite(labels) & (labels == np.round(labels))).all())


def _check_range(
    ids: npt.NDArray[Any],
    labels: npt.NDArray[np.integer],
    n_classes: int | None,
    class_names: Sequence[str],
) -> None:
    outside = labels >= (n_classes or len(class_names) or np.inf)
    if n_classes is not None:
        outside |= labels < 0
    if not outside.any():
        return
    first = int(np.flatnonzero(outside)[0])
    remedy = "Leave out what the loss ignores." if n_classes else "Name every class."
    raise RecordingError(
        f"labels: {int(outside.sum())} samples have a label outside 0 to "
        f"{(n_classes or len(class_names)) - 1}, the first is {ids[first]}: {int(labels[first])}. "
        f"{remedy}"
    )


def check_maps(pixel_loss_name: str, factor: int, dtype: str, *, gathers: bool) -> None:
    """Options of maps of pixel losses.

    Raises:
        ParameterError: if one breaks its rule, or several processes are to record maps.
    """
    check_choice("map_dtype", dtype, ("float32", "float16"))
    if not isinstance(factor, int) or factor < 1:
        rule = "must be an integer of 1 or more"
        raise ParameterError("map_factor", rule, factor, "Pass 1 to keep every pixel.")
    if pixel_loss_name and gathers:
        raise ParameterError(
            "pixel_loss_name",
            "must be left out with gather: maps are recorded by one process",
            pixel_loss_name,
            "Train in one process, or record losses only.",
        )


def check_source(source: Mapping[str, Any] | None) -> None:
    """The reference to the dataset.

    Raises:
        ParameterError: if JSON can't hold it.
    """
    try:
        json.dumps(source)
    except TypeError:
        raise ParameterError(
            "source", "must be plain text, numbers and lists", source, "Convert paths with str."
        ) from None


def warn_of_missing_folder(source: Mapping[str, Any] | None) -> None:
    """Warn where the folder of a dataset is not there.

    It may be there on the machine that shows the images, so that it is no error.
    """
    if not source or source.get("kind") != "folder" or not source.get("root"):
        return
    root = Path(str(source["root"]))
    if not root.is_dir():
        logger.warning(
            "source: there is no folder %s on this machine. Images of the record are read from "
            "there: correct root, or put the images there before you look at them.",
            root,
        )


def component_name(name: str) -> str:
    """Name of a loss component.

    Raises:
        ParameterError: if it is a name of the record itself, or no plain name.
    """
    if name in _RESERVED:
        raise ParameterError(
            "components", "must not take a name of the record itself", name, "Rename it."
        )
    return check_name("components", name)


def metric_values(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Further aggregates of an epoch as numbers, with names that the tracking server takes.

    Raises:
        ParameterError: if a name or a value is not what the server takes.
    """
    values: dict[str, float] = {}
    for name, value in (metrics or {}).items():
        if not isinstance(name, str) or not _METRIC_NAME.fullmatch(name):
            rule = "must have names of letters, digits, spaces and _ - . : /, 250 at most"
            raise ParameterError("metrics", rule, name, "Rename the metric.")
        try:
            values[name] = float(value)
        except (TypeError, ValueError):
            rule = f"must be numbers, one for each name; {name} is none"
            raise ParameterError("metrics", rule, value, "Pass a single number.") from None
    return values
