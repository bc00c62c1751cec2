"""Upload of a spool to its run, in the background: a training step never waits for the server.

There is no queue: steps move from the log into files of losses, and what the newest manifest names
and the run lacks is uploaded from the spool. So little is to do however long the server was away,
and no manifest arrives before its files.
"""

import logging
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import numpy as np

from actiontrack.errors import (
    ActionTrackError,
    CorruptRecordError,
    NotFoundError,
    RecordingError,
    StoreError,
)
from actiontrack.record.attributes import METADATA, digest_of
from actiontrack.record.disk import FileEntry
from actiontrack.record.losses import read_history
from actiontrack.record.manifest import Manifest, write_manifest
from actiontrack.record.paths import MANIFEST
from actiontrack.record.threads import in_threads
from actiontrack.recorder.described import attribute_files
from actiontrack.recorder.maps import flush_maps
from actiontrack.recorder.packer import pack
from actiontrack.recorder.spool import Destination, Spool, StepMetrics, lock_spool
from actiontrack.store import ARTIFACT_ROOT, RunInfo, Store, StoredRecord
from actiontrack.store.jitter import drawn_apart
from actiontrack.store.patience import limited
from actiontrack.store.tags import record_tags

__all__ = ["Uploader", "diverged", "sync"]

logger = logging.getLogger("actiontrack")

_UPLOADS = 4  # files at once
#: Between two passes: short epochs share one, and their thread rarely meets this one at the GIL.
_PAUSE_S = 2.0
#: How long a reader may take from the manifest to the files that it names.
_READ_WITHIN_S = 60.0
#: Between attempts while the server is away. It costs one small request to ask whether it is back.
_BACKOFF_S = (0.5, 1.0, 2.0, 3.0)


