"""What a request that writes brings: the fields of a form or of a JSON object, as text."""

import json
from typing import Any

import flask
from werkzeug.datastructures import MultiDict

from actiontrack.errors import ParameterError

__all__ = ["sent_fields"]

_MAX_BYTES = 2**16


def sent_fields() -> MultiDict[str, str]:
    """The fields of the form or of the JSON object that the present request brings.

    Raises:
        ParameterError: if it brings more than 64 KiB, or JSON that is no object of texts, numbers
            and truth values.
    """
    request = flask.request
    if (request.content_length or 0) > _MAX_BYTES:
        rule = f"must have at most {_MAX_BYTES} bytes"
        raise ParameterError("body", rule, request.content_length, "Send less.")
    if not request.is_json:
        return request.form
    try:
        body = json.loads(request.get_data())
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        rule = "must be a form or a JSON object"
        raise ParameterError("body", rule, type(body).__name__, "Send one of these.")
    fields = {key: _text(key, value) for key, value in body.items()}
    return MultiDict({key: text for key, text in fields.items() if text is not None})


def _text(key: str, value: Any) -> str | None:
    """A value of JSON as a form would have it, None for null."""
    if isinstance(value, dict | list):
        kind = type(value).__name__
        raise ParameterError(key, "must be text or a number", kind, "Send one value.")
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)
