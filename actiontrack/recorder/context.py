"""What a recorder and every adapter do at the end of a with block."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

__all__ = ["FinishOnExit"]


class FinishOnExit(ABC):
    """A context manager that finishes after a normal end and closes after any end."""

    def __enter__(self) -> Self:
        """The object itself; leaving the block finishes the record."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish after a normal end; after an error keep and upload what is complete."""
        try:
            if kind is None:
                self.finish()
        finally:
            self.close()

    @abstractmethod
    def finish(self) -> bool:
        """Mark the record complete and upload it. Returns whether all of it is uploaded."""

    @abstractmethod
    def close(self) -> bool:
        """Stop without finishing. Returns whether everything recorded is uploaded."""
