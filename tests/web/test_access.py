"""Who may see and do what, on a real server behind MLflow's login, with four users and an admin.

alice may edit the open and the closed experiment, bob may read the open one only, carol every one
but the closed one, and dave the open one without its runs. Every route is taken from the
application's own URL map.
"""

import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request

import flask
import pytest
from helpers import Server, copy_for_server
from mlflow.server import get_app_client
from strongholds import (
    ABOUT_RUNS,
    LISTS,
    PASSWORD,
    READING,
    ROUTES,
    SECRET,
    WRITING,
    ask,
    basic,
    experiment_with_run,
    form_token,
    query,
)

from actiontrack.web.app import routes
from actiontrack.web.inside import BasicAuth
from actiontrack.web.permissions import EDIT


class Fort:
    """A server with basic auth, and what is in it."""

    def __init__(self, folder, empty_database):
        config = folder / "auth.ini"
        config.write_text(
            "[mlflow]\ndefault_permission = NO_PERMISSIONS\n"
            f"database_uri = sqlite:///{folder / 'auth.db'}\nadmin_username = admin\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            "auth_cache_ttl_seconds = 600\n"
        )
        copy_for_server(empty_database, folder / "server.db")
        environment = {
            "MLFLOW_AUTH_CONFIG_PATH": str(config),  # no other switch: this alone closes the door
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "a static key",
            "MLFLOW_BASIC_AUTH_FAIL_CLOSED": "true",
        }
        self.server = Server(folder, app_name="actiontrack", environment=environment)
        self.uri = self.server.uri

    def fill(self, spool):
        """Two experiments with a run each, written through the login as trainings would be."""
        users = get_app_client("basic-auth", tracking_uri=self.uri)
        self.runs, self.experiments = {}, {}
        for name in ("open", SECRET):
            experiment, self.runs[name] = experiment_with_run(self.uri, name, spool)
            self.experiments[name] = experiment
            users_of = {"alice": "EDIT"} | ({"bob": "READ"} if name == "open" else {})
            for user, permission in users_of.items():
                if name == "open":
                    users.create_user(user, PASSWORD)
                users.grant_user_permission(user, "experiment", experiment, permission)
        self.narrow(users)

    def narrow(self, users):
        """Two users to whom something is denied that a wider right allows."""
        for user in ("carol", "dave"):
            users.create_user(user, PASSWORD)
        users.grant_user_permission("carol", "experiment", "*", "READ")
        users.grant_user_permission("carol", "experiment", self.experiments[SECRET], "DENY")
        users.grant_user_permission("dave", "experiment", self.experiments["open"], "READ")
        users.grant_user_permission("dave", "run", "*", "DENY")

    def ask(self, path, user=None, method="GET", data=None, **headers):
        return ask(self.uri + path, user, method, data, **headers)

    def ask_json(self, url, user, **fields):
        """What an address of MLflow answers to a JSON object."""
        headers = {"Authorization": basic(user), "Content-Type": "application/json"}
        request = urllib.request.Request(  # noqa: S310 - our own server
            self.uri + url, json.dumps(fields).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    def token(self, user):
        return form_token(self.ask, user)


@pytest.fixture(scope="module")
def fort(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("fort")
    before = {name: os.environ.get(name) for name in ("MLFLOW_TRACKING_USERNAME",)}
    built = Fort(folder, empty_database)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
        patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        built.fill(folder / "spool")
    assert before["MLFLOW_TRACKING_USERNAME"] == os.environ.get("MLFLOW_TRACKING_USERNAME")
    yield built
    built.server.kill()


def test_the_url_map_holds_pages_api_and_static_files():
    paths = {path for path, _ in ROUTES}
    assert {"/actiontrack/", "/actiontrack/run", "/actiontrack/api/scores"} <= paths
    assert any(path.startswith("/actiontrack/static/") for path in paths)
    assert len(routes()) == len({(each.path, each.method) for each in routes()})


@pytest.mark.parametrize(("path", "method"), ROUTES)
def test_nobody_gets_anything_without_login(fort, path, method):
    answer = fort.ask(path + query(fort.runs["open"]), method=method)
    assert answer.status == 401
    assert "open" not in answer.text


@pytest.mark.parametrize(("path", "method"), ABOUT_RUNS)
def test_a_run_that_a_user_may_not_read_is_forbidden_everywhere(fort, path, method):
    for named in (query(fort.runs[SECRET]), query(fort.runs["open"], fort.runs[SECRET])):
        answer = fort.ask(path + named, "bob", method)
        assert answer.status == 403
        assert SECRET not in answer.text


@pytest.mark.parametrize(("path", "method"), READING)
def test_a_reader_is_let_in_where_he_may_read(fort, path, method):
    answer = fort.ask(path + query(fort.runs["open"]), "bob", method)
    assert answer.status not in {401, 403, 500}


@pytest.mark.parametrize(("path", "method"), WRITING)
def test_a_reader_may_not_write_even_with_a_token(fort, path, method):
    token, cookie = fort.token("bob")
    data = {"csrf_token": token, "id": "1", "verdict": "fine"}
    run = fort.runs["open"]
    for address, form in ((path + query(run), data), (path, data | {"run": run})):
        assert fort.ask(address, "bob", method, form, Cookie=cookie).status == 403
    assert fort.ask("/actiontrack/api/verdicts" + query(run), "bob").json()["total"] == 0


@pytest.mark.parametrize(("path", "method"), WRITING)
def test_a_run_named_in_the_form_is_checked_too(fort, path, method):
    token, cookie = fort.token("bob")
    data = {"csrf_token": token, "run": fort.runs[SECRET], "id": "1", "verdict": "fine"}
    assert fort.ask(path, "bob", method, data, Cookie=cookie).status == 403


@pytest.mark.parametrize(("path", "method"), LISTS)
def test_lists_hold_only_what_the_user_may_read(fort, path, method):
    seen = fort.ask(path, "bob", method)
    assert seen.status == 200
    assert "open run" in seen.text
    for secret in (SECRET, fort.runs[SECRET]):
        assert secret not in seen.text
    assert SECRET in fort.ask(path, "alice", method).text


@pytest.mark.parametrize(("path", "method"), [each for each in ROUTES if each[1] == "GET"])
def test_no_route_without_a_run_tells_of_what_is_closed(fort, path, method):
    text = fort.ask(path, "bob", method).text
    assert SECRET not in text
    assert fort.runs[SECRET] not in text


def test_one_experiment_can_be_denied_to_a_reader_of_all(fort):
    rows = fort.ask("/actiontrack/api/runs", "carol").json()["rows"]
    assert [row[1] for row in rows] == ["open run"]
    assert fort.ask("/actiontrack/api/scores" + query(fort.runs["open"]), "carol").status == 200
    assert fort.ask("/actiontrack/api/scores" + query(fort.runs[SECRET]), "carol").status == 403


def test_runs_can_be_denied_to_a_reader_of_their_experiment(fort):
    assert fort.ask("/actiontrack/api/runs", "dave").json()["rows"] == []
    assert fort.ask("/actiontrack/api/scores" + query(fort.runs["open"]), "dave").status == 403


# What MLflow's public addresses say


@pytest.mark.parametrize("user", ["alice", "bob", "carol", "dave", "admin"])
def test_users_and_their_lists_are_those_of_mlflows_public_addresses(fort, user):
    current = fort.ask("/api/2.0/mlflow/users/current", user).json()["user"]
    assert fort.ask("/actiontrack/api/me", user).json()["user"] == current["username"] == user
    found = fort.ask_json(
        "/api/2.0/mlflow/runs/search", user, experiment_ids=[*fort.experiments.values()]
    )
    ours = fort.ask("/actiontrack/api/runs", user).json()
    column = ours["columns"].index("run_id")
    theirs = {run["info"]["run_id"] for run in found.get("runs", [])}
    assert {row[column] for row in ours["rows"]} == theirs


@pytest.mark.parametrize("name", ["open", SECRET])
@pytest.mark.parametrize("user", ["alice", "bob", "carol"])
def test_rights_are_those_of_mlflows_public_addresses(fort, user, name):
    words = {"resource_type": "experiment", "resource_id": fort.experiments[name]}
    address = f"/api/3.0/mlflow/users/permissions/get?{urllib.parse.urlencode(words)}"
    permission = fort.ask(f"{address}&username={user}", user).json()["permission"]
    token, cookie = fort.token(user)
    data = {"csrf_token": token, "run": fort.runs[name]}
    reads = fort.ask("/actiontrack/api/scores" + query(fort.runs[name]), user).status
    writes = fort.ask("/actiontrack/api/verdicts", user, "POST", data, Cookie=cookie).status
    assert (reads == 200) == (permission in {"READ", "USE", "EDIT", "MANAGE"})
    assert (writes == 400) == (permission in {"EDIT", "MANAGE"})  # let in, and nothing said
    assert {reads, writes} <= {200, 400, 403}


def test_an_admin_sees_everything(fort):
    rows = fort.ask("/actiontrack/api/runs", "admin").json()
    assert {each[1] for each in rows["rows"]} == {"open run", f"{SECRET} run"}


def test_an_unknown_run_is_not_told_from_a_closed_one(fort):
    unknown = fort.ask("/actiontrack/api/scores" + query("f" * 32), "bob")
    closed = fort.ask("/actiontrack/api/scores" + query(fort.runs[SECRET]), "bob")
    assert unknown.status == closed.status == 403
    assert re.sub("[0-9a-f]{32}", "", unknown.text) == re.sub("[0-9a-f]{32}", "", closed.text)


def test_scores_of_a_proxied_record_are_read_where_the_server_keeps_them(fort):
    body = fort.ask("/actiontrack/api/scores" + query(fort.runs["open"]), "bob").json()
    assert body["total"] == 20


def test_the_reviewer_of_a_verdict_is_the_login(fort):
    url = "/actiontrack/api/verdicts" + query(fort.runs[SECRET])
    token, cookie = fort.token("alice")
    data = {"csrf_token": token, "id": "3", "verdict": "ambiguous"}
    assert fort.ask(url, "alice", "POST", data, Cookie=cookie).status == 201
    body = fort.ask(url, "alice").json()
    row = dict(zip(body["columns"], body["rows"][0], strict=True))
    assert (row["sample_id"], row["verdict"], row["who"]) == (3, "ambiguous", "alice")


@pytest.mark.parametrize(
    ("change", "headers"),
    [
        ({"csrf_token": ""}, {}),
        ({"csrf_token": "0" * 64}, {}),
        ({}, {"Cookie": ""}),
        ({}, {"Cookie": "actiontrack_csrf=another"}),
        ({}, {"Origin": "https://evil.example"}),
        ({}, {"Origin": "null"}),
        ({}, {"Origin": "http://localhost:9"}),
        ({}, {"Referer": "https://evil.example/page"}),
        ({}, {"Sec_Fetch_Site": "cross-site"}),
    ],
)
def test_a_forged_form_is_refused(fort, change, headers):
    url = "/actiontrack/api/verdicts" + query(fort.runs["open"])
    token, cookie = fort.token("alice")
    data = {"csrf_token": token, "id": "3", "verdict": "fine"} | change
    answer = fort.ask(url, "alice", "POST", data, **({"Cookie": cookie} | headers))
    assert answer.status == 403
    assert fort.ask(url, "alice").json()["total"] == 0


def test_the_token_of_another_user_is_refused(fort):
    url = "/actiontrack/api/verdicts" + query(fort.runs["open"])
    token, cookie = fort.token("bob")
    data = {"csrf_token": token, "id": "3", "verdict": "fine"}
    assert fort.ask(url, "alice", "POST", data, Cookie=cookie).status == 403


def test_a_form_of_this_server_passes_with_its_origin(fort):
    url = "/actiontrack/api/verdicts" + query(fort.runs["open"])
    token, cookie = fort.token("alice")
    data = {"csrf_token": token, "id": "3", "verdict": "withdrawn"}
    answer = fort.ask(url, "alice", "POST", data, Cookie=cookie, Origin=fort.uri)
    assert answer.status == 201


def test_answers_may_not_be_framed_sniffed_or_kept_by_others(fort):
    headers = fort.ask("/actiontrack/api/runs", "bob").headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"].startswith("private")


def test_mlflow_is_still_there_and_leads_to_us(fort):
    page = fort.ask("/", "bob")
    assert page.status == 200
    assert 'href="/actiontrack/"' in page.text
    assert 'id="root"' in page.text
    again = fort.ask("/", "bob", If_None_Match=page.headers["ETag"])
    assert again.status == 304


@pytest.mark.parametrize("path", ["/actiontrack", "/actiontrack/nothing", "/actiontrack/api/"])
def test_what_does_not_exist_needs_a_login_all_the_same(fort, path):
    assert fort.ask(path).status == 401


@pytest.mark.parametrize(
    "path",
    [
        "/actiontrack/static/../app.py",
        "/actiontrack/static/..%2fapp.py",
        "/actiontrack/static/%2e%2e/%2e%2e/store.py",
        "/actiontrack/static//etc/passwd",
    ],
)
def test_static_files_come_from_their_folder_only(fort, path):
    answer = fort.ask(path, "admin")
    assert answer.status in {308, 400, 404}  # 308: double slashes are merged, and asked for again
    assert "root:" not in answer.text
    assert "import" not in answer.text


@pytest.fixture
def mlflow_auth():
    from mlflow.server import auth

    return auth


def test_nobody_may_do_anything_when_no_user_is_known(mlflow_auth):
    with flask.Flask("x").test_request_context():
        nobody = BasicAuth(mlflow_auth)
        assert not nobody.may_use_run("run", EDIT)
        assert not nobody.may_read_experiment("1")


# What a refusal looks like


@pytest.mark.parametrize(
    ("user", "status"), [(None, 401), ("bob", 403)], ids=["nobody", "a stranger"]
)
def test_the_api_refuses_in_json(fort, user, status):
    answer = fort.ask("/actiontrack/api/scores" + query(fort.runs[SECRET]), user)
    assert answer.status == status
    assert answer.headers.get_content_type() == "application/json"
    assert set(answer.json()["error"]) == {"type", "message"}
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_a_page_refuses_in_words(fort):
    answer = fort.ask("/actiontrack/run" + query(fort.runs[SECRET]), "bob")
    assert answer.status == 403
    assert answer.headers.get_content_type() == "text/html"
    assert "You have no permission" in answer.text


def test_more_runs_than_a_request_may_name_are_refused(fort):
    several = query(*(f"{number:032x}" for number in range(101)))
    answer = fort.ask("/actiontrack/api/correlations" + several, "bob")
    assert answer.status == 400
    assert "at most 100 runs" in answer.json()["error"]["message"]
