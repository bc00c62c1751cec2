"""`mlflow run . -e train_detection`: train a detector, record the losses of images and objects."""

import sys
from collections.abc import Sequence

from actiontrack.errors import StoreError
from actiontrack.reporting import describe_run
from actiontrack.store import Store
from projects.distributed import process_group
from projects.params.detection import DetectionParams
from projects.params.reading import parse, run_main
from projects.tasks.whole_detection import detection_task
from projects.train import assist, train

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Train as the command line says and print scores and metrics.

    Returns:
        0, or the exit code of `StoreError` if something could not be uploaded.
    """
    params = parse(DetectionParams, argv)
    store, task = Store(), detection_task(params)
    with process_group() as group:
        if not group.is_main:
            assist(params, group, task)
            return 0
        run, synced = train(params, store, group=group, task=task)
    if not synced:
        return StoreError.exit_code
    for record in store.get_run(run.run_id).records:
        print(describe_run(store, run, record), end="\n\n")
    for name, value in task.latest_metrics.items():
        print(f"{name:<40} {value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
