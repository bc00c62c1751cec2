"""The labels of one record that may be wrong, and the section on them.

Only of samples that the model was trained on: elsewhere its own mistakes count as wrong labels,
too, and the number is far too high.
"""

from dataclasses import dataclass

import pandas as pd

from actiontrack.analysis.fixes import label_fixes, wrong_label_counts
from actiontrack.analysis.sentences import describe_wrong_labels, percent
from actiontrack.reporting.document import Section
from actiontrack.reporting.pictures import draw_samples, with_caption
from actiontrack.store import StoredRecord

__all__ = ["SuspectFindings", "find_suspects", "suspect_sections", "wrong_label_sentence"]

_LISTED = 10
_COLUMNS = 5  # of the gallery


@dataclass(frozen=True, kw_only=True)
class SuspectFindings:
    """Which labels may be wrong.

    Attributes:
        record: the record.
        sentence: how many labels are wrong.
        first: the first rows of the frame of `analysis.label_fixes`.
        n_suspects: rows of all of it.
    """

    record: StoredRecord
    sentence: str
    first: pd.DataFrame
    n_suspects: int


def wrong_label_sentence(record: StoredRecord, scores: pd.DataFrame) -> str:
    """How many labels of a record are wrong; "" where it does not tell.

    Args:
        record: an open record.
        scores: its score frame.
    """
    if not record.manifest.of_training or "p_wrong" not in scores.columns:
        return ""
    return describe_wrong_labels(wrong_label_counts([record]))


def find_suspects(record: StoredRecord, scores: pd.DataFrame) -> SuspectFindings | None:
    """The labels of a record that may be wrong; None where it does not tell.

    Args:
        record: an open record.
        scores: its score frame.
    """
    sentence = wrong_label_sentence(record, scores)
    if not sentence:
        return None
    fixes = label_fixes(record)
    return SuspectFindings(
        record=record, sentence=sentence, first=fixes.head(_LISTED), n_suspects=len(fixes)
    )


def suspect_sections(findings: SuspectFindings | None) -> list[Section]:
    """How many labels are wrong, and the most suspect ones with what is right in their place."""
    if findings is None:
        return []
    heading, first = "Labels that may be wrong", findings.first
    if first.empty:
        return [Section(heading=heading, text=f"{findings.sentence} No label is suspect.")]
    figure, caption = with_caption(
        draw_samples(
            findings.record, first["sample_id"].tolist(), _titles(first), columns=_COLUMNS
        ),
        len(first),
        "Label, and suggested class with its probability, under each image.",
    )
    columns = ["sample_id", "class", "suggested_class", "p_wrong", "p_suggested"]
    columns += ["verdict"] if first["verdict"].notna().any() else []
    text = f"{findings.sentence} {_listed(findings)} Look before you relabel."
    frame = first[columns]
    return [Section(heading=heading, text=text, frame=frame, figure=figure, caption=caption)]


def _listed(findings: SuspectFindings) -> str:
    count, n = findings.n_suspects, len(findings.first)
    if count == 1:
        return "One label is suspect."
    listed = "" if count == n else f"; the {n} most suspect are listed"
    return f"{count:,} labels are suspect{listed}."


def _titles(first: pd.DataFrame) -> list[str]:
    suggested = first["suggested_class"].fillna("unclear")
    return [
        f"{label}\n{name}" + ("" if pd.isna(probability) else f" {percent(probability)}")
        for label, name, probability in zip(
            first["class"], suggested, first["p_suggested"], strict=True
        )
    ]
