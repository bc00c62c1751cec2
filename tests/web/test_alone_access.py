"""Who may see and do what on pages beside a server with a login, with three users and an admin.

The same for the MLflow that is installed, by `make test-server` for 3.10 and the newest, and by
`make test-long` for 2.22 and 3.14. Every route is taken from the application's own URL map.
"""

import concurrent.futures
import re

import pytest
from environments import python_with_mlflow
from strongholds import (
    ABOUT_RUNS,
    LISTS,
    PASSWORD,
    READING,
    ROUTES,
    SECRET,
    WRITING,
    AlonePages,
    Guarded,
    basic,
    fill,
    query,
)

SERVERS = [
    pytest.param(None, id="installed"),
    pytest.param("2.22", id="2.22", marks=pytest.mark.long),
    pytest.param("3.10", id="3.10", marks=pytest.mark.server),
    pytest.param("3.14", id="3.14", marks=pytest.mark.long),
    pytest.param("newest", id="newest", marks=pytest.mark.server),
]


class Place:
    """A server with a login, and pages beside it that somebody else has started."""

    def __init__(self, folder, version, warm_python):
        if version is None:
            self.server = Guarded(folder, warm_python=warm_python)
        else:
            self.server = Guarded(folder, python=python_with_mlflow(version))
        self.folder = folder

    def open(self, spool):
        self.runs = fill(self.server, spool)
        (self.folder / "pages").mkdir()
        self.pages = AlonePages(
            self.folder / "pages",
            self.server.uri,
            environment={  # whoever starts the pages may do everything on the server
                "MLFLOW_TRACKING_USERNAME": "admin",
                "MLFLOW_TRACKING_PASSWORD": PASSWORD,
                "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            },
        )
        self.ask, self.token = self.pages.ask, self.pages.token


@pytest.fixture(scope="module", params=SERVERS)
def place(request, tmp_path_factory, warm_python):
    folder = tmp_path_factory.mktemp("place")
    place = Place(folder, request.param, warm_python)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
            place.open(folder / "spool")
        yield place
        place.pages.close()
    finally:
        place.server.kill()


SCORES = "/actiontrack/api/scores"


@pytest.mark.parametrize(
    "login",
    [
        *(None, "Basic", "Basic !", "Bearer", "Digest x", "Negotiate x"),
        *(basic("alice", "wrong"), basic("nobody"), basic("", ""), "Bearer wrong"),
    ],
    ids=str,
)
def test_nobody_gets_anything_without_a_login_that_the_server_takes(place, login):
    headers = {} if login is None else {"Authorization": login}
    well_formed = len((login or "").split()) == 2 and login.startswith(("Basic", "Bearer"))
    for path, method in ROUTES[:: 6 if well_formed else 1]:  # MLflow takes long over a password
        answer = place.ask(path + query(place.runs["open"]), method=method, **headers)
        assert answer.status == 401, (path, method)
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert place.runs["open"] not in answer.text.replace(path, "")
        assert "open run" not in answer.text


@pytest.mark.parametrize("path", ["/", "/nothing", "/actiontrack", "/actiontrack/api/nothing"])
def test_what_does_not_exist_needs_a_login_all_the_same(place, path):
    assert place.ask(path).status == 401


@pytest.mark.parametrize("user", ["bob", "carol"])
def test_a_run_that_a_user_may_not_read_is_forbidden_everywhere(place, user):
    for path, method in ABOUT_RUNS:
        for named in (query(place.runs[SECRET]), query(place.runs["open"], place.runs[SECRET])):
            answer = place.ask(path + named, user, method)
            assert answer.status == 403, (path, method)
            assert SECRET not in answer.text


def test_carol_may_read_nothing(place):
    for path, method in ABOUT_RUNS:
        answer = place.ask(path + query(place.runs["open"]), "carol", method)
        assert answer.status == 403, (path, method)
    assert place.ask("/actiontrack/api/runs", "carol").json()["rows"] == []


@pytest.mark.parametrize("user", ["alice", "bob"])
def test_a_reader_is_let_in_where_he_may_read(place, user):
    for path, method in READING:
        answer = place.ask(path + query(place.runs["open"]), user, method)
        assert answer.status not in {401, 403, 500}, (path, method, answer.text)


def test_a_reader_may_not_write_even_with_a_token(place):
    token, cookie = place.token("bob")
    data = {"csrf_token": token, "id": "1", "verdict": "fine"}
    run = place.runs["open"]
    for path, method in WRITING:
        # Named once, where the route takes it from.
        of_api = path.startswith("/actiontrack/api/")
        address, form = (path + query(run), data) if of_api else (path, data | {"run": run})
        answer = place.ask(address, "bob", method, form, Cookie=cookie)
        assert answer.status == 403, (address, answer.text)
    assert place.ask("/actiontrack/api/verdicts" + query(run), "bob").json()["total"] == 0


def test_a_run_named_in_the_form_is_checked_too(place):
    token, cookie = place.token("bob")
    data = {"csrf_token": token, "run": place.runs[SECRET], "id": "1", "verdict": "fine"}
    for path, method in WRITING:
        assert place.ask(path, "bob", method, data, Cookie=cookie).status == 403


@pytest.mark.parametrize(("path", "method"), LISTS)
def test_lists_hold_only_what_the_user_may_read(place, path, method):
    """Asked in turns, so that one user's list would be shown to the next if it was kept for all."""
    for user in ("alice", "bob", "carol", "alice", "carol", "bob"):
        text = place.ask(path, user, method).text
        assert ("open run" in text) == (user != "carol")
        for secret in (SECRET, place.runs[SECRET]):
            assert (secret in text) == (user == "alice")


def test_no_route_without_a_run_tells_of_what_is_closed(place):
    for path, method in ROUTES:
        for user in ("alice", "bob"):
            text = place.ask(path, user, method).text
            if user == "bob":
                assert SECRET not in text
                assert place.runs[SECRET] not in text


def test_an_unknown_run_is_not_told_from_a_closed_one(place):
    unknown = place.ask(SCORES + query("f" * 32), "bob")
    closed = place.ask(SCORES + query(place.runs[SECRET]), "bob")
    assert unknown.status == closed.status == 403
    assert re.sub("[0-9a-f]{32}", "", unknown.text) == re.sub("[0-9a-f]{32}", "", closed.text)


def test_an_answer_that_has_not_changed_is_not_confirmed_to_others(place):
    for path in (SCORES, "/actiontrack/api/classes", "/actiontrack/api/correlations"):
        runs = [place.runs[SECRET]] + [place.runs["open"]] * path.endswith("correlations")
        seen = place.ask(path + query(*runs), "alice")
        assert seen.status == 200
        same = {"If_None_Match": seen.headers["ETag"]}
        assert place.ask(path + query(*runs), "alice", **same).status == 304
        for user, status in (("bob", 403), ("carol", 403), (None, 401), (basic("alice", "x"), 401)):
            answer = place.ask(path + query(*runs), user, **same)
            assert answer.status == status
            assert "ETag" not in answer.headers


def test_tables_that_one_user_has_read_are_not_handed_to_another(place):
    for path, method in READING:
        place.ask(path + query(place.runs[SECRET]), "alice", method)
        answer = place.ask(path + query(place.runs[SECRET]), "bob", method)
        assert answer.status == (200 if "/static/" in path else 403), (path, method)


def test_users_that_come_at_once_see_their_own(place):
    """Twelve at a time, from a server that answers by threads."""
    asked = [(user, path) for user in ("alice", "bob", "carol") for path, _ in LISTS] * 4
    asked += [(user, SCORES + query(place.runs[SECRET])) for user in ("alice", "bob", "carol")] * 4
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda one: place.ask(one[1], one[0]), asked))
    for (user, path), answer in zip(asked, answers, strict=True):
        if path.startswith(SCORES):
            assert answer.status == (200 if user == "alice" else 403)
        else:
            assert (SECRET in answer.text) == (user == "alice")
            assert ("open run" in answer.text) == (user != "carol")


