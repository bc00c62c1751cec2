"""Answers from a moment ago, so that a page with many images asks for each of them once."""

import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from actiontrack.store.cache import Cache

__all__ = ["Notes"]

_Value = TypeVar("_Value")


class Notes:
    """Answers to questions, each with its age.

    Of several threads with the same question, only one asks it.

    Args:
        most: answers that are kept; those that were noted first are forgotten.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._flights = Cache(0, retried=())  # no room to keep anything: only to share it
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
            noted = self._answers.get(key)
            if noted is not None and noted[0] > asked:  # asked for later, answered sooner
                return answer
            self._answers.pop(key, None)
            self._answers[key] = (asked, answer)
            while len(self._answers) > self._most:
                del self._answers[next(iter(self._answers))]
        return answer

    def together(self, key: Hashable, ask: Callable[[], _Value]) -> _Value:
        """The answer for a key, shared by threads that ask at the same time and by no others."""
        return self._flights.get(key, ask)

    def last(self, key: Hashable) -> Any:
        """The answer that was noted last for a key, None without one."""
        noted = self._answers.get(key)
        return None if noted is None else noted[1]
