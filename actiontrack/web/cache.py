"""A cache that is bounded by bytes, and computes each value once, in one thread."""

import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

import numpy as np
import pandas as pd

__all__ = ["Cache", "size_of"]

_Value = TypeVar("_Value")


class Cache:
    """The values that were asked for last, up to a number of bytes.

    Values are shared between threads: whoever gets one must not change it.

    Args:
        max_bytes: room for values. A single larger value is handed out and not kept.
        size: bytes of a value. Default: `size_of`.
    """

    def __init__(self, max_bytes: int, size: Callable[[Any], int] | None = None) -> None:
        self.max_bytes = max_bytes
        self._size = size or size_of
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._under_way: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()
        self._bytes = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the values that are kept."""
        return self._bytes

    def __len__(self) -> int:
        """Number of values that are kept."""
        return len(self._kept)

    def get(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """The value of a key, computed unless it is kept or another thread is computing it.

        An error of `compute` reaches every thread that waits, and is not kept.
        """
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return cast("_Value", self._kept[key][0])
            waiting = self._under_way.get(key)
            if waiting is None:
                mine: Future[Any] = Future()
                self._under_way[key] = mine
        if waiting is not None:
            return cast("_Value", waiting.result())
        try:
            value = compute()
        except BaseException as error:
            with self._lock:
                del self._under_way[key]
            mine.set_exception(error)
            raise
        self._keep(key, value)
        mine.set_result(value)
        return value

    def _keep(self, key: Hashable, value: Any) -> None:
        size = self._size(value)
        with self._lock:
            del self._under_way[key]
            if size > self.max_bytes:
                return
            self._kept[key] = (value, size)
            self._bytes += size
            while self._bytes > self.max_bytes:
                _, (_, freed) = self._kept.popitem(last=False)
                self._bytes -= freed


def size_of(value: Any) -> int:
    """Bytes that a value of ours takes: frames, arrays, bytes, and what is made of them.

    >>> size_of(np.zeros(1000)), size_of(b"12345678") < 100
    (8000, True)
    """
    if isinstance(value, pd.DataFrame):
        return int(value.memory_usage(deep=True).sum())
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, tuple | list):
        return sys.getsizeof(value) + sum(size_of(each) for each in value)
    if isinstance(value, dict):
        return sys.getsizeof(value) + sum(size_of(each) for each in value.values())
    if is_dataclass(value):
        return sum(size_of(getattr(value, each.name)) for each in fields(value))
    return sys.getsizeof(value)
