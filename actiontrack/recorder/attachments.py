"""What a record may hold beside losses: one shape for features, probabilities, pictures and boxes.

Each function checks what it was given and returns an `Attachment`, which a writer writes once it
knows which samples the record has. None of them is worth a failed training: the recorder warns
where one can't be kept.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.record.disk import FileEntry
from actiontrack.record.paths import (
    BOXES,
    FEATURES,
    PROBABILITIES,
    THUMBNAILS,
    TOKENS,
    picture_path,
)
from actiontrack.record.pictures import write_boxes, write_pictures, write_thumbnails
from actiontrack.record.tokens import write_tokens
from actiontrack.record.vectors import write_features, write_probabilities
from actiontrack.recorder.arrays import canonical_ids, to_host
from actiontrack.recorder.roster import Roster

__all__ = [
    "Attachment",
    "boxes",
    "features",
    "pictures",
    "probabilities",
    "thumbnails",
    "tokens",
]


@dataclass(frozen=True)
class Attachment:
    """One optional file of a record.

    Attributes:
        what: what it holds, in words for messages.
        path: of the file inside the record.
        write: writes it into the record's folder for the samples of a roster, where the record
            has so many classes, or None where it has none.
    """

    what: str
    path: str
    write: Callable[[Path, Roster, int | None], FileEntry]


def features(ids: Any, values: Any) -> Attachment:
    """Last-layer features.

    Args:
        ids: (n_samples,) in any order.
        values: (n_samples, n_features).
    """

    def write(folder: Path, roster: Roster, n_classes: int | None) -> FileEntry:
        del n_classes
        order = roster.order_of(ids)
        rows = _float_rows("features", values)
        if rows.ndim != 2 or len(rows) != order.size:
            rule = f"must have shape ({order.size}, n_features)"
            raise ParameterError("features", rule, rows.shape, "Pass one vector per id.")
        return write_features(folder, rows[order])

    return Attachment("features", FEATURES, write)


def probabilities(ids: Any, values: Any) -> Attachment:
    """What the final model says of each sample (section 4.1).

    Args:
        ids: (n_samples,) in any order.
        values: (n_samples, n_classes), each row a distribution over the classes.
    """

    def write(folder: Path, roster: Roster, n_classes: int | None) -> FileEntry:
        order = roster.order_of(ids)
        rows = _float_rows("probabilities", values)
        if rows.ndim != 2 or rows.shape != (order.size, n_classes or rows.shape[1]):
            rule = f"must have shape ({order.size}, {n_classes or 'n_classes'})"
            remedy = "Pass one distribution over all classes per id."
            raise ParameterError("probabilities", rule, rows.shape, remedy)
        return write_probabilities(folder, rows[order])

    return Attachment("probabilities", PROBABILITIES, write)


def thumbnails(ids: Any, images: Sequence[bytes]) -> Attachment:
    """PNGs of some samples, or of all.

    Args:
        ids: (n_images,) in any order, each once.
        images: one PNG per id.
    """

    def write(folder: Path, roster: Roster, n_classes: int | None) -> FileEntry:
        del n_classes
        rows = _rows_of("thumbnails", ids, roster)
        order = np.argsort(rows, kind="stable")
        if (np.diff(rows[order]) == 0).any():
            first = rows[order][1:][np.diff(rows[order]) == 0][0]
            name = "" if roster.ids is None else roster.ids[first]
            rule = "must be those of one image each"
            raise ParameterError("ids", rule, f"{name!s} twice", "Pass each id once.")
        return write_thumbnails(folder, _ordered_images(images, order), rows[order])

    return Attachment("thumbnails", THUMBNAILS, write)


def pictures(name: str, ids: Any, images: Sequence[bytes]) -> Attachment:
    """One PNG per sample under a name.

    Args:
        name: letters, digits, dots and underscores.
        ids: (n_samples,) in any order.
        images: one PNG per id.

    Raises:
        ParameterError: if the name is no plain name.
    """
    path = picture_path(name)

    def write(folder: Path, roster: Roster, n_classes: int | None) -> FileEntry:
        del n_classes
        return write_pictures(folder, name, _ordered_images(images, roster.order_of(ids)))

    return Attachment(f"pictures {name!r}", path, write)


def boxes(frame: Any, recorded_ids: Callable[[Any], Any]) -> Attachment:
    """Annotated and predicted boxes.

    Args:
        frame: one row per box, see `actiontrack.recorder.Recorder.log_boxes`.
        recorded_ids: turns ids into those that are recorded.
    """

    def write(folder: Path, roster: Roster, n_classes: int | None) -> FileEntry:
        del n_classes
        if not isinstance(frame, pd.DataFrame):
            rule = "must be a pandas.DataFrame with one row per box"
            raise ParameterError("boxes", rule, type(frame).__name__, "Make a frame of them.")
        if "sample_id" not in frame.columns:
            rule = "must have the column sample_id"
            raise ParameterError("boxes", rule, list(frame.columns), "Add the column.")
        box_ids = recorded_ids(frame["sample_id"].to_numpy())
        return write_boxes(folder, frame.assign(sample=_rows_of("boxes", box_ids, roster)))

    return Attachment("boxes", BOXES, write)


def tokens(ids: Any, texts: Sequence[Sequence[str]]) -> Attachment:
    """Texts of the tokens of some documents.

    Args:
        ids: (n_documents,) in any order, some of the record's.
        texts: of the tokens of each of them.
    """

    def write(folder: Path, roster: Roster, n_classes: int | None) -> FileEntry:
        del n_classes
        rows = _rows_of("tokens", ids, roster).tolist()
        if len(rows) != len(texts):
            rule = f"must be those of {len(rows)} documents, one list per id"
            raise ParameterError("texts", rule, len(texts), "Pass one list of texts per id.")
        return write_tokens(folder, dict(zip(rows, texts, strict=True)))

    return Attachment("tokens", TOKENS, write)


def _rows_of(what: str, ids: Any, roster: Roster) -> npt.NDArray[np.intp]:
    """Row positions of samples, each of which may come more than once."""
    names = canonical_ids(ids)
    sample_ids = roster.ids if roster.ids is not None else names[:0]
    rows = pd.Index(sample_ids).get_indexer(pd.Index(names))
    if (rows < 0).any():
        raise RecordingError(
            f"{what}: sample_id {names[rows < 0][0]!s} is none of the record "
            f"{roster.record}. Declare the samples or record an epoch first."
        )
    return np.asarray(rows)


def _float_rows(name: str, values: Any) -> npt.NDArray[np.float32]:
    if hasattr(values, "detach"):
        values = values.detach()
    try:
        host = to_host([values]) if hasattr(values, "shape") else np.asarray(values)
        return np.asarray(host, dtype=np.float32)
    except (TypeError, ValueError) as error:
        kind = type(values).__name__
        remedy = "Pass a NumPy, PyTorch or JAX array."
        raise ParameterError(name, "must be an array of numbers", kind, remedy) from error


def _ordered_images(images: Sequence[bytes], order: npt.NDArray[np.intp]) -> list[bytes]:
    if len(images) != order.size:
        rule = f"must be one PNG per id, {order.size} of them"
        raise ParameterError("images", rule, f"{len(images)} images", "Pass one per id.")
    ordered = [images[row] for row in order]
    for image in ordered:
        if not isinstance(image, bytes | bytearray | memoryview):
            raise ParameterError(
                "images",
                "must be the bytes of a PNG file, one per id",
                type(image).__name__,
                "Save each image as PNG into an io.BytesIO and pass its getvalue().",
            )
    return ordered
