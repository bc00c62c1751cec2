"""Several runs as one: accuracy by score, mean scores, entropy between the members."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.alignment import SharedValues, class_column, shared_values
from actiontrack.analysis.tables import check_score, open_records, run_columns, with_run_columns
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.history import Classes
from actiontrack.scores import ensemble_entropy, ensemble_mean, min_max
from actiontrack.store import StoredRecord

__all__ = [
    "accuracy_by_threshold",
    "accuracy_summary",
    "ensemble_accuracy",
    "ensemble_correlations",
    "ensemble_regions",
    "ensemble_scores",
]


def accuracy_by_threshold(
    records: Sequence[StoredRecord],
    *,
    scores: Sequence[str] = ("action", "final_entropy", "loss_variance"),
    n_thresholds: int = 51,
) -> pd.DataFrame:
    """Accuracy of each run once samples below a threshold on a score are masked (4.1, Fig. 6c).

    Args:
        records: open records of classifiers.
        scores: columns of `scores.score_table`, each min–max normalised within its run.
        n_thresholds: thresholds from 0 to 1.

    Returns:
        One row per run, score and threshold: run_id, run_name, model, score, threshold, accuracy
        (of the last step, among samples with score >= threshold; NaN if there are none), n.

    Raises:
        ParameterError: if a record has no such score, or was not recorded with predictions.
    """
    records = open_records(records)
    frames = []
    for record in records:
        table = record.scores()
        for score in ("correct", *scores):
            check_score(table, score)
        values = {score: min_max(table[score].to_numpy(dtype=np.float64)) for score in scores}
        frames.append(_masked_accuracy(record, values, table["correct"], n_thresholds))
    return pd.concat(frames, ignore_index=True)


def accuracy_summary(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over the runs and its 95 % confidence interval by Student's t (Fig. 6c).

    Args:
        frame: of `accuracy_by_threshold` or `ensemble_accuracy`.

    Returns:
        One row per score and threshold: score, threshold, accuracy (mean over the runs), ci_low,
        ci_high (cut at 0 and 1, which no accuracy leaves; NaN where fewer than two runs have a
        value), n (mean number of samples left), n_runs.
    """
    frames = []
    for score, part in frame.groupby("score", sort=False):
        keys: dict[str, Any] = {"index": "run_id", "columns": "threshold", "dropna": False}
        accuracy = part.pivot_table(values="accuracy", **keys)
        mean, low, high = compare.mean_interval(accuracy.to_numpy(dtype=np.float64))
        columns = {"score": score, "threshold": accuracy.columns.to_numpy(), "accuracy": mean}
        columns |= {"ci_low": low.clip(min=0), "ci_high": high.clip(max=1)}
        columns["n"] = part.groupby("threshold")["n"].mean().to_numpy()
        frames.append(pd.DataFrame(columns | {"n_runs": len(accuracy)}))
    return pd.concat(frames, ignore_index=True)


def _masked_accuracy(
    record: StoredRecord, values: Mapping[str, Any], correct: Any, n_thresholds: int
) -> pd.DataFrame:
    """Accuracy of one run among the samples at or above each threshold on normalised scores."""
    frames = []
    for score, normalised in values.items():
        accuracy = compare.accuracy_by_threshold(
            normalised, np.asarray(correct), thresholds=np.linspace(0, 1, n_thresholds)
        )
        frames.append(with_run_columns(accuracy, run_columns(record) | {"score": score}))
    return pd.concat(frames, ignore_index=True)


def ensemble_scores(records: Sequence[StoredRecord]) -> pd.DataFrame:
    """Action, entropy and loss variance of each sample over an ensemble (4.1, Fig. 6b).

    Args:
        records: open records of two runs or more on the same samples, which hold the class
            probabilities of their final models.

    Returns:
        One row per sample: sample_id, label, class, action and loss_variance (mean over the
        models, then min–max normalised), entropy (of the mean distribution, min–max normalised),
        mean_action (in the unit of the runs), entropy_nats, predicted (the most probable class of
        the mean distribution), correct, member_accuracy (share of the models that are right).

    Raises:
        NotComparableError: if the runs do not measure the same thing on the same samples.
        NotFoundError: if a record holds no class probabilities.
        ParameterError: if there are fewer than two records, or they hold no labels.
    """
    records = open_records(records)
    shared = _shared_by_members(records)
    aligned = shared.alignment(shared.values("action", None), "action")
    labels = aligned.labels
    assert labels is not None  # noqa: S101 - checked with the members
    probabilities = np.stack([record.probabilities() for record in records])
    entropy = ensemble_entropy(probabilities)
    action = ensemble_mean(aligned.values)
    variance = ensemble_mean(shared.values("loss_variance", None))
    predicted = probabilities.mean(axis=0, dtype=np.float64).argmax(axis=1)
    return pd.DataFrame(
        {
            "sample_id": aligned.sample_ids,
            "label": labels,
            "class": class_column(aligned),
            "action": min_max(action),
            "entropy": min_max(entropy),
            "loss_variance": min_max(variance),
            "mean_action": action,
            "entropy_nats": entropy,
            "predicted": Classes(aligned.class_names).of_each(predicted),
            "correct": predicted == labels,
            "member_accuracy": (probabilities.argmax(axis=2) == labels).mean(axis=0),
        }
    )


