"""FiftyOne: scores as fields of samples, into a dataset that is there or as one to import."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from actiontrack.analysis.fixes import suggestions
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.reporting.exports.files import write_bytes, write_json
from actiontrack.reporting.exports.images import image_address, image_names, image_of
from actiontrack.reporting.exports.selection import Suspects, mark_suspects
from actiontrack.reporting.exports.slices import slice_tags
from actiontrack.scores import unranked
from actiontrack.store import StoredRecord

__all__ = ["add_to_fiftyone", "fiftyone_samples", "save_fiftyone"]

_SUSPECT_TAG = "suspect"
_SLICES = "actiontrack_slices"


def add_to_fiftyone(
    dataset: Any,
    record: StoredRecord,
    suspects: Suspects | None = None,
    *,
    key_field: str = "filepath",
    image_root: str | None = None,
) -> list[str]:
    """Add scores as fields to a FiftyOne dataset that holds the samples already.

    Args:
        dataset: a `fiftyone.Dataset`.
        record: an open record.
        suspects: which samples get the value True in the field actiontrack_suspect.
        key_field: field by which samples are found: "filepath" for the path of the image, any
            other for the sample id.
        image_root: root of the paths, where it is another than the record's.

    Returns:
        Names of the fields: actiontrack_<score> for every score, actiontrack_suspect, and where the
        record tells which labels are wrong actiontrack_suggested_class (a name) and
        actiontrack_p_suggested; actiontrack_slices (a list of names) where harder slices of its
        attributes were found.

    Raises:
        NotFoundError: if samples are found by their file path and the record holds none.
        ParameterError: if samples share a file, so that a path does not tell them apart.
    """
    if key_field == "filepath":
        root = image_root or _root(record)
        keys = [_image_path(record, row, root) for row in range(record.manifest.n_samples)]
    else:
        keys = record.samples.sample_ids.tolist()
    if len(set(keys)) < len(keys):
        shared = next(key for key, count in Counter(keys).items() if count > 1)
        remedy = "Name a field of the dataset that holds the sample ids."
        raise ParameterError("key_field", "must tell samples apart", shared, remedy)
    added = []
    slices_of_sample = slice_tags(record)
    if any(slices_of_sample):
        dataset.set_values(
            _SLICES, dict(zip(keys, slices_of_sample, strict=True)), key_field=key_field
        )
        added.append(_SLICES)
    for name, values in _fields(record, mark_suspects(record, suspects)).items():
        present = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        dataset.set_values(name, present, key_field=key_field)
        added.append(name)
    return added


def fiftyone_samples(
    record: StoredRecord, suspects: Suspects | None = None, *, image_root: str | None = None
) -> list[dict[str, Any]]:
    """Samples as `fiftyone.Sample.from_dict` reads them, with one field per score.

    Args:
        record: an open record.
        suspects: which samples get the tag "suspect"; harder slices of the attributes that are
            kept with the record become tags as well, such as "light = night".
        image_root: folder of the images, or a bucket. Default: "data" beside samples.json.

    Returns:
        One sample per row in canonical order: filepath, tags, sample_id, ground_truth (a
        Classification) where there are labels, and the fields of `add_to_fiftyone`. A score that is
        not a number is missing.
    """
    marked = mark_suspects(record, suspects)
    fields = _fields(record, marked)
    samples = []
    tags = slice_tags(record)
    for row, path in enumerate(_paths(record, image_root)):
        suspect = [_SUSPECT_TAG] if fields["actiontrack_suspect"][row] else []
        sample: dict[str, Any] = {
            "filepath": path,
            "tags": [*suspect, *tags[row]],
            "sample_id": str(record.samples.sample_ids[row]),
        }
        if "label" in marked.columns:
            sample["ground_truth"] = {
                "_id": {"$oid": _object_id(record, row)},
                "_cls": "Classification",
                "tags": [],
                "label": marked["class"].iloc[row],
            }
        samples.append(sample | {name: values[row] for name, values in fields.items()})
    return samples


def save_fiftyone(
    record: StoredRecord,
    folder: Path,
    suspects: Suspects | None = None,
    *,
    image_root: str | None = None,
) -> list[Path]:
    """Write a dataset that FiftyOne imports as `fiftyone.types.FiftyOneDataset`.

    Args:
        record: an open record.
        folder: gets metadata.json, samples.json and, without `image_root`, data/ with the images
            that the record can give.
        suspects: which samples get the tag "suspect".
        image_root: folder of the images, which are not copied then.
    """
    samples = fiftyone_samples(record, suspects, image_root=image_root)
    written = [
        write_json(
            folder / "metadata.json", {"name": "", "media_type": "image", "info": _info(record)}
        ),
        write_json(folder / "samples.json", {"samples": samples}),
    ]
    for row, sample in enumerate(samples if image_root is None else []):
        image = image_of(record, row)
        if image is not None:
            written.append(write_bytes(folder / sample["filepath"], image.content))
    return written


def _paths(record: StoredRecord, image_root: str | None) -> list[str]:
    if image_root is None:
        return [f"data/{name}" for name in image_names(record)]
    rows = range(record.manifest.n_samples)
    return [image_address(record, row, image_root, is_url=False) for row in rows]


def _image_path(record: StoredRecord, row: int, root: str) -> str:
    """Path of the image of a sample below a root.

    Raises:
        NotFoundError: if the record refers to no image files.
    """
    if record.samples.paths is None:
        raise NotFoundError(
            f"record {record.name} of run {record.run.run_id} holds no image paths. Match samples "
            "by another field with key_field."
        )
    return str(Path(root) / record.samples.paths[row])


def _root(record: StoredRecord) -> str:
    root = (record.manifest.source or {}).get("root")
    if root is None:
        raise NotFoundError(
            f"record {record.name} of run {record.run.run_id} names no folder of images. Pass "
            "image_root, or match samples by another field with key_field."
        )
    return str(root)


def _fields(record: StoredRecord, marked: pd.DataFrame) -> dict[str, list[Any]]:
    """Values of every field by its name, from the frame of `mark_suspects`."""
    table = record.scores()
    columns = table.select_dtypes("number").drop(columns=list(unranked()), errors="ignore")
    values: dict[str, Iterable[Any]] = {}
    if "suggested_class" in table:
        suggested = suggestions(record, table)
        names = suggested["suggested_class"]
        values["suggested_class"] = names.where(names.notna(), None)
        columns["p_suggested"] = suggested["p_suggested"]
    for name, column in columns.items():
        numbers = column.astype(np.float64)
        values[str(name)] = (float(value) if np.isfinite(value) else None for value in numbers)
    values["suspect"] = (bool(suspect) for suspect in marked["suspect"])
    return {f"actiontrack_{name}": list(column) for name, column in values.items()}


def _info(record: StoredRecord) -> dict[str, str]:
    return {"run_id": record.run.run_id, "record": record.name, "digest": record.digest}


def _object_id(record: StoredRecord, row: int) -> str:
    """24 hex digits as MongoDB wants them, the same for the same sample of the same run."""
    text = f"{record.run.run_id}/{record.name}/{row}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]
