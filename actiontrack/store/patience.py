"""How long requests of a thread to MLflow's server are repeated and waited for."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["limited"]

_thread = threading.local()


@contextlib.contextmanager
def limited(*, retries: int = 1, timeout_s: int | None = None) -> Iterator[None]:
    """Requests of this thread to MLflow's server end sooner than the environment allows.

    MLflow waits between its attempts, up to a minute and more, and does not notice meanwhile that
    the server is back. Who tries again by itself, or is about to end, is better off without. Other
    threads are as patient as their environment says, and nobody is more patient than that.

    Args:
        retries: how often a request is repeated at most.
        timeout_s: seconds that an attempt waits for an answer at most. Default: no other limit.
    """
    limits = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": retries}
    if timeout_s is not None:
        limits["MLFLOW_HTTP_REQUEST_TIMEOUT"] = timeout_s
    for name in limits:
        _make_a_matter_of_the_thread(name)
    before = _limits()
    stricter = {name: min(most, before.get(name, most)) for name, most in limits.items()}
    _thread.limits = before | stricter
    try:
        yield
    finally:
        _thread.limits = before


def _limits() -> dict[str, int]:
    """The limits of this thread by the name of MLflow's variable."""
    limits: dict[str, int] = getattr(_thread, "limits", {})
    return limits


def _make_a_matter_of_the_thread(name: str) -> None:
    import mlflow.environment_variables  # noqa: PLC0415

    variable: Any = getattr(mlflow.environment_variables, name)
    if "get" in vars(variable):
        return
    by_environment: Callable[[], Any] = variable.get

    def smaller() -> int:
        number = int(by_environment())
        return min(number, _limits().get(name, number))

    variable.get = smaller
