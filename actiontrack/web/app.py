"""The MLflow server with our pages: what `mlflow server --app-name actiontrack` starts.

The only module here that touches MLflow's server, whose inside is not a public interface: the
versions that it is known to work with are checked when the server starts, and with basic auth any
other version is refused, since a permission that is not understood must not be guessed.

Basic auth is on where the environment says ACTIONTRACK_AUTH=basic-auth, or sets any of MLflow's
own MLFLOW_AUTH_ variables, so that a server that was meant to have a login is never open.
"""

import hashlib
import logging
import os
import secrets
from collections.abc import Callable, Iterator
from importlib.metadata import version
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
    MissingDependencyError,
    NotComparableError,
    NotFoundError,
    ParameterError,
)
from actiontrack.store import Store
from actiontrack.web import access, pages
from actiontrack.web.access import ForbiddenError
from actiontrack.web.api.answers import error_answer
from actiontrack.web.api.routes import ROUTES as API_ROUTES
from actiontrack.web.data import Data
from actiontrack.web.images import ImageRoots
from actiontrack.web.permissions import READ, Everybody, Permissions
from actiontrack.web.routes import NAME, PREFIX, Route, Site, current_site

__all__ = ["AUTH_VARIABLE", "create_app", "install", "prepare", "routes", "wants_auth"]

logger = logging.getLogger("actiontrack")

AUTH_VARIABLE = settings.AUTH.name
_BASIC_AUTH = "basic-auth"
_KNOWN_MLFLOW = ((3, 17), (3, 18))  # from, and below
_STATIC = Path(__file__).parent / "static"

_STATUS: tuple[tuple[type[ActionTrackError], int], ...] = (
    (ForbiddenError, 403),
    (ParameterError, 400),
    (NotFoundError, 404),
    (NotComparableError, 409),
    (CorruptRecordError, 422),
    (DataError, 422),
)
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
    """The server's application: MLflow's own with our pages, behind its login where wanted.

    Raises:
        ParameterError: if the environment contradicts itself.
        MissingDependencyError: if basic auth is wanted from a version of MLflow that is not known.
    """
    from mlflow.server import app  # noqa: PLC0415 - a server's modules, in a server only

    if not wants_auth():
        install(app, Everybody())
        return _served(app)
    _check_version()
    from mlflow.server import auth  # noqa: PLC0415

    install(app, BasicAuth(auth), key=auth.get_flask_server_secret_key().encode())
    for path, method in _protected(app):
        auth.BEFORE_REQUEST_VALIDATORS[path, method] = _validator(path, method)
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
        _check_version()
        from mlflow.environment_variables import (  # noqa: PLC0415
            _MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN,
        )
        from mlflow.server import auth  # noqa: PLC0415

        auth.get_flask_server_secret_key()
        auth.bootstrap_admin_user()
        # What `mlflow server` does for its own app of this kind: jobs and workers share a token.
        os.environ.setdefault(_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN.name, secrets.token_hex(32))


