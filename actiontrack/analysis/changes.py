"""What became harder or easier between two sets of runs: after relabelling, or with another model.

Runs are the units of chance: means over samples are compared by the spread between runs of a set,
so that a change is told apart from what another seed would have changed as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from actiontrack import compare
from actiontrack.analysis.comparable import check_same_measure, common_samples, sample_indexes
from actiontrack.analysis.loading import score_column
from actiontrack.analysis.tables import label_column, open_records
from actiontrack.compare import OVERALL
from actiontrack.compare.matrices import Floats
from actiontrack.errors import NotComparableError, ParameterError
from actiontrack.scores import hardness_sign
from actiontrack.store import StoredRecord
from actiontrack.store.notebook import table_html

__all__ = [
    "OVERALL",
    "Changes",
    "compare_sets",
    "regressions",
]

_BINS = 20  # of samples of similar difficulty, over which the noise of a sample is averaged
_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What changed between two sets of runs on the samples that all of them have.

    Attributes:
        classes: one row for all samples ("overall") and per class (by the labels of `after`):
            class, n, before, after (mean score over samples and runs), change (after − before),
            relative (change over |before|), ci_low and ci_high (95 % interval of the change by the
            spread between runs; NaN without two runs in a set), harder (whether the change makes
            it harder by more than that interval leaves to chance; without an interval, at all).
        samples: one row per sample, the largest increase first: sample_id, class, before, after,
            change, rank_before, rank_after (0 the easiest to 1 the hardest), noise (the change
            that 5 % of samples of similar difficulty exceed by chance; NaN without two runs in a
            set), beyond_noise.
        relabelled: rows of `samples` whose label differs, with class_before.
        agreement: Spearman's ρ between runs, mean, lowest and highest: within before, within after
            and between (kind, n_pairs).
        score: the score compared.
        n_before: runs before.
        n_after: runs after.
        left_out: samples that are not in all runs, were other inputs in one, or have no finite
            score in one.
    """

    classes: pd.DataFrame
    samples: pd.DataFrame
    relabelled: pd.DataFrame
    agreement: pd.DataFrame
    score: str
    n_before: int
    n_after: int
    left_out: int

    def _repr_html_(self) -> str:
        """Show itself in a notebook: the change of each class."""
        note = f"{self.n_before} runs before, {self.n_after} after, {len(self.samples)} samples."
        return table_html(f"Change of the {self.score}", self.classes, note=note)

    @property
    def has_noise(self) -> bool:
        """Whether there are two runs in a set, whose spread tells chance apart."""
        return self.n_before + self.n_after > 2


def compare_sets(
    before: Sequence[StoredRecord],
    after: Sequence[StoredRecord],
    *,
    score: str = "action",
    up_to_step: int | None = None,
) -> Changes:
    """Compare a score between two sets of runs, sample by sample; labels may differ.

    Args:
        before: open records, one run or more.
        after: open records, one run or more, none of them in `before`.
        score: column of `scores.score_table`.
        up_to_step: score the history up to this step only.

    Raises:
        NotComparableError: if mode, loss, Δn or number of steps differ, the labels of the runs of
            one set do, or no sample is in all runs.
        ParameterError: if a set is empty, a run is in both, or there is no such score.
    """
    before = open_records(before, argument="before", least=0)
    after = open_records(after, argument="after", least=0)
    _check_sets(before, after)
    records = [*before, *after]
    check_same_measure(records, up_to_step)
    ids, total = _shared_ids(records)
    rows = [np.searchsorted(record.samples.sample_ids, ids) for record in records]
    values = np.stack(
        [
            score_column(record, score, up_to_step)[positions]
            for record, positions in zip(records, rows, strict=True)
        ]
    )
    finite = compare.finite_columns(values)
    values, ids = values[:, finite], ids[finite]
    names = [
        _names(record, positions[finite]) for record, positions in zip(records, rows, strict=True)
    ]
    for labellings in (names[: len(before)], names[len(before) :]):
        if any((labelling != labellings[0]).any() for labelling in labellings):
            raise NotComparableError(
                "the runs of one set have different labels. Choose runs of one labelling before, "
                "and runs of one labelling after."
            )
    sign = hardness_sign(score)
    old, new = values[: len(before)], values[len(before) :]
    samples = _sample_changes(ids, names[-1], old, new, sign=sign)
    moved = names[0] != names[-1]
    relabelled = samples.assign(class_before=names[0]).loc[moved]
    order = np.argsort(-sign * samples["change"].to_numpy(), kind="stable")
    return Changes(
        classes=_class_changes(names[-1], old, new, sign=sign),
        samples=samples.iloc[order].reset_index(drop=True),
        relabelled=relabelled.reset_index(drop=True),
        agreement=_agreement(values, len(before)),
        score=score,
        n_before=len(before),
        n_after=len(after),
        left_out=total - len(ids),
    )


