"""Names of files that are added to a record: the time first, then a mark of their own.

Whoever adds one at once never loses that of another.
"""

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

__all__ = ["next_time", "submission_name", "time_of"]

_TIME = "%Y%m%dT%H%M%S.%fZ"  # at the beginning of a file's name
_TICK = timedelta(microseconds=1)


def submission_name(time: datetime, mark: str, suffix: str) -> str:
    """Name of a file: its time and a mark of its own."""
    return f"{time:{_TIME}}-{mark}{suffix}"


def next_time(paths: Sequence[str]) -> datetime:
    """The time, or just after the newest file: a clock that was set back must not order them."""
    now = datetime.now(UTC)
    for path in reversed(paths):
        with contextlib.suppress(ValueError, OverflowError):  # no name of ours
            return max(now, time_of(path) + _TICK)
    return now


def time_of(path: str) -> datetime:
    """When a file was written, by its name.

    Raises:
        ValueError: if its name does not begin with a time.
    """
    written = path.rpartition("/")[2].partition("-")[0]
    return datetime.strptime(written, _TIME).replace(tzinfo=UTC)
