"""Whether a tracking server answers, within seconds: MLflow itself retries for minutes."""

from actiontrack.errors import StoreError

__all__ = ["PING_S", "has_pages", "ping_server"]

#: Seconds within which a server answers a person at a terminal.
PING_S = 5

_OK = 200


def ping_server(tracking_uri: str, timeout_s: int = PING_S) -> None:
    """Check that a tracking server answers; any status will do.

    Asked by MLflow's own function: with the login, headers, certificates and proxy of its client.

    Args:
        tracking_uri: its address.
        timeout_s: seconds that it may take.

    Raises:
        StoreError: if it does not answer.
    """
    _status(tracking_uri, "/health", timeout_s)


def has_pages(tracking_uri: str, timeout_s: int = PING_S) -> bool:
    """Whether a tracking server has the pages of actiontrack, for the login of MLflow's client.

    Args:
        tracking_uri: its address.
        timeout_s: seconds that it may take.

    Raises:
        StoreError: if it does not answer.
    """
    return _status(tracking_uri, "/actiontrack/api/openapi.json", timeout_s) == _OK


def _status(tracking_uri: str, path: str, timeout_s: int) -> int:
    """HTTP status by which a server answers, asked with the login of MLflow's client."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from mlflow.utils.credentials import get_default_host_creds  # noqa: PLC0415
    from mlflow.utils.rest_utils import http_request  # noqa: PLC0415
    from requests import RequestException  # noqa: PLC0415 - comes with MLflow

    try:
        with http_request(  # type: ignore[no-untyped-call]
            get_default_host_creds(tracking_uri),  # type: ignore[no-untyped-call]
            path,
            "GET",
            max_retries=0,
            timeout=timeout_s,
            raise_on_status=False,
            stream=True,
        ) as answer:
            return int(answer.status_code)
    except (MlflowException, RequestException, ValueError) as error:  # ValueError: no address
        raise StoreError(
            f"the tracking server {tracking_uri} does not answer: {_reason(error)}. "
            "Start it, or correct --tracking-uri or MLFLOW_TRACKING_URI."
        ) from error


def _reason(error: BaseException) -> BaseException:
    """The root cause of an error: what the operating system said."""
    cause = error
    while (below := cause.__cause__ or cause.__context__) is not None:
        cause = below
    return cause
