"""Tracking URIs: which kind of place each one names."""

import importlib.metadata

import pytest
from overheard import overhearing

from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.store.addresses import (
    address_of,
    check_address,
    check_plugin,
    databricks_host,
    origin_of,
)


@pytest.mark.parametrize(
    ("uri", "kind", "seen"),
    [
        ("http://localhost:5000", "server", "http://localhost:5000"),
        ("HTTPS://ML.example.org/mlflow", "server", "https://ML.example.org/mlflow"),
        ("  https://ml.example.org\n", "server", "https://ml.example.org"),
        ("databricks", "databricks", "databricks"),
        ("Databricks", "databricks", "databricks"),
        (" DATABRICKS ", "databricks", "databricks"),
        ("databricks://Profile", "databricks", "databricks://Profile"),
        ("DataBricks://Profile", "databricks", "databricks://Profile"),
        ("databricks-uc", "databricks", "databricks-uc"),
        ("databricks-uc://profile", "databricks", "databricks-uc://profile"),
        ("azureml://eastus.api.azureml.ms/mlflow/v1.0/x", "plugin", None),
        ("AzureML://eastus.api.azureml.ms", "plugin", "azureml://eastus.api.azureml.ms"),
        ("arn:aws:sagemaker:eu-west-1:1:mlflow-tracking-server/x", "plugin", None),
        ("sqlite:///mlflow.db", "database", "sqlite:///mlflow.db"),
        ("SQLite:///Folder/mlflow.db", "database", "sqlite:///Folder/mlflow.db"),
        ("postgresql+psycopg://ada@host/db", "database", None),
        ("postgresql://ada@host/db", "database", None),
        ("mysql+pymysql://ada@host/db", "database", None),
        ("mssql+pyodbc://ada@host/db", "database", None),
        ("./mlruns", "folder", "./mlruns"),
        ("/data/ml:runs", "folder", "/data/ml:runs"),
        ("file:///data/mlruns", "folder", "file:///data/mlruns"),
        (r"C:\mlruns", "folder", r"C:\mlruns"),
        ("databricks.db", "folder", "databricks.db"),
        ("redis://host", "plugin", "redis://host"),
    ],
)
def test_each_uri_is_of_one_kind(uri, kind, seen):
    address = address_of(uri)
    assert address.kind == kind
    assert address.uri == (uri if seen is None else seen)
    assert address.is_local == (kind in {"database", "folder"})


@pytest.mark.parametrize(
    "uri", ["databricks", "Databricks://x", "https://h", "azureml://x", "arn:a"]
)
def test_what_only_an_account_opens_is_never_local(uri):
    assert not address_of(uri).is_local


@pytest.mark.parametrize(
    ("uri", "command"),
    [
        ("azureml://eastus.api.azureml.ms", "pip install azureml-mlflow"),
        ("arn:aws:sagemaker:eu-west-1:1:x", "pip install sagemaker-mlflow"),
    ],
)
def test_a_plug_in_that_is_missing_is_named_with_its_command(uri, command):
    with pytest.raises(MissingDependencyError) as caught:
        check_plugin(address_of(uri))
    assert command in str(caught.value)
    assert "registry" not in str(caught.value)
    assert caught.value.exit_code == 9


def test_a_scheme_that_nobody_knows_is_refused_with_those_that_are_known():
    with pytest.raises(MissingDependencyError, match=r"gopher:.*https://"):
        check_plugin(address_of("gopher://ada:secret@host"))


def test_a_scheme_that_an_installed_plug_in_teaches_is_taken(monkeypatch):
    point = importlib.metadata.EntryPoint("azureml", "some.module:store", "mlflow.tracking_store")
    monkeypatch.setattr(
        "actiontrack.store.addresses.entry_points",
        lambda group: importlib.metadata.EntryPoints([point]).select(group=group),
    )
    check_plugin(address_of("azureml://eastus.api.azureml.ms"))


@pytest.mark.parametrize("uri", ["http://h", "databricks", "sqlite:///x.db", "./mlruns"])
def test_what_mlflow_knows_itself_needs_no_plug_in(uri):
    check_plugin(address_of(uri))


@pytest.mark.parametrize(
    "uri", ["http://localhost:500O", "https://ada:secret@h:99999", "http://[::1:5000"]
)
def test_what_is_no_address_of_a_server_is_refused_without_its_password(uri):
    with pytest.raises(ParameterError, match="--tracking-uri: must be a valid address") as caught:
        check_address(address_of(uri))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "uri", ["http://h:5000", "http://[::1]:5000", "sqlite:///x:y.db", "databricks://a:b", "arn:a:b"]
)
def test_any_other_address_is_taken(uri):
    check_address(address_of(uri))


def test_a_login_in_an_address_can_be_left_out():
    address = address_of("https://ada:secret@ml.example.org:8443/mlflow").without_login()
    assert address.uri == "https://ml.example.org:8443/mlflow"


def test_origins_are_equal_where_a_browser_says_so():
    assert origin_of("https://h/a") == origin_of("HTTPS://H:443/b?c")
    assert origin_of("http://h") != origin_of("https://h")
    assert origin_of("http://h:80") != origin_of("http://h:81")


@pytest.mark.parametrize("uri", ["databricks", "databricks-uc"])
def test_the_workspace_of_databricks_is_that_of_the_environment(monkeypatch, uri):
    with overhearing() as workspace:  # the SDK asks it about itself
        monkeypatch.setenv("DATABRICKS_HOST", f"{workspace.uri}/")
        monkeypatch.setenv("DATABRICKS_TOKEN", "x")
        assert databricks_host(address_of(uri)) == workspace.uri
