"""The table of all slices: every group of every attribute and of every pair, hardest first."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import compare
from actiontrack.analysis.alignment import Alignment, align
from actiontrack.analysis.id_tables import ids_differ
from actiontrack.analysis.slices.attributes import Attribute, attribute
from actiontrack.errors import DataError, NotComparableError, ParameterError
from actiontrack.history import Classes
from actiontrack.record.attributes import checked_metadata, chosen_columns
from actiontrack.scores import hardness_sign
from actiontrack.store import StoredRecord
from actiontrack.store.notebook import table_html

__all__ = [
    "CLASS",
    "COLUMNS",
    "SIGNIFICANT",
    "Partition",
    "Sliced",
    "Slices",
    "check_options",
    "check_order",
    "partitions",
    "slice_name",
    "slice_parts",
    "sliced",
    "slices",
]

#: Name of the attribute that the class itself is, in pairs.
CLASS = "class"
#: Rate of false discoveries up to which a slice counts as one.
SIGNIFICANT = 0.05
#: Of the table of slices.
COLUMNS = [
    *("slice", "attributes", "n", "share", "mean", "mean_rest", "rank_difference", "p_harder"),
    *("ci_low", "ci_high", "p_value", "q_value", "p_harder_overall"),
]


@dataclass(frozen=True, kw_only=True)
class Slices:
    """Slices of samples by how much harder they are than the others of their classes.

    Attributes:
        table: hardest first, one row per slice: slice (such as "time = night & camera = 3"),
            attributes (1, or 2 for a pair), n, share (of the samples), mean and mean_rest (of the
            score, in the slice and outside it), rank_difference (mean rank within the class, from 0
            to 1, of the slice minus that of the others), p_harder (chance that a sample of the
            slice is harder than one of its class outside it), ci_low and ci_high (95 %, bootstrap;
            NaN below the first rows), p_value (permutation within classes), q_value (Benjamini and
            Hochberg's, over all that were tried), p_harder_overall (whatever the class).
        n_tried: slices that were compared.
        n_samples: samples with a finite score.
        n_runs: runs whose ranks are averaged.
        score: column of `scores.score_table`.
        false_discovery_rate: up to which q_value a slice is in the table; 1 for all.
        left_out: column and reason, of columns that form no groups.
        without_row: samples that the metadata does not name, all of them `MISSING`.
        note: what an inner join left out, or the empty string.
    """

    table: pd.DataFrame
    n_tried: int
    n_samples: int
    n_runs: int
    score: str
    false_discovery_rate: float
    left_out: pd.DataFrame
    without_row: int
    note: str = ""

    def _repr_html_(self) -> str:
        """Show itself in a notebook: the table."""
        return table_html("Slices", self.table, note=self.note)


@dataclass(frozen=True, kw_only=True)
class Sliced:
    """Samples of comparable runs beside their attributes.

    Attributes:
        aligned: the score of the runs, of samples where all of them are finite.
        hardness: (n_runs, n_samples) the score, turned so that high is hard.
        of_class: the class as an attribute.
        attributes: of the same samples.
        left_out: see `Slices`.
        without_row: see `Slices`.
    """

    aligned: Alignment
    hardness: npt.NDArray[np.float64]
    of_class: Attribute
    attributes: Sequence[Attribute]
    left_out: pd.DataFrame
    without_row: int

    @property
    def n_samples(self) -> int:
        """Number of samples."""
        return int(self.hardness.shape[1])


@dataclass(frozen=True)
class Partition:
    """The samples cut by an attribute, or by two.

    Attributes:
        first: position of the attribute among those of the samples, behind which the class is.
        second: of the other one; -1 for none.
        groups: that are made.
        wholes: (G,) samples of the smaller of the two groups that are crossed; None for one.
    """

    first: int
    second: int
    groups: compare.Grouping
    wholes: npt.NDArray[np.intp] | None

    def codes_tried(self, effects: compare.SliceEffects, min_size: int) -> npt.NDArray[np.intp]:
        """The groups that are large enough; a pair that is the whole of one group is tried once."""
        usable = (effects.sizes >= min_size) & (effects.weights >= min_size / 3)
        usable &= np.isfinite(effects.p_values)
        if self.wholes is not None:
            usable &= effects.sizes < self.wholes
        return np.flatnonzero(usable)


def sliced(
    records: Sequence[StoredRecord],
    metadata: pd.DataFrame,
    *,
    score: str = "action",
    columns: Sequence[str] = (),
    bins: int = 5,
    on_mismatch: str = "error",
    up_to_step: int | None = None,
) -> Sliced:
    """Put runs and metadata together, sample by sample.

    Args:
        records: open records, one or more.
        metadata: sample_id and attributes, see `record.attributes.checked_metadata`; ids are
            compared as text. Samples that it does not name have no value.
        score: column of `scores.score_table`.
        columns: the attributes to slice by. Default: all that form groups.
        bins: of numbers and times, 2 to 100.
        on_mismatch: see `align`.
        up_to_step: score the history up to this step only.

    Raises:
        NotComparableError: if the runs do not compare, or the metadata names none of their samples.
        DataError: if all scores are the same, or a column of `columns` forms no groups, or none.
        ParameterError: if there is no such score or column.
    """
    if not 2 <= bins <= 100:
        raise ParameterError("bins", "must lie in 2..100", bins, "Pass 5.")
    aligned = align(records, score=score, on_mismatch=on_mismatch, up_to_step=up_to_step)
    aligned = _finite(aligned)
    table = checked_metadata(metadata)
    names = chosen_columns(table, columns)
    ids = pd.Index(aligned.sample_ids.astype(str), dtype=object)
    rows = pd.Index(table["sample_id"]).get_indexer(ids)
    if (rows < 0).all():
        raise NotComparableError(
            f"none of the {ids.size} samples of the runs has metadata: "
            + ids_differ(ids[0], table, hashed=records[0].manifest.has_hashed_ids)
        )
    attributes, left_out = [], []
    for name in names:  # one at a time: the whole table is not in memory twice
        values = pd.api.extensions.take(table[name].array, rows, allow_fill=True)
        try:
            attributes.append(attribute(pd.Series(values, name=name), bins=bins))
        except DataError as error:
            if columns:
                raise
            left_out.append({"column": name, "reason": str(error)})
    if not attributes:
        raise DataError(f"no column forms groups: {left_out[0]['reason']}")
    return Sliced(
        aligned=aligned,
        hardness=hardness_sign(score) * aligned.values,  # noqa: PD011 - not a frame's
        of_class=_of_class(aligned),
        attributes=attributes,
        left_out=pd.DataFrame(left_out, columns=["column", "reason"]),
        without_row=int((rows < 0).sum()),
    )


def slices(
    sample_set: Sliced,
    *,
    pairs: bool = True,
    min_size: int = 30,
    false_discovery_rate: float = SIGNIFICANT,
    n_intervals: int = 50,
    seed: int = 0,
) -> Slices:
    """Compare every group of every attribute, and of every pair, with the rest of its classes.

    A pair that is the whole of one of its groups is tried once. The class is an attribute in pairs.

    Args:
        sample_set: of `sliced`.
        pairs: whether to cross attributes.
        min_size: fewest samples of a slice, at least 5; outside it, in its classes, there must be
            half as many.
        false_discovery_rate: up to which q_value a slice is in the table; 1 for all.
        n_intervals: of how many slices, hardest first, the interval is computed.
        seed: of the bootstrap.

    Raises:
        DataError: if all samples have the same score, or no slice is large enough.
        ParameterError: if a number is out of its range.
    """
    check_options(min_size, false_discovery_rate)
    strata = compare.Strata.of(sample_set.hardness, sample_set.of_class.codes)
    check_order(strata, sample_set)
    tried = _tried(sample_set, strata, pairs=pairs, min_size=min_size)
    if not len(tried):
        raise DataError(
            f"no slice of the {sample_set.n_samples} samples has {min_size} of them and enough "
            "others of their classes beside it. Lower min_size (--min-size), or choose other "
            "columns."
        )
    tried["q_value"] = compare.false_discovery_rates(tried["p_value"])
    chosen = tried.loc[tried["q_value"] <= false_discovery_rate]
    order = np.lexsort((-chosen["n"], -chosen["p_harder"].round(9)))  # of equals the larger first
    chosen = chosen.iloc[order].reset_index(drop=True)
    return Slices(
        table=_described(sample_set, strata, chosen, n_intervals=n_intervals, seed=seed),
        n_tried=len(tried),
        n_samples=sample_set.n_samples,
        n_runs=len(sample_set.hardness),
        score=sample_set.aligned.score,
        false_discovery_rate=false_discovery_rate,
        left_out=sample_set.left_out,
        without_row=sample_set.without_row,
        note=sample_set.aligned.note,
    )


def check_options(min_size: int, false_discovery_rate: float) -> None:
    """Refuse numbers out of their range.

    Raises:
        ParameterError: if one is.
    """
    if min_size < 5:
        raise ParameterError("min_size", "must be at least 5", min_size, "Pass 30.")
    if not 0 < false_discovery_rate <= 1:
        rule = "must be above 0 and at most 1"
        raise ParameterError("false_discovery_rate", rule, false_discovery_rate, "Pass 0.05.")


def check_order(strata: compare.Strata, sample_set: Sliced) -> None:
    """Refuse a score that puts the samples of no class in an order.

    Raises:
        DataError: if it does not.
    """
    if not strata.variances.any():
        raise DataError(
            f"all samples of a class have the same {sample_set.aligned.score}: it puts them in no "
            "order. Choose another score."
        )


def _finite(aligned: Alignment) -> Alignment:
    """Only samples whose score is finite in every run."""
    finite = compare.finite_columns(aligned.values)
    if finite.sum() < compare.MIN_SAMPLES:
        raise NotComparableError(
            f"only {finite.sum()} of {finite.size} samples have a finite {aligned.score} in every "
            "run. Choose other runs, or another score."
        )
    if finite.all():
        return aligned
    labels = aligned.labels
    return replace(
        aligned,
        values=aligned.values[:, finite],  # noqa: PD011 - not a frame's
        sample_ids=aligned.sample_ids[finite],
        labels=None if labels is None else labels[finite],
    )


def _of_class(aligned: Alignment) -> Attribute:
    labels = aligned.labels
    if labels is None:
        labels = np.zeros(aligned.sample_ids.size, dtype=np.int64)
    codes, names = Classes(aligned.class_names).coded(labels)
    codes = codes.astype(np.min_scalar_type(len(names)))
    return Attribute(name=CLASS, kind="category", groups=names, codes=codes)


def _tried(
    sample_set: Sliced, strata: compare.Strata, *, pairs: bool, min_size: int
) -> pd.DataFrame:
    """Every slice that is large enough: attributes and groups by number, and its effect."""
    parts = [_effects(strata, part, min_size) for part in partitions(sample_set, pairs=pairs)]
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


def partitions(sample_set: Sliced, *, pairs: bool) -> Iterator[Partition]:
    """Every attribute as a partition of the samples, and every two of them, the class in pairs."""
    attributes = list(sample_set.attributes)
    n_own = len(attributes)
    if len(sample_set.of_class.groups) > 1 and CLASS not in {one.name for one in attributes}:
        attributes.append(sample_set.of_class)
    groupings = [one.grouping for one in attributes]
    sizes = [groups.sizes() for groups in groupings]
    for number, groups in enumerate(groupings[:n_own]):
        yield Partition(number, -1, groups, None)
    for first, second in itertools.combinations(range(len(attributes)), 2) if pairs else ():
        crossed = groupings[first].crossed(groupings[second])
        wholes = np.minimum.outer(sizes[first], sizes[second]).ravel()
        yield Partition(first, second, crossed, wholes)


def _effects(strata: compare.Strata, part: Partition, min_size: int) -> dict[str, npt.NDArray[Any]]:
    """Columns of `_tried` of the groups of a partition that are tried."""
    effects = compare.slice_effects(strata, part.groups)
    codes = part.codes_tried(effects, min_size)
    return {
        "first": np.full(codes.size, part.first),
        "second": np.full(codes.size, part.second),
        "code": codes,
        "n": effects.sizes[codes],
        "p_harder": effects.p_harder[codes],
        "p_value": effects.p_values[codes],
    }


def _described(
    sample_set: Sliced,
    strata: compare.Strata,
    chosen: pd.DataFrame,
    *,
    n_intervals: int,
    seed: int,
) -> pd.DataFrame:
    """The rows of `Slices.table`."""
    overall = compare.Strata.of(sample_set.hardness)
    score = sample_set.aligned.values.mean(axis=0)  # noqa: PD011 - not a frame's
    rows = []
    for number, (row, name, members) in enumerate(_members(sample_set, chosen)):
        n = int(members.sum())
        low, high = np.nan, np.nan
        if number < n_intervals:
            low, high = compare.slice_interval(strata, members, seed=seed)
        whole = compare.slice_effects(overall, compare.Grouping(members.astype(np.int8), 2))
        rows.append(
            {
                "slice": name,
                "attributes": 1 if row["second"] < 0 else 2,
                "n": n,
                "share": n / members.size,
                "mean": float(score[members].mean()),
                "mean_rest": float(score[~members].mean()) if n < members.size else np.nan,
                "rank_difference": row["p_harder"] - 0.5,
                "p_harder": row["p_harder"],
                "ci_low": low,
                "ci_high": high,
                "p_value": row["p_value"],
                "q_value": row["q_value"],
                "p_harder_overall": float(whole.p_harder[1]),
            }
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _members(
    sample_set: Sliced, chosen: pd.DataFrame
) -> Iterator[tuple[Mapping[str, Any], str, npt.NDArray[np.bool_]]]:
    """Each row with the name of its slice and the samples in it."""
    rows: list[dict[str, Any]] = chosen.to_dict("records")  # type: ignore[assignment]
    for row in rows:
        parts = slice_parts(sample_set, row["first"], row["second"], row["code"])
        members = np.logical_and.reduce([one.codes == code for one, code in parts])
        yield row, slice_name(parts), members


def slice_parts(
    sample_set: Sliced, first: int, second: int, code: int
) -> list[tuple[Attribute, int]]:
    """The attributes of a slice, and the group of each, from the numbers of a `Partition`."""
    attributes = [*sample_set.attributes, sample_set.of_class]
    if second < 0:
        return [(attributes[first], code)]
    codes = divmod(code, len(attributes[second].groups))
    return list(zip((attributes[first], attributes[second]), codes, strict=True))


def slice_name(parts: Sequence[tuple[Attribute, int]]) -> str:
    """Name of a slice, such as "time = night & camera = 3"."""
    return " & ".join(f"{one.name} = {one.groups[code]}" for one, code in parts)
