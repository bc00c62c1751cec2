"""Work in a few threads, also while the interpreter ends."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TypeVar

__all__ = ["in_this_context", "in_threads"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def in_this_context(function: Callable[[_Item], _Result]) -> Callable[[_Item], _Result]:
    """A function for threads: it works with the context variables that are set here and now."""
    context = copy_context()
    # A copy for each call: a context can be entered by one thread at a time.
    return lambda item: context.copy().run(function, item)


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
    function = in_this_context(function)
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
