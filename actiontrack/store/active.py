"""The active run of MLflow, and how it ends."""

import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any

from actiontrack.errors import ActionTrackError
from actiontrack.store.patience import limited
from actiontrack.store.translation import translated

__all__ = [
    "Terminated",
    "active_run",
    "active_run_id",
    "end_run",
    "set_parent",
]

logger = logging.getLogger("actiontrack")
_PARENT_TAG = "mlflow.parentRunId"
_TIMEOUT_S = 5  # of a request of a run that ends


class Terminated(BaseException):
    """SIGTERM arrived: the run is marked KILLED after what was recorded is safe."""


@contextlib.contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    """Let SIGTERM raise `Terminated`, so that a run ends as KILLED."""

    def terminate(signum: int, _frame: FrameType | None) -> None:
        raise Terminated(signum)

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # only the main thread may handle signals
        yield
        return
    try:
        yield
    finally:
        # None stands for a handler that Python did not install and can't put back.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


@contextlib.contextmanager
def active_run(
    tracking_uri: str, *, run_id: str | None, name: str | None, nested: bool
) -> Iterator[Any]:
    """MLflow's active run, FINISHED, FAILED or KILLED at the end; see `Store.run`."""
    import mlflow  # noqa: PLC0415

    mlflow.set_tracking_uri(tracking_uri)
    with _sigterm_as_exception():
        with translated(f"run {run_id}" if run_id else "a new run"):
            active = mlflow.start_run(run_id=run_id, run_name=name, nested=nested)
        try:
            yield active
        except (Terminated, KeyboardInterrupt):
            end_run("KILLED", active_run_id())
            raise
        except BaseException:
            end_run("FAILED", active_run_id())
            raise
        end_run("FINISHED", active_run_id())


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


def end_run(status: str, run_id: str | None, tracking_uri: str | None = None) -> None:
    """Set the status of a run; where the server is away, a warning says that it is not saved.

    The run ends in MLflow's own view too, if it is the active one.

    Args:
        status: such as "KILLED".
        run_id: the run. None, where no run is active, ends none.
        tracking_uri: where the run is. Default: where MLflow looks.
    """
    import mlflow  # noqa: PLC0415

    if run_id is None:
        return
    try:
        with limited(timeout_s=_TIMEOUT_S), translated(f"run {run_id}"):
            if run_id == active_run_id():
                mlflow.end_run(status)
            else:
                mlflow.MlflowClient(tracking_uri=tracking_uri).set_terminated(run_id, status)
    except ActionTrackError as error:
        logger.warning("the status %s of run %s is not saved: %s", status, run_id, error)
