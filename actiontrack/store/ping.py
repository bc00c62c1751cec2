"""Whether a tracking server answers, within seconds: MLflow itself retries for minutes."""

import os
from urllib.parse import urlsplit, urlunsplit

from actiontrack.errors import StoreError

__all__ = ["ping_server"]

_TIMEOUT_S = 5.0


def ping_server(tracking_uri: str) -> None:
    """Check that a tracking server answers; any status will do.

    Raises:
        StoreError: if it does not answer.
    """
    import requests  # noqa: PLC0415 - MLflow brings it; a local store needs none

    parts = urlsplit(tracking_uri)
    host = parts.netloc.rpartition("@")[2]  # the real request logs in, this one need not
    url = urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))
    try:
        requests.get(url, timeout=_TIMEOUT_S, stream=True, verify=_verification()).close()
    except (requests.RequestException, ValueError) as error:  # ValueError: no address at all
        raise StoreError(
            f"the tracking server {tracking_uri} does not answer: {_reason(error)}. "
            "Start it, or correct --tracking-uri or MLFLOW_TRACKING_URI."
        ) from error


def _verification() -> bool | str:
    """How the server's certificate is checked: as MLflow's own client does."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"1", "true"}:
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True


def _reason(error: BaseException) -> BaseException:
    """The root cause of an error: what the operating system said."""
    cause = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
    return cause
