"""Reports as artifacts of their runs."""

import shutil
import tempfile
from pathlib import Path

from actiontrack.reporting.document import Report
from actiontrack.reporting.run import run_report
from actiontrack.store import ARTIFACT_ROOT, Artifacts, StoredRecord

__all__ = ["log_report", "log_run_report"]


def log_report(store: Artifacts, run_id: str, report: Report, folder: str) -> None:
    """Save a report into a run: HTML, Markdown, tables as CSV and Parquet, figures as PNG and SVG.

    Args:
        store: the tracking server.
        run_id: the run.
        report: the report.
        folder: artifact folder, such as "report".
    """
    scratch = Path(tempfile.mkdtemp(prefix="actiontrack-"))
    try:
        report.save(scratch)
        for path in sorted(file for file in scratch.rglob("*") if file.is_file()):
            parent = path.relative_to(scratch).parent.as_posix()
            store.upload(run_id, path, folder if parent == "." else f"{folder}/{parent}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def log_run_report(record: StoredRecord) -> None:
    """Make the report of a record and save it beside the record, in its run."""
    folder = f"{ARTIFACT_ROOT}/{record.name}/report"
    log_report(record.store, record.run.run_id, run_report(record), folder)
