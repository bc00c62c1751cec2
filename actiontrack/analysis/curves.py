"""Loss curves of samples, groups of similar curves, and the score as training goes on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.tables import (
    label_column,
    matching_rows,
    nullable,
    open_record,
    open_records,
    run_columns,
    with_run_columns,
)
from actiontrack.history import Classes, LossHistory
from actiontrack.scores import action as score_action
from actiontrack.scores import running_score
from actiontrack.store import StoredRecord

__all__ = [
    "curve_clusters",
    "loss_curves",
    "stability",
]


def loss_curves(
    records: Sequence[StoredRecord], sample_ids: Sequence[Any] | None = None, *, n: int = 10
) -> pd.DataFrame:
    """Loss against step (Fig. 3), one row per run, sample and step.

    Args:
        records: open records.
        sample_ids: which samples. Default: the n hardest of each run.
        n: how many, without ids.

    Returns:
        run_id, run_name, model, sample_id, step, loss, action, and class where there are labels.

    Raises:
        NotFoundError: if a record has no such sample.
    """
    records = open_records(records)
    frames = [_curves(record, record.history(columns=()), sample_ids, n) for record in records]
    return pd.concat(frames, ignore_index=True)


def curve_clusters(
    record: StoredRecord, k: int = 3, *, seed: int = 0, n_closest: int = 3
) -> pd.DataFrame:
    """Clusters of the loss curves of a record (Fig. 2): centres and the curves closest to them.

    Args:
        record: an open record.
        k: number of clusters.
        seed: of k-means.
        n_closest: curves closest to each centre.

    Returns:
        One row per curve and step: run_id, run_name, model, cluster (1 for the hardest), trend
        ("decreasing", "flat" or "increasing": see `compare.cluster_curves`), n_samples (in the
        cluster), kind ("centre" or "closest"), rank (0 for a centre, then from 1), sample_id
        (missing for a centre), class (missing for a centre), step, loss.

    Raises:
        ParameterError: if there are fewer than k distinct finite curves.
    """
    open_record(record)
    history = record.history(columns=())
    clusters = compare.cluster_curves(history.losses, k=k, seed=seed, n_closest=n_closest)
    ids = nullable(history.sample_ids)
    classes = label_column(record, history.labels, history.n_samples)
    parts = []
    for number, rows in enumerate(clusters.closest):
        samples = np.r_[-1, rows]  # a row that is none: the centre
        curves = np.vstack([clusters.centres[number], history.losses[:, rows].T])
        part = {
            "cluster": number + 1,
            "trend": clusters.trends[number],
            "n_samples": int(clusters.sizes[number]),
            "kind": np.where(samples < 0, "centre", "closest"),
            "rank": np.arange(len(samples)),
            "sample_id": ids.take(samples, allow_fill=True),
            "class": pd.array(classes).take(samples, allow_fill=True),
        }
        frame = pd.DataFrame(part)
        frame = frame.loc[frame.index.repeat(history.n_steps)].reset_index(drop=True)
        parts.append(frame.assign(step=np.tile(history.steps, len(samples)), loss=curves.ravel()))
    return with_run_columns(pd.concat(parts, ignore_index=True), run_columns(record))


def stability(
    records: Sequence[StoredRecord],
    *,
    score: str = "action",
    methods: Sequence[compare.Method] = ("spearman", "pearson"),
) -> pd.DataFrame:
    """Correlation of a score after k recorded steps with the full score, for every k.

    It tells when recording could have stopped: from the step on at which the ranking of the
    samples hardly changes any more. Runs are not compared with each other, so they may differ.

    Args:
        records: open records.
        score: column of `scores.score_table`.
        methods: which of "spearman" and "pearson" to compute.

    Returns:
        One row per run, method and step: run_id, run_name, model, step (n of eq. 3: the last of
        the k steps), method, value (float64). A sample whose score is NaN after some step is
        left out; Pearson's r leaves out infinite scores too. The value is NaN where a score is
        the same for all samples.

    Raises:
        ParameterError: if a record does not give that score, or a method is unknown or none given.
    """
    records = open_records(records)
    compare.check_methods(methods)
    frames = []
    for record in records:
        history = record.history(columns=() if score == "action" else None)
        values = running_score(history, score)
        columns = {"step": history.steps, "method": "", "value": np.nan}
        for method in methods:
            columns |= {"method": method, "value": compare.with_last(values, method)}
            frames.append(with_run_columns(pd.DataFrame(columns), run_columns(record)))
    return pd.concat(frames, ignore_index=True)


def _curves(
    record: StoredRecord, history: LossHistory, sample_ids: Sequence[Any] | None, n: int
) -> pd.DataFrame:
    if sample_ids is None:
        hard = score_action(history.losses, history.deltas)
        rows = np.argsort(-np.nan_to_num(hard, nan=-np.inf), kind="stable")[:n]
    else:
        rows = matching_rows(record, history.sample_ids, sample_ids)
    losses = history.losses[:, rows]
    action = score_action(losses, history.deltas)
    labels = history.labels
    frame = pd.DataFrame(
        {
            **run_columns(record),
            "sample_id": np.repeat(history.sample_ids[rows], history.n_steps),
            "step": np.tile(history.steps, len(rows)),
            "loss": losses.T.ravel(),
            "action": np.repeat(action, history.n_steps),
        }
    )
    if labels is not None:
        classes = Classes(history.class_names).of_each(labels[rows])
        frame["class"] = np.repeat(classes, history.n_steps)
    return frame
