"""Upload of a spool to its run, in the background: a training step never waits for the server.

The queue is the newest manifest: what it names and the run lacks is uploaded from the spool. So it
stays small however long the server is away, and no manifest arrives before its files.
"""

import logging
import tempfile
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from actiontrack import artifact
from actiontrack.artifact import MANIFEST, FileEntry, Manifest
from actiontrack.errors import CorruptRecordError, NotFoundError
from actiontrack.recorder.spool import Destination, Spool
from actiontrack.store import ARTIFACT_ROOT, MODEL_TAG, RECORDS_TAG, Store

__all__ = ["Uploader", "sync"]

logger = logging.getLogger("actiontrack")

_BACKOFF_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# Recorders of one process share a run; its list of records is read, then written.
_TAG_LOCK = threading.Lock()


@dataclass
class _Pending:
    """Work to do: the newest manifest with the files that it names, and metrics by step."""

    manifest: Manifest | None = None
    metrics: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return self.manifest is not None

    def copy(self) -> "_Pending":
        return _Pending(self.manifest, list(self.metrics))

    def remove(self, done: "_Pending") -> None:
        """Take off what was done, but not what was submitted again meanwhile."""
        self.metrics = self.metrics[len(done.metrics) :]
        if self.manifest is done.manifest:
            self.manifest = None


class Uploader:
    """A thread that carries a spool to its run and tries again until it is there.

    Args:
        spool: the record on local disk.
        destination: where it belongs.
        store: the tracking server. Default: a client of the destination, made by the thread.
        uploaded: files that the run holds already.
    """

    def __init__(
        self,
        spool: Spool,
        destination: Destination,
        *,
        store: Store | None = None,
        uploaded: Mapping[str, FileEntry] | None = None,
    ) -> None:
        self._spool, self._destination, self._store = spool, destination, store
        self._pending = _Pending()
        self._uploaded = dict(uploaded or {})
        self._changed = threading.Condition()
        self._closing = self._hurried = False
        self._progress = 0
        self._failed = ""
        self._tagged = False
        name = f"actiontrack-upload-{spool.manifest.name}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def error(self) -> str:
        """Why the last attempt failed, or the empty string."""
        return self._failed

    def submit(self, *, metrics: tuple[int, Mapping[str, float]] | None = None) -> None:
        """Ask for the present manifest, its files and the metrics of one step to be uploaded."""
        with self._changed:
            # Taken now: it must not name files of a later submission.
            self._pending.manifest = self._spool.manifest
            if metrics is not None:
                self._pending.metrics.append(metrics)
            self._changed.notify_all()

    def drain(self, patience: float) -> bool:
        """Wait until all is uploaded, as long as something moves within `patience` seconds."""
        with self._changed:
            self._hurried = patience > 0  # don't sleep through the end between two attempts
            self._changed.notify_all()
            while self._pending:
                before = self._progress
                self._changed.wait(patience)
                if self._progress == before:
                    return not self._pending
        return True

    def close(self, patience: float) -> bool:
        """Drain, then end the thread. Returns whether everything is uploaded."""
        done = self.drain(patience)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if done:
            self._thread.join(patience)
        return done

    def _work(self) -> None:
        attempt = 0
        while True:
            with self._changed:
                while not self._pending and not self._closing:
                    self._changed.wait()
                if self._closing:
                    return
            try:
                self._upload_once()
                attempt = 0
                self._recovered()
            except Exception as error:  # noqa: BLE001 - nothing may end this thread but close()
                self._report(error)
                attempt = self._back_off(attempt)

    def _back_off(self, attempt: int) -> int:
        """Wait before the next attempt. Returns its number."""
        seconds = _BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)]
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._hurried, seconds)
            attempt = 0 if self._hurried else attempt + 1
            self._hurried = False
        return attempt

    def _upload_once(self) -> None:
        with self._changed:
            work = self._pending.copy()
        store, run_id = self._connect(), self._destination.run_id
        store.ping()
        if work.manifest is not None:
            self._upload_files(store, work.manifest)
            upload_manifest(store, run_id, work.manifest)
        self._tag(store)
        for step, values in work.metrics:
            store.log_metrics(run_id, values, step)
        with self._changed:
            self._pending.remove(work)
            self._progress += 1
            self._changed.notify_all()

    def _upload_files(self, store: Store, manifest: Manifest) -> None:
        for name, entry in manifest.files.items():
            if self._uploaded.get(name) != entry:
                upload_files(store, self._destination.run_id, self._spool, [name])
                self._uploaded[name] = entry
                with self._changed:
                    self._progress += 1
                    self._changed.notify_all()

    def _connect(self) -> Store:
        if self._store is None:
            self._store = Store(self._destination.tracking_uri)
        return self._store

    def _tag(self, store: Store) -> None:
        if not self._tagged:
            tag_record(store, self._destination, self._spool.manifest.name)
            self._tagged = True

    def _report(self, error: Exception) -> None:
        if not self._failed:
            logger.warning(
                "cannot upload to run %s, training goes on: %s Everything is kept in %s",
                self._destination.run_id,
                error,
                self._spool.folder,
            )
        self._failed = str(error) or type(error).__name__

    def _recovered(self) -> None:
        if self._failed:
            logger.warning("upload to run %s works again.", self._destination.run_id)
        self._failed = ""


