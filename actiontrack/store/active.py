"""The active run of MLflow, and how it ends."""

import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from actiontrack.errors import ActionTrackError
from actiontrack.store.translation import translated

__all__ = [
    "Terminated",
    "active_run",
    "active_run_id",
    "impatient",
    "set_parent",
    "sigterm_as_exception",
]

logger = logging.getLogger("actiontrack")
_PARENT_TAG = "mlflow.parentRunId"


class Terminated(BaseException):
    """SIGTERM arrived: the run is marked KILLED after what was recorded is safe."""


@contextlib.contextmanager
def impatient() -> Iterator[None]:
    """MLflow gives up within seconds instead of minutes."""
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {name: os.environ.get(name) for name in limits}
    os.environ.update(limits)
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
    except ValueError:  # only the main thread may handle signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def active_run(
    tracking_uri: str, *, run_id: str | None, name: str | None, nested: bool
) -> Iterator[Any]:
    """MLflow's active run, FINISHED, FAILED or KILLED at the end; see `Store.run`."""
    import mlflow  # noqa: PLC0415

    mlflow.set_tracking_uri(tracking_uri)
    with translated(f"run {run_id}" if run_id else "a new run"), sigterm_as_exception():
        active = mlflow.start_run(run_id=run_id, run_name=name, nested=nested)
    with sigterm_as_exception():
        try:
            yield active
        except (Terminated, KeyboardInterrupt):
            _end_run("KILLED")
            raise
        except BaseException:
            _end_run("FAILED")
            raise
        _end_run("FINISHED")


def active_run_id() -> str | None:
    """Id of the run that is active in this process, if any."""
    import mlflow  # noqa: PLC0415

    active = mlflow.active_run()
    return active.info.run_id if active else None


def set_parent(client: Any, run_id: str, parent: str | None) -> None:
    """Make a run the child of another run, or of none."""
    with translated(f"tags of run {run_id}"):
        if parent is None:
            client.delete_tag(run_id, _PARENT_TAG)
        else:
            client.set_tag(run_id, _PARENT_TAG, parent)


def _end_run(status: str) -> None:
    import mlflow  # noqa: PLC0415

    run_id = active_run_id()
    try:
        with impatient(), translated(f"run {run_id}"):
            mlflow.end_run(status)
    except ActionTrackError as error:
        logger.warning("the status %s of run %s is not saved: %s", status, run_id, error)
