"""`mlflow run .`: two models × two seeds, then compare, then report, as nested runs."""

import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
        trainings = [
            {"model": model, "seed": str(seed), **params.shared()}
            for model, seed in itertools.product(params.models, params.seed_numbers)
        ]
        children = _train_all(run, trainings, params.parallel)
        chosen = {"run_ids": ",".join(children), "bootstrap": str(params.bootstrap)}
        _wait("compare", _submit(run, "compare", chosen))
        reported = _wait("report", _submit(run, "report", chosen))
        info = store.get_run(reported)
    print(f"report     {store.local_root(info) or info.artifact_uri}/report/report.html")


def _train_all(run: RunInfo, trainings: Sequence[Mapping[str, str]], parallel: int) -> list[str]:
    """Train every combination, `parallel` of them at once; returns the run ids in order."""
    children: list[str] = []
    for start in range(0, len(trainings), parallel):
        some = trainings[start : start + parallel]
        submitted = [_submit(run, "train", each) for each in some]
        children += [_wait("train", each) for each in submitted]
    return children


def _submit(parent: RunInfo, entry_point: str, parameters: Mapping[str, str]) -> Any:
    """Start one entry point of this project as a child run, in this very environment."""
    import mlflow.projects  # noqa: PLC0415 - not needed to print the help

    words = " ".join(f"{name}={value}" for name, value in parameters.items())
    print(f"\n== {entry_point} {words}", flush=True)
    return mlflow.projects.run(  # type: ignore[no-untyped-call]
        str(_ROOT),
        entry_point,
        parameters=dict(parameters),
        env_manager="local",
        experiment_id=parent.experiment_id,
        run_name=f"{entry_point} {parameters.get('model', '')}".strip(),
        synchronous=False,
    )


def _wait(entry_point: str, submitted: Any) -> str:
    """Wait for a child run; returns its id."""
    if not submitted.wait():
        raise ActionTrackError(
            f"step {entry_point}, run {submitted.run_id}, failed. Its own message stands above."
        )
    return str(submitted.run_id)


if __name__ == "__main__":
    sys.exit(run_main(main))
