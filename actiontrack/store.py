"""The tracking server: the only module that speaks to MLflow, and maps its errors to ours.

A run that holds records carries these tags, so that runs are found without listing artifacts:

    actiontrack.format          version of the record's format
    actiontrack.record.NAME     state of the record NAME, such as "test-probe": recording, complete
    actiontrack.writer.NAME.ID  the process that writes the record NAME, so that no two do
    actiontrack.model           name of the model: the key by which same-model runs are grouped
"""

import contextlib
import http.client
import logging
import os
import random
import re
import secrets
import shutil
import signal
import tempfile
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Any, Self
from urllib.parse import unquote, urlsplit, urlunsplit

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import artifact
from actiontrack.errors import (
    ActionTrackError,
    CorruptRecordError,
    MissingDependencyError,
    NotFoundError,
    ParameterError,
    RecordingError,
    StoreError,
)
from actiontrack.history import LossHistory
from actiontrack.notebook import facts_html
from actiontrack.redaction import redact
from actiontrack.scores import score_table

__all__ = [
    "ARTIFACT_ROOT",
    "FORMAT_TAG",
    "MODEL_TAG",
    "RunInfo",
    "RunQuery",
    "Store",
    "StoredRecord",
    "Terminated",
    "choose_record",
]

logger = logging.getLogger("actiontrack")

ARTIFACT_ROOT = "actiontrack"
FORMAT_TAG = "actiontrack.format"
MODEL_TAG = "actiontrack.model"
_RECORD_TAG = "actiontrack.record."
_WRITER_TAG = "actiontrack.writer."
_PARENT_TAG = "mlflow.parentRunId"

_CLAIMS = 4  # attempts to be the one writer, where two begin at the same time
_PING_TIMEOUT_S = 5.0
_RUN_ID = 32  # characters of a whole id
_DOWNLOAD_THREADS = 8
_PAGE = 1000
_METRICS_PER_REQUEST = 1000  # as many as MLflow takes
_MANIFEST_ATTEMPTS = 3


class Terminated(BaseException):
    """SIGTERM arrived: the run is marked KILLED after what was recorded is safe."""


@dataclass(frozen=True, kw_only=True)
class RunQuery:
    """Which runs to read.

    Attributes:
        run_ids: ids of runs, or unique prefixes of at least six characters.
        experiments: names of experiments. Default with no run ids: all of them.
        filter_string: MLflow's own filter, such as "params.dataset = 'cifar10'".
        record: record to read, such as "test-probe". Default: the only one, or the test probe.
        max_runs: at most this many runs, newest first.
    """

    run_ids: tuple[str, ...] = ()
    experiments: tuple[str, ...] = ()
    filter_string: str = ""
    record: str | None = None
    max_runs: int = 10_000

    def describe(self) -> str:
        """The query in words, for messages."""
        parts = [
            f"runs {', '.join(self.run_ids)}" if self.run_ids else "",
            f"experiment {', '.join(self.experiments)}" if self.experiments else "",
            f"filter {self.filter_string!r}" if self.filter_string else "",
            f"record {self.record!r}" if self.record else "",
        ]
        return "; ".join(each for each in parts if each) or "all runs"


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

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        facts: dict[str, object] = {"run": self.run_id, "experiment": self.experiment}
        facts |= {"model": self.model, "status": self.status}
        facts |= {"records": ", ".join(self.records) or "none"}
        return facts_html(self.name, facts | dict(sorted(self.params.items())))

    def record_state(self, record: str) -> str:
        """State of a record as the run's tag tells: "recording", "complete", or "" for none."""
        return self.tags.get(f"{_RECORD_TAG}{record}", "")

    def writer(self, record: str) -> str:
        """The process that wrote a record last, or the empty string; see `Store.claim_record`."""
        return next(iter(_writers_in(self.tags, record)), "")


