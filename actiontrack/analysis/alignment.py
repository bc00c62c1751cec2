"""Scores of several runs as the columns of one table, row by row the same sample."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.analysis.cluster.scores import ClusterScores
from actiontrack.analysis.comparable import check_same_measure, sample_difference, shared_samples
from actiontrack.analysis.loading import concurrently, score_column
from actiontrack.analysis.tables import by_model_and_time, open_records, runs_frame
from actiontrack.errors import NotComparableError
from actiontrack.history import Classes, check_choice
from actiontrack.store import StoredRecord
from actiontrack.store.notebook import table_html

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "Alignment",
    "SharedValues",
    "align",
    "class_column",
    "shared_values",
]


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """One score of several runs on the same samples.

    Attributes:
        values: (n_runs, n_samples) float64; runs by model, then by time.
        sample_ids: (n_samples,).
        labels: (n_samples,) int64 or None.
        class_names: names of the class indices.
        runs: the frame of `runs_frame`, one row per row of `values`.
        score: column that the values are of.
        note: what an inner join left out, or the empty string.
    """

    values: npt.NDArray[np.float64]
    sample_ids: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None
    class_names: tuple[str, ...]
    runs: pd.DataFrame
    score: str = "action"
    note: str = ""

    def _repr_html_(self) -> str:
        """Show itself in a notebook: the runs."""
        note = f"{self.score} of {self.values.shape[1]} samples in each. {self.note}".strip()
        return table_html("Aligned runs", self.runs, note=note)


def align(
    records: Sequence[StoredRecord],
    *,
    score: str = "action",
    on_mismatch: str = "error",
    up_to_step: int | None = None,
) -> Alignment:
    """One score of several runs, sample by sample.

    Args:
        records: open records.
        score: column of `scores.score_table`.
        on_mismatch: what to do if the runs' samples differ: "error", or "inner" for the samples
            that all have with the same label and input.
        up_to_step: score the history up to this step only.

    Raises:
        NotComparableError: if mode, loss, Δn or number of steps differ, or the samples do.
        ParameterError: if there is no such score.
    """
    shared = shared_values(records, on_mismatch, up_to_step)
    return shared.alignment(shared.values(score, up_to_step), score)


@dataclass(frozen=True, kw_only=True)
class SharedValues:
    """The samples that comparable records have in common.

    Attributes:
        records: by model, then by time.
        positions: of the common samples in each record, None where those are all.
        note: what an inner join left out, or the empty string.
    """

    records: Sequence[StoredRecord]
    positions: list[npt.NDArray[np.intp]] | None
    note: str

    @property
    def n_samples(self) -> int:
        """How many samples all records share."""
        first = self.records[0].manifest.n_samples
        return first if self.positions is None else self.positions[0].size

    def sample_ids(self) -> npt.NDArray[Any]:
        """Ids of the shared samples, shape (samples,)."""
        ids: npt.NDArray[Any] = self.records[0].samples.sample_ids[self._kept()]
        return ids

    def labels(self) -> npt.NDArray[np.int64] | None:
        """Class indices of the shared samples, or None without labels."""
        labels = self.records[0].samples.labels
        return None if labels is None else labels[self._kept()].astype(np.int64)

    def coded_labels(self) -> tuple[npt.NDArray[np.int64] | None, tuple[str, ...]]:
        """Labels that are all positions in names, and the names: see `history.Classes.coded`."""
        labels, names = self.labels(), self.records[0].manifest.class_names
        return (None, names) if labels is None else Classes(names).coded(labels)

    def values(self, score: str, up_to_step: int | None) -> npt.NDArray[np.float64]:
        """Scores (n_runs, n_samples), read by this process."""
        values = np.empty((len(self.records), self.n_samples))

        def load(row: int) -> None:  # into its place: all scores are in memory once, not twice
            column = score_column(self.records[row], score, up_to_step)
            values[row] = column if self.positions is None else column[self.positions[row]]

        concurrently(load, range(len(self.records)), "scores")
        return values

    def on_cluster(self, client: "Client", score: str, up_to_step: int | None) -> ClusterScores:
        """The same scores, read by the workers of a Dask cluster."""
        return ClusterScores(
            client,
            self.records,
            partial(score_column, score=score, up_to_step=up_to_step),
            positions=self.positions,
            n_samples=self.n_samples,
        )

    def alignment(self, values: npt.NDArray[np.float64], score: str) -> Alignment:
        """The scores `values`, shape (runs, samples), with what describes their samples."""
        return Alignment(
            values=values,
            sample_ids=self.sample_ids(),
            labels=self.labels(),
            class_names=self.records[0].manifest.class_names,
            runs=runs_frame(self.records),
            score=score,
            note=self.note,
        )

    def _kept(self) -> Any:
        return slice(None) if self.positions is None else self.positions[0]


def shared_values(
    records: Sequence[StoredRecord], on_mismatch: str, up_to_step: int | None
) -> SharedValues:
    """The common samples of records; see `align` for the errors."""
    records = open_records(records)
    check_choice("on_mismatch", on_mismatch, ("error", "inner"))
    records = sorted(records, key=by_model_and_time)
    check_same_measure(records, up_to_step)
    difference = sample_difference(records)
    if difference and on_mismatch == "error":
        raise NotComparableError(
            f"the runs do not have the same samples: {difference}. "
            "Compare runs on the same data, or ask for the samples that all share with "
            "on_mismatch='inner' (--on-mismatch inner)."
        )
    positions, note = shared_samples(records) if difference else (None, "")
    return SharedValues(records=records, positions=positions, note=note)


def class_column(aligned: Alignment) -> npt.NDArray[np.object_]:
    """Name of the class of each sample of aligned runs, "all" without labels."""
    if aligned.labels is None:
        return np.full(len(aligned.sample_ids), "all", dtype=object)
    return Classes(aligned.class_names).of_each(aligned.labels)
