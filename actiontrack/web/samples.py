"""One sample of a record: its row, its images, and the verdict of a person."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import pandas as pd

from actiontrack import analysis
from actiontrack.analysis import exploration, verdicts
from actiontrack.analysis.exploration import SampleFilter
from actiontrack.analysis.fixes import AT_LEAST
from actiontrack.analysis.questions import score_table_of
from actiontrack.analysis.slices import in_slices
from actiontrack.errors import NotFoundError
from actiontrack.history import Classes, wrong_labels
from actiontrack.store import StoredRecord
from actiontrack.store.tokens import has_tokens, token_index
from actiontrack.web import images
from actiontrack.web.images import ImageRoots
from actiontrack.web.permissions import EDIT
from actiontrack.web.records import Records
from actiontrack.web.runs import score_names

__all__ = [
    "Suggestion",
    "add_verdict",
    "class_names_of",
    "image_of",
    "map_of",
    "mislabelled",
    "ordered_ids",
    "picture_of",
    "prediction_badges",
    "sample_ranks",
    "sample_row",
    "shows_tokens",
    "suggestions",
    "tokens_of",
]

#: Badges of a prediction: a text, and whether it is good.
_RIGHT, _WRONG = ("right", True), ("wrong", False)
_AS_LABELLED, _NOT_AS_LABELLED = ("as labelled", True), ("not as labelled", False)


def sample_row(
    records: Records, run_id: str, record: str | None, sample_id: object
) -> "pd.Series[Any]":
    """The row of one sample with every score, and where they are known further columns.

    Returns:
        The columns of `analysis.load_scores`, true_class and predicted_class (names), path, badge
        (see `prediction_badges`), is_mislabelled and suggestion (see `suggestions`).
    """
    opened, row = _locate(records, run_id, record, sample_id)
    table = score_table_of(opened)
    values = table.iloc[row].copy()
    names = Classes(opened.manifest.class_names)
    for column, name in (("true_label", "true_class"), ("predicted", "predicted_class")):
        if column in table.columns:
            values[name] = names.of(table[column].iloc[row])
    if opened.samples.paths is not None:
        values["path"] = opened.samples.paths[row]
    one = table.iloc[[row]]
    values["badge"] = prediction_badges(one)[0]
    values["is_mislabelled"] = mislabelled(one)[0]
    values["suggestion"] = suggestions(one, names)[0]
    return values


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Which class is right in place of a label, as the network tells.

    Attributes:
        label: class index.
        name: of the class.
        probability: that it is right.
        p_wrong: probability that the label is wrong.
    """

    label: int
    name: str
    probability: float
    p_wrong: float

    @property
    def is_likely(self) -> bool:
        """Whether the label is rather wrong than right."""
        return self.p_wrong >= AT_LEAST


def suggestions(table: pd.DataFrame, names: Classes) -> list[Suggestion | None]:
    """What is suggested in place of each label; None where nothing is."""
    columns = ("suggested_class", "p_suggested", "p_wrong")
    if not set(columns) <= set(table.columns):
        return [None] * len(table)
    return [
        Suggestion(label=label, name=names.of(label), probability=probability, p_wrong=p_wrong)
        if label >= 0
        else None
        for label, probability, p_wrong in zip(
            *(table[name].tolist() for name in columns), strict=True
        )
    ]


def mislabelled(table: pd.DataFrame) -> list[bool]:
    """Which samples have a label that is known to be wrong."""
    if not {"label", "true_label"} <= set(table.columns):
        return [False] * len(table)
    wrong: list[bool] = wrong_labels(table["label"], table["true_label"]).tolist()
    return wrong


def prediction_badges(table: pd.DataFrame) -> list[tuple[str, bool] | None]:
    """What each prediction is called, and whether it is good; None where none was recorded.

    Where the true label is known, a prediction is right or wrong by it, even if the label is
    wrong. Elsewhere it agrees with the label or it does not: which of the two is right is open.
    """
    if "correct" not in table.columns:
        return [None] * len(table)
    agrees = table["correct"].astype(bool).tolist()
    badges = [_AS_LABELLED if one else _NOT_AS_LABELLED for one in agrees]
    if not {"true_label", "predicted"} <= set(table.columns):
        return list(badges)
    truths, predictions = table["true_label"].tolist(), table["predicted"].tolist()
    return [
        badge if not truth >= 0 else _RIGHT if predicted == truth else _WRONG
        for badge, truth, predicted in zip(badges, truths, predictions, strict=True)
    ]


