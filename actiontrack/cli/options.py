"""Options that several commands share, and the runs that they choose."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click
import pandas as pd

from actiontrack import analysis
from actiontrack.analysis.cluster.connection import connect
from actiontrack.analysis.loading import DamagedRecord, sound_records, sound_scores
from actiontrack.cli.root import DAMAGED
from actiontrack.errors import ParameterError
from actiontrack.store import RunQuery, Store, StoredRecord

__all__ = [
    "DASK",
    "EASIEST",
    "FORMATS",
    "MISMATCH",
    "PLOT",
    "RECORD",
    "SAMPLES",
    "SCORE",
    "TRACKING_URI",
    "UP_TO",
    "cluster_client",
    "figure_option",
    "leave_out",
    "number_option",
    "one_record",
    "open_records",
    "open_scores",
    "output_options",
    "query_options",
    "run_options",
]

FORMATS = ("table", "csv", "json", "parquet")
_Command = TypeVar("_Command", bound=Callable[..., Any])

TRACKING_URI = click.option("--tracking-uri", metavar="URI", help="Tracking server or local store.")
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
        TRACKING_URI,
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


def open_records(query: dict[str, Any]) -> list[StoredRecord]:
    """Open the records that the options of `query_options` choose."""
    store, on_damage = Store(query.pop("tracking_uri")), query.pop("on_damage")
    if on_damage == "error":
        return analysis.load_records(RunQuery(**query), store=store)
    records, damaged = sound_records(RunQuery(**query), store=store)
    leave_out(damaged)
    return records


def open_scores(query: dict[str, Any], *, up_to_step: int | None = None) -> pd.DataFrame:
    """Scores of the runs that the options of `query_options` choose, loaded in one pass."""
    store, on_damage = Store(query.pop("tracking_uri")), query.pop("on_damage")
    frame, damaged = sound_scores(
        RunQuery(**query), store=store, up_to_step=up_to_step, on_damage=on_damage
    )
    leave_out(damaged)
    return frame


def leave_out(damaged: Sequence[DamagedRecord]) -> None:
    """Name damaged records when the command has done its work on the others, and exit with 6."""
    click.get_current_context().meta[DAMAGED] = tuple(damaged)


def one_record(query: dict[str, Any]) -> StoredRecord:
    """Open the only record that the options choose; several are an error."""
    records = open_records(query)
    if len(records) > 1:
        raise ParameterError(
            "--run", "must choose one run", f"{len(records)} runs", "Name one with --run ID."
        )
    return records[0]


@contextmanager
def cluster_client(address: str | None) -> Iterator[Any]:
    """A client of the cluster that the option DASK names, None without it."""
    if address is None:
        yield None
        return
    with connect(address) as client:
        yield client
