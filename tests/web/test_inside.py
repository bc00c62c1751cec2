"""Our pages inside MLflow's server: when it has a login, and what it refuses to start with."""

import ast
import importlib
import inspect
import os
import re
import sys

import flask
import pytest

from actiontrack import settings
from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.web import inside
from actiontrack.web.inside import NAMES, check_names, link_from_mlflow, prepare, wants_auth

#: Packages that MLflow's server loads warn of each other.
_LENIENT = "import warnings\nwarnings.simplefilter('ignore')\n"


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


@pytest.mark.parametrize("installed", ["2.22.5", "3.16.1", "3.19.0", "4.0.0"])
def test_a_login_of_another_version_of_mlflow_is_refused(monkeypatch, installed):
    monkeypatch.setattr(inside, "version", lambda _name: installed)
    monkeypatch.setenv(settings.AUTH.name, "basic-auth")
    with pytest.raises(MissingDependencyError, match=re.escape(installed)) as caught:
        prepare()
    assert "actiontrack ui --tracking-uri http://" in str(caught.value)


def test_workers_share_the_secret_that_the_command_has_made(monkeypatch):
    prepare()
    made = os.environ["_ACTIONTRACK_FORM_KEY"]
    prepare()
    assert os.environ["_ACTIONTRACK_FORM_KEY"] == made
    assert len(made) == 64
    monkeypatch.delenv("_ACTIONTRACK_FORM_KEY")


@pytest.mark.parametrize("private", NAMES, ids=lambda private: private.name)
def test_a_name_that_mlflow_has_lost_is_named_with_its_purpose(monkeypatch, private):
    check_names(login=True)
    monkeypatch.delattr(importlib.import_module(private.module), private.name)
    with pytest.raises(MissingDependencyError) as caught:
        check_names(login=True)
    message = str(caught.value)
    assert f"has no {private.module}.{private.name}" in message
    assert private.purpose in message
    assert "actiontrack ui --tracking-uri http://" in message


@pytest.mark.parametrize("private", NAMES, ids=lambda private: private.name)
def test_names_of_the_login_are_needed_with_a_login_only(monkeypatch, private):
    monkeypatch.delattr(importlib.import_module(private.module), private.name)
    if private.module == "mlflow.server.auth":
        check_names(login=False)
    else:
        with pytest.raises(MissingDependencyError, match=re.escape(private.name)):
            check_names(login=False)


def test_a_login_that_no_longer_says_who_the_user_is_is_refused(monkeypatch):
    from mlflow.server import auth

    monkeypatch.setattr(auth, "_before_request", lambda: None)
    with pytest.raises(MissingDependencyError, match="mlflow_authenticated_user"):
        check_names(login=True)


def test_a_module_that_mlflow_has_lost_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.server.auth", None)
    with pytest.raises(MissingDependencyError, match=r"mlflow\.server\.auth .*pip install"):
        check_names(login=True)


def test_every_name_that_the_module_takes_from_the_server_is_in_the_table():
    tree = ast.parse(inspect.getsource(inside))
    taken = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mlflow.")
        for name in node.names
    }
    login = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"auth", "self._auth"}
    }
    modules_and_public = {"auth", "constants", "MLFLOW_ENABLE_WORKSPACES"}
    assert {"app", "_add_static_prefix"} <= taken
    assert {"authorize", "_run_requirement"} <= login
    assert (taken | login) - modules_and_public <= {private.name for private in NAMES}


def test_the_link_is_put_into_mlflows_page_only():
    app = flask.Flask("link")
    app.add_url_rule("/", "serve", lambda: "<html><body><div id='root'></div></body></html>")
    app.add_url_rule("/other", "other", lambda: "<html><body></body></html>")
    link_from_mlflow(app, "/tools/actiontrack")
    page = app.test_client().get("/").get_data(as_text=True)
    assert page.index("actiontrack-link") < page.index("</body>")
    assert 'href="/tools/actiontrack/"' in page
    assert "onclick" not in page
    assert "actiontrack-link" not in app.test_client().get("/other").get_data(as_text=True)


def test_under_a_static_prefix_of_the_server_everything_moves(in_subprocess, recorded):
    environment = {"_MLFLOW_STATIC_PREFIX": "/tools/mlflow", "_MLFLOW_SGI_NAME": "gunicorn"}
    environment |= {"_MLFLOW_SERVER_FILE_STORE": recorded[0]}
    code = f"import os\nos.environ.update({environment!r})\n{_LENIENT}"
    code += """from actiontrack.web.serve import create_app
client = create_app().test_client()
print(client.get("/tools/mlflow/actiontrack/api/runs?per_page=2").get_json()["next"])
print(client.get("/actiontrack/api/runs").status_code)
print('href="/tools/mlflow/' in client.get("/tools/mlflow/actiontrack/").text)
"""
    address, status, leads_back = in_subprocess(code).stdout.splitlines()
    assert address.startswith("/tools/mlflow/actiontrack/api/runs?")
    assert (status, leads_back) == ("404", "True")


def test_the_command_ends_with_one_line_where_the_login_is_not_known(in_subprocess):
    code = f"""{_LENIENT}import importlib.metadata, os, runpy, sys
version = importlib.metadata.version
importlib.metadata.version = lambda name: "3.19.2" if name == "mlflow" else version(name)
os.environ["ACTIONTRACK_AUTH"] = "basic-auth"
sys.argv = ["mlflow", "server", "--app-name", "actiontrack"]
runpy.run_module("mlflow", run_name="__main__")
"""
    done = in_subprocess(code, check=False)
    assert done.returncode == MissingDependencyError.exit_code
    assert "Traceback" not in done.stderr
    (line,) = [text for text in done.stderr.splitlines() if text.startswith("error: ")]
    assert "3.19.2" in line
    assert "actiontrack ui --tracking-uri http://" in line
