"""In whose name requests are made: the visitor's, and never that of whoever started the server."""

import threading

import mlflow
import pytest
import requests
from overheard import overhearing

from actiontrack.analysis.loading import concurrently
from actiontrack.errors import MissingDependencyError, ParameterError, StoreError
from actiontrack.record.threads import in_this_context, in_threads
from actiontrack.store import Store
from actiontrack.store.addresses import origin_of
from actiontrack.store.credentials import (
    Visitor,
    VisitorAuth,
    forget_own_credentials,
    in_the_name_of,
    present_visitor,
    set_visitor,
)
from actiontrack.store.logins import has_login, login_name, takes_login

ALICE, BOB = "Basic YWxpY2U6YQ==", "Bearer bobs-token"
OWN = {
    "MLFLOW_TRACKING_USERNAME": "starter",
    "MLFLOW_TRACKING_PASSWORD": "starters-secret",
    "MLFLOW_TRACKING_TOKEN": "starters-token",
}


@pytest.fixture
def heard():
    with overhearing() as server:
        server.body = b'{"experiments": []}'
        yield server


@pytest.fixture
def home(tmp_path, monkeypatch, heard):
    """A home that is full of the starter's credentials, as is the environment."""
    host = heard.uri.rpartition("/")[2].partition(":")[0]
    (tmp_path / ".netrc").write_text(f"machine {host} login starter password starters-secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    (tmp_path / ".mlflow").mkdir()
    (tmp_path / ".mlflow" / "credentials").write_text(
        "[mlflow]\nmlflow_tracking_username = starter\nmlflow_tracking_password = secret\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def sealed(monkeypatch, home):
    """The environment after the starter's credentials were forgotten, put back at the end."""
    for name in (
        *("MLFLOW_TRACKING_AUTH", "MLFLOW_ALLOW_HTTP_REDIRECTS", "NETRC"),
        *("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"),
    ):
        monkeypatch.setenv(name, "x")  # so that it is put back
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    forget_own_credentials()
    yield
    set_visitor(None)


def visitor(heard, authorization=ALICE):
    return in_the_name_of(Visitor(origin_of(heard.uri), authorization))


def search(uri):
    return mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)


def test_without_the_seal_the_starters_own_login_is_sent(home, heard, monkeypatch):
    """What the tests below would see if nothing was done."""
    monkeypatch.delenv("MLFLOW_TRACKING_AUTH", raising=False)
    search(heard.uri)
    assert heard.sent("Authorization") == ["Basic c3RhcnRlcjpzdGFydGVycy1zZWNyZXQ="]


@pytest.mark.parametrize("authorization", [ALICE, BOB])
def test_a_request_carries_the_visitors_login_and_no_other(sealed, heard, authorization):
    with visitor(heard, authorization):
        search(heard.uri)
    assert heard.sent("Authorization") == [authorization]


def test_the_environment_of_the_starter_cannot_come_back(sealed, heard, monkeypatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)
    with visitor(heard):
        search(heard.uri)
    assert heard.sent("Authorization") == [ALICE]


def test_nobody_in_particular_sends_no_login(sealed, heard):
    with visitor(heard, None):
        search(heard.uri)
    assert heard.sent("Authorization") == [None]


def test_without_a_visitor_nothing_is_sent(sealed, heard):
    with pytest.raises(Exception, match="nobody's name"):
        search(heard.uri)
    assert not heard.requests


def test_the_refusal_is_told_as_it_is(sealed, heard):
    with pytest.raises(StoreError, match="nobody's name"):
        Store(heard.uri).check()
    assert set(heard.sent("Authorization")) <= {None}  # whether it answers at all is no secret


def test_cookies_of_one_visitor_are_not_sent_for_the_next(sealed, heard):
    heard.headers = {"Set-Cookie": "session=alices; Path=/"}
    with visitor(heard):
        search(heard.uri)
    with visitor(heard, BOB):
        search(heard.uri)
    with visitor(heard, None):
        search(heard.uri)
    assert heard.sent("Cookie") == [None, None, None]
    assert heard.sent("Authorization") == [ALICE, BOB, None]


def test_a_login_is_not_sent_on_to_where_a_server_points(sealed, heard):
    with overhearing() as other:
        heard.status, heard.headers = 302, {"Location": f"{other.uri}/elsewhere"}
        with visitor(heard), pytest.raises(mlflow.exceptions.MlflowException):
            search(heard.uri)
        assert not other.requests
    assert len(heard.requests) == 1


def test_a_login_is_for_one_server_only(sealed, heard):
    with overhearing() as other:
        with visitor(heard), pytest.raises(Exception, match=r"for http.* alone"):
            search(other.uri)
        assert not other.requests


def test_netrc_is_not_read_even_without_the_plug_in(sealed, heard):
    requests.get(heard.uri, timeout=5)
    assert heard.sent("Authorization") == [None]


def test_uploads_and_downloads_carry_the_visitors_login_too(sealed, heard, tmp_path):
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    (tmp_path / "file.txt").write_text("x")
    with visitor(heard, BOB):
        repository = get_artifact_repository("mlflow-artifacts:/1/r", tracking_uri=heard.uri)
        repository.log_artifact(str(tmp_path / "file.txt"))
        repository._download_file("file.txt", str(tmp_path / "again.txt"))
        repository.list_artifacts()
    assert len(heard.requests) >= 3
    assert set(heard.sent("Authorization")) == {BOB}


def test_logins_that_no_visitor_has_are_refused(home, monkeypatch):
    for name in ("MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_TRACKING_AWS_SIGV4"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "true")
            with pytest.raises(ParameterError, match=f"{name}.*--account mine"):
                forget_own_credentials()


def test_an_installation_that_mlflow_does_not_know_is_refused(sealed, monkeypatch):
    monkeypatch.setattr("mlflow.tracking.request_auth.registry.fetch_auth", lambda _name: None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        forget_own_credentials()


def test_a_visitor_is_shown_without_his_login():
    assert "YWxpY2U6YQ" not in repr(Visitor("http://h:80", ALICE))


def test_visitors_are_told_apart_by_the_whole_login():
    digests = {Visitor("http://h:80", text).digest for text in (ALICE, BOB, f"{ALICE}=", None)}
    assert len(digests) == 4


# Threads


def test_every_pool_of_threads_works_in_the_visitors_name():
    seen = []
    with in_the_name_of(Visitor("http://h:80", ALICE)):
        in_threads(lambda _item: seen.append(present_visitor()), range(8), 4)
        seen += concurrently(lambda _item: present_visitor(), range(8), "things")
        threads = threading.Thread(
            target=in_this_context(lambda _item: seen.append(present_visitor())), args=(1,)
        )
        threads.start()
        threads.join()
    assert [one.authorization for one in seen] == [ALICE] * 17


def test_visitors_that_come_at_once_are_not_mixed_up(sealed, heard):
    """Requests of two threads in turn, each of them with threads of its own."""
    barrier = threading.Barrier(2)

    def work(authorization):
        with visitor(heard, authorization):
            barrier.wait(10)
            for _ in range(5):
                concurrently(
                    lambda _item: search(f"{heard.uri}/{authorization[-4:]}"), range(4), "x"
                )

    workers = [threading.Thread(target=work, args=(one,)) for one in (ALICE, BOB)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(heard.requests) == 40
    for _, path, headers in heard.requests:
        assert headers["Authorization"].endswith(path.split("/")[1])


# What a server says of logins


@pytest.mark.parametrize(("status", "expected"), [(401, True), (200, False)])
def test_a_server_is_asked_once_without_any_login(home, heard, status, expected):
    heard.status = status
    assert has_login(heard.uri) is expected
    assert len(heard.requests) == 1
    assert heard.sent("Authorization") == [None]
    assert heard.sent("Cookie") == [None]


@pytest.mark.parametrize("status", [403, 404])
def test_a_server_that_is_neither_open_nor_asks_is_refused(home, heard, status):
    heard.status = status
    with pytest.raises(StoreError, match=f"with {status}.*--account mine"):
        has_login(heard.uri)


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_fails_or_is_busy_is_to_be_asked_later(home, heard, status):
    heard.status = status
    with pytest.raises(StoreError, match=rf"fails: it answers with {status}\. Try again later\.$"):
        has_login(heard.uri)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirection_is_refused_and_says_where_to(home, heard, status):
    heard.status, heard.headers = status, {"Location": "https://ada:secret@ml.example.org/login"}
    with pytest.raises(
        StoreError, match=r"redirects to https://\S+@ml\.example\.org/login\. Correct the address"
    ) as caught:
        has_login(heard.uri)
    assert "secret" not in str(caught.value)
    heard.headers = {"Location": "/login"}
    with pytest.raises(StoreError, match=rf"redirects to {heard.uri}/login\. .*--account mine"):
        has_login(heard.uri)
    assert len(heard.requests) == 2


def test_a_redirection_to_nowhere_is_refused_like_other_answers(home, heard):
    heard.status = 302
    with pytest.raises(StoreError, match=r"with 302.*--account mine"):
        has_login(heard.uri)


def test_a_server_that_is_away_is_said_to_be():
    with pytest.raises(StoreError, match="does not answer") as caught:
        has_login("http://127.0.0.1:9")
    assert caught.value.exit_code == 7


@pytest.mark.parametrize(("status", "expected"), [(200, True), (403, True), (401, False)])
def test_whether_a_login_is_taken_is_the_servers_answer(heard, status, expected):
    heard.status = status
    with visitor(heard, BOB):
        assert takes_login(heard.uri) is expected
    assert heard.sent("Authorization") == [BOB]


@pytest.mark.parametrize("status", [302, 404, 429, 500, 503])
def test_no_other_answer_makes_a_password_wrong(heard, status):
    heard.status = status
    with visitor(heard, ALICE), pytest.raises(StoreError, match=f"answers with {status}"):
        takes_login(heard.uri)
    with visitor(heard, BOB):  # MLflow's login answers any other scheme with 500
        assert not takes_login(heard.uri)


def test_the_name_of_a_token_is_the_servers_answer(heard):
    heard.body = b'{"user": {"username": "bob"}}'
    with visitor(heard, BOB):
        assert login_name(heard.uri) == "bob"


@pytest.mark.parametrize(("status", "body"), [(404, b""), (200, b"<html>"), (200, b"{}")])
def test_an_older_server_tells_no_name(heard, status, body):
    heard.status, heard.body = status, body
    with visitor(heard, BOB):
        assert login_name(heard.uri) is None


def test_auth_is_called_after_all_headers_and_cookies():
    """What the plug-in relies on, of the version of requests that is installed."""
    request = requests.Request(
        "GET",
        "http://h/",
        headers={"Authorization": "Basic starter"},
        cookies={"session": "alices"},
        auth=VisitorAuth(),
    )
    with in_the_name_of(Visitor("http://h:80", BOB)):
        prepared = requests.Session().prepare_request(request)
    assert prepared.headers["Authorization"] == BOB
    assert "Cookie" not in prepared.headers
