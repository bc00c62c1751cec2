"""Do two models share their biases? Correlations between runs and between models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.alignment import SharedValues, shared_values
from actiontrack.analysis.cluster.scores import ClusterScores
from actiontrack.analysis.tables import runs_frame, save_frame
from actiontrack.store import StoredRecord
from actiontrack.store.notebook import table_html

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "Comparison",
    "compare_runs",
    "correlation_table",
    "scores_of",
]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Correlation of a score between runs (section 4.6, Table 1).

    Attributes:
        groups: mean over the pairs of a pair of models, tidy: method, kind, model_a, model_b,
            class, mean, ci_low, ci_high, n_pairs, n_samples, n_dropped.
        pairs: each pair of runs, tidy: method, run_a, run_b (run ids), class, value, n_samples,
            n_dropped.
        runs: the runs compared.
        score: the score compared.
        note: what an inner join left out, or the empty string.
        up_to_step: the last step that was scored, or None for all.
    """

    groups: pd.DataFrame
    pairs: pd.DataFrame
    runs: pd.DataFrame
    score: str
    note: str = ""
    up_to_step: int | None = None

    def table(self, method: str = "spearman") -> pd.DataFrame:
        """The paper's Table 1: a row per pair of models, a column per class."""
        return compare.table1(self.groups, method)  # type: ignore[arg-type]

    def _repr_html_(self) -> str:
        """Show itself in a notebook: Table 1 by Spearman's ρ."""
        note = f"Spearman's ρ of the {self.score} of {len(self.runs)} runs. {self.note}".strip()
        return table_html("Comparison", self.table("spearman"), note=note)

    def save(self, folder: Path) -> list[Path]:
        """Write every frame as Parquet and CSV."""
        frames = {"correlation_table": self.groups, "correlation_pairs": self.pairs}
        frames["runs"] = self.runs
        return [path for name, frame in frames.items() for path in save_frame(frame, folder / name)]


def compare_runs(
    records: Sequence[StoredRecord],
    *,
    score: str = "action",
    methods: Sequence[compare.Method] = ("spearman", "pearson"),
    n_bootstrap: int = 500,
    seed: int = 0,
    on_mismatch: str = "error",
    up_to_step: int | None = None,
    client: "Client | None" = None,
) -> Comparison:
    """Correlate a score between runs, Spearman and Pearson, overall and per class (4.6, Table 1).

    Args:
        records: open records of two runs or more.
        score: column of `scores.score_table`.
        methods: which of "spearman" and "pearson" to compute.
        n_bootstrap: resamples of the samples for the 95 % confidence intervals; 0 for none.
        seed: seed of the resampling.
        on_mismatch: see `align`.
        up_to_step: score the history up to this step only.
        client: of a Dask cluster whose workers read the scores and compare them, see `cluster`.
            Default: this process does.

    Raises:
        NotComparableError: if the runs do not measure the same thing on the same samples.
        ParameterError: if there are fewer than two runs.
        StoreError: if the cluster fails, or its workers can't read the artifacts.
    """
    shared = shared_values(records, on_mismatch, up_to_step)
    runs = runs_frame(shared.records)
    labels, names = shared.coded_labels()
    result = compare.correlations(
        scores_of(shared, score, up_to_step, client),
        labels,
        groups=runs["model"].tolist(),
        class_names=names,
        methods=methods,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    run_ids = runs["run_id"].to_numpy()
    pairs = result.pairs.assign(
        run_a=run_ids[result.pairs["run_a"]], run_b=run_ids[result.pairs["run_b"]]
    )
    return Comparison(
        groups=result.groups,
        pairs=pairs,
        runs=runs,
        score=score,
        note=shared.note,
        up_to_step=up_to_step,
    )


def scores_of(
    shared: SharedValues, score: str, up_to_step: int | None, client: "Client | None"
) -> npt.NDArray[np.float64] | ClusterScores:
    """Scores in this process, or where the workers of a cluster are."""
    if client is None:
        return shared.values(score, up_to_step)
    return shared.on_cluster(client, score, up_to_step)


def correlation_table(records: Sequence[StoredRecord], **options: Any) -> pd.DataFrame:
    """The tidy frame of Table 1: `compare_runs(...).groups`, with the same options."""
    return compare_runs(records, **options).groups