class Uploader:
    """A thread that carries a spool to its run and tries again until it is there.

    Args:
        spool: the record on local disk.
        destination: where it belongs.
        store: the tracking server. Default: a client of the destination, made by the thread.
        uploaded: files that the run holds already.
        claimed: whether the run names this process as the one that writes the record.
    """

    def __init__(
        self,
        spool: Spool,
        destination: Destination,
        *,
        store: Store | None = None,
        uploaded: Mapping[str, FileEntry] | None = None,
        claimed: bool = False,
    ) -> None:
        self._spool, self._destination, self._store = spool, destination, store
        self._wanted = self._done = 0  # submissions so far, and those that are uploaded
        self._metrics: list[StepMetrics] = []
        self._uploaded = dict(uploaded or {})
        self._attributes: set[str] = set()  # files that are uploaded
        self._changed = threading.Condition()
        self._closing = self._hurried = self._ending = self._idle = False
        self._progress = 0
        self._failed = ""
        self._refused, self._claimed = "", claimed
        self._tagged: object = None
        self._superseded: dict[str, float] = {}
        name = f"actiontrack-upload-{spool.manifest.name}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def destination(self) -> Destination:
        """Where the record belongs."""
        return self._destination

    @property
    def error(self) -> str:
        """Why the last attempt failed, or the empty string."""
        return self._failed

    @property
    def refused(self) -> str:
        """Why nothing is uploaded any more: another process writes the record. Or empty."""
        return self._refused

    def submit(self, *, metrics: StepMetrics | None = None) -> None:
        """Ask for all that is in the spool now and the metrics of one step to be uploaded."""
        with self._changed:
            self._wanted += 1
            if metrics is not None:
                self._metrics.append(metrics)
            if self._idle:  # else it looks by itself, and waking it would hold up the training
                self._changed.notify_all()

    @property
    def _pending(self) -> bool:
        return self._done < self._wanted

    def drain(self, patience: float) -> bool:
        """Wait until all is uploaded, as long as a file arrives every `patience` seconds."""
        with self._changed:
            if patience > 0:
                self._hurried = True  # the next attempt is due now, not after its pause
                self._changed.notify_all()
            while self._pending:
                if not self._advances(patience):
                    return not self._pending
        return True

    def _advances(self, patience: float) -> bool:
        """Wait for the next file. Returns whether one arrived within `patience` seconds."""
        before = self._progress
        self._changed.wait_for(lambda: self._progress != before or bool(self._refused), patience)
        return self._progress != before

    def close(self, patience: float) -> bool:
        """Drain, then end the thread. Returns whether everything is uploaded."""
        self._ending = True  # what was merged is deleted from the run now or never
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
                    self._idle = True
                    self._changed.wait()
                    self._idle = False
                if self._closing:
                    return
            try:
                with limited(), drawn_apart(self._destination.tracking_uri):
                    self._upload_once()
                attempt = 0
                self._recovered()
                self._wait(_PAUSE_S)
            except RecordingError as error:
                self._report(error)
                with self._changed:
                    self._refused = str(error)
                    self._changed.notify_all()
                return
            except Exception as error:  # noqa: BLE001 - else nothing but close() ends this thread
                self._report(error)
                attempt = self._back_off(attempt)

    def _back_off(self, attempt: int) -> int:
        """Wait before the next attempt. Returns its number."""
        hurried = self._wait(_BACKOFF_S[min(attempt, len(_BACKOFF_S) - 1)])
        return 0 if hurried else attempt + 1

    def _wait(self, seconds: float) -> bool:
        """Wait, unless all is to be uploaded now. Returns whether it was cut short by that."""
        with self._changed:
            self._changed.wait_for(lambda: self._closing or self._hurried, seconds)
            hurried, self._hurried = self._hurried, False
        return hurried

    def _upload_once(self) -> None:
        with self._changed:
            wanted, metrics = self._wanted, list(self._metrics)
        manifest = pack(self._spool)  # also while the server is away
        self._forget_superseded(manifest)
        store, run_id = self.store, self._destination.run_id
        store.ping()
        self._claim(store)
        self._upload_files(store, manifest)
        self._attributes |= upload_attributes(store, run_id, self._spool, self._attributes)
        self._claim(store)  # files may have taken long
        upload_manifest(store, run_id, manifest)
        self._tag(store, manifest)
        store.log_steps(run_id, [(step.values, step.step, step.time_ms) for step in metrics])
        self._delete_superseded(store)
        with self._changed:
            self._done = wanted
            del self._metrics[: len(metrics)]
            self._progress += 1
            self._changed.notify_all()

    def _forget_superseded(self, manifest: Manifest) -> None:
        """Delete merged files from the spool; the run holds them for a while."""
        now = time.monotonic()
        for path in self._spool.discard_superseded(manifest):
            if self._uploaded.pop(path, None):
                self._superseded[path] = now

    def _delete_superseded(self, store: Store) -> None:
        """Delete them from the run, where the store allows it, once nobody reads them any more."""
        latest = time.monotonic() - (0 if self._ending else _READ_WITHIN_S)
        paths = [path for path, since in self._superseded.items() if since <= latest]
        if paths:
            folder = _artifact_folder(self._spool.manifest)
            store.delete_artifacts(self._destination.run_id, [f"{folder}/{path}" for path in paths])
        for path in paths:
            del self._superseded[path]

    def _upload_files(self, store: Store, manifest: Manifest) -> None:
        def upload(name: str) -> None:
            with limited(), drawn_apart(self._destination.tracking_uri):
                upload_files(store, self._destination.run_id, self._spool, [name])
            with self._changed:
                self._uploaded[name] = manifest.files[name]
                self._progress += 1
                self._changed.notify_all()

        changed = [
            name for name, entry in manifest.files.items() if self._uploaded.get(name) != entry
        ]
        in_threads(upload, changed, _UPLOADS)  # a request is mostly waiting

    @property
    def store(self) -> Store:
        """The tracking server."""
        if self._store is None:
            self._store = Store(self._destination.tracking_uri)
        return self._store

    def _claim(self, store: Store) -> None:
        run_id, name = self._destination.run_id, self._spool.manifest.name
        writers = self._destination.writers
        if writers and self._claimed:
            store.check_claim(run_id, name, writers[-1])
        elif writers:
            store.claim_record(run_id, name, writers)
            self._claimed = True

    def _tag(self, store: Store, manifest: Manifest) -> None:
        tagged = record_tags(manifest)
        if self._tagged != tagged:
            store.set_tags(self._destination.run_id, tagged)
            self._tagged = tagged

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


def upload_attributes(
    store: Store, run_id: str, spool: Spool, uploaded: Collection[str] = ()
) -> set[str]:
    """Upload attributes of samples, unless the run holds a file of the same content.

    So a training that is resumed, and describes its samples again, adds nothing.

    Returns:
        The files of the spool, all of which the run holds now.
    """
    paths = set(attribute_files(spool.folder))
    new = sorted(paths.difference(uploaded))
    if new:
        folder = f"{_artifact_folder(spool.manifest)}/{METADATA}"
        stored = store.list_files(store.get_run(run_id), folder)
        digests = {digest_of(path) for path in stored}
        upload_files(store, run_id, spool, [path for path in new if digest_of(path) not in digests])
    return paths


def upload_manifest(store: Store, run_id: str, manifest: Manifest) -> None:
    """Upload a manifest, after every file that it names."""
    with tempfile.TemporaryDirectory(prefix="actiontrack-") as scratch:
        write_manifest(Path(scratch), manifest)
        store.upload(run_id, Path(scratch) / MANIFEST, _artifact_folder(manifest))


