"""Scores for the next training: subsets, sampling weights and curricula."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.errors import ParameterError
from actiontrack.history import check_choice
from actiontrack.reporting.exports.files import write_bytes, write_csv
from actiontrack.reporting.exports.selection import Suspects, mark_suspects
from actiontrack.store import StoredRecord

__all__ = [
    "FAVOURS",
    "curriculum",
    "sampling_weights",
    "save_curriculum",
    "save_subset",
    "subset_indices",
]

#: What sampling weights favour.
FAVOURS = ("hard", "easy", "clean")


def subset_indices(record: StoredRecord, suspects: Suspects | None = None) -> npt.NDArray[np.int64]:
    """Positions of the samples that are not suspect, for `torch.utils.data.Subset`.

    Args:
        record: an open record of the training split.
        suspects: which samples are left out.

    Returns:
        Row positions in canonical order, ascending. They are indices into the dataset where ids
        count its items, as `IndexedDataset` makes them; else look ids up in `mark_suspects`.
    """
    return _indices(mark_suspects(record, suspects))


def sampling_weights(
    record: StoredRecord,
    suspects: Suspects | None = None,
    *,
    favour: str = "clean",
    power: float = 1.0,
) -> npt.NDArray[np.float64]:
    """Weights for `torch.utils.data.WeightedRandomSampler`.

    Args:
        record: an open record of the training split.
        suspects: the score that ranks, and which samples are suspect.
        favour: "hard" for (rank + 1/n)^power, "easy" for (1 − rank + 1/n)^power, "clean" for 0 of
            suspect samples and 1 of the others. A sample without a score has the middle rank.
        power: how strongly; above 0.

    Returns:
        (n_samples,) float64 in canonical order, with mean 1.

    Raises:
        ParameterError: if the choice or the power is out of range, or every sample is suspect.
    """
    if not power > 0:
        raise ParameterError("power", "must be above 0", power, "Pass 1.")
    return _weights(mark_suspects(record, suspects), favour, power)


def _indices(marked: pd.DataFrame) -> npt.NDArray[np.int64]:
    return np.flatnonzero(~marked["suspect"].to_numpy(dtype=np.bool_)).astype(np.int64)


def _weights(marked: pd.DataFrame, favour: str, power: float = 1.0) -> npt.NDArray[np.float64]:
    check_choice("favour", favour, FAVOURS)
    if favour == "clean":
        weights = 1.0 - marked["suspect"].to_numpy(dtype=np.float64)
    else:
        rank = np.nan_to_num(marked["rank"].to_numpy(dtype=np.float64), nan=0.5)
        weights = ((rank if favour == "hard" else 1 - rank) + 1 / len(rank)) ** power
    if not weights.sum() > 0:
        rule = "must leave a sample that is not suspect"
        raise ParameterError("suspects", rule, f"all {len(marked)} of them", "Lower the share.")
    return np.asarray(weights / weights.mean(), dtype=np.float64)


def curriculum(
    record: StoredRecord, suspects: Suspects | None = None, *, chunks: int = 10
) -> pd.DataFrame:
    """An order from easy to hard, in chunks in which every class has its share (4.5).

    Each class is cut into equal parts by its own ranks, so that no chunk lacks a class that is
    hard as a whole. Suspect samples are left out.

    Args:
        record: an open record of the training split.
        suspects: which samples are left out; `Suspects(share=0)` for none.
        chunks: number of chunks; 1 for a plain order.

    Returns:
        One row per sample in training order: position (from 0), chunk (from 0, the easiest),
        sample_id, class, <score>, rank. Samples without a score are left out.

    Raises:
        ParameterError: if chunks is not positive.
    """
    if chunks < 1:
        raise ParameterError("chunks", "must be 1 or more", chunks, "Pass 10, for instance.")
    suspects = suspects or Suspects()
    marked = mark_suspects(record, suspects)
    clean = marked.loc[~marked["suspect"] & marked["rank"].notna()]
    ordered = clean.sort_values("rank", kind="stable")
    groups = ordered.groupby("class", sort=False)["rank"]
    part = groups.cumcount() * chunks // groups.transform("size")
    ordered = ordered.assign(chunk=part.astype(np.int64))
    ordered = ordered.sort_values(["chunk", "rank"], kind="stable", ignore_index=True)
    ordered.insert(0, "position", np.arange(len(ordered)))
    return ordered[["position", "chunk", "sample_id", "class", suspects.score, "rank"]]


def save_subset(
    record: StoredRecord,
    folder: Path,
    suspects: Suspects | None = None,
    *,
    favour: str = "clean",
) -> list[Path]:
    """Write indices.npy and weights.npy, and samples.csv, which says why of every sample."""
    marked = mark_suspects(record, suspects)
    weights = _weights(marked, favour)
    table = marked.assign(weight=weights).drop(columns="label", errors="ignore")
    return [
        _save_array(folder / "indices.npy", _indices(marked)),
        _save_array(folder / "weights.npy", weights),
        write_csv(folder / "samples.csv", table),
    ]


def save_curriculum(
    record: StoredRecord, folder: Path, suspects: Suspects | None = None, *, chunks: int = 10
) -> list[Path]:
    """Write `curriculum` as curriculum.csv."""
    return [write_csv(folder / "curriculum.csv", curriculum(record, suspects, chunks=chunks))]


def _save_array(path: Path, values: npt.NDArray[np.generic]) -> Path:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return write_bytes(path, buffer.getvalue())
