"""An MLflow server with a login, with users and runs in it, and our own pages beside it.

alice may edit the open and the closed experiment, bob may read the open one, carol nothing.
"""

import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import flask
import mlflow
import requests
from helpers import ROOT, Server, free_port, wait_until

from actiontrack.store import Store
from actiontrack.testing import make_history, record_history
from actiontrack.web.app import install
from actiontrack.web.permissions import Everybody

PASSWORD = "correct horse battery staple"  # noqa: S105 - of servers that live for a test
SECRET = "closed-to-bob"  # noqa: S105 - a name to look for
AUTH_INI = """[mlflow]
default_permission = NO_PERMISSIONS
database_uri = sqlite:///{folder}/auth.db
admin_username = admin
admin_password = {password}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 600
"""


def basic(user, password=PASSWORD):
    """The header of a login."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


class Answer:
    """Status, headers and text of an answer, whatever the status is."""

    def __init__(self, raw):
        self.status, self.headers, self.content = raw.status, raw.headers, raw.read()
        self.text = self.content.decode(errors="replace")

    def json(self):
        return json.loads(self.text)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments):
        return None


def ask(url, user=None, method="GET", data=None, context=None, **headers):
    """Ask in the name of a user, who may be a whole header; redirects are answers."""
    if user:
        headers["Authorization"] = user if " " in user else basic(user)
    headers = {key.replace("_", "-"): value for key, value in headers.items()}
    body = None if data is None else urllib.parse.urlencode(data, doseq=True).encode()
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 - our own
    handlers = [_NoRedirect, urllib.request.ProxyHandler({})]
    if context is not None:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        return Answer(urllib.request.build_opener(*handlers).open(request, timeout=60))
    except urllib.error.HTTPError as error:
        return Answer(error)


def url_map():
    """Path and method of everything that an application with our pages serves."""
    app = flask.Flask("map", static_folder=None)
    install(app, Everybody(), store=Store("sqlite:///unused.db"), key=b"key")
    static = Path(app.blueprints["actiontrack"].static_folder)
    files = sorted(file.relative_to(static) for file in static.rglob("*") if file.is_file())[:3]
    routes = []
    for rule in app.url_map.iter_rules():
        paths = [rule.rule]
        if rule.arguments:
            assert rule.endpoint == "actiontrack.static", "only static files may have arguments"
            paths = [f"/actiontrack/static/{file.as_posix()}" for file in files]
        routes += [(path, method) for path in paths for method in sorted(rule.methods)]
    return routes


ROUTES = url_map()
READING = [route for route in ROUTES if route[1] in {"GET", "HEAD"}]
WRITING = [route for route in ROUTES if route[1] not in {"GET", "HEAD", "OPTIONS"}]
ABOUT_RUNS = [route for route in READING + WRITING if "/static/" not in route[0]]
LISTS = [("/actiontrack/", "GET"), ("/actiontrack/api/runs", "GET")]


def query(*run_ids):
    """The query that names these runs."""
    return "?" + urllib.parse.urlencode([("run", run_id) for run_id in run_ids])


def form_token(ask, user):
    """A form token of a user and the cookie that belongs to it."""
    answer = ask("/actiontrack/api/me", user)
    return answer.json()["csrf_token"], answer.headers["Set-Cookie"].partition(";")[0]


class Guarded(Server):
    """An `mlflow server` with MLflow's own basic auth.

    Args:
        folder: for everything that it writes.
        options: of `Server`.
    """

    def __init__(self, folder, **options):
        config = folder / "auth.ini"
        config.write_text(AUTH_INI.format(folder=folder, password=PASSWORD))
        super().__init__(
            folder,
            app_name="basic-auth",
            environment={
                "MLFLOW_AUTH_CONFIG_PATH": str(config),
                "MLFLOW_FLASK_SERVER_SECRET_KEY": "a static key",
                "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            },
            **options,
        )

    def let(self, user, experiment, permission):
        """Give a user a permission on an experiment, by whichever address this server has."""
        body = {"username": user, "permission": permission}
        new = body | {"resource_type": "experiment", "resource_id": experiment}
        answer = self.post("3.0/mlflow/users/permissions/grant", new)
        if answer.status_code == 404:
            old = body | {"experiment_id": experiment}
            answer = self.post("2.0/mlflow/experiments/permissions/create", old)
        assert answer.status_code == 200, answer.text

    def post(self, path, body):
        return requests.post(
            f"{self.uri}/api/{path}", json=body, auth=("admin", PASSWORD), timeout=60
        )


def experiment_with_run(uri, name, spool):
    """Ids of a new experiment and of its run, which is recorded as a training would."""
    client = mlflow.MlflowClient(tracking_uri=uri)
    experiment = client.create_experiment(name)
    run_id = client.create_run(
        experiment, run_name=f"{name} run", tags={"project": f"{name} tag"}
    ).info.run_id
    client.log_param(run_id, "dataset", f"{name} data")
    record_history(make_history(n_samples=20), run_id, Store(uri), spool, name)
    return experiment, run_id


def fill(server, spool):
    """Two experiments with a run each; run ids by the name of the experiment."""
    for user in ("alice", "bob", "carol"):
        answer = server.post("2.0/mlflow/users/create", {"username": user, "password": PASSWORD})
        assert answer.status_code == 200, answer.text
    runs = {}
    for name in ("open", SECRET):
        experiment, runs[name] = experiment_with_run(server.uri, name, spool)
        server.let("alice", experiment, "EDIT")
        if name == "open":
            server.let("bob", experiment, "READ")
    return runs


class AlonePages:
    """`actiontrack ui` in a process of its own.

    Args:
        folder: where it works and logs.
        tracking_uri: what it serves.
        *options: further ones.
        environment: further variables.
    """

    def __init__(self, folder, tracking_uri, *options, environment=None, scheme="http"):
        self.folder, self.port = Path(folder), free_port()
        self.root = f"{scheme}://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "actiontrack.cli", "ui", "--port", str(self.port)]
        command += ["--tracking-uri", tracking_uri, *options]
        variables = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *_paths()])}
        variables |= {"HOME": str(folder), "TMPDIR": str(folder), **(environment or {})}
        with (self.folder / "ui.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(self._answers, timeout=120, interval=0.1)

    def _answers(self):
        assert self._process.poll() is None, self.log
        return "(Ctrl-C ends it)" in self.log

    @property
    def process_id(self):
        return self._process.pid

    @property
    def log(self):
        return (self.folder / "ui.log").read_text()

    @property
    def address(self):
        """The address that it has printed."""
        return next(line for line in self.log.splitlines() if "(Ctrl-C" in line).split()[0]

    def ask(self, path, user=None, method="GET", data=None, **headers):
        return ask(self.root + path, user, method, data, **headers)

    def token(self, user):
        return form_token(self.ask, user)

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait(30)


def _paths():
    """Where this process finds packages that are not installed."""
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
