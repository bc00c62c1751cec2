"""How a record is opened: in which run, after what, and by this process alone."""

import contextlib
import logging
import os
import platform
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from filelock import BaseFileLock

from actiontrack.errors import ActionTrackError, NotFoundError, RecordingError, StoreError
from actiontrack.record.disk import FileEntry
from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import FORMAT_VERSION
from actiontrack.recorder.ending import close_earlier
from actiontrack.recorder.maps import PixelMaps, flush_maps
from actiontrack.recorder.null_writer import NullWriter
from actiontrack.recorder.options import Options
from actiontrack.recorder.packer import count_from_one, pack, rewrite
from actiontrack.recorder.partial import PartialEpochs
from actiontrack.recorder.spool import Destination, Spool, lock_spool
from actiontrack.recorder.uploader import Uploader, diverged
from actiontrack.recorder.writer import SpoolWriter
from actiontrack.store import Store
from actiontrack.store.jitter import drawn_apart

__all__ = ["open_writer", "this_process"]

logger = logging.getLogger("actiontrack")


def open_writer(
    manifest: Manifest,
    options: Options,
    *,
    store: Store | None,
    run_id: str | None,
    root: Path,
    resume: bool,
) -> NullWriter:
    """The writer of a record, new or continued.

    Args:
        manifest: the record as it is to begin.
        options: how the recorder takes what it is given.
        store: the tracking server. Default: MLflow's current one.
        run_id: the MLflow run. Default: the active run.
        root: where spools live.
        resume: whether to continue the record that the run holds already.

    Raises:
        RecordingError: if there is no run, or it holds such a record and `resume` is False.
        StoreError: if the spool can't be written.
    """
    if options.gather is not None and options.gather({}) is None:
        return NullWriter()  # this process sends its columns to the one that writes
    store = store or Store()
    run_id = run_id or store.active_run_id()
    if run_id is None:
        raise RecordingError(
            "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
        )
    folder = root / run_id / manifest.name
    if resume:
        close_earlier(folder)
    lock = lock_spool(folder)
    opening = _Opening(manifest, options, store, run_id, folder)
    try:
        with drawn_apart(store.tracking_uri):
            return opening.writer(lock, resume=resume)
    except BaseException:
        opening.abandon()
        lock.release()
        raise


class _Opening:
    """A record that is being opened by this process, which holds its spool."""

    def __init__(
        self, manifest: Manifest, options: Options, store: Store, run_id: str, folder: Path
    ) -> None:
        self._manifest, self._options = manifest, options
        self._store, self._run_id, self._folder = store, run_id, folder
        self._me = this_process()
        self._spool: Spool | None = None

    def writer(self, lock: BaseFileLock, *, resume: bool) -> SpoolWriter:
        """Claim the record and continue it, or begin it."""
        name = self._manifest.name
        existing = _existing(self._store, self._run_id, name, self._folder, resume=resume)
        partial = PartialEpochs()
        writers = (*(existing.writers if resume else ()), self._me)
        destination = Destination(
            self._store.tracking_uri, self._run_id, self._manifest.model, writers
        )
        if existing.spool is None:
            claimed = self._claim(writers, asked=existing.asked)
            spool = self._spool = Spool.create(
                self._folder, self._manifest, destination, durable=self._options.durable
            )
        else:
            partial = PartialEpochs.of(existing.spool.manifest)
            spool = _continued(existing.spool, self._manifest, destination, resume=resume)
            spool.durable = spool.log.durable = self._options.durable
            self._spool = spool
            claimed = self._claim(writers, asked=existing.asked)
            if self._options.first_epoch == 0 and spool.manifest.has_initial_state:
                flush_maps(spool)
                count_from_one(spool)
        maps = PixelMaps.open(spool) if self._manifest.pixel_loss_name else None
        uploader = Uploader(
            spool, destination, store=self._store, uploaded=existing.uploaded, claimed=claimed
        )
        return SpoolWriter(
            spool,
            uploader,
            lock,
            self._options,
            maps=maps,
            partial=partial,
            release=self._release_claim,
        )

    def abandon(self) -> None:
        """Let another process begin the record, where this one could not open it."""
        if self._spool is None or not self._spool.steps:
            self._release_claim()

    def _claim(self, writers: tuple[str, ...], *, asked: bool) -> bool:
        """Be the one process that writes this record. Where it can't ask, the uploader does."""
        if not asked:
            return False
        try:
            self._store.claim_record(self._run_id, self._manifest.name, writers)
        except StoreError as error:
            logger.warning("cannot ask the server who writes the record: %s", error)
            return False
        return True

    def _release_claim(self) -> None:
        with contextlib.suppress(ActionTrackError):
            self._store.ping()
            self._store.release_record(self._run_id, self._manifest.name, self._me)


