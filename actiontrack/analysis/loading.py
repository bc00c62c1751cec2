"""Records and their score tables, loaded from a tracking server, several at a time."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm.auto import tqdm

from actiontrack.analysis.tables import check_score, label_classes, open_records, run_columns
from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError
from actiontrack.history import LossHistory, check_choice
from actiontrack.record.losses import history_up_to
from actiontrack.record.threads import in_this_context
from actiontrack.scores import score_table
from actiontrack.store import Cache, RunInfo, RunQuery, Store, StoredRecord, choose_record
from actiontrack.store.cache import PRIVATE_BYTES
from actiontrack.store.check import damaged_files

__all__ = [
    "DamagedRecord",
    "concurrently",
    "damage_message",
    "load_records",
    "load_scores",
    "recorded_history",
    "score_column",
    "score_frame",
    "sound_records",
    "sound_scores",
    "stored_scores",
]

logger = logging.getLogger("actiontrack")
_ON_DAMAGE = ("error", "skip")
_THREADS = 8
_PROGRESS_FROM = 16
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class DamagedRecord:
    """A record that can't be read.

    Attributes:
        run_id: id of its run.
        run_name: name of its run.
        record: name of the record.
        reason: which file is damaged and how, and what to do.
    """

    run_id: str
    run_name: str
    record: str
    reason: str

    def __str__(self) -> str:
        """The record and the reason, in one line."""
        return f"run {self.run_id} ({self.run_name}), record {self.record}: {self.reason}"


def load_records(
    query: RunQuery | None = None,
    *,
    tracking_uri: str | None = None,
    store: Store | None = None,
    every_record: bool = False,
    on_damage: str = "error",
) -> list[StoredRecord]:
    """Open one record of each run of a query, several at a time.

    Args:
        query: which runs. Default: all runs that hold a record.
        tracking_uri: where they are. Default: MLflow's current one.
        store: an open store, instead of a URI.
        every_record: open every record of each run.
        on_damage: "error", or "skip" to leave damaged records out, with a warning that names
            them. Samples, scores and losses of each record are then checked, which reads them.

    Raises:
        NotFoundError: if nothing matches.
        StoreError: if the server does not answer.
        CorruptRecordError: if a manifest is damaged, or with "skip" all records are.
    """
    check_choice("on_damage", on_damage, _ON_DAMAGE)
    store = store or Store(tracking_uri)
    if on_damage == "error":
        return _apply(query, store, lambda record: record, every_record=every_record)
    records, damaged = sound_records(query, store=store, every_record=every_record)
    _warn_of(damaged)
    return records


def sound_records(
    query: RunQuery | None = None,
    *,
    store: Store,
    every_record: bool = False,
    manifests_only: bool = False,
) -> tuple[list[StoredRecord], list[DamagedRecord]]:
    """Open the records of a query that are not damaged, and say which are.

    Args:
        query: which runs. Default: all runs that hold a record.
        store: an open store.
        every_record: open every record of each run.
        manifests_only: don't check samples, scores and losses.

    Raises:
        NotFoundError: if nothing matches.
        StoreError: if the server does not answer.
        CorruptRecordError: if all records are damaged.
    """

    def check(record: StoredRecord) -> StoredRecord:
        messages = [] if manifests_only else damaged_files(record, tables_only=True)
        if messages:
            raise CorruptRecordError(" ".join(messages))
        return record

    results = _apply(query, store, check, every_record=every_record, on_damage="skip")
    return _separated(results)


def load_scores(
    query: RunQuery | None = None,
    *,
    tracking_uri: str | None = None,
    store: Store | None = None,
    up_to_step: int | None = None,
    on_damage: str = "error",
) -> pd.DataFrame:
    """Scores of every sample of every run of a query, one row per run and sample.

    Args:
        query: which runs. Default: all runs that hold a record.
        tracking_uri: where they are. Default: MLflow's current one.
        store: an open store, instead of a URI.
        up_to_step: score the history up to this step only. Default: the whole of it.
        on_damage: "error", or "skip" to leave damaged records out, with a warning that names
            them.

    Returns:
        Columns run_id, run_name, model, record, complete (False for a record that is still
        growing or was interrupted: its scores hold up to its last complete epoch), sample_id,
        label, class, and the columns of `scores.score_table`. `attrs["delta_kind"]` says what Δn
        counts where it is the same in all records.

    Raises:
        NotFoundError: if nothing matches.
        CorruptRecordError: if a record is damaged, or with "skip" all records are.
    """
    check_choice("on_damage", on_damage, _ON_DAMAGE)
    frame, damaged = sound_scores(
        query, store=store or Store(tracking_uri), up_to_step=up_to_step, on_damage=on_damage
    )
    _warn_of(damaged)
    return frame


def sound_scores(
    query: RunQuery | None, *, store: Store, up_to_step: int | None, on_damage: str
) -> tuple[pd.DataFrame, list[DamagedRecord]]:
    """The frame of `load_scores`, and with "skip" the records that it leaves out."""

    def read(record: StoredRecord) -> pd.DataFrame:
        return _tidy_scores(record, up_to_step)

    # Every table is read once and copied into the frame: a cache would hold it a second time.
    results = _apply(query, store, read, on_damage=on_damage, what="scores", room=0)
    frames, damaged = _separated(results)
    return pd.concat(frames, ignore_index=True), damaged


def _apply(
    query: RunQuery | None,
    store: Store,
    function: Callable[[StoredRecord], _Result],
    *,
    every_record: bool = False,
    on_damage: str = "error",
    what: str = "records",
    room: int = PRIVATE_BYTES,
) -> list[Any]:
    """Open records of a query and apply a function to each, under one progress bar.

    Returns:
        What the function gives, or with "skip" a `DamagedRecord` in its place.
    """
    value: Any = query
    if not isinstance(value, RunQuery | None):
        remedy = "Pass RunQuery(experiments=…) or RunQuery(run_ids=…)."
        raise ParameterError("query", "must be a RunQuery", value, remedy)
    query = query or RunQuery()
    runs, cache = store.find_runs(query), Cache(room)

    def opened(run: RunInfo, name: str, *, as_listed: bool) -> StoredRecord:
        try:
            return store.open_record(run, name, cache=cache, as_listed=as_listed)
        except NotFoundError as error:  # the run's tags promise it
            if on_damage == "error":
                raise
            raise CorruptRecordError(str(error)) from error

    def read(run: RunInfo, name: str) -> _Result:
        record = opened(run, name, as_listed=True)
        try:
            return function(record)
        except CorruptRecordError:
            current = opened(run, name, as_listed=False)
            if current.digest == record.digest:
                raise
            return function(current)  # it has changed since the run was listed

    def result(run: RunInfo, name: str) -> _Result | DamagedRecord:
        try:
            return read(run, name)
        except CorruptRecordError as error:
            reason = str(error).removeprefix(f"run {run.run_id} ({run.name}): ")
            return DamagedRecord(run.run_id, run.name, name, reason)

    every = every_record and not query.record
    names = [
        (run, name)
        for run in runs
        for name in (run.records if every else [choose_record(run, query.record)])
    ]
    chosen = result if on_damage == "skip" else read
    return concurrently(lambda run_and_name: chosen(*run_and_name), names, what)


def _separated(results: Sequence[Any]) -> tuple[list[Any], list[DamagedRecord]]:
    damaged = [result for result in results if isinstance(result, DamagedRecord)]
    if len(damaged) == len(results):
        raise CorruptRecordError(damage_message(damaged))
    return [result for result in results if not isinstance(result, DamagedRecord)], damaged


def damage_message(damaged: Sequence[DamagedRecord]) -> str:
    """Which records are damaged, one line each below the first."""
    count = "1 record is" if len(damaged) == 1 else f"{len(damaged)} records are"
    return "\n".join([f"{count} damaged and left out:", *(f"  {record}" for record in damaged)])


def _warn_of(damaged: Sequence[DamagedRecord]) -> None:
    if damaged:
        logger.warning("%s", damage_message(damaged))


def score_frame(records: Sequence[StoredRecord], *, up_to_step: int | None = None) -> pd.DataFrame:
    """The frame of `load_scores` from records that are open already."""
    records = open_records(records)
    frames = concurrently(lambda record: _tidy_scores(record, up_to_step), records, "scores")
    return pd.concat(frames, ignore_index=True)


def _tidy_scores(record: StoredRecord, up_to_step: int | None) -> pd.DataFrame:
    manifest = record.manifest
    # Arrays, not series: nothing has to be aligned, a thousand times.
    columns = {name: column.array for name, column in stored_scores(record, up_to_step).items()}
    head = run_columns(record) | {
        "record": manifest.name,
        "complete": manifest.complete,
        "sample_id": columns.pop("sample_id"),
    }
    if "label" in columns:
        label = columns.pop("label")
        head |= {"label": label, "class": label_classes(record, np.asarray(label))}
    else:
        head["class"] = "all"
    frame = pd.DataFrame(head | columns)
    frame.attrs["delta_kind"] = manifest.delta_kind  # for the units of figures
    return frame


def stored_scores(record: StoredRecord, up_to_step: int | None) -> pd.DataFrame:
    """The stored score table, or that of the history up to a step. Callers must not change it."""
    if up_to_step is None:
        return record.scores()
    return record.cached(
        ("scores up to", up_to_step), lambda: score_table(recorded_history(record, up_to_step))
    )


def score_column(
    record: StoredRecord, score: str, up_to_step: int | None
) -> npt.NDArray[np.float64]:
    """One score of a record, (n_samples,) float64 in canonical order.

    Raises:
        NotFoundError: if a complete record has no such score.
        ParameterError: if there is no such score, or the record does not reach the step.
    """
    if up_to_step is None:
        frame = record.scores([score]) if record.manifest.complete else record.scores()
    else:
        frame = stored_scores(record, up_to_step)
    check_score(frame, score)
    return frame[score].to_numpy(dtype=np.float64)


def recorded_history(
    record: StoredRecord, up_to_step: int | None, columns: Sequence[str] | None = None
) -> LossHistory:
    """The history of a record, or that of its steps up to one; see `StoredRecord.history`.

    Raises:
        ParameterError: if the record does not reach the step.
    """
    history = record.history(columns)
    if up_to_step is None:
        return history
    if not (history.steps <= up_to_step).any() or int(history.steps[-1]) < up_to_step:
        raise ParameterError(
            "up_to_step",
            f"must be a recorded step, at most {int(history.steps[-1])}",
            up_to_step,
            "Choose a step that every run has reached.",
        )
    return history_up_to(history, up_to_step)


def concurrently(
    function: Callable[[_Item], _Result], items: Sequence[_Item], what: str
) -> list[_Result]:
    """Apply a function that mostly waits, in order, with one progress bar for many items."""
    with ThreadPoolExecutor(_THREADS) as pool:
        results = pool.map(in_this_context(function), items)
        quiet = len(items) < _PROGRESS_FROM
        return list(tqdm(results, total=len(items), desc=f"loading {what}", disable=quiet))