def test_the_reviewer_of_a_verdict_is_the_login(place):
    url = "/actiontrack/api/verdicts" + query(place.runs[SECRET])
    token, cookie = place.token("alice")
    data = {"csrf_token": token, "id": "3", "verdict": "ambiguous"}
    assert place.ask(url, "alice", "POST", data, Cookie=cookie).status == 201
    body = place.ask(url, "alice").json()
    row = dict(zip(body["columns"], body["rows"][0], strict=True))
    assert (row["sample_id"], row["verdict"], row["who"]) == (3, "ambiguous", "alice")


def test_the_token_of_another_user_is_refused(place):
    url = "/actiontrack/api/verdicts" + query(place.runs["open"])
    token, cookie = place.token("bob")
    data = {"csrf_token": token, "id": "3", "verdict": "fine"}
    assert place.ask(url, "alice", "POST", data, Cookie=cookie).status == 403


def test_a_page_of_another_site_is_not_answered(place):
    for host in ("evil.example", f"evil.example:{place.pages.port}", "", "127.0.0.1.evil.example"):
        assert place.ask("/actiontrack/api/me", "alice", Host=host).status == 400


def test_links_to_mlflow_lead_to_the_servers_own_address(place):
    text = place.ask("/actiontrack/", "bob").text
    assert f'href="{place.server.uri}/"' in text
    assert f'href="{place.server.uri}/#/experiments/' in text


def test_the_log_holds_no_login(place):
    for secret in (PASSWORD, basic("alice"), basic("bob")):
        assert secret.removeprefix("Basic ") not in place.pages.log
