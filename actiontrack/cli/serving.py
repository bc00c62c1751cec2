"""The pages: of a local store inside MLflow's server, of any other by a server of their own."""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiontrack import settings
from actiontrack.cli.options import UPGRADE, account_name
from actiontrack.cli.root import cli
from actiontrack.errors import ParameterError

if TYPE_CHECKING:
    from actiontrack.store.addresses import Address

__all__ = ["ui"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
#: What only a server of our own can do, by the names of its parameters.
_ALONE_ONLY = (
    *("account", "certificate", "key", "behind_proxy", "prefix", "allowed_hosts"),
    *("artifact_roots", "mlflow_url"),
)


def _path(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """A path as it is put in front of others: with a slash before it and none behind."""
    inside = value.strip("/")
    return f"/{inside}" if inside else ""


@cli.command()
@click.option(
    "--tracking-uri",
    metavar="URI",
    help="Any that MLflow knows: https://…, databricks, azureml://…, a database.",
)
@UPGRADE
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to serve."
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Processes that answer, inside MLflow's server."
)
@click.option("--alone", is_flag=True, help="No MLflow server for a database: these pages only.")
@click.option(
    "--account",
    type=click.Choice(["visitors", "mine"]),
    help="By whose login the server is read. Default: visitors log in where it has a login.",
)
@click.option("--certificate", type=_FILE, help="TLS: file of the certificate and its chain.")
@click.option("--key", type=_FILE, help="TLS: file of the private key.")
@click.option(
    "--behind-proxy",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Believe the X-Forwarded headers of so many proxies.",
)
@click.option("--prefix", metavar="PATH", default="", callback=_path, help="Serve below this path.")
@click.option(
    "--allowed-host",
    "allowed_hosts",
    metavar="NAME",
    multiple=True,
    help="Name by which visitors reach the pages; repeat it.",
)
@click.option(
    "--artifact-root",
    "artifact_roots",
    metavar="URI",
    multiple=True,
    help="Folder or bucket from which artifacts are read for visitors by your account's rights.",
)
@click.option("--mlflow-url", metavar="URL", help="Where links to MLflow's own pages lead.")
def ui(tracking_uri: str | None, **options: Any) -> None:
    """Serve the pages of any tracking server, below /actiontrack/.

    Where the server has a login, whoever opens the pages logs in with it, and sees what he may see
    there. A database on this machine is served by MLflow's own server, with its pages beside ours.
    """
    from actiontrack.store import Store
    from actiontrack.store.addresses import address_of, check_address

    address = address_of(Store(tracking_uri).tracking_uri)
    check_address(address)
    if address.is_local and not options["alone"]:
        Store(address.uri).ping()
        _check_options(options)
    if address.is_local and not options["alone"] and _knows_inside():
        _serve_inside(address, options)
    else:
        _serve_alone(address, options)


def _check_options(options: dict[str, Any]) -> None:
    """Refuse what MLflow's own server can't do for our pages."""
    for option in ui.params:
        if option.name in _ALONE_ONLY and options[option.name]:
            raise ParameterError(
                option.opts[0],
                "is for the pages without MLflow's own server",
                options[option.name],
                "Add --alone, or leave it out.",
            )


def _knows_inside() -> bool:
    """Whether our pages fit into the MLflow server that is installed."""
    from actiontrack.web.inside import find_lack, is_known_version

    if is_known_version():  # then its server, which takes a second to load, need not be asked
        return True
    with warnings.catch_warnings():  # of MLflow's server, which says them again
        warnings.simplefilter("ignore")
        lack = find_lack(login=False)
    if lack is None:
        return True
    click.echo(f"{lack[0]} The pages are served without MLflow's own.", err=True)
    return False


def _serve_inside(address: "Address", options: dict[str, Any]) -> None:
    """Become MLflow's own server with our pages in it."""
    from actiontrack.web.gate import is_loopback

    environment = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    host, port = options["host"], str(options["port"])
    if is_loopback(host):
        environment |= {settings.IMAGE_ROOTS.name: "recorded", settings.USER.name: account_name()}
    command = [sys.executable, "-m", "mlflow", "server", "--app-name", "actiontrack"]
    command += ["--host", host, "--port", port, "--workers", str(options["workers"] or 1)]
    click.echo(f"http://{host}:{port}/actiontrack/  (Ctrl-C ends it)", err=True)
    sys.stderr.flush()
    # This process becomes the server: a signal to it reaches the server.
    environment |= os.environ
    environment["MLFLOW_BACKEND_STORE_URI"] = address.uri  # everybody sees a command's words
    os.execve(sys.executable, command, environment)  # noqa: S606 - no shell is meant


def _serve_alone(address: "Address", options: dict[str, Any]) -> None:
    from actiontrack.web.alone import Listening, Pages, serve

    if options["workers"]:
        raise ParameterError(
            "--workers",
            "is for MLflow's own server",
            options["workers"],
            "Leave it out: these pages answer by threads.",
        )
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s")
    os.environ.setdefault(settings.USER.name, account_name())  # where nobody logs in
    pages = Pages(
        address=address,
        account=options["account"],
        mlflow_url=options["mlflow_url"],
        artifact_roots=options["artifact_roots"],
    )
    listening = Listening(
        host=options["host"],
        port=options["port"],
        certificate=options["certificate"],
        key=options["key"],
        hops=options["behind_proxy"],
        prefix=options["prefix"],
        names=options["allowed_hosts"],
    )
    serve(pages, listening, lambda where: click.echo(f"{where}  (Ctrl-C ends it)", err=True))
