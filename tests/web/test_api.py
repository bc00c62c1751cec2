"""The API: every endpoint in every format, paging, ETags, errors, and its own description."""

import csv
import io
import json
import re
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from actiontrack.store import Store
from actiontrack.web.api.endpoints import ENDPOINTS
from actiontrack.web.api.openapi import openapi
from actiontrack.web.api.routes import ROUTES
from actiontrack.web.parameters import fields_of
from actiontrack.web.records import Records

READING = [each for each in ENDPOINTS if each.method == "GET"]
TABLES = [each for each in READING if each.kind == "table"]
LASTING = [each for each in READING if each.path != "me"]  # a new token for each that asks


@pytest.fixture(scope="module")
def query_of(runs):
    """A query that each endpoint answers: path -> parameters."""
    one, other = runs["mlp-0"], runs["linear-0"]
    several = [one, runs["mlp-1"], other]
    fixed = {
        "runs": {},
        "me": {},
        "openapi.json": {},
        "curves": {"run": one, "n": 2},
        "entropy": {"run": one},
        "correlations": {"run": several},
        "quantiles": {"run": several},
        "pairs": {"run": [one, other]},
        "contrasts": {"run": several, "n": 3},
        "image": {"run": one, "id": 3},
        "picture": {"run": runs["segmentation"], "id": 3, "name": "label"},
        "map": {"run": runs["segmentation"], "id": 3},
        "boxes": {"run": runs["detection"], "id": 3},
    }
    return lambda path: fixed.get(path, {"run": one})


@pytest.fixture
def answer(site, query_of):
    """A function that gives the response of an endpoint to its usual query and more."""

    def ask(path, headers=None, **more):
        query = query_of(path) | more
        return site.get(f"/actiontrack/api/{path}", query_string=query, headers=headers)

    return ask


# Formats


@pytest.mark.parametrize("endpoint", TABLES, ids=lambda each: each.path)
def test_a_table_is_the_same_in_every_format(answer, endpoint):
    body = answer(endpoint.path).get_json()
    assert set(endpoint.columns) <= set(body["columns"])
    text = answer(endpoint.path, format="csv").get_data(as_text=True)
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == body["columns"]
    assert len(rows) - 1 == len(body["rows"])
    table = pq.read_table(io.BytesIO(answer(endpoint.path, format="parquet").data))
    assert table.column_names == body["columns"]
    assert table.num_rows == len(body["rows"])


def test_numbers_survive_csv_and_json_exactly(answer, site, recorded, runs):
    scores = Store(recorded[0]).open_record(runs["mlp-0"]).scores()
    expected = scores.sort_values("sample_id")["action"].to_numpy()
    text = answer("scores", format="csv", per_page=1000).get_data(as_text=True)
    read = {
        int(each["sample_id"]): float(each["action"]) for each in csv.DictReader(text.splitlines())
    }
    np.testing.assert_array_equal([read[each] for each in range(200)], expected)
    body = answer("scores", per_page=1000, columns=["sample_id", "action"]).get_json()
    np.testing.assert_array_equal([each[1] for each in sorted(body["rows"])], expected)


