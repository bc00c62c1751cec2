"""A record that is open: what it is called, how it stands, and how it ends."""

import contextlib
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import pandas as pd

from actiontrack.record.manifest import Manifest
from actiontrack.recorder import ending
from actiontrack.recorder.context import FinishOnExit
from actiontrack.recorder.epoch import EpochBuffer
from actiontrack.recorder.null_writer import NullWriter
from actiontrack.recorder.result import Shows
from actiontrack.recorder.state import RecorderState
from actiontrack.store import Store, StoredRecord
from actiontrack.store.notebook import facts_html

__all__ = ["OpenRecord"]

logger = logging.getLogger("actiontrack")


class OpenRecord(FinishOnExit):
    """A record that this process has open, from the first epoch to its end.

    One call is finished before the next begins, whichever threads they come from. It can't be
    pickled, copied or used in a forked process.

    SIGTERM raises `actiontrack.store.Terminated` in the main thread while a record is open, unless
    the program handles SIGTERM itself: blocks are left, what is complete is uploaded, and the run
    ends as KILLED. A record that is still open when the program ends is finished then, or closed
    where the program has failed.

    Args:
        manifest: the record as it was asked for.
        writer: what writes it.
        shows: what it shows when it has finished. Default: nothing.
    """

    def __init__(self, manifest: Manifest, writer: NullWriter, shows: Shows | None = None) -> None:
        self._manifest, self._writer = manifest, writer
        self._state = RecorderState(manifest.name)
        self._shows = Shows(verbose=False, report=False) if shows is None else shows
        self._result: tuple[StoredRecord, Store] | None = None
        if writer.writes:
            ending.watch(self)

    def __enter__(self) -> Self:
        """The recorder itself; leaving the block finishes the record, or closes it on an error."""
        self._state.check_open("with")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish after a normal end; after an error keep and upload what is complete."""
        try:
            if not self._state.closed:
                super().__exit__(kind, error, trace)
        finally:
            self._state.left = True

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        """Refuse to be pickled or copied.

        Raises:
            RecordingError: always.
        """
        self._state.refuse_copy()

    def _repr_html_(self) -> str:
        """Show itself in a notebook: what it holds so far, or once finished its hardest samples."""
        if self._result is not None:
            return self._shows.html(self._result[0])
        state = "closed" if self.closed else "open"
        facts = {"run": self.run_id or "of another process", "state": state}
        return facts_html(f"Record {self.name}", facts | {"last step": self.last_step})

    @property
    def name(self) -> str:
        """Name of the record, such as "test-probe"."""
        return self._manifest.name

    @property
    def run_id(self) -> str | None:
        """The MLflow run, or None on a process that does not write."""
        return self._writer.run_id

    @property
    def folder(self) -> Path | None:
        """The record in the spool, or None on a process that does not write."""
        return self._writer.folder

    @property
    def closed(self) -> bool:
        """Whether the recorder has ended, by `finish`, `close` or the end of its block."""
        return self._state.closed

    @property
    def synced(self) -> bool:
        """Whether everything recorded so far is in the artifact store."""
        return self._state.synced if self._state.closed else self._writer.synced

    @property
    def error(self) -> str:
        """Why the last attempt to upload failed, or the empty string."""
        return self._writer.error

    @property
    def last_step(self) -> int | None:
        """Number of the last recorded epoch, or None."""
        return self._writer.last_step

    @property
    def notes(self) -> Mapping[str, str]:
        """What `note` says of this record; empty on a process that does not write."""
        return self._writer.notes

    def note(self, name: str, text: str) -> None:
        """Keep a remark on how the record came about, in its manifest and as a tag of the run.

        The tag is ``actiontrack.<record>.<name>``. A remark of the same name is replaced.

        Args:
            name: letters, digits, dots and underscores.
            text: the remark.
        """
        with self._state.lock:
            self._writer.note(name, text)

    def finish(self) -> bool:
        """Write the scores, mark the record complete and wait for the upload.

        Returns:
            Whether everything is in the artifact store. If not, a warning says why and where the
            spool is, and `actiontrack sync` uploads it later.

        Raises:
            RecordingError: if an epoch was begun and not ended, or the recorder was closed before,
                or its block has been left.
        """
        state = self._state
        with state.lock:
            if state.closed and state.finished and not state.left:
                return state.synced
            state.check_open("finish")
            state.check_ended()
            self._writer.finish(self._attach_last)
            self._end(complete=True)
            self._tell(stacklevel=3)
        self._show()
        return state.synced

    def close(self) -> bool:
        """Stop without finishing: the record stays marked as unfinished, and readable.

        The samples of an interrupted epoch are counted in the manifest; no score includes them.

        Returns:
            Whether everything is in the artifact store.
        """
        with self._state.lock:
            if not self._state.closed:
                self._count_interrupted()
                self._end(complete=False)
        return self._state.synced

    def discard_epoch(self) -> None:
        """Drop the batches since the last epoch, as after a restart of the training."""
        with self._state.lock:
            self._state.buffer = EpochBuffer()
            self._writer.discard_maps()

    def end_with_process(self, *, failed: bool) -> None:
        """Finish or close a record that the program has left open; never raises.

        Args:
            failed: whether the program ends with an error or by SIGTERM.
        """
        try:
            if failed or len(self._state.buffer):
                self.close()
                outcome = "is marked as unfinished"
            else:
                self._state.exiting = True  # nothing is drawn any more
                self.finish()
                outcome = "was finished now"
            if not failed:
                logger.warning(
                    "record %s of run %s: the program ended without finish(), the record %s. Use "
                    "a with block, or call finish() after the last epoch.",
                    *(self.name, self.run_id, outcome),
                )
        except Exception as error:  # noqa: BLE001 - the program is over, and its exit code is set
            logger.warning(
                "record %s is not finished: %s It is in %s: upload it with 'actiontrack sync'.",
                *(self.name, error, self.folder),
            )

    # How

    def _uploaded(self, folder: Path, store: Store, run_id: str) -> None:
        """Open the record while it is here, to show it."""
        if not self._state.exiting:
            record = self._shows.opened(folder, store, run_id)
            self._result = None if record is None else (record, store)

    def _show(self) -> None:
        if self._result is not None:
            self._shows.show(*self._result)

    def _attach_last(self, scores: pd.DataFrame) -> None:
        """Add what belongs to the complete record; the scores are known now."""

    def _end(self, *, complete: bool) -> None:
        state = self._state
        state.synced = self._writer.close(complete=complete, uploaded=self._uploaded)
        state.closed, state.finished = True, complete
        ending.forget(self)
        if not complete and ending.terminated() and self._writer.tracking_uri and self.run_id:
            ending.mark_terminated(self._writer.tracking_uri, self.run_id)

    def _count_interrupted(self) -> None:
        if not self._writer.writes or not len(self._state.buffer):
            return
        # Called after an error, which may be about these very batches: it must not be hidden. A
        # signal may have come in the middle of a batch: then there is nothing sound to count.
        with contextlib.suppress(Exception):
            rows = self._state.buffer.rows(None)
            if rows is not None:
                self._writer.count_interrupted(rows)

    def _loss_name(self) -> str:
        default = "loss" if self._state.given_losses else "cross_entropy"
        return self._manifest.loss_name or default

    def _tell(self, *, stacklevel: int) -> None:
        for text in self._writer.notices():
            warnings.warn(text, stacklevel=stacklevel)
