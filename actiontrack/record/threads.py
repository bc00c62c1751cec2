"""Work in a few threads, also while the interpreter ends."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_threads"]

_Item = TypeVar("_Item")


def in_threads(function: Callable[[_Item], None], items: Iterable[_Item], n_threads: int) -> None:
    """Call a function for every item, some of them at once.

    An interpreter that ends starts no thread any more: then one call follows the other. After an
    error no further call begins.

    Args:
        function: called once for each item, in any order.
        items: what it is called with.
        n_threads: calls at once.

    Raises:
        Exception: the first error of a call.
    """
    remaining = list(items)
    with ThreadPoolExecutor(n_threads) as pool:
        calls = []
        try:
            while remaining:
                calls.append(pool.submit(function, remaining[0]))
                remaining.pop(0)
        except RuntimeError:  # of `submit`: the interpreter ends
            for item in remaining:
                function(item)
        try:
            for call in calls:
                call.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
