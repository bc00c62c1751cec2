"""Maps of pixel actions."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from actiontrack.errors import CorruptRecordError, NotFoundError
from actiontrack.record.disk import FileEntry, file_entry, write_file
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import (
    PAGE_OPTIONS,
    Fetch,
    ParquetTable,
    _table,
    column_values,
    columns_of,
    corrupt_on_error,
    open_any,
    open_table,
    write_table,
)
from actiontrack.record.paths import MAPS, map_path

__all__ = [
    "pool_map",
    "read_map",
    "read_map_index",
    "write_maps",
]

_MAP_FILE_BYTES = 64 * 2**10  # of maps in one file: more only if a single map is larger
_MAX_MAP_PIXELS = 2**28


def pool_map(values: npt.NDArray[np.floating], factor: int) -> npt.NDArray[np.float32]:
    """Mean of each block of factor × factor pixels, of those that are not NaN.

    Blocks at the lower and right edge may hold fewer pixels.

    Args:
        values: (H, W).
        factor: side of a block in pixels, 1 or more.

    Returns:
        (⌈H / factor⌉, ⌈W / factor⌉) float32; NaN where a block holds nothing but NaN.

    >>> pool_map(np.array([[1.0, 3.0, 5.0], [np.nan, 2.0, 7.0]]), 2).tolist()
    [[2.0, 6.0]]
    """
    if factor == 1:
        return np.asarray(values, dtype=np.float32)
    height, width = values.shape
    padding = [(0, -height % factor), (0, -width % factor)]
    padded = np.pad(np.asarray(values, np.float64), padding, constant_values=np.nan)
    rows, columns = padded.shape[0] // factor, padded.shape[1] // factor
    blocks = padded.reshape(rows, factor, columns, factor)
    counts = (~np.isnan(blocks)).sum(axis=(1, 3))
    with np.errstate(invalid="ignore"):
        means = np.nansum(blocks, axis=(1, 3)) / counts
    return np.asarray(means, dtype=np.float32)


def write_maps(
    folder: Path,
    maps: Iterable[npt.NDArray[np.floating] | None],
    *,
    dtype: str = "float32",
    under: str = MAPS,
) -> dict[str, FileEntry]:
    """Write the maps of pixel actions and their index, holding one file's worth in memory.

    A file holds the map of one sample, or of as many neighbours as fit into 64 KiB: fetching one
    map fetches no more than that of others.

    Args:
        folder: folder of the record.
        maps: (H, W) of each sample in canonical order, sizes may differ; None for a sample
            without a map.
        dtype: "float32" or "float16"; a file with a number too large for float16 is float32.
        under: folder inside the record.

    Returns:
        path -> entry of every file.
    """
    entries: dict[str, FileEntry] = {}
    index: dict[str, list[int]] = {name: [] for name in ("height", "width", "file", "row")}
    waiting: list[tuple[int, npt.NDArray[np.floating]]] = []
    size = 0

    def write() -> None:
        if waiting:
            path = map_path(len(entries), under)
            entries[path] = _write_map_file(folder / path, waiting, dtype)
            waiting.clear()

    for sample, values in enumerate(maps):
        if values is not None and waiting and size + values.size * 4 > _MAP_FILE_BYTES:
            write()
        if not waiting:
            size = 0
        height, width = (0, 0) if values is None else values.shape
        file_and_row = (-1, -1) if values is None else (len(entries), len(waiting))
        for name, number in zip(index, (height, width, *file_and_row), strict=True):
            index[name].append(number)
        if values is not None:
            waiting.append((sample, values))
            size += values.size * 4
    write()
    columns = {name: np.array(numbers, dtype=np.int32) for name, numbers in index.items()}
    columns = {"sample": np.arange(len(columns["row"]), dtype=np.int32), **columns}
    path = f"{under}/index.parquet"
    entries[path] = write_table(folder / path, _table(columns))
    return entries


def _write_map_file(
    path: Path, maps: Sequence[tuple[int, npt.NDArray[np.floating]]], dtype: str
) -> FileEntry:
    flat = np.concatenate([values.ravel() for _, values in maps]).astype(np.float32)
    largest = np.max(np.abs(flat), where=np.isfinite(flat), initial=0.0)
    if dtype == "float16" and largest <= np.finfo(np.float16).max:
        flat = flat.astype(np.float16)
    ends = np.cumsum([0, *(values.size for _, values in maps)])
    table = _table(
        {
            "sample": np.array([sample for sample, _ in maps], dtype=np.int32),
            "height": np.array([values.shape[0] for _, values in maps], dtype=np.int32),
            "width": np.array([values.shape[1] for _, values in maps], dtype=np.int32),
            "map": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat)),
        }
    )
    split = {"map.list.element": "BYTE_STREAM_SPLIT"} if flat.dtype == np.float32 else None
    write_file(
        path,
        lambda temporary: pq.write_table(
            table,
            temporary,
            use_dictionary=False,
            column_encoding=split,
            write_statistics=False,
            **PAGE_OPTIONS,
        ),
    )
    return file_entry(path)


def read_map_index(manifest: Manifest, fetch: Fetch, *, under: str = MAPS) -> pd.DataFrame:
    """Where the map of each sample is: sample, height, width, file, row; file −1 without a map.

    Raises:
        NotFoundError: if the record holds no maps.
        CorruptRecordError: if the index is damaged, or promises a map larger than 2²⁸ pixels.
    """
    path = f"{under}/index.parquet"
    columns = ("sample", "height", "width", "file", "row")
    table = columns_of(open_table(manifest, path, fetch), columns)
    with corrupt_on_error(path):
        whole = np.dtype(np.int64)
        index = pd.DataFrame(
            {name: column_values(table[name].combine_chunks(), whole) for name in columns}
        )
        has_map = index["file"] >= 0
        if (index["file"] < -1).any() or (index.loc[has_map, ["row", "height", "width"]] < 0).any(
            axis=None
        ):
            raise ValueError("a place or size is negative")
    sides = index.loc[has_map, ["height", "width"]].clip(upper=_MAX_MAP_PIXELS + 1)
    largest = int((sides["height"] * sides["width"]).max()) if len(sides) else 0
    if largest > _MAX_MAP_PIXELS:
        raise CorruptRecordError(
            f"{path} names a map of {largest} pixels, more than any that this "
            "package writes. Restore the file, or record the run again."
        )
    return index


def read_map(
    manifest: Manifest, fetch: Fetch, index: pd.DataFrame, sample: int, *, under: str = MAPS
) -> npt.NDArray[np.float32]:
    """Read the map of pixel actions (H, W) of the sample at one row position.

    Sizes are checked against the index before anything is allocated.

    Args:
        manifest: the record's manifest.
        fetch: gives the local path of a file of the record.
        index: the frame of `read_map_index`.
        sample: row position.
        under: folder inside the record.

    Raises:
        NotFoundError: if the sample has no map.
        CorruptRecordError: if its file is missing, truncated, altered or not what the index says.
    """
    number, row = int(index["file"].iloc[sample]), int(index["row"].iloc[sample])
    if number < 0:
        raise NotFoundError(f"sample {sample} of the record {manifest.name} has no map.")
    name = map_path(number, under)
    file = open_any(manifest, name, fetch)
    with corrupt_on_error(name):
        _check_map_file(file, index.iloc[_in_same_file(index["file"].to_numpy(), sample)])
        table = columns_of(file, ["sample", "map"])
        if table["sample"][row].as_py() != sample:
            raise ValueError(f"sample {sample} is not in its place")
        flat = table["map"].combine_chunks()[row].values  # noqa: PD011 - not a frame's
        shape = (int(index["height"].iloc[sample]), int(index["width"].iloc[sample]))
        return column_values(flat, np.dtype(np.float32)).reshape(shape)


def _in_same_file(files: npt.NDArray[np.int32], sample: int) -> npt.NDArray[np.intp]:
    """Row positions whose maps are in the file of a sample: neighbours, so not all are asked."""
    width = 32
    while True:
        start, stop = max(0, sample - width), min(len(files), sample + width)
        near = files[start:stop]
        same_file = near == files[sample]
        others = np.flatnonzero(~same_file & (near >= 0)) + start
        left = start == 0 or (others < sample).any()
        if left and (stop == len(files) or (others > sample).any()):
            return np.flatnonzero(same_file) + start
        width *= 4


def _check_map_file(file: "ParquetTable", rows: pd.DataFrame) -> None:
    promised = int((rows["height"].astype(np.int64) * rows["width"]).sum())
    held = file.footer.n_values("map")
    if file.metadata.num_rows != len(rows) or held != promised:
        raise CorruptRecordError(
            f"{file.name} holds {held} numbers in {file.metadata.num_rows} maps where the index "
            f"says {promised} in {len(rows)}. Restore the file, or record the run again."
        )
