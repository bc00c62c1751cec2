"""Who may come in to a server of pages of our own, before any route is looked at.

- By which name: a page of another site whose name is made to lead here (DNS rebinding) would pass
  for a page of ours. So the header Host must have a name that this server is meant to have.
- With which account: where the pages show what one person may see, a token that only the printed
  address holds keeps out other accounts of the machine; where visitors log in, they do so here.
"""

import hmac
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlencode

import flask
import flask.typing

from actiontrack.errors import ActionTrackError, ParameterError
from actiontrack.store.credentials import Visitor, set_visitor
from actiontrack.web.access import ForbiddenError
from actiontrack.web.app import answer_error
from actiontrack.web.visitors import CHALLENGE, Visitors

__all__ = ["TOKEN", "Gate", "check_prefix", "is_loopback", "loopback_names"]

#: Parameter of an address that holds the token.
TOKEN = "token"  # noqa: S105 - its name
_PREFIX = re.compile(r"(/[\w.~-]+)*")
_PORT = re.compile(r":\d+$")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen at.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def loopback_names(host: str) -> tuple[str, ...]:
    """Names of this machine for itself."""
    return ("localhost", "127.0.0.1", "::1", host)


def check_prefix(argument: str, path: str, remedy: str) -> None:
    """Check a path that is put in front of all others.

    Raises:
        ParameterError: if it is none.
    """
    if not _PREFIX.fullmatch(path):
        raise ParameterError(argument, "must be a path such as /tools/mlflow", path, remedy)


@dataclass(frozen=True, kw_only=True)
class Gate:
    """What is asked of every request.

    Attributes:
        hosts: names that the header Host may have, whatever the port.
        visitors: who log in. Default: nobody does.
        nobody: in whose name requests to the tracking server are made where it has no login.
        token: that requests must bring, in the address, a cookie, or as "Authorization: Bearer".
            Default: none is needed.
        cookie: name of the cookie; one server's is not another's on the same machine.
    """

    hosts: Sequence[str]
    visitors: Visitors | None = None
    nobody: Visitor | None = None
    token: str | None = None
    cookie: str = "actiontrack_token"

    def guard(self, app: flask.Flask) -> None:
        """Put the gate in front of everything that an application serves."""
        app.before_request(self._let_in)
        app.after_request(self._ask_for_login)
        app.teardown_request(self._let_out)

    def _let_in(self) -> flask.typing.ResponseReturnValue | None:
        try:
            self._check_host()
            answer = self._check_token()
            set_visitor(self.nobody)
            if answer is None and self.visitors is not None:
                set_visitor(self.visitors.visitor())
                self.visitors.check_login()
        except ActionTrackError as error:
            return answer_error(error)
        return answer

    @staticmethod
    def _let_out(_error: BaseException | None) -> None:
        set_visitor(None)

    def _ask_for_login(self, response: flask.Response) -> flask.Response:
        if response.status_code == HTTPStatus.UNAUTHORIZED and self.visitors is not None:
            response.headers["WWW-Authenticate"] = CHALLENGE
        return response

    def _check_host(self) -> None:
        request = flask.request
        name = _PORT.sub("", request.environ.get("HTTP_HOST", "")).strip("[]").rstrip(".").lower()
        if name not in {host.strip("[]").lower() for host in self.hosts}:
            raise ParameterError(
                "Host",
                "must be a name of this server",
                name,
                "If it is one, start the pages with --allowed-host.",
            )
        check_prefix("X-Forwarded-Prefix", request.root_path.rstrip("/"), "Correct the proxy.")

    def _check_token(self) -> flask.typing.ResponseReturnValue | None:
        """Refuse a request without the token; one that brings it in its address gets a cookie."""
        if self.token is None:
            return None
        request = flask.request
        if self._is_token(request.args.get(TOKEN)):
            return self._with_cookie() if request.method == "GET" else None
        bearer = request.headers.get("Authorization", "").partition(" ")[2]
        if self._is_token(request.cookies.get(self.cookie)) or self._is_token(bearer):
            return None
        raise ForbiddenError(
            "these pages show what the account that started them may see. Open the whole address "
            "that actiontrack ui has printed: it ends with a token."
        )

    def _is_token(self, text: str | None) -> bool:
        expected = (self.token or "").encode()
        return bool(text) and hmac.compare_digest((text or "").encode(), expected)

    def _with_cookie(self) -> flask.typing.ResponseReturnValue:
        """The same address without the token, which then is in no history and in no link."""
        request = flask.request
        pairs = [pair for pair in request.args.items(multi=True) if pair[0] != TOKEN]
        address = f"{request.root_path.rstrip('/')}/{request.path.lstrip('/')}"
        response = flask.redirect(
            f"{address}?{urlencode(pairs)}" if pairs else address, HTTPStatus.SEE_OTHER
        )
        response.set_cookie(
            self.cookie,
            self.token or "",
            path=request.root_path.rstrip("/") or "/",
            secure=request.is_secure,
            httponly=True,
            samesite="Lax",
        )
        return response