def upload_files(store: Store, run_id: str, spool: Spool, files: Iterable[str]) -> None:
    """Upload files of a spool into the record's artifact folder."""
    for name in files:
        parent = Path(name).parent.as_posix()
        folder = _artifact_folder(spool.manifest)
        store.upload(run_id, spool.folder / name, folder if parent == "." else f"{folder}/{parent}")


def upload_manifest(store: Store, run_id: str, manifest: Manifest) -> None:
    """Upload a manifest, after every file that it names."""
    with tempfile.TemporaryDirectory(prefix="actiontrack-") as scratch:
        artifact.write_manifest(Path(scratch), manifest)
        store.upload(run_id, Path(scratch) / MANIFEST, _artifact_folder(manifest))


def tag_record(store: Store, destination: Destination, record: str) -> None:
    """Add the record to the tags of its run."""
    with _TAG_LOCK:
        run = store.get_run(destination.run_id)
        tags = {RECORDS_TAG: ",".join(sorted({*run.records, record}))}
        if destination.model:
            tags[MODEL_TAG] = destination.model
        store.set_tags(destination.run_id, tags)


def sync(folder: Path, *, store: Store | None = None) -> list[str]:
    """Upload every record that was left behind below a folder, and finish it.

    Records of training that was interrupted stay marked as unfinished. A folder is deleted when
    all of it is uploaded.

    Args:
        folder: a spool root, the folder of a run, or of one record.
        store: the tracking server. Default: the one that each spool names.

    Returns:
        "run id/record" of each record that was uploaded.

    Raises:
        StoreError: if the server does not answer; what was not uploaded stays where it is.
    """
    synced = []
    for manifest in sorted(folder.glob("**/" + MANIFEST)):
        spool = Spool.load(manifest.parent)
        destination = spool.destination()
        _sync_one(spool, destination, store or Store(destination.tracking_uri))
        synced.append(f"{destination.run_id}/{spool.manifest.name}")
    return synced


def _sync_one(spool: Spool, destination: Destination, store: Store) -> None:
    store.ping()
    remote = _remote_files(store, destination.run_id, spool.manifest.name)
    changed = [name for name, entry in spool.manifest.files.items() if remote.get(name) != entry]
    upload_files(store, destination.run_id, spool, changed)
    upload_manifest(store, destination.run_id, spool.manifest)
    tag_record(store, destination, spool.manifest.name)
    spool.remove()


def _remote_files(store: Store, run_id: str, record: str) -> Mapping[str, FileEntry]:
    """Files that the run holds already, by its manifest."""
    run = store.get_run(run_id)
    try:
        return store.open_record(run, record).manifest.files
    except (NotFoundError, CorruptRecordError):
        return {}


def _artifact_folder(manifest: Manifest) -> str:
    return f"{ARTIFACT_ROOT}/{manifest.name}"
