"""`mlflow run . -e train`: train a classifier, record every sample's loss at every epoch."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack

from actiontrack.errors import StoreError
from actiontrack.reporting import describe_run, log_run_report
from actiontrack.store import RunInfo, Store
from projects.distributed import ALONE, Group, process_group
from projects.loop import choose_compute
from projects.params.reading import parse, run_main
from projects.params.training import LoopParams, TrainParams
from projects.run_log import log_extras, log_setup
from projects.session import Session, Trainer, by_mode, open_recorders
from projects.tasks.classification import Classification
from projects.tasks.task import Task

__all__ = ["assist", "main", "train"]

_CLASSIFICATION = Classification()


def main(argv: Sequence[str]) -> int:
    """Train as the command line says and print scores, hardest samples and where they are.

    Returns:
        0, or the exit code of `StoreError` if something could not be uploaded.
    """
    params = parse(TrainParams, argv)
    store = Store()
    with process_group() as group:
        if not group.is_main:
            assist(params, group)
            return 0
        run, synced = train(params, store, group=group)
    if not synced:
        return StoreError.exit_code
    print(describe_run(store, run, report=params.report))
    return 0


def train(
    params: LoopParams,
    store: Store,
    *,
    nested: bool = False,
    group: Group = ALONE,
    task: Task = _CLASSIFICATION,
) -> tuple[RunInfo, bool]:
    """Train once in a run of the tracking server.

    Args:
        params: what to train on what, and what to record.
        store: the tracking server.
        nested: whether the run is a child of the active one.
        group: processes that train together; the others call `assist`.
        task: what is learnt.

    Returns:
        The run, and whether all of its records are in the artifact store.
    """
    compute = choose_compute(params)
    splits = task.load(params)
    name = f"{params.model} seed {params.seed}"
    with store.run(run_id=params.run_id or None, name=name, nested=nested) as run:
        session = Session.prepare(params, compute, splits, group=group, task=task)
        log_setup(store, run, session)
        synced = _train_and_record(session, store, run)
        if synced and params.report:
            for record in store.get_run(run.run_id).records:
                log_run_report(store.open_record(run.run_id, record))
        return run, synced


def assist(params: LoopParams, group: Group, task: Task = _CLASSIFICATION) -> None:
    """Train along with the process that calls `train`, and speak to no server."""
    splits = task.load(params)
    session = Session.prepare(params, choose_compute(params), splits, group=group, task=task)
    _train_and_record(session, None, None)


def _train_and_record(session: Session, store: Store | None, run: RunInfo | None) -> bool:
    with ExitStack() as stack:
        recorders = open_recorders(stack, session, store, run)
        probes, inline = by_mode(recorders)
        Trainer(session, probes, inline).run()
        if store is not None and run is not None:
            log_extras(session, recorders.values(), store, run)
    return all(recorder.synced for recorder in recorders.values())


if __name__ == "__main__":
    sys.exit(run_main(main))
