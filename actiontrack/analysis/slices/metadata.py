"""Attributes of samples, stored beside the record as verdicts are; see `record.attributes`."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from actiontrack import settings
from actiontrack.analysis.id_tables import ids_differ, read_id_table
from actiontrack.analysis.submissions import list_submissions, submit
from actiontrack.analysis.tables import open_record
from actiontrack.errors import (
    CorruptRecordError,
    DataError,
    NotComparableError,
    NotFoundError,
    ParameterError,
)
from actiontrack.record.attributes import (
    METADATA,
    checked_metadata,
    chosen_columns,
    digest_of,
    kind_of,
    kinds_in,
    write_attributes,
)
from actiontrack.record.digest import hash_ids, salt_check
from actiontrack.record.disk import FileEntry
from actiontrack.record.submissions import next_time
from actiontrack.store import StoredRecord

__all__ = [
    "add_metadata",
    "has_metadata",
    "metadata_version",
    "read_metadata",
    "read_metadata_file",
    "shared_metadata",
]


def read_metadata_file(
    path: Path,
    *,
    id_column: str | None = None,
    columns: Sequence[str] = (),
    kinds: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Read attributes of samples from CSV or Parquet.

    Args:
        path: the file, one row per sample, see `id_tables.read_id_table`.
        id_column: column of the ids, text or whole numbers. Default: "id", else "sample_id".
        columns: the attributes. Default: all columns but the ids.
        kinds: of some columns, see `record.attributes.KINDS`.

    Returns:
        The frame of `record.attributes.checked_metadata`.

    Raises:
        DataError: if the file can't be read, or holds what no attribute may be.
        ParameterError: if the ending is neither, or there is no such column or kind.
    """
    table = read_id_table(Path(path), id_column=id_column, columns=columns)
    return checked_metadata(table, kinds=kinds, what=str(path))


def add_metadata(
    record: StoredRecord, metadata: pd.DataFrame, *, columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Keep attributes of its samples with a record, in one file of their own.

    Ids of a record that holds hashes are hashed with the salt in ACTIONTRACK_ID_SALT.

    Args:
        record: of any split; it may be finished.
        metadata: sample_id and attributes, see `record.attributes.checked_metadata`.
        columns: the attributes to keep. Default: all; a record with hashed ids has no default.

    Returns:
        What was kept: the rows of the record's samples.

    Raises:
        NotComparableError: if it names none of the record's samples.
        DataError: if a value is none that an attribute may have.
        ParameterError: if there is no such column, or one must be named or a salt set.
        StoreError: if the artifact store can't be written.
    """
    open_record(record)
    frame = checked_metadata(metadata)
    names = chosen_columns(frame, columns)
    if record.manifest.has_hashed_ids:
        frame = _hashed(record, frame, columns)
    frame = frame[["sample_id", *names]]
    ids = pd.Index(record.samples.sample_ids.astype(str), dtype=object)
    shared = frame.loc[frame["sample_id"].isin(ids)].reset_index(drop=True)
    if shared.empty:
        raise NotComparableError(
            f"the metadata names none of the {ids.size} samples of the record: "
            + ids_differ(ids[0], frame, hashed=False)  # those of the table are hashed by now, too
        )
    with tempfile.TemporaryDirectory(prefix="actiontrack-") as folder:
        path = Path(folder) / "new.parquet"
        digest = write_attributes(shared, path).digest
        submit(record, METADATA, path, next_time(_files(record)), digest)
    return shared


def has_metadata(record: StoredRecord) -> bool:
    """Whether attributes of its samples are kept with a record."""
    return bool(_files(record))


def read_metadata(record: StoredRecord) -> pd.DataFrame:
    """The attributes that are kept with a record; of columns of one name the latest.

    Returns:
        The frame of `record.attributes.checked_metadata`, one row per sample that has an attribute.

    Raises:
        NotFoundError: if there are none.
        CorruptRecordError: if a file is damaged.
        StoreError: if the artifact store does not answer.
    """
    return shared_metadata([record])


def shared_metadata(records: Sequence[StoredRecord]) -> pd.DataFrame:
    """The attributes that are kept with any of some records of the same samples.

    Of columns of one name that of the first record counts.

    Raises:
        NotFoundError: if there are none.
        The errors of `read_metadata`.
    """
    columns: dict[str, pd.Series[Any]] = {}
    for record in records:
        columns |= {name: column for name, column in _latest(record).items() if name not in columns}
    if not columns:
        record = records[0]
        raise NotFoundError(
            f"record {record.name!r} of run {record.run.run_id} has no metadata. Add some: "
            f"actiontrack metadata --run {record.run.run_id} --file FILE."
        )
    frame = pd.concat(columns, axis=1).rename_axis("sample_id").reset_index()
    return checked_metadata(frame, kinds={name: kind_of(columns[name]) for name in columns})


def metadata_version(records: Sequence[StoredRecord]) -> tuple[str, ...]:
    """What names the attributes that are kept with some records now: it changes as they do."""
    return tuple(path for record in records for path in [record.run.run_id, *_files(record)])


def _files(record: StoredRecord) -> list[str]:
    """Paths of the files with attributes, oldest first."""
    return list_submissions(record, METADATA, ".parquet")


def _latest(record: StoredRecord) -> dict[str, "pd.Series[Any]"]:
    """The columns that are kept with a record, by sample; of one name the latest."""
    open_record(record)
    paths = _files(record)
    record.prefetch(paths)
    columns: dict[str, pd.Series[Any]] = {}
    for path in paths:
        frame = _read(record.fetch(path), path).set_index("sample_id")
        columns |= {str(name): frame[name] for name in frame.columns}
    return columns


def _hashed(record: StoredRecord, frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The table with hashes for ids, as the record has them."""
    if not columns:
        rule = "must name what may be kept, as the record has hashed ids"
        raise ParameterError("columns (--column)", rule, "none", "Name every column.")
    if frame["sample_id"].isin(record.samples.sample_ids).any():
        return frame  # made of the record itself: its ids are hashes already
    salt = settings.ID_SALT.value()
    if not salt or salt_check(salt) != (record.manifest.privacy or {}).get("salt_check"):
        rule = "must hold the salt with which the run was recorded"
        got = "another one" if salt else "nothing"
        raise ParameterError(settings.ID_SALT.name, rule, got, "Set it in the environment.")
    return frame.assign(sample_id=hash_ids(frame["sample_id"], salt))


def _read(path: Path, name: str) -> pd.DataFrame:
    """One file, as it was written."""
    if not FileEntry(digest_of(name), path.stat().st_size).matches_file(path):
        raise CorruptRecordError(
            f"{name} is not what was written: its digest differs. Remove it, and add it again."
        )
    try:
        return checked_metadata(read_id_table(path), kinds=kinds_in(path), what=name)
    except (DataError, ParameterError, ValueError, OSError, AttributeError) as error:
        raise CorruptRecordError(f"{name} can't be read as metadata: {error}") from error
