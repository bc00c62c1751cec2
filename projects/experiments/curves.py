"""`mlflow run . -e curves`: what loss curves and neighbours tell (section 4.1, Fig. 1 to 5)."""

import sys
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from actiontrack import analysis
from actiontrack.reporting import (
    describe_clusters,
    describe_neighbours,
    describe_stability,
    run_report,
)
from actiontrack.store import Store, StoredRecord
from projects.experiments.experiment import experiment
from projects.params.experiments import ExperimentParams, auto
from projects.params.fields import MAX_SEED, ModelName
from projects.params.reading import parse, run_main

__all__ = ["CurvesParams", "main"]


class CurvesParams(ExperimentParams):
    """Train once; cluster the loss curves, show the hardest samples and their neighbours."""

    presets: ClassVar = {
        "smoke": {"model": "cnn3", "epochs": 6},
        "cpu": {"model": "cnn_keras", "epochs": 12},
        "paper": {"model": "resnet_v2", "epochs": 85},
    }

    model: ModelName = auto(description="architecture, see projects/models/README.md")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of the training")
    clusters: int = Field(3, ge=2, description="clusters of loss curves, k of k-means")
    queries: int = Field(6, ge=1, description="hardest samples whose neighbours are shown")
    neighbours: int = Field(8, ge=1, description="nearest neighbours of each")


def main(argv: Sequence[str]) -> None:
    """Train, then look at the test split."""
    params = parse(CurvesParams, argv)
    with experiment("curves", params, Store()) as current:
        training = params.training(record=("test",), save_features=True, thumbnails="always")
        (run,) = current.train([training])
        record = current.store.open_record(run, "test-probe")
        report = run_report(
            record,
            n_clusters=params.clusters,
            n_queries=params.queries,
            n_neighbours=params.neighbours,
        )
        current.finish(report, _finding(record, params))


def _finding(record: StoredRecord, params: CurvesParams) -> str:
    clusters = analysis.curve_clusters(record, params.clusters)
    neighbours = analysis.neighbours(record, n=params.queries, k=params.neighbours)
    return " ".join(
        [
            describe_clusters(clusters),
            describe_neighbours(neighbours),
            describe_stability(analysis.stability([record])),
        ]
    )


if __name__ == "__main__":
    sys.exit(run_main(main))
