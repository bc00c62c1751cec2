"""How far models agree: overlaps, ranks, contrasts, correlation by quantile and without noise."""

from collections.abc import Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.alignment import Alignment, class_column, shared_values
from actiontrack.analysis.comparison import Comparison, scores_of
from actiontrack.analysis.tables import model_of, pair_columns
from actiontrack.errors import ParameterError
from actiontrack.scores import hardness_sign
from actiontrack.store import StoredRecord

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "ABOVE_ONE",
    "contrasts",
    "correlation_by_quantile",
    "disattenuated_correlations",
    "mean_ranks",
    "top_k_overlaps",
]

#: What is said of an estimate of a correlation that exceeds 1.
ABOVE_ONE = "above 1: too few runs or samples for a better estimate"
_CONTRAST = [
    *("hard_for", "easy_for", "place", "sample_id", "class"),
    *("rank_hard", "rank_easy", "difference"),
]  # columns of `contrasts`


def disattenuated_correlations(comparison: Comparison) -> pd.DataFrame:
    """Cross-model correlations with the noise between runs of each model taken out.

    The observed correlation between two models is bounded by how well each agrees with itself;
    r_ab / √(r_aa r_bb) (Spearman 1904) is what is left of it once that is allowed for: 1 means
    that the models find the same samples hard.

    Args:
        comparison: of two models or more, with two runs or more of each.

    Returns:
        One row per method, pair of models and class: method, model_a, model_b, class, cross
        (r_ab), same_a (r_aa), same_b (r_bb), disattenuated (NaN without a positive same-model
        correlation of both), note (`ABOVE_ONE` where the estimate exceeds 1, which no correlation
        can; else ""). Empty where no model has two runs.
    """
    groups = comparison.groups
    same = groups.loc[groups["kind"] == "same-model", ["method", "model_a", "class", "mean"]]
    cross = groups.loc[groups["kind"] == "cross-model", ["method", "model_a", "model_b", "class"]]
    cross = cross.assign(cross=groups["mean"])
    for side in ("a", "b"):
        named = same.rename(columns={"model_a": f"model_{side}", "mean": f"same_{side}"})
        cross = cross.merge(named, on=["method", f"model_{side}", "class"], how="inner")
    values = compare.disattenuated(cross["cross"], cross["same_a"], cross["same_b"])
    return cross.assign(disattenuated=values, note=np.where(values > 1, ABOVE_ONE, ""))


def top_k_overlaps(
    aligned: Alignment, *, fractions: Sequence[float] = (0.01, 0.05, 0.1)
) -> pd.DataFrame:
    """Share of the hardest samples that two runs have in common, per pair of models.

    Args:
        aligned: the runs, see `align`.
        fractions: parts of the samples, above 0 and at most 1; k is the rounded number of samples
            and at least 1.

    Returns:
        One row per pair of models and fraction: kind, model_a, model_b, fraction, k, overlap
        (mean over the pairs of runs), lowest, highest, n_pairs, chance (k over the number of
        samples).

    Raises:
        ParameterError: if a fraction is out of range or there are fewer than two runs.
    """
    if not all(0 < fraction <= 1 for fraction in fractions):
        raise ParameterError(
            "fractions", "must lie above 0 and at most at 1", fractions, "Pass 0.05 for 5 %."
        )
    values, models = _difficulty(aligned), aligned.runs["model"].astype(str).to_numpy()
    if len(models) < 2:
        raise ParameterError("aligned", "must hold two runs or more", len(models), "Choose more.")
    first, second, pairs = pair_columns(models)
    frames = []
    for fraction in fractions:
        k = max(1, round(fraction * values.shape[1]))
        overlap = compare.top_k_overlap(values, k)[first, second]
        frames.append(pd.DataFrame(pairs | {"fraction": fraction, "k": k, "overlap": overlap}))
    keys = ["kind", "model_a", "model_b", "fraction", "k"]
    groups = pd.concat(frames, ignore_index=True).groupby(keys, sort=False)["overlap"]
    table = groups.agg(overlap="mean", lowest="min", highest="max", n_pairs="size").reset_index()
    table = table.assign(chance=table["k"] / values.shape[1])
    return table.sort_values("kind", kind="stable", ignore_index=True)


