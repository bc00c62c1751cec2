"""Runs of a tracking server: by id, by the start of an id, by name, or by a filter."""

from collections.abc import Mapping, Sequence
from typing import Any

from actiontrack.errors import NotFoundError
from actiontrack.store.runs import (
    FORMAT_TAG,
    MODEL_TAG,
    RECORD_TAG,
    RunInfo,
    RunQuery,
    without_record,
)
from actiontrack.store.translation import ForbiddenError, translated

__all__ = ["NoRunsError", "RunSearch"]

_ID_LENGTH = 32
_MIN_PREFIX = 6
_PAGE = 1000
_DELETED = "deleted"  # MLflow's stage of what lies in the trash
_LIST_RUNS = "List what there is with: actiontrack runs"


class NoRunsError(NotFoundError):
    """No run with a record matches a query."""


class RunSearch:
    """Finds runs through a client of MLflow.

    Args:
        client: an MlflowClient.
        tracking_uri: where it looks, for messages.
    """

    def __init__(self, client: Any, tracking_uri: str) -> None:
        self._client, self._tracking_uri = client, tracking_uri
        self._experiments: dict[str, str] = {}

    def run(self, run_id: str, *, deleted: bool = False) -> RunInfo:
        """One run by its full id, see `Store.get_run`."""
        with translated(f"run {run_id!r}"):
            run = self.info(self._client.get_run(run_id))
        if run.deleted and not deleted:
            raise NotFoundError(
                f"run {run_id} ({run.name}) is in the trash. Restore it with: mlflow runs restore "
                f"--run-id {run_id}"
            )
        return run

    def find(self, query: RunQuery) -> list[RunInfo]:
        """The runs of a query, see `Store.find_runs`."""
        if query.run_ids:
            runs = [self.named(text, query) for text in query.run_ids]
            for run in runs:
                if not run.records:
                    raise NotFoundError(without_record(run))
        else:
            conditions = (query.filter_string, f"tags.`{FORMAT_TAG}` LIKE '%'")
            runs = self._search(query, " AND ".join(filter(None, conditions)))
        runs = [run for run in runs if not query.record or query.record in run.records]
        if not runs:
            raise NoRunsError(
                f"no run with a record matches: {query.describe()} at {self._tracking_uri}. "
                f"{_LIST_RUNS}"
            )
        return runs

    def named(self, text: str, query: RunQuery) -> RunInfo:
        """The run of an id, of the start of an id, or of a name.

        Args:
            text: as a table prints it.
            query: in which experiments to look for a name, and whether in the trash.

        Raises:
            NotFoundError: if there is no such run, or several.
        """
        try:
            return self.run(text, deleted=query.deleted)
        except (NotFoundError, ForbiddenError):
            if len(text) == _ID_LENGTH and set(text) <= set("0123456789abcdef"):
                raise
        matches = self._of_name(text, query) or self._of_prefix(text, query)
        if len(matches) > 1:
            runs = ", ".join(f"{run.run_id} ({run.name})" for run in matches)
            raise NotFoundError(
                f"{text!r} fits {len(matches)} runs: {runs}. Name one by its id, or by more "
                "characters of it."
            )
        if not matches:
            raise NotFoundError(
                f"run {text!r}: not found by id or name at {self._tracking_uri}. {_LIST_RUNS}"
            )
        return matches[0]

    def newest_finished(self, experiment_id: str, tags: Mapping[str, str]) -> RunInfo | None:
        """The newest finished run of an experiment with all these tags, or None."""
        conditions = [f"tags.`{name}` = '{value}'" for name, value in tags.items()]
        conditions.append("attributes.status = 'FINISHED'")
        with translated(f"runs of experiment {experiment_id}"):
            runs = self._client.search_runs(
                [experiment_id], " AND ".join(conditions), max_results=1
            )
        return self.info(runs[0]) if runs else None

    def info(self, run: Any) -> RunInfo:
        """The `RunInfo` of one of MLflow's own runs."""
        tags, params = dict(run.data.tags), dict(run.data.params)
        records = [name.removeprefix(RECORD_TAG) for name in tags if name.startswith(RECORD_TAG)]
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
            deleted=run.info.lifecycle_stage == _DELETED,
        )

    def _of_name(self, name: str, query: RunQuery) -> list[RunInfo]:
        """Runs of a name: those with a record if there are any."""
        quote = '"' if "'" in name else "'"
        if quote in name or "\\" in name:  # MLflow's filters can't spell it
            runs = [run for run in self._search(query, "") if run.name == name]
        else:
            runs = self._search(query, f"attributes.run_name = {quote}{name}{quote}")
        return [run for run in runs if run.records] or runs

    def _of_prefix(self, prefix: str, query: RunQuery) -> list[RunInfo]:
        if not _MIN_PREFIX <= len(prefix) < _ID_LENGTH:
            return []
        return [run for run in self._search(query, "") if run.run_id.startswith(prefix)]

    def _search(self, query: RunQuery, filters: str) -> list[RunInfo]:
        ids = self._experiment_ids(query)
        view = self._view(query)
        runs: list[Any] = []
        token: str | None = None
        with translated(f"filter {query.filter_string}"):
            while len(runs) < query.max_runs:
                size = min(_PAGE, query.max_runs - len(runs))
                page = self._client.search_runs(
                    ids, filters, run_view_type=view, max_results=size, page_token=token
                )
                runs += page
                token = page.token
                if not token:
                    break
        return [self.info(run) for run in runs]

    @staticmethod
    def _view(query: RunQuery) -> int:
        """MLflow's constant for whether to search the trash too."""
        from mlflow.entities import ViewType  # noqa: PLC0415

        return int(ViewType.ALL if query.deleted else ViewType.ACTIVE_ONLY)

    def _experiment_ids(self, query: RunQuery) -> list[str]:
        experiments: list[Any] = []
        token: str | None = None
        with translated("experiments"):
            while True:
                page = self._client.search_experiments(
                    view_type=self._view(query), max_results=_PAGE, page_token=token
                )
                experiments += page
                token = page.token
                if not token:
                    break
        names = {item.experiment_id: item.name for item in experiments}
        self._experiments |= names
        return _ids_of_names(query.experiments, names, self._tracking_uri)

    def _experiment_name(self, experiment_id: str) -> str:
        if experiment_id not in self._experiments:
            with translated(f"experiment {experiment_id}"):
                experiment = self._client.get_experiment(experiment_id)
            self._experiments[experiment_id] = experiment.name
        return self._experiments[experiment_id]


def _ids_of_names(names: Sequence[str], by_id: Mapping[str, str], uri: str) -> list[str]:
    """Ids of experiments by their names; of all of them without a name."""
    ids = {name: experiment_id for experiment_id, name in by_id.items()}
    for name in names:
        if name not in ids:
            raise NotFoundError(
                f"no experiment {name!r} at {uri}. There are: {', '.join(sorted(ids)) or 'none'}."
            )
    return [ids[name] for name in names] if names else list(by_id)
