"""Blocks of losses, a file per step, and the history that they make up."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actiontrack.history import LossHistory
from actiontrack.record.disk import FileEntry
from actiontrack.record.limits import check_claim
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import (
    Fetch,
    _table,
    column_values,
    columns_of,
    corrupt_on_error,
    open_table,
    promised_file,
    write_table,
)
from actiontrack.record.paths import block_path
from actiontrack.record.samples import Samples, read_samples
from actiontrack.record.threads import in_threads

__all__ = [
    "measure_dtype",
    "read_history",
    "write_block",
]

_READERS = 4  # blocks that are read at once


def write_block(folder: Path, step: int, columns: Mapping[str, npt.NDArray[Any]]) -> FileEntry:
    """Write one step.

    Args:
        folder: folder of the record.
        step: n of eq. 3.
        columns: "loss" and further columns, each (n_samples,). Masked arrays write nulls for
            samples that were not seen.
    """
    n_samples = len(columns["loss"])
    table = _table(
        {
            "sample": np.arange(n_samples, dtype=np.int32),
            "step": np.full(n_samples, step, dtype=np.int32),
            **columns,
        }
    )
    return write_table(folder / block_path(step), table)


def read_history(
    manifest: Manifest,
    fetch: Fetch,
    *,
    columns: Sequence[str] | None = None,
    samples: Samples | None = None,
) -> LossHistory:
    """Read the history of a record up to its last complete step.

    Args:
        manifest: the record's manifest.
        fetch: gives the local path of a file of the record.
        columns: measures and components to read beside the loss. Default: all of them.
        samples: as they were read before. Default: they are read now.

    Raises:
        CorruptRecordError: if a file is missing, truncated or altered.
    """
    samples = read_samples(manifest, fetch) if samples is None else samples
    recorded = (*manifest.measures, *manifest.components)
    names = ["loss", *(name for name in recorded if columns is None or name in columns)]
    grids, seen = _read_grids(manifest, fetch, names)
    with corrupt_on_error(manifest.name):
        return LossHistory(
            losses=grids.pop("loss"),
            sample_ids=samples.sample_ids,
            labels=samples.labels,
            true_labels=samples.true_labels,
            steps=np.array([entry.step for entry in manifest.steps], dtype=np.int64),
            deltas=np.array([entry.delta for entry in manifest.steps], dtype=np.float64),
            seen=seen,
            measures={name: grids[name] for name in manifest.measures if name in grids},
            components={name: grids[name] for name in manifest.components if name in grids},
            class_names=manifest.class_names,
            split=manifest.split,
            mode=manifest.mode,
            delta_kind=manifest.delta_kind,
            loss_name=manifest.loss_name,
        )


def _read_grids(
    manifest: Manifest, fetch: Fetch, names: Sequence[str]
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.bool_]]:
    shape = (manifest.n_steps, manifest.n_samples)
    types = {name: np.dtype(measure_dtype(name)) for name in names}
    stored = sum(promised_file(manifest, block_path(entry.step)).bytes for entry in manifest.steps)
    width = 1 + sum(dtype.itemsize for dtype in types.values())
    check_claim(f"the record {manifest.name}", shape[0] * shape[1] * width, stored)
    grids = {name: np.empty(shape, dtype=types[name]) for name in names}
    seen = np.empty(shape, dtype=np.bool_)

    def read(row: int) -> None:
        step = manifest.steps[row]
        path = block_path(step.step)
        table = columns_of(open_table(manifest, path, fetch), names)
        with corrupt_on_error(path):
            partial = step.n_seen < manifest.n_samples
            seen[row] = table["loss"].is_valid().to_numpy() if partial else True
            for name in names:
                grids[name][row] = _filled(table[name], types[name])

    in_threads(read, range(manifest.n_steps), _READERS)  # decoding and digests release the GIL
    return grids, seen


def measure_dtype(name: str) -> type[np.generic]:
    """Type of the numbers of a loss or measure in a history."""
    if name == "correct":
        return np.bool_
    return np.int32 if name == "predicted" else np.float32


def _filled(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if column.null_count:
        missing: float | int | bool = np.nan
        if dtype.kind in "bi":
            missing = False if dtype.kind == "b" else -1
        column = column.fill_null(missing)
    return column_values(column, dtype)
