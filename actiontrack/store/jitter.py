"""Pauses between MLflow's attempts, drawn apart from the random numbers of a training.

Where two clients write a tag of a run at the same moment, or a server does not answer, MLflow waits
before it tries again, and draws how long from Python's own generator (3.17.2: in the modules
below). A thread that uploads beside a training would so change what the training draws next.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from actiontrack.store.addresses import address_of

__all__ = ["drawn_apart"]

_MODULES = {
    "database": ("mlflow.store.tracking.sqlalchemy_store",),
    "server": ("mlflow.utils.rest_utils", "mlflow.utils.request_utils"),
}
_thread = threading.local()


class _Apart(ModuleType):
    """Python's `random`, but for threads that draw apart."""

    def __init__(self) -> None:
        super().__init__("random")
        self._generator = random.Random()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._generator if getattr(_thread, "apart", False) else random, name)


_apart = _Apart()


@contextmanager
def drawn_apart(tracking_uri: str) -> Iterator[None]:
    """Let what MLflow draws in this thread leave Python's own generator alone.

    Args:
        tracking_uri: the server or store that is spoken to.
    """
    for name in _MODULES.get(address_of(tracking_uri).kind, ()):
        module: Any = import_module(name)
        if getattr(module, "random", None) is random:
            module.random = _apart
    before = getattr(_thread, "apart", False)
    _thread.apart = True
    try:
        yield
    finally:
        _thread.apart = before
