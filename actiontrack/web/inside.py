"""Our pages inside MLflow's server: what `mlflow server --app-name actiontrack` starts.

The one module that touches MLflow's server, whose inside is no public interface: `NAMES` lists what
we use of it and what for, and a server that lacks one of them does not start. What a login allows
is asked in the same place as by MLflow's own pages. Its public addresses are no substitute here:
`users/current` checks the password once more, `users/permissions/get` answers for one experiment
and no run, and the readable ids of 3.18 are "all" where one experiment is denied to somebody who
may read all others.

Basic auth is on where the environment says ACTIONTRACK_AUTH=basic-auth, or sets any of MLflow's
own MLFLOW_AUTH_ variables, so that a server that was meant to have a login is never open. With a
version that is not known such a server does not start, since a permission that is not understood
must not be guessed.
"""

import hashlib
import importlib
import inspect
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flask

from actiontrack import settings
from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.store import Store
from actiontrack.web import access
from actiontrack.web.app import STATIC, install, routes, shared_key
from actiontrack.web.images import ImageRoots
from actiontrack.web.permissions import READ, Everybody, Permissions
from actiontrack.web.routes import NAME, PREFIX, Route, current_site

__all__ = [
    "KNOWN_MLFLOW",
    "NAMES",
    "BasicAuth",
    "PrivateName",
    "check_names",
    "create_app",
    "prepare",
]

_BASIC_AUTH = "basic-auth"
#: Minor versions whose login is known, by the tests of access that pass there.
KNOWN_MLFLOW = ((3, 17), (3, 18))
_SERVER = "mlflow.server"
_AUTH = "mlflow.server.auth"
#: The way without the inside of MLflow's server.
_ALONE = (
    "Start MLflow's server without --app-name actiontrack, and the pages beside it with: "
    "actiontrack ui --tracking-uri http://HOST:PORT"
)


# What we use of MLflow's server


@dataclass(frozen=True)
class PrivateName:
    """A name of MLflow's server that we use.

    Attributes:
        module: where it is.
        name: of a function, class or value.
        purpose: what we need it for.
        sets: attribute of `flask.g` that the function leaves for those that come after it.
    """

    module: str
    name: str
    purpose: str
    sets: str = ""

    @property
    def for_login(self) -> bool:
        """Whether only a server with a login needs it."""
        return self.module == _AUTH

    def missing(self) -> str:
        """What is missing of it, or nothing.

        Raises:
            ImportError: if the module can't be loaded.
        """
        module = importlib.import_module(self.module)
        if not hasattr(module, self.name):
            return f"{self.module}.{self.name}"
        function = inspect.unwrap(getattr(module, self.name)) if self.sets else None
        if function is not None and self.sets not in function.__code__.co_names:
            return f"flask.g.{self.sets} of {self.module}.{self.name}"
        return ""


NAMES = (
    PrivateName(_SERVER, "app", "the application that our pages are put on"),
    PrivateName(_SERVER, "serve", "the page that gets a link to ours"),
    PrivateName("mlflow.server.handlers", "_add_static_prefix", "addresses under --static-prefix"),
    PrivateName("mlflow.server.fastapi_app", "create_fastapi_app", "the application for uvicorn"),
    PrivateName("mlflow.server.constants", "BACKEND_STORE_URI_ENV_VAR", "the server's own store"),
    PrivateName("mlflow.server.constants", "ARTIFACTS_DESTINATION_ENV_VAR", "its artifacts"),
    PrivateName("mlflow.environment_variables", "_MLFLOW_SGI_NAME", "which web server is run"),
    PrivateName(
        "mlflow.environment_variables",
        "_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN",
        "the token that jobs and workers share",
    ),
    PrivateName(_AUTH, "create_app", "the application behind the login"),
    PrivateName(_AUTH, "get_flask_server_secret_key", "the secret of the login"),
    PrivateName(_AUTH, "bootstrap_admin_user", "the first user"),
    PrivateName(_AUTH, "BEFORE_REQUEST_VALIDATORS", "MLflow's check before each of our routes"),
    PrivateName(_AUTH, "_before_request", "who has logged in", sets="mlflow_authenticated_user"),
    PrivateName(_AUTH, "store", "whether a user is an admin"),
    PrivateName(_AUTH, "authorize", "what a user may do with a run"),
    PrivateName(_AUTH, "_run_requirement", "what a right on a run asks of its experiment"),
    PrivateName(_AUTH, "_role_based_read_predicate", "which experiments a list shows"),
    PrivateName(_AUTH, "Requirement", "runs that are denied to a user"),
    PrivateName(_AUTH, "RESOURCE_TYPE_RUN", "the same"),
    PrivateName(_AUTH, "RESOURCE_TYPE_EXPERIMENT", "which experiments a list shows"),
    PrivateName(_AUTH, "ACTION_NOT_DENIED", "runs that are denied to a user"),
)


