"""`mlflow run . -e train_segmentation`: train a U-Net, record the losses of images and pixels."""

import sys
from collections.abc import Sequence

from actiontrack.errors import StoreError
from actiontrack.reporting import describe_run
from actiontrack.store import Store
from projects.params.reading import parse, run_main
from projects.params.segmentation import SegmentationParams
from projects.tasks.segmentation import Segmentation
from projects.train import train

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Train as the command line says and print scores and metrics.

    Returns:
        0, or the exit code of `StoreError` if something could not be uploaded.
    """
    params = parse(SegmentationParams, argv)
    store, task = Store(), Segmentation()
    run, synced = train(params, store, task=task)
    if not synced:
        return StoreError.exit_code
    print(describe_run(store, run))
    print()
    for name, value in task.latest_metrics.items():
        print(f"{name:<40} {value:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
