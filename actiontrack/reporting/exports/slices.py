"""Slices for other tools: issues as Datalab lists them, tags for FiftyOne, fairlearn's frame."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.analysis.options import SlicesOptions, validated
from actiontrack.analysis.questions import score_table_of
from actiontrack.analysis.slices import Slices, has_metadata, in_slices
from actiontrack.analysis.slices.answers import sample_set_of, slices_of
from actiontrack.analysis.tables import open_record
from actiontrack.errors import DataError, MissingDependencyError, NotComparableError
from actiontrack.reporting.exports.files import write_csv
from actiontrack.store import StoredRecord

__all__ = ["fairlearn_frame", "save_slices", "slice_issues", "slice_tags"]

Metric = Callable[..., float]


def slice_issues(record: StoredRecord, *, score: str = "action") -> pd.DataFrame:
    """The samples of harder slices, as Datalab's `get_issues("underperforming_group")` lists them.

    Args:
        record: an open record that attributes are kept with.
        score: by which it is sliced.

    Returns:
        One row per sample in canonical order: is_underperforming_group_issue (whether it is in a
        slice that is harder than the rest of its classes, at a rate of false discoveries of 5 %),
        underperforming_group_score (1 − p_harder of the hardest of these, .5 outside them) and
        slice (its name, or missing).

    Raises:
        NotFoundError: if no attributes are kept with the record.
        DataError: if no attribute forms groups.
    """
    record = open_record(record)
    names, chances = _harder(slices_of([record], _options(score)))
    frame = pd.DataFrame(
        {
            "is_underperforming_group_issue": False,
            "underperforming_group_score": 0.5,
            "slice": None,
        },
        index=range(record.manifest.n_samples),
    )
    for name, chance in zip(reversed(names), reversed(chances), strict=True):  # the hardest last
        members = in_slices(record, [name], score=score)
        frame.loc[members, "is_underperforming_group_issue"] = True
        frame.loc[members, "underperforming_group_score"] = 1.0 - chance
        frame.loc[members, "slice"] = name
    return frame


def slice_tags(record: StoredRecord, *, score: str = "action") -> list[list[str]]:
    """The harder slices that each sample is in, the hardest first; none without attributes."""
    tags: list[list[str]] = [[] for _ in range(record.manifest.n_samples)]
    if not has_metadata(record):
        return tags
    try:
        names, _ = _harder(slices_of([record], _options(score)))
    except (DataError, NotComparableError):
        return tags
    for name in names:
        for row in np.flatnonzero(in_slices(record, [name], score=score)).tolist():
            tags[row].append(name)
    return tags


def fairlearn_frame(
    record: StoredRecord,
    columns: Sequence[str] = (),
    *,
    metrics: Mapping[str, Metric] | None = None,
    score: str = "action",
) -> Any:
    """The groups of attributes as fairlearn's `MetricFrame`.

    Args:
        record: an open record with labels that attributes are kept with.
        columns: the attributes; the groups are their crossings. Default: the first attribute.
        metrics: name to function of labels and predictions. Default: the number of samples, the
            mean of the score and, where predictions were recorded, the accuracy.
        score: column of the score table.

    Returns:
        A `fairlearn.metrics.MetricFrame`: by_group, overall, difference().

    Raises:
        MissingDependencyError: if fairlearn is not installed.
        NotFoundError: if no attributes are kept with the record.
        ParameterError: if there is no such column or score.
    """
    try:
        from fairlearn.metrics import MetricFrame, count  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingDependencyError(
            "a MetricFrame needs fairlearn: pip install 'actiontrack[fairlearn]'"
        ) from error
    record = open_record(record)
    options = validated(SlicesOptions, {"score": score, "attribute": tuple(columns)})
    sample_set = sample_set_of([record], options)
    table = score_table_of(record).set_index("sample_id").loc[sample_set.aligned.sample_ids]
    chosen = sample_set.attributes if columns else sample_set.attributes[:1]
    groups = pd.DataFrame({one.name: np.asarray(one.groups)[one.codes] for one in chosen})
    labels, predictions = _labels_of(table)
    parameters: dict[str, dict[str, npt.NDArray[Any]]] = {}
    if metrics is None:
        metrics = {"count": count, score: _mean}
        parameters = {score: {"values": table[score].to_numpy(dtype=np.float64)}}
        if "correct" in table.columns:
            metrics |= {"accuracy": _mean}
            parameters["accuracy"] = {"values": table["correct"].to_numpy(dtype=np.float64)}
    return MetricFrame(
        metrics=dict(metrics),
        y_true=labels,
        y_pred=predictions,
        sensitive_features=groups,
        sample_params=parameters,
    )


def save_slices(record: StoredRecord, folder: Path, *, score: str = "action") -> list[Path]:
    """Write the table of all slices as slices.csv and `slice_issues` as slice_issues.csv."""
    frame = slice_issues(record, score=score)
    frame.insert(0, "sample_id", record.samples.sample_ids)
    every = slices_of([record], _options(score).model_copy(update={"fdr": 1.0}))
    return [
        write_csv(folder / "slices.csv", every.table),
        write_csv(folder / "slice_issues.csv", frame),
    ]


def _options(score: str) -> SlicesOptions:
    return validated(SlicesOptions, {"score": score})


def _harder(result: Slices) -> tuple[list[str], list[float]]:
    """Names of the slices that are harder, the hardest first, and p_harder of each."""
    rows = result.table.loc[result.table["p_harder"] > 0.5]
    return rows["slice"].tolist(), rows["p_harder"].tolist()


def _labels_of(table: pd.DataFrame) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Labels and predictions; where there are none, zeros, which no default metric reads."""
    absent = np.zeros(len(table), dtype=np.int64)
    labels = table["label"].to_numpy() if "label" in table.columns else absent
    return labels, table["predicted"].to_numpy() if "predicted" in table.columns else absent


def _mean(_labels: Any, _predictions: Any, *, values: npt.NDArray[np.float64]) -> float:
    return float(np.mean(values))
