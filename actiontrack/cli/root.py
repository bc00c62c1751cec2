"""The group that holds every command, and how a command ends."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

import click

from actiontrack._version import __version__
from actiontrack.errors import ActionTrackError

__all__ = ["cli", "main"]

_RETRIES = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: one line on stderr and the exit code of the error, never a traceback."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        with _few_retries():
            cli.main(None if argv is None else list(argv), "actiontrack", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except ActionTrackError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """MLflow asks a failing server again for four minutes: who waits is told within one."""
    given = os.environ.get(_RETRIES)
    os.environ.setdefault(_RETRIES, "2")
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(_RETRIES, None)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="actiontrack")
def cli() -> None:
    """Which samples are hard, mislabelled or biased: action scores of tracked runs.

    Runs are chosen by --run, --experiment and --filter; without them, all runs that hold a
    record. The tracking server is MLflow's own choice (MLFLOW_TRACKING_URI) unless
    --tracking-uri names another.
    """
