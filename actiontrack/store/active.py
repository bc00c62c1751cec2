"""The active run of MLflow, and how it ends."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

__all__ = [
    "PARENT_TAG",
    "Terminated",
    "impatient",
    "sigterm_as_exception",
]

PARENT_TAG = "mlflow.parentRunId"


class Terminated(BaseException):
    """SIGTERM arrived: the run is marked KILLED after what was recorded is safe."""


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """MLflow gives up within seconds instead of minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def sigterm_as_exception() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, so that a run ends as KILLED."""

    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Terminated(signum, frame is None)

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