def wants_auth() -> bool:
    """Whether the environment asks for MLflow's basic auth.

    Raises:
        ParameterError: if ACTIONTRACK_AUTH is neither "basic-auth" nor "none".
    """
    login = settings.AUTH.value()
    if login:
        return login == _BASIC_AUTH
    return any(name.startswith("MLFLOW_AUTH_") and value for name, value in os.environ.items())


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
    data = Data(
        store or _server_store(),
        image_roots=image_roots or ImageRoots.from_environment(),
        permissions=permissions,
    )
    app.extensions[NAME] = Site(
        data=data,
        permissions=permissions,
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
    app.after_request(_link_from_mlflow)


class BasicAuth:
    """What MLflow's basic auth allows the user of the present request.

    Args:
        auth: the module `mlflow.server.auth`.
    """

    def __init__(self, auth: Any) -> None:
        self._auth = auth

    def user(self) -> str | None:
        """Name of the user, as MLflow has checked it before our route is reached."""
        name = flask.g.get("mlflow_authenticated_user")
        return None if name is None else str(name)

    def may_use_run(self, run_id: str, right: str) -> bool:
        """Whether the user has a right on a run and may read its experiment."""

        def ask(user: str) -> bool:
            resolved = self._auth._run_requirement(run_id, right)  # noqa: SLF001
            return resolved is not None and bool(self._auth.authorize(user, *resolved))

        return self._remembered(("run", run_id, right), ask)

    def may_read_experiment(self, experiment_id: str) -> bool:
        """Whether MLflow's own lists show the user the runs of an experiment."""
        return self._remembered(
            ("experiment", experiment_id), lambda user: self._lists(user)(experiment_id)
        )

    def _lists(self, user: str) -> Callable[[str], bool]:
        """The predicate by which MLflow filters its own search for runs."""
        if "actiontrack_lists" not in flask.g:
            auth = self._auth
            runs = auth.Requirement(auth.RESOURCE_TYPE_RUN, "*", auth.ACTION_NOT_DENIED)
            flask.g.actiontrack_lists = auth._role_based_read_predicate(  # noqa: SLF001
                user, auth.RESOURCE_TYPE_EXPERIMENT, also_require=[runs]
            )
        predicate: Callable[[str], bool] = flask.g.actiontrack_lists
        return predicate

    def _remembered(self, what: tuple[str, ...], ask: Callable[[str], bool]) -> bool:
        """An answer for the present request: each costs a query."""
        user = self.user()
        if user is None:
            return False
        known: dict[tuple[str, ...], bool] = flask.g.setdefault("actiontrack_rights", {})
        if "actiontrack_admin" not in flask.g:
            flask.g.actiontrack_admin = bool(self._auth.store.get_user(user).is_admin)
        if flask.g.actiontrack_admin:
            return True
        if what not in known:
            known[what] = bool(ask(user))
        return known[what]


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
            return _error(type(error).__name__, str(error), status)

    return answer


def _unexpected(error: Exception) -> flask.typing.ResponseReturnValue:
    """An error that is nobody's on purpose: logged, and not told to the user in detail."""
    if isinstance(error, HTTPException):
        status = error.code or 500
        return _error(error.name, error.description or error.name, status)
    logger.error("%s failed", flask.request.path, exc_info=error)
    return _error("InternalError", "this failed on the server; its log says why.", 500)


def _error(kind: str, message: str, status: int) -> flask.Response:
    if flask.request.path.startswith(_prefixed(f"{PREFIX}/api/")):
        return error_answer(kind, message, status)
    return pages.error_page(message, status)


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
    head, found, tail = text.rpartition("</body>")
    response.set_data(head + link + found + tail if found else text + link)
    response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
    response.make_conditional(request)
    return response


def _protected(app: flask.Flask) -> Iterator[tuple[str, str]]:
    """Path and method of everything that we serve, static files one by one."""
    base = _prefixed(PREFIX)
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(f"{NAME}.") and not rule.arguments:
            for method in rule.methods or ():
                yield rule.rule, method
    for file in _STATIC.rglob("*"):
        if file.is_file():
            for method in ("GET", "HEAD"):
                yield f"{base}/static/{file.relative_to(_STATIC).as_posix()}", method


def _validator(path: str, method: str) -> Callable[[], bool]:
    """What MLflow asks before our route: the same check that the route makes itself."""
    wanted = "GET" if method in {"HEAD", "OPTIONS"} else method
    base = _prefixed(PREFIX)
    found = [each for each in routes() if base + each.path == path and each.method == wanted]
    needs = found[0].needs if found else READ

    def validate() -> bool:
        permissions = current_site().permissions
        return all(permissions.may_use_run(each, needs) for each in access.run_ids())

    return validate


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
    given = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "")
    return tuple(each.strip() for each in given.split(",") if each.strip() not in {"", "*"})


def _prefixed(path: str) -> str:
    from mlflow.server.handlers import _add_static_prefix  # noqa: PLC0415

    return str(_add_static_prefix(path))


def _check_version() -> None:
    installed = version("mlflow")
    minor = tuple(int(each) for each in installed.split(".")[:2])
    low, high = _KNOWN_MLFLOW
    if not low <= minor < high:
        wanted = f"mlflow[auth]>={low[0]}.{low[1]},<{high[0]}.{high[1]}"
        raise MissingDependencyError(
            f"basic auth is known to work with {wanted}, and MLflow {installed} is installed. "
            f"Install the known one with: pip install '{wanted}'"
        )