class Store:
    """A tracking server, local or remote.

    Args:
        tracking_uri: as in MLflow. Default: MLFLOW_TRACKING_URI, or MLflow's local store.
        client: an MlflowClient to use instead.
        artifacts_destination: where a server keeps the artifacts that it proxies. With it they are
            read there, as the server itself does, and not by a request to the server.

    Raises:
        StoreError: if the server does not answer.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        client: Any = None,
        artifacts_destination: str | None = None,
    ) -> None:
        import mlflow  # noqa: PLC0415 - two seconds that a mere import should not cost

        self.tracking_uri: str = str(tracking_uri or mlflow.get_tracking_uri())
        self._given_client = client
        self._artifacts_destination = artifacts_destination
        self._experiments: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Between processes go the addresses; the other process opens a client of its own."""
        state = {name: value for name, value in vars(self).items() if name != "_client"}
        return state | {"_given_client": None}

    @cached_property
    def _client(self) -> Any:
        """Made when first needed: a client of a local store creates it."""
        if self._given_client is not None:
            return self._given_client
        import mlflow  # noqa: PLC0415

        with _translated(f"tracking store {self.tracking_uri}"):
            return mlflow.MlflowClient(tracking_uri=self.tracking_uri)

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        return facts_html("Store", {"tracking URI": redact(self.tracking_uri)})

    # Reading

    def ping(self) -> None:
        """Check that the store answers, within seconds (MLflow itself retries for minutes).

        Raises:
            StoreError: if the server does not answer.
            NotFoundError: if a local store does not exist.
        """
        scheme = urlsplit(self.tracking_uri).scheme
        if scheme in {"http", "https"}:
            self._ping_server()
        elif scheme == "sqlite":
            path = Path(self.tracking_uri.removeprefix("sqlite:///"))
            if not path.is_file():
                raise NotFoundError(
                    f"no tracking store at {self.tracking_uri}. Record a run first, or name the "
                    "store with --tracking-uri or MLFLOW_TRACKING_URI."
                )

    def find_runs(self, query: RunQuery) -> list[RunInfo]:
        """Runs of a query that hold a record, newest first, run ids in the order given.

        Raises:
            NotFoundError: if a run is unknown, holds no record, or nothing matches.
            ParameterError: if MLflow refuses the filter.
            StoreError: if the server does not answer.
        """
        self.ping()
        runs = self._runs_by_id(query) if query.run_ids else self._search(query)
        runs = [each for each in runs if not query.record or query.record in each.records]
        if not runs:
            raise NotFoundError(
                f"no run with a record matches: {query.describe()} at {self.tracking_uri}. "
                "List what there is with: actiontrack runs"
            )
        return runs

    def get_run(self, run_id: str) -> RunInfo:
        """One run by its full id.

        Raises:
            NotFoundError: if there is no such run.
            StoreError: if the server does not answer.
        """
        self.ping()
        with _translated(f"run {run_id!r}"):
            return self._info(self._client.get_run(run_id))

    def find_finished(self, experiment_id: str, tags: Mapping[str, str]) -> RunInfo | None:
        """The newest finished run of an experiment that has all these tags, or None.

        Raises:
            StoreError: if the server does not answer.
        """
        conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        conditions.append("attributes.status = 'FINISHED'")
        with _translated(f"runs of experiment {experiment_id}"):
            found = self._client.search_runs(
                [experiment_id], " AND ".join(conditions), max_results=1
            )
        return self._info(found[0]) if found else None

    def open_record(self, run: RunInfo | str, record: str | None = None) -> "StoredRecord":
        """A record of a run; reads its manifest, nothing else.

        Raises:
            NotFoundError: if the run holds no such record.
            CorruptRecordError: if the manifest is damaged.
        """
        info = run if isinstance(run, RunInfo) else self.get_run(run)
        name = choose_record(info, record)
        if isinstance(run, RunInfo) and record is None and not info.records:
            raise NotFoundError(_without_record(info))
        return StoredRecord(store=self, run=info, name=name)

    def artifact_root(self, run: RunInfo) -> str:
        """Where the run's artifacts are: their URI, resolved where this store is the server's.

        Raises:
            NotFoundError: if the URI points out of the server's artifacts.
        """
        parts = urlsplit(run.artifact_uri)
        if parts.scheme != "mlflow-artifacts" or self._artifacts_destination is None:
            return run.artifact_uri
        inside = PurePosixPath(unquote(parts.path).lstrip("/"))
        if ".." in inside.parts:
            raise NotFoundError(f"the artifacts of run {run.run_id} are not below the server's.")
        return f"{self._artifacts_destination.rstrip('/')}/{inside}"

    def local_root(self, run: RunInfo) -> Path | None:
        """Folder of the run's artifacts, where they are on this machine."""
        uri = self.artifact_root(run)
        parts = urlsplit(uri)
        if parts.scheme == "file":
            return Path(unquote(parts.path))
        return Path(uri) if not parts.scheme and uri else None

    def download(self, run: RunInfo, path: str, folder: Path, *, name: str = "") -> Path:
        """Download one artifact into `folder` in one request, under its own name or another.

        Raises:
            NotFoundError: if there is no such artifact.
            StoreError: if the artifact store does not answer.
        """
        target = folder / (name or PurePosixPath(path).name)
        with _translated_artifacts(f"artifact {path!r} of run {run.run_id}"), _quiet_progress():
            # What MLflow's client does asks for the run, its models and the kind of path before:
            # four requests, and no error of any store comes through.
            self._repository(run)._download_file(path, str(target))  # noqa: SLF001
        return target

    def list_files(self, run: RunInfo, folder: str) -> list[str]:
        """Paths of the files in an artifact folder of the run, ascending; none if it is missing.

        Raises:
            StoreError: if the artifact store does not answer.
        """
        root = self.local_root(run)
        if root is not None:
            found = [each.name for each in (root / folder).glob("*") if each.is_file()]
            return [f"{folder}/{name}" for name in sorted(found)]
        with _translated_artifacts(f"artifacts of run {run.run_id}"):
            listed = self._repository(run).list_artifacts(folder)
        return sorted(each.path for each in listed if not each.is_dir)

    def _repository(self, run: RunInfo) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
            get_artifact_repository,
        )

        return get_artifact_repository(self.artifact_root(run), tracking_uri=self.tracking_uri)

    # Writing

    def upload(self, run_id: str, local: Path, folder: str) -> None:
        """Upload one file into an artifact folder of the run."""
        with _translated(f"upload of {local.name} to run {run_id}"):
            if self._artifacts_destination is not None:
                self._repository(self.get_run(run_id)).log_artifact(str(local), folder)
            else:
                self._client.log_artifact(run_id, str(local), folder)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run in one request, which records that finish at once can do."""
        import mlflow.entities as me  # noqa: PLC0415

        with _translated(f"tags of run {run_id}"):
            self._client.log_batch(
                run_id, tags=[me.RunTag(key, str(value)) for key, value in tags.items()]
            )

    def claim_record(self, run_id: str, record: str, writers: Sequence[str]) -> None:
        """Make a process the only one that writes a record of a run.

        Two processes that record the same run on machines of their own would otherwise replace
        each other's files. Each puts up a tag of its own and then looks for those of others: of
        two, the later one is sure to see the earlier. One that sees another takes its tag down.

        Args:
            run_id: the run.
            record: name of the record.
            writers: the processes whose record is continued, and the present one last.

        Raises:
            RecordingError: if a process writes the record that is none of them.
        """
        me = writers[-1]
        for attempt in range(_CLAIMS):
            self.set_tags(run_id, {_writer_tag(record, me): me})
            others = [each for each in self._writers(run_id, record) if each != me]
            unknown = [each for each in others if each not in writers]
            if not unknown:
                for each in others:
                    self.release_record(run_id, record, each)
                return
            self.release_record(run_id, record, me)
            if attempt + 1 < _CLAIMS:  # both may have seen each other
                time.sleep(random.uniform(0.05, 0.5))
        raise _written_by(run_id, record, unknown[0])

    def check_claim(self, run_id: str, record: str, writer: str) -> None:
        """Find that a process that has claimed a record still is the one that writes it.

        Raises:
            RecordingError: if another one has taken over.
        """
        found = self._writers(run_id, record)
        if writer not in found:
            raise _written_by(run_id, record, found[0] if found else "one that has ended")

    def release_record(self, run_id: str, record: str, writer: str) -> None:
        """Take the tag of a process down, if it is up."""
        with (
            contextlib.suppress(NotFoundError),
            _translated(f"tags of run {run_id}"),
        ):
            self._client.delete_tag(run_id, _writer_tag(record, writer))

    def _writers(self, run_id: str, record: str) -> tuple[str, ...]:
        with _translated(f"run {run_id!r}"):
            return _writers_in(self._client.get_run(run_id).data.tags, record)

    def tag_record(self, run_id: str, manifest: artifact.Manifest) -> None:
        """Mark the run as one that holds this record, so that queries find it."""
        tags = {
            FORMAT_TAG: str(artifact.FORMAT_VERSION),
            f"{_RECORD_TAG}{manifest.name}": manifest.status,
        }
        if manifest.model:
            tags[MODEL_TAG] = manifest.model
        self.set_tags(run_id, tags)

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], step: int, time_ms: int | None = None
    ) -> None:
        """Log aggregate metrics of one step in one request; the same again changes nothing.

        Args:
            run_id: the run.
            metrics: name -> value.
            step: n of eq. 3.
            time_ms: when they were measured, in ms since the epoch of Unix. Default: now.
        """
        self.log_steps(run_id, [(metrics, step, time_ms)])

    def log_steps(
        self, run_id: str, steps: Sequence[tuple[Mapping[str, float], int, int | None]]
    ) -> None:
        """Log aggregate metrics of several steps in few requests, see `log_metrics`.

        Args:
            run_id: the run.
            steps: values by name, step and time in ms of each.
        """
        import mlflow.entities as me  # noqa: PLC0415

        now = int(time.time() * 1000)
        points = [
            me.Metric(key, value, now if time_ms is None else time_ms, step)
            for values, step, time_ms in steps
            for key, value in values.items()
        ]
        with _translated(f"metrics of run {run_id}"):
            for start in range(0, len(points), _METRICS_PER_REQUEST):
                self._client.log_batch(run_id, points[start : start + _METRICS_PER_REQUEST])

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Log parameters that the run has not yet; those that it has are compared.

        Raises:
            ParameterError: if the run was started with another value of a parameter.
        """
        import mlflow.entities as me  # noqa: PLC0415

        known = self.get_run(run_id).params
        for name in params.keys() & known.keys():
            _check_same_param(name, known[name], params[name])
        new = [me.Param(name, str(value)) for name, value in params.items() if name not in known]
        with _translated(f"parameters of run {run_id}"):
            self._client.log_batch(run_id, params=new)

    def log_dataset(
        self, run_id: str, *, name: str, digest: str, source: str, context: str
    ) -> None:
        """Log a dataset input under its name with the first 32 characters of our digest."""
        from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: PLC0415
        from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

        origin = CodeDatasetSource({"source": source})
        dataset = Dataset(name, digest[:32], "code", origin.to_json())
        tag = InputTag("mlflow.data.context", context)
        with _translated(f"dataset of run {run_id}"):
            self._client.log_inputs(run_id, [DatasetInput(dataset=dataset, tags=[tag])])

    @contextlib.contextmanager
    def run(
        self, *, run_id: str | None = None, name: str | None = None, nested: bool = False
    ) -> Iterator[RunInfo]:
        """A run of this process: FINISHED, FAILED on an error, KILLED on SIGTERM or Ctrl-C.

        Adopts the run that `mlflow run` has started (MLFLOW_RUN_ID). If the server is gone when
        the run ends, a warning says that its status was not saved.
        """
        import mlflow  # noqa: PLC0415

        if urlsplit(self.tracking_uri).scheme in {"http", "https"}:
            self.ping()
        mlflow.set_tracking_uri(self.tracking_uri)
        with _translated(f"run {run_id}" if run_id else "a new run"), _sigterm_as_exception():
            active = mlflow.start_run(run_id=run_id, run_name=name, nested=nested)
        with _sigterm_as_exception():
            try:
                yield self._info(active)
            except (Terminated, KeyboardInterrupt):
                self._end_run("KILLED")
                raise
            except BaseException:
                self._end_run("FAILED")
                raise
            self._end_run("FINISHED")

    @contextlib.contextmanager
    def runs(self, names: Sequence[str]) -> Iterator[list[RunInfo]]:
        """Several runs of this process at once, side by side below the active one; see `run`.

        Args:
            names: one for each run.
        """
        parent = self.active_run_id()
        with contextlib.ExitStack() as stack:
            started = [stack.enter_context(self.run(name=name, nested=True)) for name in names]
            for each in started[1:]:  # MLflow has nested each in the one before
                self._set_parent(each.run_id, parent)
            yield started

    def _set_parent(self, run_id: str, parent: str | None) -> None:
        with _translated(f"tags of run {run_id}"):
            if parent is None:
                self._client.delete_tag(run_id, _PARENT_TAG)
            else:
                self._client.set_tag(run_id, _PARENT_TAG, parent)

    @staticmethod
    def active_run_id() -> str | None:
        """Id of the run that is active in this process, if any."""
        import mlflow  # noqa: PLC0415

        active = mlflow.active_run()
        return active.info.run_id if active else None

    def _end_run(self, status: str) -> None:
        import mlflow  # noqa: PLC0415

        active = self.active_run_id()
        try:
            with _impatient(), _translated(f"run {active}"):
                mlflow.end_run(status)
        except ActionTrackError as error:
            logger.warning("the status %s of run %s is not saved: %s", status, active, error)

    def _ping_server(self) -> None:
        parts = urlsplit(self.tracking_uri)  # without name and password, which urllib does not know
        host = parts.netloc.rpartition("@")[2]
        url = urlunsplit((parts.scheme, host, f"{parts.path.rstrip('/')}/health", "", ""))
        try:
            with urllib.request.urlopen(url, timeout=_PING_TIMEOUT_S):  # noqa: S310 - http(s) only
                pass
        except urllib.error.HTTPError:
            pass  # it answers; what it thinks of us is for the real request to find out
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise StoreError(
                f"the tracking server {self.tracking_uri} does not answer: {reason}. "
                "Start it, or correct --tracking-uri or MLFLOW_TRACKING_URI."
            ) from error

    def _runs_by_id(self, query: RunQuery) -> list[RunInfo]:
        runs = [self._run_by_prefix(each) for each in query.run_ids]
        for run in runs:
            if not run.records:
                raise NotFoundError(_without_record(run))
        return runs

    def _run_by_prefix(self, run_id: str) -> RunInfo:
        try:
            return self.get_run(run_id)
        except (NotFoundError, _ForbiddenError):
            matches = (
                [] if not 6 <= len(run_id) < _RUN_ID else self._search(RunQuery(), prefix=run_id)
            )
            if len(matches) == 1:
                return matches[0]
            if not matches:
                raise
            raise NotFoundError(
                f"run id {run_id!r} fits {len(matches)} runs. Give more characters of it."
            ) from None

    def _search(self, query: RunQuery, prefix: str = "") -> list[RunInfo]:
        ids = self._experiment_ids(query.experiments)
        condition = f"tags.`{FORMAT_TAG}` LIKE '%'"
        filters = " AND ".join(each for each in (query.filter_string, condition) if each)
        if prefix:
            filters = ""
        found: list[Any] = []
        token: str | None = None
        with _translated(f"filter {query.filter_string}"):
            while len(found) < query.max_runs:
                size = min(_PAGE, query.max_runs - len(found))
                page = self._client.search_runs(ids, filters, max_results=size, page_token=token)
                found += [each for each in page if each.info.run_id.startswith(prefix)]
                token = page.token
                if not token:
                    break
        return [self._info(each) for each in found]

    def _experiment_ids(self, names: Sequence[str]) -> list[str]:
        with _translated("experiments"):
            known = self._client.search_experiments(max_results=_PAGE)
            while known.token:
                more = self._client.search_experiments(max_results=_PAGE, page_token=known.token)
                more[:0] = known
                known = more
        self._experiments = {each.experiment_id: each.name for each in known}
        ids = {name: experiment_id for experiment_id, name in self._experiments.items()}
        for name in names:
            if name not in ids:
                raise NotFoundError(
                    f"no experiment {name!r} at {self.tracking_uri}. "
                    f"There are: {', '.join(sorted(ids)) or 'none'}."
                )
        return [ids[name] for name in names] if names else list(self._experiments)

    def _experiment_name(self, experiment_id: str) -> str:
        if experiment_id not in self._experiments:
            with _translated(f"experiment {experiment_id}"):
                experiment = self._client.get_experiment(experiment_id)
            self._experiments[experiment_id] = experiment.name
        return self._experiments[experiment_id]

    def _info(self, run: Any) -> RunInfo:
        tags, params = dict(run.data.tags), dict(run.data.params)
        prefix = _RECORD_TAG
        records = [each.removeprefix(prefix) for each in tags if each.startswith(prefix)]
        return RunInfo(
            run_id=run.info.run_id,
            name=run.info.run_name or run.info.run_id[:8],
            experiment=self._experiment_name(run.info.experiment_id),
            status=run.info.status,
            records=tuple(sorted(records)),
            model=tags.get(MODEL_TAG) or params.get("model", "").strip("'") or "unnamed",
            params=params,
            tags=tags,
            start_time=int(run.info.start_time or 0),
            end_time=int(run.info.end_time or 0),
            artifact_uri=run.info.artifact_uri or "",
            experiment_id=run.info.experiment_id,
        )


