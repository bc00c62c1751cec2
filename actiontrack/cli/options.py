"""Options that several commands share."""

import getpass
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from actiontrack import settings

__all__ = [
    "DASK",
    "EASIEST",
    "FORMATS",
    "MISMATCH",
    "PLOT",
    "RECORD",
    "SAMPLES",
    "SCORE",
    "UPGRADE",
    "UP_TO",
    "account_name",
    "figure_option",
    "number_option",
    "output_options",
    "query_options",
    "run_options",
    "store_options",
]

FORMATS = ("table", "csv", "json", "parquet")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def _upgrade_stores(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    """Let every store of this command, and of processes that it starts, be migrated."""
    name = settings.UPGRADE_STORE.name
    before = os.environ.get(name)
    if value and before != "yes":
        os.environ[name] = "yes"
        restore = {name: before} if before is not None else {}
        context.call_on_close(lambda: (os.environ.pop(name), os.environ.update(restore)))


UPGRADE = click.option(
    "--upgrade-store",
    is_flag=True,
    expose_value=False,
    callback=_upgrade_stores,
    help="Migrate a database of an older MLflow, which that MLflow can't read afterwards.",
)
RECORD = click.option("--record", help='Record to read, such as "test-probe".')
SAMPLES = click.option("--sample", "samples", multiple=True, metavar="ID", help="Sample id.")
EASIEST = click.option(
    "--easiest", is_flag=True, help="The easiest samples instead of the hardest."
)
SCORE = click.option("--score", default="action", show_default=True, help="Score to use.")
UP_TO = click.option(
    "--up-to", "up_to_step", type=click.IntRange(min=0), help="Score up to this step only."
)
MISMATCH = click.option(
    "--on-mismatch",
    type=click.Choice(["error", "inner"]),
    default="error",
    show_default=True,
    help="If samples differ: refuse, or compare those that all runs share.",
)
DASK = click.option(
    "--dask",
    metavar="ADDRESS",
    help="Let the workers of a Dask cluster read and compute, such as tcp://10.0.0.1:8786.",
)
PLOT = click.option(
    "--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg."
)


def store_options(command: _Command) -> _Command:
    """The options by which a store is named."""
    uri = click.option("--tracking-uri", metavar="URI", help="Tracking server or local store.")
    return uri(UPGRADE(command))


def number_option(default: int) -> Callable[[_Command], _Command]:
    """How many samples a command looks at."""
    return click.option(
        "-n", "n", type=click.IntRange(min=1), default=default, show_default=True,
        help="Number of samples.",
    )  # fmt: skip


def figure_option(stem: str) -> Callable[[_Command], _Command]:
    """The option for where to draw, of commands that always draw."""
    return click.option(
        "--plot", type=click.Path(path_type=Path), default=Path(stem), show_default=True,
        help="Draw to STEM.png and .svg.",
    )  # fmt: skip


def run_options(command: _Command) -> _Command:
    """The options by which runs are chosen."""
    options = [
        store_options,
        click.option(
            "--run", "run_ids", multiple=True, metavar="ID", help="Run id, its start, or a name."
        ),
        click.option("--experiment", "experiments", multiple=True, help="Name of an experiment."),
        click.option("--filter", "filter_string", default="", help="MLflow filter string."),
        click.option("--deleted", is_flag=True, help="Also runs in the trash."),
        RECORD,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def query_options(command: _Command) -> _Command:
    """The options by which runs are chosen, and what becomes of damaged records."""
    option = click.option(
        "--on-damage",
        type=click.Choice(["error", "skip"]),
        default="error",
        show_default=True,
        help="If a record is damaged: fail, or go on without it, name it and exit with 6.",
    )
    return run_options(option(command))


def output_options(command: _Command) -> _Command:
    """The options by which a table is written."""
    options = [
        click.option(
            "--format",
            "kind",
            type=click.Choice(FORMATS),
            default="table",
            show_default=True,
            help="How to print the table.",
        ),
        click.option(
            "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def account_name() -> str:
    """Name of the account that runs this process, "" where it has none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # as in some containers
        return ""
