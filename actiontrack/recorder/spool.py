"""The spool: a record on local disk, one folder per run and record, safe before any upload.

::

    <spool root>/<run id>/<record>/     the files of the record, see `actiontrack.record`
                          /sync.json    where it belongs: tracking URI, run, model
                          /metrics.jsonl    aggregates of each step, for the tracking server
                          /accumulator/     sums of maps so far, see `actiontrack.recorder.maps`
                         .<record>.lock    held by the process that records
"""

import contextlib
import json
import logging
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import platformdirs
from filelock import FileLock, Timeout

from actiontrack import settings
from actiontrack.errors import CorruptRecordError, NotFoundError, RecordingError, StoreError
from actiontrack.record.disk import FileEntry
from actiontrack.record.losses import read_history, write_block
from actiontrack.record.manifest import Manifest, StepEntry, read_manifest, write_manifest
from actiontrack.record.parquet import Fetch, copy_file
from actiontrack.record.paths import (
    BOXES,
    MANIFEST,
    MAPS,
    PICTURES,
    PROBABILITIES,
    SCORES,
    block_path,
)
from actiontrack.record.samples import read_samples
from actiontrack.record.vectors import write_scores
from actiontrack.scores import score_table

__all__ = [
    "ACCUMULATOR",
    "Destination",
    "Spool",
    "StepMetrics",
    "absolute",
    "lock_path",
    "lock_spool",
    "spool_root",
]

logger = logging.getLogger("actiontrack")

_DESTINATION = "sync.json"
#: Folder of a spooled record that holds sums of maps; it is no part of the record.
ACCUMULATOR = "accumulator"
_METRICS = "metrics.jsonl"
#: Locks that this process has taken.
_locks: "weakref.WeakValueDictionary[Path, FileLock]" = weakref.WeakValueDictionary()


def spool_root() -> Path:
    """Where spools live: ACTIONTRACK_SPOOL, or the state folder of this user.

    Always absolute: a program that changes its folder goes on in the same spool.
    """
    named = settings.SPOOL.value()
    return absolute(named) if named else platformdirs.user_state_path("actiontrack") / "spool"


def absolute(folder: str | Path) -> Path:
    """A folder that stays where it is when the program changes its working folder."""
    return Path(folder).expanduser().absolute()


@dataclass(frozen=True)
class Destination:
    """Where a spooled record belongs.

    Attributes:
        tracking_uri: the tracking server.
        run_id: the run.
        model: name of the model.
        writers: the processes that have written the record, the present one last; see
            `actiontrack.store.Store.claim_record`. Empty for spools of earlier versions.
    """

    tracking_uri: str
    run_id: str
    model: str
    writers: tuple[str, ...] = ()


@dataclass(frozen=True)
class StepMetrics:
    """Aggregates of one step.

    Attributes:
        step: n of eq. 3.
        time_ms: when they were measured, in ms since the epoch of Unix.
        values: name -> value.
    """

    step: int
    time_ms: int
    values: Mapping[str, float]


def lock_path(folder: Path) -> Path:
    """The lock of the record spooled in `folder`."""
    return folder.with_name(f".{folder.name}.lock")


def lock_spool(folder: Path) -> FileLock:
    """Hold the spool of a record for this process alone, until released or the process ends.

    Raises:
        RecordingError: if another process, or another recorder of this one, holds it.
        StoreError: if the folder can't be written.
    """
    lock = FileLock(lock_path(folder), timeout=0, thread_local=False)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise _recorded_already(folder) from error
    except OSError as error:
        raise _cannot_write(folder, error) from error
    _locks[folder] = lock
    return lock


def _cannot_write(folder: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write the spool {folder}: {error.strerror or error}. "
        "Set ACTIONTRACK_SPOOL to a folder that can be written."
    )


