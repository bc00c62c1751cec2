"""Files that can't be written, as one error with one message."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from actiontrack.errors import StoreError

__all__ = ["writing"]


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