def check_names(*, login: bool) -> None:
    """Refuse a version of MLflow whose server lacks what we use of it.

    Args:
        login: whether the names of the login are needed, too.

    Raises:
        MissingDependencyError: names what is missing and what for, and the way without it.
    """
    lack = find_lack(login=login)
    if lack is not None:
        raise MissingDependencyError(" ".join(lack))


def find_lack(*, login: bool) -> tuple[str, str] | None:
    """What MLflow's server lacks first, what for, and the remedy; None if it lacks nothing."""
    for private in NAMES:
        if private.for_login and not login:
            continue
        try:
            missing = private.missing()
        except ImportError as error:
            reason = (
                f"{private.module} of MLflow {version('mlflow')} can't be loaded: {error}. It is "
                f"needed for {private.purpose}."
            )
            return reason, "Install it with: pip install 'actiontrack[web]'"
        if missing:
            reason = (
                f"the server of MLflow {version('mlflow')} has no {missing}, which is needed for "
                f"{private.purpose}."
            )
            return reason, _ALONE
    return None


# The application


def create_app() -> Any:
    """The server's application: MLflow's own with our pages, behind its login where that is on.

    Raises:
        ParameterError: if the environment contradicts itself.
        MissingDependencyError: if basic auth is wanted from a version of MLflow that is not known,
            or if MLflow's server lacks what we use of it.
    """
    login = wants_auth()
    if login:
        check_version()
    check_names(login=login)
    from mlflow.server import app  # noqa: PLC0415 - a server's modules, in a server only

    if not login:
        _install(app, Everybody())
        return _served(app)
    from mlflow.server import auth  # noqa: PLC0415

    _install(app, BasicAuth(auth), key=auth.get_flask_server_secret_key().encode())
    protect(app, auth, routes(), STATIC, _prefixed(PREFIX))
    return auth.create_app(app)


def prepare() -> None:
    """Check the configuration before any worker exists, as MLflow does for its own login.

    A wrong one is then one error, instead of workers that are started again without end.

    Raises:
        ParameterError: if the environment contradicts itself, or asks for what is not supported.
        MissingDependencyError: as `create_app`.
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
    shared_key()
    login = wants_auth()
    if login:
        check_version()
    check_names(login=login)
    if login:
        from mlflow.environment_variables import (  # noqa: PLC0415
            _MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN,
        )
        from mlflow.server import auth  # noqa: PLC0415

        auth.get_flask_server_secret_key()
        auth.bootstrap_admin_user()
        # What `mlflow server` does for its own app of this kind: jobs and workers share a token.
        # The key by which the Assistant of 3.18 acts for a user is not made: it must not reach
        # jobs, and whatever is set here does.
        os.environ.setdefault(_MLFLOW_INTERNAL_GATEWAY_AUTH_TOKEN.name, secrets.token_hex(32))


def _install(app: flask.Flask, permissions: Permissions, *, key: bytes | None = None) -> None:
    """Our pages on MLflow's application, and the way to them from MLflow's page."""
    prefix = _prefixed("/").removesuffix("/")
    install(
        app,
        permissions,
        store=_server_store(),
        key=key,
        prefix=prefix,
        mlflow_url=_prefixed("/"),
        origins=_allowed_origins(),
    )
    link_from_mlflow(app, prefix + PREFIX)


def link_from_mlflow(app: flask.Flask, base: str) -> None:
    """Put a link to our pages on MLflow's own, which is one page for everything.

    Args:
        app: MLflow's.
        base: path below which everything of ours is.
    """
    link = (
        f'<link rel="stylesheet" href="{base}/static/mlflow-link.css">'
        f'<a id="actiontrack-link" href="{base}/" title="Per-sample losses and action scores">'
        f'actiontrack</a><script src="{base}/static/mlflow-link.js" defer></script>'
    )

    def add_link(response: flask.Response) -> flask.Response:
        request = flask.request
        if request.endpoint != "serve" or response.status_code != 200:
            return response
        if response.mimetype != "text/html" or request.method != "GET":
            return response
        response.direct_passthrough = False
        text = response.get_data(as_text=True)
        head, end, tail = text.rpartition("</body>")
        response.set_data(head + link + end + tail if end else text + link)
        response.set_etag(hashlib.sha256(response.get_data()).hexdigest()[:32])
        response.make_conditional(request)
        return response

    app.after_request(add_link)


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


def _allowed_origins() -> tuple[str, ...]:
    text = os.environ.get("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "")
    return tuple(part.strip() for part in text.split(",") if part.strip() not in {"", "*"})


def _prefixed(path: str) -> str:
    from mlflow.server.handlers import _add_static_prefix  # noqa: PLC0415

    return str(_add_static_prefix(path))


# The login


def wants_auth() -> bool:
    """Whether the environment asks for MLflow's basic auth.

    Raises:
        ParameterError: if ACTIONTRACK_AUTH is neither "basic-auth" nor "none".
    """
    choice = settings.AUTH.value()
    if choice:
        return choice == _BASIC_AUTH
    return any(name.startswith("MLFLOW_AUTH_") and value for name, value in os.environ.items())


def is_known_version() -> bool:
    """Whether the inside of the installed MLflow's server is known, its login included."""
    minor = tuple(int(part) for part in version("mlflow").split(".")[:2])
    return minor in KNOWN_MLFLOW


