"""Runs of a tracking server to tidy score tables and the tables of the paper.

Every function starts from records (`load_records`) or from a tidy score frame (`load_scores`) and
returns a pandas frame. Runs are compared only if they measure the same thing on the same samples.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage
from tqdm.auto import tqdm

from actiontrack import compare
from actiontrack.cluster import ClusterScores, each_on_cluster
from actiontrack.errors import NotComparableError, NotFoundError, ParameterError
from actiontrack.history import LossHistory, check_choice
from actiontrack.notebook import table_html
from actiontrack.rasters import open_raster
from actiontrack.scores import action as score_action
from actiontrack.scores import (
    ensemble_entropy,
    ensemble_mean,
    min_max,
    running_score,
    score_table,
)
from actiontrack.store import RunQuery, Store, StoredRecord
from actiontrack.writing import writing

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "LOW_IS_HARD",
    "Alignment",
    "Comparison",
    "accuracy_by_threshold",
    "accuracy_summary",
    "align",
    "check_same_measure",
    "check_score",
    "class_column",
    "class_distributions",
    "class_name",
    "compare_runs",
    "contrasts",
    "correlation_by_quantile",
    "correlation_table",
    "curve_clusters",
    "disattenuated_correlations",
    "easiest",
    "ensemble_accuracy",
    "ensemble_correlations",
    "ensemble_regions",
    "ensemble_scores",
    "feature_map",
    "hardest",
    "hardness_sign",
    "load_records",
    "load_scores",
    "loss_curves",
    "map_correlation",
    "mean_ranks",
    "model_of",
    "neighbours",
    "noise_detection",
    "noise_pairs",
    "noise_scores",
    "noise_summary",
    "pixel_classes",
    "pixel_regions",
    "positions",
    "runs_frame",
    "save_frame",
    "score_column",
    "score_frame",
    "split_comparable",
    "stability",
    "top_k_overlaps",
]

#: Scores of which a low value means a hard sample.
LOW_IS_HARD = frozenset({"aum", "confidence"})

_NO_SCORES = ["predicted", "correct", "n_steps"]  # numbers of the score table that rank nothing
_TRUTH = (
    "Train with the parameter label_noise, or pass true_labels to Recorder.describe_samples; "
    "--record names the record of the training split."
)
_THREADS = 8
_MAPS = 64  # whose sums are added up before they are added to those of others
_PROGRESS_FROM = 16
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def load_records(
    query: RunQuery | None = None, *, tracking_uri: str | None = None, store: Store | None = None
) -> list[StoredRecord]:
    """Open one record of each run of a query, several at a time.

    Args:
        query: which runs. Default: all runs that hold a record.
        tracking_uri: where they are. Default: MLflow's current one.
        store: an open store, instead of a URI.

    Raises:
        NotFoundError: if nothing matches.
        StoreError: if the server does not answer.
        CorruptRecordError: if a manifest is damaged.
    """
    return _of_each_record(query, store or Store(tracking_uri), lambda each: each, "records")


def runs_frame(records: Sequence[StoredRecord]) -> pd.DataFrame:
    """One row per record: the run, its model, what was recorded, and whether it is complete."""
    return pd.DataFrame([_run_row(each) for each in records])


def load_scores(
    query: RunQuery | None = None,
    *,
    tracking_uri: str | None = None,
    store: Store | None = None,
    up_to_step: int | None = None,
) -> pd.DataFrame:
    """Scores of every sample of every run of a query, one row per run and sample.

    Args:
        query: which runs. Default: all runs that hold a record.
        tracking_uri: where they are. Default: MLflow's current one.
        store: an open store, instead of a URI.
        up_to_step: score the history up to this step only. Default: the whole of it.

    Returns:
        Columns run_id, run_name, model, record, complete (False for a record that is still
        growing or was interrupted: its scores hold up to its last complete epoch), sample_id,
        label, class, and the columns of `scores.score_table`.

    Raises:
        NotFoundError: if nothing matches.
    """
    frames = _of_each_record(
        query, store or Store(tracking_uri), lambda each: _tidy_scores(each, up_to_step), "scores"
    )
    return pd.concat(frames, ignore_index=True)


def _of_each_record(
    query: RunQuery | None, store: Store, function: Callable[[StoredRecord], _Result], what: str
) -> list[_Result]:
    """Open each record of a query and apply a function to it, under one progress bar."""
    wanted = query or RunQuery()
    store.ping()
    runs = store.find_runs(wanted)
    return _concurrently(lambda run: function(store.open_record(run, wanted.record)), runs, what)


def score_frame(records: Sequence[StoredRecord], *, up_to_step: int | None = None) -> pd.DataFrame:
    """The frame of `load_scores` from records that are open already."""
    frames = _concurrently(lambda each: _tidy_scores(each, up_to_step), records, "scores")
    return pd.concat(frames, ignore_index=True)


def class_distributions(scores: pd.DataFrame, *, score: str = "action") -> pd.DataFrame:
    """Distribution of a score per run and class (Fig. 6a), hardest class first.

    Args:
        scores: the frame of `load_scores`.
        score: column to summarise.

    Returns:
        run_id, run_name, model and the columns of `compare.class_summary`.

    Raises:
        ParameterError: if there is no such score.
    """
    check_score(scores, score)
    keys = ["run_id", "run_name", "model"]
    frames = []
    for key, rows in scores.groupby(keys, sort=False, observed=True):
        names = sorted(rows["class"].unique())
        codes = pd.Categorical(rows["class"], categories=names).codes
        summary = compare.class_summary(
            rows[score].to_numpy(), np.asarray(codes, dtype=np.int64), class_names=names
        )
        frames.append(_with_head(summary, dict(zip(keys, key, strict=True))))
    return pd.concat(frames, ignore_index=True)


def hardest(
    scores: pd.DataFrame, n: int = 10, *, by: str = "action", per_class: bool = False
) -> pd.DataFrame:
    """The n hardest samples of each run, hardest first (Fig. 1).

    Samples without a finite score are left out.

    Args:
        scores: the frame of `load_scores`.
        n: how many.
        by: score; of `LOW_IS_HARD` the lowest come first, of the others the highest.
        per_class: n of each class instead of n of each run.

    Raises:
        ParameterError: if there is no such score, or n < 1.
    """
    return _extremes(scores, n, by=by, per_class=per_class, ascending=by in LOW_IS_HARD)


def hardness_sign(score: str) -> float:
    """The factor by which a score becomes one of which high is hard: 1.0, or -1.0."""
    return -1.0 if score in LOW_IS_HARD else 1.0


def easiest(
    scores: pd.DataFrame, n: int = 10, *, by: str = "action", per_class: bool = False
) -> pd.DataFrame:
    """The n easiest samples of each run, easiest first (Fig. 4). See `hardest`."""
    return _extremes(scores, n, by=by, per_class=per_class, ascending=by not in LOW_IS_HARD)


def loss_curves(
    records: Sequence[StoredRecord], sample_ids: Sequence[Any] | None = None, *, n: int = 10
) -> pd.DataFrame:
    """Loss against step (Fig. 3), one row per run, sample and step.

    Args:
        records: open records.
        sample_ids: which samples. Default: the n hardest of each run.
        n: how many, without ids.

    Returns:
        run_id, run_name, model, sample_id, class, step, loss, action.

    Raises:
        NotFoundError: if a record has no such sample.
    """
    frames = [_curves(each, each.history(columns=()), sample_ids, n) for each in records]
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
    history = record.history(columns=())
    found = compare.cluster_curves(history.losses, k=k, seed=seed, n_closest=n_closest)
    ids = _nullable(history.sample_ids)
    classes = _class_column(record, history.labels, history.n_samples)
    parts = []
    for number, rows in enumerate(found.closest):
        samples = np.r_[-1, rows]  # a row that is none: the centre
        curves = np.vstack([found.centres[number], history.losses[:, rows].T])
        part = {
            "cluster": number + 1,
            "trend": found.trends[number],
            "n_samples": int(found.sizes[number]),
            "kind": np.where(samples < 0, "centre", "closest"),
            "rank": np.arange(len(samples)),
            "sample_id": ids.take(samples, allow_fill=True),
            "class": pd.array(classes).take(samples, allow_fill=True),
        }
        frame = pd.DataFrame(part)
        frame = frame.loc[frame.index.repeat(history.n_steps)].reset_index(drop=True)
        parts.append(frame.assign(step=np.tile(history.steps, len(samples)), loss=curves.ravel()))
    return _with_head(pd.concat(parts, ignore_index=True), _run_head(record))


def neighbours(
    record: StoredRecord,
    sample_ids: Sequence[Any] | None = None,
    *,
    n: int = 10,
    k: int = 8,
    score: str = "action",
) -> pd.DataFrame:
    """Nearest neighbours of samples in feature space (Fig. 5), and whether they share the class.

    Args:
        record: an open record that holds features.
        sample_ids: which samples. Default: the n hardest.
        n: how many, without ids.
        k: neighbours of each.
        score: by which the hardest are chosen.

    Returns:
        One row per sample and neighbour: run_id, run_name, model, query_id, query_class,
        query_<score>, rank (from 1, the nearest first), sample_id, class, distance (L2, float64),
        <score> (of the neighbour), same_class.

    Raises:
        NotFoundError: if the record holds no features, or no such sample.
        ParameterError: if k is not below the number of samples, or there is no such score.
    """
    if not record.has_features:
        raise NotFoundError(
            f"record {record.name} of run {record.run.run_id} ({record.run.name}) holds no "
            "features. Record them with the training parameter save_features=true, or with "
            "Recorder.log_features."
        )
    table = score_frame([record])
    check_score(table, score)
    known = record.samples.sample_ids
    if sample_ids is None:
        sample_ids = hardest(table, n, by=score)["sample_id"].tolist()
    rows = _positions(record, known, sample_ids)
    found, distances = compare.nearest_neighbours(record.features(), rows, k=k)
    queries, others = np.repeat(rows, k), found.ravel()
    classes, values = table["class"].astype(str).to_numpy(), table[score].to_numpy()
    frame = pd.DataFrame(
        {
            "query_id": known[queries],
            "query_class": classes[queries],
            f"query_{score}": values[queries],
            "rank": np.tile(np.arange(1, k + 1), len(rows)),
            "sample_id": known[others],
            "class": classes[others],
            "distance": distances.ravel(),
            score: values[others],
            "same_class": classes[queries] == classes[others],
        }
    )
    return _with_head(frame, _run_head(record))


def noise_detection(
    records: Sequence[StoredRecord],
    *,
    ks: Sequence[int] | None = None,
    up_to_step: int | None = None,
    further: Mapping[str, pd.DataFrame] | None = None,
    low_is_hard: Collection[str] = LOW_IS_HARD,
) -> pd.DataFrame:
    """How well each score finds the wrong labels of each run (4.4).

    Args:
        records: open records whose samples hold true labels.
        ks: see `compare.detection`.
        up_to_step: score the history up to this step only.
        further: scores of other methods for the same samples, to compare on equal terms: run id
            to a frame of sample_id and one column per score.
        low_is_hard: names of the scores of which a low value means a suspect.

    Returns:
        One row per run, score and k: run_id, run_name, model, and the columns of
        `compare.detection`, for every score of the record. `noise_summary` gives their mean and
        standard deviation over the runs of a model.

    Raises:
        NotFoundError: if a record holds no true labels, or a sample that `further` lacks.
        ParameterError: if no label of a record is wrong, or a k is out of range.
    """
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
        columns = table.columns.drop(["sample_id", "label", "true_label", *_NO_SCORES], "ignore")
        values = {str(name): table[name].to_numpy(dtype=np.float64) for name in columns}
        values |= _further(record, table["sample_id"], (further or {}).get(record.run.run_id))
        found = compare.detection(values, noisy, ks=ks, low_is_hard=low_is_hard)
        frames.append(_with_head(found, _run_head(record)))
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
    place = detected.groupby(["run_id", "score"], sort=False).cumcount()
    groups = detected.assign(place=place).groupby(["model", "score", "place"], sort=False)
    parts = {"k": groups["k"].mean()}
    for name in metrics:
        parts |= {f"{name}_mean": groups[name].mean(), f"{name}_std": groups[name].std()}
    frame = pd.DataFrame({**parts, "n_runs": groups["run_id"].nunique()}).reset_index()
    models = pd.Categorical(frame["model"], categories=frame["model"].unique()).codes
    order = np.lexsort((frame["place"], -frame["auroc_mean"], models))
    ranked: pd.DataFrame = frame.iloc[order].drop(columns="place").reset_index(drop=True)
    return ranked


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
    frames = []
    for record in records:
        table, noisy = _with_truth(record, None)
        check_score(table, score)
        values = table[score].to_numpy(dtype=np.float64) * hardness_sign(score)
        order = np.argsort(-values, kind="stable")[: noisy.sum() if k is None else k]
        found = np.zeros(len(table), dtype=np.bool_)
        found[order] = ~np.isnan(values[order])
        wrong = table.loc[noisy, ["true_label", "label"]].assign(found=found[noisy])
        frames.append(_with_head(wrong, _run_head(record)))
    groups = pd.concat(frames, ignore_index=True).groupby(["model", "true_label", "label"])["found"]
    pairs = groups.agg(n_wrong="size", n_found="sum", share="mean").reset_index()
    for name in ("true_label", "label"):
        pairs[name] = np.asarray(_classes(records[0], pairs[name].to_numpy()), dtype=object)
    return pairs.rename(columns={"true_label": "true_class", "label": "given_class"})


def noise_scores(records: Sequence[StoredRecord]) -> pd.DataFrame:
    """The frame of `score_frame` with the column `group`, for the distributions of Fig. 12.

    The group is "noisy" or "clean" for samples whose true label is known, and the name of the
    split for those of other records, such as "test".

    Raises:
        NotFoundError: if no record holds true labels.
    """
    frames = []
    for record in records:
        table = score_frame([record])
        group: Any = record.manifest.split
        if "true_label" in table.columns:
            group = np.where(table["label"] == table["true_label"], "clean", "noisy")
        frames.append(table.assign(group=group))
    if not any("true_label" in each.columns for each in frames):
        raise NotFoundError(f"none of the {len(records)} records holds true labels. {_TRUTH}")
    return pd.concat(frames, ignore_index=True)


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
        ci_high (NaN where fewer than two runs have a value), n (mean number of samples left),
        n_runs.
    """
    frames = []
    for score, part in frame.groupby("score", sort=False):
        keys: dict[str, Any] = {"index": "run_id", "columns": "threshold", "dropna": False}
        accuracy = part.pivot_table(values="accuracy", **keys)
        mean, low, high = compare.mean_interval(accuracy.to_numpy(dtype=np.float64))
        columns = {"score": score, "threshold": accuracy.columns.to_numpy(), "accuracy": mean}
        columns |= {"ci_low": low, "ci_high": high}
        columns["n"] = part.groupby("threshold")["n"].mean().to_numpy()
        frames.append(pd.DataFrame(columns | {"n_runs": len(accuracy)}))
    return pd.concat(frames, ignore_index=True)


