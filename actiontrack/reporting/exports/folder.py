"""A cleaned subset as an image folder: CLASS/image, and a list of what was left out and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from actiontrack.analysis.fixes import corrected_classes
from actiontrack.errors import DataError, ParameterError, StoreError
from actiontrack.record.escaping import distinct_names, safe_name
from actiontrack.reporting.exports.files import write_bytes, write_csv
from actiontrack.reporting.exports.images import flat_names, image_of
from actiontrack.reporting.exports.selection import Suspects, mark_suspects
from actiontrack.store import StoredRecord

__all__ = ["image_folder"]

_KEPT, _LEFT_OUT = "kept.csv", "left_out.csv"


def image_folder(
    record: StoredRecord,
    folder: Path,
    suspects: Suspects | None = None,
    *,
    link: bool = False,
    relabel: bool = False,
) -> list[Path]:
    """Write the samples that are not suspect as images in one folder per class.

    A sample whose label people have corrected goes to its new class; one that they found wrong
    without naming the right class is left out, or goes to the suggested class with `relabel`.

    Args:
        record: an open record of the training split.
        folder: empty or missing; gets CLASS/NAME for each exported sample, left_out.csv (sample_id,
            class, score, rank, place, verdict, new_class, reason) and kept.csv (exported_class and
            file in place of the reason).
        suspects: which samples are left out.
        link: make symbolic links to the images of the dataset instead of copies.
        relabel: write suspect samples below their suggested class instead of leaving them out; with
            the score p_wrong only.

    Returns:
        The two lists first, then the images.

    Raises:
        DataError: if the folder is a file or holds something, an image to link to is not a file of
            its own, or no image can be had.
        NotFoundError: if the score is p_wrong, and the record does not tell it.
        ParameterError: if samples are to be relabelled by a score that suggests no class.
        StoreError: if the folder can't be written.
    """
    suspects = suspects or Suspects()
    if relabel and not suspects.suggests:
        rule, remedy = "goes with the score p_wrong only", "Choose it, or leave relabel out."
        raise ParameterError("relabel", rule, suspects.score, remedy)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is no folder. Name another one.")
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty. Name another folder, or empty it.")
    marked = mark_suspects(record, suspects)
    classes = corrected_classes(marked, suggested=relabel)
    has_class = marked["new_class"].notna()
    if relabel:
        has_class |= marked["suspect"] & marked["suggested_class"].notna()
    reasons = marked["reason"].mask(has_class, "")
    rows = [row for row, reason in enumerate(reasons) if not reason]
    files = pd.Series("", index=marked.index, dtype=object)
    for row, file in zip(rows, _files(record, rows, classes), strict=True):
        write = _link if link else _copy
        if write(record, row, folder / file):
            files[row] = file
    if rows and not files.any():
        raise DataError(
            f"no image of record {record.name} of run {record.run.run_id} can be had here. Record "
            "with thumbnails, or export where the dataset is."
        )
    reasons = reasons.mask((files == "") & (reasons == ""), "no image on this machine")
    table = marked.drop(columns=["suspect", "reason", "label"], errors="ignore")
    left_out = table.assign(reason=reasons).loc[reasons != ""]
    exported = table.assign(exported_class=classes, file=files).loc[reasons == ""]
    return [
        write_csv(folder / _LEFT_OUT, left_out),
        write_csv(folder / _KEPT, exported),
        *(folder / file for file in files if file),
    ]


def _files(record: StoredRecord, rows: Sequence[int], classes: "pd.Series[Any]") -> list[str]:
    """CLASS/NAME for the samples at some row positions, each once."""
    names = list(dict.fromkeys(str(classes[row]) for row in rows))
    folders = distinct_names([safe_name(name) for name in names], names, taken=(_KEPT, _LEFT_OUT))
    folder_of = dict(zip(names, folders, strict=True))
    return flat_names(record, rows, [folder_of[str(classes[row])] for row in rows])


def _copy(record: StoredRecord, row: int, path: Path) -> bool:
    image = image_of(record, row)
    if image is not None:
        write_bytes(path, image.content)
    return image is not None


def _link(record: StoredRecord, row: int, path: Path) -> bool:
    source, paths = record.manifest.source or {}, record.samples.paths
    if source.get("kind") != "folder" or paths is None or "root" not in source:
        raise DataError(
            f"record {record.name} of run {record.run.run_id} refers to no image files. Copy the "
            "stored images instead of linking."
        )
    root = Path(str(source["root"])).resolve()
    target = (root / paths[row]).resolve()
    if not target.is_relative_to(root) or not target.is_file():
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    except OSError as error:
        raise StoreError(f"cannot link {path}: {error.strerror or error}. Copy instead.") from error
    return True
