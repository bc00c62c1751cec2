"""Fixtures: a store with one run of each kind, our pages on it, and a browser on a server."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from urllib.parse import urlencode

import flask
import mlflow
import pytest
from browser import CHROMIUM, DESKTOP, NO_BROWSER, Window
from helpers import ROOT as CHECKOUT
from helpers import free_port, wait_until
from pages_html import ROOT, Html
from records import everything

from actiontrack.store import Store
from actiontrack.web.app import install
from actiontrack.web.permissions import Everybody
from actiontrack.web.records import Records


@pytest.fixture(scope="session")
def recorded(tmp_path_factory, empty_database):
    """URI of a SQLite store and name -> run id of its runs, see `records.everything`."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copy(empty_database, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):  # MLflow makes ./mlruns
        patch.setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
        patch.delenv("MLFLOW_RUN_ID", raising=False)
        before = mlflow.get_tracking_uri()
        runs = everything(uri)
        mlflow.set_tracking_uri(before)
    return uri, runs


@pytest.fixture(scope="session")
def runs(recorded):
    return recorded[1]


@pytest.fixture(scope="session")
def records(recorded):
    """The recorded store as a server reads it."""
    return Records(Store(recorded[0]))


@pytest.fixture(scope="session")
def make_client():
    """A function that puts our pages on a store and returns a Flask client."""

    def make(store, permissions=None, **options):
        app = flask.Flask("pages")
        app.config["TESTING"] = True
        install(app, permissions or Everybody(), store=store, key=b"secret", **options)
        return app.test_client()

    return make


@pytest.fixture(scope="session")
def site(recorded, make_client):
    """A Flask client on the recorded store; its cookies are shared, so don't rely on none."""
    return make_client(Store(recorded[0]))


@pytest.fixture
def get(site):
    """A function that asks the API for JSON: path below /actiontrack/api/, then parameters."""

    def ask(path, status=200, **parameters):
        answer = site.get(f"/actiontrack/api/{path}", query_string=parameters)
        assert answer.status_code == status, answer.get_data(as_text=True)
        return answer.get_json()

    return ask


@pytest.fixture
def page(site):
    """A function that gets a page: its name and parameters to its HTML."""

    def get(name="", status=200, client=site, **parameters):
        answer = client.get(f"{ROOT}{name}?{urlencode(parameters, doseq=True)}")
        text = answer.get_data(as_text=True)
        assert answer.status_code == status, text
        assert answer.mimetype == "text/html"
        return Html(text)

    return get


# A server and a browser


@pytest.fixture(scope="session")
def address(recorded, tmp_path_factory):
    """Address of the recorded store, served by `actiontrack ui` in a process of its own."""
    folder, port = tmp_path_factory.mktemp("ui"), free_port()
    shutil.copy(recorded[0].removeprefix("sqlite:///"), folder / "mlflow.db")
    command = [sys.executable, "-m", "actiontrack.cli", "ui", "--port", str(port)]
    command += ["--tracking-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "ACTIONTRACK_USER": "ada"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    uri = f"http://127.0.0.1:{port}"

    def answers():
        assert process.poll() is None, (folder / "log").read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{uri}/health") as answer:  # noqa: S310
            return answer.status == 200

    try:
        wait_until(answers, timeout=120, interval=0.1)
        yield uri
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


@pytest.fixture(scope="module")  # its event loop would stand in the way of other modules
def browser():
    from playwright.sync_api import sync_playwright

    assert CHROMIUM is not None, NO_BROWSER
    options = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield running
        running.close()


@pytest.fixture(scope="module")
def first_window(browser, address):
    """The first window of every test: each new one makes Chromium start two more processes."""
    context = browser.new_context(viewport=DESKTOP)
    yield Window(context, address)
    context.close()


@pytest.fixture
def window(browser, address, first_window):
    """A function that opens a window; at the end none of them may have complained.

    A second one is that of another visitor, who shares nothing with the first.
    """
    windows = []

    def make(color_scheme="light", **options):
        if options or windows:
            context = browser.new_context(viewport=DESKTOP, **options)
            windows.append(Window(context, address))
        else:
            first_window.renew()
            windows.append(first_window)
        windows[-1].page.emulate_media(color_scheme=color_scheme)
        return windows[-1]

    yield make
    complaints = [text for one in windows for text in one.complaints + one.strangers]
    for one in windows:
        if one is not first_window:
            one.context.close()
    assert not complaints


@pytest.fixture
def tab(window):
    return window()
