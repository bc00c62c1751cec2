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
from actiontrack.web import access
from actiontrack.web.api.endpoint import MEDIA_TYPES, Content, Endpoint
from actiontrack.web.body import sent_fields
from actiontrack.web.parameters import TableOptions, parse
from actiontrack.web.rendering import here
from actiontrack.web.routes import current_site
from actiontrack.web.runs import Page

__all__ = [
    "answer_request",
    "error_answer",
    "receive",
]


def error_answer(kind: str, message: str, status: int) -> flask.Response:
    """The JSON that says what went wrong."""
    body = {"error": {"type": kind, "message": message}}
    return flask.Response(_json(body), status, mimetype=MEDIA_TYPES["json"])


def answer_request(endpoint: Endpoint) -> flask.Response:
    """Answer a GET of an endpoint."""
    values = parse(endpoint.parameters, flask.request.args)
    kind = _format(values) if isinstance(values, TableOptions) else endpoint.kind
    if endpoint.changes or getattr(values, "slices", None):  # of attributes that may be added
        content = _content(endpoint, values, kind)
        etag = hashlib.sha256(content.body).hexdigest()[:32]
    else:
        etag = _etag(values, kind)
        if flask.request.if_none_match.contains(etag):
            return _with_etag(flask.Response(status=304), etag)
        content = current_site().records.remember(
            ("answer", etag), lambda: _content(endpoint, values, kind)
        )
    response = flask.Response(content.body, mimetype=content.mimetype)
    response.headers.update(content.headers)
    response = _with_etag(response, etag)
    response.make_conditional(flask.request)
    return response


def receive(endpoint: Endpoint) -> flask.Response:
    """Answer a POST of an endpoint: its body is a form or JSON."""
    assert endpoint.body is not None  # noqa: S101 - as every POST has
    values = parse(endpoint.parameters, flask.request.args)
    body = parse(endpoint.body, sent_fields())
    answer = endpoint.answer(current_site(), values, body)
    return flask.Response(_json(answer), 201, mimetype=MEDIA_TYPES["json"])


def _content(endpoint: Endpoint, values: Any, kind: str) -> Content:
    answer = endpoint.answer(current_site(), values)
    if isinstance(answer, Content):
        return answer
    if endpoint.kind == "object":
        return Content(_json(answer), MEDIA_TYPES["json"])
    return _table(answer, values, kind)


def _format(values: TableOptions) -> str:
    if values.format:
        return values.format
    best = flask.request.accept_mimetypes.best_match(
        list(MEDIA_TYPES.values()), MEDIA_TYPES["json"]
    )
    return next(name for name, mimetype in MEDIA_TYPES.items() if mimetype == best)


def _etag(values: Any, kind: str) -> str:
    run_ids = [values.run] if isinstance(values.run, str) else values.run
    version = current_site().records.version(run_ids, values.record)
    parts = [__version__, here(), flask.request.full_path, kind, version]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _with_etag(response: flask.Response, etag: str) -> flask.Response:
    response.set_etag(etag)
    response.headers["Vary"] = "Accept, Authorization, Cookie"
    return response


def _table(answer: pd.DataFrame | Page, values: TableOptions, kind: str) -> Content:
    page = answer
    if not isinstance(page, Page):
        page = Page.of(page, page=values.page, per_page=values.per_page)
    frame = _chosen(page.frame, values.columns)
    after = _next_url(page)
    headers = {"X-Total-Count": str(page.total)}
    if after:
        headers["Link"] = f'<{after}>; rel="next"'
    if kind == "json":
        body = {
            "columns": [str(name) for name in frame.columns],
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
    if len(set(columns)) != len(columns):
        raise ParameterError("columns", "must name each column once", columns, "Drop the repeats.")
    unknown = [name for name in columns if name not in frame.columns]
    if unknown:
        rule = f"must come from {', '.join(map(str, frame.columns))}"
        raise ParameterError("columns", rule, unknown[0], "Choose some of these.")
    return frame[list(columns)] if columns else frame


def _next_url(page: Page) -> str | None:
    if page.page >= page.n_pages:
        return None
    pairs = [pair for pair in flask.request.args.items(multi=True) if pair[0] != "page"]
    return f"{here()}?{urlencode([*pairs, ('page', page.page + 1)])}"


def _rows(frame: pd.DataFrame) -> list[list[Any]]:
    columns = [_plain(frame[name]) for name in frame.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def _plain(column: "pd.Series[Any]") -> list[Any]:
    """Values that JSON has: what is not finite or missing is None."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f":
        values = column.to_numpy(dtype=np.float64)
        if np.isfinite(values).all():
            return list(values.tolist())
        return [value if np.isfinite(value) else None for value in values.tolist()]
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub":
        return list(column.to_list())
    if pd.api.types.is_datetime64_any_dtype(column):
        return [None if moment is pd.NaT else moment.isoformat() for moment in column]
    return list(column.astype(object).where(column.notna(), None).to_list())


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.table({str(name): _arrow_array(frame[name]) for name in frame.columns})


def _arrow_array(column: "pd.Series[Any]") -> pa.Array:
    """Categories and ids of several kinds as text, and times in UTC."""
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        naive = column.dt.tz_convert("UTC").dt.tz_localize(None)
        return pa.array(naive.to_numpy(), pa.timestamp("us")).cast(pa.timestamp("us", "UTC"))
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("string")
    try:
        array = pa.array(column, from_pandas=True)
    except (pa.ArrowTypeError, pa.ArrowInvalid):  # numbers among texts, of runs that differ in it
        array = pa.array(column.astype("string"), from_pandas=True)
    return array.cast(pa.string()) if pa.types.is_null(array.type) else array


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
    text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")  # half of a surrogate pair, as JSON escapes it
