"""The hardest and the easiest samples of a record, and the distribution of scores by class."""

import numpy as np
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.tables import check_score, with_run_columns
from actiontrack.errors import ParameterError
from actiontrack.scores import hardness_sign

__all__ = [
    "class_distributions",
    "easiest",
    "hardest",
]


def class_distributions(scores: pd.DataFrame, *, score: str = "action") -> pd.DataFrame:
    """Distribution of a score per run and class (Fig. 6a), hardest class first.

    Args:
        scores: the frame of `load_scores`.
        score: column to summarise.

    Returns:
        run_id, run_name, model and the columns of `compare.class_summary`.

    Raises:
        ParameterError: if there is no such score.
    """
    check_score(scores, score)
    keys = ["run_id", "run_name", "model"]
    frames = []
    for key, rows in scores.groupby(keys, sort=False, observed=True):
        names = sorted(rows["class"].unique())
        codes = pd.Categorical(rows["class"], categories=names).codes
        summary = compare.class_summary(
            rows[score].to_numpy(), np.asarray(codes, dtype=np.int64), class_names=names
        )
        frames.append(with_run_columns(summary, dict(zip(keys, key, strict=True))))
    return pd.concat(frames, ignore_index=True)


def hardest(
    scores: pd.DataFrame, n: int = 10, *, by: str = "action", per_class: bool = False
) -> pd.DataFrame:
    """The n hardest samples of each run, hardest first (Fig. 1).

    Samples without a finite score are left out.

    Args:
        scores: the frame of `load_scores`.
        n: how many.
        by: score; its hard side comes first, see `scores.SCORES`.
        per_class: n of each class instead of n of each run.

    Raises:
        ParameterError: if there is no such score, or n < 1.
    """
    return _extremes(scores, n, by=by, per_class=per_class, ascending=hardness_sign(by) < 0)


def easiest(
    scores: pd.DataFrame, n: int = 10, *, by: str = "action", per_class: bool = False
) -> pd.DataFrame:
    """The n easiest samples of each run, easiest first (Fig. 4). See `hardest`."""
    return _extremes(scores, n, by=by, per_class=per_class, ascending=hardness_sign(by) > 0)


def _extremes(
    scores: pd.DataFrame, n: int, *, by: str, per_class: bool, ascending: bool
) -> pd.DataFrame:
    check_score(scores, by)
    if n < 1:
        raise ParameterError("n", "must be 1 or more", n, "Ask for at least one sample.")
    keys = ["run_id", "class"] if per_class else ["run_id"]
    finite = scores.loc[np.isfinite(scores[by].to_numpy(dtype=np.float64))]
    ordered = finite.sort_values(by, ascending=ascending, kind="stable")
    top: pd.DataFrame = ordered.groupby(keys, sort=False, observed=True).head(n)
    runs = pd.Categorical(top["run_id"], categories=scores["run_id"].unique())
    order = np.argsort(runs.codes, kind="stable")
    ranked: pd.DataFrame = top.iloc[order].reset_index(drop=True)
    return ranked
