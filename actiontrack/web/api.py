"""/actiontrack/api/: the tables of the pages as JSON, CSV or Parquet."""

import json

import flask

from actiontrack.web.routes import Route

__all__ = ["ROUTES", "error_answer"]

ROUTES: tuple[Route, ...] = ()


def error_answer(message: str, status: int) -> flask.Response:
    """The JSON that says what went wrong."""
    body = {"error": {"type": status, "message": message}}
    return flask.Response(json.dumps(body), status, mimetype="application/json")
