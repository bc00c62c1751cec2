"""What no request may get out of the API: a failure, a page instead of JSON, a server's folder."""

import json

import pytest

from actiontrack.store import Store
from actiontrack.store.translation import ForbiddenError, UnauthenticatedError
from actiontrack.testing import make_history, record_history
from actiontrack.web.api.endpoints import ENDPOINTS
from actiontrack.web.messages import without_paths
from actiontrack.web.parameters import fields_of, takes_several

API = "/actiontrack/api/"
READING = [endpoint for endpoint in ENDPOINTS if endpoint.method == "GET"]
ONCE = [
    (endpoint.path, name)
    for endpoint in READING
    for name, field in fields_of(endpoint.parameters).items()
    if not takes_several(field)
]


def refusal(answer):
    """Status and message of an answer that must be an error in the promised form."""
    assert answer.mimetype == "application/json", answer.get_data(as_text=True)
    error = answer.get_json()["error"]
    assert set(error) == {"type", "message"}
    return answer.status_code, error["message"]


@pytest.fixture
def reviewed(make_client, recorded_history, store):
    """A client, the address that takes verdicts on a run, and a token."""
    run_id = recorded_history(make_history(n_samples=30))
    client = make_client(store)
    token = client.get(f"{API}me").get_json()["csrf_token"]
    return client, f"{API}verdicts?run={run_id}", token


# Queries


@pytest.mark.parametrize(("path", "name"), ONCE)
def test_a_parameter_with_one_value_is_refused_twice(site, runs, path, name):
    query = [("run", runs["mlp-0"])] if name != "run" else []
    query += [(name, "1"), (name, "2")]
    address = f"{API}{path}?{'&'.join(f'{key}={value}' for key, value in query)}"
    status, message = refusal(site.get(address))
    assert status == 400
    assert f"{name}: must be given once" in message


def test_a_column_that_is_named_twice_is_refused(site, runs):
    answer = site.get(f"{API}scores?run={runs['mlp-0']}&columns=action&columns=action")
    status, message = refusal(answer)
    assert status == 400
    assert "columns: must name each column once" in message


@pytest.mark.parametrize("endpoint", READING, ids=lambda endpoint: endpoint.path)
def test_too_many_runs_are_refused(site, endpoint):
    query = "&".join(f"run={number:032x}" for number in range(101))
    status, message = refusal(site.get(f"{API}{endpoint.path}?{query}"))
    assert status == 400
    assert "at most 100 runs" in message


def test_what_is_no_address_or_method_is_refused_in_json(site):
    assert refusal(site.get(f"{API}nothing"))[0] == 404
    assert refusal(site.post(f"{API}scores"))[0] == 405


# Bodies


@pytest.mark.parametrize(
    "text",
    [
        '{"id": {"a": 1}, "verdict": "fine"}',
        '{"id": [[1]], "verdict": "fine"}',
        '{"id": 4, "verdict": ["fine"]}',
        '{"a": ' + "[" * 30_000 + "]" * 30_000 + "}",
        '{"id": "\\ud800", "verdict": "fine"}',
        '{"id": 4, "verdict": "fine", "note": "\\udfff"}',
        '{"id": 4, "verdict": "fine", "\\ud800": 1}',
        '{"id": 4, "verdict": "fine", "\\ud800": [1]}',
        '{"id": 4, "verdict": "wrong_label", "new_label": true}',
        '{"id": 4, "verdict": "wrong_label", "new_label": ' + "9" * 6000 + "}",
        "[1, 2]",
        "nonsense",
        "",
    ],
    ids=lambda text: text[:40],
)
def test_a_body_that_makes_no_sense_is_refused(reviewed, text):
    client, address, token = reviewed
    headers = {"X-CSRF-Token": token, "Content-Type": "application/json"}
    assert refusal(client.post(address, data=text, headers=headers))[0] == 400
    assert client.get(address).get_json()["total"] == 0


