"""`mlflow run .`: two models × two seeds, then compare, then report, as nested runs."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from actiontrack.errors import ActionTrackError
from actiontrack.store import RunInfo, Store
from projects.params import DemoParams, parse, run_main

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str]) -> None:
    """Train every model with every seed, compare the runs and report on them."""
    params = parse(DemoParams, argv)
    store = Store()
    with store.run(name="demo") as run:
        store.log_params(run.run_id, {"models": ",".join(params.models)})
        children = [
            _step(run, "train", {"model": model, "seed": str(seed), **params.shared()})
            for model, seed in itertools.product(params.models, params.seed_numbers)
        ]
        chosen = {"run_ids": ",".join(children), "bootstrap": str(params.bootstrap)}
        _step(run, "compare", chosen)
        reported = _step(run, "report", chosen)
        info = store.get_run(reported)
    print(f"report     {store.local_root(info) or info.artifact_uri}/report/report.html")


def _step(parent: RunInfo, entry_point: str, parameters: Mapping[str, str]) -> str:
    """Run one entry point of this project as a child run, in this very environment."""
    import mlflow.projects  # noqa: PLC0415 - not needed to print the help
    from mlflow.exceptions import ExecutionException  # noqa: PLC0415

    words = " ".join(f"{name}={value}" for name, value in parameters.items())
    print(f"\n== {entry_point} {words}", flush=True)
    try:
        submitted = mlflow.projects.run(  # type: ignore[no-untyped-call]
            str(_ROOT),
            entry_point,
            parameters=dict(parameters),
            env_manager="local",
            experiment_id=parent.experiment_id,
            run_name=f"{entry_point} {parameters.get('model', '')}".strip(),
        )
    except ExecutionException as error:
        raise ActionTrackError(
            f"step {entry_point} failed: {error}. Its own message stands above."
        ) from error
    return str(submitted.run_id)


if __name__ == "__main__":
    sys.exit(run_main(main))
