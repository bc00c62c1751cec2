"""What a process that is about to end, or must not wait, asks of the tracking server."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from typing import Any

from actiontrack.errors import ActionTrackError
from actiontrack.store.active import impatient
from actiontrack.store.translation import translated

__all__ = ["few_retries", "mark_killed"]

logger = logging.getLogger("actiontrack")

_RETRIES = 1
_thread = threading.local()


@contextlib.contextmanager
def few_retries() -> Iterator[None]:
    """Requests of this thread to MLflow's server are repeated once at most.

    MLflow waits between its attempts, up to a minute and more, and does not notice meanwhile that
    the server is back. Who tries again by itself is better off without. Other threads are as
    patient as their environment says.
    """
    _make_retries_a_matter_of_the_thread()
    before = getattr(_thread, "impatient", False)
    _thread.impatient = True
    try:
        yield
    finally:
        _thread.impatient = before


def _make_retries_a_matter_of_the_thread() -> None:
    from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES  # noqa: PLC0415

    variable: Any = MLFLOW_HTTP_REQUEST_MAX_RETRIES
    if "get" in vars(variable):
        return
    by_environment = variable.get

    def retries() -> int:
        number = int(by_environment())
        return min(number, _RETRIES) if getattr(_thread, "impatient", False) else number

    variable.get = retries


def mark_killed(tracking_uri: str, run_id: str) -> None:
    """Set the status of a run to KILLED; where the server is away, a warning says that it is not.

    The run ends in MLflow's own view too, if it is the active one.
    """
    import mlflow  # noqa: PLC0415

    active = mlflow.active_run()
    try:
        with impatient(), translated(f"run {run_id}"):
            if active is not None and active.info.run_id == run_id:
                mlflow.end_run("KILLED")
            else:
                mlflow.MlflowClient(tracking_uri=tracking_uri).set_terminated(run_id, "KILLED")
    except ActionTrackError as error:
        logger.warning("the status KILLED of run %s is not saved: %s", run_id, error)
