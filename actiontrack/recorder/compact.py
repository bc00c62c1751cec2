"""A record of few files in the present format: what old or killed trainings left is brought up.

The losses stay what they are, number by number; that is verified before anything is uploaded. The
run's record can be read at any moment: new files are uploaded first, then the manifest that names
them, and only then the files are deleted that no manifest names any more.
"""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from actiontrack.errors import CorruptRecordError, RecordingError
from actiontrack.record.losses import read_blocks
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import Fetch
from actiontrack.record.paths import BLOCKS, FORMAT_VERSION, LOSSES, MANIFEST
from actiontrack.recorder.lifecycle import this_process
from actiontrack.recorder.packer import pack, rewrite
from actiontrack.recorder.packing import Limits, tail_to_merge
from actiontrack.recorder.spool import Spool, lock_path, lock_spool, spool_root
from actiontrack.recorder.uploader import upload_files, upload_manifest
from actiontrack.store import ARTIFACT_ROOT, Store, StoredRecord

__all__ = ["Compaction", "LossFiles", "compact_record"]


@dataclass(frozen=True)
class LossFiles:
    """The files of losses of a record.

    Attributes:
        version: of the format.
        n_files: how many there are.
        n_bytes: what they take.
    """

    version: int
    n_files: int
    n_bytes: int

    @classmethod
    def of(cls, manifest: Manifest) -> "LossFiles":
        """Those that a manifest names."""
        sizes = [manifest.files[block.path].bytes for block in manifest.blocks]
        return cls(manifest.version, len(sizes), sum(sizes))


@dataclass(frozen=True)
class Compaction:
    """What was done to a record.

    Attributes:
        run_id: its run.
        record: its name.
        before: its files of losses as they were.
        after: its files of losses now: the same where nothing was to do.
        n_deleted: files that no manifest named any more, and that were deleted.
    """

    run_id: str
    record: str
    before: LossFiles
    after: LossFiles
    n_deleted: int = 0


def compact_record(
    run: str, record: str | None = None, *, store: Store | None = None, ended: bool = False
) -> Compaction:
    """Convert a record of an old format, and merge its many small files of losses.

    Whoever has opened the record before must open it again: the files that it names are gone.

    Args:
        run: the run: its id, a unique start of it, or its name.
        record: name of the record. Default: the only one, or the test probe.
        store: the tracking server. Default: MLflow's current one.
        ended: whether the process that recorded it is known to have ended, though the run is
            still marked RUNNING. If it has not, it stops uploading; its spool keeps everything,
            and `sync` uploads it.

    Returns:
        What was done.

    Raises:
        NotFoundError: if there is no such run or record.
        RecordingError: if a process is recording it, or it waits in this machine's spool.
        CorruptRecordError: if a file is damaged; the record is as it was.
        StoreError: if the server does not answer, or the disk is full.
    """
    store = store or Store()
    stored = store.open_record(run, record)
    _check_ended(stored, ended=ended)
    before = stored.manifest
    done = Compaction(stored.run.run_id, stored.name, LossFiles.of(before), LossFiles.of(before))
    is_compact = _is_compact(before)
    if is_compact and not _unnamed(store, stored, before):
        return done
    with _spool_locked(stored), tempfile.TemporaryDirectory(prefix="actiontrack-") as folder:
        spool = None if is_compact else _compacted(stored, Path(folder) / stored.name)
        _claim(store, stored)
        after = before if spool is None else _upload(store, stored, spool)
        unnamed = _unnamed(store, stored, after)
        store.delete_artifacts(stored.run.run_id, unnamed)
    return replace(done, after=LossFiles.of(after), n_deleted=len(unnamed))


def _check_ended(stored: StoredRecord, *, ended: bool) -> None:
    run = stored.run
    if ended or stored.manifest.complete or run.status != "RUNNING":
        return
    raise RecordingError(
        f"run {run.run_id} ({run.name}) is marked RUNNING and its record {stored.name} is not "
        "finished: a process may be recording it. Wait until it has ended. If it was killed, call "
        "'actiontrack sync' on its machine, which uploads what it left, then compact with --ended."
    )


