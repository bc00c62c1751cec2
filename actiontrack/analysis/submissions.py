"""Files that people add to a finished record: each stays as it is, a later one counts more.

They lie in a folder of the record, under the names of `record.submissions`.
"""

from datetime import datetime
from pathlib import Path

from actiontrack.record.submissions import submission_name
from actiontrack.store import ARTIFACT_ROOT, StoredRecord

__all__ = ["list_submissions", "submit"]


def list_submissions(record: StoredRecord, folder: str, ending: str) -> list[str]:
    """Paths inside the record of the files in a folder of it, oldest first."""
    root = f"{ARTIFACT_ROOT}/{record.name}/"
    paths = record.store.list_files(record.run, f"{root}{folder}")
    return [path.removeprefix(root) for path in paths if path.endswith(ending)]


def submit(record: StoredRecord, folder: str, path: Path, time: datetime, mark: str) -> None:
    """Upload a file into a folder of the record, under its time and a mark of its own.

    Raises:
        StoreError: if the artifact store can't be written.
    """
    named = path.rename(path.with_name(submission_name(time, mark, path.suffix)))
    record.store.upload(record.run.run_id, named, f"{ARTIFACT_ROOT}/{record.name}/{folder}")
