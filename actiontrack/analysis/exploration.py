"""Looking at scores by hand: choose samples, count them, lay two runs or two scores side by side.

Every function takes the frames and records of `actiontrack.analysis` and returns a frame.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.analysis.alignment import align, class_column
from actiontrack.analysis.ensembles import ensemble_scores
from actiontrack.analysis.loading import score_frame
from actiontrack.analysis.tables import check_score, open_record, open_records
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.history import check_choice
from actiontrack.scores import hardness_sign, min_max
from actiontrack.store import StoredRecord

__all__ = [
    "CORRECT",
    "ORDERS",
    "SampleFilter",
    "action_and_entropy",
    "choose_region",
    "choose_samples",
    "sample_ranks",
    "score_histogram",
    "score_pairs",
    "verdict_precision",
]

#: Orders of samples: hardest first or easiest first.
ORDERS = ("hardest", "easiest")
#: Choices of a filter by predictions: all, only right ones, only wrong ones.
CORRECT = ("all", "correct", "wrong")
_MAX_BINS = 1000


@dataclass(frozen=True, kw_only=True)
class SampleFilter:
    """Which samples of a score frame.

    Attributes:
        classes: names of classes. Default: all of them.
        correct: "all", "correct" or "wrong" by the prediction of the last step.
        low: least value of the score.
        high: greatest value of the score. With either bound, samples without a score are left out.
    """

    classes: tuple[str, ...] = ()
    correct: str = "all"
    low: float | None = None
    high: float | None = None


def choose_samples(
    scores: pd.DataFrame,
    sample_filter: SampleFilter | None = None,
    *,
    score: str = "action",
    order: str | None = None,
) -> pd.DataFrame:
    """The samples of a score frame that a filter lets through.

    Args:
        scores: the frame of `analysis.load_scores`.
        sample_filter: which samples. Default: all of them.
        score: the score of the range and of the order.
        order: "hardest" or "easiest" first, samples without a score last. Default: as they are.

    Raises:
        ParameterError: if there is no such score, class or choice, or `correct` is asked of a
            record without predictions.
    """
    sample_filter = sample_filter or SampleFilter()
    values = _column(scores, score)
    keep = _class_mask(scores, sample_filter.classes) & _correct_mask(scores, sample_filter.correct)
    if sample_filter.low is not None:
        keep &= values >= sample_filter.low
    if sample_filter.high is not None:
        keep &= values <= sample_filter.high
    rows = np.flatnonzero(keep)
    if order is not None:
        check_choice("order", order, ORDERS)
        easiness = -hardness_sign(score) * values[rows]
        rows = rows[np.argsort(easiness if order == "hardest" else -easiness, kind="stable")]
    chosen: pd.DataFrame = scores.iloc[rows]
    return chosen


def score_histogram(
    scores: pd.DataFrame, *, score: str = "action", bins: int = 50, by_class: bool = False
) -> pd.DataFrame:
    """How many samples have which score.

    Args:
        scores: the frame of `analysis.load_scores` of one run.
        score: column to count.
        bins: bins of equal width from the least to the greatest finite score.
        by_class: count each class alone, in the same bins.

    Returns:
        One row per bin (and class): class ("all" without `by_class`), low, high, count. Scores
        that are not finite are not counted. Empty without finite scores.

    Raises:
        ParameterError: if there is no such score, or bins is not from 1 to 1000.
    """
    if not 1 <= bins <= _MAX_BINS:
        raise ParameterError("bins", f"must lie in 1 to {_MAX_BINS}", bins, "Pass 50.")
    values = _column(scores, score)
    finite = np.isfinite(values)
    names = scores["class"].astype(str).to_numpy() if by_class else np.full(len(values), "all")
    if not finite.any():
        return pd.DataFrame({"class": [], "low": [], "high": [], "count": []})
    edges = np.histogram_bin_edges(values[finite], bins)
    frames = []
    for name in pd.unique(names[finite]) if by_class else ["all"]:
        counts, _ = np.histogram(values[finite & (names == name)], edges)
        columns = {"class": name, "low": edges[:-1], "high": edges[1:], "count": counts}
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def score_pairs(
    first: StoredRecord,
    other: StoredRecord,
    *,
    score: str = "action",
    on_mismatch: str = "error",
    up_to_step: int | None = None,
) -> pd.DataFrame:
    """One score of two runs side by side; see `analysis.align` for the options.

    Returns:
        One row per sample: sample_id, class, score_a (of `first`), score_b (of `other`).

    Raises:
        NotComparableError: see `analysis.align`.
        ParameterError: if there is no such score, or both are the same run.
    """
    open_record(other, argument="other")
    open_record(first, argument="first")
    if first.run.run_id == other.run.run_id:
        run = first.run.run_id
        raise ParameterError("run", "must name two different runs", run, "Choose another run.")
    aligned = align([first, other], score=score, on_mismatch=on_mismatch, up_to_step=up_to_step)
    rows, values = aligned.runs["run_id"].tolist(), aligned.values  # noqa: PD011 - not a frame's
    return pd.DataFrame(
        {
            "sample_id": aligned.sample_ids,
            "class": class_column(aligned),
            "score_a": values[rows.index(first.run.run_id)],
            "score_b": values[rows.index(other.run.run_id)],
        }
    )


def action_and_entropy(records: Sequence[StoredRecord]) -> pd.DataFrame:
    """Action against predictive entropy of each sample, both min–max normalised (Fig. 6b, 7).

    Args:
        records: one run, whose final predictive entropy counts, or an ensemble of runs that hold
            class probabilities, see `analysis.ensemble_scores`.

    Returns:
        sample_id, class, action, entropy (both 0 to 1), mean_action (in the unit of the runs),
        entropy_nats, and correct.

    Raises:
        NotFoundError: if the runs hold no entropy.
        NotComparableError: if the runs do not measure the same thing on the same samples.
    """
    records = open_records(records)
    columns = ["sample_id", "class", "action", "entropy", "mean_action", "entropy_nats", "correct"]
    if len(records) > 1:
        return ensemble_scores(records)[columns]
    table = score_frame(records)
    if "final_entropy" not in table.columns:
        run = records[0].run
        raise NotFoundError(
            f"record {records[0].name} of run {run.run_id} ({run.name}) holds no entropy. "
            "Record a classifier with logits."
        )
    action, entropy = _column(table, "action"), _column(table, "final_entropy")
    normalised = {"action": min_max(action), "entropy": min_max(entropy)}
    raw = {"mean_action": action, "entropy_nats": entropy}
    return table.drop(columns="action").assign(**normalised, **raw)[columns]


def verdict_precision(
    scores: pd.DataFrame,
    verdicts: pd.DataFrame,
    *,
    score: str = "action",
    ks: Sequence[int] | None = None,
) -> pd.DataFrame:
    """How many of the hardest samples people found to be labelled wrong.

    Args:
        scores: the frame of `analysis.load_scores` of one run.
        verdicts: sample_id and verdict, one row per sample that was judged.
        score: the score that ranks.
        ks: how many of the hardest to look at. Default: 10, 20, 50, 100, 200, 500, 1000 as far
            as there are samples, and all that were judged up to the last one.

    Returns:
        One row per k: k, n_judged (of the k hardest), n_wrong, n_ambiguous, n_fine, precision
        (n_wrong / n_judged; NaN if none was judged), lowest (n_wrong / k: if all others are
        fine) and highest (if all others are wrong).

    Raises:
        ParameterError: if there is no such score, or a k is out of range.
    """
    ranked = choose_samples(scores, score=score, order="hardest")["sample_id"]
    places = np.flatnonzero(ranked.isin(verdicts["sample_id"]))  # judged, the hardest first
    named = verdicts.set_index("sample_id")["verdict"]
    judgements = named.reindex(ranked.iloc[places]).to_numpy(dtype=object)
    sizes = np.array(_sizes(ks, places, len(ranked)))
    n_judged = np.searchsorted(places, sizes)  # how many of them are among the k hardest
    counts = {
        name: np.r_[0, np.cumsum(judgements == value)][n_judged]
        for name, value in (("wrong", "wrong_label"), ("ambiguous", "ambiguous"), ("fine", "fine"))
    }
    with np.errstate(invalid="ignore"):
        precision = counts["wrong"] / np.where(n_judged > 0, n_judged, np.nan)
    return pd.DataFrame(
        {
            "k": sizes,
            "n_judged": n_judged,
            **{f"n_{name}": values for name, values in counts.items()},
            "precision": precision,
            "lowest": counts["wrong"] / sizes,
            "highest": (counts["wrong"] + sizes - n_judged) / sizes,
        }
    )


def _sizes(ks: Sequence[int] | None, places: npt.NDArray[np.intp], total: int) -> list[int]:
    if ks is None:
        usual = {size for size in (10, 20, 50, 100, 200, 500, 1000) if size <= total}
        last = int(places[-1]) + 1 if len(places) else total
        return sorted(usual | {last})
    wrong = [k for k in ks if not 1 <= k <= total]
    if wrong:
        rule = f"must lie in 1 to {total}, the number of samples"
        raise ParameterError("k", rule, wrong[0], "Pass a smaller number.")
    return sorted(set(ks))


def _column(scores: pd.DataFrame, score: str) -> npt.NDArray[np.float64]:
    check_score(scores, score)
    return scores[score].to_numpy(dtype=np.float64)


def _class_mask(scores: pd.DataFrame, classes: Sequence[str]) -> npt.NDArray[np.bool_]:
    if not classes:
        return np.ones(len(scores), dtype=np.bool_)
    present = {str(name) for name in scores["class"].unique()}
    unknown = [name for name in classes if name not in present]
    if unknown:
        rule = f"must be one of {', '.join(sorted(present))}"
        raise ParameterError("class", rule, unknown[0], "Choose one of these.")
    return np.asarray(scores["class"].isin(list(classes)))


def _correct_mask(scores: pd.DataFrame, correct: str) -> npt.NDArray[np.bool_]:
    check_choice("correct", correct, CORRECT)
    if correct == "all":
        return np.ones(len(scores), dtype=np.bool_)
    if "correct" not in scores.columns:
        raise ParameterError(
            "correct", "must be 'all' for a record without predictions", correct, "Choose 'all'."
        )
    right = scores["correct"].to_numpy(dtype=np.bool_)
    return right if correct == "correct" else ~right


def sample_ranks(scores: pd.DataFrame, names: Sequence[str], row: int) -> pd.DataFrame:
    """Where one sample stands among all, by each of several scores.

    Args:
        scores: the frame of `analysis.load_scores` of one run.
        names: the scores.
        row: row position of the sample.

    Returns:
        One row per score: score, value, rank (1 for the hardest; the least of samples that tie)
        and percentile (share of the samples with a score, in percent, that are easier), both NaN
        for a sample without a score; one whose score is infinite has both.

    Raises:
        ParameterError: if there is no such score.
    """
    rows = []
    for name in names:
        values = _column(scores, name) * hardness_sign(name)
        value_of_sample = values[row]
        scored = ~np.isnan(values)
        rank, percentile = np.nan, np.nan
        if not np.isnan(value_of_sample):
            rank = 1.0 + np.count_nonzero(values > value_of_sample)
            percentile = 100.0 * np.count_nonzero(values < value_of_sample) / scored.sum()
        value = float(scores[name].iloc[row])
        rows.append({"score": name, "value": value, "rank": rank, "percentile": percentile})
    return pd.DataFrame(rows, columns=["score", "value", "rank", "percentile"])


def choose_region(
    frame: pd.DataFrame, x: str, y: str, region: Sequence[float | None]
) -> pd.DataFrame:
    """The rows of a frame that lie in a box in the plane of two columns (Fig. 7 by hand).

    Args:
        frame: any frame.
        x: column across.
        y: column up.
        region: least and greatest x, then of y; None where there is no bound.

    Returns:
        The rows inside, in their order, bounds included. With a bound, rows that are NaN in its
        column are left out.

    Raises:
        ParameterError: if a column is missing or there are not four bounds.
    """
    if len(region) != 4:
        raise ParameterError(
            "region", "must be four bounds", list(region), "Pass x from, x to, y from, y to."
        )
    missing = [name for name in (x, y) if name not in frame.columns]
    if missing:
        rule = f"must be columns among {', '.join(map(str, frame.columns))}"
        raise ParameterError("x, y", rule, missing[0], "Choose two of these.")
    keep = np.ones(len(frame), dtype=np.bool_)
    for column, low, high in ((x, *region[:2]), (y, *region[2:])):
        values = frame[column].to_numpy(dtype=np.float64)
        keep &= values >= low if low is not None else True
        keep &= values <= high if high is not None else True
    chosen: pd.DataFrame = frame.loc[keep]
    return chosen
