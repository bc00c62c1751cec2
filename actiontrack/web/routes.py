"""What a route is: an exact path, what a user needs for it, and the function that answers.

Paths have no parameters, because MLflow's basic auth knows routes by their exact path. Runs are
named in the query or the form as `run=ID`, repeated for several, and nowhere else: so one check
covers every route.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flask

from actiontrack.web.images import ImageRoots
from actiontrack.web.permissions import READ, Permissions
from actiontrack.web.records import Records

__all__ = ["NAME", "PREFIX", "Route", "Site", "current_site"]

#: Name of the blueprint and of the extension.
NAME = "actiontrack"
#: Below this path are all pages and the API.
PREFIX = "/actiontrack"


@dataclass(frozen=True, kw_only=True)
class Route:
    """One path and method.

    Attributes:
        path: below `PREFIX`, such as "/api/scores"; "/" for the first page.
        function: called without arguments inside a Flask request; what it returns is answered.
        method: "GET" (HEAD comes with it) or "POST".
        needs: the right that a user needs on every run that the request names.
    """

    path: str
    function: Callable[[], Any]
    method: str = "GET"
    needs: str = READ

    @property
    def endpoint(self) -> str:
        """Name of the route: `flask.url_for("actiontrack.run")` for "/run".

        "index" for "/", "api_scores" for "/api/scores", "review_post" for POST.
        """
        stem = "".join(
            character if character.isalnum() else "_" for character in self.path.strip("/")
        )
        return (stem or "index") + ("" if self.method == "GET" else f"_{self.method.lower()}")


@dataclass(frozen=True, kw_only=True)
class Site:
    """What the routes of one server work with.

    Attributes:
        records: those of the server's store.
        image_roots: folders that images may be read from, beside the thumbnails of records.
        key: secret by which form tokens are made, shared by all workers of the server.
        origins: other origins from which forms may come, such as "https://mlflow.example.org".
        mlflow_url: address of MLflow's own first page, such as "/".
        base: path below which everything of ours is.
    """

    records: Records
    image_roots: ImageRoots
    key: bytes
    origins: tuple[str, ...] = ()
    mlflow_url: str = "/"
    base: str = PREFIX

    @property
    def permissions(self) -> Permissions:
        """What the user of the present request may do."""
        return self.records.permissions


def current_site() -> Site:
    """The site of the present request."""
    site = flask.current_app.extensions[NAME]
    assert isinstance(site, Site)  # noqa: S101 - set by `app.install`
    return site