def class_names_of(
    records: Records, run_id: str, record: str | None, sample_ids: Sequence[object]
) -> list[str]:
    """Name of the class of each of some samples, "all" without labels."""
    opened = records.open(run_id, record)
    rows = analysis.positions(opened, sample_ids)
    return score_table_of(opened)["class"].iloc[rows].astype(str).tolist()


def sample_ranks(
    records: Records, run_id: str, record: str | None, sample_id: object
) -> pd.DataFrame:
    """Rank and percentile of a sample by every score, see `exploration.sample_ranks`."""
    opened, row = _locate(records, run_id, record, sample_id)
    table = score_table_of(opened)
    return exploration.sample_ranks(table, score_names(table), row)


def ordered_ids(
    records: Records,
    run_id: str,
    record: str | None = None,
    *,
    sample_filter: SampleFilter | None = None,
    slices: Sequence[str] = (),
    score: str = "action",
    order: str = "hardest",
) -> npt.NDArray[Any]:
    """Ids of the samples that a filter lets through, in order: every page of scores in one."""
    opened = records.open(run_id, record)
    members = in_slices(opened, slices, score=score) if slices else None

    def compute() -> npt.NDArray[Any]:
        table = score_table_of(opened)
        table = table if members is None else table.loc[members]
        chosen = exploration.choose_samples(table, sample_filter, score=score, order=order)
        return chosen["sample_id"].to_numpy()

    if members is not None:  # by attributes that others may add
        return compute()
    return opened.cached(("ordered ids", sample_filter, score, order), compute)


# Images


def image_of(
    records: Records, image_roots: ImageRoots, run_id: str, record: str | None, sample_id: object
) -> tuple[bytes, str]:
    """Encoded image of a sample and its MIME type, see `images.sample_image`."""
    opened, row = _locate(records, run_id, record, sample_id)
    return images.sample_image(opened, row, image_roots)


def picture_of(
    records: Records, run_id: str, record: str | None, sample_id: object, name: str
) -> tuple[bytes, str]:
    """A further picture of a sample, such as "label" or "prediction", and its MIME type."""
    opened, row = _locate(records, run_id, record, sample_id)
    return images.checked(opened.picture_bytes(name, row))


def map_of(records: Records, run_id: str, record: str | None, sample_id: object) -> bytes:
    """The action of each pixel of a sample as a PNG, transparent where there is none."""
    opened, row = _locate(records, run_id, record, sample_id)
    return images.map_png(opened.pixel_action(row))


# Tokens


def shows_tokens(records: Records, run_id: str, record: str | None, sample_id: object) -> bool:
    """Whether the loss of each token of a sample was recorded."""
    opened, row = _locate(records, run_id, record, sample_id)
    return has_tokens(opened) and int(token_index(opened)["file"].iloc[row]) >= 0


def tokens_of(records: Records, run_id: str, record: str | None, sample_id: object) -> pd.DataFrame:
    """The tokens of a sample, see `analysis.token_actions`."""
    opened, row = _locate(records, run_id, record, sample_id)
    return analysis.token_actions(opened, opened.samples.sample_ids[row].item())


# Verdicts


def add_verdict(
    records: Records,
    run_id: str,
    record: str | None,
    sample_id: object,
    *,
    verdict: str,
    who: str,
    new_label: int | None = None,
    note: str = "",
) -> None:
    """Store one verdict of a person, see `verdicts.Verdict`.

    Raises:
        NotFoundError: if there is no such sample, the user may not edit the run, or it is in the
            trash.
    """
    if not records.permissions.may_use_run(run_id, EDIT):
        raise NotFoundError(f"run {run_id!r}: not found.")
    records.run(run_id, at_once=True)
    opened, row = _locate(records, run_id, record, sample_id)
    one = verdicts.Verdict(
        sample_id=opened.samples.sample_ids[row].item(),
        verdict=verdict,
        who=who,
        new_label=new_label,
        note=note,
    )
    verdicts.add(opened, [one])


def _locate(
    records: Records, run_id: str, record: str | None, sample_id: object
) -> tuple[StoredRecord, int]:
    """An open record and the row position of a sample in it."""
    opened = records.open(run_id, record)
    return opened, analysis.positions(opened, [sample_id])[0]
