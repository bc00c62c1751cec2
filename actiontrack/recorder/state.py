"""What a recorder knows of itself between two calls, and whether it may be called at all."""

import os
import threading
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, NoReturn

from actiontrack.errors import RecordingError
from actiontrack.recorder.epoch import EpochBuffer

__all__ = ["RecorderState"]


def _now() -> float:
    return monotonic()


@dataclass
class RecorderState:
    """The state of one recorder.

    Attributes:
        record: name of the record, for messages.
        buffer: batches of the present epoch.
        lock: held during each call; signals may come in the middle of one.
        closed: whether the recorder has ended.
        finished: whether it ended by `finish`.
        exiting: whether the program ends, and nothing may be shown.
        left: whether its ``with`` block has been left.
        synced: whether everything was in the artifact store when it ended.
        given_losses: whether the latest batch brought losses of its own.
        n_classes: classes of the latest outputs, or None.
        looked_at_logits: whether the first logits have been set aside to be looked at.
        first_outputs: those logits, until the epoch ends.
        warned_of_zero: whether the user was warned about an epoch 0.
        last_end: when the last recorded epoch ended, in seconds of a monotonic clock.
        process: id of the process that opened the recorder.
    """

    record: str
    buffer: EpochBuffer = field(default_factory=EpochBuffer)
    lock: Any = field(default_factory=threading.RLock)
    closed: bool = False
    finished: bool = False
    exiting: bool = False
    left: bool = False
    synced: bool = False
    given_losses: bool = False
    n_classes: int | None = None
    looked_at_logits: bool = False
    first_outputs: Any = None
    warned_of_zero: bool = False
    last_end: float = field(default_factory=_now)
    process: int = field(default_factory=os.getpid)

    @property
    def seconds(self) -> float:
        """Time since the last recorded epoch ended, in seconds."""
        return _now() - self.last_end

    def recorded(self) -> None:
        """An epoch was recorded now."""
        self.last_end = _now()

    def check_open(self, call: str) -> None:
        """Refuse a call after the end, or in a forked process.

        Raises:
            RecordingError: names the call and the remedy.
        """
        if self.closed:
            raise RecordingError(
                f"{call}: the record {self.record} is closed, what comes now would be lost. Call "
                "it inside the with block and before finish or close, or continue the record with "
                "Recorder(..., resume=True)."
            )
        if os.getpid() != self.process:
            raise RecordingError(
                f"{call}: the recorder of {self.record} belongs to process {self.process}, and "
                "this one was forked from it. Record in the process that opened it, or pass "
                "gather."
            )

    def check_ended(self) -> None:
        """Refuse an epoch that was begun and not ended.

        Raises:
            RecordingError: if there are batches after the last epoch.
        """
        if len(self.buffer):
            raise RecordingError(
                f"record {self.record} has {len(self.buffer)} batches after its last epoch. "
                "Call end_epoch to keep them or discard_epoch to drop them."
            )

    def refuse_copy(self) -> NoReturn:
        """Refuse pickling, copying and being sent to a spawned process.

        Raises:
            RecordingError: says what to do in place of that.
        """
        raise RecordingError(
            f"the recorder of {self.record} can't be pickled or copied, nor sent to another "
            "process: it holds a lock and an upload of this one. Hand over run_id and open a "
            "recorder there, or leave the recorder out of what is copied."
        )
