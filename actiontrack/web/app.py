"""Our pages and API on any Flask application, with errors as answers."""

import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flask
import flask.typing
from werkzeug.exceptions import HTTPException

from actiontrack import settings
from actiontrack.errors import (
    ActionTrackError,
    CorruptRecordError,
    DataError,
    NotComparableError,
    NotFoundError,
    ParameterError,
)
from actiontrack.store import Store
from actiontrack.store import translation as store_errors
from actiontrack.web import access, pages
from actiontrack.web.access import ForbiddenError
from actiontrack.web.api.answers import error_answer
from actiontrack.web.api.routes import ROUTES as API_ROUTES
from actiontrack.web.body import sent_fields
from actiontrack.web.images import ImageRoots
from actiontrack.web.messages import without_paths
from actiontrack.web.permissions import Permissions
from actiontrack.web.records import Records
from actiontrack.web.routes import NAME, PREFIX, Route, Site, current_site

__all__ = ["STATIC", "answer_error", "install", "routes", "shared_key"]

logger = logging.getLogger("actiontrack")

#: Folder of the files below static/.
STATIC = Path(__file__).parent / "static"

_STATUS: tuple[tuple[type[ActionTrackError], int], ...] = (
    (ForbiddenError, 403),
    (store_errors.UnauthenticatedError, 401),
    (store_errors.ForbiddenError, 403),
    (ParameterError, 400),
    (NotFoundError, 404),
    (NotComparableError, 409),
    (CorruptRecordError, 422),
    (DataError, 422),
)
#: What is said where MLflow or Flask refuses a request before a route of ours is reached.
_REFUSALS = {
    401: ("UnauthorizedError", "log in first, with HTTP basic authentication."),
    403: ("ForbiddenError", "you have no permission for this, or there is no such run."),
    404: ("NotFoundError", "there is no such address. The API is described at openapi.json."),
    405: ("MethodNotAllowedError", "this address takes no such method."),
}
#: The same on a page.
_PAGES = {
    403: _REFUSALS[403][1],
    404: "there is no such page. The list of runs leads to all of them.",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def routes() -> tuple[Route, ...]:
    """Every route of ours: pages and API."""
    return (*pages.ROUTES, *API_ROUTES)


def install(
    app: flask.Flask,
    permissions: Permissions,
    *,
    store: Store,
    image_roots: ImageRoots | None = None,
    key: bytes | None = None,
    prefix: str = "",
    mlflow_url: str = "/",
    origins: Sequence[str] = (),
) -> None:
    """Add our pages to a Flask application, below `PREFIX`.

    Args:
        app: MLflow's, or one of our own.
        permissions: what users may do.
        store: where the runs are.
        image_roots: see `images.ImageRoots`. Default: as the environment says.
        key: secret for form tokens. Default: one that the workers of this server share.
        prefix: path in front of `PREFIX`, such as "/tools/mlflow".
        mlflow_url: address of MLflow's own first page.
        origins: other origins from which forms may come, such as "https://mlflow.example.org".
    """
    app.extensions[NAME] = Site(
        records=Records(store, permissions=permissions),
        image_roots=image_roots or ImageRoots.from_environment(),
        key=hashlib.sha256(b"actiontrack" + (key or shared_key())).digest(),
        origins=tuple(origins),
        mlflow_url=mlflow_url,
        base=prefix + PREFIX,
    )
    blueprint = flask.Blueprint(
        NAME,
        __name__,
        url_prefix=prefix + PREFIX,
        static_folder=str(STATIC),
        static_url_path="/static",
    )
    for route in routes():
        blueprint.add_url_rule(
            route.path,
            endpoint=route.endpoint,
            view_func=_answering(route),
            methods=[route.method],
        )
    blueprint.register_error_handler(Exception, _unexpected)
    blueprint.after_request(_finish)
    app.register_blueprint(blueprint)
    app.after_request(_refuse_in_our_words)


def _answering(route: Route) -> Callable[[], Any]:
    """The route's function after every check, with errors turned into answers."""

    def answer() -> Any:
        try:
            access.check_route(route)
            if route.method != "GET":
                access.check_forgery()
            return route.function()
        except ActionTrackError as error:
            return answer_error(error)

    return answer


def answer_error(error: ActionTrackError) -> flask.Response:
    """The answer that an error is for whoever sent the present request."""
    status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        logger.error("%s failed", flask.request.path, exc_info=error)
    elif status == 422:
        logger.warning("%s: %s", flask.request.path, error)
    return _error(type(error).__name__, _for_readers(error), status)


def _for_readers(error: ActionTrackError) -> str:
    """A message without the folders of this server."""
    sent = list(flask.request.values.values())
    with contextlib.suppress(ParameterError):  # a body that can't be read
        sent += sent_fields().values()
    folders = []
    if isinstance(error, CorruptRecordError | NotFoundError):
        folders = [str(folder) for folder in current_site().records.folders_of(access.run_ids())]
    return without_paths(str(error), *folders, said="\n".join(sent))


def _unexpected(error: Exception) -> flask.typing.ResponseReturnValue:
    """An error that nobody raises on purpose: the log has it, the reader learns no detail."""
    if isinstance(error, HTTPException):
        status = error.code or 500
        return _error(error.name, error.description or error.name, status)
    logger.error("%s failed", flask.request.path, exc_info=error)
    return _error("InternalError", "this failed on the server; its log says why.", 500)


def _error(kind: str, message: str, status: int) -> flask.Response:
    flask.g.actiontrack_refusal = True
    if _is_for_api():
        return error_answer(kind, message, status)
    return pages.error_page(message, status)


def _is_for_api() -> bool:
    return flask.request.path.startswith(f"{current_site().base}/api/")


def _refuse_in_our_words(response: flask.Response) -> flask.Response:
    """A refusal that is not from a route of ours, as JSON for the API and as a page for people."""
    refusal = _REFUSALS.get(response.status_code)
    is_page = flask.request.path.startswith(f"{current_site().base}/")
    if refusal is None or not is_page or "actiontrack_refusal" in flask.g:
        return response
    if _is_for_api():
        answer = error_answer(*refusal, response.status_code)
    elif response.status_code in _PAGES:
        answer = pages.error_page(_PAGES[response.status_code], response.status_code)
    else:
        return response
    response.set_data(answer.get_data())
    response.mimetype = str(answer.mimetype)
    return response


def _finish(response: flask.Response) -> flask.Response:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    if "Cache-Control" not in response.headers or response.cache_control.public:
        response.headers["Cache-Control"] = "private, no-cache"
    access.set_csrf_cookie(response)
    return response


def shared_key() -> bytes:
    """The secret for form tokens in the environment of this process, made where there is none.

    Processes that are started later inherit it: the workers of a server make the same tokens.
    """
    return os.environ.setdefault(settings.FORM_KEY.name, secrets.token_hex(32)).encode()
