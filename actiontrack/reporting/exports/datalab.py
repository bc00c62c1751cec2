"""cleanlab's Datalab: the frame of `Datalab.get_issues("label")`, from scores."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.errors import ParameterError
from actiontrack.reporting.exports.files import write_csv
from actiontrack.reporting.exports.selection import Suspects, mark_suspects
from actiontrack.store import StoredRecord

__all__ = ["datalab_issues", "save_datalab"]


def datalab_issues(record: StoredRecord, suspects: Suspects | None = None) -> pd.DataFrame:
    """Label issues as cleanlab's `Datalab.get_issues("label")` returns them.

    Args:
        record: an open record with labels.
        suspects: which samples are issues.

    Returns:
        One row per sample in canonical order (ascending ids, the order of a dataset whose ids
        count its rows): is_label_issue (bool), label_score (float64, 0 the worst to 1, from the
        rank of the sample: 1 − rank; 1 for a sample without a score), given_label and
        predicted_label (int64; without the last if no predictions were recorded). With the score
        p_wrong the label_score is 1 − p_wrong, the probability that the label is right, and the
        predicted_label of an issue is the suggested class, that of any other sample its label.

    Raises:
        ParameterError: if the record holds no labels, or there is no such score.
        NotFoundError: if the score is p_wrong, and the record does not tell it.
    """
    suspects = suspects or Suspects()
    marked = mark_suspects(record, suspects)
    if "label" not in marked.columns:
        remedy = "Pass labels to Recorder.describe_samples."
        raise ParameterError("record", "must hold labels", record.name, remedy)
    frame = pd.DataFrame(
        {
            "is_label_issue": marked["suspect"].to_numpy(dtype=np.bool_),
            "label_score": 1.0 - np.nan_to_num(_badness(marked, suspects), nan=0.0),
            "given_label": marked["label"].to_numpy(dtype=np.int64),
        }
    )
    scores = record.scores()
    if suspects.suggests:
        suggested = scores["suggested_class"].to_numpy(dtype=np.int64)
        takes_it = frame["is_label_issue"] & (suggested >= 0)
        frame["predicted_label"] = np.where(takes_it, suggested, frame["given_label"])
    elif "predicted" in scores.columns:
        frame["predicted_label"] = scores["predicted"].to_numpy(dtype=np.int64)
    return frame


def _badness(marked: pd.DataFrame, suspects: Suspects) -> npt.NDArray[np.float64]:
    """How bad each label is, 0 to 1: the probability that it is wrong, else the rank."""
    name = suspects.score if suspects.suggests else "rank"
    return marked[name].to_numpy(dtype=np.float64)


def save_datalab(
    record: StoredRecord, folder: Path, suspects: Suspects | None = None
) -> list[Path]:
    """Write `datalab_issues` with the sample ids before them as datalab_issues.csv."""
    frame = datalab_issues(record, suspects)
    frame.insert(0, "sample_id", record.samples.sample_ids)
    return [write_csv(folder / "datalab_issues.csv", frame)]
