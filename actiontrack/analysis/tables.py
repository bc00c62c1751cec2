"""What all tables start from: one row per record, names of classes, rows of samples."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.errors import NotFoundError, ParameterError, writing
from actiontrack.history import Classes
from actiontrack.record.escaping import to_csv
from actiontrack.store import StoredRecord

__all__ = [
    "by_model_and_time",
    "check_score",
    "class_name",
    "label_classes",
    "label_column",
    "matching_rows",
    "model_of",
    "nullable",
    "open_record",
    "open_records",
    "pair_columns",
    "positions",
    "run_columns",
    "runs_frame",
    "save_frame",
    "with_run_columns",
]


def open_records(
    records: Sequence[StoredRecord], *, argument: str = "records", least: int = 1
) -> list[StoredRecord]:
    """The records of an argument as a list, if that is what they are.

    Raises:
        ParameterError: if they are anything else, such as a frame or a run's id, or too few.
    """
    rule, remedy = "must be open records", "Open them with actiontrack.load_records(RunQuery(…))."
    value: Any = records
    if isinstance(value, StoredRecord):
        raise ParameterError(argument, "must be a list of records", "one record", "Pass [record].")
    if not isinstance(value, Iterable) or isinstance(value, str | bytes | pd.DataFrame | Mapping):
        raise ParameterError(argument, rule, _kind(value), remedy)
    items = list(value)
    wrong = [item for item in items if not isinstance(item, StoredRecord)]
    if wrong:
        raise ParameterError(argument, rule, f"a list with {_kind(wrong[0])}", remedy)
    if len(items) < least:
        number = "one record" if least == 1 else f"{least} records"
        raise ParameterError(argument, f"must be {number} or more", len(items), "Choose runs.")
    return items


def open_record(record: StoredRecord, *, argument: str = "record") -> StoredRecord:
    """The record of an argument, if that is what it is.

    Raises:
        ParameterError: if it is anything else, such as a frame, a run's id or a list.
    """
    value: Any = record
    if not isinstance(value, StoredRecord):
        remedy = "Open it with Store().open_record(run), or take one of load_records(…)."
        raise ParameterError(argument, "must be an open record", _kind(value), remedy)
    return value


def _kind(value: object) -> str:
    """What a value is, in words: its text, or its type."""
    if isinstance(value, str):
        return value
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def runs_frame(records: Sequence[StoredRecord]) -> pd.DataFrame:
    """One row per record: the run, its model, what was recorded, and whether it is complete."""
    return pd.DataFrame([_run_row(record) for record in open_records(records, least=0)])


def model_of(record: StoredRecord) -> str:
    """Name of the model of a record, by which runs are grouped."""
    return record.model


def positions(record: StoredRecord, sample_ids: Sequence[Any]) -> list[int]:
    """Row positions of samples by their ids, which may be given as text.

    Raises:
        NotFoundError: if there is no such sample.
    """
    rows: list[int] = matching_rows(record, record.samples.sample_ids, sample_ids).tolist()
    return rows


def save_frame(frame: pd.DataFrame, stem: Path) -> list[Path]:
    """Write a frame as `stem`.parquet and `stem`.csv, which are replaced.

    Raises:
        StoreError: if the folder can't be written.
    """
    paths = [stem.with_name(stem.name + ending) for ending in (".parquet", ".csv")]
    with writing(stem):
        stem.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(paths[0], index=False)
        paths[1].write_text(to_csv(frame), encoding="utf-8")
    return paths


def class_name(record: StoredRecord, value: int) -> str:
    """Name of a class index of a record, see `history.Classes`."""
    return Classes(record.manifest.class_names).of(value)


def _run_row(record: StoredRecord) -> dict[str, object]:
    manifest, run = record.manifest, record.run
    return {
        "run_id": run.run_id,
        "run_name": run.name,
        "experiment": run.experiment,
        "model": model_of(record),
        "dataset": record.dataset,
        "seed": run.params.get("seed", "").strip("'"),
        "record": manifest.name,
        "loss": manifest.loss_name,
        "delta": manifest.delta_kind,
        "n_steps": manifest.n_steps,
        "n_samples": manifest.n_samples,
        "n_nonfinite": manifest.totals.n_nonfinite,
        "status": run.status,
        "complete": manifest.complete,
    }


def run_columns(record: StoredRecord) -> dict[str, Any]:
    """The columns that say which run a row is of."""
    return {
        "run_id": record.run.run_id,
        "run_name": record.run.name,
        "model": model_of(record),
    }


def with_run_columns(frame: pd.DataFrame, head: dict[str, Any]) -> pd.DataFrame:
    """The frame with further columns before its own."""
    return pd.concat([pd.DataFrame(head, index=frame.index), frame], axis=1)


def label_classes(record: StoredRecord, labels: npt.NDArray[Any]) -> "pd.Categorical[Any]":
    """Class names of labels as a categorical, whose categories are those that occur, sorted."""
    classes = Classes(record.manifest.class_names)
    distinct, rows = np.unique(labels, return_inverse=True)
    categories, codes = np.unique(classes.of_each(distinct), return_inverse=True)
    return pd.Categorical.from_codes(  # type: ignore[call-overload,no-any-return]
        codes[rows], categories=categories
    )


def label_column(
    record: StoredRecord, labels: npt.NDArray[Any] | None, n_samples: int
) -> npt.NDArray[np.object_]:
    """Name of the class of each sample, "all" without labels."""
    if labels is None:
        return np.full(n_samples, "all", dtype=object)
    return np.asarray(label_classes(record, labels), dtype=object)


def pair_columns(
    models: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp], dict[str, npt.NDArray[Any]]]:
    """Rows of the first and the second run of every pair, and kind, model_a and model_b of each."""
    first, second = np.triu_indices(len(models), 1)
    kinds = np.where(models[first] == models[second], "same-model", "cross-model")
    return first, second, {"kind": kinds, "model_a": models[first], "model_b": models[second]}


def nullable(ids: npt.NDArray[Any]) -> Any:
    """Ids as a pandas array in which a missing one does not turn integers into floats."""
    return pd.array(ids, dtype="Int64" if ids.dtype.kind in "iu" else "string")


def by_model_and_time(record: StoredRecord) -> tuple[str, int, str]:
    """Sort key of records: model, then start time, then run id."""
    return model_of(record), record.run.start_time, record.run.run_id


def matching_rows(
    record: StoredRecord, ids: npt.NDArray[Any], sample_ids: Sequence[Any]
) -> npt.NDArray[np.intp]:
    """Row of every id that was asked for; an id that is absent is an error."""
    rows = [_position(ids, sample_id) for sample_id in sample_ids]
    missing = [sample_id for sample_id, row in zip(sample_ids, rows, strict=True) if row < 0]
    if missing:
        look = f"Its ids look like {ids[0]!s}." if len(ids) else "It has none."
        if record.manifest.has_hashed_ids:
            look = "Its ids are hashed: find those of your samples with 'actiontrack hash-ids'."
        raise NotFoundError(
            f"record {record.name} of run {record.run.run_id} has no sample "
            f"{str(missing[0])[:80]!r}. {look}"
        )
    return np.array(rows, dtype=np.intp)


def _position(ids: npt.NDArray[Any], sample_id: Any) -> int:
    """Row of an id among ascending ones, -1 if it is none of them; integers may come as text."""
    value: Any = str(sample_id)
    if ids.dtype.kind in "iu":
        try:
            value = int(value)
        except ValueError:
            return -1
        if not np.iinfo(ids.dtype).min <= value <= np.iinfo(ids.dtype).max:
            return -1
    row = int(np.searchsorted(ids, value))
    return row if row < len(ids) and str(ids[row]) == str(sample_id) else -1


def check_score(frame: pd.DataFrame, name: str) -> None:
    """Refuse a name that is no column of a score frame, or one that holds no numbers.

    Raises:
        ParameterError: names the score and those that there are; or the frame is none.
    """
    value: Any = frame
    if not isinstance(value, pd.DataFrame):
        remedy = "Pass what load_scores(…) or score_frame(records) gives."
        raise ParameterError("scores", "must be a score frame", _kind(value), remedy)
    if name not in frame.columns or not pd.api.types.is_numeric_dtype(frame[name]):
        numeric = frame.select_dtypes("number").columns.difference(["label", "true_label"])
        raise ParameterError(
            "score", f"must be one of {', '.join(numeric)}", name, "Choose one of these."
        )
