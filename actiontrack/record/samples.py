"""samples.parquet: ids, labels, paths and digests of a record's samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from actiontrack.errors import ParameterError
from actiontrack.history import IdArray, IntArray
from actiontrack.record.disk import FileEntry
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import (
    Fetch,
    _table,
    columns_of,
    corrupt_on_error,
    id_values,
    open_table,
    optional_texts,
    optional_values,
    write_table,
)
from actiontrack.record.paths import SAMPLES

__all__ = [
    "Samples",
    "read_samples",
    "write_samples",
]

_SAMPLE_COLUMNS = ("sample_id", "label", "true_label", "path", "input_digest")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The rows of a split in canonical order (ascending ids).

    Attributes:
        sample_ids: (n_samples,) int64 or str.
        labels: (n_samples,) int64 or None.
        true_labels: (n_samples,) int64 or None.
        paths: (n_samples,) paths relative to the root of the dataset's source, or None.
        input_digests: (n_samples,) 32 hex characters each, see `digest.digest_input`, or None.
    """

    sample_ids: IdArray
    labels: IntArray | None = None
    true_labels: IntArray | None = None
    paths: Sequence[str] | None = None
    input_digests: Sequence[str] | None = None


def write_samples(folder: Path, samples: Samples) -> FileEntry:
    """Write samples.parquet into `folder`.

    Raises:
        ParameterError: if an id or path has no form in UTF-8.
    """
    try:
        table = _table(_sample_columns(samples))
    except UnicodeEncodeError as error:
        rule = "must be text that UTF-8 can hold"
        raise ParameterError("ids", rule, error.object[:80], "Rename the sample.") from error
    return write_table(folder / SAMPLES, table)


def _sample_columns(samples: Samples) -> dict[str, Any]:
    n_samples = len(samples.sample_ids)
    return {
        "sample": np.arange(n_samples, dtype=np.int32),
        "sample_id": pa.array(samples.sample_ids.tolist()),
        "label": samples.labels,
        "true_label": samples.true_labels,
        "path": samples.paths,
        "input_digest": samples.input_digests,
    }


def read_samples(manifest: Manifest, fetch: Fetch) -> Samples:
    """Read the samples of a record.

    Raises:
        NotFoundError: if the record has none yet.
        CorruptRecordError: if the file is missing, truncated or altered, or ids or labels are not
            what they must be.
    """
    file = open_table(manifest, SAMPLES, fetch)
    table = columns_of(file, [name for name in _SAMPLE_COLUMNS if name in file.names])
    with corrupt_on_error(SAMPLES):
        samples = Samples(
            sample_ids=id_values(table["sample_id"], file.stored),
            labels=optional_values(table, "label"),
            true_labels=optional_values(table, "true_label"),
            paths=optional_texts(table, "path", file.stored),
            input_digests=optional_texts(table, "input_digest", file.stored),
        )
        _check_ids(samples.sample_ids, manifest.id_type)
    return samples


def _check_ids(ids: IdArray, id_type: str) -> None:
    if id_type and (id_type == "int64") != (ids.dtype.kind in "iu"):
        raise ValueError(f"sample_ids: must be {id_type}, got {ids.dtype.name}")
    if ids.size > 1 and not bool((ids[1:] > ids[:-1]).all()):  # type: ignore[operator]
        raise ParameterError(
            "sample_ids", "must be unique and ascending", ids[:5].tolist(), "Sort by id first."
        )
