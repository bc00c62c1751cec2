"""Do scores agree with difficulty as it was measured elsewhere: by people, or by other methods?

An outside difficulty is set beside the runs as one run more, so that ranks, classes, ties and the
bootstrap are those of any comparison of runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.alignment import SharedValues, class_column, shared_values
from actiontrack.analysis.difficulty_files import checked_difficulties
from actiontrack.analysis.id_tables import ids_differ
from actiontrack.analysis.loading import stored_scores
from actiontrack.analysis.tables import runs_frame
from actiontrack.errors import DataError, NotComparableError, ParameterError
from actiontrack.scores import hardness_sign, unranked
from actiontrack.store import StoredRecord
from actiontrack.store.notebook import table_html

__all__ = [
    "OutsideAgreement",
    "agreement_with",
    "difficulty_ranks",
]

_OUTSIDE = "outside"
_COLUMNS = [
    *("outside", "score", "method", "kind", "model", "run_id", "run_name", "class", "value"),
    *("ci_low", "ci_high", "n_runs", "n_samples", "n_dropped", "same_model", "disattenuated"),
]  # of `OutsideAgreement.table`


@dataclass(frozen=True, kw_only=True)
class OutsideAgreement:
    """Correlation of scores with difficulties from outside.

    Attributes:
        table: one row per measure of difficulty, score, method, run or mean, and class: outside
            (name of the measure), score, method, kind ("run", or "mean" over the runs of a model
            that has several), model, run_id, run_name, class ("overall", "within-class" and each
            class, see `compare.correlations`), value (the correlation; positive where both find
            the same samples hard), ci_low, ci_high (95 %), n_runs, n_samples, n_dropped (samples
            without a value, or without a finite score in some run), and of means same_model (the
            mean correlation of two runs of the model on the same samples) and disattenuated (value
            / √same_model: what is left of the noise of training taken out; may exceed 1).
        coverage: one row per measure: outside, n_samples (of the runs), n_without_row (their ids
            are not in the table), example (of them, or ""), n_without_value (their value is not
            finite), n_unused (rows of no sample of the runs).
        runs: the runs, see `runs_frame`.
        high_is_hard: whether a high value means a hard sample.
        note: what an inner join left out, or the empty string.
    """

    table: pd.DataFrame
    coverage: pd.DataFrame
    runs: pd.DataFrame
    high_is_hard: bool
    note: str = ""

    def _repr_html_(self) -> str:
        """Show itself in a notebook: the table."""
        return table_html("Agreement with outside difficulty", self.table, note=self.note)


def agreement_with(
    records: Sequence[StoredRecord],
    outside: pd.DataFrame,
    *,
    scores: Sequence[str] | None = ("action",),
    high_is_hard: bool = True,
    methods: Sequence[compare.Method] = ("spearman",),
    n_bootstrap: int = 500,
    seed: int = 0,
    on_mismatch: str = "error",
    up_to_step: int | None = None,
) -> OutsideAgreement:
    """Correlate scores with difficulties that were measured elsewhere, overall and per class.

    Such are the entropy of annotators, the time that a label took, or the C-scores of Jiang et al.
    (ICML 2021). Both sides are turned so that high is hard. The interval is the percentile
    bootstrap over samples of `compare.correlations`, that of a mean over runs with the same
    resamples in each.

    Args:
        records: open records, one or more.
        outside: sample_id and a float column for each measure, one row per sample, in any order,
            see `read_difficulties`. Ids are compared as text; integers may come as text.
        scores: columns of `scores.score_table`. None: all that order samples.
        high_is_hard: whether a high value of the measures means a hard sample.
        methods: which of "spearman" and "pearson" to compute.
        n_bootstrap: resamples of the samples for the 95 % confidence intervals; 0 for none.
        seed: seed of the resampling.
        on_mismatch: see `align`.
        up_to_step: score the history up to this step only.

    Raises:
        NotComparableError: if the runs do not compare, or fewer than 3 of their samples have a
            value.
        DataError: if a sample is named twice, or all have the same value.
        ParameterError: if there is no such score, or the frame is none.
    """
    shared = shared_values(records, on_mismatch, up_to_step)
    names = _ranked(shared.records, up_to_step) if scores is None else list(scores)
    if not names or isinstance(scores, str):
        raise ParameterError("scores", "must be a list of scores", scores, 'Pass ["action"].')
    measures, coverage = _joined(shared, outside)
    runs = runs_frame(shared.records)
    sign = 1.0 if high_is_hard else -1.0
    options: dict[str, Any] = {"methods": methods, "n_bootstrap": n_bootstrap, "seed": seed}
    options["labels"], options["class_names"] = shared.coded_labels()
    frames = []
    for score in names:
        rows = hardness_sign(score) * shared.values(score, up_to_step)
        for name, values in measures.items():
            frame = _correlated(np.vstack([rows, sign * values]), runs, options)
            frames.append(frame.assign(outside=name, score=score))
    table = pd.concat(frames, ignore_index=True)[_COLUMNS]
    return OutsideAgreement(
        table=table, coverage=coverage, runs=runs, high_is_hard=high_is_hard, note=shared.note
    )


def difficulty_ranks(
    records: Sequence[StoredRecord],
    outside: pd.DataFrame,
    *,
    score: str = "action",
    column: str | None = None,
    high_is_hard: bool = True,
    on_mismatch: str = "error",
    up_to_step: int | None = None,
) -> pd.DataFrame:
    """Ranks of samples by an outside difficulty and by a score, for `plots.difficulty_ranks`.

    Args:
        records: open records, one or more.
        outside: see `agreement_with`.
        score: column of `scores.score_table`.
        column: the measure. Default: the first.
        high_is_hard: whether a high value of it means a hard sample.
        on_mismatch: see `align`.
        up_to_step: score the history up to this step only.

    Returns:
        One row per sample with a finite value and a finite score in every run, in the order of the
        record: sample_id, class, outside_rank and score_rank, from 0 (easiest) to 1 (hardest), ties
        at mid-ranks; score_rank is the mean over the runs. `attrs` names outside, score and n_runs.

    Raises:
        The errors of `agreement_with`.
    """
    shared = shared_values(records, on_mismatch, up_to_step)
    measures, _ = _joined(shared, outside)
    name = next(iter(measures)) if column is None else column
    if name not in measures:
        raise ParameterError("column", f"must be one of {', '.join(measures)}", name, "Choose one.")
    values = shared.values(score, up_to_step)
    aligned = shared.alignment(values, score)
    sign = 1.0 if high_is_hard else -1.0
    rows = np.vstack([sign * measures[name], hardness_sign(score) * values])
    finite = compare.finite_columns(rows)
    ranks = compare.relative_ranks(rows[:, finite])
    frame = pd.DataFrame(
        {
            "sample_id": aligned.sample_ids[finite],
            "class": class_column(aligned)[finite],
            "outside_rank": ranks[0],
            "score_rank": ranks[1:].mean(axis=0),
        }
    )
    frame.attrs |= {"outside": name, "score": score, "n_runs": len(values)}
    return frame


def _ranked(records: Sequence[StoredRecord], up_to_step: int | None) -> list[str]:
    """The scores that order samples and that all records have."""
    columns = [stored_scores(record, up_to_step).columns for record in records]
    common = set(columns[0]).intersection(*columns[1:]) - unranked()
    return [str(name) for name in columns[0] if name in common]


def _joined(
    shared: SharedValues, outside: pd.DataFrame
) -> tuple[dict[str, npt.NDArray[np.float64]], pd.DataFrame]:
    """Values of each measure in the order of the samples, NaN without one, and the coverage."""
    table = checked_difficulties(outside)
    samples = shared.sample_ids()
    rows = pd.Index(table["sample_id"]).get_indexer(pd.Index(samples.astype(str), dtype=object))
    absent = rows < 0
    if absent.all():
        raise NotComparableError(
            f"none of the {samples.size} samples of the runs has an outside difficulty: "
            + ids_differ(samples[0], table, hashed=shared.records[0].manifest.has_hashed_ids)
        )
    example = str(samples[absent.argmax()]) if absent.any() else ""
    measures, coverage = {}, []
    for name in table.columns.drop("sample_id"):
        values = np.where(absent, np.nan, table[name].to_numpy()[rows])
        _check_values(name, values[np.isfinite(values)], samples.size)
        measures[name] = values
        counts = {
            "outside": name,
            "n_samples": samples.size,
            "n_without_row": int(absent.sum()),
            "example": example,
            "n_without_value": int((~absent & ~np.isfinite(values)).sum()),
            "n_unused": int(len(table) - (~absent).sum()),
        }
        coverage.append(counts)
    return measures, pd.DataFrame(coverage)


def _check_values(name: str, finite: npt.NDArray[np.float64], n_samples: int) -> None:
    """Refuse what orders no samples."""
    if finite.size < compare.MIN_SAMPLES:
        raise NotComparableError(
            f"only {finite.size} of the {n_samples} samples of the runs have a value of {name}: a "
            f"correlation needs {compare.MIN_SAMPLES}. Choose another record with --record, or add "
            "values."
        )
    if finite.min() == finite.max():
        raise DataError(
            f"all {finite.size} samples have the same value of {name}, {finite[0]:g}: it puts them "
            "in no order. Choose another column."
        )


def _correlated(
    rows: npt.NDArray[np.float64], runs: pd.DataFrame, options: dict[str, Any]
) -> pd.DataFrame:
    """The rows of the table for scores (n_runs + 1, n_samples), the outside difficulty last."""
    run_keys = [str(row) for row in range(len(runs))]
    groups = compare.correlations(rows, groups=[*run_keys, _OUTSIDE], **options).groups
    single = _with_outside(groups, kind="run").merge(
        runs[["run_id", "run_name", "model"]].assign(key=run_keys), on="key"
    )
    codes, models = pd.factorize(runs["model"].astype(str))
    if len(models) == len(runs):
        return single.assign(same_model=np.nan, disattenuated=np.nan)
    model_keys = pd.Series(codes).astype(str)
    groups = compare.correlations(rows, groups=[*model_keys, _OUTSIDE], **options).groups
    means = _with_outside(groups, kind="mean").assign(run_id="", run_name="")
    # A model with one run has its row already, and no ceiling.
    ceilings = groups.loc[groups["kind"] == "same-model", ["method", "model_a", "class", "mean"]]
    ceilings = ceilings.rename(columns={"model_a": "key", "mean": "same_model"})
    means = means.merge(ceilings, on=["method", "key", "class"])
    means["model"] = models[means["key"].to_numpy(int)]
    means["disattenuated"] = compare.disattenuated(means["value"], means["same_model"], 1.0)
    both = [frame.astype({"run_id": object, "run_name": object}) for frame in (single, means)]
    return pd.concat(both, ignore_index=True)


def _with_outside(groups: pd.DataFrame, *, kind: str) -> pd.DataFrame:
    """The rows that pair a group of runs with the outside difficulty; `key` names the group."""
    names = {"model_a": "key", "mean": "value", "n_pairs": "n_runs"}
    chosen = groups.loc[groups["model_b"] == _OUTSIDE].rename(columns=names)
    chosen = chosen.sort_values("key", key=lambda keys: keys.astype(int), kind="stable")
    return chosen.drop(columns="model_b").assign(kind=kind)