def ensemble_accuracy(
    records: Sequence[StoredRecord],
    scores: pd.DataFrame,
    *,
    by: Sequence[str] = ("action", "entropy", "loss_variance"),
    n_thresholds: int = 51,
) -> pd.DataFrame:
    """Accuracy of each model of an ensemble once samples are masked by the ensemble's scores.

    As `accuracy_by_threshold`, with the scores of the ensemble instead of each run's own: every
    model is asked about the same samples (4.1, Fig. 6c).

    Args:
        records: the models.
        scores: the frame of `ensemble_scores` of these records.
        by: its columns to mask by, normalised to [0, 1].
        n_thresholds: thresholds from 0 to 1.

    Returns:
        The columns of `accuracy_by_threshold`; `accuracy_summary` gives mean and interval.

    Raises:
        ParameterError: if there is no such score.
    """
    records = open_records(records)
    for score in by:
        check_score(scores, score)
    values = {score: scores[score].to_numpy(dtype=np.float64) for score in by}
    labels = scores["label"].to_numpy()
    frames = [
        _masked_accuracy(
            record, values, record.probabilities().argmax(axis=1) == labels, n_thresholds
        )
        for record in records
    ]
    return pd.concat(frames, ignore_index=True)


def ensemble_regions(scores: pd.DataFrame, *, share: float = 0.02) -> pd.DataFrame:
    """The samples on which action and entropy of an ensemble disagree (Fig. 7).

    Args:
        scores: the frame of `ensemble_scores`.
        share: part of the samples in each region, see `compare.regions_of_interest`.

    Returns:
        The rows in either region with the further columns region and place (from 1 in each
        region; first the sample whose action and entropy differ most).

    Raises:
        ParameterError: if the share is not above 0 and at most 0.5.
    """
    action, entropy = scores["action"].to_numpy(), scores["entropy"].to_numpy()
    regions = compare.regions_of_interest(action, entropy, share=share)
    order = np.lexsort((np.arange(len(scores)), -np.abs(action - entropy), regions.astype(str)))
    chosen = order[regions[order] != ""]
    frame: pd.DataFrame = scores.iloc[chosen].reset_index(drop=True)
    frame = frame.assign(region=regions[chosen])
    return frame.assign(place=frame.groupby("region").cumcount() + 1)


def ensemble_correlations(
    scores: pd.DataFrame,
    *,
    by: Sequence[str] = ("action", "entropy", "loss_variance"),
    n_bootstrap: int = 500,
    seed: int = 0,
) -> pd.DataFrame:
    """Correlation of the scores of an ensemble with each other (4.1).

    Args:
        scores: the frame of `ensemble_scores`.
        by: its columns to correlate, two or more.
        n_bootstrap: resamples of the samples for the 95 % confidence intervals; 0 for none.
        seed: seed of the resampling.

    Returns:
        One row per method, pair of scores and class (see `compare.correlations`): method,
        score_a, score_b, class, value, ci_low, ci_high, n_samples, n_dropped.

    Raises:
        ParameterError: if there is no such score.
    """
    for score in by:
        check_score(scores, score)
    codes, names = pd.factorize(scores["class"], sort=True)
    groups = compare.correlations(
        scores[list(by)].to_numpy(dtype=np.float64).T,
        codes,
        groups=by,
        class_names=[str(name) for name in names],
        n_bootstrap=n_bootstrap,
        seed=seed,
    ).groups
    renamed = {"model_a": "score_a", "model_b": "score_b", "mean": "value"}
    return groups.rename(columns=renamed).drop(columns=["kind", "n_pairs"])


def _shared_by_members(records: Sequence[StoredRecord]) -> SharedValues:
    """The samples of the models of an ensemble, which has several, with labels and outputs."""
    if len(records) < 2:
        raise ParameterError(
            "records",
            "must be those of two runs or more",
            len(records),
            "Train the same model with another seed.",
        )
    for record in records:
        what = f"record {record.name} of run {record.run.run_id} ({record.run.name})"
        if not record.has_probabilities:
            raise NotFoundError(
                f"{what} holds no class probabilities. Record them with the training parameter "
                "save_probabilities=true, or with Recorder.log_probabilities."
            )
        if record.samples.labels is None:
            raise ParameterError(
                "records", "must hold labels", what, "Pass labels to Recorder.describe_samples."
            )
    return shared_values(records, "error", None)
