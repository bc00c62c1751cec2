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

from typing import ClassVar

from actiontrack.redaction import redact

__all__ = [
    "ActionTrackError",
    "CorruptRecordError",
    "DataError",
    "MissingDependencyError",
    "NotComparableError",
    "NotFoundError",
    "ParameterError",
    "RecordingError",
    "StoreError",
    "ThresholdError",
]


_LONGEST_VALUE = 500  # characters of a value that a message shows


class ActionTrackError(Exception):
    """Base of all errors raised on purpose by actiontrack; no message shows a secret."""

    exit_code: ClassVar[int] = 1

    def __init__(self, *parts: object) -> None:
        """Keep the parts, texts among them without secrets."""
        super().__init__(*(redact(each) if isinstance(each, str) else each for each in parts))


class ParameterError(ActionTrackError, ValueError):
    """A wrong argument: the message names the argument, the rule, the value and the remedy."""

    exit_code: ClassVar[int] = 2

    def __init__(self, argument: str, rule: str, value: object, remedy: str) -> None:
        """Build the message ``argument: rule, got value. remedy``."""
        self.argument, self.rule, self.value, self.remedy = argument, rule, value, remedy
        shown = repr(value)
        if len(shown) > _LONGEST_VALUE:
            shown = f"{shown[:_LONGEST_VALUE]}… ({len(shown)} characters)"
        super().__init__(f"{argument}: {rule}, got {shown}. {remedy}")

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
