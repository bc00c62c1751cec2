"""Runs of a tracking server: by id, by the start of an id, by name, or by a filter.

Not every service that speaks MLflow's language takes every filter of it: Databricks documents no
LIKE. What a service refuses is looked for among all runs of the query, and remembered.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import islice
from typing import Any

from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.store.experiments import Experiments
from actiontrack.store.paging import items, view_type
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
_BATCH = 500  # experiments per search: databases limit the values in a query
_DELETED = "deleted"  # MLflow's stage of what lies in the trash
_LIST_RUNS = "List what there is with: actiontrack runs"


class NoRunsError(NotFoundError):
    """No run with a record matches a query."""


@dataclass(frozen=True)
class _Condition:
    """What is looked for: by a filter of MLflow, and where a service refuses that, here.

    Attributes:
        kind: under which a refusal is remembered.
        text: the filter; "" where none can spell it.
        holds: the same of a run.
    """

    kind: str
    text: str
    holds: Callable[[RunInfo], bool]


# "!=" finds the runs that have the tag, as LIKE '%' does.
_WITH_RECORD = _Condition(
    "record", f"tags.`{FORMAT_TAG}` != ''", lambda run: FORMAT_TAG in run.tags
)


class RunSearch:
    """Finds runs through a client of MLflow.

    Args:
        client: an MlflowClient.
        tracking_uri: where it looks, for messages.
    """

    def __init__(self, client: Any, tracking_uri: str) -> None:
        self._client, self._tracking_uri = client, tracking_uri
        self._experiments = Experiments(client, tracking_uri)
        self._refused: set[str] = set()

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
            everywhere = cache(lambda: self._experiment_ids(query))
            runs = [self._named(text, query, everywhere) for text in query.run_ids]
            for run in runs:
                if not run.records:
                    raise NotFoundError(without_record(run))
        else:
            runs = self._search(query, self._experiment_ids(query), _WITH_RECORD)
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
        return self._named(text, query, cache(lambda: self._experiment_ids(query)))

    def _named(self, text: str, query: RunQuery, everywhere: Callable[[], list[str]]) -> RunInfo:
        """The same, in experiments that are asked for once however many texts there are."""
        try:
            return self.run(text, deleted=query.deleted)
        except (NotFoundError, ForbiddenError):
            if len(text) == _ID_LENGTH and set(text) <= set("0123456789abcdef"):
                raise
        matches = self._of_name(text, query, everywhere())
        matches = matches or self._of_prefix(text, query, everywhere())
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
            experiment=self._experiments.name(run.info.experiment_id),
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

    def _of_name(self, name: str, query: RunQuery, experiment_ids: list[str]) -> list[RunInfo]:
        """Runs of a name: those with a record if there are any."""
        quote = '"' if "'" in name else "'"
        can_be_spelt = quote not in name and "\\" not in name
        text = f"attributes.run_name = {quote}{name}{quote}" if can_be_spelt else ""
        condition = _Condition("name", text, lambda run: run.name == name)
        runs = self._search(query, experiment_ids, condition, by_filter=False)
        return [run for run in runs if run.records] or runs

    def _of_prefix(self, prefix: str, query: RunQuery, experiment_ids: list[str]) -> list[RunInfo]:
        if not _MIN_PREFIX <= len(prefix) < _ID_LENGTH or not re.fullmatch(r"[\w-]+", prefix):
            return []
        text = f"attributes.run_id LIKE '{prefix}%'"
        condition = _Condition("id", text, lambda run: run.run_id.startswith(prefix))
        return self._search(query, experiment_ids, condition, by_filter=False)

    def _experiment_ids(self, query: RunQuery) -> list[str]:
        return self._experiments.ids(query.experiments, deleted=query.deleted)

    def _search(
        self,
        query: RunQuery,
        experiment_ids: list[str],
        condition: _Condition,
        *,
        by_filter: bool = True,
    ) -> list[RunInfo]:
        """The runs for which a condition holds, newest first.

        Args:
            query: which runs.
            experiment_ids: where to look.
            condition: what must hold beside.
            by_filter: whether the query's own filter counts.
        """
        own = query.filter_string if by_filter else ""
        if condition.text and condition.kind not in self._refused:
            both = " AND ".join(filter(None, (own, condition.text)))
            try:
                return self._pages(
                    query, experiment_ids, both, condition.holds, size=min(_PAGE, query.max_runs)
                )
            except ParameterError:
                runs = self._pages(query, experiment_ids, own, condition.holds)
                self._refused.add(condition.kind)  # it was not the filter of the query
                return runs
        return self._pages(query, experiment_ids, own, condition.holds)

    def _pages(
        self,
        query: RunQuery,
        experiment_ids: list[str],
        filters: str,
        holds: Callable[[RunInfo], bool],
        *,
        size: int = _PAGE,
    ) -> list[RunInfo]:
        runs: list[RunInfo] = []
        batches = range(0, len(experiment_ids), _BATCH)
        with translated(f"filter {query.filter_string}"):
            for first in batches:
                batch = experiment_ids[first : first + _BATCH]
                matching = map(self.info, self._batch(query, batch, filters, size))
                runs += islice(filter(holds, matching), query.max_runs)
        if len(batches) > 1:
            runs.sort(key=lambda run: (-run.start_time, run.run_id))
        return runs[: query.max_runs]

    def _batch(
        self, query: RunQuery, experiment_ids: Sequence[str], filters: str, size: int
    ) -> Iterator[Any]:
        """Runs of MLflow's own kind, from pages of so many."""
        search = partial(
            self._client.search_runs,
            experiment_ids,
            filters,
            run_view_type=view_type(deleted=query.deleted),
            max_results=size,
        )
        return items(lambda token: search(page_token=token))
