"""Thumbnails, pictures and boxes of a record."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.record.disk import FileEntry
from actiontrack.record.footer import Footer
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import (
    Fetch,
    _table,
    any_values,
    check_rows,
    check_samples,
    columns_of,
    corrupt_on_error,
    open_any,
    parquet_reader,
    verified_file,
    write_table,
)
from actiontrack.record.paths import BOXES, THUMBNAILS, picture_path

__all__ = [
    "BOX_COLUMNS",
    "Pictures",
    "read_boxes",
    "write_boxes",
    "write_pictures",
    "write_thumbnails",
]

#: Columns of boxes.parquet. Sides are in pixels of the image, whose size is width x height.
BOX_COLUMNS = (
    *("sample", "kind", "class", "score"),
    *("left", "top", "right", "bottom", "width", "height"),
)
_THUMBNAIL_ROW_GROUP = 64


def write_thumbnails(
    folder: Path, images: Sequence[bytes], rows: npt.NDArray[np.integer[Any]] | None = None
) -> FileEntry:
    """Write thumbnails.parquet, in row groups that open alone.

    Args:
        folder: folder of the record.
        images: PNGs.
        rows: row position of the sample of each, ascending. Default: one PNG per sample.
    """
    return _write_pngs(folder / THUMBNAILS, images, rows)


def write_pictures(folder: Path, name: str, images: Sequence[bytes]) -> FileEntry:
    """Write one PNG per sample under a name, in row groups that open alone."""
    return _write_pngs(folder / picture_path(name), images)


def write_boxes(folder: Path, boxes: pd.DataFrame) -> FileEntry:
    """Write boxes.parquet, one row per annotated or predicted box.

    Args:
        folder: folder of the record.
        boxes: `BOX_COLUMNS` in any order of rows; see docs/format.md.

    Raises:
        ParameterError: a missing column, a kind that is neither "truth" nor "predicted", or a
            side or size that is not finite.
    """
    missing = [name for name in BOX_COLUMNS if name not in boxes.columns]
    if missing:
        rule = f"must have the columns {', '.join(BOX_COLUMNS[1:])}"
        raise ParameterError("boxes", rule, f"none named {missing[0]}", "Add the column.")
    kinds = set(boxes["kind"]) - {"truth", "predicted"}
    if kinds:
        rule = 'must have the kind "truth" or "predicted" in each row'
        raise ParameterError("boxes", rule, min(map(str, kinds)), "Name one of the two.")
    numbers = boxes.loc[:, list(BOX_COLUMNS[4:])].to_numpy(dtype=np.float32)
    if not np.isfinite(numbers).all():
        rule = "must have finite sides and sizes"
        row = int(np.flatnonzero(~np.isfinite(numbers).all(axis=1))[0])
        raise ParameterError("boxes", rule, f"row {row}: {numbers[row]}", "Leave the box out.")
    ordered = boxes.sort_values("sample", kind="stable")
    columns: dict[str, Any] = {
        "sample": ordered["sample"].to_numpy(dtype=np.int32),
        **{name: pa.array(ordered[name].astype(str), pa.string()) for name in ("kind", "class")},
        **{name: ordered[name].to_numpy(dtype=np.float32) for name in BOX_COLUMNS[3:]},
    }
    return write_table(folder / BOXES, _table(columns))


def _write_pngs(
    path: Path, images: Sequence[bytes], rows: npt.NDArray[np.integer[Any]] | None = None
) -> FileEntry:
    samples = np.arange(len(images)) if rows is None else rows
    columns = {
        "sample": np.asarray(samples, dtype=np.int32),
        "png": pa.array(list(images), pa.binary()),
    }
    return write_table(path, _table(columns), row_group=_THUMBNAIL_ROW_GROUP)


class Pictures:
    """A file of PNGs: verified once, then read one row group at a time.

    Thumbnails may be of some samples only, pictures of another name are of all.

    Args:
        manifest: the record's manifest.
        fetch: gives the local path of a file of the record.
        name: path of the file inside the record, `THUMBNAILS` or a `picture_path`.

    Raises:
        NotFoundError: if the record holds no such file.
        CorruptRecordError: if the file is missing, truncated or altered.
    """

    def __init__(self, manifest: Manifest, fetch: Fetch, name: str) -> None:
        self._name, self._path = name, verified_file(manifest, name, fetch)
        self._stored, self._bytes = manifest.files[name].bytes, parquet_reader(self._path)
        self._footer = Footer.of(name, self._bytes, self._stored)
        self._n_samples = manifest.n_samples
        with corrupt_on_error(name):
            self._metadata = pq.read_metadata(self._path)
            is_partial = name == THUMBNAILS and self._metadata.num_rows < self._n_samples
            if not is_partial:
                check_rows(self._metadata, name, self._n_samples)
        self._samples = _samples_with_image(manifest, fetch, name) if is_partial else None

    def has(self, sample: int) -> bool:
        """Whether there is a PNG of the sample at a row position."""
        return self._row(sample) is not None

    def read(self, sample: int) -> bytes:
        """The PNG of the sample at a row position, opening its row group only.

        Raises:
            NotFoundError: if there is none of this sample.
            CorruptRecordError: if it is damaged, or expands beyond what the file may claim.
        """
        position = self._row(sample)
        if position is None:
            raise NotFoundError(
                f"{self._name} holds the images of {self._metadata.num_rows} of "
                f"{self._n_samples} samples, and none of this one."
            )
        with corrupt_on_error(self._name):
            group, row = divmod(position, _THUMBNAIL_ROW_GROUP)
            columns = ["sample", "png"]
            self._footer.check(
                self._name, self._bytes, self._stored, columns=columns, groups=[group]
            )
            file = pq.ParquetFile(self._path, metadata=self._metadata)
            table = file.read_row_group(group, columns=columns)
            if not pa.types.is_binary(table.schema.field("png").type):
                raise TypeError(f"png is {table.schema.field('png').type}")
            if table["sample"][row].as_py() != sample:
                raise ValueError(f"sample {sample} is not in its place")
            return bytes(table["png"][row].as_py())

    def _row(self, sample: int) -> int | None:
        """In which row of the file a sample is."""
        if self._samples is None:
            return sample
        row = int(np.searchsorted(self._samples, sample))
        there = row < self._samples.size and self._samples[row] == sample
        return row if there else None


def _samples_with_image(manifest: Manifest, fetch: Fetch, name: str) -> npt.NDArray[np.int64]:
    """Row positions of the samples that a file of some images holds, ascending."""
    table = columns_of(open_any(manifest, name, fetch), ["sample"])
    samples = table["sample"].to_pandas()
    with corrupt_on_error(name):
        if samples.dtype.kind not in "iu" or (np.diff(samples) <= 0).any():
            raise ValueError("its samples are no integers in ascending order")
    check_samples(samples, name, manifest)
    return np.asarray(samples, dtype=np.int64)


def read_boxes(manifest: Manifest, fetch: Fetch) -> pd.DataFrame:
    """Read boxes.parquet, a row per box, see `write_boxes`.

    Raises:
        NotFoundError: if the record holds none.
        CorruptRecordError: if the file is missing, truncated, altered, or about samples that the
            record does not have.
    """
    file = open_any(manifest, BOXES, fetch)
    table = columns_of(file, BOX_COLUMNS)
    with corrupt_on_error(BOXES):
        boxes = pd.DataFrame(
            {name: any_values(table[name], file.stored) for name in BOX_COLUMNS}
        ).astype({"kind": "str", "class": "str"})
        _check_boxes(boxes)
    check_samples(boxes["sample"], BOXES, manifest)
    return boxes


def _check_boxes(boxes: pd.DataFrame) -> None:
    if boxes["sample"].dtype.kind not in "iu":
        raise TypeError(f"sample is {boxes['sample'].dtype}")
    unknown = boxes.loc[~boxes["kind"].isin(["truth", "predicted"]), "kind"]
    if len(unknown):
        raise ValueError(f"kind is {unknown.iloc[0][:80]!r}")
    for name in BOX_COLUMNS[3:]:
        values = boxes[name].to_numpy()
        if values.dtype.kind != "f" or (name != "score" and not np.isfinite(values).all()):
            raise ValueError(f"{name} is no finite number")