def regressions(changes: Changes, threshold: float) -> pd.DataFrame:
    """The rows of `changes.classes` that became harder by more than a threshold and than chance.

    Args:
        changes: of `compare_sets`.
        threshold: part of the score before, such as 0.1 for 10 %.

    Raises:
        ParameterError: if the threshold is negative.
    """
    if not threshold >= 0:
        raise ParameterError("threshold", "must be 0 or more", threshold, "Pass 0.1 for 10 %.")
    sign = hardness_sign(changes.score)
    rows = changes.classes
    crossed: pd.DataFrame = rows.loc[rows["harder"] & (sign * rows["relative"] > threshold)]
    return crossed.reset_index(drop=True)


def _check_sets(before: Sequence[StoredRecord], after: Sequence[StoredRecord]) -> None:
    for name, records in (("before", before), ("after", after)):
        if not records:
            raise ParameterError(name, "must be one run or more", 0, "Choose runs.")
    twice = {record.run.run_id for record in before} & {record.run.run_id for record in after}
    if twice:
        rule = "must hold no run of the other set"
        raise ParameterError("after", rule, min(twice), "Choose the runs by other conditions.")


def _shared_ids(records: Sequence[StoredRecord]) -> tuple[npt.NDArray[Any], int]:
    """Ids that all records have with the same input, ascending, and how many there are in any."""
    shared = common_samples(
        sample_indexes(records, parts=("input_digests",)),
        "the runs have no sample in common: no id with the same input.",
    )
    total = len(pd.unique(np.concatenate([record.samples.sample_ids for record in records])))
    return shared.get_level_values("sample_ids").to_numpy(), total


def _names(record: StoredRecord, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.object_]:
    labels = record.samples.labels
    return label_column(record, None if labels is None else labels[rows], len(rows))


def _sample_changes(
    ids: npt.NDArray[Any],
    names: npt.NDArray[np.object_],
    old: Floats,
    new: Floats,
    *,
    sign: float,
) -> pd.DataFrame:
    noise = _noise_of_samples(old, new)
    change = new.mean(axis=0) - old.mean(axis=0)
    ranks = [compare.relative_ranks(sign * scores).mean(axis=0) for scores in (old, new)]
    return pd.DataFrame(
        {
            "sample_id": ids,
            "class": names,
            "before": old.mean(axis=0),
            "after": new.mean(axis=0),
            "change": change,
            "rank_before": ranks[0],
            "rank_after": ranks[1],
            "noise": noise,
            "beyond_noise": np.abs(change) > noise,
        }
    )


def _noise_of_samples(old: Floats, new: Floats) -> Floats:
    """The change that chance exceeds in 5 % of samples as difficult as each."""
    freedom = len(old) + len(new) - 2
    if freedom < 1:
        return np.full(old.shape[1], np.nan)
    squares = sum(((scores - scores.mean(axis=0)) ** 2).sum(axis=0) for scores in (old, new))
    variance = np.asarray(squares, dtype=np.float64) / freedom
    level = np.vstack([old, new]).mean(axis=0)
    bins = np.argsort(np.argsort(level, kind="stable"), kind="stable") * _BINS // level.size
    averaged = pd.Series(variance).groupby(bins).transform("mean").to_numpy()
    factor = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, freedom * max(level.size // _BINS, 1)))
    return np.asarray(factor * np.sqrt(averaged * (1 / len(old) + 1 / len(new))))


def _class_changes(
    names: npt.NDArray[np.object_], old: Floats, new: Floats, *, sign: float
) -> pd.DataFrame:
    groups = [(OVERALL, np.ones(len(names), dtype=np.bool_))]
    if len(set(names)) > 1:
        groups += [(str(class_), names == class_) for class_ in sorted(set(names))]
    rows = []
    for name, where in groups:
        first, second = (scores[:, where].mean(axis=1) for scores in (old, new))  # a mean per run
        before, after = float(first.mean()), float(second.mean())
        low, high = _interval(first, second)
        harder = sign * (after - before) > 0
        if np.isfinite(low):
            harder = low > 0 if sign > 0 else high < 0
        row = {"class": name, "n": int(where.sum()), "before": before, "after": after}
        row |= {"change": after - before, "relative": (after - before) / abs(before or np.nan)}
        rows.append(row | {"ci_low": low, "ci_high": high, "harder": bool(harder)})
    return pd.DataFrame(rows)


def _interval(first: Floats, second: Floats) -> tuple[float, float]:
    """95 % interval of the difference of two means by Student's t, variances pooled."""
    freedom = len(first) + len(second) - 2
    if freedom < 1:
        return np.nan, np.nan
    squares = float(((first - first.mean()) ** 2).sum() + ((second - second.mean()) ** 2).sum())
    error = np.sqrt(squares / freedom * (1 / len(first) + 1 / len(second)))
    half = float(stats.t.ppf(0.5 + _CONFIDENCE / 2, freedom) * error)
    change = float(second.mean() - first.mean())
    return change - half, change + half


def _agreement(values: Floats, n_before: int) -> pd.DataFrame:
    matrix = compare.spearman_matrix(values)
    first, second = np.triu_indices(len(values), 1)
    kinds = np.where(
        second < n_before, "within before", np.where(first >= n_before, "within after", "between")
    )
    pairs = pd.DataFrame({"kind": kinds, "value": matrix[first, second]})
    groups = pairs.groupby("kind", sort=True)["value"]
    return groups.agg(mean="mean", lowest="min", highest="max", n_pairs="size").reset_index()
