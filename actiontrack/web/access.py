"""Who may read and write what, and the defence against forged requests.

A login tells who the user is, and what he may do (`permissions.Permissions`): MLflow's basic auth
inside its server, or `visitors` beside it. Every route of ours is checked here before its function
runs. Without a login everybody may do everything, as in MLflow itself.

A form that writes carries a token that only a page of ours can know: made from a secret of the
server, a random cookie of the browser, and the name of the user. A request that writes must also
come from a page of this server, if the browser says where it comes from.
"""

import hashlib
import hmac
import secrets
from urllib.parse import urlsplit

import flask

from actiontrack import settings
from actiontrack.analysis.questions import MAX_RECORDS
from actiontrack.errors import ActionTrackError, ParameterError
from actiontrack.web.body import sent_fields
from actiontrack.web.permissions import EDIT
from actiontrack.web.routes import PREFIX, Route, current_site

__all__ = [
    "CSRF_COOKIE",
    "CSRF_FIELD",
    "CSRF_HEADER",
    "ForbiddenError",
    "check_forgery",
    "check_route",
    "csrf_token",
    "run_ids",
    "set_csrf_cookie",
    "user_name",
]

CSRF_COOKIE = "actiontrack_csrf"
CSRF_FIELD = "csrf_token"
CSRF_HEADER = "X-CSRF-Token"
_NONCE_BYTES = 24
_MAX_NAME = 200


class ForbiddenError(ActionTrackError):
    """The user may not do this, or the request was made by another site's page."""


def run_ids() -> list[str]:
    """The runs that the present request names, in the query or in the form, without repeats.

    Raises:
        ParameterError: if there are more than `questions.MAX_RECORDS`.
    """
    request = flask.request
    texts = request.args.getlist("run") + request.form.getlist("run")
    ids = list(dict.fromkeys(text.strip() for text in texts if text.strip()))
    if len(ids) > MAX_RECORDS:
        rule = f"must name at most {MAX_RECORDS} runs"
        raise ParameterError("run", rule, len(ids), "Compare fewer runs at once.")
    return ids


def check_route(route: Route) -> None:
    """Refuse the present request unless its user has the route's right on every run it names.

    Raises:
        ForbiddenError: if the user lacks it, or the run does not exist: the message does not say
            which of the two.
    """
    permissions = current_site().permissions
    for run_id in run_ids():
        if not permissions.may_use_run(run_id, route.needs):
            what = "edit" if route.needs == EDIT else "read"
            raise ForbiddenError(f"run {run_id!r}: you have no permission to {what} it.")


def user_name() -> str:
    """Who the user is, for verdicts: the login; without one ACTIONTRACK_USER or "anonymous"."""
    name = current_site().permissions.user() or settings.USER.value()
    return name.strip()[:_MAX_NAME] or "anonymous"


def csrf_token() -> str:
    """The token that a form of the present user must send back, in `CSRF_FIELD` or a header."""
    return _token(_nonce())


def set_csrf_cookie(response: flask.Response) -> None:
    """Hand the browser the random cookie, if a token was made of a new one."""
    nonce = flask.g.get("actiontrack_nonce")
    if nonce is not None:
        response.set_cookie(
            CSRF_COOKIE,
            nonce,
            path=_cookie_path(),
            secure=flask.request.is_secure,
            httponly=True,
            samesite="Lax",
        )


def check_forgery() -> None:
    """Refuse a request that writes unless a page of this server made it.

    Raises:
        ForbiddenError: if it comes from another origin, or its token is missing or wrong.
    """
    _check_origin()
    cookie = flask.request.cookies.get(CSRF_COOKIE, "")
    sent = flask.request.headers.get(CSRF_HEADER) or sent_fields().get(CSRF_FIELD, "")
    expected = _token(cookie).encode()
    if not cookie or not hmac.compare_digest(sent.encode(errors="replace"), expected):
        raise ForbiddenError("the form is out of date or not ours. Reload the page and try again.")


def _check_origin() -> None:
    headers, site = flask.request.headers, current_site()
    origin = headers.get("Origin") or headers.get("Referer")
    if origin is None:
        if headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise ForbiddenError("the request comes from another site.")
        return
    parts = urlsplit(origin)
    if (
        parts.netloc != flask.request.host
        and f"{parts.scheme}://{parts.netloc}" not in site.origins
    ):
        raise ForbiddenError(f"the request comes from another site: {parts.netloc or origin!r}.")


def _token(nonce: str) -> str:
    site = current_site()
    text = f"{nonce}\n{site.permissions.user() or ''}"
    return hmac.new(site.key, text.encode(errors="replace"), hashlib.sha256).hexdigest()


def _nonce() -> str:
    cookie = flask.request.cookies.get(CSRF_COOKIE)
    if cookie:
        return cookie
    if "actiontrack_nonce" not in flask.g:
        flask.g.actiontrack_nonce = secrets.token_urlsafe(_NONCE_BYTES)
    return str(flask.g.actiontrack_nonce)


def _cookie_path() -> str:
    """Path of our pages as a browser has it."""
    path = flask.request.root_path.rstrip("/") + flask.request.path
    return path[: path.index(PREFIX) + len(PREFIX)] if PREFIX in path else "/"
