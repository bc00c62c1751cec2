"""Attributes of samples that a recorder is given, as `actiontrack metadata` keeps them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd

from actiontrack.errors import ParameterError
from actiontrack.record.attributes import (
    METADATA,
    checked_metadata,
    chosen_columns,
    write_attributes,
)
from actiontrack.record.submissions import next_time, submission_name
from actiontrack.recorder.privacy import Privacy

__all__ = ["attribute_files", "described_samples", "spool_attributes"]

_ID_COLUMNS = ("id", "sample_id")


def described_samples(
    metadata: Any, columns: Sequence[str], ids: npt.NDArray[Any], privacy: Privacy
) -> pd.DataFrame:
    """The attributes of the samples of a record, with ids as they are recorded.

    Args:
        metadata: a frame, or a mapping of columns, one row per sample: id or sample_id, and a
            column per attribute.
        columns: the attributes to keep. Default: all, but a record with hashed ids has no default.
        ids: of the samples, as they are recorded.
        privacy: what is kept out of the record.

    Raises:
        DataError: if a sample is named twice or not at all, or a value is none that an attribute
            may have.
        ParameterError: if it is no such table, names none of the samples, there is no such column,
            or one must be named.
    """
    frame = checked_metadata(_table(metadata))
    names = chosen_columns(frame, columns)
    if privacy.salt is not None and not columns:
        rule = "must name what may be kept, as the record has hashed ids"
        raise ParameterError("metadata_columns", rule, "none", "Name every column.")
    recorded = pd.Index(privacy.ids(frame["sample_id"].tolist()), dtype=object)
    shared = recorded.isin(ids.astype(str))
    if not shared.any():
        rule = f"must name some of the samples, whose ids look like {str(ids[0])!r}"
        example = frame["sample_id"].iloc[0]
        raise ParameterError("metadata", rule, example, "Ids are compared as text.")
    frame = frame.assign(sample_id=recorded)[["sample_id", *names]]
    chosen: pd.DataFrame = frame.loc[shared].reset_index(drop=True)
    return chosen


def spool_attributes(folder: Path, attributes: pd.DataFrame) -> None:
    """Write attributes into a spooled record, under the name that they will have in the run.

    Raises:
        StoreError: if the disk is full.
    """
    paths = attribute_files(folder)
    path = folder / METADATA / "new.parquet"
    digest = write_attributes(attributes, path).digest
    path.replace(path.with_name(submission_name(next_time(paths), digest, path.suffix)))


def attribute_files(folder: Path) -> list[str]:
    """Paths inside a spooled record of the files with attributes, oldest first."""
    paths = (folder / METADATA).glob("*-*.parquet")
    return sorted(path.relative_to(folder).as_posix() for path in paths)


def _table(metadata: Any) -> pd.DataFrame:
    """A frame with the column sample_id."""
    if isinstance(metadata, Mapping):
        try:
            metadata = pd.DataFrame(dict(metadata))
        except ValueError as error:
            rule = "must hold columns of equal length"
            raise ParameterError("metadata", rule, str(error), "Pass a value per id.") from error
    if not isinstance(metadata, pd.DataFrame):
        rule, kind = "must be a frame or a mapping of columns", type(metadata).__name__
        raise ParameterError("metadata", rule, kind, "Pass a pandas.DataFrame with the ids.")
    names = [name for name in _ID_COLUMNS if name in metadata.columns]
    if not names:
        rule = f"must have the column {' or '.join(_ID_COLUMNS)}"
        raise ParameterError("metadata", rule, list(metadata.columns), "Name the samples.")
    others = metadata.drop(columns=[name for name in _ID_COLUMNS if name in metadata.columns])
    return pd.concat([metadata[names[0]].rename("sample_id"), others], axis=1)