def test_what_is_not_finite_is_null_in_json(answer):
    body = answer("scores", per_page=1000, columns=["forgetting"]).get_json()
    values = [each[0] for each in body["rows"]]
    assert None in values  # samples that were never learnt have an infinite number
    assert any(isinstance(each, float) for each in values)


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        ("text/csv", "text/csv"),
        ("application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ("text/html,*/*;q=0.8", "application/json"),
        ("application/json;q=0.5, text/csv", "text/csv"),
    ],
)
def test_the_header_accept_chooses_the_format(answer, accept, mimetype):
    assert answer("runs", headers={"Accept": accept}).mimetype == mimetype


def test_class_names_with_commas_and_quotes_survive_csv(site, runs):
    query = {"run": runs["hostile"], "format": "csv", "per_page": 1000}
    text = site.get("/actiontrack/api/scores", query_string=query).get_data(as_text=True)
    names = set(pd.read_csv(io.StringIO(text))["class"])
    assert "'\"><script>alert(1)</script>" in names


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ids_of_runs_that_have_numbers_and_texts_come_as_text(site, runs, kind):
    query = {"run": [runs["mlp-0"], runs["hostile"]], "n": 1, "format": kind}
    answer = site.get("/actiontrack/api/curves", query_string=query)
    assert answer.status_code == 200
    read = pd.read_csv if kind == "csv" else pd.read_parquet
    ids = set(
        read(io.BytesIO(answer.data), **({"dtype": str} if kind == "csv" else {}))["sample_id"]
    )
    assert len(ids) == 2
    assert any(text.isdigit() for text in ids)


# Paging


def test_pages_are_linked_until_the_last(site, runs):
    url = f"/actiontrack/api/scores?run={runs['mlp-0']}&per_page=64&class=one&class=two"
    ids, pages = [], 0
    while url:
        response = site.get(url)
        body = response.get_json()
        link = response.headers.get("Link")
        assert link == (f'<{body["next"]}>; rel="next"' if body["next"] else None)
        assert response.headers["X-Total-Count"] == str(body["total"])
        place = body["columns"].index("sample_id")
        ids += [each[place] for each in body["rows"]]
        url, pages = body["next"], pages + 1
    assert len(ids) == len(set(ids)) == body["total"]
    assert pages == -(-body["total"] // 64)


def test_a_page_beyond_the_last_is_empty(answer):
    body = answer("classes", page=99).get_json()
    assert body["rows"] == []
    assert body["total"] == 10


def test_only_the_wanted_columns_come(answer):
    body = answer("scores", columns=["aum", "sample_id"], per_page=1).get_json()
    assert body["columns"] == ["aum", "sample_id"]


# ETags


@pytest.mark.parametrize("endpoint", READING, ids=lambda each: each.path)
def test_the_same_again_is_answered_by_304(answer, endpoint):
    etag = answer(endpoint.path).headers["ETag"]
    again = answer(endpoint.path, headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == etag


def test_an_answer_that_is_kept_keeps_its_headers(answer):
    first, again = (answer("scores", per_page=7) for _ in range(2))
    assert first.data == again.data
    for name in ("Link", "X-Total-Count", "ETag", "Content-Type"):
        assert first.headers[name] == again.headers[name]


def test_another_query_or_format_has_another_etag(answer):
    tags = {
        answer("classes").headers["ETag"],
        answer("classes", score="aum").headers["ETag"],
        answer("classes", format="csv").headers["ETag"],
        answer("classes", headers={"Accept": "text/csv"}).headers["ETag"],
    }
    assert len(tags) == 4


def test_browsers_ask_again_before_they_show_what_they_kept(answer):
    headers = answer("classes").headers
    assert headers["Cache-Control"] == "private, no-cache"
    assert {"Accept", "Authorization"} <= set(re.split(", *", headers["Vary"]))


# Errors


@pytest.mark.parametrize(
    ("path", "query", "status", "text"),
    [
        ("scores", {}, 400, "run: must be given"),
        ("scores", {"run": "RUN", "scor": "aum"}, 400, "must only hold"),
        ("scores", {"run": "RUN", "score": "beauty"}, 400, "score: must be one of action"),
        ("scores", {"run": "RUN", "per_page": "many"}, 400, "per_page: must be a whole number"),
        ("scores", {"run": "RUN", "per_page": "0"}, 400, "per_page: must be at least 1"),
        ("scores", {"run": "RUN", "per_page": "100001"}, 400, "per_page: must be at most 100000"),
        ("scores", {"run": "RUN", "low": "nan"}, 400, "low: must be a number"),
        ("scores", {"run": "RUN", "order": "best"}, 400, "order: must be one of"),
        ("scores", {"run": "RUN", "format": "xml"}, 400, "format: must be one of"),
        ("scores", {"run": "RUN", "columns": "x"}, 400, "columns: must come from"),
        ("scores", {"run": ["RUN", "OTHER"]}, 400, "run: must be given once"),
        ("pairs", {"run": "RUN"}, 400, "run: must be given at least 2 times"),
        ("runs", {"tag": "owner"}, 400, "tag: must be KEY=VALUE"),
        ("me", {"run": "RUN"}, 400, "query: must be empty"),
        ("verdicts", {"run": "RUN", "current": "maybe"}, 400, "current: must be true or false"),
        ("scores", {"run": "0" * 32}, 404, "not found"),
        ("scores", {"run": "RUN", "record": "train-probe"}, 404, "train-probe"),
        ("curves", {"run": "RUN", "id": "x"}, 404, "no sample 'x'"),
        ("boxes", {"run": "RUN", "id": "3"}, 404, "holds no boxes"),
        ("map", {"run": "RUN", "id": "3"}, 404, "holds no maps"),
        ("picture", {"run": "RUN", "id": "3", "name": "../x"}, 400, "name: must be 1 to 64"),
        ("pairs", {"run": ["RUN", "STOPPED"]}, 409, "do not measure the same thing"),
    ],
)
def test_errors_are_json_with_a_status_and_a_message(get, runs, path, query, status, text):
    names = {"RUN": runs["mlp-0"], "OTHER": runs["mlp-1"], "STOPPED": runs["stopped"]}
    given = {
        key: [names.get(one, one) for one in value]
        if isinstance(value, list)
        else names.get(value, value)
        for key, value in query.items()
    }
    error = get(path, status, **given)["error"]
    assert text in error["message"]
    assert error["type"].endswith("Error")


def test_what_nobody_foresaw_is_logged_and_not_told(site, runs, monkeypatch, caplog):
    def fail(*_arguments, **_options):
        raise RuntimeError("password of the database")

    monkeypatch.setattr(Records, "ask", fail)
    query = {"run": runs["mlp-0"], "score": "variability"}  # which no other test has asked for
    answer = site.get("/actiontrack/api/classes", query_string=query)
    assert answer.status_code == 500
    assert "password" not in answer.get_data(as_text=True)
    assert answer.get_json()["error"]["type"] == "InternalError"
    assert "password of the database" in caplog.text


def test_a_damaged_record_is_unprocessable(make_client, new_run, store, spool):
    from actiontrack.testing import make_history, record_history

    run_id = new_run()
    record_history(make_history(), run_id, store, spool)
    root = store.local_root(store.get_run(run_id)) / "actiontrack/test-probe"
    (root / "scores.parquet").write_bytes(b"nonsense")
    answer = make_client(store).get(f"/actiontrack/api/scores?run={run_id}")
    assert answer.status_code == 422
    assert answer.get_json()["error"]["type"] == "CorruptRecordError"


# Verdicts


@pytest.fixture
def reviewed(make_client, recorded_history, store):
    """A client, the id of a run without verdicts, and a token for its forms."""
    from actiontrack.testing import make_history

    run_id = recorded_history(make_history(n_samples=30))
    client = make_client(store)
    return client, run_id, client.get("/actiontrack/api/me").get_json()["csrf_token"]


def test_a_verdict_is_kept_with_who_and_when(reviewed, monkeypatch):
    client, run_id, token = reviewed
    monkeypatch.setenv("ACTIONTRACK_USER", "ada")
    body = {"id": 4, "verdict": "wrong_label", "new_label": 2, "note": "a two", "csrf_token": token}
    url = f"/actiontrack/api/verdicts?run={run_id}"
    assert client.post(url, json=body).status_code == 201
    (row,) = client.get(url).get_json()["rows"]
    assert row[:6] == [4, "wrong_label", 2, "class 2", "a two", "ada"]


def test_a_form_and_a_header_do_as_well(reviewed):
    client, run_id, token = reviewed
    url = f"/actiontrack/api/verdicts?run={run_id}"
    form = {"id": "4", "verdict": "fine"}
    assert client.post(url, data=form, headers={"X-CSRF-Token": token}).status_code == 201
    assert client.get(url).get_json()["total"] == 1


def test_precision_follows_the_verdicts(reviewed):
    client, run_id, token = reviewed
    url = f"/actiontrack/api/precision?run={run_id}&k=5"
    before = client.get(url)
    hardest = client.get(f"/actiontrack/api/scores?run={run_id}&per_page=5&columns=sample_id")
    ids = [each[0] for each in hardest.get_json()["rows"]]
    for sample, verdict in zip(ids, ("wrong_label", "fine", "wrong_label"), strict=False):
        client.post(
            f"/actiontrack/api/verdicts?run={run_id}",
            json={"id": sample, "verdict": verdict, "csrf_token": token},
        )
    after = client.get(url)
    row = dict(zip(after.get_json()["columns"], after.get_json()["rows"][0], strict=True))
    assert (row["k"], row["n_judged"], row["n_wrong"]) == (5, 3, 2)
    assert row["precision"] == pytest.approx(2 / 3)
    assert (row["lowest"], row["highest"]) == pytest.approx((2 / 5, 4 / 5))
    assert before.headers["ETag"] != after.headers["ETag"]


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"id": 4}, 400, "verdict: must be given"),
        ({"id": 4, "verdict": "perhaps"}, 400, "verdict: must be one of"),
        ({"id": 400, "verdict": "fine"}, 404, "no sample"),
        ({"id": 4, "verdict": "wrong_label", "new_label": 3}, 400, "below 3"),
        ({"id": 4, "verdict": "fine", "new_label": 1}, 400, "goes with the verdict wrong_label"),
        ({"id": 4, "verdict": "fine", "note": "x" * 3000}, 400, "at most 2000 characters"),
        ({"id": 4, "verdict": "fine", "run": "another"}, 400, "must only hold"),
        ({"id": 4, "verdict": "fine", "note": "x" * 70_000}, 400, "at most 65536 bytes"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(reviewed, body, status, text):
    client, run_id, token = reviewed
    url = f"/actiontrack/api/verdicts?run={run_id}"
    answer = client.post(url, json=body | {"csrf_token": token})
    assert answer.status_code == status
    assert text in answer.get_json()["error"]["message"]
    assert client.get(url).get_json()["total"] == 0


# The description


def test_the_description_is_valid_openapi(get):
    from openapi_spec_validator import validate  # takes a second to import

    document = get("openapi.json")
    validate(document)
    assert document == json.loads(json.dumps(openapi(ENDPOINTS)))


def test_every_route_is_described_with_its_parameters(site):
    document = openapi(ENDPOINTS)
    rules = {
        (rule.rule, method)
        for rule in site.application.url_map.iter_rules()
        if rule.rule.startswith("/actiontrack/api/")
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    described = {
        (path, method.upper())
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert rules == described
    assert len(ROUTES) == len(ENDPOINTS) == len(described)


@pytest.mark.parametrize("endpoint", LASTING, ids=lambda each: each.path)
def test_defaults_that_are_described_are_those_that_count(answer, endpoint):
    """The answer with every default spelt out is the answer without."""
    spelt = {
        each["name"]: str(each["schema"]["default"]).lower()
        for each in openapi(ENDPOINTS)["paths"][f"/actiontrack/api/{endpoint.path}"]["get"][
            "parameters"
        ]
        if "default" in each["schema"] and each["name"] != "n"  # given by query_of
    }
    plain, full = answer(endpoint.path), answer(endpoint.path, **spelt)
    assert full.status_code == 200
    if endpoint.kind != "table":
        assert full.data == plain.data
    else:
        assert full.get_json()["rows"] == plain.get_json()["rows"]


# Anything

ODD = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "1e309",
        "-inf",
        "nan",
        "9" * 30,
        "٣",
        "1_0",
        "\x00",
        "../../x",
        "<script>",
        "{}",
    ]
) | st.text(max_size=8)


@st.composite
def odd_queries(draw):
    """A route and a query that names its parameters, with values that may make no sense."""
    endpoint = draw(st.sampled_from(READING))
    query = []
    for name, field in fields_of(endpoint.parameters).items():
        if name == "run":
            names = st.sampled_from(["mlp-0", "linear-0", "segmentation", "stopped", "nobody"])
            query += [("run", each) for each in draw(st.lists(names, min_size=1, max_size=3))]
        elif draw(st.integers(0, 4)) == 0:
            usual = st.sampled_from(("1", "action", "3", *get_args(field.annotation)))
            query += [(name, str(draw(usual | ODD)))] * draw(st.integers(1, 2))
    return endpoint.path, query


@given(asked=odd_queries())
@settings(max_examples=150, deadline=None)
def test_no_query_makes_the_server_fail(site, runs, asked):
    path, query = asked
    given_runs = [(key, runs.get(each, each)) for key, each in query]
    answer = site.get(f"/actiontrack/api/{path}", query_string=MultiDict(given_runs))
    assert answer.status_code in {200, 400, 404, 409}, answer.get_data(as_text=True)