def mean_ranks(aligned: Alignment) -> pd.DataFrame:
    """How hard each sample is over all runs: its rank, from 0 (easiest) to 1 (hardest).

    Args:
        aligned: the runs, see `align`.

    Returns:
        One row per sample, the hardest first: sample_id, class, rank (mean over the runs), lowest,
        highest. Samples without a finite score in some run are left out.
    """
    finite = compare.finite_columns(aligned.values)
    ranks = _ranks(aligned, finite)
    frame = pd.DataFrame(
        {
            "sample_id": aligned.sample_ids[finite],
            "class": class_column(aligned)[finite],
            "rank": ranks.mean(axis=0),
            "lowest": ranks.min(axis=0),
            "highest": ranks.max(axis=0),
        }
    )
    return frame.sort_values("rank", ascending=False, kind="stable", ignore_index=True)


def _ranks(aligned: Alignment, finite: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Rank of each sample within its run, 0 the easiest and 1 the hardest, (n_runs, n_finite)."""
    return compare.relative_ranks(_difficulty(aligned)[:, finite])


def contrasts(aligned: Alignment, *, n: int = 12) -> pd.DataFrame:
    """The samples that are hard for one model and easy for another, for every ordered pair.

    Difficulty is the rank of a sample within its run, from 0 (easiest) to 1 (hardest), averaged
    over the runs of a model, so that models of different loss scales compare.

    Args:
        aligned: the runs, see `align`.
        n: samples of each ordered pair.

    Returns:
        One row per ordered pair and sample, the largest difference first: hard_for, easy_for,
        place (from 1), sample_id, class, rank_hard, rank_easy, difference. Samples without a
        finite score in some run are left out. Empty for a single model.

    Raises:
        ParameterError: if n < 1.
    """
    if n < 1:
        raise ParameterError("n", "must be 1 or more", n, "Ask for at least one sample.")
    finite = compare.finite_columns(aligned.values)
    ranks = _ranks(aligned, finite)
    models = aligned.runs["model"].astype(str)
    means = pd.DataFrame(ranks).groupby(models.to_numpy(), sort=False).mean()
    names = class_column(aligned)[finite]
    frames = []
    for hard, easy in permutations(means.index, 2):
        difference = means.loc[hard].to_numpy() - means.loc[easy].to_numpy()
        rows = np.argsort(-difference, kind="stable")[:n]
        columns = {
            "hard_for": hard,
            "easy_for": easy,
            "place": np.arange(1, len(rows) + 1),
            "sample_id": aligned.sample_ids[finite][rows],
            "class": names[rows],
            "rank_hard": means.loc[hard].to_numpy()[rows],
            "rank_easy": means.loc[easy].to_numpy()[rows],
            "difference": difference[rows],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=_CONTRAST)


def _difficulty(aligned: Alignment) -> npt.NDArray[np.float64]:
    """The scores (n_runs, n_samples) with the sign by which a high one is hard."""
    return np.multiply(hardness_sign(aligned.score), aligned.values)


def correlation_by_quantile(
    records: Sequence[StoredRecord],
    *,
    score: str = "action",
    on_mismatch: str = "error",
    up_to_step: int | None = None,
    client: "Client | None" = None,
) -> pd.DataFrame:
    """Correlation among the samples above each quantile of the score (Fig. 14), tidy.

    See `compare.correlation_by_quantile` for the columns, `align` for the errors and
    `compare_runs` for the client.
    """
    shared = shared_values(records, on_mismatch, up_to_step)
    models = [model_of(record) for record in shared.records]
    scores = scores_of(shared, score, up_to_step, client)
    return compare.correlation_by_quantile(scores, groups=models)
