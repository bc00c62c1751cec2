"""What a run shows in MLflow beside its records: tags, parameters, metrics and datasets."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from actiontrack.errors import ParameterError
from actiontrack.store.translation import translated

__all__ = ["log_dataset", "log_params", "log_steps", "set_tags"]

_METRICS_PER_REQUEST = 1000  # as many as MLflow takes


def set_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of a run in one request, so that records that finish at once can do so."""
    import mlflow.entities as me  # noqa: PLC0415

    entities = [me.RunTag(name, str(value)) for name, value in tags.items()]
    if not entities:
        return
    with translated(f"tags of run {run_id}"):
        client.log_batch(run_id, tags=entities)


def log_steps(
    client: Any, run_id: str, steps: Sequence[tuple[Mapping[str, float], int, int | None]]
) -> None:
    """Log aggregate metrics of several steps in few requests, see `Store.log_steps`."""
    import mlflow.entities as me  # noqa: PLC0415

    time_of_logging = int(time.time() * 1000)
    metrics = [
        me.Metric(name, value, time_of_logging if time_ms is None else time_ms, step)
        for values, step, time_ms in steps
        for name, value in values.items()
    ]
    with translated(f"metrics of run {run_id}"):
        for first in range(0, len(metrics), _METRICS_PER_REQUEST):
            client.log_batch(run_id, metrics=metrics[first : first + _METRICS_PER_REQUEST])


def log_params(
    client: Any, run_id: str, params: Mapping[str, object], logged: Mapping[str, str]
) -> None:
    """Log parameters that the run lacks; those that it has must be the same.

    Raises:
        ParameterError: if one differs.
    """
    import mlflow.entities as me  # noqa: PLC0415

    for name in params.keys() & logged.keys():
        _check_same_param(name, logged[name], params[name])
    entities = [me.Param(name, str(value)) for name, value in params.items() if name not in logged]
    if not entities:
        return
    with translated(f"parameters of run {run_id}"):
        client.log_batch(run_id, params=entities)


def log_dataset(
    client: Any, run_id: str, *, name: str, digest: str, source: str, context: str
) -> None:
    """Log a dataset input under its name with the first 32 characters of our digest."""
    from mlflow.data.code_dataset_source import CodeDatasetSource  # noqa: PLC0415
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415

    origin = CodeDatasetSource({"source": source})
    dataset = Dataset(name, digest[:32], "code", origin.to_json())
    tag = InputTag("mlflow.data.context", context)
    with translated(f"dataset of run {run_id}"):
        client.log_inputs(run_id, [DatasetInput(dataset=dataset, tags=[tag])])


def _check_same_param(name: str, logged: str, value: object) -> None:
    before, after = logged.strip("'"), str(value)
    if before == after or before.lower() == after.lower():
        return
    with contextlib.suppress(ValueError):
        if float(before) == float(after):
            return
    raise ParameterError(
        name,
        f"must stay {before!r}, as the run was started with",
        after,
        "Start a new run, or pass the same value.",
    )
