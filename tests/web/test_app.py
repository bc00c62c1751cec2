"""The application: when it has a login, what it refuses to start with, and `actiontrack ui`."""

import os
import re
import urllib.request
from urllib.parse import parse_qsl, urlsplit

import flask
import pytest
from helpers import ROOT
from werkzeug.datastructures import MultiDict

from actiontrack import settings
from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.store import Store
from actiontrack.web import login
from actiontrack.web.api.endpoints import ENDPOINTS
from actiontrack.web.app import install, prepare, routes
from actiontrack.web.login import wants_auth
from actiontrack.web.parameters import parse
from actiontrack.web.permissions import Everybody


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("MLFLOW_AUTH_", "ACTIONTRACK_AUTH", "_ACTIONTRACK")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({settings.AUTH.name: "basic-auth"}, True),
        ({settings.AUTH.name: "none"}, False),
        ({"MLFLOW_AUTH_CONFIG_PATH": "/etc/auth.ini"}, True),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": "x" * 20}, True),
        ({"MLFLOW_AUTH_ADMIN_PASSWORD": ""}, False),
        ({"MLFLOW_AUTH_CONFIG_PATH": "/etc/auth.ini", settings.AUTH.name: "none"}, False),
    ],
)
def test_any_sign_of_a_login_switches_it_on(monkeypatch, environment, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert wants_auth() is expected


@pytest.mark.parametrize("value", ["basic", "yes", "NONE", "oidc"])
def test_a_login_that_does_not_exist_is_refused(monkeypatch, value):
    monkeypatch.setenv(settings.AUTH.name, value)
    with pytest.raises(ParameterError, match=settings.AUTH.name):
        wants_auth()


def test_workspaces_are_refused_before_there_are_workers(monkeypatch):
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    with pytest.raises(ParameterError, match="workspaces"):
        prepare()


def test_a_wrong_folder_of_images_is_refused_before_there_are_workers(monkeypatch):
    monkeypatch.setenv("ACTIONTRACK_IMAGE_ROOTS", "relative/folder")
    with pytest.raises(ParameterError, match="absolute"):
        prepare()


@pytest.mark.parametrize("installed", ["3.16.1", "3.18.0", "4.0.0"])
def test_a_login_of_another_version_of_mlflow_is_refused(monkeypatch, installed):
    monkeypatch.setattr(login, "version", lambda _name: installed)
    monkeypatch.setenv(settings.AUTH.name, "basic-auth")
    with pytest.raises(MissingDependencyError, match=re.escape(installed)):
        prepare()


def test_workers_share_the_secret_that_the_command_has_made(monkeypatch):
    prepare()
    made = os.environ["_ACTIONTRACK_FORM_KEY"]
    prepare()
    assert os.environ["_ACTIONTRACK_FORM_KEY"] == made
    assert len(made) == 64
    monkeypatch.delenv("_ACTIONTRACK_FORM_KEY")


def test_paths_and_endpoints_are_unique_and_without_parameters():
    found = [(each.path, each.method) for each in routes()]
    assert len(found) == len(set(found)) == len({each.endpoint for each in routes()})
    assert not any("<" in path for path, _ in found)


def test_under_a_static_prefix_everything_moves(monkeypatch, recorded):
    monkeypatch.setenv("_MLFLOW_STATIC_PREFIX", "/tools/mlflow")
    app = flask.Flask("prefixed")
    install(app, Everybody(), store=Store(recorded[0]), key=b"k")
    client = app.test_client()
    body = client.get("/tools/mlflow/actiontrack/api/runs?per_page=2").get_json()
    assert body["next"].startswith("/tools/mlflow/actiontrack/api/runs?")
    assert client.get("/actiontrack/api/runs").status_code == 404
    assert client.get("/tools/mlflow/actiontrack/api/nothing").status_code == 404
    error = client.get("/tools/mlflow/actiontrack/api/scores")
    assert error.get_json()["error"]["type"] == "ParameterError"


def test_the_link_is_put_into_mlflows_page_only(recorded):
    app = flask.Flask("link")
    app.add_url_rule("/", "serve", lambda: "<html><body><div id='root'></div></body></html>")
    app.add_url_rule("/other", "other", lambda: "<html><body></body></html>")
    install(app, Everybody(), store=Store(recorded[0]), key=b"k")
    page = app.test_client().get("/").get_data(as_text=True)
    assert page.index("actiontrack-link") < page.index("</body>")
    assert "onclick" not in page
    assert "actiontrack-link" not in app.test_client().get("/other").get_data(as_text=True)


def test_the_addresses_of_the_guide_are_ones_that_the_api_knows():
    text = (ROOT / "docs/web.md").read_text()
    found = re.findall(r"http://localhost:5000(/actiontrack/api/[^'\s\"]*)'", text)
    known = {each.path: each for each in ENDPOINTS if each.method == "GET"}
    assert len(found) > 5
    for address in found:
        parts = urlsplit(address)
        endpoint = known[parts.path.removeprefix("/actiontrack/api/")]
        parse(endpoint.parameters, MultiDict(parse_qsl(parts.query)))  # refuses others


def test_every_route_of_the_api_is_in_the_guide():
    text = (ROOT / "docs/web.md").read_text()
    table = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    for each in ENDPOINTS:
        assert f"`{each.path}`" in table


def test_a_local_store_is_served_by_one_command(address, runs):
    def get(path):
        with urllib.request.urlopen(address + path, timeout=30) as answer:  # noqa: S310 - ours
            return answer.read().decode()

    assert f'"{runs["mlp-0"]}"' in get("/actiontrack/api/runs")
    assert "mlp-0" in get("/actiontrack/")
    assert '"user":"ada"' in get("/actiontrack/api/me")
    assert 'href="/actiontrack/"' in get("/")


def test_pages_load_no_plotting_library(in_subprocess):
    code = "import sys, actiontrack.web.app\nprint({'matplotlib', 'seaborn'} & set(sys.modules))"
    assert in_subprocess(code).stdout == "set()\n"
