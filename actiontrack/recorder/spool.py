"""The spool: a record on local disk, one folder per run and record, safe before any upload.

::

    <spool root>/<run id>/<record>/     the files of the record, see `actiontrack.record`
                          /sync.json    where it belongs: tracking URI, run, model
                          /log/         steps that are in no file of losses yet
                          /metadata/    attributes of samples, which the manifest does not name
                          /metrics.jsonl    aggregates of each step, for the tracking server
                          /accumulator/     sums of maps so far, see `actiontrack.recorder.maps`
                         .<record>.lock    held by the process that records
"""

import contextlib
import json
import logging
import shutil
import threading
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pandas as pd
import platformdirs
from filelock import FileLock, Timeout

from actiontrack import settings
from actiontrack.errors import CorruptRecordError, NotFoundError, RecordingError, StoreError
from actiontrack.record.disk import FileEntry
from actiontrack.record.losses import read_history, read_steps
from actiontrack.record.manifest import Manifest, read_manifest, write_manifest
from actiontrack.record.parquet import Fetch, copy_file
from actiontrack.record.paths import (
    BOXES,
    LOSSES,
    MANIFEST,
    MAPS,
    PICTURES,
    PROBABILITIES,
    SCORES,
)
from actiontrack.record.samples import read_samples
from actiontrack.record.steps import StepEntry
from actiontrack.record.vectors import write_scores
from actiontrack.recorder.step_log import LOG, StepLog
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
    """One record on local disk: its manifest with the files that it names, and a log of steps.

    A step is safe once it is in the log. From there it moves into a file of losses, see `packer`.
    The manifest in memory is the manifest on disk, always.

    Args:
        folder: folder of the record.
        manifest: the record so far, without what is in the log.
        durable: whether a step must outlast a power cut once it is recorded.

    Attributes:
        lock: held while the manifest changes or a step is appended.
        packing: held while steps move from the log into files of losses.
        superseded: files that the manifest named once and does not name any more.
        last_number: the greatest number of a file of losses so far; none comes twice.
    """

    def __init__(self, folder: Path, manifest: Manifest, *, durable: bool = False) -> None:
        self.folder, self.manifest, self.durable = folder, manifest, durable
        self.lock, self.packing = threading.RLock(), threading.RLock()
        self.superseded: set[str] = set()
        self.last_number = 0
        self.log = StepLog(folder, manifest.log, durable=durable)
        self._steps: list[StepEntry] | None = None
        self._metrics: BinaryIO | None = None
        self._lasting: Manifest | None = None  # holds nothing that a further step makes void
        numbers = self.log.numbers()
        if numbers:
            # Behind a frame that was cut short nothing could be read: begin another log.
            self.log.number = max(manifest.log, numbers[-1] + 1)
            self.log.discard(numbers[0], manifest.log)

    @classmethod
    def create(
        cls, folder: Path, manifest: Manifest, destination: Destination, *, durable: bool = False
    ) -> "Spool":
        """Start a spool, replacing what an earlier record of the same name left behind.

        Raises:
            StoreError: if the folder can't be written.
        """
        shutil.rmtree(folder, ignore_errors=True)
        spool = cls(folder, manifest, durable=durable)
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
        for earlier in (ACCUMULATOR, LOG, LOSSES):
            shutil.rmtree(folder / earlier, ignore_errors=True)
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

    @property
    def steps(self) -> list[StepEntry]:
        """What every recorded step held, in order; those of the log are among them."""
        if self._steps is None:  # only then wait for files that are being written
            with self.packing, self.lock:
                steps = list(read_steps(self.manifest, self.fetch))
                for frame in self.log.frames(self.manifest.log, self.log.number + 1):
                    if frame.entry is not None:
                        steps.append(frame.entry)
                    elif frame.cut is not None:
                        steps = [step for step in steps if step.step < frame.cut]
                self._steps = steps
        return self._steps

    def read_steps_again(self) -> None:
        """Forget what the steps held: they are called otherwise now."""
        self._steps = None

    @property
    def last_step(self) -> int | None:
        """Number of the last recorded step, or None."""
        return self.steps[-1].step if self.steps else None

    def add_step(
        self, entry: StepEntry, columns: Mapping[str, npt.NDArray[Any]], **changes: Any
    ) -> None:
        """Record one step behind the others.

        Args:
            entry: what it held.
            columns: name -> (n_samples,), all masked alike where a sample was not seen.
            changes: fields of the manifest that are to change with it.

        Raises:
            StoreError: if the disk is full.
        """
        steps = self.steps
        with self.lock:
            if any(getattr(self.manifest, name) != value for name, value in changes.items()):
                self.commit(replace(self.manifest, **changes))
            self.log.append(entry, columns)
            steps.append(entry)

    def add_file(self, path: str, entry: FileEntry) -> None:
        """Name a file that was written into the folder."""
        with self.lock:
            self.commit(self.manifest.with_file(path, entry))

    def add_maps(self, entries: Mapping[str, FileEntry], options: Mapping[str, Any]) -> None:
        """Name the files of maps that were written into the folder, in place of earlier ones."""
        with self.lock:
            manifest = self.manifest.without_files(MAPS)
            files = {**manifest.files, **entries}
            self.commit(replace(manifest, files=files, maps=dict(options)))

    def update(self, **changes: Any) -> None:
        """Change fields of the manifest."""
        with self.lock:
            self.commit(replace(self.manifest, **changes))

    def truncate(self, step: int) -> bool:
        """Forget the steps from `step` on. Returns whether anything was forgotten."""
        steps = self.steps
        with self.lock:
            if self.manifest is self._lasting and not (steps and steps[-1].step >= step):
                return False
            # Of a model that trains on.
            lasting = self.manifest.without_files(MAPS, PICTURES)
            dropped = {SCORES, PROBABILITIES, BOXES}
            files = {name: entry for name, entry in lasting.files.items() if name not in dropped}
            cuts = bool(steps) and steps[-1].step >= step
            if not cuts and len(files) == len(self.manifest.files):
                self._lasting = self.manifest
                return False
            if cuts:
                self.log.cut(step)
                while steps and steps[-1].step >= step:
                    steps.pop()
            self.commit(replace(self.manifest, files=files, status="recording"))
        return True

    def complete(self, attach: Callable[[pd.DataFrame], None] | None = None) -> None:
        """Write the scores and mark the record complete; a partial epoch stays counted.

        The log must be packed.

        Args:
            attach: gets the scores and adds what else belongs to the complete record.
        """
        scores = score_table(read_history(self.manifest, self.fetch))
        entry = write_scores(self.folder, scores)
        if attach is not None:
            attach(scores)
        with self.lock:
            manifest = replace(self.manifest, status="complete")
            self.commit(manifest.with_file(SCORES, entry))

    def discard_superseded(self, manifest: Manifest) -> set[str]:
        """Delete files that no manifest names any more, also not this one.

        Returns:
            Their paths.
        """
        with self.lock:
            paths = self.superseded - set(manifest.files)
            self.superseded -= paths
        for path in paths:
            with contextlib.suppress(OSError):
                (self.folder / path).unlink(missing_ok=True)
        return paths

    def add_metrics(self, metrics: StepMetrics) -> None:
        """Keep aggregates of a step beside the record, in case the server is away."""
        try:
            if self._metrics is None:
                self._metrics = (self.folder / _METRICS).open("ab", buffering=0)
            self._metrics.write((json.dumps(vars(metrics)) + "\n").encode())
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

    def close(self) -> None:
        """Close the files that are appended to; what comes next opens them again."""
        self.log.close()
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None

    def remove(self) -> None:
        """Delete the spool, once every file is in the artifact store."""
        self.close()
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

    def commit(self, manifest: Manifest, *, n_changes: int = 1) -> None:
        """Write a manifest in place of the present one; the lock must be held.

        Args:
            manifest: what the record holds now.
            n_changes: how many changes of the record it is, by which the revision rises.
        """
        manifest = replace(manifest, revision=manifest.revision + n_changes)
        write_manifest(self.folder, manifest, durable=self.durable)
        self.manifest = manifest
