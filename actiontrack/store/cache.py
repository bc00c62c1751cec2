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

from actiontrack.store.translation import REFUSALS

__all__ = ["PRIVATE_BYTES", "Cache", "size_of"]

#: Room of the cache of one report, of the records that are loaded together, or of a lone record.
PRIVATE_BYTES = 256 * 2**20

_Value = TypeVar("_Value")


class Cache:
    """The values that were asked for last, up to a number of bytes.

    Values are shared between threads: whoever gets one must not change it.

    Args:
        max_bytes: room for values. A single larger value is returned but not stored.
        size: bytes of a value. Default: `size_of`.
        retried: errors that a thread does not share with those that wait for it: they try
            themselves. Default: refusals, since whoever waits may have the right.
    """

    def __init__(
        self,
        max_bytes: int,
        size: Callable[[Any], int] | None = None,
        *,
        retried: tuple[type[Exception], ...] = REFUSALS,
    ) -> None:
        self.max_bytes = max_bytes
        self._size = size or size_of
        self._retried = retried
        self._values: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._pending: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()
        self._bytes = 0

    @property
    def n_bytes(self) -> int:
        """Bytes of the stored values."""
        return self._bytes

    def __len__(self) -> int:
        """Number of stored values."""
        return len(self._values)

    def __contains__(self, key: Hashable) -> bool:
        """Whether the value of a key is stored."""
        return key in self._values

    def get(self, key: Hashable, compute: Callable[[], _Value]) -> _Value:
        """The value of a key, computed unless it is stored or another thread is computing it.

        An error of `compute`, or of what measures the value, reaches every thread that waits,
        unless it is to be retried, and is not stored.
        """
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return cast("_Value", self._values[key][0])
            pending = self._pending.get(key)
            if pending is None:
                result: Future[Any] = Future()
                self._pending[key] = result
        if pending is not None:
            try:
                return cast("_Value", pending.result())
            except self._retried:
                return self.get(key, compute)
        try:
            value = compute()
            # Where nothing has room, to measure a frame would take longer than to make it.
            size = self._size(value) if self.max_bytes else 1
        except BaseException as error:
            with self._lock:
                del self._pending[key]
            result.set_exception(error)
            raise
        self._store(key, value, size)
        result.set_result(value)
        return value

    def _store(self, key: Hashable, value: Any, size: int) -> None:
        with self._lock:
            del self._pending[key]
            if size > self.max_bytes:
                return
            self._values[key] = (value, size)
            self._bytes += size
            while self._bytes > self.max_bytes:
                _, (_, freed) = self._values.popitem(last=False)
                self._bytes -= freed


def size_of(value: Any) -> int:
    """Bytes of a value: frames, arrays, bytes, and sequences, mappings and dataclasses of them.

    >>> size_of(np.zeros(1000)), size_of(b"12345678") < 100
    (8000, True)
    """
    if isinstance(value, pd.DataFrame):
        return int(value.memory_usage(deep=True).sum())
    if isinstance(value, np.ndarray):
        return int(value.nbytes)
    if isinstance(value, tuple | list):
        return sys.getsizeof(value) + sum(size_of(item) for item in value)
    if isinstance(value, dict):
        return sys.getsizeof(value) + sum(size_of(item) for item in value.values())
    if is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in fields(value))
    return sys.getsizeof(value)
