"""The error tree. Every error that a user can meet is one of these, with one clear message.

::

    ActionTrackError
    ├── ParameterError          a wrong argument, option or configuration value   (exit code 2)
    ├── RecordingError          what a recorder refuses: ids, shapes, losses      (exit code 3)
    ├── NotFoundError           an unknown run, a run without a record, no match  (exit code 4)
    ├── NotComparableError      runs whose samples, mode, loss or Δn differ       (exit code 5)
    ├── CorruptRecordError      a damaged, truncated or too new record            (exit code 6)
    ├── StoreError              the tracking server or the disk fails             (exit code 7)
    ├── DataError               a missing data folder, an image that won't decode (exit code 8)
    ├── MissingDependencyError  an optional package is not installed              (exit code 9)
    └── ThresholdError          what was compared changed by more than was asked  (exit code 10)
"""

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

__all__ = [
    "ActionTrackError",
    "CorruptRecordError",
    "DataError",
    "MissingDependencyError",
    "NotComparableError",
    "NotFoundError",
    "ParameterError",
    "RecordingError",
    "RedactingFilter",
    "StoreError",
    "ThresholdError",
    "check_choice",
    "reason_of",
    "redact",
    "writing",
]


_LONGEST_VALUE = 500  # characters of a value that a message shows


class ActionTrackError(Exception):
    """Base of all errors raised on purpose by actiontrack; no message shows a secret."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *parts: object) -> None:
        """Keep the parts, texts among them without secrets."""
        super().__init__(*(redact(part) if isinstance(part, str) else part for part in parts))


class ParameterError(ActionTrackError, ValueError):
    """A wrong argument: the message names the argument, the rule, the value and the remedy."""

    exit_code: ClassVar[int] = 2

    def __init__(self, argument: str, rule: str, value: object, remedy: str) -> None:
        """Build the message ``argument: rule, got value. remedy``."""
        self.argument, self.rule, self.value, self.remedy = argument, rule, value, remedy
        text = redact(repr(value))  # before it is cut: half of a secret is not recognised
        if len(text) > _LONGEST_VALUE:
            text = f"{text[:_LONGEST_VALUE]}… ({len(text)} characters)"
        super().__init__(f"{argument}: {rule}, got {text}. {remedy}")

    def __reduce__(self) -> tuple[type["ParameterError"], tuple[str, str, object, str]]:
        """Survive pickling between processes with all four parts."""
        return type(self), (self.argument, self.rule, self.value, self.remedy)


class RecordingError(ActionTrackError):
    """The recorder refuses what it was given; what it holds already is safe."""

    exit_code: ClassVar[int] = 3


class NotFoundError(ActionTrackError, LookupError):
    """No such run, record, sample or file."""

    exit_code: ClassVar[int] = 4


class NotComparableError(ActionTrackError):
    """The runs do not measure the same thing on the same samples."""

    exit_code: ClassVar[int] = 5


class CorruptRecordError(ActionTrackError):
    """The record's files do not match its manifest, or this version can't read them."""

    exit_code: ClassVar[int] = 6


class StoreError(ActionTrackError):
    """The tracking server, the artifact store or the local disk failed."""

    exit_code: ClassVar[int] = 7


class DataError(ActionTrackError):
    """A dataset is missing, malformed or unreadable."""

    exit_code: ClassVar[int] = 8


class MissingDependencyError(ActionTrackError, ImportError):
    """An optional package is missing; the message names the pip command."""

    exit_code: ClassVar[int] = 9


class ThresholdError(ActionTrackError):
    """A change crossed the threshold that a job was to watch."""

    exit_code: ClassVar[int] = 10


_SHOWN = "***"
_USER_INFO = re.compile(r"(?<=://)([^/\s:@'\"]*):([^/\s'\"]*)(?=@)")
_NAMED = re.compile(
    r"(?i)\b([a-z0-9_-]{0,32}(?:password|passwd|secret|api_?key|access_?key|signature)"
    r"(?:[_-](?:id|key))?|(?:[a-z0-9]{1,16}[_-]){0,4}(?:pwd|token|sig))"
    r"(\s{0,4}=\s{0,4}['\"]?|%3D)([^&\s'\",;)]+)"
)

# What MLflow, its stores and we take secrets from.
_VARIABLES = (
    "ACTIONTRACK_ID_SALT",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_CLIENT_SECRET",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_CONNECTION_STRING",
    "DATABRICKS_TOKEN",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "PGPASSWORD",
)

_SHORTEST = 8  # stars for a word such as "test" would hide half of a text, and tell the secret


def redact(text: str) -> str:
    """A text with stars for passwords of addresses, options named like secrets, and secrets.

    Secrets are those of the environment, such as AWS_SECRET_ACCESS_KEY.
    """
    for name in _VARIABLES:
        value = os.environ.get(name, "")
        if len(value) >= _SHORTEST:
            text = text.replace(value, _SHOWN)
    if "://" in text:
        text = _USER_INFO.sub(rf"\1:{_SHOWN}", text)
    return _NAMED.sub(rf"\1\2{_SHOWN}", text) if "=" in text or "%3D" in text else text


class RedactingFilter(logging.Filter):
    """Redacts what a logger says, tracebacks with it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let everything through, without secrets."""
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:  # which a handler before may have made
            record.exc_text = redact(record.exc_text)
        return True


def reason_of(error: BaseException) -> str:
    """The first line of what an error says, without a full stop; its class if it says nothing.

    >>> reason_of(OSError("no such host.")), reason_of(TimeoutError())
    ('no such host', 'TimeoutError')
    """
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".")


def check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a value that is not one of the choices.

    Raises:
        ParameterError: names the argument, the choices and the value.
    """
    if value not in choices:
        rule = f"must be one of {', '.join(choices)}"
        raise ParameterError(argument, rule, value, "Choose one of these.")


@contextmanager
def writing(place: Path, what: str = "folder") -> Iterator[None]:
    """Turn what the disk says while something is written into a `StoreError`.

    Args:
        place: the file or folder that is written, for the message.
        what: what the user has to choose another of.

    Raises:
        StoreError: if it can't be written.
    """
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {place}: {error.strerror or error}. Choose a {what} that can be written."
        ) from error