def check_version() -> None:
    """Refuse a version of MLflow whose login is not known.

    Raises:
        MissingDependencyError: names the versions that are known, and the way without them.
    """
    if not is_known_version():
        installed = version("mlflow")
        minors = " and ".join(f"{major}.{small}" for major, small in KNOWN_MLFLOW)
        raise MissingDependencyError(
            f"the inside of MLflow's login is known for MLflow {minors}, and MLflow {installed} is "
            f"installed. {_ALONE}"
        )


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

    def audience(self) -> str:
        """Everybody: the store is read as the server reads it, and filtered afterwards."""
        return ""

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
        answers: dict[tuple[str, ...], bool] = flask.g.setdefault("actiontrack_rights", {})
        if "actiontrack_admin" not in flask.g:
            flask.g.actiontrack_admin = bool(self._auth.store.get_user(user).is_admin)
        if flask.g.actiontrack_admin:
            return True
        if what not in answers:
            answers[what] = bool(ask(user))
        return answers[what]


def protect(app: flask.Flask, auth: Any, routes: Sequence[Route], static: Path, base: str) -> None:
    """Let MLflow ask before each of our routes what the route itself asks once more.

    Args:
        app: with our routes.
        auth: the module `mlflow.server.auth`.
        routes: ours.
        static: folder of our static files.
        base: path below which everything of ours is.
    """
    for path, method in _protected(app, static, base):
        auth.BEFORE_REQUEST_VALIDATORS[path, method] = _validator(routes, base, path, method)


def _protected(app: flask.Flask, static: Path, base: str) -> Iterator[tuple[str, str]]:
    """Path and method of everything that we serve, static files one by one."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith(f"{NAME}.") and not rule.arguments:
            for method in rule.methods or ():
                yield rule.rule, method
    for file in static.rglob("*"):
        if file.is_file():
            for method in ("GET", "HEAD"):
                yield f"{base}/static/{file.relative_to(static).as_posix()}", method


def _validator(routes: Sequence[Route], base: str, path: str, method: str) -> Callable[[], bool]:
    """Whether the present user has the route's right on every run that the request names."""
    verb = "GET" if method in {"HEAD", "OPTIONS"} else method
    needs = next(
        (route.needs for route in routes if base + route.path == path and route.method == verb),
        READ,
    )

    def validate() -> bool:
        try:
            run_ids = access.run_ids()
        except ParameterError:  # too many: the route refuses them before it looks at any
            return True
        permissions = current_site().permissions
        return all(permissions.may_use_run(run_id, needs) for run_id in run_ids)

    return validate