class StoredRecord:
    """One record of one run. Files are fetched when asked for, and verified.

    Args:
        store: where the run is.
        run: the run.
        name: name of the record, such as "test-probe".
        manifest: as it was read before. Default: it is read now.

    Raises:
        NotFoundError: if the run has no such record.
        CorruptRecordError: if the manifest is damaged.
    """

    def __init__(
        self, *, store: Store, run: RunInfo, name: str, manifest: artifact.Manifest | None = None
    ) -> None:
        self.store, self.run, self.name = store, run, name
        self._prefix = f"{ARTIFACT_ROOT}/{name}"
        root = store.local_root(run)
        self._local = root / ARTIFACT_ROOT / name if root else None
        self.manifest = self._read_manifest() if manifest is None else manifest
        self._pictures: dict[str, artifact.Pictures] = {}
        self._histories: weakref.WeakValueDictionary[tuple[str, ...] | None, LossHistory] = (
            weakref.WeakValueDictionary()
        )

    def __copy__(self) -> Self:
        """Within a process, a copy of the same class with the same files; see `__reduce__`."""
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes goes what says where the files are, and which ones: no file."""
        fields = {"store": self.store, "run": self.run, "name": self.name}
        return _record, (fields | {"manifest": self.manifest},)

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        manifest = self.manifest
        held = {
            "features": self.has_features,
            "probabilities": self.has_probabilities,
            "maps": self.has_maps,
            "thumbnails": self.has_thumbnails,
            "boxes": self.has_boxes,
        }
        facts = {
            "run": f"{self.run.run_id} ({self.run.name})",
            "model": manifest.model or self.run.model,
            "loss": f"{manifest.loss_name}, Δn by {manifest.delta_kind}",
            "samples × steps": f"{manifest.n_samples} × {manifest.n_steps}",
            "classes": len(manifest.class_names) or "not named",
            "state": manifest.status,
            "holds": ", ".join(name for name, there in held.items() if there) or "losses only",
        }
        return facts_html(f"Record {self.name}", facts)

    @cached_property
    def digest(self) -> str:
        """The checksum of the manifest: it changes whenever anything of the record does."""
        return artifact.manifest_digest(self.manifest)

    def scores(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Scores, one row per sample; of an unfinished record, from its history so far.

        Returns:
            The columns of `scores.score_table`.

        Raises:
            NotFoundError: if there is no such score, or no complete epoch.
        """
        if artifact.SCORES in self.manifest.files:
            return artifact.read_scores(self.manifest, self.fetch, columns=columns)
        if not self.manifest.steps:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} has no complete epoch yet."
            )
        frame = score_table(self.history())
        artifact.check_scores(columns or (), list(frame.columns))
        return frame if columns is None else frame[list(columns)]

    def history(self, columns: Sequence[str] | None = None) -> LossHistory:
        """The loss history up to the last complete step, see `artifact.read_history`.

        While a caller keeps a history, others that ask for the same columns get the same one.
        """
        key = None if columns is None else tuple(columns)
        history = self._histories.get(key)
        if history is None:
            self._prefetch([artifact.block_path(each.step) for each in self.manifest.steps])
            history = artifact.read_history(self.manifest, self.fetch, columns=columns)
            self._histories[key] = history
        return history

    @cached_property
    def samples(self) -> artifact.Samples:
        """Ids, labels, paths and input digests of the samples."""
        return artifact.read_samples(self.manifest, self.fetch)

    @property
    def has_features(self) -> bool:
        """Whether last-layer features were recorded."""
        return artifact.FEATURES in self.manifest.files

    def features(self) -> npt.NDArray[np.float32]:
        """Last-layer features, (n_samples, n_features) float32, where they were recorded."""
        return artifact.read_features(self.manifest, self.fetch)

    @property
    def has_probabilities(self) -> bool:
        """Whether the final model's class probabilities were recorded."""
        return artifact.PROBABILITIES in self.manifest.files

    def probabilities(self) -> npt.NDArray[np.float32]:
        """The final model's (n_samples, n_classes) float32, where they were recorded."""
        return artifact.read_probabilities(self.manifest, self.fetch)

    @property
    def has_maps(self) -> bool:
        """Whether the actions of pixels were recorded; they are there once recording has ended."""
        return artifact.MAP_INDEX in self.manifest.files

    @cached_property
    def map_index(self) -> pd.DataFrame:
        """The maps of pixel actions, one row per sample in canonical order.

        Returns:
            sample, sample_id, height, width (stored pixels, 0 without a map), file and row.

        Raises:
            NotFoundError: if the record holds no maps.
        """
        if not self.has_maps:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} ({self.run.name}) holds no maps of "
                "pixel actions. Record them with Recorder(pixel_loss_name=…) and update_maps; "
                "they are written when recording ends."
            )
        index = artifact.read_map_index(self.manifest, self.fetch)
        index.insert(1, "sample_id", self.samples.sample_ids)
        return index

    def pixel_action(self, sample: int) -> npt.NDArray[np.float32]:
        """Action of each pixel (eq. 7) of the sample at a row position; fetches its file only.

        Returns:
            (H, W) float32, as large as the image over `manifest.maps["factor"]`, rounded up.

        Raises:
            NotFoundError: if there is no such map.
            CorruptRecordError: if it is damaged.
        """
        return artifact.read_map(self.manifest, self.fetch, self.map_index, sample)

    @property
    def picture_names(self) -> tuple[str, ...]:
        """Names of the pictures that the record holds of each sample, such as "label"."""
        folder = f"{artifact.PICTURES}/"
        found = [each for each in self.manifest.files if each.startswith(folder)]
        return tuple(each.removeprefix(folder).removesuffix(".parquet") for each in found)

    def picture_bytes(self, name: str, sample: int) -> bytes:
        """The PNG of a name of the sample at a row position.

        Raises:
            NotFoundError: if there are no pictures of that name.
        """
        return self._picture_file(artifact.picture_path(name)).read(sample)

    def _picture_file(self, path: str) -> artifact.Pictures:
        """A file of PNGs, verified when it is first read from."""
        if path not in self._pictures:
            self._pictures[path] = artifact.Pictures(self.manifest, self.fetch, path)
        return self._pictures[path]

    @cached_property
    def boxes(self) -> pd.DataFrame | None:
        """Annotated and predicted boxes, None where none were recorded.

        A row per box in the order of the samples: sample_id, kind ("truth" or "predicted"),
        class, score (NaN for the truth), left, top, right, bottom, width and height of the
        image, all in pixels of the image.

        Raises:
            CorruptRecordError: if the file is damaged.
        """
        if not self.has_boxes:
            return None
        boxes = artifact.read_boxes(self.manifest, self.fetch)
        boxes.insert(0, "sample_id", self.samples.sample_ids[boxes.pop("sample").to_numpy()])
        return boxes

    @property
    def has_boxes(self) -> bool:
        """Whether the record holds annotated or predicted boxes."""
        return artifact.BOXES in self.manifest.files

    @property
    def has_thumbnails(self) -> bool:
        """Whether the record holds small images of the samples."""
        return artifact.THUMBNAILS in self.manifest.files

    def image_bytes(self, sample: int) -> bytes:
        """Encoded image of the sample at a row position.

        From the thumbnails of the record where there are any, else from the recorded root of
        the dataset, never from outside it.

        Raises:
            NotFoundError: if neither is there.
        """
        if self.manifest.hides_images:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} was made without images on purpose: "
                "there are none to show."
            )
        if self.has_thumbnails:
            return self._picture_file(artifact.THUMBNAILS).read(sample)
        if self.manifest.has_hashed_ids:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} holds hashes in place of ids and no "
                "thumbnails: its images can't be found. Record with thumbnails to see images."
            )
        source = self.manifest.source or {}
        if source.get("kind") != "folder" or "root" not in source or self.samples.paths is None:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} refers to no image files and holds "
                "no thumbnails. Record with thumbnails to see images."
            )
        return _read_below(Path(str(source["root"])), self.samples.paths[sample])

    def fetch(self, path: str) -> Path:
        """Local path of a file of the record, downloaded once.

        Raises:
            CorruptRecordError: if it is a link, or in a folder of the record that is one.
        """
        if self._local is not None:
            _check_no_link(self._local, path)
            return self._local / path
        target = self._scratch / path
        if not target.exists():
            whole = f"{self._prefix}/{path}"
            target.parent.mkdir(parents=True, exist_ok=True)
            # Beside its place and then moved: no other thread sees half of it.
            beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            try:
                with contextlib.suppress(NotFoundError):
                    self.store.download(self.run, whole, target.parent, name=beside.name)
                    beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)
        return target

    @cached_property
    def _scratch(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="actiontrack-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _prefetch(self, paths: Sequence[str]) -> None:
        if self._local is None:
            _ = self._scratch  # made once, before the threads ask for it
            with ThreadPoolExecutor(_DOWNLOAD_THREADS) as pool:
                list(pool.map(self.fetch, paths))

    def _read_manifest(self) -> artifact.Manifest:
        # A recording run replaces its manifest every epoch, and not every store does so in one
        # atomic step: what looks half-written gets a second look.
        for attempt in range(1, _MANIFEST_ATTEMPTS + 1):
            path = self.fetch(artifact.MANIFEST)
            try:
                return artifact.read_manifest(path)
            except NotFoundError:
                raise NotFoundError(
                    f"run {self.run.run_id} ({self.run.name}) has no readable record "
                    f"{self.name!r}. Its records: {', '.join(self.run.records) or 'none'}."
                ) from None
            except CorruptRecordError as error:
                if attempt == _MANIFEST_ATTEMPTS or self.run.status != "RUNNING":
                    where = f"{artifact.MANIFEST} of {self.name} of run {self.run.run_id}"
                    text = str(error)
                    if self._local is None:  # the path of a copy tells nobody anything
                        text = text.replace(str(path), where)
                    raise CorruptRecordError(text) from error
                if self._local is None:
                    path.unlink(missing_ok=True)
                time.sleep(0.2 * attempt)
        raise AssertionError  # pragma: no cover - the loop returns or raises


def _record(fields: dict[str, Any]) -> StoredRecord:
    return StoredRecord(**fields)


def _check_no_link(record: Path, path: str) -> None:
    """Refuse links: they would show what lies elsewhere on the machine that reads."""
    place = record
    for part in ("", *PurePosixPath(path).parts):
        place /= part
        if place.is_symlink():
            raise CorruptRecordError(
                f"{path} of {record.name} is, or lies in, a symbolic link. Records hold none: "
                "restore the file, or record the run again."
            )


def _read_below(root: Path, relative: str) -> bytes:
    base = root.resolve()
    path = (base / relative).resolve()
    if not path.is_relative_to(base):
        raise NotFoundError(f"image {relative!r} lies outside the dataset's folder {root}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"image {relative!r} is not at {root} on this machine: {error.strerror}. "
            "Record with thumbnails to see images elsewhere."
        ) from error


def choose_record(run: RunInfo, record: str | None) -> str:
    """Name of the record that is meant: the one named, the only one, or the test probe.

    Raises:
        NotFoundError: if the run holds none.
        ParameterError: if the name is no record's, or none is named and several are held.
    """
    if record is not None:
        split, _, mode = record.rpartition("-")
        artifact.check_name("record", split or record)
        artifact.check_name("record", mode)
        return record
    if len(run.records) == 1:
        return run.records[0]
    if "test-probe" in run.records:
        return "test-probe"
    if not run.records:
        raise NotFoundError(_without_record(run))
    raise ParameterError(
        "record",
        f"must be one of {', '.join(run.records)} for run {run.run_id}",
        record,
        "Name the record that you want.",
    )


def _without_record(run: RunInfo) -> str:
    return (
        f"run {run.run_id} ({run.name}) holds no record. "
        "Record its losses with actiontrack.recorder.Recorder, or choose another run."
    )


def _check_same_param(name: str, known: str, value: object) -> None:
    known, given = known.strip("'"), str(value)
    if known == given or known.lower() == given.lower():
        return
    with contextlib.suppress(ValueError):
        if float(known) == float(given):
            return
    raise ParameterError(
        name,
        f"must stay {known!r}, as the run was started with",
        given,
        "Start a new run, or pass the same value.",
    )


@contextlib.contextmanager
def _quiet_progress() -> Iterator[None]:
    """No progress bar of MLflow's own for each small file."""
    name = "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"
    if name not in os.environ:
        os.environ[name] = "false"
    yield


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """MLflow gives up within seconds instead of minutes."""
    wanted = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _sigterm_as_exception() -> Iterator[None]:
    def terminate(signum: int, frame: FrameType | None) -> None:
        raise Terminated(signum, frame is None)

    try:
        before = signal.signal(signal.SIGTERM, terminate)
    except ValueError:  # not in the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


_ERROR_OF_CODE: Mapping[str, Callable[[str], ActionTrackError]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFoundError,
    "NOT_FOUND": NotFoundError,
    "ENDPOINT_NOT_FOUND": StoreError,
    "PERMISSION_DENIED": StoreError,
    "UNAUTHENTICATED": StoreError,
}


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn MLflow's errors, and those of what it stands on, into ours."""
    import requests  # noqa: PLC0415
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - comes with MLflow

    try:
        yield
    except MlflowException as error:
        raise _from_mlflow(what, error) from error
    except SQLAlchemyError as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"{what}: the tracking database failed: {reason}") from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else None
        if status == 404:
            raise NotFoundError(f"{what}: not found on the tracking server.") from error
        raise StoreError(f"{what}: the tracking server refused: {error}") from error
    except requests.RequestException as error:
        raise StoreError(f"{what}: the tracking server does not answer: {error}") from error
    except ImportError as error:
        raise MissingDependencyError(
            f"{what}: its driver is not installed: {error}. Install it with pip, such as "
            "'psycopg[binary]' for PostgreSQL."
        ) from error
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"{what}: not found: {error.filename}.") from error
        raise StoreError(f"{what}: {error.strerror or error}.") from error


