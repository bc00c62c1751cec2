"""In whose name requests go to a tracking server that visitors of our pages log in to.

A server of pages is started by one person and read by others. What MLflow's client sends by itself
are the credentials of the first: of the environment, ~/.mlflow/credentials, ~/.netrc, and cookies
that its session keeps. None of them may ever speak for a visitor. So the visitor of the present
request is a context variable, and MLflow's client asks `VisitorAuth`, a plug-in that it has for
this, to write the credentials of every request: requests calls it last, after all headers and
cookies, and looks into no netrc where there is one. Where nobody is set, nothing is sent.
"""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from actiontrack.errors import MissingDependencyError, ParameterError, StoreError
from actiontrack.store.addresses import origin_of

__all__ = [
    "AUTH_NAME",
    "Visitor",
    "VisitorAuth",
    "forget_own_credentials",
    "in_the_name_of",
    "present_visitor",
    "set_visitor",
]

#: Name by which MLflow finds `VisitorAuth`, see `plugins.visitors`.
AUTH_NAME = "actiontrack-visitor"
#: What MLflow's client would send of whoever started this process.
_OWN = (
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
)
#: Ways to log in of this machine, not of a person.
_OF_THE_MACHINE = ("MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_TRACKING_AWS_SIGV4")
_SET = {
    "MLFLOW_TRACKING_AUTH": AUTH_NAME,
    # requests reads ~/.netrc for the address that it is redirected to, whatever it was told before.
    "MLFLOW_ALLOW_HTTP_REDIRECTS": "false",
    "NETRC": os.devnull,
    # Parts of large files travel by threads of MLflow's own, in nobody's name.
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
}


@dataclass(frozen=True)
class Visitor:
    """In whose name a request to a tracking server is made.

    Attributes:
        server: origin of the server, which alone may see the credentials.
        authorization: the header as the visitor has sent it; None for nobody in particular, on a
            server without a login.
    """

    server: str
    authorization: str | None = field(default=None, repr=False)

    @property
    def digest(self) -> str:
        """What tells visitors apart without being a secret."""
        return hashlib.sha256((self.authorization or "").encode()).hexdigest()


_visitor: ContextVar[Visitor | None] = ContextVar("actiontrack_visitor", default=None)


def present_visitor() -> Visitor | None:
    """The visitor in whose name this thread works now."""
    return _visitor.get()


def set_visitor(visitor: Visitor | None) -> None:
    """Work in the name of a visitor from now on, or of none."""
    _visitor.set(visitor)


@contextlib.contextmanager
def in_the_name_of(visitor: Visitor) -> Iterator[None]:
    """Work in the name of a visitor for a while."""
    before = _visitor.set(visitor)
    try:
        yield
    finally:
        _visitor.reset(before)


class VisitorAuth:
    """What requests calls to give a request its credentials: those of the present visitor."""

    def __call__(self, request: Any) -> Any:
        """Replace every credential of a request by the visitor's.

        Raises:
            StoreError: if there is no visitor, or the request goes to another server.
        """
        visitor = present_visitor()
        if visitor is None:
            raise StoreError("a request that was made in nobody's name was not sent.")
        if origin_of(request.url) != visitor.server:
            raise StoreError(
                f"a request to {origin_of(request.url)} was not sent: a visitor's login is for "
                f"{visitor.server} alone."
            )
        for name in ("Authorization", "Cookie"):
            request.headers.pop(name, None)
        if visitor.authorization is not None:
            request.headers["Authorization"] = visitor.authorization
        return request


def forget_own_credentials() -> None:
    """Let requests of this process to a tracking server be made in the name of visitors only.

    Raises:
        ParameterError: if the environment lets the machine itself log in.
        MissingDependencyError: if MLflow does not find our plug-in.
    """
    for name in _OF_THE_MACHINE:
        if os.environ.get(name, "").lower() not in {"", "0", "false"}:
            raise ParameterError(
                name,
                "must not be set: it would speak for every visitor",
                os.environ[name],
                "Unset it, or serve your own account with --account mine.",
            )
    for name in _OWN:
        os.environ.pop(name, None)
    os.environ.update(_SET)
    _check_plugin()


def _check_plugin() -> None:
    """MLflow only warns where it finds no plug-in of a name, and sends what it has."""
    from mlflow.tracking.request_auth.registry import fetch_auth  # noqa: PLC0415

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        auth: object = fetch_auth(AUTH_NAME)  # type: ignore[no-untyped-call]
    if not isinstance(auth, VisitorAuth):
        raise MissingDependencyError(
            "MLflow does not find actiontrack's plug-in for logins: the package was installed "
            "before it had one. Install it again with: pip install --force-reinstall --no-deps "
            "actiontrack"
        )