def _masked_accuracy(
    record: StoredRecord, values: Mapping[str, Any], correct: Any, n_thresholds: int
) -> pd.DataFrame:
    """Accuracy of one run among the samples at or above each threshold on normalised scores."""
    frames = []
    for score, normalised in values.items():
        found = compare.accuracy_by_threshold(
            normalised, np.asarray(correct), thresholds=np.linspace(0, 1, n_thresholds)
        )
        frames.append(_with_head(found, _run_head(record) | {"score": score}))
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
    aligned = _aligned_members(records)
    labels = aligned.labels
    assert labels is not None  # noqa: S101 - checked with the members
    probabilities = np.stack([each.probabilities() for each in records])
    entropy = ensemble_entropy(probabilities)
    action = ensemble_mean(aligned.values)
    variance = ensemble_mean(align(records, score="loss_variance").values)
    predicted = probabilities.mean(axis=0, dtype=np.float64).argmax(axis=1)
    names = aligned.class_names or _default_names(np.r_[labels, predicted])
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
            "predicted": np.array(names, dtype=object)[predicted],
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
    for score in by:
        check_score(scores, score)
    values = {score: scores[score].to_numpy(dtype=np.float64) for score in by}
    labels = scores["label"].to_numpy()
    frames = [
        _masked_accuracy(each, values, each.probabilities().argmax(axis=1) == labels, n_thresholds)
        for each in records
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
    found = compare.correlations(
        scores[list(by)].to_numpy(dtype=np.float64).T,
        codes,
        groups=by,
        class_names=[str(each) for each in names],
        n_bootstrap=n_bootstrap,
        seed=seed,
    ).groups
    renamed = {"model_a": "score_a", "model_b": "score_b", "mean": "value"}
    return found.rename(columns=renamed).drop(columns=["kind", "n_pairs"])


def _aligned_members(records: Sequence[StoredRecord]) -> "Alignment":
    """The actions of the models of an ensemble, which has several, with labels and outputs."""
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
    return align(records)


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """One score of several runs on the same samples.

    Attributes:
        values: (n_runs, n_samples) float64; runs by model, then by time.
        sample_ids: (n_samples,).
        labels: (n_samples,) int64 or None.
        class_names: names of the class indices.
        runs: the frame of `runs_frame`, one row per row of `values`.
        score: column that the values are of.
        note: what an inner join left out, or the empty string.
    """

    values: npt.NDArray[np.float64]
    sample_ids: npt.NDArray[Any]
    labels: npt.NDArray[np.int64] | None
    class_names: tuple[str, ...]
    runs: pd.DataFrame
    score: str = "action"
    note: str = ""

    def _repr_html_(self) -> str:
        """Show itself in a notebook: the runs."""
        note = f"{self.score} of {self.values.shape[1]} samples in each. {self.note}".strip()
        return table_html("Aligned runs", self.runs, note=note)


def align(
    records: Sequence[StoredRecord],
    *,
    score: str = "action",
    on_mismatch: str = "error",
    up_to_step: int | None = None,
) -> Alignment:
    """One score of several runs, sample by sample.

    Args:
        records: open records.
        score: column of `scores.score_table`.
        on_mismatch: what to do if the runs' samples differ: "error", or "inner" for the samples
            that all have with the same label and input.
        up_to_step: score the history up to this step only.

    Raises:
        NotComparableError: if mode, loss, Δn or number of steps differ, or the samples do.
        ParameterError: if there is no such score.
    """
    shared = _shared(records, on_mismatch, up_to_step)
    return shared.alignment(shared.values(score, up_to_step), score)


@dataclass(frozen=True, kw_only=True)
class _Shared:
    """The samples that comparable records have in common.

    Attributes:
        records: by model, then by time.
        positions: of the common samples in each record, None where those are all.
        note: what an inner join left out, or the empty string.
    """

    records: Sequence[StoredRecord]
    positions: list[npt.NDArray[np.intp]] | None
    note: str

    @property
    def n_samples(self) -> int:
        first = self.records[0].manifest.n_samples
        return first if self.positions is None else self.positions[0].size

    def sample_ids(self) -> npt.NDArray[Any]:
        ids: npt.NDArray[Any] = self.records[0].samples.sample_ids[self._kept()]
        return ids

    def labels(self) -> npt.NDArray[np.int64] | None:
        labels = self.records[0].samples.labels
        return None if labels is None else labels[self._kept()].astype(np.int64)

    def class_names(self) -> tuple[str, ...]:
        return self.records[0].manifest.class_names or _default_names(self.labels())

    def values(self, score: str, up_to_step: int | None) -> npt.NDArray[np.float64]:
        """Scores (n_runs, n_samples), read by this process."""
        values = np.empty((len(self.records), self.n_samples))

        def load(row: int) -> None:  # into its place: all scores are in memory once, not twice
            column = score_column(self.records[row], score, up_to_step)
            values[row] = column if self.positions is None else column[self.positions[row]]

        _concurrently(load, range(len(self.records)), "scores")
        return values

    def on_cluster(self, client: "Client", score: str, up_to_step: int | None) -> ClusterScores:
        """The same scores, read by the workers of a Dask cluster."""
        return ClusterScores(
            client,
            self.records,
            partial(score_column, score=score, up_to_step=up_to_step),
            positions=self.positions,
            n_samples=self.n_samples,
        )

    def alignment(self, values: npt.NDArray[np.float64], score: str) -> Alignment:
        return Alignment(
            values=values,
            sample_ids=self.sample_ids(),
            labels=self.labels(),
            class_names=self.records[0].manifest.class_names,
            runs=runs_frame(self.records),
            score=score,
            note=self.note,
        )

    def _kept(self) -> Any:
        return slice(None) if self.positions is None else self.positions[0]


def _shared(records: Sequence[StoredRecord], on_mismatch: str, up_to_step: int | None) -> _Shared:
    """The common samples of records; see `align` for the errors."""
    check_choice("on_mismatch", on_mismatch, ("error", "inner"))
    records = sorted(records, key=_by_model_and_time)
    check_same_measure(records, up_to_step)
    difference = _sample_difference(records)
    if difference and on_mismatch == "error":
        raise NotComparableError(
            f"the runs do not have the same samples: {difference}. "
            "Compare runs on the same data, or ask for the samples that all share with "
            "on_mismatch='inner' (--on-mismatch inner)."
        )
    positions, note = _shared_samples(records) if difference else (None, "")
    return _Shared(records=records, positions=positions, note=note)


def split_comparable(
    records: Sequence[StoredRecord], *, on_mismatch: str = "error", up_to_step: int | None = None
) -> tuple[list[StoredRecord], pd.DataFrame]:
    """The largest set of records that can be compared, and why the others can't be.

    Of sets of one size the one with more models is taken, then the one that comes first.

    Args:
        records: open records.
        on_mismatch: with "inner", records of different samples count as comparable, see `align`.
        up_to_step: compare up to this step only: the number of steps may differ then.

    Returns:
        The records of the set in their order, and one row per other record: run_id, run_name,
        model, record, reason.

    Raises:
        NotFoundError: if no record has a complete epoch.
    """
    check_choice("on_mismatch", on_mismatch, ("error", "inner"))
    usable = [each for each in records if not _too_short(each, up_to_step)]
    if not usable:
        raise NotFoundError(
            f"none of the {len(records)} records can be scored: the first has "
            f"{_too_short(records[0], up_to_step)}. Wait for it, or lower up_to_step (--up-to)."
        )

    def differences(first: StoredRecord, other: StoredRecord) -> list[str]:
        found = [
            f"{what} is {b!r}, not {a!r}"
            for what, a, b in _measure_differences(first, other, up_to_step)
        ]
        samples = "" if on_mismatch == "inner" else _sample_difference([first, other])
        return [*found, *([samples] if samples else [])]

    best: list[StoredRecord] = []
    seen: set[int] = set()
    for start in usable:  # a record that an earlier set holds would only give that set again
        if id(start) in seen:
            continue
        chosen = [start]
        for other in usable:
            if other is not start and not any(differences(each, other) for each in chosen):
                chosen.append(other)
        seen |= {id(each) for each in chosen}
        best = max(best, chosen, key=lambda each: (len(each), len({model_of(one) for one in each})))
    kept = {id(each) for each in best}
    rows = [
        {
            **_run_head(record),
            "record": record.manifest.name,
            "reason": _too_short(record, up_to_step)
            or "; ".join(differences(best[0], record))
            or "differs from another of the runs compared",
        }
        for record in records
        if id(record) not in kept
    ]
    columns = ["run_id", "run_name", "model", "record", "reason"]
    return [each for each in records if id(each) in kept], pd.DataFrame(rows, columns=columns)


def _too_short(record: StoredRecord, up_to_step: int | None) -> str:
    """Why a record can't be scored, or the empty string."""
    steps = record.manifest.steps
    if not steps:
        return "no complete epoch yet"
    last = steps[-1].step
    return "" if up_to_step is None or last >= up_to_step else f"no step beyond {last}"


def model_of(record: StoredRecord) -> str:
    """Name of the model of a record, by which runs are grouped."""
    return record.manifest.model or record.run.model


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Correlation of a score between runs (section 4.6, Table 1).

    Attributes:
        groups: mean over the pairs of a pair of models, tidy: method, kind, model_a, model_b,
            class, mean, ci_low, ci_high, n_pairs, n_samples, n_dropped.
        pairs: each pair of runs, tidy: method, run_a, run_b (run ids), class, value, n_samples,
            n_dropped.
        runs: the runs compared.
        score: the score compared.
        note: what an inner join left out, or the empty string.
        up_to_step: the last step that was scored, or None for all.
    """

    groups: pd.DataFrame
    pairs: pd.DataFrame
    runs: pd.DataFrame
    score: str
    note: str = ""
    up_to_step: int | None = None

    def table(self, method: str = "spearman") -> pd.DataFrame:
        """The paper's Table 1: a row per pair of models, a column per class."""
        return compare.table1(self.groups, method)  # type: ignore[arg-type]

    def _repr_html_(self) -> str:
        """Show itself in a notebook: Table 1 by Spearman's ρ."""
        note = f"Spearman's ρ of the {self.score} of {len(self.runs)} runs. {self.note}".strip()
        return table_html("Comparison", self.table("spearman"), note=note)

    def save(self, folder: Path) -> list[Path]:
        """Write every frame as Parquet and CSV."""
        frames = {"correlation_table": self.groups, "correlation_pairs": self.pairs}
        frames["runs"] = self.runs
        return [path for name, frame in frames.items() for path in save_frame(frame, folder / name)]


def compare_runs(
    records: Sequence[StoredRecord],
    *,
    score: str = "action",
    methods: Sequence[compare.Method] = ("spearman", "pearson"),
    n_bootstrap: int = 500,
    seed: int = 0,
    on_mismatch: str = "error",
    up_to_step: int | None = None,
    client: "Client | None" = None,
) -> Comparison:
    """Correlate a score between runs, Spearman and Pearson, overall and per class (4.6, Table 1).

    Args:
        records: open records of two runs or more.
        score: column of `scores.score_table`.
        methods: which of "spearman" and "pearson" to compute.
        n_bootstrap: resamples of the samples for the 95 % confidence intervals; 0 for none.
        seed: seed of the resampling.
        on_mismatch: see `align`.
        up_to_step: score the history up to this step only.
        client: of a Dask cluster whose workers read the scores and compare them, see `cluster`.
            Default: this process does.

    Raises:
        NotComparableError: if the runs do not measure the same thing on the same samples.
        ParameterError: if there are fewer than two runs.
        StoreError: if the cluster fails, or its workers can't read the artifacts.
    """
    shared = _shared(records, on_mismatch, up_to_step)
    runs = runs_frame(shared.records)
    result = compare.correlations(
        _scores_of(shared, score, up_to_step, client),
        shared.labels(),
        groups=runs["model"].tolist(),
        class_names=shared.class_names(),
        methods=methods,
        n_bootstrap=n_bootstrap,
        seed=seed,
    )
    run_ids = runs["run_id"].to_numpy()
    pairs = result.pairs.assign(
        run_a=run_ids[result.pairs["run_a"]], run_b=run_ids[result.pairs["run_b"]]
    )
    return Comparison(
        groups=result.groups,
        pairs=pairs,
        runs=runs,
        score=score,
        note=shared.note,
        up_to_step=up_to_step,
    )


def _scores_of(
    shared: _Shared, score: str, up_to_step: int | None, client: "Client | None"
) -> npt.NDArray[np.float64] | ClusterScores:
    """Scores in this process, or where the workers of a cluster are."""
    if client is None:
        return shared.values(score, up_to_step)
    return shared.on_cluster(client, score, up_to_step)


def disattenuated_correlations(comparison: Comparison) -> pd.DataFrame:
    """Cross-model correlations with the noise between runs of each model taken out.

    The observed correlation between two models is bounded by how well each agrees with itself;
    r_ab / √(r_aa r_bb) (Spearman 1904) is what is left of it once that is allowed for: 1 means
    that the models find the same samples hard.

    Args:
        comparison: of two models or more, with two runs or more of each.

    Returns:
        One row per method, pair of models and class: method, model_a, model_b, class, cross
        (r_ab), same_a (r_aa), same_b (r_bb), disattenuated (NaN without a positive same-model
        correlation of both). Empty where no model has two runs.
    """
    groups = comparison.groups
    same = groups.loc[groups["kind"] == "same-model", ["method", "model_a", "class", "mean"]]
    cross = groups.loc[groups["kind"] == "cross-model", ["method", "model_a", "model_b", "class"]]
    cross = cross.assign(cross=groups["mean"])
    for side in ("a", "b"):
        named = same.rename(columns={"model_a": f"model_{side}", "mean": f"same_{side}"})
        cross = cross.merge(named, on=["method", f"model_{side}", "class"], how="inner")
    values = compare.disattenuated(cross["cross"], cross["same_a"], cross["same_b"])
    return cross.assign(disattenuated=values)


def top_k_overlaps(
    aligned: Alignment, *, fractions: Sequence[float] = (0.01, 0.05, 0.1)
) -> pd.DataFrame:
    """Share of the hardest samples that two runs have in common, per pair of models.

    Args:
        aligned: the runs, see `align`.
        fractions: parts of the samples, above 0 and at most 1; k is the rounded number of samples
            and at least 1.

    Returns:
        One row per pair of models and fraction: kind, model_a, model_b, fraction, k, overlap
        (mean over the pairs of runs), lowest, highest, n_pairs, chance (k over the number of
        samples).

    Raises:
        ParameterError: if a fraction is out of range or there are fewer than two runs.
    """
    if not all(0 < each <= 1 for each in fractions):
        raise ParameterError(
            "fractions", "must lie above 0 and at most at 1", fractions, "Pass 0.05 for 5 %."
        )
    values, models = _difficulty(aligned), aligned.runs["model"].astype(str).to_numpy()
    if len(models) < 2:
        raise ParameterError("aligned", "must hold two runs or more", len(models), "Choose more.")
    first, second = np.triu_indices(len(models), 1)
    kinds = np.where(models[first] == models[second], "same-model", "cross-model")
    pairs = {"kind": kinds, "model_a": models[first], "model_b": models[second]}
    frames = []
    for fraction in fractions:
        k = max(1, round(fraction * values.shape[1]))
        overlap = compare.top_k_overlap(values, k)[first, second]
        frames.append(pd.DataFrame(pairs | {"fraction": fraction, "k": k, "overlap": overlap}))
    keys = ["kind", "model_a", "model_b", "fraction", "k"]
    groups = pd.concat(frames, ignore_index=True).groupby(keys, sort=False)["overlap"]
    table = groups.agg(overlap="mean", lowest="min", highest="max", n_pairs="size").reset_index()
    table = table.assign(chance=table["k"] / values.shape[1])
    return table.sort_values("kind", kind="stable", ignore_index=True)


def mean_ranks(aligned: Alignment) -> pd.DataFrame:
    """How hard each sample is over all runs: its rank, from 0 (easiest) to 1 (hardest).

    Args:
        aligned: the runs, see `align`.

    Returns:
        One row per sample, the hardest first: sample_id, class, rank (mean over the runs), lowest,
        highest. Samples without a finite score in some run are left out.
    """
    finite = compare.finite_columns(aligned.values)
    ranks = _ranks(aligned, finite)
    frame = pd.DataFrame(
        {
            "sample_id": aligned.sample_ids[finite],
            "class": class_column(aligned)[finite],
            "rank": ranks.mean(axis=0),
            "lowest": ranks.min(axis=0),
            "highest": ranks.max(axis=0),
        }
    )
    return frame.sort_values("rank", ascending=False, kind="stable", ignore_index=True)


def _ranks(aligned: Alignment, finite: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Rank of each sample within its run, 0 the easiest and 1 the hardest, (n_runs, n_finite)."""
    ranks = compare.average_ranks(_difficulty(aligned)[:, finite]) - 1
    return ranks / max(int(finite.sum()) - 1, 1)


def contrasts(aligned: Alignment, *, n: int = 12) -> pd.DataFrame:
    """The samples that are hard for one model and easy for another, for every ordered pair.

    Difficulty is the rank of a sample within its run, from 0 (easiest) to 1 (hardest), averaged
    over the runs of a model, so that models of different loss scales compare.

    Args:
        aligned: the runs, see `align`.
        n: samples of each ordered pair.

    Returns:
        One row per ordered pair and sample, the largest difference first: hard_for, easy_for,
        place (from 1), sample_id, class, rank_hard, rank_easy, difference. Samples without a
        finite score in some run are left out. Empty for a single model.

    Raises:
        ParameterError: if n < 1.
    """
    if n < 1:
        raise ParameterError("n", "must be 1 or more", n, "Ask for at least one sample.")
    finite = compare.finite_columns(aligned.values)
    ranks = _ranks(aligned, finite)
    models = aligned.runs["model"].astype(str)
    means = pd.DataFrame(ranks).groupby(models.to_numpy(), sort=False).mean()
    names = class_column(aligned)[finite]
    frames = []
    for hard, easy in permutations(means.index, 2):
        difference = means.loc[hard].to_numpy() - means.loc[easy].to_numpy()
        rows = np.argsort(-difference, kind="stable")[:n]
        columns = {
            "hard_for": hard,
            "easy_for": easy,
            "place": np.arange(1, len(rows) + 1),
            "sample_id": aligned.sample_ids[finite][rows],
            "class": names[rows],
            "rank_hard": means.loc[hard].to_numpy()[rows],
            "rank_easy": means.loc[easy].to_numpy()[rows],
            "difference": difference[rows],
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _difficulty(aligned: Alignment) -> npt.NDArray[np.float64]:
    """The scores (n_runs, n_samples) with the sign by which a high one is hard."""
    return np.multiply(hardness_sign(aligned.score), aligned.values)


def class_column(aligned: Alignment) -> npt.NDArray[np.object_]:
    """Name of the class of each sample of aligned runs, "all" without labels."""
    if aligned.labels is None:
        return np.full(len(aligned.sample_ids), "all", dtype=object)
    names = aligned.class_names or _default_names(aligned.labels)
    return np.array(names, dtype=object)[aligned.labels]


def correlation_table(records: Sequence[StoredRecord], **options: Any) -> pd.DataFrame:
    """The tidy frame of Table 1: `compare_runs(...).groups`, with the same options."""
    return compare_runs(records, **options).groups


def correlation_by_quantile(
    records: Sequence[StoredRecord],
    *,
    score: str = "action",
    on_mismatch: str = "error",
    up_to_step: int | None = None,
    client: "Client | None" = None,
) -> pd.DataFrame:
    """Correlation among the samples above each quantile of the score (Fig. 14), tidy.

    See `compare.correlation_by_quantile` for the columns, `align` for the errors and
    `compare_runs` for the client.
    """
    shared = _shared(records, on_mismatch, up_to_step)
    models = [model_of(each) for each in shared.records]
    scores = _scores_of(shared, score, up_to_step, client)
    return compare.correlation_by_quantile(scores, groups=models)


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
        ParameterError: if a record does not give that score, or a method is unknown.
    """
    unknown = [each for each in methods if each not in get_args(compare.Method)]
    if unknown:
        rule = f"must come from {list(get_args(compare.Method))}"
        raise ParameterError("methods", rule, unknown, "Pass one or both of them.")
    frames = []
    for record in records:
        history = record.history(columns=() if score == "action" else None)
        values = running_score(history, score)
        columns = {"step": history.steps, "method": "", "value": np.nan}
        for method in methods:
            columns |= {"method": method, "value": compare.with_last(values, method)}
            frames.append(_with_head(pd.DataFrame(columns), _run_head(record)))
    return pd.concat(frames, ignore_index=True)


def pixel_classes(
    record: StoredRecord, *, picture: str = "label", client: "Client | None" = None
) -> pd.DataFrame:
    """Which class holds the hard pixels: pixel actions (eq. 7) by the class of the pixel.

    Args:
        record: an open record that holds maps, and pictures whose pixel values are classes.
        picture: name of these pictures.
        client: of a Dask cluster, see `compare_runs`. Sums of 64 maps each are added in the order
            of the samples, here and there: the result is the same.

    Returns:
        One row per class that occurs, hardest first: run_id, run_name, model, class, n_pixels,
        mean (mean action of its pixels; NaN if all are void that is ignored), std, share_pixels
        and share_action (of the sum of all actions), lift (share_action over share_pixels: above
        1, the class holds more of the action than its size tells). Pixels without an action are
        left out of all but n_pixels.

    Raises:
        NotFoundError: if the record holds no maps or no such pictures.
    """
    sums = np.zeros((256, 4))
    for each in _of_maps(_class_sums, [record], client, picture):
        sums += each
    found = np.flatnonzero(sums[:, 0])
    pixels, scored, total, squares = sums[found].T
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / scored
        std = np.sqrt(np.maximum(squares / scored - mean**2, 0))
        share_pixels, share_action = scored / scored.sum(), total / total.sum()
        frame = pd.DataFrame(
            {
                "class": [class_name(record, each) for each in found.tolist()],
                "n_pixels": pixels.astype(np.int64),
                "mean": mean,
                "std": std,
                "share_pixels": share_pixels,
                "share_action": share_action,
                "lift": share_action / share_pixels,
            }
        )
    ranked = frame.sort_values("mean", ascending=False, kind="stable", ignore_index=True)
    return _with_head(ranked, _run_head(record))


def _class_sums(
    samples: Sequence[int], records: Sequence[StoredRecord], picture: str
) -> npt.NDArray[np.float64]:
    """A row per class: pixels, pixels with an action, Σ a, Σ a² of some samples, (256, 4)."""
    sums = np.zeros((256, 4))
    for sample in samples:
        action, classes = _map_with_classes(records[0], sample, picture)
        scored = np.isfinite(action)
        held, values = classes[scored], action[scored].astype(np.float64)
        parts = (np.bincount(classes.ravel(), minlength=256), np.bincount(held, minlength=256))
        sums += np.stack(
            [*parts, *(np.bincount(held, values**power, minlength=256) for power in (1, 2))], axis=1
        )
    return sums


def _of_maps(
    function: Callable[..., _Result],
    records: Sequence[StoredRecord],
    client: "Client | None",
    *options: Any,
) -> Iterable[_Result]:
    """Answers for 64 samples with maps at a time, in their order: here, or by a cluster."""
    samples = np.flatnonzero(records[0].map_index["file"].to_numpy() >= 0).tolist()
    chunks = [samples[start : start + _MAPS] for start in range(0, len(samples), _MAPS)]
    if client is not None:
        return each_on_cluster(client, function, chunks, records, *options)
    return (function(each, records, *options) for each in chunks)


def pixel_regions(
    record: StoredRecord,
    n: int = 20,
    *,
    picture: str = "label",
    min_pixels: int = 100,
    client: "Client | None" = None,
) -> pd.DataFrame:
    """The hardest regions of all images: connected pixels of one class, by their mean action.

    Args:
        record: see `pixel_classes`.
        n: how many regions.
        picture: see `pixel_classes`.
        min_pixels: smaller regions are left out. Pixels count in the map's own size.
        client: of a Dask cluster, see `compare_runs`.

    Returns:
        run_id, run_name, model, sample_id, class, n_pixels, mean (action), top, left, bottom,
        right (pixels of the label picture; bottom and right are the first outside), hardest first.

    Raises:
        NotFoundError: if the record holds no maps or no such pictures.
    """
    found: list[dict[str, Any]] = []
    for each in _of_maps(_hardest_regions, [record], client, n, picture, min_pixels):
        found = sorted([*found, *each], key=_by_mean)[:n]
    return _with_head(pd.DataFrame(found), _run_head(record))


def _hardest_regions(
    samples: Sequence[int], records: Sequence[StoredRecord], n: int, picture: str, min_pixels: int
) -> list[dict[str, Any]]:
    """The hardest regions of some samples, hardest first."""
    rows: list[dict[str, Any]] = []
    record = records[0]
    ids = record.samples.sample_ids
    for sample in samples:
        action, classes = _map_with_classes(record, sample, picture)
        for value in np.unique(classes).tolist():
            labelled, count = ndimage.label(classes == value)
            numbers = np.arange(1, count + 1)
            sizes = np.bincount(labelled.ravel(), minlength=count + 1)[1:]
            means = ndimage.mean(action, labelled, numbers)
            boxes = ndimage.find_objects(labelled)
            for size, mean, (down, across) in zip(sizes, means, boxes, strict=True):
                if size >= min_pixels and np.isfinite(mean):
                    place = {"top": down.start, "left": across.start}
                    place |= {"bottom": down.stop, "right": across.stop}
                    head = {"sample_id": ids[sample], "class": class_name(record, value)}
                    rows.append(head | {"n_pixels": int(size), "mean": float(mean)} | place)
        rows = sorted(rows, key=_by_mean)[:n]
    return rows


def _by_mean(region: dict[str, Any]) -> float:
    return -float(region["mean"])


def map_correlation(
    records: Sequence[StoredRecord],
    *,
    methods: Sequence[compare.Method] = ("spearman", "pearson"),
    on_mismatch: str = "error",
    client: "Client | None" = None,
) -> pd.DataFrame:
    """Correlation of the pixel actions of each sample between runs: are the same parts hard?

    Args:
        records: open records with maps, of two runs or more.
        methods: which of "spearman" and "pearson" to compute.
        on_mismatch: see `align`.
        client: of a Dask cluster, see `compare_runs`.

    Returns:
        One row per pair of runs, sample and method: method, kind ("same-model" or
        "cross-model"), model_a, model_b, run_a, run_b (run ids), sample_id, value (NaN where a
        map is constant), n_pixels (those that are finite in all runs).

    Raises:
        NotComparableError: if the runs do not measure the same thing on the same samples, or their
            maps differ in loss, down-sampling or size.
        NotFoundError: if a record holds no maps.
        ParameterError: if there are fewer than two runs.
    """
    if len(records) < 2:
        raise ParameterError("records", "must be two runs or more", len(records), "Choose more.")
    shared = _shared(records, on_mismatch, None)  # refuses what can't be compared
    for record in shared.records:
        _check_same_maps(shared.records[0], record)
    runs = runs_frame(shared.records)
    ids = shared.sample_ids()
    chunks = [ids[start : start + _MAPS] for start in range(0, len(ids), _MAPS)]
    if client is None:
        parts = [_map_values(each, shared.records, methods) for each in chunks]
    else:
        parts = each_on_cluster(client, _map_values, chunks, shared.records, methods)
    values = np.concatenate([each for each, _ in parts])  # (samples, methods, pairs)
    n_pixels = np.concatenate([each for _, each in parts])
    models, run_ids = (runs[name].to_numpy() for name in ("model", "run_id"))
    first, second = np.triu_indices(len(runs), 1)
    head = {
        "kind": np.where(models[first] == models[second], "same-model", "cross-model"),
        "model_a": models[first],
        "model_b": models[second],
        "run_a": run_ids[first],
        "run_b": run_ids[second],
    }
    outer = len(ids) * len(methods)
    return pd.DataFrame(
        {
            "method": np.tile(np.repeat(np.array(methods, dtype=object), len(first)), len(ids)),
            **{name: np.tile(column, outer) for name, column in head.items()},
            "sample_id": np.repeat(ids, len(methods) * len(first)),
            "value": values.ravel(),
            "n_pixels": np.repeat(n_pixels, len(methods) * len(first)),
        }
    )


def _map_values(
    sample_ids: npt.NDArray[Any],
    records: Sequence[StoredRecord],
    methods: Sequence[compare.Method],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Correlations of the maps of some samples, (n, methods, pairs), and pixels in them, (n,)."""
    pairs = np.triu_indices(len(records), 1)
    values = np.empty((len(sample_ids), len(methods), len(pairs[0])))
    n_pixels = np.empty(len(sample_ids), dtype=np.int64)
    for row, sample_id in enumerate(sample_ids):
        maps = _maps_of(records, sample_id)
        finite = compare.finite_columns(maps)
        n_pixels[row] = finite.sum()
        for column, method in enumerate(methods):
            matrix = compare.spearman_matrix if method == "spearman" else compare.pearson_matrix
            values[row, column] = matrix(maps[:, finite])[pairs]
    return values, n_pixels


def feature_map(record: StoredRecord, *, score: str = "action") -> pd.DataFrame:
    """Samples in the plane of their features: as they are where there are two, else by PCA.

    Args:
        record: an open record that holds features, such as an autoencoder's latent codes.
        score: score to add.

    Returns:
        run_id, run_name, model, sample_id, class, x, y, <score>. `attrs["axes"]` names the axes.

    Raises:
        NotFoundError: if the record holds no features.
        ParameterError: if there is no such score, or fewer than two features.
    """
    if not record.has_features:
        raise NotFoundError(
            f"record {record.name} of run {record.run.run_id} ({record.run.name}) holds no "
            "features. Record them with Recorder.log_features."
        )
    table = score_frame([record])
    check_score(table, score)
    points: npt.NDArray[Any] = record.features()
    names = ["feature 1", "feature 2"]
    if points.shape[1] != 2:
        points, explained = compare.principal_components(points, 2)
        names = [f"component {n} ({each:.0%})" for n, each in enumerate(explained, start=1)]
    head = table[["run_id", "run_name", "model", "sample_id", "class"]]
    frame = head.assign(x=points[:, 0], y=points[:, 1], **{score: table[score]})
    frame.attrs["axes"] = names
    return frame


def positions(record: StoredRecord, sample_ids: Sequence[Any]) -> list[int]:
    """Row positions of samples by their ids, which may be given as text.

    Raises:
        NotFoundError: if there is no such sample.
    """
    found: list[int] = _positions(record, record.samples.sample_ids, sample_ids).tolist()
    return found


def save_frame(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Write a frame as `stem`.parquet and `stem`.csv, which are replaced.

    Raises:
        StoreError: if the folder can't be written.
    """
    paths = [stem.with_name(stem.name + ending) for ending in (".parquet", ".csv")]
    with writing(stem):
        stem.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(paths[0], index=False)
        frame.to_csv(paths[1], index=False)
    return paths


def _map_with_classes(
    record: StoredRecord, sample: int, picture: str
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Action and class of each pixel of a picture, (H, W) both."""
    action = record.pixel_action(sample)
    with open_raster(record.picture_bytes(picture, sample)) as image:
        classes = np.asarray(image, dtype=np.uint8)
    factor = int((record.manifest.maps or {}).get("factor", 1))
    if factor > 1:
        action = action.repeat(factor, axis=0).repeat(factor, axis=1)
    return action[: classes.shape[0], : classes.shape[1]], classes


def class_name(record: StoredRecord, value: int) -> str:
    """Name of a class index, its number where it has none."""
    names = record.manifest.class_names
    return names[value] if value < len(names) else str(value)


def _check_same_maps(first: StoredRecord, other: StoredRecord) -> None:
    for each in (first, other):
        _ = each.map_index  # refuses a record without maps
    kinds = [
        (each.manifest.pixel_loss_name, (each.manifest.maps or {}).get("factor"))
        for each in (first, other)
    ]
    if kinds[0] != kinds[1]:
        raise NotComparableError(
            "the maps do not measure the same thing: pixel loss and down-sampling are "
            f"{kinds[0]} in run {first.run.run_id} ({first.run.name}) and {kinds[1]} in run "
            f"{other.run.run_id} ({other.run.name}). {_CHOOSE}"
        )


def _maps_of(records: Sequence[StoredRecord], sample_id: Any) -> npt.NDArray[np.float64]:
    """Maps of a sample in several runs, (n_runs, n_pixels)."""
    found = [
        each.pixel_action(int(np.searchsorted(each.samples.sample_ids, sample_id)))
        for each in records
    ]
    if len({each.shape for each in found}) > 1:
        shapes = sorted({f"{each.shape[1]}x{each.shape[0]}" for each in found})
        raise NotComparableError(
            f"the maps of sample {sample_id} differ in size: {', '.join(shapes)}. {_CHOOSE}"
        )
    return np.stack([each.ravel().astype(np.float64) for each in found])


def _run_row(record: StoredRecord) -> dict[str, object]:
    manifest, run = record.manifest, record.run
    return {
        "run_id": run.run_id,
        "run_name": run.name,
        "experiment": run.experiment,
        "model": model_of(record),
        "dataset": run.params.get("dataset", "").strip("'"),
        "seed": run.params.get("seed", "").strip("'"),
        "record": manifest.name,
        "loss": manifest.loss_name,
        "delta": manifest.delta_kind,
        "n_steps": manifest.n_steps,
        "n_samples": manifest.n_samples,
        "n_nonfinite": sum(each.n_nonfinite for each in manifest.steps),
        "status": run.status,
        "complete": manifest.complete,
    }


def _run_head(record: StoredRecord) -> dict[str, Any]:
    """The columns that say which run a row is of."""
    return {
        "run_id": record.run.run_id,
        "run_name": record.run.name,
        "model": model_of(record),
    }


def _tidy_scores(record: StoredRecord, up_to_step: int | None) -> pd.DataFrame:
    manifest = record.manifest
    # Arrays, not series: nothing has to be aligned, a thousand times.
    columns = {name: each.array for name, each in _scores(record, up_to_step).items()}
    head = _run_head(record) | {
        "record": manifest.name,
        "complete": manifest.complete,
        "sample_id": columns.pop("sample_id"),
    }
    if "label" in columns:
        label = columns.pop("label")
        head |= {"label": label, "class": _classes(record, np.asarray(label))}
    else:
        head["class"] = "all"
    return pd.DataFrame(head | columns)


def _with_head(frame: pd.DataFrame, head: dict[str, Any]) -> pd.DataFrame:
    """The frame with further columns before its own."""
    return pd.concat([pd.DataFrame(head, index=frame.index), frame], axis=1)


def _classes(record: StoredRecord, labels: npt.NDArray[Any]) -> "pd.Categorical[Any]":
    names = record.manifest.class_names or _default_names(labels)
    known = np.array([*names, "unknown"], dtype=object)
    inside = (labels >= 0) & (labels < len(names))
    present, codes = np.unique(np.where(inside, labels, len(names)), return_inverse=True)
    categories, places = np.unique(known[present], return_inverse=True)  # ascending, each once
    return pd.Categorical.from_codes(  # type: ignore[call-overload,no-any-return]
        places[codes], categories=categories
    )


def _class_column(
    record: StoredRecord, labels: npt.NDArray[Any] | None, n_samples: int
) -> npt.NDArray[np.object_]:
    """Name of the class of each sample, "all" without labels."""
    if labels is None:
        return np.full(n_samples, "all", dtype=object)
    return np.asarray(_classes(record, labels), dtype=object)


def _nullable(ids: npt.NDArray[Any]) -> Any:
    """Ids as a pandas array in which a missing one does not turn integers into floats."""
    return pd.array(ids, dtype="Int64" if ids.dtype.kind in "iu" else "string")


def _scores(record: StoredRecord, up_to_step: int | None) -> pd.DataFrame:
    if up_to_step is None:
        return record.scores()
    return score_table(_truncated(record.history(), up_to_step))


def _with_truth(
    record: StoredRecord, up_to_step: int | None
) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """The scores of a record, and which of its labels are wrong."""
    table = _scores(record, up_to_step)
    if "true_label" not in table.columns:
        what = f"record {record.name} of run {record.run.run_id} holds no true labels"
        raise NotFoundError(f"{what}. {_TRUTH}")
    return table, (table["label"] != table["true_label"]).to_numpy(dtype=np.bool_)


def _further(
    record: StoredRecord, sample_ids: "pd.Series[Any]", frame: pd.DataFrame | None
) -> dict[str, npt.NDArray[np.float64]]:
    """Scores of another method, in the order of these samples."""
    if frame is None:
        return {}
    given = frame.set_index("sample_id")
    missing = sample_ids[~sample_ids.isin(given.index)]
    if len(missing):
        raise NotFoundError(
            f"the further scores of run {record.run.run_id} lack {len(missing)} of "
            f"{len(sample_ids)} samples, such as {missing.tolist()[0]!r}. Pass one row per sample."
        )
    aligned = given.loc[sample_ids]
    return {str(name): aligned[name].to_numpy(dtype=np.float64) for name in aligned.columns}


def _by_model_and_time(record: StoredRecord) -> tuple[str, int, str]:
    return model_of(record), record.run.start_time, record.run.run_id


def score_column(
    record: StoredRecord, score: str, up_to_step: int | None
) -> npt.NDArray[np.float64]:
    """One score of a record, (n_samples,) float64 in canonical order.

    Raises:
        ParameterError: if there is no such score, or the record does not reach the step.
    """
    if up_to_step is None:
        frame = record.scores([score]) if record.manifest.complete else record.scores()
    else:
        frame = _scores(record, up_to_step)
    check_score(frame, score)
    return frame[score].to_numpy(dtype=np.float64)


def _truncated(history: LossHistory, up_to_step: int) -> LossHistory:
    kept = history.steps <= up_to_step
    if not kept.any() or int(history.steps[-1]) < up_to_step:
        raise ParameterError(
            "up_to_step",
            f"must be a recorded step, at most {int(history.steps[-1])}",
            up_to_step,
            "Choose a step that every run has reached.",
        )
    grids = {name: values[kept] for name, values in history.measures.items()}
    parts = {name: values[kept] for name, values in history.components.items()}
    changes = {"measures": grids, "components": parts}
    changes |= {
        name: getattr(history, name)[kept] for name in ("losses", "steps", "deltas", "seen")
    }
    return LossHistory(**{**vars(history), **changes})


def _default_names(labels: npt.NDArray[Any] | None) -> tuple[str, ...]:
    if labels is None or not labels.size:
        return ()
    return tuple(str(each) for each in range(int(labels.max()) + 1))


def _extremes(
    scores: pd.DataFrame, n: int, *, by: str, per_class: bool, ascending: bool
) -> pd.DataFrame:
    check_score(scores, by)
    if n < 1:
        raise ParameterError("n", "must be 1 or more", n, "Ask for at least one sample.")
    keys = ["run_id", "class"] if per_class else ["run_id"]
    finite = scores.loc[np.isfinite(scores[by].to_numpy(dtype=np.float64))]
    ordered = finite.sort_values(by, ascending=ascending, kind="stable")
    top: pd.DataFrame = ordered.groupby(keys, sort=False, observed=True).head(n)
    runs = pd.Categorical(top["run_id"], categories=scores["run_id"].unique())
    order = np.argsort(runs.codes, kind="stable")
    ranked: pd.DataFrame = top.iloc[order].reset_index(drop=True)
    return ranked


def _curves(
    record: StoredRecord, history: LossHistory, sample_ids: Sequence[Any] | None, n: int
) -> pd.DataFrame:
    if sample_ids is None:
        hard = score_action(history.losses, history.deltas)
        rows = np.argsort(-np.nan_to_num(hard, nan=-np.inf), kind="stable")[:n]
    else:
        rows = _positions(record, history.sample_ids, sample_ids)
    losses = history.losses[:, rows]
    action = score_action(losses, history.deltas)
    names = history.class_names
    labels = history.labels
    frame = pd.DataFrame(
        {
            **_run_head(record),
            "sample_id": np.repeat(history.sample_ids[rows], history.n_steps),
            "step": np.tile(history.steps, len(rows)),
            "loss": losses.T.ravel(),
            "action": np.repeat(action, history.n_steps),
        }
    )
    if labels is not None:
        shown = [names[each] if 0 <= each < len(names) else str(each) for each in labels[rows]]
        frame["class"] = np.repeat(shown, history.n_steps)
    return frame


def _positions(
    record: StoredRecord, known: npt.NDArray[Any], wanted: Sequence[Any]
) -> npt.NDArray[np.intp]:
    rows = [_position(known, each) for each in wanted]
    missing = [each for each, row in zip(wanted, rows, strict=True) if row < 0]
    if missing:
        look = f"Its ids look like {known[0]!s}." if len(known) else "It has none."
        if record.manifest.has_hashed_ids:
            look = "Its ids are hashed: find those of your samples with 'actiontrack hash-ids'."
        raise NotFoundError(
            f"record {record.name} of run {record.run.run_id} has no sample "
            f"{str(missing[0])[:80]!r}. {look}"
        )
    return np.array(rows, dtype=np.intp)


def _position(known: npt.NDArray[Any], wanted: Any) -> int:
    """Row of an id among ascending ones, -1 if it is none of them; integers may come as text."""
    value: Any = str(wanted)
    if known.dtype.kind in "iu":
        try:
            value = int(value)
        except ValueError:
            return -1
        if not np.iinfo(known.dtype).min <= value <= np.iinfo(known.dtype).max:
            return -1
    row = int(np.searchsorted(known, value))
    return row if row < len(known) and str(known[row]) == str(wanted) else -1


def check_same_measure(records: Sequence[StoredRecord], up_to_step: int | None) -> None:
    """Refuse records that do not measure the same thing; their samples may differ.

    Raises:
        NotComparableError: names the difference, both runs and the remedy.
    """
    first = records[0]
    for other in records[1:]:
        for what, a, b in _measure_differences(first, other, up_to_step):
            raise NotComparableError(
                f"the runs do not measure the same thing: {what} is {a!r} in run "
                f"{first.run.run_id} ({first.run.name}) and {b!r} in run "
                f"{other.run.run_id} ({other.run.name}). {_REMEDY.get(what, _CHOOSE)}"
            )


def _measure_differences(
    first: StoredRecord, other: StoredRecord, up_to_step: int | None
) -> list[tuple[str, object, object]]:
    """What two records measure differently: its name, and its value in either."""
    values = [(what, get(first), get(other)) for what, get in _MEASURED]
    return [
        (what, a, b)
        for what, a, b in values
        if a != b and not (what == "number of steps" and up_to_step is not None)
    ]


_CHOOSE = "Choose runs that agree in it."
_SALT = "the salt of hashed ids"
_REMEDY = {
    _SALT: "Hashes with different salts, or with and without one, name different samples: record "
    "the runs with the same ACTIONTRACK_ID_SALT.",
    "number of steps": "Compare them up to a step that all have reached, with up_to_step "
    "(--up-to), or choose runs that agree in it.",
}
_MEASURED: tuple[tuple[str, Callable[[StoredRecord], object]], ...] = (
    ("record", lambda each: each.manifest.name),
    (_SALT, lambda each: (each.manifest.privacy or {}).get("salt_check", "none")),
    ("mode", lambda each: each.manifest.mode),
    ("loss", lambda each: each.manifest.loss_name),
    ("void", lambda each: each.manifest.void),
    ("Δn", lambda each: each.manifest.delta_kind),
    ("the untrained state n = 0", lambda each: each.manifest.has_initial_state),
    ("number of steps", lambda each: each.manifest.n_steps),
)


def _sample_difference(records: Sequence[StoredRecord]) -> str:
    """In which way the samples of the runs differ, or the empty string."""
    first = records[0]
    for other in records[1:]:
        a, b = first.manifest.digests, other.manifest.digests
        for part in ("ids", "labels", "inputs"):
            known = a.get(part) is not None and b.get(part) is not None
            if known and a[part] != b[part]:
                return (
                    f"{part} of run {first.run.run_id} ({first.run.name}, "
                    f"{first.manifest.n_samples} samples) and run {other.run.run_id} "
                    f"({other.run.name}, {other.manifest.n_samples} samples) differ"
                )
    return ""


def _shared_samples(
    records: Sequence[StoredRecord],
) -> tuple[list[npt.NDArray[np.intp]], str]:
    """Positions in each record of the samples that all have with the same label and input."""
    indexes = [_sample_index(each) for each in records]
    shared = indexes[0]
    for index in indexes[1:]:
        shared = shared.intersection(index)
    shared = shared.sort_values()
    if not len(shared):
        raise NotComparableError(
            "the runs have no sample in common: no id with the same label and input."
        )
    total = max(len(each) for each in indexes)
    note = f"{len(shared)} of up to {total} samples are shared by all {len(records)} runs"
    return [np.asarray(index.get_indexer(shared)) for index in indexes], note


def _sample_index(record: StoredRecord) -> pd.MultiIndex:
    samples = record.samples
    parts: dict[str, Any] = {"id": samples.sample_ids}
    if samples.labels is not None:
        parts["label"] = samples.labels
    if samples.input_digests is not None:
        parts["input"] = samples.input_digests
    return pd.MultiIndex.from_frame(pd.DataFrame(parts))


def check_score(frame: pd.DataFrame, name: str) -> None:
    """Refuse a name that is no column of a score frame, or one that holds no numbers.

    Raises:
        ParameterError: names the score and those that there are.
    """
    if name not in frame.columns or not pd.api.types.is_numeric_dtype(frame[name]):
        numeric = frame.select_dtypes("number").columns.difference(["label", "true_label"])
        raise ParameterError(
            "score", f"must be one of {', '.join(numeric)}", name, "Choose one of these."
        )


def _concurrently(
    function: Callable[[_Item], _Result], items: Sequence[_Item], what: str
) -> list[_Result]:
    """Apply a function that mostly waits, in order, with one progress bar for many items."""
    with ThreadPoolExecutor(_THREADS) as pool:
        results = pool.map(function, items)
        quiet = len(items) < _PROGRESS_FROM
        return list(tqdm(results, total=len(items), desc=f"loading {what}", disable=quiet))
