"""The records that the options of a command choose.

It imports what reads and computes, which is slow: commands import it when they run.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
import pandas as pd

from actiontrack import analysis
from actiontrack.analysis.cluster.connection import connect
from actiontrack.analysis.loading import DamagedRecord, sound_records, sound_scores
from actiontrack.cli.root import DAMAGED
from actiontrack.errors import ParameterError
from actiontrack.store import RunQuery, Store, StoredRecord

__all__ = ["cluster_client", "leave_out", "one_record", "open_records", "open_scores"]


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
