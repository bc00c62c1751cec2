"""Files of a stored record: where they are on this machine, downloaded when first needed."""

import contextlib
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TypeVar

from actiontrack.errors import CorruptRecordError, NotFoundError, StoreError
from actiontrack.record.manifest import Manifest, read_manifest
from actiontrack.record.paths import MANIFEST
from actiontrack.record.threads import in_this_context
from actiontrack.store.artifacts import Artifacts
from actiontrack.store.runs import ARTIFACT_ROOT, RunInfo

__all__ = ["RecordFiles", "read_below"]

_Value = TypeVar("_Value")
_DOWNLOAD_THREADS = 8
_MANIFEST_ATTEMPTS = 3


class RecordFiles:
    """The files of one record of one run.

    Downloads are removed when the last record that uses them is gone.

    Args:
        artifacts: where the run's artifacts are.
        run: the run.
        record: name of the record.
    """

    def __init__(self, artifacts: Artifacts, run: RunInfo, record: str) -> None:
        self._artifacts, self._run, self._record = artifacts, run, record
        root = artifacts.local_root(run)
        self._local = root / ARTIFACT_ROOT / record if root else None

    def fetch(self, path: str) -> Path:
        """Local path of a file of the record, downloaded once.

        Raises:
            CorruptRecordError: if the file or a folder above it in the record is a link.
        """
        if self._local is not None:
            _check_no_link(self._local, path)
            return self._local / path
        target = self.scratch / path
        if not target.exists():
            artifact = f"{ARTIFACT_ROOT}/{self._record}/{path}"
            target.parent.mkdir(parents=True, exist_ok=True)
            # Written under another name and then moved: no other thread sees half a file.
            partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            try:
                with contextlib.suppress(NotFoundError):
                    self._artifacts.download(self._run, artifact, target.parent, name=partial.name)
                    partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)
        return target

    @cached_property
    def scratch(self) -> Path:
        """Folder of the downloaded files."""
        folder = Path(tempfile.mkdtemp(prefix="actiontrack-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def without_folder(self, text: str) -> str:
        """A message without the folder in which this machine has the record."""
        folder = self._local or vars(self).get("scratch")
        return text if folder is None else text.replace(f"{folder}/", "")

    def prefetch(self, paths: Sequence[str]) -> None:
        """Download several files at once."""
        if self._local is None and paths:
            _ = self.scratch  # made once, before the threads ask for it
            with ThreadPoolExecutor(_DOWNLOAD_THREADS) as pool:
                list(pool.map(in_this_context(self.fetch), paths))

    @contextlib.contextmanager
    def naming_the_run(self) -> Iterator[None]:
        """Name the run in errors about its files, and hide where this machine stores them."""
        try:
            yield
        except (CorruptRecordError, StoreError) as error:
            text = self.without_folder(str(error))
            if self._run.run_id not in text:
                text = f"run {self._run.run_id} ({self._run.name}): {text}"
            raise type(error)(text) from error

    def read_losses(self, manifest: Manifest, read: Callable[[Manifest], _Value]) -> _Value:
        """Read losses of a record that may have gone on since its manifest was read.

        A recorder merges files: those that a manifest names may be gone by now, and the newest
        manifest names others that hold the same steps.

        Args:
            manifest: as it was read before.
            read: reads the losses that a manifest names.

        Raises:
            CorruptRecordError: if a file is damaged that the newest manifest names, too.
        """
        try:
            return read(manifest)
        except CorruptRecordError:
            newest = self._newest_manifest()
            if newest is None or newest.blocks == manifest.blocks:
                raise
        return read(newest)

    def _newest_manifest(self) -> Manifest | None:
        if self._local is None:
            (self.scratch / MANIFEST).unlink(missing_ok=True)
        with contextlib.suppress(CorruptRecordError, NotFoundError):
            return self.manifest()
        return None

    def manifest(self) -> Manifest:
        """Read the manifest.

        Raises:
            NotFoundError: if the run has no such record.
            CorruptRecordError: if the manifest is damaged.
        """
        # A recording run replaces its manifest every epoch, and not every store does so in one
        # atomic step: a manifest that looks half-written is read again.
        for attempt in range(1, _MANIFEST_ATTEMPTS + 1):
            path = self.fetch(MANIFEST)
            try:
                return read_manifest(path)
            except NotFoundError:
                raise NotFoundError(self._without_manifest()) from None
            except CorruptRecordError as error:
                if attempt == _MANIFEST_ATTEMPTS or self._run.status != "RUNNING":
                    where = f"{MANIFEST} of {self._record} of run {self._run.run_id}"
                    raise CorruptRecordError(str(error).replace(str(path), where)) from error
                if self._local is None:
                    path.unlink(missing_ok=True)
                time.sleep(0.2 * attempt)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def _without_manifest(self) -> str:
        head = f"run {self._run.run_id} ({self._run.name}) has no readable record {self._record!r}"
        if self._record in self._run.records:
            return (
                f"{head}: its {MANIFEST} is missing. Restore {ARTIFACT_ROOT}/{self._record} of "
                "the run's artifacts, or record the run again."
            )
        return f"{head}. Its records: {', '.join(self._run.records) or 'none'}."


def _check_no_link(folder: Path, path: str) -> None:
    """Refuse links: they would show files from elsewhere on the machine that reads."""
    current = folder
    for part in ("", *PurePosixPath(path).parts):
        current /= part
        if current.is_symlink():
            raise CorruptRecordError(
                f"{path} of {folder.name} is, or lies in, a symbolic link. Records hold none: "
                "restore the file, or record the run again."
            )


def read_below(root: Path, relative: str) -> bytes:
    """Content of a file below a folder, never of one outside it.

    Raises:
        NotFoundError: if the path leads out of the folder, or the file can't be read.
    """
    base = root.resolve()
    path = (base / relative).resolve()
    if not path.is_relative_to(base):
        raise NotFoundError(f"image {relative!r} lies outside the dataset's folder {root}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"image {relative!r} is not at {root} on this machine: {error.strerror}. "
            "Record with thumbnails to see images elsewhere."
        ) from error