@dataclass(frozen=True)
class _Existing:
    """The record of a name that is there already.

    Attributes:
        spool: the record, if there is one.
        uploaded: files that the run holds of it.
        writers: the processes that have written it.
        asked: whether the server could be asked.
    """

    spool: Spool | None
    uploaded: Mapping[str, FileEntry]
    writers: tuple[str, ...]
    asked: bool = True


def _existing(store: Store, run_id: str, name: str, folder: Path, *, resume: bool) -> _Existing:
    """The record of this name that is there already: in the spool, else in the run."""
    local = _local_record(folder)
    local_writers = local.writers() if local else ()
    if local is not None:
        pack(local)
    try:
        store.ping()
        run = store.get_run(run_id)
        remote = store.open_record(run, name) if name in run.records else None
    except StoreError as error:
        logger.warning("cannot ask the server for earlier records: %s", error)
        return _Existing(local, {}, local_writers, asked=False)
    remote_writer = run.writer(name)
    writers = tuple(dict.fromkeys(who for who in (*local_writers, remote_writer) if who))
    if remote is None:
        return _Existing(local, {}, writers)
    uploaded = remote.manifest.files
    if local is None or local.manifest.revision < remote.manifest.revision:
        _check_resumed(run_id, remote.manifest, resume=resume)  # before it is downloaded
        return _Existing(Spool.copy(folder, remote.manifest, remote.fetch), uploaded, writers)
    if diverged(local, remote_writer, remote):
        raise RecordingError(
            f"run {run_id} and {folder} hold record {name} with other epochs: {remote_writer} has "
            "continued it elsewhere. Delete the folder to go on from what the run holds."
        )
    return _Existing(local, uploaded, writers)


def _local_record(folder: Path) -> Spool | None:
    try:
        return Spool.load(folder)
    except NotFoundError:
        return None


def this_process() -> str:
    """A name of this process that no other one has, in words for messages."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {platform.node()} since {now} ({secrets.token_hex(4)})"


def _check_resumed(run_id: str, recorded: Manifest, *, resume: bool) -> None:
    if not resume:
        raise RecordingError(
            f"run {run_id} holds a record {recorded.name} with {recorded.n_steps} epochs already. "
            "Pass resume=True to continue it, or start a new run: in a notebook, call "
            "mlflow.end_run() before you run the cell again."
        )


def _continued(
    existing: Spool, manifest: Manifest, destination: Destination, *, resume: bool
) -> Spool:
    """The record that is there, to be gone on with under the settings asked for now."""
    recorded = existing.manifest
    _check_resumed(destination.run_id, recorded, resume=resume)
    _check_same_settings(recorded, manifest)
    existing.write_destination(destination)
    if recorded.version < FORMAT_VERSION:
        rewrite(existing)
    existing.update(status="recording", partial=None, model=manifest.model or recorded.model)
    return existing


def _check_same_settings(recorded: Manifest, manifest: Manifest) -> None:
    if bool(recorded.pixel_loss_name) != bool(manifest.pixel_loss_name) and recorded.n_steps:
        with_or_without = "with" if recorded.pixel_loss_name else "without"
        raise RecordingError(
            f"pixel_loss_name: the record {manifest.name} was begun {with_or_without} maps, got "
            f"{manifest.pixel_loss_name!r}. Resume with the same settings, or start a new run."
        )
    _check_same_maps(recorded, manifest)
    if recorded.n_steps and (recorded.privacy or None) != (manifest.privacy or None):
        raise RecordingError(
            f"privacy: the record {manifest.name} was begun with {_hidden(recorded)}, got "
            f"{_hidden(manifest)}. Resume with the same id_salt and images, or start a new run."
        )
    for setting in (
        *("delta_kind", "class_names", "loss_name", "pixel_loss_name", "void", "precision"),
    ):
        before, now = getattr(recorded, setting), getattr(manifest, setting)
        if now and before and before != now:
            raise RecordingError(
                f"{setting}: the record {manifest.name} was begun with {before!r}, got {now!r}. "
                "Resume with the same settings, or start a new run."
            )


def _check_same_maps(recorded: Manifest, manifest: Manifest) -> None:
    for option in ("factor", "dtype"):
        before, now = (
            body.maps.get(option) if body.maps else None for body in (recorded, manifest)
        )
        if recorded.n_steps and before != now:
            raise RecordingError(
                f"map_{option}: the record {manifest.name} was begun with {before!r}, got {now!r}. "
                "Resume with the same settings, or start a new run."
            )


def _hidden(manifest: Manifest) -> str:
    privacy = manifest.privacy or {}
    hashed = f"hashed ids (salt {privacy.get('salt_check')})"
    ids = hashed if manifest.has_hashed_ids else "plain ids"
    return f"{ids}, {'no images' if manifest.hides_images else 'images allowed'}"
