"""Entry points of this project as child runs, several at once, with the packages installed here."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from actiontrack.errors import ActionTrackError
from actiontrack.store import RunInfo, Store

__all__ = ["Child", "run_children"]

_ROOT = Path(__file__).resolve().parent.parent
_POLL_S = 0.2
_ACTIVE = frozenset({"RUNNING", "SCHEDULED"})


@dataclass(frozen=True, kw_only=True)
class Child:
    """One child run to start.

    Attributes:
        entry_point: of `MLproject`.
        parameters: of the entry point, as text; those left out have their defaults.
        name: of the run.
        tags: set on the run when it starts.
    """

    entry_point: str
    parameters: Mapping[str, str]
    name: str
    tags: Mapping[str, str] = field(default_factory=dict)


def run_children(
    store: Store, parent: RunInfo, children: Sequence[Child], *, parallel: int = 1
) -> list[str]:
    """Run all children, `parallel` of them at once, a new one as soon as one has ended.

    Args:
        store: the tracking server.
        parent: the active run of this process.
        children: what to run.
        parallel: how many at once.

    Returns:
        Their run ids, in the order of `children`.

    Raises:
        ActionTrackError: if a child fails; the others are stopped.
    """
    waiting = list(enumerate(children))
    running: dict[int, Any] = {}
    run_ids = [""] * len(children)
    try:
        while waiting or running:
            while waiting and len(running) < parallel:
                index, child = waiting.pop(0)
                running[index] = _submit(store, parent, child)
                run_ids[index] = running[index].run_id
            _collect(running, children)
            if running:
                time.sleep(_POLL_S)
    except BaseException:
        for submitted in running.values():
            submitted.cancel()
        raise
    return run_ids


def _submit(store: Store, parent: RunInfo, child: Child) -> Any:
    import mlflow.projects  # noqa: PLC0415 - not needed to print the help

    words = " ".join(f"{name}={value}" for name, value in child.parameters.items())
    print(f"\n== {child.entry_point} {words}", flush=True)
    with _without_experiment_name():
        submitted = mlflow.projects.run(  # type: ignore[no-untyped-call]
            str(_ROOT),
            child.entry_point,
            parameters=dict(child.parameters),
            env_manager="local",
            experiment_id=parent.experiment_id,
            run_name=child.name,
            synchronous=False,
        )
    store.set_tags(submitted.run_id, child.tags)
    return submitted


@contextmanager
def _without_experiment_name() -> Iterator[None]:
    """MLflow gives a child the id of its experiment, and refuses a name beside it."""
    name = os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
    try:
        yield
    finally:
        if name is not None:
            os.environ["MLFLOW_EXPERIMENT_NAME"] = name


def _collect(running: dict[int, Any], children: Sequence[Child]) -> None:
    """Remove the children that have ended from `running`."""
    for index, submitted in list(running.items()):
        if str(submitted.get_status()) in _ACTIVE:
            continue
        del running[index]
        if not submitted.wait():
            raise ActionTrackError(
                f"step {children[index].entry_point}, run {submitted.run_id}, failed: see its own "
                "message above."
            )
