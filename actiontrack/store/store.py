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
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from actiontrack.errors import (
    ActionTrackError,
    NotFoundError,
    ParameterError,
    RecordingError,
    StoreError,
    redact,
)
from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import FORMAT_VERSION
from actiontrack.store.active import PARENT_TAG, Terminated, impatient, sigterm_as_exception
from actiontrack.store.notebook import facts_html
from actiontrack.store.record import StoredRecord
from actiontrack.store.runs import (
    FORMAT_TAG,
    MODEL_TAG,
    RECORD_TAG,
    RunInfo,
    RunQuery,
    choose_record,
    without_record,
    writer_tag,
    writers_in,
)
from actiontrack.store.translation import ForbiddenError, translated, translated_artifacts

__all__ = [
    "Store",
    "logger",
]

logger = logging.getLogger("actiontrack")
_CLAIMS = 4  # attempts to be the one writer, where two begin at the same time
_PING_TIMEOUT_S = 5.0
_RUN_ID = 32  # characters of a whole id
_PAGE = 1000
_METRICS_PER_REQUEST = 1000  # as many as MLflow takes


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

        with translated(f"tracking store {self.tracking_uri}"):
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
        with translated(f"run {run_id!r}"):
            return self._info(self._client.get_run(run_id))

    def find_finished(self, experiment_id: str, tags: Mapping[str, str]) -> RunInfo | None:
        """The newest finished run of an experiment that has all these tags, or None.

        Raises:
            StoreError: if the server does not answer.
        """
        conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        conditions.append("attributes.status = 'FINISHED'")
        with translated(f"runs of experiment {experiment_id}"):
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
            raise NotFoundError(without_record(info))
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
        with translated_artifacts(f"artifact {path!r} of run {run.run_id}"), _quiet_progress():
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
        with translated_artifacts(f"artifacts of run {run.run_id}"):
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
        with translated(f"upload of {local.name} to run {run_id}"):
            if self._artifacts_destination is not None:
                self._repository(self.get_run(run_id)).log_artifact(str(local), folder)
            else:
                self._client.log_artifact(run_id, str(local), folder)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run in one request, which records that finish at once can do."""
        import mlflow.entities as me  # noqa: PLC0415

        with translated(f"tags of run {run_id}"):
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
            self.set_tags(run_id, {writer_tag(record, me): me})
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
            translated(f"tags of run {run_id}"),
        ):
            self._client.delete_tag(run_id, writer_tag(record, writer))

    def _writers(self, run_id: str, record: str) -> tuple[str, ...]:
        with translated(f"run {run_id!r}"):
            return writers_in(self._client.get_run(run_id).data.tags, record)

    def tag_record(self, run_id: str, manifest: Manifest) -> None:
        """Mark the run as one that holds this record, so that queries find it."""
        tags = {
            FORMAT_TAG: str(FORMAT_VERSION),
            f"{RECORD_TAG}{manifest.name}": manifest.status,
        }
        if manifest.model:
            tags[MODEL_TAG] = manifest.model
        for name, text in (manifest.notes or {}).items():
            tags[f"actiontrack.{manifest.name}.{name}"] = text
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
        with translated(f"metrics of run {run_id}"):
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
        with translated(f"parameters of run {run_id}"):
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
        with translated(f"dataset of run {run_id}"):
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
        with translated(f"run {run_id}" if run_id else "a new run"), sigterm_as_exception():
            active = mlflow.start_run(run_id=run_id, run_name=name, nested=nested)
        with sigterm_as_exception():
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
        with translated(f"tags of run {run_id}"):
            if parent is None:
                self._client.delete_tag(run_id, PARENT_TAG)
            else:
                self._client.set_tag(run_id, PARENT_TAG, parent)

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
            with impatient(), translated(f"run {active}"):
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
                raise NotFoundError(without_record(run))
        return runs

    def _run_by_prefix(self, run_id: str) -> RunInfo:
        try:
            return self.get_run(run_id)
        except (NotFoundError, ForbiddenError):
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
        with translated(f"filter {query.filter_string}"):
            while len(found) < query.max_runs:
                size = min(_PAGE, query.max_runs - len(found))
                page = self._client.search_runs(ids, filters, max_results=size, page_token=token)
                found += [each for each in page if each.info.run_id.startswith(prefix)]
                token = page.token
                if not token:
                    break
        return [self._info(each) for each in found]

    def _experiment_ids(self, names: Sequence[str]) -> list[str]:
        with translated("experiments"):
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
            with translated(f"experiment {experiment_id}"):
                experiment = self._client.get_experiment(experiment_id)
            self._experiments[experiment_id] = experiment.name
        return self._experiments[experiment_id]

    def _info(self, run: Any) -> RunInfo:
        tags, params = dict(run.data.tags), dict(run.data.params)
        prefix = RECORD_TAG
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


def _written_by(run_id: str, record: str, writer: str) -> RecordingError:
    return RecordingError(
        f"run {run_id}: its record {record} is written by another process: {writer}. "
        "Record into a run of your own, or continue that record with resume=True once the "
        "process has ended."
    )
