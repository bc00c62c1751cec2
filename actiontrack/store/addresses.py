"""Tracking URIs: which kind of place each one names, and the package that a kind needs."""

import string
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import Any, Literal
from urllib.parse import urlsplit, urlunsplit

from actiontrack.errors import MissingDependencyError, ParameterError, redact

__all__ = [
    "Address",
    "Kind",
    "address_of",
    "check_address",
    "check_plugin",
    "databricks_host",
    "origin_of",
]

Kind = Literal["server", "database", "folder", "databricks", "plugin"]

_SERVERS = {"http", "https"}
_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
_DATABRICKS = {"databricks", "databricks-uc"}
_PORTS = {"http": 80, "https": 443}
#: Packages that teach MLflow a scheme.
_PACKAGES = {"azureml": "azureml-mlflow", "arn": "sagemaker-mlflow"}
_PLUGINS = "mlflow.tracking_store"  # the group of entry points


@dataclass(frozen=True)
class Address:
    """A tracking URI as MLflow is to see it.

    Attributes:
        uri: without blanks around it, its scheme in lower case.
        scheme: such as "https", "sqlite" or "databricks"; "" for a plain path.
        kind: "server" (HTTP), "database", "folder", "databricks", or "plugin" for every other.
    """

    uri: str
    scheme: str
    kind: Kind

    @property
    def is_local(self) -> bool:
        """Whether MLflow's own server can be started for it."""
        return self.kind in {"database", "folder"}

    def without_login(self) -> "Address":
        """The same place without a name and a password in its URI."""
        parts = urlsplit(self.uri)
        bare = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return replace(self, uri=bare)


def address_of(tracking_uri: str) -> Address:
    """What a tracking URI names. It is recognised here and nowhere else.

    >>> address_of(" Databricks ").kind, address_of("HTTPS://ml.example.org").uri
    ('databricks', 'https://ml.example.org')
    """
    text = tracking_uri.strip()
    head, colon, rest = text.partition(":")
    scheme = head.lower()
    if scheme in _DATABRICKS:
        return Address(scheme + colon + rest, scheme, "databricks")
    if not colon or (len(head) == 1 and head in string.ascii_letters) or "/" in head:
        return Address(text, "", "folder")
    uri = scheme + colon + rest
    if scheme in _SERVERS:
        return Address(uri, scheme, "server")
    if scheme.partition("+")[0] in _DATABASES:
        return Address(uri, scheme.partition("+")[0], "database")
    return Address(uri, scheme, "folder" if scheme == "file" else "plugin")


def check_address(address: Address) -> None:
    """Check that the address of a server can be read: its port a number, its brackets in pairs.

    Raises:
        ParameterError: if it can't be.
    """
    if address.kind != "server":
        return
    try:
        origin_of(address.uri)
    except ValueError as error:
        raise ParameterError(
            "--tracking-uri",
            "must be a valid address",
            address.uri,
            "Correct it, or MLFLOW_TRACKING_URI: such as http://localhost:5000.",
        ) from error


def check_plugin(address: Address) -> None:
    """Check that MLflow knows the scheme of an address.

    Raises:
        MissingDependencyError: names the package that teaches it, if there is one.
    """
    if address.kind != "plugin" or address.scheme in entry_points(group=_PLUGINS).names:
        return
    package = _PACKAGES.get(address.scheme)
    remedy = (
        f"Install its plug-in with: pip install {package}"
        if package
        else "Install the package that teaches MLflow this scheme, or correct the URI: https://… "
        "for a server, databricks, azureml://…, arn:aws:sagemaker:…, or a database."
    )
    raise MissingDependencyError(
        f"{redact(address.uri)!r}: MLflow does not know {address.scheme}:. {remedy}"
    )


def databricks_host(address: Address) -> str:
    """Address of the workspace that a Databricks URI means.

    Raises:
        Exception: what MLflow raises where no credentials name one.
    """
    from mlflow.utils.databricks_utils import get_databricks_host_creds  # noqa: PLC0415

    uri = "databricks" + address.uri.removeprefix(address.scheme)
    workspace: Any = get_databricks_host_creds(uri)  # type: ignore[no-untyped-call]
    return str(workspace.host).rstrip("/")


def origin_of(url: str) -> str:
    """Scheme, host and port of an address, for comparison.

    >>> origin_of("HTTPS://ada:secret@ml.example.org/path"), origin_of("http://[::1]:5000")
    ('https://ml.example.org:443', 'http://::1:5000')
    """
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or _PORTS.get(parts.scheme)}"
