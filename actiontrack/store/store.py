"""The tracking server as one object: runs, records, artifacts, tags and metrics."""

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from actiontrack import settings
from actiontrack.errors import NotFoundError, StoreError, redact
from actiontrack.record.manifest import Manifest
from actiontrack.store.active import active_run, active_run_id, set_parent
from actiontrack.store.addresses import address_of
from actiontrack.store.cache import Cache
from actiontrack.store.claims import begin_changes, check_claim, claim_record, release_record
from actiontrack.store.logging import log_dataset, log_params, log_steps, set_tags
from actiontrack.store.notebook import facts_html
from actiontrack.store.patience import limited
from actiontrack.store.ping import PING_S, ping_server
from actiontrack.store.reach import Reach, no_address
from actiontrack.store.record import StoredRecord
from actiontrack.store.runs import (
    RunInfo,
    RunQuery,
    choose_record,
    without_record,
)
from actiontrack.store.schema import check_schema
from actiontrack.store.search import RunSearch
from actiontrack.store.tags import listed_manifest, record_tags
from actiontrack.store.translation import REFUSALS, translated, translated_artifacts

__all__ = ["Store"]

logger = logging.getLogger("actiontrack")
_RECENT_S = 1.0  # for how long an answer of the server stands for the next


class Store:
    """A tracking server, local or remote.

    Args:
        tracking_uri: as in MLflow. Default: MLFLOW_TRACKING_URI, or MLflow's local store.
        client: an MlflowClient to use instead.
        artifacts_destination: where a server keeps the artifacts that it proxies. With it they are
            read there, as the server itself does, and not by a request to the server.
        upgrade: migrate a database of an older MLflow, which otherwise is refused: the older
            MLflow can't read it afterwards. Default: as ACTIONTRACK_UPGRADE_STORE says.
        timeout_s: seconds within which a server has to answer the first question.
        reach: which artifacts may be read and written. Default: all that this account may.

    Raises:
        StoreError: if the server does not answer.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        *,
        client: Any = None,
        artifacts_destination: str | None = None,
        upgrade: bool | None = None,
        timeout_s: int = PING_S,
        reach: Reach | None = None,
    ) -> None:
        import mlflow  # noqa: PLC0415 - two seconds that a mere import should not cost

        self.tracking_uri: str = str(tracking_uri or mlflow.get_tracking_uri())
        self._given_client = client
        self._artifacts_destination = artifacts_destination
        self._upgrade = settings.UPGRADE_STORE.value() if upgrade is None else upgrade
        self._has_fitting_schema = False
        self._answered = -math.inf  # when the server did so last, on this process's clock
        self._timeout_s, self._reach = timeout_s, reach

    def __getstate__(self) -> dict[str, Any]:
        """Pickle the addresses only: another process opens a client of its own."""
        state = {k: value for k, value in vars(self).items() if k not in {"_client", "_search"}}
        return state | {"_given_client": None, "_answered": -math.inf}

    @cached_property
    def _client(self) -> Any:
        """Made when first needed: a client of a local store creates it."""
        if self._given_client is not None:
            return self._given_client
        import mlflow  # noqa: PLC0415

        self._is_there()
        with translated(f"tracking store {self.tracking_uri}"):
            return mlflow.MlflowClient(tracking_uri=self.tracking_uri)

    @cached_property
    def _search(self) -> RunSearch:
        return RunSearch(self._client, self.tracking_uri)

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        return facts_html("Store", {"tracking URI": redact(self.tracking_uri)})

    # Reading

    def ping(self) -> None:
        """Check that the store answers, within seconds (MLflow itself retries for minutes).

        Raises:
            StoreError: if the server does not answer, or a database has the schema of another
                version of MLflow.
            NotFoundError: if a local store does not exist.
        """
        if self._is_remote:
            ping_server(self.tracking_uri, self._timeout_s)
            self._answered = time.monotonic()
        elif not self._is_there():
            raise NotFoundError(
                f"no tracking store at {self.tracking_uri}. Record a run first, or name the "
                "store with --tracking-uri or MLFLOW_TRACKING_URI."
            )

    def _check_answers(self) -> None:
        """Do the same, unless a server has answered a moment ago."""
        if not self._is_remote or time.monotonic() - self._answered > _RECENT_S:
            self.ping()

    @property
    def _is_remote(self) -> bool:
        return address_of(self.tracking_uri).kind == "server"

    def _is_there(self) -> bool:
        """Whether a database holds a store, checked before MLflow opens it; see `check_schema`."""
        if self._given_client is None and not self._has_fitting_schema:
            self._has_fitting_schema = check_schema(self.tracking_uri, upgrade=self._upgrade)
            return self._has_fitting_schema
        return True

    def check(self) -> None:
        """Check that the store answers, and that it knows this account where it has a login.

        Raises:
            StoreError: if it does not.
        """
        self.ping()
        with translated(f"tracking store {redact(self.tracking_uri)}"):
            self._client.search_experiments(max_results=1)

    def find_runs(self, query: RunQuery) -> list[RunInfo]:
        """Runs of a query that hold a record, newest first, run ids in the order given.

        Raises:
            NotFoundError: if a run is unknown, in the trash, holds no record, a name fits several
                runs, or nothing matches.
            ParameterError: if MLflow refuses the filter.
            StoreError: if the server does not answer.
        """
        self._check_answers()
        return self._search.find(query)

    def get_run(self, run_id: str, *, deleted: bool = False) -> RunInfo:
        """One run by its full id.

        Args:
            run_id: id of the run.
            deleted: whether a run in the trash is one.

        Raises:
            NotFoundError: if there is no such run, or it is in the trash.
            StoreError: if the server does not answer.
        """
        self._check_answers()
        return self._search.run(run_id, deleted=deleted)

    def find_finished(self, experiment_id: str, tags: Mapping[str, str]) -> RunInfo | None:
        """The newest finished run of an experiment that has all these tags, or None.

        Raises:
            StoreError: if the server does not answer.
        """
        return self._search.newest_finished(experiment_id, tags)

    def open_record(
        self,
        run: RunInfo | str,
        record: str | None = None,
        *,
        cache: Cache | None = None,
        as_listed: bool = False,
    ) -> StoredRecord:
        """A record of a run; reads its manifest, nothing else.

        Args:
            run: the run, its id, a unique start of it, or its name.
            record: name of the record. Default: the only one, or the test probe.
            cache: see `StoredRecord`.
            as_listed: take the manifest from the tags of the run where they hold it and its file
                is elsewhere. It may have changed since the run was listed.

        Raises:
            NotFoundError: if the run holds no such record.
            CorruptRecordError: if the manifest is damaged.
        """
        if isinstance(run, RunInfo):
            info = run
        else:
            self._check_answers()
            info = self._search.named(run, RunQuery())
        name = choose_record(info, record)
        if isinstance(run, RunInfo) and record is None and not info.records:
            raise NotFoundError(without_record(info))
        remote = as_listed and self.local_root(info) is None
        manifest = listed_manifest(info, name) if remote else None
        return StoredRecord(store=self, run=info, name=name, manifest=manifest, cache=cache)

    def artifact_root(self, run: RunInfo) -> str:
        """Where the run's artifacts are: their URI, resolved where this store is the server's.

        Raises:
            NotFoundError: if the URI points out of the server's artifacts, or of what may be read.
        """
        if self._reach is not None:
            self._reach.check(run)
        try:
            parts = urlsplit(run.artifact_uri)
        except ValueError as error:
            raise no_address(run) from error
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
        # No progress bar of MLflow's own for each small file, unless it was asked for.
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        try:
            with limited(retries=0):
                self._fetch(run, path, target)
        except REFUSALS:
            raise
        except StoreError:
            # Many a server calls it its own failure that there is no such artifact, and MLflow's
            # client asks for it again for minutes. What is there is worth that, a missing one not.
            self._check_listed(run, path)
            self._fetch(run, path, target)
        return target

    def _fetch(self, run: RunInfo, path: str, target: Path) -> None:
        with translated_artifacts(f"artifact {path!r} of run {run.run_id}"):
            # What MLflow's client does asks for the run, its models and the kind of path before:
            # four requests, and no error of any store comes through.
            self._repository(run)._download_file(path, str(target))  # noqa: SLF001

    def _check_listed(self, run: RunInfo, path: str) -> None:
        """Refuse an artifact that its folder lacks; a folder that can't be listed lacks none."""
        try:
            with limited(retries=0):
                names = self.list_files(run, str(PurePosixPath(path).parent))
        except REFUSALS:
            raise
        except StoreError:
            return
        if path not in names:
            raise NotFoundError(f"artifact {path!r} of run {run.run_id}: not in its folder.")

    def list_files(self, run: RunInfo, folder: str) -> list[str]:
        """Paths of the files in an artifact folder of the run, ascending; none if it is missing.

        Raises:
            StoreError: if the artifact store does not answer.
        """
        root = self.local_root(run)
        if root is not None:
            names = [path.name for path in (root / folder).glob("*") if path.is_file()]
            return [f"{folder}/{name}" for name in sorted(names)]
        with translated_artifacts(f"artifacts of run {run.run_id}"):
            artifacts = self._repository(run).list_artifacts(folder)
        return sorted(artifact.path for artifact in artifacts if not artifact.is_dir)

    def _repository(self, run: RunInfo) -> Any:
        from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415
            get_artifact_repository,
        )

        return get_artifact_repository(self.artifact_root(run), tracking_uri=self.tracking_uri)

    # Writing

    def upload(self, run_id: str, local: Path, folder: str) -> None:
        """Upload one file into an artifact folder of the run."""
        with translated(f"upload of {local.name} to run {run_id}"):
            if self._artifacts_destination is not None or self._reach is not None:
                run = self.get_run(run_id)
                if self._reach is not None:
                    self._reach.check(run, writing=True)
                self._repository(run).log_artifact(str(local), folder)
            else:
                self._client.log_artifact(run_id, str(local), folder)

    def delete_artifacts(self, run_id: str, paths: Sequence[str]) -> None:
        """Delete artifact files of a run, where its store allows that; others stay."""
        try:
            repository = self._repository(self.get_run(run_id))
            for path in paths:
                repository.delete_artifacts(path)
        except Exception as error:  # noqa: BLE001 - of any store; nothing depends on it
            logger.debug("run %s: superseded files stay: %s", run_id, error)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run in one request, so that records that finish at once can do so."""
        set_tags(self._client, run_id, tags)

    def claim_record(self, run_id: str, record: str, writers: Sequence[str]) -> None:
        """Make a process the only one that writes a record of a run.

        Args:
            run_id: the run.
            record: name of the record.
            writers: the processes whose record is continued, and the present one last.

        Raises:
            RecordingError: if a process writes the record that is none of them.
        """
        claim_record(self._client, run_id, record, writers)

    def check_claim(self, run_id: str, record: str, writer: str) -> None:
        """Check that a process that claimed a record is still its writer.

        Raises:
            RecordingError: if another process has taken over.
        """
        check_claim(self._client, run_id, record, writer)

    def release_record(self, run_id: str, record: str, writer: str) -> None:
        """Give up a claim, if there is one."""
        release_record(self._client, run_id, record, writer)

    def tag_record(self, run_id: str, manifest: Manifest) -> None:
        """Mark the run as one that holds this record, so that queries find it."""
        self.set_tags(run_id, record_tags(manifest))

    def begin_changes(self, run: RunInfo, record: str) -> None:
        """Send readers to the manifest's file: the run's tags no longer tell what it holds."""
        begin_changes(self._client, run.run_id, record, run.tags)

    def log_metrics(
        self, run_id: str, metrics: Mapping[str, float], step: int, time_ms: int | None = None
    ) -> None:
        """Log aggregate metrics of one step in one request; repeating it changes nothing.

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
        log_steps(self._client, run_id, steps)

    def log_params(self, run_id: str, params: Mapping[str, object]) -> None:
        """Log parameters that the run lacks; those that it has must be the same.

        Raises:
            ParameterError: if the run was started with another value of a parameter.
        """
        log_params(self._client, run_id, params, self.get_run(run_id).params)

    def log_dataset(
        self, run_id: str, *, name: str, digest: str, source: str, context: str
    ) -> None:
        """Log a dataset input under its name with the first 32 characters of our digest."""
        log_dataset(self._client, run_id, name=name, digest=digest, source=source, context=context)

    # Runs of this process

    @contextlib.contextmanager
    def run(
        self, *, run_id: str | None = None, name: str | None = None, nested: bool = False
    ) -> Iterator[RunInfo]:
        """A run of this process: FINISHED, FAILED on an error, KILLED on SIGTERM or Ctrl-C.

        Adopts the run that `mlflow run` has started (MLFLOW_RUN_ID). If the server is gone when
        the run ends, a warning says that its status was not saved.
        """
        if self._is_remote:
            self.ping()
        self._is_there()
        with active_run(self.tracking_uri, run_id=run_id, name=name, nested=nested) as run:
            yield self._search.info(run)

    @contextlib.contextmanager
    def runs(self, names: Sequence[str]) -> Iterator[list[RunInfo]]:
        """Several runs of this process at once, side by side below the active one; see `run`.

        Args:
            names: one for each run.
        """
        parent = self.active_run_id()
        with contextlib.ExitStack() as stack:
            started = [stack.enter_context(self.run(name=name, nested=True)) for name in names]
            for run in started[1:]:  # MLflow has nested each in the one before
                set_parent(self._client, run.run_id, parent)
            yield started

    @staticmethod
    def active_run_id() -> str | None:
        """Id of the run that is active in this process, if any."""
        return active_run_id()
