"""/actiontrack/api/: the tables and images of the pages, as JSON, CSV, Parquet and PNG.

One table, `ENDPOINTS`, holds every route of the API with its parameters and columns. The routes and
the OpenAPI document are made from it, so that they can't differ.
"""

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlencode

import flask
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

import actiontrack
from actiontrack import verdicts
from actiontrack.errors import ParameterError
from actiontrack.web import access, query
from actiontrack.web.data import Data, Page
from actiontrack.web.permissions import EDIT, READ
from actiontrack.web.query import Parameter
from actiontrack.web.routes import PREFIX, Route, current_site

__all__ = ["ENDPOINTS", "ROUTES", "Endpoint", "error_answer", "openapi"]

Values = Mapping[str, Any]
_TYPES = {
    "json": "application/json",
    "csv": "text/csv",
    "parquet": "application/vnd.apache.parquet",
}
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MAX_BODY = 2**16


class _Content(NamedTuple):
    """What is answered, without what depends on the single request."""

    body: bytes
    mimetype: str
    headers: dict[str, str] = {}  # noqa: RUF012 - of a named tuple, never changed


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One route of the API.

    Attributes:
        path: below /actiontrack/api/.
        about: what it answers, one sentence.
        answer: from the site's data and the values of the parameters to a frame, a page of one,
            an image, or a JSON object.
        parameters: without those of paging and format, which every table has.
        columns: columns that a table has whatever the record holds.
        kind: "table", "image" or "object".
        changes: whether the answer may change while the records do not: its ETag is made from the
            content then, and else from the digests of the records.
        method: "GET" or "POST".
        needs: the right that a user needs on the runs.
        body: fields of a form or JSON object that POST takes.
    """

    path: str
    about: str
    answer: Callable[[Data, Values], Any]
    parameters: tuple[Parameter, ...] = ()
    columns: tuple[str, ...] = ()
    kind: str = "table"
    changes: bool = False
    method: str = "GET"
    needs: str = READ
    body: tuple[Parameter, ...] = ()

    @property
    def all_parameters(self) -> tuple[Parameter, ...]:
        """With those of paging and format."""
        return (*self.parameters, *(_OF_TABLES if self.kind == "table" else ()))


_PAGING = ("page", "per_page")
_OF_TABLES = (query.PAGE, query.PER_PAGE, query.COLUMNS, query.FORMAT)


def error_answer(kind: str, message: str, status: int) -> flask.Response:
    """The JSON that says what went wrong."""
    body = {"error": {"type": kind, "message": message}}
    return flask.Response(_json(body), status, mimetype=_TYPES["json"])


# What each route answers


def _runs(data: Data, values: Values) -> Page:
    wanted = query.run_filter(values)
    return data.runs(wanted, **_taken(values, *_PAGING))


def _scores(data: Data, values: Values) -> Page:
    return data.scores(
        values["run"],
        values["record"],
        wanted=query.sample_filter(values),
        **_taken(values, "score", "order", *_PAGING),
    )


def _distributions(data: Data, values: Values) -> pd.DataFrame:
    return data.histogram(
        values["run"],
        values["record"],
        wanted=query.sample_filter(values),
        score=values["score"],
        bins=values["bins"],
        by_class=values["by"] == "class",
    )


def _correlations(data: Data, values: Values) -> pd.DataFrame:
    options = _taken(values, "score", "method", "on_mismatch")
    if values["between"] == "runs":
        return data.run_correlations(values["run"], values["record"], **options)
    options["bootstrap"] = values["bootstrap"]
    return data.correlations(values["run"], values["record"], **options)


def _curves(data: Data, values: Values) -> pd.DataFrame:
    ids = values["id"] or None
    return data.curves(values["run"], values["record"], sample_ids=ids, n=values["n"])


def _neighbours(data: Data, values: Values) -> pd.DataFrame:
    options = _taken(values, "n", "k", "score")
    ids = values["id"] or None
    return data.neighbours(values["run"], values["record"], sample_ids=ids, **options)


def _verdicts(data: Data, values: Values) -> pd.DataFrame:
    read = data.current_verdicts if values["current"] else data.verdicts
    return read(values["run"], values["record"])


def _add_verdict(data: Data, values: Values) -> dict[str, Any]:
    who = access.user_name()
    data.add_verdict(
        values["run"],
        values["record"],
        values["id"],
        verdict=values["verdict"],
        who=who,
        new_label=values["new_label"],
        note=values["note"],
    )
    return {"sample_id": values["id"], "verdict": values["verdict"], "who": who}


def _me(_data: Data, _values: Values) -> dict[str, Any]:
    return {"user": access.user_name(), "csrf_token": access.csrf_token()}


def _taken(values: Values, *names: str) -> dict[str, Any]:
    return {name: values[name] for name in names}


def _integer(name: str, about: str, default: int, least: int, most: int) -> Parameter:
    return Parameter(
        name=name, about=about, kind="integer", default=default, least=least, most=most
    )


_OF_RUN = (query.RUN, query.RECORD)
_OF_SEVERAL = (query.SEVERAL, query.RECORD, query.SCORE, query.MISMATCH)
_HEAD = ("run_id", "run_name", "model")

#: Every route of the API.
ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        path="runs",
        about="Runs with a record that you may read, newest first, one row per run and record.",
        answer=_runs,
        parameters=query.RUN_FILTER,
        columns=(*_HEAD, "experiment", "experiment_id", "record", "status", "complete", "problem"),
        changes=True,
    ),
    Endpoint(
        path="scores",
        about="Every score of every sample of a run.",
        answer=_scores,
        parameters=(*_OF_RUN, query.SCORE, query.ORDER, *query.SAMPLE_FILTER),
        columns=(*_HEAD, "record", "complete", "sample_id", "class", "action", "n_steps"),
    ),
    Endpoint(
        path="distributions",
        about="Histogram of a score: how many samples lie from low to high.",
        answer=_distributions,
        parameters=(
            *_OF_RUN,
            query.SCORE,
            _integer("bins", "Bins of equal width.", 50, 1, 1000),
            Parameter(
                name="by",
                about="All samples together, or each class in the same bins.",
                default="all",
                choices=("all", "class"),
            ),
            *query.SAMPLE_FILTER,
        ),
        columns=("class", "low", "high", "count"),
    ),
    Endpoint(
        path="classes",
        about="Distribution of a score per class, hardest class first.",
        answer=lambda data, values: data.classes(
            values["run"], values["record"], score=values["score"]
        ),
        parameters=(*_OF_RUN, query.SCORE),
        columns=(*_HEAD, "rank", "class", "n", "mean", "std", "median", "q05", "q95"),
    ),
    Endpoint(
        path="curves",
        about="Loss against step of given samples, or of the n hardest of each run.",
        answer=_curves,
        parameters=(
            query.RUNS,
            query.RECORD,
            query.SAMPLES,
            _integer("n", "Samples, without ids.", 10, 1, 1000),
        ),
        columns=(*_HEAD, "sample_id", "step", "loss", "action"),
    ),
    Endpoint(
        path="clusters",
        about="K-means of all loss curves: centres, and the curves closest to each.",
        answer=lambda data, values: data.clusters(
            values["run"], values["record"], k=values["k"], n_closest=values["n"]
        ),
        parameters=(
            *_OF_RUN,
            _integer("k", "Clusters.", 3, 1, 20),
            _integer("n", "Curves closest to each centre.", 3, 1, 50),
        ),
        columns=(*_HEAD, "cluster", "trend", "kind", "rank", "sample_id", "step", "loss"),
    ),
    Endpoint(
        path="neighbours",
        about="Nearest neighbours of samples in feature space.",
        answer=_neighbours,
        parameters=(
            *_OF_RUN,
            query.SAMPLES,
            query.SCORE,
            _integer("n", "The n hardest, without ids.", 6, 1, 100),
            _integer("k", "Neighbours of each.", 8, 1, 100),
        ),
        columns=(*_HEAD, "query_id", "query_class", "rank", "sample_id", "class", "distance"),
    ),
    Endpoint(
        path="correlations",
        about="Correlation of a score between models or runs, overall and per class. Rows of the "
        "kind same-model are the ceiling of the others.",
        answer=_correlations,
        parameters=(
            *_OF_SEVERAL,
            query.METHOD,
            Parameter(
                name="between",
                about="Means over the pairs of runs of two models, or each pair of runs.",
                default="models",
                choices=("models", "runs"),
            ),
            _integer("bootstrap", "Resamples for ci_low and ci_high; 0 for none.", 0, 0, 1000),
        ),
        columns=("method", "class", "n_samples", "n_dropped"),
    ),
    Endpoint(
        path="quantiles",
        about="Correlation among the samples above each quantile of the score.",
        answer=lambda data, values: data.quantiles(
            values["run"], values["record"], **_taken(values, "score", "method", "on_mismatch")
        ),
        parameters=(*_OF_SEVERAL, query.METHOD),
        columns=("method", "kind", "model_a", "model_b", "quantile", "mean", "n_samples"),
    ),
    Endpoint(
        path="pairs",
        about="One score of two runs side by side.",
        answer=lambda data, values: data.pairs(
            values["run"][0],
            values["run"][1],
            values["record"],
            **_taken(values, "score", "on_mismatch"),
        ),
        parameters=(query.TWO, query.RECORD, query.SCORE, query.MISMATCH),
        columns=("sample_id", "class", "score_a", "score_b"),
    ),
    Endpoint(
        path="contrasts",
        about="Samples that are hard for one model and easy for another.",
        answer=lambda data, values: data.contrasts(
            values["run"], values["record"], **_taken(values, "score", "on_mismatch", "n")
        ),
        parameters=(*_OF_SEVERAL, _integer("n", "Samples of each pair.", 12, 1, 1000)),
        columns=("hard_for", "easy_for", "place", "sample_id", "class", "difference"),
    ),
    Endpoint(
        path="entropy",
        about="Action against predictive entropy, of one run or of an ensemble of runs.",
        answer=lambda data, values: data.entropy(values["run"], values["record"]),
        parameters=(query.RUNS, query.RECORD),
        columns=("sample_id", "class", "action", "entropy", "correct"),
    ),
    Endpoint(
        path="image",
        about="The image of a sample.",
        answer=lambda data, values: _Content(
            *data.image(values["run"], values["record"], values["id"])
        ),
        parameters=(*_OF_RUN, query.SAMPLE),
        kind="image",
    ),
    Endpoint(
        path="picture",
        about="A further picture of a sample, such as its label or prediction.",
        answer=lambda data, values: _Content(
            *data.picture(values["run"], values["record"], values["id"], values["name"])
        ),
        parameters=(
            *_OF_RUN,
            query.SAMPLE,
            Parameter(name="name", about='Such as "label".', required=True),
        ),
        kind="image",
    ),
    Endpoint(
        path="map",
        about="The action of each pixel of a sample, as an image.",
        answer=lambda data, values: _Content(
            data.map_png(values["run"], values["record"], values["id"]), "image/png"
        ),
        parameters=(*_OF_RUN, query.SAMPLE),
        kind="image",
    ),
    Endpoint(
        path="boxes",
        about="Annotated and predicted boxes of a sample.",
        answer=lambda data, values: data.boxes(values["run"], values["record"], values["id"]),
        parameters=(*_OF_RUN, query.SAMPLE),
        columns=("sample_id", "kind", "class", "score", "left", "top", "right", "bottom"),
    ),
    Endpoint(
        path="verdicts",
        about="What people said of samples.",
        answer=_verdicts,
        parameters=(
            *_OF_RUN,
            Parameter(
                name="current",
                about="Only the verdict that counts of each sample, or all of them.",
                kind="boolean",
                default=True,
            ),
        ),
        columns=verdicts.COLUMNS,
        changes=True,
    ),
    Endpoint(
        path="verdicts",
        about="Say of a sample that its label is wrong, ambiguous or fine.",
        answer=_add_verdict,
        parameters=(query.RUN, query.RECORD),
        kind="object",
        method="POST",
        needs=EDIT,
        body=(
            Parameter(name="id", about="Id of the sample.", required=True),
            Parameter(
                name="verdict", about="What is the case.", required=True, choices=verdicts.VERDICTS
            ),
            Parameter(
                name="new_label",
                about="Index of the right class, with wrong_label.",
                kind="integer",
                least=0,
                most=2**31 - 1,
            ),
            Parameter(name="note", about="Anything else.", default=""),
            Parameter(name=access.CSRF_FIELD, about="From /actiontrack/api/me, or as a header."),
        ),
    ),
    Endpoint(
        path="precision",
        about="Precision at k from the verdicts: how many of the hardest have a wrong label.",
        answer=lambda data, values: data.precision(
            values["run"], values["record"], score=values["score"], ks=values["k"] or None
        ),
        parameters=(
            *_OF_RUN,
            query.SCORE,
            Parameter(
                name="k", about="The k hardest; repeat it.", kind="integer", many=True, most=100
            ),
        ),
        columns=("k", "n_judged", "n_wrong", "n_ambiguous", "n_fine", "precision"),
        changes=True,
    ),
    Endpoint(
        path="me",
        about="Your name here, and the token that a request that writes must send back.",
        answer=_me,
        kind="object",
        changes=True,
    ),
    Endpoint(
        path="openapi.json",
        about="This description.",
        answer=lambda _data, _values: openapi(),
        kind="object",
        changes=True,
    ),
)


# How it is answered


def _respond(endpoint: Endpoint) -> flask.Response:
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


def _content(endpoint: Endpoint, values: Values, kind: str) -> _Content:
    answer = endpoint.answer(current_site().data, values)
    if isinstance(answer, _Content):
        return answer
    if endpoint.kind == "object":
        return _Content(_json(answer), _TYPES["json"])
    return _table(answer, values, kind)


def _receive(endpoint: Endpoint) -> flask.Response:
    if (flask.request.content_length or 0) > _MAX_BODY:
        rule = f"must have at most {_MAX_BODY} bytes"
        raise ParameterError("body", rule, flask.request.content_length, "Send less.")
    values = query.parse(endpoint.parameters, flask.request.args)
    values |= query.parse(endpoint.body, _body())
    answer = endpoint.answer(current_site().data, values)
    return flask.Response(_json(answer), 201, mimetype=_TYPES["json"])


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
    best = flask.request.accept_mimetypes.best_match(list(_TYPES.values()), _TYPES["json"])
    return next(name for name, mimetype in _TYPES.items() if mimetype == best)


def _etag(data: Data, values: Values, kind: str) -> str:
    run = values["run"]
    version = data.version([run] if isinstance(run, str) else run, values["record"])
    parts = [actiontrack.__version__, flask.request.full_path, kind, version]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _with_etag(response: flask.Response, etag: str) -> flask.Response:
    response.set_etag(etag)
    response.headers["Vary"] = "Accept, Authorization, Cookie"
    return response


def _table(answer: pd.DataFrame | Page, values: Values, kind: str) -> _Content:
    page = answer if isinstance(answer, Page) else Page.of(answer, **_taken(values, *_PAGING))
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
    return _Content(content, _TYPES[kind], headers)


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
    pa_csv.write_csv(_arrow(frame), buffer, options)
    return buffer.getvalue()


def _parquet(frame: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(_arrow(frame), buffer, compression="zstd")
    return buffer.getvalue()


def _json(body: Any) -> bytes:
    return json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _route(endpoint: Endpoint) -> Route:
    respond = _respond if endpoint.method == "GET" else _receive
    return Route(
        path=f"/api/{endpoint.path}",
        function=lambda: respond(endpoint),
        method=endpoint.method,
        needs=endpoint.needs,
    )


ROUTES: tuple[Route, ...] = tuple(_route(each) for each in ENDPOINTS)


# How it is described


def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of the API, made from `ENDPOINTS`."""
    paths: dict[str, dict[str, Any]] = {}
    for each in ENDPOINTS:
        operations = paths.setdefault(f"{PREFIX}/api/{each.path}", {})
        operations[each.method.lower()] = _operation(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "actiontrack",
            "version": actiontrack.__version__,
            "description": "Action scores and per-sample losses of tracked runs. With MLflow's "
            "basic auth, every route obeys the permissions on experiments.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": {"Table": _TABLE_SCHEMA, "Error": _ERROR_SCHEMA},
            "securitySchemes": {"basic": {"type": "http", "scheme": "basic"}},
        },
        "security": [{}, {"basic": []}],
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    name = endpoint.path.removesuffix(".json")
    verb = "add" if endpoint.method == "POST" else "get"
    operation: dict[str, Any] = {
        "operationId": f"{verb}_{name}",
        "summary": endpoint.about,
        "parameters": [each.schema() for each in endpoint.all_parameters],
        "responses": _responses(endpoint),
    }
    if endpoint.columns:
        operation["description"] = f"Columns: {', '.join(endpoint.columns)}, and others."
    if endpoint.body:
        fields = {each.name: each.schema()["schema"] for each in endpoint.body}
        required = [each.name for each in endpoint.body if each.required]
        schema = {"type": "object", "properties": fields, "required": required}
        kinds = ("application/json", "application/x-www-form-urlencoded")
        content = {kind: {"schema": schema} for kind in kinds}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    table = {"schema": {"$ref": "#/components/schemas/Table"}}
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {
        "table": {
            _TYPES["json"]: table,
            _TYPES["csv"]: {"schema": {"type": "string"}},
            _TYPES["parquet"]: binary,
        },
        "image": dict.fromkeys(_IMAGES, binary),
        "object": {_TYPES["json"]: {"schema": {"type": "object"}}},
    }[endpoint.kind]
    good = "201" if endpoint.method == "POST" else "200"
    responses: dict[str, Any] = {good: {"description": endpoint.about, "content": content}}
    if endpoint.method == "GET":
        responses["304"] = {"description": "Nothing has changed since the given ETag."}
    error = {_TYPES["json"]: {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status, what in _ERRORS.items():
        responses[status] = {"description": what, "content": error}
    responses["401"] = {"description": "Basic auth is on, and nobody is logged in."}
    return dict(sorted(responses.items()))


_ERRORS = {
    "400": "A parameter is wrong or unknown.",
    "403": "You have no permission, or the request was made by another site's page.",
    "404": "No such run, record, sample or image.",
    "409": "The runs can't be compared.",
    "422": "The record is damaged, or newer than this server.",
    "500": "The store or the server failed.",
}
_TABLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["columns", "rows", "total", "page", "per_page", "next", "run_ids"],
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}},
        "rows": {
            "type": "array",
            "items": {"type": "array", "items": {}},
            "description": "One list per row; null for what is missing or not finite.",
        },
        "total": {"type": "integer", "description": "Rows of the whole table."},
        "page": {"type": "integer"},
        "per_page": {"type": "integer"},
        "next": {"type": ["string", "null"], "description": "Address of the next page."},
        "run_ids": {"type": "array", "items": {"type": "string"}},
    },
}
_ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