def sync(folder: Path, *, store: Store | None = None) -> list[str]:
    """Upload every record that was left behind below a folder, and finish it.

    Records of training that was interrupted stay marked as unfinished. A folder is deleted when
    all of it is uploaded. Records that a process is recording now are left alone. A record that
    can't be uploaded does not keep the others from it.

    Args:
        folder: a spool root, the folder of a run, or of one record.
        store: the tracking server. Default: the one that each spool names.

    Returns:
        "run id/record" of each record that was uploaded.

    Raises:
        ActionTrackError: if a record could not be uploaded, after all others were; it stays where
            it is.
    """
    synced: list[str] = []
    errors: dict[Path, ActionTrackError] = {}
    for manifest in sorted(folder.glob("**/" + MANIFEST)):
        try:
            synced.append(_sync_one(manifest.parent, store))
        except RecordingError:
            logger.warning("%s is being recorded now: left alone.", manifest.parent)
        except ActionTrackError as error:
            errors[manifest.parent] = error
    if len(errors) == 1:
        raise next(iter(errors.values()))
    if errors:
        reasons = " ".join(f"{path}: {error}" for path, error in errors.items())
        raise StoreError(f"{len(errors)} records are not uploaded. {reasons}")
    return synced


def _sync_one(folder: Path, store: Store | None) -> str:
    with lock_spool(folder):
        spool = Spool.load(folder)
        flush_maps(spool)
        destination = _destination(spool, store)
        try:
            _carry(spool, destination, store or Store(destination.tracking_uri))
        except NotFoundError as error:
            raise NotFoundError(f"{error} Delete {folder} if the run is gone for good.") from error
        spool.remove()
    return f"{destination.run_id}/{spool.manifest.name}"


def _destination(spool: Spool, store: Store | None) -> Destination:
    """Where a record belongs; without a word of it, to the run that its folder is named after.

    Earlier versions recorded into a spool that they had just uploaded and deleted: such a folder
    holds later epochs and a manifest, and does not say more.
    """
    if spool.has_destination():
        return spool.destination()
    uri = (store or Store()).tracking_uri
    return Destination(uri, spool.folder.parent.name, spool.manifest.model)


def _carry(spool: Spool, destination: Destination, store: Store) -> None:
    store.ping()
    manifest, run_id = pack(spool, all_small=True), destination.run_id
    run = store.get_run(run_id)
    stored = _remote_record(store, run, manifest.name)
    remote = stored.manifest if stored else None
    if remote is not None and remote.revision > manifest.revision:
        raise StoreError(
            f"run {run_id} holds a newer {manifest.name} (revision {remote.revision}) than this "
            f"folder (revision {manifest.revision}). Delete the folder if the run is right."
        )
    if diverged(spool, run.writer(manifest.name), stored):
        raise StoreError(
            f"run {run_id}: its record {manifest.name} is written by another process, "
            f"{run.writer(manifest.name)}, and this folder does not hold what that one recorded. "
            "Delete the folder if the run is right."
        )
    uploaded = remote.files if remote else {}
    changed = [name for name, entry in manifest.files.items() if uploaded.get(name) != entry]
    lost = [name for name in changed if not (spool.folder / name).is_file()]
    if lost:
        raise CorruptRecordError(
            f"{spool.folder} lacks {len(lost)} files of its record, {lost[0]} among them, and run "
            f"{run_id} does not hold them either. Delete the folder: what the run holds is whole."
        )
    store.begin_changes(run, manifest.name)
    upload_files(store, run_id, spool, changed)
    upload_attributes(store, run_id, spool)
    upload_manifest(store, run_id, manifest)
    store.tag_record(run_id, manifest)
    store.log_steps(run_id, [(step.values, step.step, step.time_ms) for step in spool.metrics()])


def diverged(spool: Spool, writer: str, remote: StoredRecord | None) -> bool:
    """Whether a process that this spool does not continue writes what the spool does not hold.

    Args:
        spool: a record on local disk, its log packed.
        writer: the process that the run names, see `Store.claim_record`, or empty.
        remote: what the run holds of the record. None: that process is at its first epoch.
    """
    if writer in {"", *spool.writers()}:
        return False
    if remote is None:
        return True
    ours, theirs = spool.manifest, remote.manifest
    if all(ours.files.get(block.path) == theirs.files[block.path] for block in theirs.blocks):
        return False
    return not _continues(spool, remote)


def _continues(spool: Spool, remote: StoredRecord) -> bool:
    """Whether the steps of a spool begin with those of the run."""
    ours = read_history(spool.manifest, spool.fetch)
    theirs = remote.history()
    n_steps = theirs.n_steps
    return (
        np.array_equal(ours.sample_ids, theirs.sample_ids)
        and np.array_equal(ours.steps[:n_steps], theirs.steps)
        and np.array_equal(ours.seen[:n_steps], theirs.seen)
        and np.array_equal(ours.losses[:n_steps], theirs.losses, equal_nan=True)
    )


def _remote_record(store: Store, run: RunInfo, record: str) -> StoredRecord | None:
    """The record that the run holds already, if any can be read."""
    try:
        return store.open_record(run, record)
    except (NotFoundError, CorruptRecordError):
        return None


def _artifact_folder(manifest: Manifest) -> str:
    return f"{ARTIFACT_ROOT}/{manifest.name}"