def _recorded_already(folder: Path) -> RecordingError:
    record = f"record {folder.name} of run {folder.parent.name} is being recorded already, by"
    lock = _locks.get(folder)
    if lock is not None and lock.is_locked:
        return RecordingError(
            f"{record} another recorder of this process. If that one is of a notebook cell or a "
            "loop that did not come to its end, pass resume=True: it is closed, and the record "
            "goes on after its last epoch. Or call mlflow.end_run() and start a new run."
        )
    return RecordingError(
        f"{record} another process. Record into a run of your own, or wait until it has ended."
    )


class Spool:
    """One record on local disk. The manifest in memory is the manifest on disk, always.

    Args:
        folder: folder of the record.
        manifest: the record so far.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @classmethod
    def create(cls, folder: Path, manifest: Manifest, destination: Destination) -> "Spool":
        """Start a spool, replacing what an earlier record of the same name left behind.

        Raises:
            StoreError: if the folder can't be written.
        """
        shutil.rmtree(folder, ignore_errors=True)
        spool = cls(folder, manifest)
        spool.write_destination(destination)
        return spool

    @classmethod
    def load(cls, folder: Path) -> "Spool":
        """Open a spool that was left behind.

        Raises:
            NotFoundError: if there is none.
            CorruptRecordError: if it is damaged.
        """
        return cls(folder, read_manifest(folder / MANIFEST))

    @classmethod
    def copy(cls, folder: Path, manifest: Manifest, fetch: Fetch) -> "Spool":
        """Bring a record that is elsewhere to local disk, the manifest last.

        Raises:
            CorruptRecordError: if a file of the record is damaged.
            StoreError: if the folder can't be written.
        """
        shutil.rmtree(folder / ACCUMULATOR, ignore_errors=True)
        for name in manifest.files:
            copy_file(manifest, name, fetch, folder)
        write_manifest(folder, manifest)
        return cls(folder, manifest)

    def write_destination(self, destination: Destination) -> None:
        """Remember where the record belongs; the file is replaced whole or not at all."""
        text = json.dumps(vars(destination), indent=1)
        temporary = self.folder / f".{_DESTINATION}.tmp"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary.touch(mode=0o600)  # the address may hold a password
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.folder / _DESTINATION)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise _cannot_write(self.folder, error) from error

    def has_destination(self) -> bool:
        """Whether the spool says where the record belongs."""
        return (self.folder / _DESTINATION).is_file()

    def destination(self) -> Destination:
        """Where the record belongs.

        Raises:
            CorruptRecordError: if the spool does not say.
        """
        path = self.folder / _DESTINATION
        try:
            body = json.loads(path.read_text(encoding="utf-8"))
            return Destination(**{**body, "writers": tuple(body.get("writers", ()))})
        except (AttributeError, OSError, TypeError, ValueError) as error:
            raise CorruptRecordError(f"{path} does not say where the record belongs.") from error

    def writers(self) -> tuple[str, ...]:
        """The processes that have written the record, as far as the spool says."""
        with contextlib.suppress(CorruptRecordError):
            return self.destination().writers
        return ()

    def fetch(self, path: str) -> Path:
        """Local path of a file of the record."""
        return self.folder / path

    def add_block(
        self, step: StepEntry, columns: Mapping[str, npt.NDArray[Any]], **changes: Any
    ) -> None:
        """Write one step, then the manifest."""
        entry = write_block(self.folder, step.step, columns)
        manifest = replace(self.manifest, steps=(*self.manifest.steps, step), **changes)
        path = block_path(step.step)
        self._commit(manifest.with_file(path, entry))

    def add_file(self, path: str, entry: FileEntry) -> None:
        """Name a file that was written into the folder."""
        self._commit(self.manifest.with_file(path, entry))

    def add_maps(self, entries: Mapping[str, FileEntry], options: Mapping[str, Any]) -> None:
        """Name the files of maps that were written into the folder, in place of earlier ones."""
        manifest = self.manifest.without_files(MAPS)
        files = {**manifest.files, **entries}
        self._commit(replace(manifest, files=files, maps=dict(options)))

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest."""
        self._commit(replace(self.manifest, **changes))

    def truncate(self, step: int) -> bool:
        """Forget the steps from `step` on. Returns whether there were any."""
        steps = tuple(entry for entry in self.manifest.steps if entry.step < step)
        dropped = {block_path(entry.step) for entry in self.manifest.steps[len(steps) :]}
        # Of a model that trains on.
        dropped |= {SCORES, PROBABILITIES, BOXES}
        lasting = self.manifest.without_files(MAPS, PICTURES)
        files = {name: entry for name, entry in lasting.files.items() if name not in dropped}
        if len(files) == len(self.manifest.files):
            return False
        self._commit(replace(self.manifest, steps=steps, files=files, status="recording"))
        return True

    def complete(self) -> None:
        """Write the scores and mark the record complete; a partial epoch stays counted."""
        history = read_history(self.manifest, self.fetch)
        entry = write_scores(self.folder, score_table(history))
        manifest = replace(self.manifest, status="complete")
        self._commit(manifest.with_file(SCORES, entry))

    def count_from_one(self) -> None:
        """Give every step the number one higher: of a loop that counts its epochs from 0.

        Maps must be in the record; the sums that they go on from are read from there.
        """
        history = read_history(self.manifest, self.fetch)
        grids = {"loss": history.losses, **history.components, **history.measures}
        files = dict(self.manifest.files)
        for entry in self.manifest.steps:
            files.pop(block_path(entry.step))
        for row, entry in enumerate(self.manifest.steps):
            missing = ~history.seen[row]
            columns = {
                name: np.ma.MaskedArray(grid[row], mask=missing) if missing.any() else grid[row]
                for name, grid in grids.items()
            }
            step = entry.step + 1
            files[block_path(step)] = write_block(self.folder, step, columns)
        steps = tuple(replace(entry, step=entry.step + 1) for entry in self.manifest.steps)
        maps = dict(self.manifest.maps) if self.manifest.maps else None
        for key in ("step", "before"):
            if maps and key in maps:
                maps[key] += 1
        shutil.rmtree(self.folder / ACCUMULATOR, ignore_errors=True)
        self._commit(replace(self.manifest, steps=steps, files=files, maps=maps))

    def add_metrics(self, metrics: StepMetrics) -> None:
        """Keep aggregates of a step beside the record, in case the server is away."""
        try:
            with (self.folder / _METRICS).open("a", encoding="utf-8") as file:
                file.write(json.dumps(vars(metrics)) + "\n")
        except OSError:
            logger.warning("cannot keep the metrics of step %d: the disk is full.", metrics.step)

    def metrics(self) -> list[StepMetrics]:
        """Aggregates kept beside the record; a line that was cut short is left out."""
        path, steps = self.folder / _METRICS, []
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines:
            with contextlib.suppress(TypeError, ValueError):
                steps.append(StepMetrics(**json.loads(line)))
        return steps

    def remove(self) -> None:
        """Delete the spool, once every file is in the artifact store."""
        shutil.rmtree(self.folder, ignore_errors=True)
        lock_path(self.folder).unlink(missing_ok=True)
        try:
            self.folder.parent.rmdir()
        except OSError:
            return

    def sample_ids(self) -> npt.NDArray[Any] | None:
        """Ids of a record that knows its samples already."""
        return self._samples("sample_ids")

    def labels(self) -> npt.NDArray[np.int64] | None:
        """Labels of a record that knows its samples already."""
        return self._samples("labels")

    def _samples(self, name: str) -> npt.NDArray[Any] | None:
        try:
            samples = read_samples(self.manifest, self.fetch)
        except NotFoundError:
            return None
        values: npt.NDArray[Any] | None = getattr(samples, name)
        return values

    def _commit(self, manifest: Manifest) -> None:
        manifest = replace(manifest, revision=manifest.revision + 1)
        write_manifest(self.folder, manifest)
        self.manifest = manifest
