"""Pages of our own server, in processes and by sockets: TLS, proxies, tokens, what is refused."""

import contextlib
import http.client
import re
import shutil
import ssl
import subprocess
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from helpers import free_port
from overheard import overhearing
from strongholds import PASSWORD, AlonePages, Guarded, ask, basic, fill

from actiontrack.cli import main
from actiontrack.errors import ParameterError
from actiontrack.store.addresses import address_of
from actiontrack.web.alone import Pages


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """A function from options to the exit code and message of `actiontrack ui`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("ACTIONTRACK_USER", "ada")

    def start(*options):
        port = () if "--port" in options else ("--port", str(free_port()))
        with pytest.raises(SystemExit) as ended:
            main(["ui", *port, *options])
        return ended.value.code, capsys.readouterr().err

    return start


@pytest.fixture(scope="module")
def database(recorded, tmp_path_factory):
    """A copy of the recorded store."""
    folder = tmp_path_factory.mktemp("database")
    shutil.copy(recorded[0].removeprefix("sqlite:///"), folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Files of a certificate for this machine and of its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", "key.pem", "-out", "certificate.pem", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return folder / "certificate.pem", folder / "key.pem"


# A database, with TLS, below a path


@pytest.fixture(scope="module")
def private(database, certificate, tmp_path_factory):
    pages = AlonePages(
        tmp_path_factory.mktemp("private"),
        database,
        *("--alone", "--prefix", "tools/"),
        *("--certificate", str(certificate[0]), "--key", str(certificate[1])),
        environment={"ACTIONTRACK_USER": "ada"},
        scheme="https",
    )
    yield pages
    pages.close()


@pytest.fixture
def trusting(certificate):
    return ssl.create_default_context(cafile=str(certificate[0]))


def test_pages_are_served_by_tls_below_a_path_to_whoever_has_the_address(
    private, trusting, database, runs
):
    assert private.address.startswith(f"{private.root}/tools/actiontrack/?token=")
    assert ask(f"{private.root}/tools/actiontrack/", context=trusting).status == 403
    welcomed = ask(private.address, context=trusting)
    assert welcomed.status == 303
    assert "Secure" in welcomed.headers["Set-Cookie"]
    cookie = welcomed.headers["Set-Cookie"].partition(";")[0]
    page = ask(f"{private.root}/tools/actiontrack/", context=trusting, Cookie=cookie)
    assert page.status == 200
    assert runs["linear-0"] in page.text
    links = re.findall(r'(?:href|src|action)="(/[^"]*)"', page.text)
    assert links
    assert all(link.startswith("/tools/actiontrack/") for link in links)
    assert ">MLflow</a>" not in page.text  # there is no such server to lead to


def test_an_image_of_the_recorded_folder_is_shown_to_the_owner_of_a_database(
    private, trusting, runs
):
    token = urllib.parse.urlsplit(private.address).query.partition("=")[2]
    headers = {"Authorization": f"Bearer {token}"}
    api = f"{private.root}/tools/actiontrack/api"
    me = ask(f"{api}/me", context=trusting, **headers).json()
    assert me["user"] == "ada"
    first = ask(f"{api}/scores?run={runs['linear-0']}", context=trusting, **headers).json()
    column = first["columns"].index("sample_id")
    image = ask(
        f"{api}/image?run={runs['linear-0']}&id={first['rows'][0][column]}",
        context=trusting,
        **headers,
    )
    assert image.status == 200
    assert image.headers["Content-Type"].startswith("image/")


def test_without_tls_a_client_gets_nothing(private):
    connection = http.client.HTTPConnection("127.0.0.1", private.port, timeout=10)
    connection.request("GET", "/tools/actiontrack/")
    with contextlib.suppress(OSError, http.client.HTTPException):
        assert connection.getresponse().status == 400
    connection.close()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux")
def test_a_database_needs_no_other_process(private):
    """And what the pages print holds the token, which no list of processes shows."""
    process = Path(f"/proc/{private.process_id}")
    children = [task.read_text() for task in process.glob("task/*/children")]
    assert children
    assert not any(children)
    command = (process / "cmdline").read_text()
    token = urllib.parse.urlsplit(private.address).query.partition("=")[2]
    assert token
    assert "ui" in command.split("\0")
    assert token not in command
    assert "Traceback" not in private.log


# A server without a login


@pytest.fixture(scope="module")
def open_pages(tmp_path_factory):
    """Pages of a server that says little, to everybody; and what it was sent."""
    with overhearing() as server:
        server.body = b'{"experiments": []}'
        pages = AlonePages(
            tmp_path_factory.mktemp("open"),
            f"{server.uri}/",
            environment={"MLFLOW_TRACKING_TOKEN": "starters-token"},
        )
        yield server, pages
        pages.close()


def test_a_server_without_a_login_is_read_without_one(open_pages):
    server, pages = open_pages
    assert "token" not in pages.address
    page = pages.ask("/actiontrack/", Authorization=basic("alice"), Cookie="session=x")
    assert page.status == 200
    assert f'href="{server.uri}/"' in page.text
    assert len(server.requests) > 2
    assert set(server.sent("Authorization")) == {None}
    assert set(server.sent("Cookie")) == {None}


def test_the_root_leads_to_the_first_page(open_pages):
    _, pages = open_pages
    for path in ("/", "/actiontrack"):
        answer = pages.ask(path)
        assert answer.status in {302, 308}
        assert urllib.parse.urlsplit(answer.headers["Location"]).path == "/actiontrack/"


def test_no_other_name_is_answered(open_pages):
    assert open_pages[1].ask("/actiontrack/", Host="rebound.example").status == 400


# A server with a login, behind a proxy


class Proxy(ThreadingHTTPServer):
    """A reverse proxy that serves below a path, ends TLS, and tells so in headers."""

    daemon_threads = True

    def __init__(self, target, prefix):
        self.target, self.prefix = target, prefix
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.02,)).start()

    @property
    def root(self):
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    def pass_on(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name != "Host"}
        headers |= {
            "X-Forwarded-For": self.client_address[0],
            "X-Forwarded-Proto": "https",
            "X-Forwarded-Host": "ml.example.org",
            "X-Forwarded-Prefix": self.server.prefix,
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target, timeout=30)
        path = self.path.removeprefix(self.server.prefix)
        connection.request(self.command, path, body or None, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_GET = do_POST = pass_on  # noqa: N815 - as http.server calls them

    def log_message(self, *_arguments):
        pass


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, warm_python):
    """A server with a login, and the runs in it."""
    folder = tmp_path_factory.mktemp("guarded")
    server = Guarded(folder, warm_python=warm_python)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
            patch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
            yield server, fill(server, folder / "spool")
    finally:
        server.kill()


@pytest.fixture(scope="module")
def proxied(guarded, tmp_path_factory):
    pages = AlonePages(
        tmp_path_factory.mktemp("proxied"),
        guarded[0].uri,
        *("--behind-proxy", "1", "--allowed-host", "ml.example.org"),
        *("--mlflow-url", "https://ml.example.org/"),
    )
    proxy = Proxy(pages.port, "/team/pages")
    yield proxy, pages
    proxy.shutdown()
    proxy.server_close()
    pages.close()


def test_behind_a_proxy_every_link_has_its_path(proxied, guarded):
    proxy, run = proxied[0], guarded[1]["open"]
    for path in ("", f"run?run={run}", f"sample?run={run}&id=1", f"review?run={run}"):
        page = ask(f"{proxy.root}/team/pages/actiontrack/{path}", "alice")
        assert page.status == 200, page.text
        links = re.findall(r'(?:href|src|action|hx-get|data-(?!keys)\w+)="(/[^"]*)"', page.text)
        assert links
        strange = [link for link in links if not link.startswith("/team/pages/actiontrack/")]
        assert not strange


def test_behind_a_proxy_the_next_page_and_the_cookie_have_its_path(proxied, guarded):
    proxy, run = proxied[0], guarded[1]["open"]
    api = f"{proxy.root}/team/pages/actiontrack/api"
    answer = ask(f"{api}/scores?run={run}&per_page=2", "alice")
    assert answer.json()["next"].startswith("/team/pages/actiontrack/api/scores?")
    cookie = ask(f"{api}/me", "alice").headers["Set-Cookie"]
    assert "Path=/team/pages/actiontrack" in cookie
    assert "Secure" in cookie


def test_an_answer_for_one_prefix_is_not_that_for_another(proxied, guarded):
    proxy, pages = proxied
    path = f"/actiontrack/api/scores?run={guarded[1]['open']}&per_page=3"
    below = ask(f"{proxy.root}/team/pages{path}", "alice")
    plain = pages.ask(path, "alice")
    assert below.headers["ETag"] != plain.headers["ETag"]
    assert plain.json()["next"].startswith("/actiontrack/")


def test_behind_a_proxy_a_verdict_is_taken_from_its_name_only(proxied, guarded):
    proxy, run = proxied[0], guarded[1]["open"]
    api = f"{proxy.root}/team/pages/actiontrack/api"
    me = ask(f"{api}/me", "alice")
    cookie = me.headers["Set-Cookie"].partition(";")[0]
    data = {"csrf_token": me.json()["csrf_token"], "id": "1", "verdict": "withdrawn"}
    for origin, status in (("https://evil.example", 403), ("https://ml.example.org", 201)):
        answer = ask(
            f"{api}/verdicts?run={run}", "alice", "POST", data, Cookie=cookie, Origin=origin
        )
        assert answer.status == status


def test_the_mlflow_that_was_named_is_where_links_lead(proxied):
    page = ask(f"{proxied[0].root}/team/pages/actiontrack/", "alice")
    assert 'href="https://ml.example.org/#/experiments/' in page.text


def test_artifacts_that_do_not_pass_through_the_server_are_not_read(proxied, guarded, tmp_path):
    """A folder of this machine, which whoever makes an experiment may name as its own."""
    server, _ = guarded
    client = mlflow.MlflowClient(tracking_uri=server.uri)
    experiment = client.create_experiment("elsewhere", artifact_location=f"file://{tmp_path}")
    server.let("alice", experiment, "EDIT")
    run_id = client.create_run(experiment).info.run_id
    client.set_tag(run_id, "actiontrack.format", "2")
    client.set_tag(run_id, "actiontrack.record.test-probe", "complete")
    answer = proxied[1].ask(f"/actiontrack/api/scores?run={run_id}", "alice")
    assert answer.status == 404
    assert "--artifact-root" in answer.text
    listed = proxied[1].ask("/actiontrack/api/runs", "admin")
    assert listed.status == 200
    assert "do not pass through the tracking server" in listed.text


# The starter's own account


def test_on_demand_the_pages_show_what_the_starter_may_see(guarded, tmp_path):
    pages = AlonePages(tmp_path, guarded[0].uri, "--account", "mine")
    try:
        assert pages.ask("/actiontrack/api/runs", "admin").status == 403
        token = urllib.parse.urlsplit(pages.address).query.partition("=")[2]
        answer = pages.ask("/actiontrack/api/runs", Authorization=f"Bearer {token}")
        assert answer.json()["total"] >= 2
        cookie = pages.ask(f"/actiontrack/?token={token}").headers["Set-Cookie"].split(";")[0]
        assert pages.ask("/actiontrack/api/runs", Cookie=cookie).json()["total"] >= 2
    finally:
        pages.close()


def test_databricks_is_served_to_the_starter_alone(tmp_path):
    """By a stand-in for a workspace: what it is sent has the starter's token."""
    with overhearing() as workspace:
        workspace.body = b'{"experiments": []}'
        pages = AlonePages(
            tmp_path,
            " Databricks",
            environment={"DATABRICKS_HOST": workspace.uri, "DATABRICKS_TOKEN": "starters-token"},
        )
        try:
            assert pages.ask("/actiontrack/").status == 403
            assert "?token=" in pages.address
            asked = [path for _, path, _ in workspace.requests if "experiments/search" in path]
            assert asked
            token = urllib.parse.urlsplit(pages.address).query.partition("=")[2]
            page = pages.ask("/actiontrack/", Authorization=f"Bearer {token}")
            assert f'href="{workspace.uri}/ml/"' in page.text
        finally:
            pages.close()


