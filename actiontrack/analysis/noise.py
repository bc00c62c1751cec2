"""How well scores detect labels that are known to be wrong."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.loading import score_frame, stored_scores
from actiontrack.analysis.tables import (
    check_score,
    label_classes,
    open_records,
    run_columns,
    with_run_columns,
)
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.history import UNKNOWN, known_truth, wrong_labels
from actiontrack.scores import hardness_sign, unranked
from actiontrack.store import StoredRecord

__all__ = [
    "correction_quality",
    "noise_detection",
    "noise_pairs",
    "noise_scores",
    "noise_summary",
]

_TRUTH = (
    "Train with the parameter label_noise, or pass true_labels to Recorder.describe_samples; "
    "--record names the record of the training split."
)


def noise_detection(
    records: Sequence[StoredRecord],
    *,
    ks: Sequence[int] | None = None,
    up_to_step: int | None = None,
    further: Mapping[str, pd.DataFrame] | None = None,
    low_is_hard: Collection[str] | None = None,
) -> pd.DataFrame:
    """How well each score finds the wrong labels of each run (4.4).

    Samples whose true label is unknown (-1) are left out.

    Args:
        records: open records whose samples hold true labels.
        ks: see `compare.detection`.
        up_to_step: score the history up to this step only.
        further: scores of other methods for the same samples, to compare on equal terms: run id
            to a frame of sample_id and one column per score.
        low_is_hard: names of the scores of which a low value means a suspect. Default: as in
            `scores.SCORES`.

    Returns:
        One row per run, score and k: run_id, run_name, model, and the columns of
        `compare.detection`, for every score of the record. `noise_summary` gives their mean and
        standard deviation over the runs of a model.

    Raises:
        NotFoundError: if a record holds no true labels, or a sample that `further` lacks.
        ParameterError: if no label of a record is wrong, or a k is out of range.
    """
    records = open_records(records)
    frames = []
    for record in records:
        table, noisy = _with_truth(record, up_to_step)
        if not noisy.any():
            raise ParameterError(
                "records",
                "must hold some wrong labels",
                f"record {record.name} of run {record.run.run_id} without any",
                "Leave this run out, or choose another with --record.",
            )
        columns = table.columns.drop(list(unranked()), "ignore")
        values = {str(name): table[name].to_numpy(dtype=np.float64) for name in columns}
        values |= _further(record, table["sample_id"], (further or {}).get(record.run.run_id))
        low = {name for name in values if hardness_sign(name) < 0}
        detected = compare.detection(
            values, noisy, ks=ks, low_is_hard=low if low_is_hard is None else low_is_hard
        )
        frames.append(with_run_columns(detected, run_columns(record)))
    return pd.concat(frames, ignore_index=True)


def noise_summary(detected: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of `noise_detection` over the runs (seeds) of each model.

    Args:
        detected: the frame of `noise_detection`.

    Returns:
        One row per model, score and rank of k, the best AUROC of each model first: model, score,
        k (mean over the runs, whose numbers of noisy samples may differ), <metric>_mean and
        <metric>_std (with n - 1; NaN for one run) of auroc,
        average_precision and precision_at_k, and n_runs.
    """
    metrics = ["auroc", "average_precision", "precision_at_k"]
    rank = detected.groupby(["run_id", "score"], sort=False).cumcount()
    groups = detected.assign(place=rank).groupby(["model", "score", "place"], sort=False)
    parts = {"k": groups["k"].mean()}
    for name in metrics:
        parts |= {f"{name}_mean": groups[name].mean(), f"{name}_std": groups[name].std()}
    frame = pd.DataFrame({**parts, "n_runs": groups["run_id"].nunique()}).reset_index()
    models = pd.Categorical(frame["model"], categories=frame["model"].unique()).codes
    order = np.lexsort((frame["place"], -frame["auroc_mean"], models))
    ranked: pd.DataFrame = frame.iloc[order].drop(columns="place").reset_index(drop=True)
    return ranked


def correction_quality(
    records: Sequence[StoredRecord],
    *,
    at_least: float = 0.5,
    up_to_step: int | None = None,
    further: Mapping[str, pd.DataFrame] | None = None,
) -> pd.DataFrame:
    """How well the wrong labels of each run are counted and mended, where the truth is known.

    Args:
        records: open records whose samples hold true labels, with the column `p_wrong`.
        at_least: probability from which a label is taken to be wrong.
        up_to_step: use the history up to this step only.
        further: what other methods say of the same samples: run id to a frame of sample_id,
            suggested_class (index), flagged (bool) and, in every row, method and estimate (number
            of wrong labels).

    Returns:
        One row per run and method, "p_wrong" first: run_id, run_name, model, method, n_samples,
        estimate (expected number of wrong labels), calibration_error (of the probabilities; NaN
        for other methods) and the columns of `compare.correction`.

    Raises:
        NotFoundError: if a record holds no true labels, or no column `p_wrong`, or a sample that
            `further` lacks.
    """
    frames = []
    for record in open_records(records):
        table, noisy = _with_truth(record, up_to_step)
        check_score(table, "p_wrong")
        table, noisy = _with_probability(table, noisy)
        rows = [
            {"method": "p_wrong", "n_samples": len(table), "estimate": table["p_wrong"].sum()}
            | {"calibration_error": compare.calibration_error(table["p_wrong"], noisy)}
            | _correction(table, table["suggested_class"], table["p_wrong"] >= at_least)
        ]
        other = (further or {}).get(record.run.run_id)
        if other is not None:
            aligned = _aligned(record, table["sample_id"], other)
            rows.append(
                {"method": aligned["method"].iloc[0], "n_samples": len(table)}
                | {"estimate": aligned["estimate"].iloc[0], "calibration_error": np.nan}
                | _correction(table, aligned["suggested_class"], aligned["flagged"])
            )
        frames.append(with_run_columns(pd.DataFrame(rows), run_columns(record)))
    return pd.concat(frames, ignore_index=True)


