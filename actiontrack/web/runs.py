"""Lists of runs, and what one record offers to its pages."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from actiontrack import analysis
from actiontrack.analysis.questions import score_table_of
from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError, StoreError
from actiontrack.history import check_choice
from actiontrack.record.manifest import Manifest
from actiontrack.scores import unranked
from actiontrack.store import RunInfo, StoredRecord
from actiontrack.store.tokens import has_tokens
from actiontrack.web.images import ImageRoots
from actiontrack.web.messages import without_paths
from actiontrack.web.records import Records

__all__ = [
    "MAX_ROWS",
    "Page",
    "RunFilter",
    "RunView",
    "list_runs",
    "run_choices",
    "score_names",
    "siblings",
    "view_run",
]

_STATES = ("all", "complete", "incomplete")
#: Rows of one page of a table at most.
MAX_ROWS = 100_000

_MAX_SIBLINGS = 12
#: What one of many records may raise without harm to the others.
_UNREADABLE = (NotFoundError, CorruptRecordError, StoreError)
_RUN_COLUMNS = [
    *("run_id", "run_name", "experiment", "experiment_id", "model", "dataset", "seed", "record"),
    *("loss", "delta", "n_steps", "n_samples", "n_nonfinite", "status", "complete"),
    *("start_time", "end_time", "problem"),
]


@dataclass(frozen=True, kw_only=True)
class RunFilter:
    """Which runs a list shows. Several values of one field are alternatives.

    Attributes:
        experiments: names of experiments.
        datasets: values of the parameter "dataset".
        models: names of models.
        tags: (key, value) pairs, all of which a run must have.
        text: part of the name or of the id of a run, in any case.
        state: "all", "complete" or "incomplete": whether the record was finished.
    """

    experiments: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    text: str = ""
    state: str = "all"

    def lets_through(self, info: RunInfo) -> bool:
        """Whether a run passes, whatever the state of its records is."""
        choices = (
            (self.experiments, info.experiment),
            (self.datasets, info.dataset),
            (self.models, info.model),
        )
        text = self.text.lower()
        return (
            all(not values or value in values for values, value in choices)
            and all(info.tags.get(key) == value for key, value in self.tags)
            and (text in info.name.lower() or text in info.run_id)
        )


class Page(NamedTuple):
    """Some rows of a table.

    Attributes:
        frame: the rows of this page.
        total: rows of the whole table.
        page: number of this page, from 1.
        per_page: rows of a page.
    """

    frame: pd.DataFrame
    total: int
    page: int
    per_page: int

    @classmethod
    def of(cls, frame: pd.DataFrame, *, page: int, per_page: int) -> "Page":
        """One page of a whole table.

        Raises:
            ParameterError: if page or per_page is out of range.
        """
        start, stop = _bounds(page, per_page)
        return cls(frame.iloc[start:stop].reset_index(drop=True), len(frame), page, per_page)

    @property
    def n_pages(self) -> int:
        """Number of pages, at least 1."""
        return max(1, -(-self.total // self.per_page))


def _bounds(page: int, per_page: int) -> tuple[int, int]:
    for name, value, most in (("page", page, 10**9), ("per_page", per_page, MAX_ROWS)):
        if not 1 <= value <= most:
            rule = f"must lie in 1 to {most}"
            raise ParameterError(name, rule, value, "Choose a number in this range.")
    return (page - 1) * per_page, page * per_page


@dataclass(frozen=True, kw_only=True)
class RunView:
    """What a record offers, for the head of its pages.

    Attributes:
        info: the run.
        record: name of the record.
        model: name of the model, the record's, else that of its run.
        manifest: what was recorded.
        scores: names of the scores to sort by, "action" first.
        class_names: names of the classes.
        has_labels: whether samples have labels.
        has_correct: whether predictions were recorded.
        has_suggestions: whether it is known how probable it is that a label is wrong, and which
            class is right in its place.
        has_features: whether neighbours can be asked for.
        has_probabilities: whether class probabilities of the final model were recorded.
        has_maps: whether actions of pixels were recorded.
        has_boxes: whether boxes were recorded.
        has_tokens: whether the loss of each token was recorded, of some samples at least.
        has_images: whether images can be shown by this server.
        pictures: names of further pictures, such as "label" and "prediction".
    """

    info: RunInfo
    record: str
    model: str
    manifest: Manifest
    scores: tuple[str, ...]
    class_names: tuple[str, ...]
    has_labels: bool
    has_correct: bool
    has_suggestions: bool
    has_features: bool
    has_probabilities: bool
    has_maps: bool
    has_boxes: bool
    has_tokens: bool
    has_images: bool
    pictures: tuple[str, ...] = ()

    @property
    def last_step(self) -> int | None:
        """The last complete step, None before there is one."""
        return self.manifest.last_step

    @property
    def tells_wrong_labels(self) -> bool:
        """Whether it tells how many labels are wrong: by those that the model was trained on."""
        return self.has_suggestions and self.manifest.of_training

    @property
    def review_order(self) -> dict[str, str]:
        """How a review is ordered if nothing else is chosen, as an address has it."""
        return {"score": "p_wrong"} if self.tells_wrong_labels else {}


def list_runs(
    records: Records, run_filter: RunFilter | None = None, *, page: int = 1, per_page: int = 50
) -> Page:
    """The records that the user may read, newest run first, one row per run and record.

    Returns:
        The columns of `analysis.runs_frame` and experiment_id, start_time (ms since the epoch
        of Unix), end_time. A record whose manifest can't be read has the reason in the
        column problem, and no numbers.
    """
    matching = _matching(records, run_filter or RunFilter())
    start, stop = _bounds(page, per_page)
    rows = [_run_row(records, info, record) for info, record in matching[start:stop]]
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=_RUN_COLUMNS)
    return Page(frame.reindex(columns=_RUN_COLUMNS), len(matching), page, per_page)


def run_choices(records: Records) -> dict[str, list[str]]:
    """What runs can be filtered by: experiments, datasets, models, tags ("key=value")."""
    infos = records.runs()
    tags = {
        f"{key}={value}"
        for info in infos
        for key, value in info.tags.items()
        if not key.startswith(("mlflow.", "actiontrack."))
    }
    return {
        "experiments": sorted({info.experiment for info in infos}),
        "datasets": sorted({info.dataset for info in infos} - {""}),
        "models": sorted({info.model for info in infos}),
        "tags": sorted(tags),
    }


def view_run(
    records: Records, image_roots: ImageRoots, run_id: str, record: str | None = None
) -> RunView:
    """What a record offers."""
    opened = records.open(run_id, record)
    manifest, table = opened.manifest, score_table_of(opened)
    return RunView(
        info=opened.run,
        record=opened.name,
        model=opened.model,
        manifest=manifest,
        scores=score_names(table),
        class_names=tuple(str(name) for name in _classes_in_order(opened, table)),
        has_labels="label" in table.columns,
        has_correct="correct" in table.columns,
        has_suggestions={"p_wrong", "suggested_class"} <= set(table.columns),
        has_features=opened.has_features,
        has_probabilities=opened.has_probabilities,
        has_maps=opened.has_maps,
        has_boxes=opened.has_boxes,
        has_tokens=has_tokens(opened),
        has_images=opened.has_thumbnails or image_roots.allows(manifest.source),
        pictures=opened.picture_names,
    )


def siblings(records: Records, run_id: str, record: str | None = None) -> pd.DataFrame:
    """Runs to compare a run with: other runs of the same record on the same samples.

    Returns:
        run_id, run_name, model, experiment; the newest twelve.
    """
    opened = records.open(run_id, record)
    rows = []
    for info in records.runs():
        if info.run_id == run_id or opened.name not in info.records:
            continue
        try:
            other = records.open_of(info, opened.name, as_listed=True)
        except _UNREADABLE:
            continue
        digests = opened.manifest.digests, other.manifest.digests
        if all(digests[0].get(part) == digests[1].get(part) for part in ("ids", "labels")):
            rows.append((info.run_id, info.name, analysis.model_of(other), info.experiment))
        if len(rows) == _MAX_SIBLINGS:
            break
    return pd.DataFrame(rows, columns=["run_id", "run_name", "model", "experiment"])


def score_names(table: pd.DataFrame) -> tuple[str, ...]:
    """Names of the scores of a score table, "action" first."""
    numeric = [str(name) for name in table.select_dtypes("number").columns]
    names = [name for name in numeric if name not in unranked()]
    return tuple(sorted(names, key=lambda name: name != "action"))


def _matching(records: Records, run_filter: RunFilter) -> list[tuple[RunInfo, str]]:
    """Run and name of each record that a filter lets through."""
    check_choice("state", run_filter.state, _STATES)
    matching = []
    for info in records.runs():
        if run_filter.lets_through(info):
            for record in info.records:
                complete = info.record_state(record) == "complete"
                if run_filter.state == "all" or complete == (run_filter.state == "complete"):
                    matching.append((info, record))
    return matching


def _run_row(records: Records, info: RunInfo, record: str) -> dict[str, object]:
    times = {"experiment_id": info.experiment_id, "start_time": info.start_time}
    times |= {"end_time": info.end_time, "problem": ""}
    try:
        opened = records.open_of(info, record, as_listed=True)
    except _UNREADABLE as error:
        problem = without_paths(str(error))
        head = {"run_id": info.run_id, "run_name": info.name, "experiment": info.experiment}
        head |= {"model": info.model, "dataset": info.dataset, "record": record}
        state = {"status": info.status, "complete": False}
        return head | state | times | {"problem": problem}
    return dict(analysis.runs_frame([opened]).iloc[0]) | times


def _classes_in_order(record: StoredRecord, table: pd.DataFrame) -> list[Any]:
    present = {str(name) for name in table["class"].unique()}
    named = [name for name in record.manifest.class_names if name in present]
    return named + sorted(present - set(named), key=lambda name: (len(name), name))
