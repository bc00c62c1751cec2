"""MLflow's basic auth: whether it is on, what it lets a user do, and which routes it guards.

Basic auth is on where the environment says ACTIONTRACK_AUTH=basic-auth, or sets any of MLflow's
own MLFLOW_AUTH_ variables, so that a server that was meant to have a login is never open. It
touches the inside of MLflow's server: with a version that is not known the server does not start,
since a permission that is not understood must not be guessed.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import flask

from actiontrack import settings
from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.web import access
from actiontrack.web.permissions import READ
from actiontrack.web.routes import NAME, Route, current_site

__all__ = ["BasicAuth", "check_version", "protect", "wants_auth"]

_BASIC_AUTH = "basic-auth"
_KNOWN_MLFLOW = ((3, 17), (3, 18))  # from, and below


def wants_auth() -> bool:
    """Whether the environment asks for MLflow's basic auth.

    Raises:
        ParameterError: if ACTIONTRACK_AUTH is neither "basic-auth" nor "none".
    """
    choice = settings.AUTH.value()
    if choice:
        return choice == _BASIC_AUTH
    return any(name.startswith("MLFLOW_AUTH_") and value for name, value in os.environ.items())


def check_version() -> None:
    """Refuse a version of MLflow whose login is not known.

    Raises:
        MissingDependencyError: names the versions that are known.
    """
    installed = version("mlflow")
    minor = tuple(int(part) for part in installed.split(".")[:2])
    low, high = _KNOWN_MLFLOW
    if not low <= minor < high:
        requirement = f"mlflow[auth]>={low[0]}.{low[1]},<{high[0]}.{high[1]}"
        raise MissingDependencyError(
            f"basic auth is known to work with {requirement}, and MLflow {installed} is installed. "
            f"Install the known one with: pip install '{requirement}'"
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
