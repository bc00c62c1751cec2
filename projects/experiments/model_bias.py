"""`mlflow run . -e model_bias`: do models share their biases (section 4.6, Table 1, Fig. 14)?"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Self

import pandas as pd
from pydantic import BeforeValidator, Field, model_validator

from actiontrack.analysis import Comparison, compare_runs, load_records
from actiontrack.reporting import comparison_report, describe_comparison, sources_of
from actiontrack.reporting.document import Report, Section
from actiontrack.store import RunQuery, Store, StoredRecord
from projects.experiments.experiment import Experiment, experiment
from projects.params.comparing import check_two_runs
from projects.params.experiments import ScaledParams, auto
from projects.params.fields import Dataset, ModelNames, rule, to_tuple
from projects.params.reading import parse, run_main

__all__ = ["PAPER_TABLE1", "ModelBiasParams", "main"]

_CIFAR10 = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
#: Table 1 of the paper, CIFAR-10 test split: overall, then the ten classes.
PAPER_TABLE1 = {
    ("cnn_keras", "resnet_v2"): (
        *(0.645, 0.581, 0.542, 0.555, 0.634, 0.635),
        *(0.650, 0.730, 0.670, 0.629, 0.689),
    ),
    ("cnn_keras", "xception_mini"): (
        *(0.607, 0.604, 0.542, 0.565, 0.547, 0.538),
        *(0.622, 0.668, 0.643, 0.595, 0.630),
    ),
    ("resnet_v2", "xception_mini"): (
        *(0.711, 0.689, 0.702, 0.686, 0.671, 0.646),
        *(0.722, 0.742, 0.656, 0.764, 0.775),
    ),
    ("cnn_keras", "cnn_keras"): (
        *(0.870, 0.886, 0.819, 0.844, 0.850, 0.874),
        *(0.885, 0.873, 0.881, 0.866, 0.851),
    ),
    ("resnet_v2", "resnet_v2"): (
        *(0.830, 0.823, 0.838, 0.806, 0.800, 0.794),
        *(0.824, 0.840, 0.768, 0.878, 0.870),
    ),
    ("xception_mini", "xception_mini"): (
        *(0.796, 0.775, 0.798, 0.769, 0.754, 0.787),
        *(0.759, 0.825, 0.806, 0.842, 0.855),
    ),
}


Datasets = Annotated[
    tuple[Dataset, ...],
    BeforeValidator(to_tuple),
    Field(min_length=1),
    rule("must be a comma list of datasets"),
]


class ModelBiasParams(ScaledParams):
    """Train models on datasets with several seeds and correlate their action scores."""

    presets: ClassVar = {
        "smoke": {
            "datasets": ("digits",),
            "models": ("cnn3", "vgg5"),
            "seeds": 2,
            "epochs": 6,
            "bootstrap": 50,
        },
        "cpu": {
            "datasets": ("cifar10",),
            "models": ("cnn_keras", "resnet_v2"),
            "seeds": 2,
            "epochs": 12,
            "bootstrap": 500,
        },
        "paper": {
            "datasets": ("cifar10", "fashion_mnist", "mnist"),
            "models": ("cnn_keras", "resnet_v2", "xception_mini"),
            "seeds": 2,
            "epochs": 85,
            "bootstrap": 500,
        },
    }

    datasets: Datasets = auto(description="images to train on, one table each")
    models: ModelNames = auto(description="architectures")
    seeds: int = auto(ge=1, description="runs of each model; 2 or more give the ceiling")
    score: str = Field("action", min_length=1, description="score to compare")
    bootstrap: int = auto(ge=0, description="resamples for the confidence intervals")

    @model_validator(mode="after")
    def _check_two_runs(self) -> Self:
        check_two_runs(self.models, self.seeds)
        return self


def main(argv: Sequence[str]) -> None:
    """Train, compare, and report with the paper's values beside ours."""
    params = parse(ModelBiasParams, argv)
    with experiment("model_bias", params, Store()) as current:
        findings, sections, sources = [], [], []
        for dataset in params.datasets:
            records = _train(current, params, dataset)
            comparison = compare_runs(records, score=params.score, n_bootstrap=params.bootstrap)
            print(comparison.table().round(3).to_string())
            title = _title(records)
            findings.append(f"{title}: {describe_comparison(comparison)}")
            of_dataset = [
                *_beside_paper(records, comparison),
                *_comparison_sections(records, comparison),
            ]
            several = len(params.datasets) > 1
            sections += (
                [_under(title, section) for section in of_dataset] if several else of_dataset
            )
            sources += sources_of(records)
        title = "Do models share their biases?"
        report = Report(title=title, sections=sections, sources=sources)
        current.finish(report, " ".join(findings))


def _train(current: Experiment, params: ModelBiasParams, dataset: str) -> list[StoredRecord]:
    runs = current.train(
        [
            params.training(dataset=dataset, model=model, seed=seed, record=("test",))
            for model, seed in itertools.product(params.models, range(params.seeds))
        ]
    )
    query = RunQuery(run_ids=tuple(run.run_id for run in runs), record="test-probe")
    return load_records(query, store=current.store)


def _title(records: Sequence[StoredRecord]) -> str:
    return records[0].run.dataset.rpartition("/")[-1]


def _comparison_sections(records: Sequence[StoredRecord], comparison: Comparison) -> list[Section]:
    return list(comparison_report(records, comparison, details=False).sections)


def _under(title: str, section: Section) -> Section:
    return replace(section, heading=f"{title}: {section.heading}")


def _beside_paper(records: Sequence[StoredRecord], comparison: Comparison) -> list[Section]:
    """Ours and the paper's correlations, where the classes and models are the paper's."""
    if records[0].manifest.class_names != _CIFAR10 or comparison.score != "action":
        return []
    keys = ["model_a", "model_b", "class"]
    ours = comparison.groups.pivot_table(
        index=keys, columns="method", values="mean", sort=False
    ).reset_index()
    frame = paper_values().merge(ours.rename_axis(columns=None), on=keys)
    if frame.empty:
        return []
    return [
        Section(
            heading="Ours beside the paper's",
            text="The paper trains its own models for 85 epochs on all 50,000 images and does not "
            "say which correlation it prints, so both of ours stand beside its value.",
            frame=frame,
        )
    ]


def paper_values() -> pd.DataFrame:
    """`PAPER_TABLE1` as a tidy frame: model_a, model_b, class, paper."""
    classes = ["overall", *_CIFAR10]
    rows = [
        (*pair, name, value)
        for pair, values in PAPER_TABLE1.items()
        for name, value in zip(classes, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=["model_a", "model_b", "class", "paper"])


if __name__ == "__main__":
    sys.exit(run_main(main))
