"""The group that holds every command, and how a command ends."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence

import click

from actiontrack._version import __version__
from actiontrack.errors import ActionTrackError, CorruptRecordError

__all__ = ["DAMAGED", "cli", "main"]

#: Where a command notes the damaged records that it went on without.
DAMAGED = "actiontrack.damaged"
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
    """MLflow retries for four minutes when a server fails: here it gives up within one."""
    before = os.environ.get(_RETRIES)
    os.environ.setdefault(_RETRIES, "2")
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_RETRIES, None)


class _Command(click.Command):
    """A command that refuses an option given twice, of which click would take the last alone."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(list(args))
        options = [option for option in order if isinstance(option, click.Option)]
        for row, option in enumerate(options):
            if option in options[:row] and not (option.multiple or option.is_flag):
                raise click.UsageError(f"{option.opts[0]}: was given twice. Give it once.", ctx)
        return super().parse_args(ctx, args)


class _Group(click.Group):
    command_class = _Command


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="actiontrack")
def cli() -> None:
    """Which samples are hard, mislabelled or biased: action scores of tracked runs.

    Runs are chosen by --run, --experiment and --filter; without them, all runs that hold a
    record. The tracking server is MLflow's own choice (MLFLOW_TRACKING_URI) unless
    --tracking-uri names another.
    """


@cli.result_callback()
@click.pass_context
def _name_damaged(context: click.Context, /, _result: object, **_options: object) -> None:
    """Fail after a command that went on without damaged records."""
    if damaged := context.meta.get(DAMAGED):
        from actiontrack.analysis.loading import damage_message

        raise CorruptRecordError(damage_message(damaged))
