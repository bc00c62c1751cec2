"""How recorders end with their process: after SIGTERM, and where nobody calls finish.

SIGTERM becomes an exception in the main thread, so that ``with`` blocks are left: what is complete
is uploaded, and the run is marked KILLED when the process ends. A handler that the program has set
itself is called in place of that. What is still open when the interpreter ends is finished then,
or closed where the program has failed.
"""

import atexit
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from actiontrack.store import Terminated
from actiontrack.store.active import end_run

__all__ = [
    "Endable",
    "Stopped",
    "close_earlier",
    "forget",
    "mark_terminated",
    "terminated",
    "watch",
]

logger = logging.getLogger("actiontrack")


class Stopped(Terminated, SystemExit):
    """SIGTERM arrived while a record was open.

    A program that does nothing about it ends without a traceback, with exit code 143.
    """

    def __init__(self) -> None:
        """Have the exit code of a program that SIGTERM ends."""
        super().__init__(128 + signal.SIGTERM)
        self.code = 128 + signal.SIGTERM


class Endable(Protocol):
    """What ends with the process."""

    @property
    def folder(self) -> Path | None:
        """The record in the spool."""

    def end_with_process(self, *, failed: bool) -> None:
        """Finish or close the record; never raises."""

    def close(self) -> bool:
        """Stop without finishing."""


class _Process:
    """The recorders that this process has open, and its handler of SIGTERM."""

    def __init__(self, previous: Any = None) -> None:
        self.id = os.getpid()
        self.recorders: list[Endable] = []
        self.runs: set[tuple[str, str]] = set()
        self.terminated = self.has_exit_hook = False
        self.previous = previous


_process = _Process()


def watch(recorder: Endable) -> None:
    """Take care of a recorder until `forget`."""
    global _process  # noqa: PLW0603 - a forked process has none of the recorders of its parent
    if _process.id != os.getpid():
        _process = _Process(_process.previous)  # the handler is forked with the process
    if not _process.has_exit_hook:
        _process.has_exit_hook = True
        atexit.register(_at_exit)
    _process.recorders.append(recorder)
    _install()


def forget(recorder: Endable) -> None:
    """A recorder has ended; with the last one the handler of SIGTERM is what it was before."""
    _process.recorders = [other for other in _process.recorders if other is not recorder]
    if not _process.recorders:
        _restore()


def close_earlier(folder: Path) -> None:
    """Close the recorder that this process has open for the record of a folder, if any."""
    for recorder in list(_process.recorders):
        if recorder.folder == folder:
            logger.warning(
                "record %s: an earlier recorder of this process is closed, and a new one goes on "
                "after its last epoch.",
                folder.name,
            )
            recorder.close()


def terminated() -> bool:
    """Whether SIGTERM has ended the program while a recorder was open."""
    return _process.terminated


def mark_terminated(tracking_uri: str, run_id: str) -> None:
    """Mark a run KILLED when this process ends: its status may still be set by its own block."""
    _process.runs.add((tracking_uri, run_id))


def _install() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    current = signal.getsignal(signal.SIGTERM)
    # None: a handler that is not Python's, which can't be called from here.
    if current not in {None, signal.SIG_IGN, _on_sigterm}:
        _process.previous = current
        signal.signal(signal.SIGTERM, _on_sigterm)


def _restore() -> None:
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) is _on_sigterm:
        signal.signal(signal.SIGTERM, _process.previous)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    ours = _process.id == os.getpid() and bool(_process.recorders)
    if callable(_process.previous):
        try:
            _process.previous(signum, frame)
        except BaseException:
            _process.terminated |= ours
            raise
    elif ours:
        _process.terminated = True
        raise Stopped
    else:  # a forked process, or one whose recorders have all ended
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def _at_exit() -> None:
    if _process.id != os.getpid():
        return
    failed = _process.terminated or getattr(sys, "last_value", None) is not None
    for recorder in list(_process.recorders):
        recorder.end_with_process(failed=failed)
    for tracking_uri, run_id in sorted(_process.runs):
        end_run("KILLED", run_id, tracking_uri)
