"""cleanlab's Datalab: the frame of `Datalab.get_issues("label")`, from scores."""

from pathlib import Path

import numpy as np
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
        predicted_label (int64; without the last if no predictions were recorded).

    Raises:
        ParameterError: if the record holds no labels, or there is no such score.
    """
    marked = mark_suspects(record, suspects)
    if "label" not in marked.columns:
        remedy = "Pass labels to Recorder.describe_samples."
        raise ParameterError("record", "must hold labels", record.name, remedy)
    frame = pd.DataFrame(
        {
            "is_label_issue": marked["suspect"].to_numpy(dtype=np.bool_),
            "label_score": 1.0 - np.nan_to_num(marked["rank"].to_numpy(), nan=0.0),
            "given_label": marked["label"].to_numpy(dtype=np.int64),
        }
    )
    scores = record.scores()
    if "predicted" in scores.columns:
        frame["predicted_label"] = scores["predicted"].to_numpy(dtype=np.int64)
    return frame


def save_datalab(
    record: StoredRecord, folder: Path, suspects: Suspects | None = None
) -> list[Path]:
    """Write `datalab_issues` with the sample ids before them as datalab_issues.csv."""
    frame = datalab_issues(record, suspects)
    frame.insert(0, "sample_id", record.samples.sample_ids)
    return [write_csv(folder / "datalab_issues.csv", frame)]
