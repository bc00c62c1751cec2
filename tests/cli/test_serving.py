"""What `actiontrack ui` says before it serves anything."""

import importlib
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
from helpers import free_port

from actiontrack.web import inside


@pytest.fixture
def database(empty_database, tmp_path, monkeypatch):
    """A store without runs."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.fixture
def started(monkeypatch, run_cli, database):
    """A function of options to how the pages of a database would be served, and what is said."""
    ways = []
    monkeypatch.setattr("actiontrack.cli.serving._serve_inside", lambda *_: ways.append("inside"))
    monkeypatch.setattr("actiontrack.cli.serving._serve_alone", lambda *_: ways.append("alone"))

    def start(*options):
        code, _, said = run_cli("ui", "--tracking-uri", database, *options)
        assert code == 0, said
        return ways[-1], said

    return start


@pytest.mark.parametrize(
    "uri", ["http://localhost:500O", "http://localhost:99999", "http://[::1:5000"]
)
@pytest.mark.parametrize("options", [(), ("--account", "mine")])
def test_what_is_no_address_is_refused_in_one_line(run_cli, uri, options):
    code, _, said = run_cli("ui", "--tracking-uri", uri, *options)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith(f"error: --tracking-uri: must be a valid address, got {uri!r}.")


@pytest.mark.parametrize("prefix", ["/<a", "/<a>", "a b"])
def test_a_prefix_that_is_no_path_is_refused_in_one_line(run_cli, database, prefix):
    options = ("--tracking-uri", database, "--alone", "--port", str(free_port()))
    code, _, said = run_cli("ui", *options, "--prefix", prefix)
    assert (code, said.count("\n")) == (2, 1)
    assert "--prefix: must be a path such as" in said


@pytest.fixture
def pem(tmp_path):
    """Files: a certificate, its key, the key of another, and none of them."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-keyout", "key", "-out", "certificate", "-subj", "/CN=localhost"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-out", "other"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "none").write_text("no certificate")
    return tmp_path


@pytest.mark.parametrize(
    ("certificate", "key"),
    [("none", "none"), ("none", "key"), ("certificate", "other"), ("certificate", "certificate")],
)
def test_a_certificate_without_its_key_is_refused_in_one_line(
    run_cli, database, pem, certificate, key
):
    files = ("--certificate", str(pem / certificate), "--key", str(pem / key))
    options = ("--tracking-uri", database, "--alone", "--port", str(free_port()))
    code, _, said = run_cli("ui", *options, *files)
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("error: --certificate, --key: must be")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(("--account", "mine"), ("--behind-proxy", "1"), ("--prefix", "/x")),
        *(("--allowed-host", "h"), ("--artifact-root", "/x"), ("--mlflow-url", "http://h")),
    ],
)
def test_an_option_is_refused_by_its_own_name(run_cli, database, option, value):
    code, _, said = run_cli("ui", "--tracking-uri", database, option, value)
    assert code == 2
    assert said.startswith(f"error: {option}: is for the pages without MLflow's own server")


# Inside MLflow's server, or beside it


def test_a_version_that_is_known_is_not_loaded_to_be_asked(started, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.server", None)
    assert started() == ("inside", "")


def test_another_version_is_asked_whether_the_pages_fit(started, monkeypatch):
    monkeypatch.setattr(inside, "KNOWN_MLFLOW", ())
    assert started() == ("inside", "")
    monkeypatch.delattr(importlib.import_module("mlflow.server.handlers"), "_add_static_prefix")
    way, said = started()
    assert way == "alone"
    assert said == (
        f"the server of MLflow {version('mlflow')} has no mlflow.server.handlers."
        "_add_static_prefix, which is needed for addresses under --static-prefix. The pages are "
        "served without MLflow's own.\n"
    )
