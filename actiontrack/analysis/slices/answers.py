"""Slices as answers to questions: of the attributes that are kept with records, computed once."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import pandas as pd

from actiontrack.analysis.options import FilteredScore, SlicesOptions
from actiontrack.analysis.slices.effects import Sliced, Slices, sliced, slices
from actiontrack.analysis.slices.members import in_slices
from actiontrack.analysis.slices.metadata import metadata_version, shared_metadata
from actiontrack.store import StoredRecord

__all__ = ["rows_in_slices", "sample_set_of", "slices_of"]

_Value = TypeVar("_Value")


def sample_set_of(records: Sequence[StoredRecord], options: SlicesOptions) -> Sliced:
    """The samples of some records beside their attributes, see `effects.sliced`."""

    def compute() -> Sliced:
        return sliced(
            records,
            shared_metadata(records),
            columns=options.attributes,
            bins=options.bins,
            **options.choice,
        )

    what = ("sliced", options.attributes, options.bins, *options.choice.items())
    return _remembered(records, what, compute)


def slices_of(records: Sequence[StoredRecord], options: SlicesOptions) -> Slices:
    """The slices of some records, see `effects.slices`."""

    def compute() -> Slices:
        return slices(
            sample_set_of(records, options),
            pairs=options.pairs,
            min_size=options.min_size,
            false_discovery_rate=options.fdr,
        )

    return _remembered(records, ("slices", options.model_dump_json()), compute)


def rows_in_slices(
    record: StoredRecord, table: pd.DataFrame, options: FilteredScore
) -> pd.DataFrame:
    """The rows of a score table, one per sample of a record, that lie in the slices of a filter."""
    if not options.slices:
        return table
    return table.loc[in_slices(record, options.slices, score=options.score)]


def _remembered(
    records: Sequence[StoredRecord], what: tuple[object, ...], compute: Callable[[], _Value]
) -> _Value:
    """A value of some records and of the attributes that are kept with them now."""
    key = (*(record.key for record in records), *what, *metadata_version(records))
    return records[0].cache.get(key, compute)
