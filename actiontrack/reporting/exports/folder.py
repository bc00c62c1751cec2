"""A cleaned subset as an image folder: CLASS/image, and a list of what was left out and why."""

from pathlib import Path

import pandas as pd

from actiontrack.errors import DataError, StoreError
from actiontrack.reporting.exports.files import (
    image_name,
    image_of,
    safe_name,
    write_bytes,
    write_csv,
)
from actiontrack.reporting.exports.selection import Suspects, mark_suspects
from actiontrack.store import StoredRecord

__all__ = ["image_folder"]


def image_folder(
    record: StoredRecord, folder: Path, suspects: Suspects | None = None, *, link: bool = False
) -> list[Path]:
    """Write the samples that are not suspect as images in one folder per class.

    A sample whose label people have corrected goes to its new class; one that they found wrong
    without naming the right class is left out.

    Args:
        record: an open record of the training split.
        folder: empty or missing; gets CLASS/NAME for each sample kept, left_out.csv (sample_id,
            class, score, rank, place, verdict, new_class, reason) and kept.csv (file too).
        suspects: which samples are left out.
        link: make symbolic links to the images of the dataset instead of copies.

    Returns:
        The two lists first, then the images.

    Raises:
        DataError: if the folder holds something, an image to link to is not a file of its own, or
            no image can be had.
        StoreError: if the folder can't be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty. Name another folder, or empty it.")
    found = mark_suspects(record, suspects)
    moved = found["verdict"].eq("wrong_label").fillna(value=False) & found["new_class"].notna()
    placed = found["class"].where(~moved, found["new_class"].astype(object))
    reasons = found["reason"].where(~moved, "")
    files: list[str] = []
    images: list[Path] = []
    for row, (reason, name) in enumerate(zip(reasons, placed, strict=True)):
        if reason:
            files.append("")
            continue
        path = folder / safe_name(name) / image_name(record, row).replace("/", "_")
        written = _link(record, row, path) if link else _copy(record, row, path)
        files.append(path.relative_to(folder).as_posix() if written else "")
        images += [path] * written
    if not images and not reasons.all():
        raise DataError(
            f"no image of record {record.name} of run {record.run.run_id} can be had here. Record "
            "with thumbnails, or export where the dataset is."
        )
    missing = pd.Series([not file for file in files]) & (reasons == "")
    reasons = reasons.mask(missing, "no image on this machine")
    table = found.drop(columns=["suspect", "reason", "label"], errors="ignore")
    left_out = table.assign(reason=reasons).loc[reasons != ""]
    kept = table.assign(file=files).loc[reasons == ""]
    return [
        write_csv(folder / "left_out.csv", left_out),
        write_csv(folder / "kept.csv", kept),
        *images,
    ]


def _copy(record: StoredRecord, row: int, path: Path) -> bool:
    found = image_of(record, row)
    if found is not None:
        write_bytes(path, found[0])
    return found is not None


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
