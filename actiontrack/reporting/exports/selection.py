"""Which samples are suspect: by their score, and by what people said of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import analysis
from actiontrack.analysis import verdicts
from actiontrack.errors import ParameterError
from actiontrack.scores import hardness_sign
from actiontrack.store import StoredRecord

__all__ = ["Suspects", "mark_suspects", "ranks", "to_review"]


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """How suspect samples are chosen.

    Attributes:
        score: column of the score table that ranks them.
        share: part of the samples that is suspect, the hardest, from 0 to 1.
        top: their number, instead of the share.
        reviewed: whether verdicts count: a sample that people found fine is not suspect, one with
            a wrong label is, whatever its score.

    Raises:
        ParameterError: if the share is out of range or top is negative.
    """

    score: str = "action"
    share: float = 0.05
    top: int | None = None
    reviewed: bool = True

    def __post_init__(self) -> None:
        """Check everything once."""
        if not 0 <= self.share <= 1:
            raise ParameterError("share", "must lie in 0 to 1", self.share, "Pass 0.05 for 5 %.")
        if self.top is not None and self.top < 0:
            raise ParameterError("top", "must be 0 or more", self.top, "Pass a number of samples.")


def mark_suspects(record: StoredRecord, suspects: Suspects | None = None) -> pd.DataFrame:
    """Every sample of a record, with its rank, its verdict and whether it is suspect.

    Args:
        record: an open record.
        suspects: how they are chosen. Default: the hardest 5 % by action, and verdicts.

    Returns:
        One row per sample in canonical order: sample_id, label and class (where there are labels),
        <score>, rank (0 the easiest to 1 the hardest; NaN without a score), place (1 the
        hardest), verdict and new_class (missing where nobody said), suspect, reason.

    Raises:
        ParameterError: if there is no such score.
    """
    suspects = suspects or Suspects()
    table = analysis.score_frame([record])
    analysis.check_score(table, suspects.score)
    values = table[suspects.score].to_numpy(dtype=np.float64)
    rank = ranks(values, low_is_hard=hardness_sign(suspects.score) < 0)
    order = np.argsort(-np.nan_to_num(rank, nan=-1.0), kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(1, len(order) + 1)
    count = round(suspects.share * len(table)) if suspects.top is None else suspects.top
    hard = (place <= count) & np.isfinite(rank)
    names = [name for name in ("sample_id", "label", "class") if name in table.columns]
    frame = table[[*names, suspects.score]].assign(rank=rank, place=place)
    frame["class"] = frame["class"].astype(str)
    frame = _with_verdicts(record, frame, reviewed=suspects.reviewed)
    fine = (frame["verdict"] == "fine").fillna(value=False).to_numpy(dtype=np.bool_)
    wrong = (frame["verdict"] == "wrong_label").fillna(value=False).to_numpy(dtype=np.bool_)
    reason = np.where(hard & ~fine, f"among the {count} hardest by {suspects.score}", "")
    reason = np.where(wrong, "reviewed: wrong label", reason)
    return frame.assign(suspect=(hard & ~fine) | wrong, reason=reason)


def to_review(marked: pd.DataFrame) -> pd.DataFrame:
    """The suspect samples of `mark_suspects` that nobody has judged, the most suspect first."""
    return marked.loc[marked["suspect"] & marked["verdict"].isna()].sort_values("place")


def ranks(values: npt.NDArray[np.float64], *, low_is_hard: bool) -> npt.NDArray[np.float64]:
    """Rank of each sample, 0 the easiest and 1 the hardest, ties shared; NaN stays NaN."""
    ranked = pd.Series(-values if low_is_hard else values).rank()
    last = max(int(ranked.count()) - 1, 1)
    return np.asarray((ranked - 1) / last, dtype=np.float64)


def _with_verdicts(record: StoredRecord, frame: pd.DataFrame, *, reviewed: bool) -> pd.DataFrame:
    current = verdicts.current(verdicts.read(record)) if reviewed else None
    if current is None or current.empty:
        missing = pd.array([None] * len(frame), dtype="string")
        return frame.assign(verdict=missing, new_class=missing)
    last = current.set_index("sample_id")[["verdict", "new_class"]].astype("string")
    judged = last.reindex(pd.Index(frame["sample_id"].tolist()))
    return frame.assign(verdict=judged["verdict"].array, new_class=judged["new_class"].array)
