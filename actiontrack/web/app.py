"""The MLflow server with our pages: what `mlflow server --app-name actiontrack` starts.

Together with `login` the only module here that touches MLflow's server, whose inside is not a
public interface: the versions that it is known to work with are checked when the server starts.
"""

import contextlib
import hashlib
import logging
import os
import secrets
from collections.abc import Callable
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
from actiontrack.web.login import BasicAuth, check_version, protect, wants_auth
from actiontrack.web.messages import without_paths
from actiontrack.web.permissions import Everybody, Permissions
from actiontrack.web.records import Records
from actiontrack.web.routes import NAME, PREFIX, Route, Site, current_site

__all__ = ["create_app", "install", "prepare", "routes"]

logger = logging.getLogger("actiontrack")

_STATIC = Path(__file__).parent / "static"

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
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; style-src 'self'; script-src 'self'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app() -> Any:
    """The server's application: MLflow's own with our pages, behind its login where that is on.

    Raises:
        ParameterError: if the environment contradicts itself.
        MissingDependencyError: if basic auth is wanted from a version of MLflow that is not known.
    """
    from mlflow.server import app  # noqa: PLC0415 - a server's modules, in a server only

    if not wants_auth():
        install(app, Everybody())
        return _served(app)
    check_version()
    from mlflow.server import auth  # noqa: PLC0415

    install(app, BasicAuth(auth), key=auth.get_flask_server_secret_key().encode())
    protect(app, auth, routes(), _STATIC, _prefixed(PREFIX))
    return auth.create_app(app)


def prepare() -> None:
    """Check the configuration before any worker exists, as MLflow does for its own login.

    A wrong one is then one error, instead of workers that are started again without end.

    Raises:
        ParameterError: if the environment contradicts itself, or asks for what is not supported.
    """
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES  # noqa: PLC0415

    ImageRoots.from_environment()
    if MLFLOW_ENABLE_WORKSPACES.get():  # type: ignore[no-untyped-call]
        raise ParameterError(
            "MLFLOW_ENABLE_WORKSPACES",
            "must be off: the pages do not know workspaces and would show runs of all of them",
            "true",
            "Serve workspaces by a server without --app-name actiontrack.",
        )
    os.environ.setdefault(settings.FORM_KEY.name, secrets.token_hex(32))
    if wants_auth():
        check_version()
        from mlflow.environment_variables import (  # noqa: PLC0415
            _MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN,
        )
        from mlflow.server import auth  # noqa: PLC0415

        auth.get_flask_server_secret_key()
        auth.bootstrap_admin_user()
        # What `mlflow server` does for its own app of this kind: jobs and workers share a token.
        os.environ.setdefault(_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN.name, secrets.token_hex(32))


def routes() -> tuple[Route, ...]:
    """Every route of ours: pages and API."""
    return (*pages.ROUTES, *API_ROUTES)


def install(
    app: flask.Flask,
    permissions: Permissions,
    *,
    store: Store | None = None,
    image_roots: ImageRoots | None = None,
    key: bytes | None = None,
) -> None:
    """Add our pages to a Flask application, below `PREFIX`.

    Args:
        app: MLflow's.
        permissions: what users may do.
        store: where the runs are. Default: the server's own backend store.
        image_roots: see `images.ImageRoots`. Default: as the environment says.
        key: secret for form tokens. Default: the one that `prepare` has made.
    """
    app.extensions[NAME] = Site(
        records=Records(store or _server_store(), permissions=permissions),
        image_roots=image_roots or ImageRoots.from_environment(),
        key=hashlib.sha256(b"actiontrack" + (key or _shared_key())).digest(),
        origins=_allowed_origins(),
        mlflow_url=_prefixed("/"),
    )
    blueprint = flask.Blueprint(
        NAME,
        __name__,
        url_prefix=_prefixed(PREFIX),
        static_folder=str(_STATIC),
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
    app.after_request(_link_from_mlflow)


def _answering(route: Route) -> Callable[[], Any]:
    """The route's function after every check, with errors turned into answers."""

    def answer() -> Any:
        try:
            access.check_route(route)
            if route.method != "GET":
                access.check_forgery()
            return route.function()
        except ActionTrackError as error:
            status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
            if status == 500:
                logger.exception("%s failed", flask.request.path)
            elif status == 422:
                logger.warning("%s: %s", flask.request.path, error)
            return _error(type(error).__name__, _for_readers(error), status)

    return answer


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
    return flask.request.path.startswith(_prefixed(f"{PREFIX}/api/"))


def _refuse_in_our_words(response: flask.Response) -> flask.Response:
    """A refusal that is not from a route of ours, as JSON for the API and as a page for people."""
    refusal = _REFUSALS.get(response.status_code)
    is_page = flask.request.path.startswith(_prefixed(f"{PREFIX}/"))
    if refusal is None or not is_page or "actiontrack_refusal" in flask.g:
        return response
    if _is_for_api():
        answer = error_answer(*refusal, response.status_code)
    elif response.status_code == 403:
        answer = pages.error_page(refusal[1], 403)
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


def _link_from_mlflow(response: flask.Response) -> flask.Response:
    """A link to our pages on MLflow's own, which is one page for everything."""
    request = flask.request
    if request.endpoint != "serve" or response.status_code != 200:
        return response
    if response.mimetype != "text/html" or request.method != "GET":
        return response
    response.direct_passthrough = False
    text = response.get_data(as_text=True)
    base = _prefixed(PREFIX)
    link = (
        f'<link rel="stylesheet" href="{base}/static/mlflow-link.css">'
        f'<a id="actiontrack-link" href="{base}/" title="Per-sample losses and action scores">'
        f'actiontrack</a><script src="{base}/static/mlflow-link.js" defer></script>'
    )
    head, end, tail = text.rpartition("</body>")
    response.set_data(head + link + end + tail if end else text + link)
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.make_conditional(request)
    return response


def _served(app: flask.Flask) -> Any:
    """The application as the web server wants it: ASGI under uvicorn, else WSGI."""
    from mlflow.environment_variables import _MLFLOW_SGI_NAME  # noqa: PLC0415
    from mlflow.server.fastapi_app import create_fastapi_app  # noqa: PLC0415

    interface = _MLFLOW_SGI_NAME.get()  # type: ignore[no-untyped-call]
    return create_fastapi_app(app) if interface == "uvicorn" else app


def _server_store() -> Store:
    """The store behind this server, read without a request to itself."""
    from mlflow.server import constants  # noqa: PLC0415

    destination = os.environ.get(constants.ARTIFACTS_DESTINATION_ENV_VAR)
    return Store(
        os.environ.get(constants.BACKEND_STORE_URI_ENV_VAR), artifacts_destination=destination
    )


def _shared_key() -> bytes:
    """The secret that `prepare` has made, or one of this process alone."""
    return os.environ.setdefault(settings.FORM_KEY.name, secrets.token_hex(32)).encode()


def _allowed_origins() -> tuple[str, ...]:
    text = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "")
    return tuple(part.strip() for part in text.split(",") if part.strip() not in {"", "*"})


def _prefixed(path: str) -> str:
    from mlflow.server.handlers import _add_static_prefix  # noqa: PLC0415

    return str(_add_static_prefix(path))
