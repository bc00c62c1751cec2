"""What was asked a moment ago, so that a page with many images asks it once."""

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Any, TypeVar

__all__ = ["Notes"]

_Value = TypeVar("_Value")


class Notes:
    """Answers by what was asked, each with its age. Of threads that ask the same, one does.

    Args:
        most: answers that are kept; those that were noted first are forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._pending: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, ask: Callable[[], _Value], *, seconds: float) -> _Value:
        """The answer for a key: a noted one if it is no older than some seconds.

        An error of `ask` reaches every thread that waits, and is not noted. So a key must name
        the user where answers depend on him.
        """
        noted = self._answers.get(key)
        if noted is not None and time.monotonic() - noted[0] <= seconds:
            answer: _Value = noted[1]
            return answer
        return self.together(key, lambda: self.renew(key, ask))

    def renew(self, key: Hashable, ask: Callable[[], _Value]) -> _Value:
        """The answer for a key, asked for now, whatever is noted."""
        asked = time.monotonic()
        answer = ask()
        with self._lock:
            self._answers.pop(key, None)
            self._answers[key] = (asked, answer)
            while len(self._answers) > self._most:
                del self._answers[next(iter(self._answers))]
        return answer

    def together(self, key: Hashable, ask: Callable[[], _Value]) -> _Value:
        """The answer for a key, which threads that ask at the same time share and nobody else."""
        with self._lock:
            pending = self._pending.get(key)
            if pending is None:
                mine: Future[Any] = Future()
                self._pending[key] = mine
        if pending is not None:
            shared: _Value = pending.result()
            return shared
        try:
            answer = ask()
        except BaseException as error:
            self._finish(key)
            mine.set_exception(error)
            raise
        self._finish(key)
        mine.set_result(answer)
        return answer

    def last(self, key: Hashable) -> Any:
        """The answer that was noted last for a key, None without one."""
        noted = self._answers.get(key)
        return None if noted is None else noted[1]

    def _finish(self, key: Hashable) -> None:
        with self._lock:
            del self._pending[key]
