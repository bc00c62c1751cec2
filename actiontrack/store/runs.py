"""Runs: which ones a query names and what their tags say of records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.record.paths import check_name
from actiontrack.store.notebook import facts_html

__all__ = [
    "ARTIFACT_ROOT",
    "FORMAT_TAG",
    "MODEL_TAG",
    "RECORD_TAG",
    "RunInfo",
    "RunQuery",
    "choose_record",
    "short_id",
    "without_record",
    "writer_tag",
    "writers_in",
]

_SHORT_ID = 8  # characters of a run id, as in tables on a terminal

#: Folder of the records among a run's artifacts.
ARTIFACT_ROOT = "actiontrack"
#: Tag of a run that holds a record: the version of its format.
FORMAT_TAG = "actiontrack.format"
#: Tag that names a run's model.
MODEL_TAG = "actiontrack.model"
RECORD_TAG = "actiontrack.record."
_WRITER_TAG = "actiontrack.writer."


@dataclass(frozen=True, kw_only=True)
class RunQuery:
    """Which runs to read.

    Attributes:
        run_ids: ids of runs, unique prefixes of at least six characters, or unique names. A
            single text is one of them.
        experiments: names of experiments. Default with no run ids: all of them. A single text is
            one name.
        filter_string: MLflow's own filter, such as "params.dataset = 'cifar10'".
        record: record to read, such as "test-probe". Default: the only one, or the test probe.
        max_runs: at most this many runs, newest first.
        deleted: also runs in the trash and of deleted experiments.

    Raises:
        ParameterError: if ids or names are no texts.
    """

    run_ids: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    filter_string: str = ""
    record: str | None = None
    max_runs: int = 10_000
    deleted: bool = False

    def __post_init__(self) -> None:
        """Take a single text as one name, and any sequence of texts."""
        for name in ("run_ids", "experiments"):
            value: Any = getattr(self, name)
            texts = (value,) if isinstance(value, str) else tuple(value)
            wrong = [text for text in texts if not isinstance(text, str)]
            if wrong:
                remedy = "Pass RunInfo.run_id of a run, or the name of an experiment."
                raise ParameterError(name, "must be texts", wrong[0], remedy)
            object.__setattr__(self, name, texts)

    def describe(self) -> str:
        """The query in words, for messages."""
        parts = [
            f"runs {', '.join(self.run_ids)}" if self.run_ids else "",
            f"experiment {', '.join(self.experiments)}" if self.experiments else "",
            f"filter {self.filter_string!r}" if self.filter_string else "",
            f"record {self.record!r}" if self.record else "",
        ]
        return "; ".join(filter(None, parts)) or "all runs"


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """One run of the tracking server.

    Attributes:
        run_id: id of the run.
        name: name of the run.
        experiment: name of its experiment.
        experiment_id: id of its experiment.
        status: MLflow's status, such as "FINISHED" or "RUNNING".
        records: names of the records that it holds.
        model: name of the model, from the tag or the parameter "model".
        params: parameters as logged.
        tags: tags.
        start_time: start, in ms since the epoch of Unix.
        end_time: end, in ms since the epoch of Unix; 0 for a run that has not ended.
        artifact_uri: root of its artifacts.
        deleted: whether it is in the trash; the runs of a deleted experiment are.
    """

    run_id: str
    name: str
    experiment: str
    status: str
    records: tuple[str, ...]
    model: str
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    start_time: int = 0
    end_time: int = 0
    artifact_uri: str = ""
    experiment_id: str = ""
    deleted: bool = False

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        facts: dict[str, object] = {"run": self.run_id, "experiment": self.experiment}
        facts |= {"model": self.model, "status": self.status}
        facts |= {"records": ", ".join(self.records) or "none"}
        return facts_html(self.name, facts | dict(sorted(self.params.items())))

    @property
    def dataset(self) -> str:
        """Name of the dataset, from the parameters; "" where they hold none."""
        return self.params.get("dataset", "").strip("'")

    def record_state(self, record: str) -> str:
        """State of a record as the run's tag tells: "recording", "complete", or "" for none."""
        return self.tags.get(f"{RECORD_TAG}{record}", "")

    def writer(self, record: str) -> str:
        """The process that wrote a record last, or the empty string; see `Store.claim_record`."""
        return next(iter(writers_in(self.tags, record)), "")


def choose_record(run: RunInfo, record: str | None) -> str:
    """Name of the record that is meant: the one named, the only one, or the test probe.

    Raises:
        NotFoundError: if the run holds none.
        ParameterError: if the name is no record's, or none is named and several are held.
    """
    if record is not None:
        split, _, mode = record.rpartition("-")
        check_name("record", split or record)
        check_name("record", mode)
        return record
    if len(run.records) == 1:
        return run.records[0]
    if "test-probe" in run.records:
        return "test-probe"
    if not run.records:
        raise NotFoundError(without_record(run))
    raise ParameterError(
        "record",
        f"must be one of {', '.join(run.records)} for run {run.run_id}",
        record,
        "Name the record that you want.",
    )


def without_record(run: RunInfo) -> str:
    """The message for a run that holds no record."""
    return (
        f"run {run.run_id} ({run.name}) holds no record. "
        "Record its losses with actiontrack.recorder.Recorder, or choose another run."
    )


def writer_tag(record: str, writer: str) -> str:
    """Name of the tag of a process, which ends with its id in parentheses."""
    return f"{_WRITER_TAG}{record}.{writer.rpartition('(')[2].rstrip(')')}"


def writers_in(tags: Mapping[str, str], record: str) -> tuple[str, ...]:
    """The processes that are named as writers of a record, ascending."""
    prefix = f"{_WRITER_TAG}{record}."
    return tuple(sorted(value for name, value in tags.items() if name.startswith(prefix)))


def short_id(run_id: str) -> str:
    """The first characters of a run id, enough to tell runs apart."""
    return run_id[:_SHORT_ID]
