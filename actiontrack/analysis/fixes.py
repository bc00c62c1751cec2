"""Which labels are wrong, what is right in their place, and how many there are.

A network that learns says it, see `actiontrack.label_errors`; what people said of a sample counts
more, see `actiontrack.verdicts`. True labels are not needed.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from actiontrack.analysis import verdicts
from actiontrack.analysis.loading import recorded_history, stored_scores
from actiontrack.analysis.tables import (
    label_column,
    open_record,
    open_records,
    run_columns,
    with_run_columns,
)
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.history import Classes
from actiontrack.label_errors import MEASURES, LabelErrors, evidence_of
from actiontrack.store import StoredRecord

__all__ = [
    "AT_LEAST",
    "check_label_evidence",
    "corrected_classes",
    "corrected_labels",
    "label_fixes",
    "suggestions",
    "wrong_label_counts",
]

#: Probability that a label is wrong from which on it is suspect, unless another is asked for.
AT_LEAST = 0.5


def label_fixes(
    record: StoredRecord, *, at_least: float = AT_LEAST, up_to_step: int | None = None
) -> pd.DataFrame:
    """The labels of a classifier's record that are likely to be wrong, and what is likely right.

    What people said counts more than the probability: a sample that they found fine is left out,
    one whose label they found wrong is there, and takes the class that they named.

    Args:
        record: an open record of the samples that were trained on, with labels.
        at_least: probability that the label is wrong from which on it is suspect, from 0 to 1.
        up_to_step: go by the history up to this step only. Default: by the stored scores.

    Returns:
        One row per suspect label, the most suspect first: sample_id, class (of the label), p_wrong
        (probability, float64), suggested_class (name), p_suggested (probability that this one is
        right; NaN where people named it), verdict (missing where nobody judged), and true_class
        where the record holds true labels.

    Raises:
        NotFoundError: if the record holds no labels, is of no classifier, or comes from a version
            that did not record what is needed.
        ParameterError: if the probability is out of range, or the record does not reach the step.
    """
    judged = _judged(record, at_least, up_to_step)
    suspects = judged.loc[judged["suspect"]]
    suspects = suspects.sort_values("p_wrong", ascending=False, kind="stable", ignore_index=True)
    named = suspects["new_class"].notna()
    suspects = suspects.assign(
        suggested_class=suspects["suggested_class"].mask(named, suspects["new_class"]),
        p_suggested=suspects["p_suggested"].mask(named),
    )
    return suspects.drop(columns=["label", "suspect", "new_class"])


def corrected_labels(
    record: StoredRecord, *, at_least: float = AT_LEAST, up_to_step: int | None = None
) -> pd.DataFrame:
    """Every label of a record, with those of `label_fixes` corrected.

    Args:
        record: an open record of the samples that were trained on, with labels.
        at_least: see `label_fixes`.
        up_to_step: see `label_fixes`.

    Returns:
        One row per sample with a label, in canonical order: id, label (name of the class, or its
        index where classes have no names).

    Raises:
        NotFoundError: as `label_fixes`.
        ParameterError: as `label_fixes`.
    """
    judged = _judged(record, at_least, up_to_step)
    corrected = pd.DataFrame({"id": judged["sample_id"], "label": corrected_classes(judged)})
    labelled = (judged["label"] >= 0) | judged["new_class"].notna()
    return corrected.loc[labelled].reset_index(drop=True)


def wrong_label_counts(
    records: Sequence[StoredRecord], *, by_class: bool = False, up_to_step: int | None = None
) -> pd.DataFrame:
    """How many labels of each record are wrong, as its network tells; verdicts do not count.

    A network that learns wrong labels by heart finds fewer of them the longer it learns: then the
    number is a lower bound. Look at the one up to an earlier step.

    Args:
        records: open records of classifiers with labels.
        by_class: count the labels of each class of a record, too.
        up_to_step: go by the history up to this step only. Default: by all of it.

    Returns:
        One row per record: run_id, run_name, model, record, n_samples (labels that could be
        judged), n_wrong (expected number of wrong ones, float64), low and high (what it may be, see
        `label_errors.LabelErrors`), share (n_wrong / n_samples). By class there is one row per
        record and class of the label, the largest number first, with the column class and without
        low and high, which are known of all labels together only.

    Raises:
        NotFoundError: as `label_fixes`.
        ParameterError: if these are no records, or one does not reach the step.
    """
    count = _counts_by_class if by_class else _counts
    frames = []
    for record in open_records(records):
        counts = count(record, _errors(record, up_to_step))
        counts["share"] = counts["n_wrong"] / counts["n_samples"]
        frames.append(with_run_columns(counts, run_columns(record) | {"record": record.name}))
    return pd.concat(frames, ignore_index=True)


def _counts(_record: StoredRecord, errors: LabelErrors) -> pd.DataFrame:
    n_samples = int(np.isfinite(errors.p_wrong).sum())
    numbers = {"n_wrong": errors.n_wrong, "low": errors.low, "high": errors.high}
    return pd.DataFrame([{"n_samples": n_samples} | numbers])


def _counts_by_class(record: StoredRecord, errors: LabelErrors) -> pd.DataFrame:
    labels = record.samples.labels
    classes = label_column(record, labels, len(errors.p_wrong))
    groups = pd.DataFrame({"class": classes, "p": errors.p_wrong}).dropna().groupby("class")["p"]
    counts = groups.agg(n_samples="size", n_wrong="sum").reset_index()
    return counts.sort_values("n_wrong", ascending=False, kind="stable", ignore_index=True)


def check_label_evidence(record: StoredRecord) -> None:
    """Refuse a record that does not tell which labels are wrong.

    Raises:
        NotFoundError: names what is missing, and what to do.
    """
    measures = open_record(record).manifest.measures
    if record.samples.labels is None:
        lack, remedy = "no labels", "Pass labels to Recorder.describe_samples, and train again."
    elif not {"target_probability", "margin"} <= set(measures):
        lack = "no probabilities of classes"
        remedy = "Record a classifier by its logits and labels, and train again."
    elif not set(MEASURES) <= set(measures):
        lack = "no largest other class, as those of earlier versions"
        remedy = "Train again with this version."
    elif not record.manifest.n_steps:
        lack, remedy = "no complete epoch yet", "Wait until there is one."
    else:
        return
    raise NotFoundError(
        f"record {record.name} of run {record.run.run_id} ({record.run.name}) holds {lack}: it "
        f"can't tell which labels are wrong. {remedy}"
    )


def suggestions(record: StoredRecord, table: pd.DataFrame) -> pd.DataFrame:
    """What a score table suggests in place of each label.

    Args:
        record: whose classes are meant.
        table: with the columns suggested_class (class index) and p_suggested.

    Returns:
        suggested_class (name; missing where there is none) and p_suggested, by row of the table.
    """
    indices = table["suggested_class"].to_numpy()
    names = pd.Series(Classes(record.manifest.class_names).of_each(indices), table.index, object)
    return pd.DataFrame(
        {"suggested_class": names.where(indices >= 0), "p_suggested": table["p_suggested"]}
    )


def corrected_classes(judged: pd.DataFrame, *, suggested: bool = True) -> "pd.Series[Any]":
    """Name of the class of each sample when its label is corrected.

    Args:
        judged: one row per sample with the columns class, verdict and new_class; and suspect and
            suggested_class where suggestions count.
        suggested: whether a suspect label takes the suggested class. Default: yes.

    Returns:
        The class that people named where they found the label wrong; else the suggested one of a
        suspect label; else the class of the label.
    """
    classes = judged["class"].astype(object)
    if suggested:
        has_suggestion = judged["suspect"] & judged["suggested_class"].notna()
        classes = classes.mask(has_suggestion, judged["suggested_class"])
    return classes.mask(judged["new_class"].notna(), judged["new_class"].astype(object))


def _judged(record: StoredRecord, at_least: float, up_to_step: int | None) -> pd.DataFrame:
    """Every sample with what the network and people say of its label, in canonical order."""
    if not 0 <= at_least <= 1:
        raise ParameterError("at_least", "must lie in 0 to 1", at_least, "Pass 0.5.")
    check_label_evidence(record)
    table = stored_scores(record, up_to_step)
    frame = table[["sample_id", "label"]].assign(**{"class": _names(record, table["label"])})
    frame["p_wrong"] = table["p_wrong"]
    frame = verdicts.with_verdicts(record, frame.join(suggestions(record, table)))
    if "true_label" in table:
        frame["true_class"] = _names(record, table["true_label"])
    is_suspect = (frame["p_wrong"] >= at_least).to_numpy(dtype=np.bool_)
    return frame.assign(suspect=verdicts.overruled(is_suspect, frame["verdict"]))


def _names(record: StoredRecord, labels: "pd.Series[Any]") -> Any:
    return label_column(record, labels.to_numpy(), len(labels))


def _errors(record: StoredRecord, up_to_step: int | None) -> LabelErrors:
    """What the record's network says of all labels; computed once."""
    check_label_evidence(record)

    def compute() -> LabelErrors:
        evidence = evidence_of(recorded_history(record, up_to_step, MEASURES))
        assert evidence is not None  # noqa: S101 - it was checked
        return evidence.errors

    return record.cached(("label errors", up_to_step), compute)
