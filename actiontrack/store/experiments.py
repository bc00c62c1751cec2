"""Experiments of a tracking server: their ids by name, and their names by id."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from actiontrack.errors import NotFoundError
from actiontrack.store.paging import items, view_type
from actiontrack.store.translation import translated

__all__ = ["Experiments"]

_PAGE = 1000
_MOST_NAMED = 100  # experiments that a message lists
_ACTIVE = "active"  # MLflow's stage of what does not lie in the trash


class Experiments:
    """Finds experiments through a client of MLflow, and remembers their names.

    Args:
        client: an MlflowClient.
        tracking_uri: where it looks, for messages.
    """

    def __init__(self, client: Any, tracking_uri: str) -> None:
        self._client, self._tracking_uri = client, tracking_uri
        self._names: dict[str, str] = {}

    def ids(self, names: Sequence[str], *, deleted: bool) -> list[str]:
        """Ids of the experiments of these names, each looked up by itself; without one, of all.

        Args:
            names: of experiments.
            deleted: also those in the trash.

        Raises:
            NotFoundError: if there is none of a name.
        """
        if not names:
            return [item.experiment_id for item in self._all(deleted=deleted)]
        return [self._id(name, deleted=deleted) for name in names]

    def name(self, experiment_id: str) -> str:
        """Name of an experiment, asked for once."""
        if experiment_id not in self._names:
            with translated(f"experiment {experiment_id}"):
                self._names[experiment_id] = self._client.get_experiment(experiment_id).name
        return self._names[experiment_id]

    def _id(self, name: str, *, deleted: bool) -> str:
        with translated(f"experiment {name!r}"):
            experiment = self._client.get_experiment_by_name(name)
        if experiment is None or not (deleted or experiment.lifecycle_stage == _ACTIVE):
            raise NotFoundError(
                f"no experiment {name!r} at {self._tracking_uri}. There are: "
                f"{_listed([item.name for item in self._all(deleted=deleted)])}."
            )
        self._names[experiment.experiment_id] = experiment.name
        return str(experiment.experiment_id)

    def _all(self, *, deleted: bool) -> list[Any]:
        search = partial(
            self._client.search_experiments,
            view_type=view_type(deleted=deleted),
            max_results=_PAGE,
        )
        with translated("experiments"):
            experiments = list(items(lambda token: search(page_token=token)))
        self._names |= {item.experiment_id: item.name for item in experiments}
        return experiments


def _listed(names: list[str]) -> str:
    """Names with commas between, as many as a message holds."""
    if not names:
        return "none"
    more = len(names) - _MOST_NAMED
    return ", ".join(sorted(names)[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
