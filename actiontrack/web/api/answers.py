"""Answers of the API: tables as JSON, CSV or Parquet, ETags, errors."""

import hashlib
import io
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import flask
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from actiontrack._version import __version__
from actiontrack.errors import ParameterError
from actiontrack.record.escaping import escape_cells
from actiontrack.web import access, query
from actiontrack.web.api.endpoint import MEDIA_TYPES, PAGING, Content, Endpoint, Values, selected
from actiontrack.web.data import Data, Page
from actiontrack.web.routes import current_site

__all__ = [
    "answer_request",
    "error_answer",
    "receive",
]

_MAX_BODY = 2**16


def error_answer(kind: str, message: str, status: int) -> flask.Response:
    """The JSON that says what went wrong."""
    body = {"error": {"type": kind, "message": message}}
    return flask.Response(_json(body), status, mimetype=MEDIA_TYPES["json"])


# How it is answered
def answer_request(endpoint: Endpoint) -> flask.Response:
    """Answer a GET of an endpoint."""
    values = query.parse(endpoint.all_parameters, flask.request.args)
    data = current_site().data
    kind = _format(values) if endpoint.kind == "table" else endpoint.kind
    if endpoint.changes:
        content = _content(endpoint, values, kind)
        etag = hashlib.sha256(content.body).hexdigest()[:32]
    else:
        etag = _etag(data, values, kind)
        if flask.request.if_none_match.contains(etag):
            return _with_etag(flask.Response(status=304), etag)
        content = data.kept(("answer", etag), lambda: _content(endpoint, values, kind))
    response = flask.Response(content.body, mimetype=content.mimetype)
    response.headers.update(content.headers)
    response = _with_etag(response, etag)
    response.make_conditional(flask.request)
    return response


def _content(endpoint: Endpoint, values: Values, kind: str) -> Content:
    answer = endpoint.answer(current_site().data, values)
    if isinstance(answer, Content):
        return answer
    if endpoint.kind == "object":
        return Content(_json(answer), MEDIA_TYPES["json"])
    return _table(answer, values, kind)


def receive(endpoint: Endpoint) -> flask.Response:
    """Answer a POST of an endpoint: its body is JSON."""
    if (flask.request.content_length or 0) > _MAX_BODY:
        rule = f"must have at most {_MAX_BODY} bytes"
        raise ParameterError("body", rule, flask.request.content_length, "Send less.")
    values = query.parse(endpoint.parameters, flask.request.args)
    values |= query.parse(endpoint.body, _body())
    answer = endpoint.answer(current_site().data, values)
    return flask.Response(_json(answer), 201, mimetype=MEDIA_TYPES["json"])


def _body() -> Any:
    """The fields of the form or of the JSON object that the request brings."""
    request = flask.request
    if not request.is_json:
        return request.form
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        rule = "must be a form or a JSON object"
        raise ParameterError("body", rule, type(body).__name__, "Send one of these.")
    fields = {key: "" if each is None else str(each) for key, each in body.items()}
    return type(request.form)(fields)


def _format(values: Values) -> str:
    if values["format"]:
        return str(values["format"])
    best = flask.request.accept_mimetypes.best_match(
        list(MEDIA_TYPES.values()), MEDIA_TYPES["json"]
    )
    return next(name for name, mimetype in MEDIA_TYPES.items() if mimetype == best)


def _etag(data: Data, values: Values, kind: str) -> str:
    run = values["run"]
    version = data.version([run] if isinstance(run, str) else run, values["record"])
    parts = [__version__, flask.request.full_path, kind, version]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _with_etag(response: flask.Response, etag: str) -> flask.Response:
    response.set_etag(etag)
    response.headers["Vary"] = "Accept, Authorization, Cookie"
    return response


def _table(answer: pd.DataFrame | Page, values: Values, kind: str) -> Content:
    page = answer if isinstance(answer, Page) else Page.of(answer, **selected(values, *PAGING))
    frame = _chosen(page.frame, values["columns"])
    after = _next_url(page)
    headers = {"X-Total-Count": str(page.total)}
    if after:
        headers["Link"] = f'<{after}>; rel="next"'
    if kind == "json":
        body = {
            "columns": [str(each) for each in frame.columns],
            "rows": _rows(frame),
            "total": page.total,
            "page": page.page,
            "per_page": page.per_page,
            "next": after,
            "run_ids": access.run_ids(),
        }
        content = _json(body)
    else:
        content = (_csv if kind == "csv" else _parquet)(frame)
        stem = flask.request.path.rpartition("/")[2]
        headers["Content-Disposition"] = f'attachment; filename="{stem}.{kind}"'
    return Content(content, MEDIA_TYPES[kind], headers)


def _chosen(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    unknown = [each for each in columns if each not in frame.columns]
    if unknown:
        rule = f"must come from {', '.join(map(str, frame.columns))}"
        raise ParameterError("columns", rule, unknown[0], "Choose some of these.")
    return frame[list(columns)] if columns else frame


def _next_url(page: Page) -> str | None:
    if page.page >= page.n_pages:
        return None
    given = flask.request.args
    pairs = [(key, each) for key in given for each in given.getlist(key) if key != "page"]
    return f"{flask.request.path}?{urlencode([*pairs, ('page', page.page + 1)])}"


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    columns = [_plain(frame[name]) for name in frame.columns]
    return [list(each) for each in zip(*columns, strict=True)]


def _plain(column: "pd.Series[Any]") -> list[Any]:
    """Values that JSON has: what is not finite or missing is None."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        values = column.to_numpy(dtype=np.float64)
        if np.isfinite(values).all():
            return list(values.tolist())
        return [each if np.isfinite(each) else None for each in values.tolist()]
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub":
        return list(column.to_list())
    if pd.api.types.is_datetime64_any_dtype(column):
        return [None if each is pd.NaT else each.isoformat() for each in column]
    return list(column.astype(object).where(column.notna(), None).to_list())


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.table({str(name): _arrow_array(frame[name]) for name in frame.columns})


def _arrow_array(column: "pd.Series[Any]") -> pa.Array:
    """Categories as text, and times in UTC."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        naive = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return pa.array(naive.to_numpy(), pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("string")
    found = pa.array(column, from_pandas=True)
    return found.cast(pa.string()) if pa.types.is_null(found.type) else found


def _csv(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    options = pa_csv.WriteOptions(quoting_style="needed")
    pa_csv.write_csv(_arrow(escape_cells(frame)), buffer, options)
    return buffer.getvalue()


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(_arrow(frame), buffer, compression="zstd")
    return buffer.getvalue()


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
