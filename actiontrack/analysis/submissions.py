"""Files that people add to a finished record: each stays as it is, a later one counts more.

They lie in a folder of the record, under names that begin with the time: people who write at once
never lose each other's.
"""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from actiontrack.store import ARTIFACT_ROOT, StoredRecord

__all__ = ["list_submissions", "next_time", "submit", "time_of"]

_TIME = "%Y%m%dT%H%M%S.%fZ"  # at the beginning of a file's name
_TICK = timedelta(microseconds=1)


def list_submissions(record: StoredRecord, folder: str, ending: str) -> list[str]:
    """Paths inside the record of the files in a folder of it, oldest first."""
    root = f"{ARTIFACT_ROOT}/{record.name}/"
    paths = record.store.list_files(record.run, f"{root}{folder}")
    return [path.removeprefix(root) for path in paths if path.endswith(ending)]


def next_time(paths: Sequence[str]) -> datetime:
    """The time, or just after the newest file: a clock that was set back must not order them."""
    now = datetime.now(UTC)
    for path in reversed(paths):
        with contextlib.suppress(ValueError, OverflowError):  # no name of ours
            return max(now, time_of(path) + _TICK)
    return now


def time_of(path: str) -> datetime:
    """When a file was written, by its name.

    Raises:
        ValueError: if its name does not begin with a time.
    """
    written = path.rpartition("/")[2].partition("-")[0]
    return datetime.strptime(written, _TIME).replace(tzinfo=UTC)


def submit(record: StoredRecord, folder: str, path: Path, time: datetime, mark: str) -> None:
    """Upload a file into a folder of the record, under its time and a mark of its own.

    Raises:
        StoreError: if the artifact store can't be written.
    """
    named = path.rename(path.with_name(f"{time:{_TIME}}-{mark}{path.suffix}"))
    record.store.upload(record.run.run_id, named, f"{ARTIFACT_ROOT}/{record.name}/{folder}")
