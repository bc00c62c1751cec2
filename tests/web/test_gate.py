"""Who comes in to pages of our own server: names of hosts, the token, prefixes of proxies."""

import flask
import pytest

from actiontrack.store import Store
from actiontrack.store.credentials import Visitor, present_visitor
from actiontrack.web.alone import Listening
from actiontrack.web.app import install
from actiontrack.web.gate import Gate, is_loopback, loopback_names
from actiontrack.web.permissions import Everybody

TOKEN = "a-token-of-this-server"  # noqa: S105 - of a test
PAGE = "/actiontrack/api/openapi.json"


@pytest.fixture
def make_gate():
    """A function from what a gate asks for to a client in front of it."""

    def make(**asked):
        app = flask.Flask("pages", static_folder=None)
        app.config["TESTING"] = True
        Gate(**{"hosts": loopback_names("127.0.0.1")} | asked).guard(app)
        install(app, Everybody(), store=Store("sqlite:///unused.db"), key=b"secret")
        return app.test_client()

    return make


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("LocalHost", True),
        ("0.0.0.0", False),  # noqa: S104 - what is told apart
        ("::", False),
        ("192.168.1.4", False),
        ("ml.example.org", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host, local):
    assert is_loopback(host) is local


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:5000", "LOCALHOST:80", "127.0.0.1:1", "[::1]:5000", "[::1]"]
)
def test_this_machine_is_known_by_its_names_for_itself(make_gate, host):
    assert make_gate().get(PAGE, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example@localhost",
        "localhost:5000:evil",
        "192.168.1.4",
        "",
    ],
)
def test_any_other_name_is_refused_whatever_is_asked(make_gate, host):
    client = make_gate()
    for path in (PAGE, "/", "/actiontrack/", "/actiontrack/static/app.css", "/nothing"):
        answer = client.get(path, headers={"Host": host})
        assert answer.status_code == 400
        assert "--allowed-host" in answer.get_data(as_text=True)


def test_a_name_that_was_allowed_is_taken(make_gate):
    client = make_gate(hosts=("ml.example.org",))
    assert client.get(PAGE, headers={"Host": "ML.example.org.:8443"}).status_code == 200
    assert client.get(PAGE, headers={"Host": "localhost"}).status_code == 400


# The token


def test_without_the_token_nothing_is_shown(make_gate):
    client = make_gate(token=TOKEN)
    for path in (PAGE, "/", "/actiontrack/", "/actiontrack/static/app.css", "/nothing"):
        for wrong in ("", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?x={TOKEN}"):
            answer = client.get(path + wrong)
            assert answer.status_code == 403
            assert "printed" in answer.get_data(as_text=True)
            assert "Set-Cookie" not in answer.headers


def test_the_token_of_the_address_becomes_a_cookie_and_leaves_the_address(make_gate):
    client = make_gate(token=TOKEN, cookie="token_5000")
    answer = client.get(f"{PAGE}?a=1&token={TOKEN}&a=2")
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"{PAGE}?a=1&a=2"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("token_5000=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert client.get(PAGE).status_code == 200


def test_the_cookie_is_sent_by_tls_only_where_it_came_by_tls(make_gate):
    answer = make_gate(token=TOKEN).get(f"{PAGE}?token={TOKEN}", base_url="https://localhost")
    assert "Secure" in answer.headers["Set-Cookie"]


def test_a_script_may_send_the_token_as_a_header(make_gate):
    client = make_gate(token=TOKEN)
    for sent, status in ((f"Bearer {TOKEN}", 200), ("Bearer wrong", 403), (TOKEN, 403)):
        assert client.get(PAGE, headers={"Authorization": sent}).status_code == status


def test_the_token_leads_to_no_other_site(make_gate):
    answer = make_gate(token=TOKEN).get(f"//evil.example/x?token={TOKEN}")
    assert not answer.headers.get("Location", "").startswith("//")


def test_a_verdict_needs_the_token_too(make_gate):
    client = make_gate(token=TOKEN)
    assert client.post("/actiontrack/api/verdicts", data={"id": "1"}).status_code == 403


# In whose name


def test_a_request_is_made_for_nobody_in_particular_and_only_while_it_lasts(make_gate, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "actiontrack.web.access.check_route", lambda _route: seen.append(present_visitor())
    )
    make_gate(nobody=Visitor("http://h:80")).get(PAGE)
    make_gate().get(PAGE)
    assert seen == [Visitor("http://h:80"), None]
    assert present_visitor() is None


@pytest.mark.parametrize("prefix", ["//evil.example", "/a b", "/a'b", "/a?b"])
def test_a_prefix_that_is_no_path_is_refused(make_gate, prefix):
    answer = make_gate().get(PAGE, environ_overrides={"SCRIPT_NAME": prefix})
    assert answer.status_code == 400


# What may be listened to


@pytest.mark.parametrize("prefix", ["/<a", "/<a>", "/a b", "//evil.example", "/a?b", "a"])
def test_pages_are_not_served_below_what_is_no_path(prefix):
    for account in ("visitors", "nobody", "mine"):
        with pytest.raises(ValueError, match="--prefix: must be a path such as"):
            Listening(prefix=prefix).check(account)


@pytest.mark.parametrize("prefix", ["", "/tools", "/tools/ml-flow_2.0~x"])
def test_pages_are_served_below_a_path(prefix):
    Listening(prefix=prefix).check("mine")


OTHERS = {"host": "0.0.0.0", "names": ("ml.example.org",)}  # noqa: S104 - what is tested


@pytest.mark.parametrize("account", ["nobody", "mine"])
@pytest.mark.parametrize(
    "options", [OTHERS, {"host": "192.168.1.4"}, {"hops": 1}, {"names": ("ml.example.org",)}]
)
def test_without_a_login_the_pages_stay_on_this_machine(account, options):
    with pytest.raises(ValueError, match="nobody logs in"):
        Listening(**options).check(account)
    Listening().check(account)


def test_passwords_do_not_travel_in_the_clear(tmp_path):
    with pytest.raises(ValueError, match=r"--certificate.*--behind-proxy"):
        Listening(**OTHERS).check("visitors")
    Listening(**OTHERS, hops=1).check("visitors")
    Listening(**OTHERS, certificate=tmp_path, key=tmp_path).check("visitors")
    Listening().check("visitors")


def test_a_server_that_listens_everywhere_is_told_its_name():
    with pytest.raises(ValueError, match="--allowed-host"):
        Listening(host="0.0.0.0", hops=1).check("visitors")  # noqa: S104


def test_a_certificate_comes_with_its_key(tmp_path):
    with pytest.raises(ValueError, match="--key"):
        Listening(certificate=tmp_path).check("visitors")
    with pytest.raises(ValueError, match="--certificate"):
        Listening(key=tmp_path).check("visitors")