@pytest.mark.parametrize("token", ["\ud800", {"a": 1}, 7, None])
def test_a_token_that_is_none_is_refused(reviewed, token):
    client, address, _ = reviewed
    body = {"id": 4, "verdict": "fine", "csrf_token": token}
    status, _ = refusal(
        client.post(address, data=json.dumps(body), content_type="application/json")
    )
    assert status in {400, 403}
    assert client.get(address).get_json()["total"] == 0


@pytest.mark.parametrize("kind", ["form", "JSON"])
def test_a_path_in_a_body_stays_in_the_answer(reviewed, kind):
    client, address, token = reviewed
    fields = {"id": "/photos/cat/1.png", "verdict": "fine"}
    sent = {"json": fields} if kind == "JSON" else {"data": fields}
    status, message = refusal(client.post(address, headers={"X-CSRF-Token": token}, **sent))
    assert status == 404
    assert "'/photos/cat/1.png'" in message


# The trash


def test_a_run_in_the_trash_is_neither_shown_nor_judged(reviewed, make_client, store):
    client, address, token = reviewed
    run_id = address.rpartition("=")[2]
    client.get(f"{API}scores?run={run_id}")  # the server has just seen the run alive
    store._client.delete_run(run_id)
    answer = client.post(
        address, data={"id": "4", "verdict": "fine"}, headers={"X-CSRF-Token": token}
    )
    status, message = refusal(answer)
    assert status == 404
    assert "in the trash" in message
    for page in (f"run?run={run_id}", f"compare?run={run_id}", f"review?run={run_id}"):
        assert client.get(f"/actiontrack/{page}").status_code == 404
    store._client.restore_run(run_id)
    later = make_client(store)  # which remembers nothing of the run
    assert later.get(f"{address}&current=0").get_json()["total"] == 0


# Folders of the server


@pytest.mark.parametrize("damage", ["{", "no json", None])
@pytest.mark.parametrize("path", ["scores", "curves", "verdicts"])
def test_the_error_of_a_damaged_record_names_no_folder(
    make_client, new_run, store, spool, damage, path
):
    run_id = new_run()
    record_history(make_history(), run_id, store, spool)
    root = store.local_root(store.get_run(run_id))
    manifest = root / "actiontrack/test-probe/manifest.json"
    if damage is None:
        manifest.unlink()
    else:
        manifest.write_text(damage)
    client = make_client(store)
    texts = [client.get(f"{API}{path}?run={run_id}"), client.get(f"/actiontrack/run?run={run_id}")]
    for answer in texts:
        text = answer.get_data(as_text=True)
        assert answer.status_code in {404, 422}
        for folder in (root, *root.parents[:-1]):
            assert str(folder) not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot read /srv/data/x.parquet: denied.", "cannot read x.parquet: denied."),
        ("no store at sqlite:////srv/mlflow.db. Start", "no store at mlflow.db. Start"),
        ("'/a/b c/d' is gone", "'b c/d' is gone"),
        ("file:///srv/artifacts/0/run", "run"),
        ("half / half, 3/4, and/or, https://example.org/a/b", None),
        ("run 'ab/cd': not found", None),
    ],
)
def test_paths_are_cut_to_the_name_of_the_file(text, expected):
    assert without_paths(text) == (text if expected is None else expected)


def test_a_path_that_the_reader_has_sent_stays():
    text = "no sample '/photos/cat/1.png'. See /srv/records/7/samples.parquet"
    expected = "no sample '/photos/cat/1.png'. See samples.parquet"
    assert without_paths(text, said="/photos/cat/1.png") == expected


@pytest.mark.parametrize(
    ("error", "expected"), [(UnauthenticatedError, 401), (ForbiddenError, 403)]
)
def test_what_the_store_refuses_is_refused_and_no_failure(
    make_client, recorded, runs, monkeypatch, error, expected
):
    store = Store(recorded[0])

    def refuse(*_arguments, **_options):
        raise error("artifact 'x': the tracking server says no.")

    monkeypatch.setattr(store, "get_run", refuse)
    monkeypatch.setattr(store, "open_record", refuse)
    status, text = refusal(make_client(store).get(f"{API}scores?run={runs['mlp-0']}"))
    assert (status, text) == (expected, "artifact 'x': the tracking server says no.")
