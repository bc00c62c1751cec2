"""Score table, features and class probabilities of a record."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.record.disk import FileEntry
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import (
    Fetch,
    _table,
    any_values,
    column_values,
    columns_of,
    corrupt_on_error,
    frame_columns,
    open_table,
    write_table,
)
from actiontrack.record.paths import FEATURES, PROBABILITIES, SCORES

__all__ = [
    "check_scores",
    "read_features",
    "read_probabilities",
    "read_scores",
    "write_features",
    "write_probabilities",
    "write_scores",
]

_SUM_TOLERANCE = 1e-3  # by which a distribution of bfloat16 or float32 numbers may miss 1


def write_scores(folder: Path, scores: pd.DataFrame) -> FileEntry:
    """Write scores.parquet: the frame of `scores.score_table` and its row positions."""
    table = _table({"sample": np.arange(len(scores), dtype=np.int32)} | frame_columns(scores))
    return write_table(folder / SCORES, table)


def write_features(folder: Path, features: npt.NDArray[np.floating]) -> FileEntry:
    """Write features.parquet from (n_samples, n_features) in canonical order, kept as float32."""
    return _write_vectors(folder / FEATURES, "features", features)


def write_probabilities(folder: Path, probabilities: npt.NDArray[np.floating]) -> FileEntry:
    """Write probabilities.parquet: what the final model says of each sample (section 4.1).

    Args:
        folder: folder of the record.
        probabilities: (n_samples, n_classes) in canonical order, kept as float32.

    Raises:
        ParameterError: if they are no distributions: not two-dimensional, not finite, negative,
            or with rows that do not sum to 1.
    """
    _check_distributions(probabilities)
    return _write_vectors(folder / PROBABILITIES, "probabilities", probabilities)


def _check_distributions(probabilities: npt.NDArray[np.floating]) -> None:
    remedy = "Pass softmax(logits) of each sample."
    if probabilities.ndim != 2 or not probabilities.shape[1]:
        rule = "must have shape (n_samples, n_classes)"
        raise ParameterError("probabilities", rule, probabilities.shape, remedy)
    if not (np.isfinite(probabilities) & (probabilities >= 0)).all():
        valid = (np.isfinite(probabilities) & (probabilities >= 0)).all(axis=1)
        rule, row = "must be finite and not negative", probabilities[~valid][0].tolist()
        raise ParameterError("probabilities", rule, row, remedy)
    sums = probabilities.sum(axis=1, dtype=np.float64)
    wrong = np.abs(sums - 1) > _SUM_TOLERANCE
    if wrong.any():
        rule = f"must sum to 1 in each row, within {_SUM_TOLERANCE:g}"
        raise ParameterError("probabilities", rule, float(sums[wrong][0]), remedy)


def _write_vectors(path: Path, name: str, vectors: npt.NDArray[np.floating]) -> FileEntry:
    """A table of one float32 vector per sample, all of the same length."""
    n_samples, width = vectors.shape
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    columns = {
        "sample": np.arange(n_samples, dtype=np.int32),
        name: pa.FixedSizeListArray.from_arrays(flat, width),
    }
    return write_table(path, _table(columns))


def read_scores(
    manifest: Manifest, fetch: Fetch, *, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read scores.parquet, without the column `sample`.

    Raises:
        NotFoundError: if there is no such score.
        CorruptRecordError: if the file is missing, truncated or altered.
    """
    file = open_table(manifest, SCORES, fetch)
    available = [name for name in file.names if name != "sample"]
    check_scores(columns or (), available)
    table = columns_of(file, available if columns is None else columns)
    with corrupt_on_error(SCORES):
        return pd.DataFrame(
            {name: any_values(table[name], file.stored) for name in table.column_names}
        )


def check_scores(names: Sequence[str], available: Sequence[str]) -> None:
    """Refuse the name of a score that the record does not give.

    Raises:
        NotFoundError: names the score and those that there are.
    """
    for name in names:
        if name not in available:
            scores = ", ".join(available)
            raise NotFoundError(f"no score {name!r} in the record. There are: {scores}.")


def read_features(manifest: Manifest, fetch: Fetch) -> npt.NDArray[np.float32]:
    """Read (n_samples, n_features) float32."""
    return _read_vectors(manifest, FEATURES, "features", fetch)


def read_probabilities(manifest: Manifest, fetch: Fetch) -> npt.NDArray[np.float32]:
    """Read the final model's (n_samples, n_classes) float32.

    Raises:
        NotFoundError: if the record holds none.
        CorruptRecordError: if the file is missing, truncated or altered, or holds no
            distributions.
    """
    probabilities = _read_vectors(manifest, PROBABILITIES, "probabilities", fetch)
    with corrupt_on_error(PROBABILITIES):
        _check_distributions(probabilities)
    return probabilities


def _read_vectors(
    manifest: Manifest, path: str, name: str, fetch: Fetch
) -> npt.NDArray[np.float32]:
    table = columns_of(open_table(manifest, path, fetch), [name])
    with corrupt_on_error(path):
        column = table[name].combine_chunks()
        if not pa.types.is_fixed_size_list(column.type) or column.null_count:
            raise TypeError(f"{name} is {column.type}, or has samples without one")
        flat = column_values(column.flatten(), np.dtype(np.float32))
        return flat.reshape(manifest.n_samples, column.type.list_size)