@contextlib.contextmanager
def _translated_artifacts(what: str) -> Iterator[None]:
    """Likewise, of any artifact store: each has errors of its own, with a status inside."""
    try:
        with _translated(what):
            yield
    except ActionTrackError:
        raise
    except Exception as error:
        if _status(error) in {"404", "NoSuchKey", "NoSuchBucket"}:
            raise NotFoundError(f"{what}: not found in the artifact store.") from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise StoreError(f"{what}: the artifact store failed: {reason[0].rstrip('.')}.") from error


def _status(error: Exception) -> str:
    """What a client of S3, Azure or Google says: botocore's code, or a status of HTTP."""
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        return str(response.get("Error", {}).get("Code", ""))
    return str(getattr(error, "status_code", getattr(error, "code", "")))


def _writer_tag(record: str, writer: str) -> str:
    """Name of the tag of a process, which ends with its id in parentheses."""
    return f"{_WRITER_TAG}{record}.{writer.rpartition('(')[2].rstrip(')')}"


def _writers_in(tags: Mapping[str, str], record: str) -> tuple[str, ...]:
    """The processes that are named as writers of a record, ascending."""
    prefix = f"{_WRITER_TAG}{record}."
    return tuple(sorted(value for name, value in tags.items() if name.startswith(prefix)))


