"""Logins of a tracking server over HTTP: whether it has any, and whether it takes one."""

import os
from typing import Any
from urllib.parse import urljoin

from actiontrack.errors import StoreError, reason_of
from actiontrack.store.addresses import origin_of
from actiontrack.store.credentials import Visitor, VisitorAuth, in_the_name_of, present_visitor

__all__ = ["has_login", "login_name", "takes_login"]

_TIMEOUT_S = 30.0  # a server under load takes long over the check of a password
_SEARCH = "api/2.0/mlflow/experiments/search"
_CURRENT_USER = "api/2.0/mlflow/users/current"  # since MLflow 3.14


def has_login(tracking_uri: str) -> bool:
    """Whether a server wants to know who asks: it is asked once, without any credentials.

    Raises:
        StoreError: if it does not answer, or refuses in another way than by asking for a login.
    """
    with in_the_name_of(Visitor(origin_of(tracking_uri))):
        answer = _get(tracking_uri, _SEARCH, max_results="1")
    status, place = answer.status_code, answer.headers.get("Location")
    if status in {200, 401}:
        return bool(status == 401)
    if status == 429 or status >= 500:
        raise StoreError(f"{_failure(tracking_uri, status)} Try again later.")
    if 300 <= status < 400 and place:
        raise StoreError(
            f"the tracking server {tracking_uri} redirects to {urljoin(answer.url, place)}. "
            "Correct the address; or, if a login page is there, serve the pages to yourself alone, "
            "by your own credentials, with --account mine."
        )
    raise StoreError(
        f"the tracking server {tracking_uri} answers a request without credentials with {status}: "
        "it neither serves everybody nor asks for a login with a name and a password. Correct the "
        "address, or serve the pages to yourself alone, by your own credentials, with "
        "--account mine."
    )


def takes_login(tracking_uri: str) -> bool:
    """Whether a server knows the present visitor.

    Raises:
        StoreError: if it does not answer, or says nothing about the login.
    """
    status = _get(tracking_uri, _SEARCH, max_results="1").status_code
    visitor = present_visitor()
    scheme = ((visitor and visitor.authorization) or "").partition(" ")[0].lower()
    if status in {200, 403}:  # 403: known, and allowed nothing
        return True
    if status != 401 and scheme == "basic":  # MLflow's own login answers other schemes with 500
        raise StoreError(_failure(tracking_uri, status))
    return False


def _failure(tracking_uri: str, status: int) -> str:
    return f"the tracking server {tracking_uri} fails: it answers with {status}."


def login_name(tracking_uri: str) -> str | None:
    """Name of the present visitor, as the server tells; None where it does not."""
    answer = _get(tracking_uri, _CURRENT_USER)
    if answer.status_code != 200:  # an older server, or another one than MLflow's
        return None
    try:
        return str(answer.json()["user"]["username"])
    except (ValueError, TypeError, KeyError):
        return None


def _get(tracking_uri: str, path: str, **parameters: str) -> Any:
    """Ask in the name of the present visitor, in a session that ends with the answer."""
    import requests  # noqa: PLC0415 - MLflow brings it

    try:
        return requests.get(
            f"{tracking_uri.rstrip('/')}/{path}",
            params=parameters,
            auth=VisitorAuth(),
            allow_redirects=False,
            timeout=_TIMEOUT_S,
            verify=_verification(),
        )
    except (requests.RequestException, ValueError) as error:
        raise StoreError(
            f"the tracking server {tracking_uri} does not answer: {reason_of(error)}. Start it, "
            "or correct --tracking-uri or MLFLOW_TRACKING_URI."
        ) from error


def _verification() -> bool | str:
    """How the server's certificate is checked: as MLflow's own client does."""
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"1", "true"}:
        return False
    return os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH") or True
