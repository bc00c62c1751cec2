"""`mlflow run . -e ensemble`: action against the entropy of an ensemble (4.1, Fig. 6b, 6c, 7)."""

import sys
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from actiontrack.analysis import (
    ensemble_correlations,
    ensemble_regions,
    ensemble_scores,
    load_records,
)
from actiontrack.reporting import describe_ensemble, ensemble_sections, sources_of
from actiontrack.reporting.document import Report
from actiontrack.store import RunQuery, Store
from projects.experiments.experiment import experiment
from projects.loop import choose_compute
from projects.params.experiments import ExperimentParams, auto
from projects.params.fields import ModelName
from projects.params.reading import parse, run_main
from projects.params.training import TrainParams

__all__ = ["EnsembleParams", "main"]


class EnsembleParams(ExperimentParams):
    """Train an ensemble; compare action, entropy and loss variance of each test sample."""

    presets: ClassVar = {
        "smoke": {"model": "cnn3", "models": 3, "epochs": 6, "bootstrap": 50},
        "cpu": {"model": "cnn_keras", "models": 5, "epochs": 12, "bootstrap": 500},
        "paper": {"model": "resnet_v2", "models": 20, "epochs": 85, "bootstrap": 500},
    }

    model: ModelName = auto(description="architecture, see projects/models/README.md")
    models: int = auto(ge=2, description="models in the ensemble; their seeds count from 0")
    stacked: Literal["auto", "true", "false"] = Field(
        "auto", description="train all models at once, by stacked weights; auto = on CUDA"
    )
    share: float = Field(
        0.02, gt=0, le=0.5, description="part of the samples in each region of interest"
    )
    images: int = Field(12, ge=1, description="samples of each region of interest to show")
    bootstrap: int = auto(ge=0, description="resamples for the confidence intervals")


def main(argv: Sequence[str]) -> None:
    """Train the models, then look at their test split together."""
    params = parse(EnsembleParams, argv)
    with experiment("ensemble", params, Store()) as current:
        trainings = [_training(params, seed) for seed in range(params.models)]
        runs = current.train(trainings, stacked=_is_stacked(params, trainings[0]))
        query = RunQuery(run_ids=tuple(run.run_id for run in runs), record="test-probe")
        records = load_records(query, store=current.store)
        scores = ensemble_scores(records)
        correlations = ensemble_correlations(scores, n_bootstrap=params.bootstrap)
        regions = ensemble_regions(scores, share=params.share)
        sections = ensemble_sections(
            records, scores, correlations, share=params.share, n_images=params.images
        )
        report = Report(
            title="Action and entropy of an ensemble",
            sections=sections,
            sources=sources_of(records),
        )
        current.finish(report, describe_ensemble(scores, regions, correlations, len(records)))


def _training(params: EnsembleParams, seed: int) -> TrainParams:
    """The training of one model; only the first stores the images."""
    thumbnails = "never" if seed else "auto"
    return params.training(
        seed=seed, record=("test",), save_probabilities=True, thumbnails=thumbnails, report=False
    )


def _is_stacked(params: EnsembleParams, training: TrainParams) -> bool:
    if params.stacked == "auto":
        return choose_compute(training).device.type == "cuda"
    return params.stacked == "true"


if __name__ == "__main__":
    sys.exit(run_main(main))
