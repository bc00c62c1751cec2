"""The routes of the API."""

from actiontrack.web.api.answers import answer_request, receive
from actiontrack.web.api.endpoint import Endpoint
from actiontrack.web.api.endpoints import ENDPOINTS
from actiontrack.web.routes import Route

__all__ = [
    "ROUTES",
]


def _route(endpoint: Endpoint) -> Route:
    respond = answer_request if endpoint.method == "GET" else receive
    return Route(
        path=f"/api/{endpoint.path}",
        function=lambda: respond(endpoint),
        method=endpoint.method,
        needs=endpoint.needs,
    )


ROUTES: tuple[Route, ...] = tuple(_route(endpoint) for endpoint in ENDPOINTS)