def _is_compact(manifest: Manifest) -> bool:
    sizes = [block.n_steps for block in manifest.blocks]
    limits = Limits.of(manifest.n_samples)
    return manifest.version == FORMAT_VERSION and not tail_to_merge(sizes, limits, all_small=True)


@contextlib.contextmanager
def _spool_locked(stored: StoredRecord) -> Iterator[None]:
    """No process of this machine records or uploads the record meanwhile."""
    folder = spool_root() / stored.run.run_id / stored.name
    lock = lock_spool(folder)
    try:
        if (folder / MANIFEST).is_file():
            raise RecordingError(
                f"record {stored.name} of run {stored.run.run_id} waits in {folder} and may hold "
                f"more than the run. Upload it first: actiontrack sync {folder}"
            )
        yield
    finally:
        if not folder.is_dir():
            lock_path(folder).unlink(missing_ok=True)
        lock.release()
        with contextlib.suppress(OSError):
            folder.parent.rmdir()


def _compacted(stored: StoredRecord, folder: Path) -> Spool:
    """The losses of a record on local disk, in few files of the present format."""
    before = stored.manifest
    losses = {block.path: before.files[block.path] for block in before.blocks}
    stored.prefetch(list(losses))
    # Of the other files nothing is read: they stay where they are.
    spool = Spool.copy(folder, replace(before, files=losses), stored.fetch)
    if before.version < FORMAT_VERSION:
        rewrite(spool)
    pack(spool, all_small=True)
    _check_equal(before, spool)
    return spool


def _check_equal(before: Manifest, spool: Spool) -> None:
    """Compare every number of every step with what it was, one column at a time."""
    for name in ("loss", *before.measures, *before.components):
        if not _is_equal(before, spool.manifest, spool.fetch, [name]):
            raise CorruptRecordError(
                f"record {before.name}: the column {name} is not the same once it is compacted. "
                "Nothing was uploaded, and the record is as it was. Please report this."
            )


def _is_equal(before: Manifest, after: Manifest, fetch: Fetch, names: Sequence[str]) -> bool:
    """Whether steps, samples seen and columns are equal, bit by bit."""
    steps, grids, seen = read_blocks(before, before.blocks, fetch, names)
    new_steps, new_grids, new_seen = read_blocks(after, after.blocks, fetch, names)
    return (
        new_steps == steps
        and after.totals == before.totals
        and np.array_equal(new_seen, seen)
        and all(
            np.array_equal(new_grids[name].view(np.uint8), grids[name].view(np.uint8))
            for name in names
        )
    )


def _claim(store: Store, stored: StoredRecord) -> None:
    """Be the one process that writes the record, if it is what it was when it was read."""
    run, name = stored.run, stored.name
    writer = run.writer(name)
    store.claim_record(run.run_id, name, (*([writer] if writer else []), this_process()))
    if store.open_record(run, name).digest != stored.digest:
        raise RecordingError(
            f"run {run.run_id}: its record {name} has changed meanwhile: a process is recording "
            "it. Wait until it has ended, then compact it again."
        )


def _upload(store: Store, stored: StoredRecord, spool: Spool) -> Manifest:
    """Upload the new files of losses, then the manifest that names them in place of the old."""
    before, packed, run_id = stored.manifest, spool.manifest, stored.run.run_id
    old = {block.path for block in before.blocks}
    lasting = {path: entry for path, entry in before.files.items() if path not in old}
    # What the record says is the same: a spool elsewhere that goes on from it is not older.
    after = replace(packed, files={**lasting, **packed.files}, revision=before.revision)
    upload_files(store, run_id, spool, sorted(set(packed.files) - old))
    upload_manifest(store, run_id, after)
    store.tag_record(run_id, after)
    return after


def _unnamed(store: Store, stored: StoredRecord, manifest: Manifest) -> list[str]:
    """Files of losses among the run's artifacts that the manifest does not name."""
    folder = f"{ARTIFACT_ROOT}/{stored.name}"
    paths = [
        path
        for kind in (BLOCKS, LOSSES)
        for path in store.list_files(stored.run, f"{folder}/{kind}")
    ]
    return [path for path in paths if path.removeprefix(f"{folder}/") not in manifest.files]
