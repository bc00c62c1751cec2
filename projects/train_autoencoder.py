"""`mlflow run . -e train_autoencoder`: errors of images and pixels of an autoencoder."""

import sys
from collections.abc import Sequence

from actiontrack.errors import StoreError
from actiontrack.reporting import describe_run
from actiontrack.store import Store
from projects.params.autoencoder import AutoencoderParams
from projects.params.reading import parse, run_main
from projects.tasks.autoencoder import Autoencoding
from projects.train import train

__all__ = ["main"]


def main(argv: Sequence[str]) -> int:
    """Train as the command line says and print scores and metrics.

    Returns:
        0, or the exit code of `StoreError` if something could not be uploaded.
    """
    params = parse(AutoencoderParams, argv)
    store = Store()
    run, synced = train(params, store, task=Autoencoding())
    if not synced:
        return StoreError.exit_code
    print(describe_run(store, run))
    print()
    for name in store.get_run(run.run_id).records:
        errors = store.open_record(run.run_id, name).scores(["final_loss"])["final_loss"]
        print(f"{f'{name}/mean_squared_error':<40} {errors.mean():.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
