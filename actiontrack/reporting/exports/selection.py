"""Which samples are suspect: by their score, and by what people said of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import analysis
from actiontrack.analysis import verdicts
from actiontrack.analysis.fixes import check_label_evidence, suggestions
from actiontrack.errors import ParameterError
from actiontrack.scores import hardness_sign
from actiontrack.store import StoredRecord

__all__ = ["DEFAULT_SHARE", "Suspects", "mark_suspects", "ranks", "to_review"]

#: Part of the samples that is suspect where nothing else is said.
DEFAULT_SHARE = 0.05
_P_WRONG = "p_wrong"  # the score that comes with suggestions


@dataclass(frozen=True, kw_only=True)
class Suspects:
    """How suspect samples are chosen.

    Attributes:
        score: column of the score table that ranks them.
        share: part of the samples that is suspect, the hardest, from 0 to 1. Default: 0.05.
        top: their number, instead of the share.
        at_least: value of the score from which on a sample is suspect, instead of the share; of a
            score whose low values are hard, the value down from which.
        reviewed: whether verdicts count: a sample that people found fine is not suspect, one with
            a wrong label is, whatever its score.

    Raises:
        ParameterError: if the share is out of range, top is negative, or at_least is no number or
            comes with one of the two.
    """

    score: str = "action"
    share: float | None = None
    top: int | None = None
    at_least: float | None = None
    reviewed: bool = True

    def __post_init__(self) -> None:
        """Check everything once."""
        if self.share is not None and not 0 <= self.share <= 1:
            raise ParameterError("share", "must lie in 0 to 1", self.share, "Pass 0.05 for 5 %.")
        if self.top is not None and self.top < 0:
            raise ParameterError("top", "must be 0 or more", self.top, "Pass a number of samples.")
        if self.at_least is None:
            return
        if np.isnan(self.at_least):
            raise ParameterError("at_least", "must be a number", self.at_least, "Pass 0.5.")
        if self.share is not None or self.top is not None:
            rule, remedy = "must come without share and top", "Pass one of the three."
            raise ParameterError("at_least", rule, self.at_least, remedy)

    @property
    def suggests(self) -> bool:
        """Whether the score comes with suggestions of the right class."""
        return self.score == _P_WRONG

    def choose(
        self, values: npt.NDArray[np.float64], place: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.bool_], str]:
        """Which samples are suspect by their score, and why in words.

        Args:
            values: (n_samples,) of the score, NaN without one.
            place: (n_samples,) in the order of the score, 1 the hardest.
        """
        if self.at_least is None:
            share = DEFAULT_SHARE if self.share is None else self.share
            count = round(share * len(place)) if self.top is None else self.top
            return place <= count, f"among the {count} hardest by {self.score}"
        if hardness_sign(self.score) < 0:
            return values <= self.at_least, f"{self.score} of {self.at_least:g} or less"
        return values >= self.at_least, f"{self.score} of {self.at_least:g} or more"


def mark_suspects(record: StoredRecord, suspects: Suspects | None = None) -> pd.DataFrame:
    """Every sample of a record, with its rank, its verdict and whether it is suspect.

    Args:
        record: an open record.
        suspects: how they are chosen. Default: the hardest 5 % by action, and verdicts.

    Returns:
        One row per sample in canonical order: sample_id, label and class (where there are labels),
        <score>, rank (0 the easiest to 1 the hardest; NaN without a score), place (1 the
        hardest), with the score p_wrong suggested_class (name, missing without one) and
        p_suggested, verdict and new_class (missing where nobody said), suspect, reason.

    Raises:
        ParameterError: if there is no such score.
        NotFoundError: if the score is p_wrong, and the record does not tell it.
    """
    suspects = suspects or Suspects()
    if suspects.suggests:
        check_label_evidence(record)
    table = analysis.score_frame([record])
    analysis.check_score(table, suspects.score)
    values = table[suspects.score].to_numpy(dtype=np.float64)
    rank = ranks(values, low_is_hard=hardness_sign(suspects.score) < 0)
    order = np.argsort(-np.nan_to_num(rank, nan=-1.0), kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(1, len(order) + 1)
    chosen, words = suspects.choose(values, place)
    hard = chosen & np.isfinite(rank)
    names = [name for name in ("sample_id", "label", "class") if name in table.columns]
    frame = table[[*names, suspects.score]].assign(rank=rank, place=place)
    frame["class"] = frame["class"].astype(str)
    if suspects.suggests:
        frame = frame.join(suggestions(record, table))
    frame = verdicts.with_verdicts(record, frame, reviewed=suspects.reviewed)
    suspect = verdicts.overruled(hard, frame["verdict"])
    wrong = (frame["verdict"] == "wrong_label").fillna(value=False).to_numpy(dtype=np.bool_)
    reason = np.where(wrong, "reviewed: wrong label", np.where(suspect, words, ""))
    return frame.assign(suspect=suspect, reason=reason)


def to_review(marked: pd.DataFrame) -> pd.DataFrame:
    """The suspect samples of `mark_suspects` that nobody has judged, the most suspect first."""
    return marked.loc[marked["suspect"] & marked["verdict"].isna()].sort_values("place")


def ranks(values: npt.NDArray[np.float64], *, low_is_hard: bool) -> npt.NDArray[np.float64]:
    """Rank of each sample, 0 the easiest and 1 the hardest, ties shared; NaN stays NaN."""
    ranked = pd.Series(-values if low_is_hard else values).rank()
    last = max(int(ranked.count()) - 1, 1)
    return np.asarray((ranked - 1) / last, dtype=np.float64)
