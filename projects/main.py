"""`mlflow run .`: two models × two seeds, then compare, then report, as nested runs."""

import itertools
import sys
from collections.abc import Mapping, Sequence

from actiontrack.store import Store
from projects.children import Child, run_children
from projects.params.comparing import DemoParams
from projects.params.reading import parse, run_main

__all__ = ["main"]


def main(argv: Sequence[str]) -> None:
    """Train every model with every seed, compare the runs and report on them."""
    params = parse(DemoParams, argv)
    store = Store()
    with store.run(name="demo") as run:
        store.log_params(run.run_id, {"models": ",".join(params.models)})
        trainings = [
            _child("train", {"model": model, "seed": str(seed), **params.shared()})
            for model, seed in itertools.product(params.models, params.seed_numbers)
        ]
        trained = run_children(store, run, trainings, parallel=params.parallel)
        chosen = {"run_ids": ",".join(trained), "bootstrap": str(params.bootstrap)}
        after = [_child("compare", chosen), _child("report", chosen)]
        info = store.get_run(run_children(store, run, after)[-1])
    print(f"report     {store.local_root(info) or info.artifact_uri}/report/report.html")


def _child(entry_point: str, parameters: Mapping[str, str]) -> Child:
    name = f"{entry_point} {parameters.get('model', '')}".strip()
    return Child(entry_point=entry_point, parameters=parameters, name=name)


if __name__ == "__main__":
    sys.exit(run_main(main))
