"""Records and their score tables, loaded from a tracking server, several at a time."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
from tqdm.auto import tqdm

from actiontrack.analysis.tables import check_score, label_classes, run_columns
from actiontrack.errors import ParameterError
from actiontrack.history import LossHistory
from actiontrack.scores import score_table
from actiontrack.store import Cache, RunInfo, RunQuery, Store, StoredRecord
from actiontrack.store.cache import PRIVATE_BYTES

__all__ = [
    "concurrently",
    "load_records",
    "load_scores",
    "score_column",
    "score_frame",
    "stored_scores",
]

_THREADS = 8
_PROGRESS_FROM = 16
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def load_records(
    query: RunQuery | None = None, *, tracking_uri: str | None = None, store: Store | None = None
) -> list[StoredRecord]:
    """Open one record of each run of a query, several at a time.

    Args:
        query: which runs. Default: all runs that hold a record.
        tracking_uri: where they are. Default: MLflow's current one.
        store: an open store, instead of a URI.

    Raises:
        NotFoundError: if nothing matches.
        StoreError: if the server does not answer.
        CorruptRecordError: if a manifest is damaged.
    """
    return _of_each_record(query, store or Store(tracking_uri), lambda each: each, "records")


def load_scores(
    query: RunQuery | None = None,
    *,
    tracking_uri: str | None = None,
    store: Store | None = None,
    up_to_step: int | None = None,
) -> pd.DataFrame:
    """Scores of every sample of every run of a query, one row per run and sample.

    Args:
        query: which runs. Default: all runs that hold a record.
        tracking_uri: where they are. Default: MLflow's current one.
        store: an open store, instead of a URI.
        up_to_step: score the history up to this step only. Default: the whole of it.

    Returns:
        Columns run_id, run_name, model, record, complete (False for a record that is still
        growing or was interrupted: its scores hold up to its last complete epoch), sample_id,
        label, class, and the columns of `scores.score_table`.

    Raises:
        NotFoundError: if nothing matches.
    """
    frames = _of_each_record(
        query, store or Store(tracking_uri), lambda each: _tidy_scores(each, up_to_step), "scores"
    )
    return pd.concat(frames, ignore_index=True)


def _of_each_record(
    query: RunQuery | None, store: Store, function: Callable[[StoredRecord], _Result], what: str
) -> list[_Result]:
    """Open each record of a query and apply a function to it, under one progress bar."""
    query = query or RunQuery()
    store.ping()
    runs, cache = store.find_runs(query), Cache(PRIVATE_BYTES)

    def opened(run: RunInfo) -> _Result:
        return function(store.open_record(run, query.record, cache=cache))

    return concurrently(opened, runs, what)


def score_frame(records: Sequence[StoredRecord], *, up_to_step: int | None = None) -> pd.DataFrame:
    """The frame of `load_scores` from records that are open already."""
    frames = concurrently(lambda each: _tidy_scores(each, up_to_step), records, "scores")
    return pd.concat(frames, ignore_index=True)


def _tidy_scores(record: StoredRecord, up_to_step: int | None) -> pd.DataFrame:
    manifest = record.manifest
    # Arrays, not series: nothing has to be aligned, a thousand times.
    columns = {name: each.array for name, each in stored_scores(record, up_to_step).items()}
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
    return pd.DataFrame(head | columns)


def stored_scores(record: StoredRecord, up_to_step: int | None) -> pd.DataFrame:
    """The stored score table, or one of the history up to a step."""
    if up_to_step is None:
        return record.scores()
    return score_table(_truncated(record.history(), up_to_step))


def score_column(
    record: StoredRecord, score: str, up_to_step: int | None
) -> npt.NDArray[np.float64]:
    """One score of a record, (n_samples,) float64 in canonical order.

    Raises:
        ParameterError: if there is no such score, or the record does not reach the step.
    """
    if up_to_step is None:
        frame = record.scores([score]) if record.manifest.complete else record.scores()
    else:
        frame = stored_scores(record, up_to_step)
    check_score(frame, score)
    return frame[score].to_numpy(dtype=np.float64)


def _truncated(history: LossHistory, up_to_step: int) -> LossHistory:
    kept = history.steps <= up_to_step
    if not kept.any() or int(history.steps[-1]) < up_to_step:
        raise ParameterError(
            "up_to_step",
            f"must be a recorded step, at most {int(history.steps[-1])}",
            up_to_step,
            "Choose a step that every run has reached.",
        )
    grids = {name: values[kept] for name, values in history.measures.items()}
    parts = {name: values[kept] for name, values in history.components.items()}
    changes = {"measures": grids, "components": parts}
    changes |= {
        name: getattr(history, name)[kept] for name in ("losses", "steps", "deltas", "seen")
    }
    return LossHistory(**{**vars(history), **changes})


def concurrently(
    function: Callable[[_Item], _Result], items: Sequence[_Item], what: str
) -> list[_Result]:
    """Apply a function that mostly waits, in order, with one progress bar for many items."""
    with ThreadPoolExecutor(_THREADS) as pool:
        results = pool.map(function, items)
        quiet = len(items) < _PROGRESS_FROM
        return list(tqdm(results, total=len(items), desc=f"loading {what}", disable=quiet))
