"""What a finished record shows: lines on a terminal, and pictures and a page beside it in its run.

All of it comes after the record is in the artifact store, and nothing of it may fail: what can't be
made is logged.
"""

import logging
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

from actiontrack import settings
from actiontrack.errors import ActionTrackError, redact
from actiontrack.store import ARTIFACT_ROOT, Store, StoredRecord
from actiontrack.store.folder import record_in_folder
from actiontrack.store.ping import has_pages

__all__ = ["Shows"]

logger = logging.getLogger("actiontrack")

_PING_S = 2


@dataclass(frozen=True)
class Shows:
    """What one recorder shows when it has finished.

    Attributes:
        verbose: whether it prints the hardest samples and classes.
        report: whether it logs pictures and a page.
    """

    verbose: bool
    report: bool

    @classmethod
    def of(cls, verbose: bool | None, report: bool | None) -> "Shows":  # noqa: FBT001
        """From a recorder's arguments.

        Args:
            verbose: default: where standard output is a terminal.
            report: default: unless ACTIONTRACK_REPORT is "never".

        Raises:
            ParameterError: if ACTIONTRACK_REPORT is neither "never" nor "always".
        """
        if report is None:
            report = settings.REPORT.value() == "always"
        return cls(sys.stdout.isatty() if verbose is None else verbose, report)

    @property
    def anything(self) -> bool:
        """Whether it shows anything."""
        return self.verbose or self.report

    def opened(self, folder: Path, store: Store, run_id: str) -> StoredRecord | None:
        """The record in its folder, for `show` once the folder is gone."""
        if not self.anything:
            return None
        try:
            return record_in_folder(folder, store.get_run(run_id))
        except Exception as error:  # noqa: BLE001 - see above
            logger.warning("record %s is not shown: %s", folder.name, error)
            return None

    def show(self, record: StoredRecord, store: Store) -> None:
        """Print, and log pictures and page."""
        from actiontrack import reporting  # noqa: PLC0415 - with its plots, where it is needed

        try:
            where = {}
            if self.report:
                files = reporting.result_files(record)
                _upload(record, store, files)
                where = _pictures(record, store, files)
            if self.verbose:
                where["see"] = _where(record, store)
                print(reporting.describe_result(record, where))  # noqa: T201
        except Exception as error:  # noqa: BLE001 - see above
            reason = str(error) or type(error).__name__
            logger.warning("record %s is complete, and not shown: %s", record.name, reason)

    def html(self, record: StoredRecord) -> str:
        """The hardest samples, as images where there are any, for a notebook."""
        from actiontrack import reporting  # noqa: PLC0415 - as above

        return reporting.result_html(record)


def _upload(record: StoredRecord, store: Store, files: Mapping[str, bytes]) -> None:
    scratch = Path(tempfile.mkdtemp(prefix="actiontrack-"))
    try:
        for name, content in files.items():
            path = scratch / name
            path.write_bytes(content)
            store.upload(record.run.run_id, path, f"{ARTIFACT_ROOT}/{record.name}")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _pictures(record: StoredRecord, store: Store, files: Mapping[str, bytes]) -> dict[str, str]:
    """Where the picture of the hardest samples is, else the page, if that is on this machine."""
    root = store.local_root(record.run)
    if root is None:
        return {}
    word, name = ("picture", "hardest.png") if "hardest.png" in files else ("page", "report.html")
    return {word: str(root / ARTIFACT_ROOT / record.name / name)}


def _where(record: StoredRecord, store: Store) -> str:
    """Address of the record's page where the server has one, else the command that opens it."""
    uri = redact(store.tracking_uri)
    run = {"run": record.run.run_id, "record": record.name}
    if uri.startswith(("http://", "https://")):
        try:
            if has_pages(store.tracking_uri, _PING_S):
                return f"{uri.rstrip('/')}/actiontrack/run?{urlencode(run)}"
        except ActionTrackError:  # the command says more
            logger.debug("no pages at %s", uri)
    return f"actiontrack ui --tracking-uri {uri}"