def _with_probability(
    table: pd.DataFrame, noisy: npt.NDArray[np.bool_]
) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """Only the samples that have a probability."""
    has_one = table["p_wrong"].notna().to_numpy()
    return table[has_one].reset_index(drop=True), noisy[has_one]


def _correction(
    table: pd.DataFrame, suggested: "pd.Series[Any]", flagged: "pd.Series[Any]"
) -> dict[str, float]:
    return compare.correction(
        suggested.to_numpy(), flagged.to_numpy(), table["label"], table["true_label"]
    )


def noise_pairs(
    records: Sequence[StoredRecord], *, k: int | None = None, score: str = "action"
) -> pd.DataFrame:
    """Which class is taken for which among the wrong labels, and how many of them a score finds.

    Args:
        records: open records whose samples hold true labels.
        k: how many of the most suspect samples of a run count as found. Default: as many as have
            a wrong label.
        score: column of `scores.score_table`. Samples without a score are never found.

    Returns:
        One row per model, true and given class of a wrong label, summed over the runs of the
        model, in the order of the classes: model, true_class, given_class, n_wrong, n_found,
        share (n_found / n_wrong).

    Raises:
        NotFoundError: if a record holds no true labels.
        ParameterError: if there is no such score.
    """
    records = open_records(records)
    frames = []
    for record in records:
        table, noisy = _with_truth(record, None)
        check_score(table, score)
        values = table[score].to_numpy(dtype=np.float64) * hardness_sign(score)
        order = np.argsort(-values, kind="stable")[: noisy.sum() if k is None else k]
        is_found = np.zeros(len(table), dtype=np.bool_)
        is_found[order] = ~np.isnan(values[order])
        wrong = table.loc[noisy, ["true_label", "label"]].assign(found=is_found[noisy])
        frames.append(with_run_columns(wrong, run_columns(record)))
    groups = pd.concat(frames, ignore_index=True).groupby(["model", "true_label", "label"])["found"]
    pairs = groups.agg(n_wrong="size", n_found="sum", share="mean").reset_index()
    for name in ("true_label", "label"):
        pairs[name] = np.asarray(label_classes(records[0], pairs[name].to_numpy()), dtype=object)
    return pairs.rename(columns={"true_label": "true_class", "label": "given_class"})


def noise_scores(records: Sequence[StoredRecord]) -> pd.DataFrame:
    """The frame of `score_frame` with the column `group`, for the distributions of Fig. 12.

    The group is "noisy" or "clean" for samples whose true label is known, "unknown" for others
    of the same record, and the name of the split for those of other records, such as "test".

    Raises:
        NotFoundError: if no record holds true labels.
    """
    records = open_records(records)
    frames = []
    for record in records:
        table = score_frame([record])
        group: Any = record.manifest.split
        if "true_label" in table.columns:
            labels, truth = table["label"], table["true_label"]
            group = np.where(wrong_labels(labels, truth), "noisy", "clean")
            group = np.where(known_truth(labels, truth), group, UNKNOWN)
        frames.append(table.assign(group=group))
    if not any("true_label" in frame.columns for frame in frames):
        raise NotFoundError(f"none of the {len(records)} records holds true labels. {_TRUTH}")
    return pd.concat(frames, ignore_index=True)


def _with_truth(
    record: StoredRecord, up_to_step: int | None
) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """The scores of the samples whose true label is known, and which of the labels are wrong."""
    table = stored_scores(record, up_to_step)
    if "true_label" not in table.columns:
        what = f"record {record.name} of run {record.run.run_id} holds no true labels"
        raise NotFoundError(f"{what}. {_TRUTH}")
    table = table[known_truth(table["label"], table["true_label"])].reset_index(drop=True)
    return table, wrong_labels(table["label"], table["true_label"])


def _further(
    record: StoredRecord, sample_ids: "pd.Series[Any]", frame: pd.DataFrame | None
) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of another method, in the order of these samples."""
    if frame is None:
        return {}
    aligned = _aligned(record, sample_ids, frame)
    return {str(name): aligned[name].to_numpy(dtype=np.float64) for name in aligned.columns}


def _aligned(
    record: StoredRecord, sample_ids: "pd.Series[Any]", frame: pd.DataFrame
) -> pd.DataFrame:
    """The rows of a frame in the order of these samples."""
    by_id = frame.set_index("sample_id")
    missing = sample_ids[~sample_ids.isin(by_id.index)]
    if len(missing):
        raise NotFoundError(
            f"the further scores of run {record.run.run_id} lack {len(missing)} of "
            f"{len(sample_ids)} samples, such as {missing.tolist()[0]!r}. Pass one row per sample."
        )
    return by_id.loc[sample_ids]
