"""A store to look around in, and its pages."""

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from actiontrack.cli.root import cli
from actiontrack.cli.serving import ui

__all__ = ["demo"]

# Waits until somebody answers, at most a minute, and then opens the pages.
_OPEN = """
import socket, sys, time, webbrowser
for _ in range(240):
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), 1).close()
    except OSError:
        time.sleep(0.25)
    else:
        webbrowser.open(sys.argv[2])
        break
"""


@cli.command()
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the store is made. Default: a new temporary folder.",
)
@click.option(
    "--port", type=click.IntRange(1, 65535), default=5000, show_default=True, help="Port to serve."
)
@click.option("--no-ui", is_flag=True, help="Make the store, and do not open the pages.")
@click.option("--no-browser", is_flag=True, help="Serve the pages, and do not open a browser.")
@click.pass_context
def demo(
    context: click.Context, folder: Path | None, port: int, *, no_ui: bool, no_browser: bool
) -> None:
    """Train two small models on handwritten digits, and open the pages about them.

    It takes half a minute and downloads nothing. Some labels are wrong: see which.
    """
    from actiontrack.demo import make_demo

    made = Path(tempfile.mkdtemp(prefix="actiontrack-demo-")) if folder is None else folder
    uri = make_demo(made, lambda line: click.echo(line, err=True))
    click.echo(uri)
    if no_ui:
        return
    if not no_browser and sys.stdout.isatty():
        address = f"http://127.0.0.1:{port}/actiontrack/"
        command = [sys.executable, "-c", _OPEN, str(port), address]
        subprocess.Popen(  # noqa: S603 - no shell, and our own words
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
    context.invoke(ui, tracking_uri=uri, port=port)
