"""A record in a folder of this machine, read like one of a tracking server."""

import contextlib
import os
import shutil
from pathlib import Path

from actiontrack.errors import NotFoundError
from actiontrack.store.record import StoredRecord
from actiontrack.store.runs import ARTIFACT_ROOT, RunInfo

__all__ = ["record_in_folder"]


class _Folder:
    """The artifacts of a run, of which one record is here; see `Artifacts`."""

    def __init__(self, folder: Path, record: str) -> None:
        self._folder, self._prefix = folder, f"{ARTIFACT_ROOT}/{record}/"

    def local_root(self, run: RunInfo) -> Path | None:
        """None: the folder is not that of a run."""
        del run
        return None

    def download(self, run: RunInfo, path: str, folder: Path, *, name: str = "") -> Path:
        """Link or copy a file; the folder may go, and the file stays."""
        del run
        source = self._folder / path.removeprefix(self._prefix)
        target = folder / (name or source.name)
        with contextlib.suppress(OSError):
            os.link(source, target)
            return target
        try:
            shutil.copyfile(source, target)
        except FileNotFoundError as error:
            raise NotFoundError(f"the record has no file {path}.") from error
        return target

    def list_files(self, run: RunInfo, folder: str) -> list[str]:
        """Nothing is listed: a manifest names the files."""
        del run, folder
        return []

    def upload(self, run_id: str, local: Path, folder: str) -> None:
        """Refuse: what is uploaded goes to the server."""
        raise NotImplementedError


def record_in_folder(folder: Path, run: RunInfo) -> StoredRecord:
    """A record that lies in a folder named like it.

    All of its files but losses, features and maps are linked or copied now: they can be read when
    the folder is gone.

    Args:
        folder: of the record.
        run: that it belongs to.

    Raises:
        CorruptRecordError: if the manifest is damaged.
    """
    record = StoredRecord(store=_Folder(folder, folder.name), run=run, name=folder.name)
    parts = ("samples", "scores", "thumbnails", "boxes")
    record.prefetch([path for path in record.manifest.files if path.startswith(parts)])
    return record
