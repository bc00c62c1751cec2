"""Visitors of a server of pages that is not MLflow's own: they are who the tracking server says.

Whoever opens a page logs in with his account of the tracking server. Each request is made in his
name, and what the server answers him is his permission: nothing here grants a right. What it has
answered is remembered for some seconds, for him alone.
"""

import base64
import binascii

import flask

from actiontrack.errors import NotFoundError
from actiontrack.store.addresses import origin_of
from actiontrack.store.credentials import Visitor, present_visitor
from actiontrack.store.logins import login_name, takes_login
from actiontrack.store.translation import ForbiddenError, UnauthenticatedError
from actiontrack.web.notes import Notes
from actiontrack.web.routes import current_site

__all__ = ["CHALLENGE", "Visitors"]

#: What asks a browser for name and password.
CHALLENGE = 'Basic realm="MLflow", charset="UTF-8"'
_LOGIN_S = 30.0  # for how long a login is taken that the server has taken
_RIGHT_S = 5.0  # and for how long a visitor may read a run that the server has let him read
_MAX_NOTES = 4096
_MAX_HEADER = 2**13
_SCHEMES = ("basic ", "bearer ")
_ASK = "log in with your account of the tracking server, by HTTP basic authentication."


class Visitors:
    """What the tracking server allows the visitor of the present request.

    Args:
        tracking_uri: address of the server, by HTTP.
    """

    def __init__(self, tracking_uri: str) -> None:
        self._server = tracking_uri
        self._origin = origin_of(tracking_uri)
        self._notes = Notes(_MAX_NOTES)

    # At the door

    def visitor(self) -> Visitor:
        """Whoever sends the present request, whom the server may or may not know.

        Raises:
            UnauthenticatedError: if the request has no login.
        """
        text = flask.request.headers.get("Authorization", "").strip()
        if len(text) > _MAX_HEADER or not text.lower().startswith(_SCHEMES):
            raise UnauthenticatedError(_ASK)
        return Visitor(self._origin, text)

    def check_login(self) -> None:
        """Ask the server whether it knows the present visitor.

        Raises:
            UnauthenticatedError: if it does not.
        """

        def ask() -> None:
            if not takes_login(self._server):
                raise UnauthenticatedError(_ASK)

        self._notes.get(("login", self.audience()), ask, seconds=_LOGIN_S)

    # Permissions

    def user(self) -> str | None:
        """Name of the visitor: of his login, or as the server tells of a token."""
        visitor = _visitor()
        name = _name_in(visitor.authorization or "")
        if name is None:
            key = ("name", visitor.digest)
            name = self._notes.get(key, lambda: login_name(self._server), seconds=_LOGIN_S)
        return str(name or f"token {visitor.digest[:8]}")

    def audience(self) -> str:
        """The visitor, told from others by his whole login and not by his name."""
        return _visitor().digest

    def may_use_run(self, run_id: str, right: str) -> bool:  # noqa: ARG002 - see below
        """Whether the server shows the visitor a run. Who may write, it says to what is written."""
        key = ("run", self.audience(), run_id)
        try:
            self._notes.get(key, lambda: current_site().records.look_up(run_id), seconds=_RIGHT_S)
        except (NotFoundError, ForbiddenError):
            return False
        return True

    def may_read_experiment(self, experiment_id: str) -> bool:  # noqa: ARG002
        """Always: what the server has listed or shown, it has shown to the visitor."""
        return True


def _visitor() -> Visitor:
    visitor = present_visitor()
    if visitor is None or visitor.authorization is None:
        raise UnauthenticatedError(_ASK)
    return visitor


def _name_in(authorization: str) -> str | None:
    """The name in a header of HTTP basic authentication."""
    scheme, _, sent = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        name, colon, _ = base64.b64decode(sent.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name if colon else None
