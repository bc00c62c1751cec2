"""Open records of a store, with bounded caches: what pages and API read from.

Nothing is computed here: questions are passed on to `actiontrack.analysis.questions`. Their answers
are stored under the checksum of the record's manifest, so that a record that grows is read anew.

Frames are shared between threads. Derive new ones, and never change one in place.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from actiontrack import settings
from actiontrack.analysis import questions
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.record.paths import MANIFEST
from actiontrack.store import (
    ARTIFACT_ROOT,
    Cache,
    RunInfo,
    RunQuery,
    Store,
    StoredRecord,
    choose_record,
)
from actiontrack.store.tags import listed_text
from actiontrack.web.notes import Notes
from actiontrack.web.permissions import Everybody, Permissions

__all__ = ["Records"]

_DISK_BYTES = 4 * 2**30
_MAX_NOTES = 4096  # runs, and records that were opened, of which something is remembered
_MAX_LISTS = 64  # users whose list of runs is remembered
_LIST_S = 3.0  # for how long a list of runs is shown again without asking the store
_RUN_S = 1.0  # the same for a single run
_MANIFEST_S = 10.0  # the same for the manifest of a record on another machine
_Value = TypeVar("_Value")


class Records:
    """The records of a store, as far as the present user may read them.

    A run is named by its id, a record by its name or None for the run's usual one.

    Args:
        store: where the runs are.
        permissions: what the present user may do.
        cache_bytes: room for tables in memory. Default: ACTIONTRACK_CACHE_MB, or 512 MiB.
        disk_bytes: room for files that were downloaded from an artifact store.
    """

    def __init__(
        self,
        store: Store,
        *,
        permissions: Permissions | None = None,
        cache_bytes: int | None = None,
        disk_bytes: int = _DISK_BYTES,
    ) -> None:
        self.store = store
        self.permissions: Permissions = permissions or Everybody()
        self._cache = Cache(
            settings.CACHE_MB.value() * 2**20 if cache_bytes is None else cache_bytes
        )
        self._opened = Cache(disk_bytes, _bytes_on_disk)
        self._keys: dict[tuple[str, str, bool], tuple[object, tuple[str, ...]]] = {}
        # By audience: what the store answers one user is not for another.
        self._infos = Notes(_MAX_NOTES)
        self._listed = Notes(_MAX_LISTS)
        self._lock = threading.Lock()

    # Runs

    def runs(self) -> list[RunInfo]:
        """Runs with a record that the user may read, newest first, without those in the trash."""
        infos = self._listed.get(self.permissions.audience(), self._list, seconds=_LIST_S)
        ids = {info.experiment_id for info in infos}
        readable = {one for one in ids if self.permissions.may_read_experiment(one)}
        return [info for info in infos if info.experiment_id in readable]

    def _list(self) -> list[RunInfo]:
        try:
            return self.store.find_runs(RunQuery())
        except NotFoundError:  # no run holds a record yet
            return []

    def run(self, run_id: str, *, at_once: bool = False) -> RunInfo:
        """A run as the store has it, or had it a second ago: a page asks for it many times.

        Args:
            run_id: of the run.
            at_once: ask the store whatever is remembered.

        Raises:
            NotFoundError: if there is none, the user may not read it, or it is in the trash.
        """
        info = self.look_up(run_id, at_once=at_once)
        if not self.permissions.may_read_experiment(info.experiment_id):
            raise NotFoundError(f"run {run_id!r}: not found.")
        if info.deleted:
            raise NotFoundError(
                f"run {run_id!r} is in the trash. Restore it, or its experiment, in MLflow first."
            )
        return info

    def look_up(self, run_id: str, *, at_once: bool = False) -> RunInfo:
        """A run as the store shows it to the user, be it in the trash; see `run`.

        Raises:
            NotFoundError: if there is none.
            ForbiddenError: if the store does not show it.
        """
        key = (self.permissions.audience(), run_id)

        def ask() -> RunInfo:
            return self.store.get_run(run_id, deleted=True)

        return self._infos.renew(key, ask) if at_once else self._infos.get(key, ask, seconds=_RUN_S)

    def folders_of(self, run_ids: Sequence[str]) -> list[Path]:
        """Folders on this machine with artifacts of runs that were looked at before."""
        audience = self.permissions.audience()
        noted = (self._infos.last((audience, run_id)) for run_id in run_ids)
        roots = []
        for info in filter(None, noted):
            with contextlib.suppress(NotFoundError):  # out of what may be read
                roots.append(self.store.local_root(info))
        return [root for root in roots if root is not None]

    # Records

    def open(self, run_id: str, record: str | None = None) -> StoredRecord:
        """An open record whose tables are cached.

        Raises:
            NotFoundError: if there is no such run or record, or the user may not read it.
            CorruptRecordError: if its manifest is damaged.
        """
        info = self.run(run_id)
        return self.open_of(info, choose_record(info, record))

    def open_all(self, run_ids: Sequence[str], record: str | None = None) -> list[StoredRecord]:
        """The records of several runs, see `open`.

        Raises:
            ParameterError: if a run is named twice.
        """
        if len(set(run_ids)) != len(run_ids):
            raise ParameterError("run", "must name each run once", run_ids, "Drop the repeats.")
        return [self.open(run_id, record) for run_id in run_ids]

    def open_of(self, info: RunInfo, name: str, *, as_listed: bool = False) -> StoredRecord:
        """A record of a run that the user may read: as it was opened before, if unchanged.

        Args:
            info: the run.
            name: of the record.
            as_listed: take the manifest from the tags of the run, where they hold it: a list of
                many runs then asks for no file of any.
        """
        listed = listed_text(info, name) if as_listed and not self.store.local_root(info) else ""

        def read() -> StoredRecord:
            return self.store.open_record(info, name, cache=self._cache, as_listed=bool(listed))

        stamp = listed or self._stamp(info, name)
        key = (info.run_id, name, bool(listed))
        noted = self._keys.get(key)
        if noted is not None and noted[0] == stamp:
            opened = self._opened.get(noted[1], read)
        else:
            # In the user's own name: another visitor's refusal must not reach this one.
            fresh = self._infos.together((self.permissions.audience(), *key, stamp), read)
            opened = self._opened.get(fresh.key, lambda: fresh)
            self._note(key, (stamp, fresh.key))
        return opened.with_run(info)

    def version(self, run_ids: Sequence[str], record: str | None = None) -> str:
        """What changes when any of these records does, for ETags."""
        return "-".join(self.open(run_id, record).digest[:16] for run_id in run_ids)

    # Answers

    def ask(
        self,
        question: str,
        run_ids: str | Sequence[str],
        record: str | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """The answer to a question about one run or several, see `questions.ask`."""
        several = [run_ids] if isinstance(run_ids, str) else run_ids
        return questions.ask(question, self.open_all(several, record), options, limited=True)

    def remember(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """The value of a key that names everything it depends on, computed once.

        Raises:
            Exception: what `compute` raises.
        """
        return self._cache.get(key, compute)

    def _note(self, key: tuple[str, str, bool], value: tuple[object, tuple[str, ...]]) -> None:
        """Remember a record that was opened, of the last ones of many."""
        with self._lock:
            self._keys[key] = value
            while len(self._keys) > _MAX_NOTES:
                del self._keys[next(iter(self._keys))]

    def _stamp(self, info: RunInfo, name: str) -> object:
        """What changes when the manifest of a record may have changed."""
        root = self.store.local_root(info)
        if root is None:
            return int(time.monotonic() / _MANIFEST_S)
        try:
            state = (root / ARTIFACT_ROOT / name / MANIFEST).stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_size, state.st_ino


def _bytes_on_disk(record: StoredRecord) -> int:
    """Bytes that a record may take in its scratch folder; of one at hand, about its manifest."""
    if record.store.local_root(record.run) is not None:
        return 2**20
    return sum(entry.bytes for entry in record.manifest.files.values())