# What does not start


@pytest.mark.parametrize(
    ("uri", "code", "said"),
    [
        ("azureml://eastus.api.azureml.ms/mlflow", 9, "pip install azureml-mlflow"),
        ("arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x", 9, "sagemaker-mlflow"),
        ("gopher://host", 9, "does not know gopher:"),
        ("http://127.0.0.1:9", 7, "does not answer"),
        ("sqlite:///missing.db", 4, "no tracking store"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(refused, uri, code, said):
    returned, message = refused("--tracking-uri", uri)
    assert (returned, message.count("\n")) == (code, 1), message
    assert said in message
    assert "Traceback" not in message
    assert "registry functionality" not in message


def test_without_credentials_databricks_is_refused_with_what_to_do(refused, monkeypatch):
    with overhearing() as workspace:
        workspace.status = 401
        monkeypatch.setenv("DATABRICKS_HOST", workspace.uri)
        monkeypatch.setenv("DATABRICKS_TOKEN", "wrong")
        code, message = refused("--tracking-uri", "databricks")
    assert code == 7, message
    assert "Traceback" not in message


def test_the_starters_wrong_login_is_refused_with_exit_code_7(guarded, refused, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    code, message = refused("--tracking-uri", guarded[0].uri, "--account", "mine")
    assert code == 7
    assert "wants a login" in message


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1"])  # noqa: S104 - refused
@pytest.mark.parametrize("uri", ["databricks", "sqlite:///x.db", "DATABRICKS://profile"])
def test_what_the_starter_may_see_is_not_served_to_a_network(refused, uri, host):
    code, message = refused("--tracking-uri", uri, "--alone", "--host", host)
    assert code == 2
    assert "nobody logs in" in message


@pytest.mark.parametrize(
    "options", [("--certificate", "x.pem"), ("--prefix", "/x"), ("--allowed-host", "h")]
)
def test_options_of_one_way_are_refused_by_the_other(refused, tmp_path, database, options):
    (tmp_path / "x.pem").touch()
    code, message = refused("--tracking-uri", database, *options)
    assert code == 2
    assert f"{options[0]}: is for the pages without" in message
    code, message = refused("--tracking-uri", database, "--alone", "--workers", "2")
    assert code == 2


# cheroot leaves the socket open that it could not bind.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_port_that_is_taken_is_said_to_be(refused, database, private):
    port = str(private.port)
    code, message = refused("--tracking-uri", database, "--alone", "--port", port)
    assert code == 7
    assert "another --port" in message


def test_any_folder_of_images_is_for_a_database_only(monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_IMAGE_ROOTS", "recorded")
    with pytest.raises(ParameterError, match="must name folders"):
        Pages(address=address_of("http://h")).image_roots()
    assert Pages(address=address_of("sqlite:///x.db")).image_roots().recorded
    monkeypatch.delenv("ACTIONTRACK_IMAGE_ROOTS")
    assert not Pages(address=address_of("databricks")).image_roots().recorded
    monkeypatch.setenv("ACTIONTRACK_IMAGE_ROOTS", "/data")
    assert not Pages(address=address_of("sqlite:///x.db")).image_roots().recorded


@pytest.mark.parametrize(
    ("uri", "account"),
    [("databricks", "mine"), ("azureml://x", "mine"), ("arn:x", "mine"), ("sqlite:///x", "mine")],
)
def test_what_has_no_password_is_the_starters(uri, account):
    assert Pages(address=address_of(uri)).chosen_account() == account
    with pytest.raises(ParameterError, match="--account"):
        Pages(address=address_of(uri), account="visitors").chosen_account()