def _written_by(run_id: str, record: str, writer: str) -> RecordingError:
    return RecordingError(
        f"run {run_id}: its record {record} is written by another process: {writer}. "
        "Record into a run of your own, or continue that record with resume=True once the "
        "process has ended."
    )


def _refusal(status: str, words: str) -> str:
    """What a server with a login says to whom it does not know, or does not let in."""
    if status == "401":
        return (
            "the tracking server wants a login. Set MLFLOW_TRACKING_USERNAME and "
            "MLFLOW_TRACKING_PASSWORD to yours."
        )
    return (
        f"the tracking server refuses: {words}. Ask its administrator for the permission, or "
        "check that the id is right."
    )


class _ForbiddenError(StoreError):
    """The server does not let this user do that, or does not tell whether there is such a run."""


def _reason(message: str) -> str:
    """Why a request failed for good, from what MLflow says after its last attempt."""
    cause = message.partition("(Caused by ")[2]
    reason = [message, *re.findall(r"""'[^']+'|"[^"]+\"""", cause)][-1].strip("'\"")
    reason = reason.rpartition(": ")[2].partition(" (")[0].rstrip(".")
    if re.fullmatch(r"too many 5\d\d error responses", reason):
        return (
            f"the tracking server fails: {reason}. Its log says why; often its database or "
            "artifact store is away or full."
        )
    return f"the tracking server does not answer: {reason}."


def _from_mlflow(what: str, error: Any) -> ActionTrackError:
    message = (str(error.message).strip() or error.error_code).splitlines()[0]
    message = message.removeprefix(f"{error.error_code}: ")
    refused = re.search(r"failed with error code (401|403) .*Response body: '(.*?)\.?'", message)
    if refused:
        return _ForbiddenError(f"{what}: {_refusal(*refused.groups())}")
    if message.startswith("API request to"):
        return StoreError(f"{what}: {_reason(message)}")
    if error.error_code == "INVALID_PARAMETER_VALUE" and "filter" in what:
        return ParameterError(
            "filter",
            "must be a filter that MLflow understands",
            what.removeprefix("filter "),
            f"MLflow says: {message}",
        )
    kind = _ERROR_OF_CODE.get(error.error_code, StoreError)
    absent = ("No such file", "does not exist", "for parameter 'run_id'")
    if any(each in message for each in absent):
        kind = NotFoundError
    return kind(f"{what}: {message.rstrip('.')}.")
