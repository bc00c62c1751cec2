"""`mlflow run . -e label_noise`: which score finds wrong labels (section 4.4, Fig. 12)?

The paper shows the distributions of the action of noisy, clean and validation samples. Here every
score of the same loss record is measured by how well it finds the wrong labels, beside cleanlab's
scores from cross-validation with the same model, epochs and noise.
"""

import itertools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import pandas as pd
from pydantic import Field, model_validator

from actiontrack import analysis
from actiontrack.errors import ParameterError
from actiontrack.history import wrong_labels
from actiontrack.reporting import (
    describe_noise,
    detection_figure,
    noise_sections,
    sources_of,
)
from actiontrack.reporting.document import Report, Section
from actiontrack.scores import EL2N_STEPS, LOW_IS_HARD
from actiontrack.store import RunInfo, RunQuery, Store, StoredRecord
from projects.cross_validation import (
    LABEL_QUALITY,
    OutOfFold,
    check_cleanlab,
    cross_validate,
    has_cleanlab,
    label_quality,
)
from projects.experiments.experiment import Experiment, experiment, training_identity
from projects.params.experiments import AUTO, ExperimentParams, auto
from projects.params.fields import ModelNames
from projects.params.reading import parse, run_main
from projects.params.training import TrainParams, fit_warmup
from projects.run_log import lasting

__all__ = ["LabelNoiseParams", "main"]

_SELF_CONFIDENCE = "cleanlab_self_confidence"
_LOW_IS_HARD = LOW_IS_HARD | {f"cleanlab_{method}" for method in LABEL_QUALITY}
_METRICS = {"auroc": "AUROC", "average_precision": "AP"}
_K = 100  # besides the number of wrong labels
_FOLDER, _FILE = "cross_validation", "probabilities.parquet"


class LabelNoiseParams(ExperimentParams):
    """Train on wrong labels and measure how well every score finds them, beside cleanlab."""

    presets: ClassVar = {
        "smoke": {
            "subset": 700, "seeds": 1, "label_noise": 0.1, "folds": 2, "cleanlab_seeds": 1,
            "epochs": 5, "augment": "none", "schedule": "constant", "warmup_epochs": 0,
            "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0,
        },
        "cpu": {
            "seeds": 2, "label_noise": 0.1, "folds": 3, "cleanlab_seeds": 1,
            "epochs": 20, "augment": "flip_crop", "schedule": "constant", "warmup_epochs": 0,
            "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0,
        },
        "paper": {
            "seeds": 5, "label_noise": 0.1, "folds": 5, "cleanlab_seeds": 5,
            "epochs": 85, "augment": "flip_crop", "schedule": "cosine", "warmup_epochs": 1,
            "optimizer": "adam", "learning_rate": 1e-3, "weight_decay": 0.0,
        },
    }  # fmt: skip

    models: ModelNames = Field(("cnn3", "resnet_v2"), description="architectures")
    seeds: int = auto(ge=1, description="runs of each model, each with wrong labels of its own")
    label_noise: float = auto(
        ge=0, lt=1, description="fraction of wrong training labels; with noisy_labels 0"
    )
    noise_kind: Literal["symmetric", "asymmetric"] = Field(
        "symmetric", description="any other class, or the next class"
    )
    noisy_labels: str = Field(
        "", description="CSV file of id,label: training labels to replace; empty = none"
    )
    cleanlab: Literal["auto", "true", "false"] = Field(
        "auto", description="whether to compare with cleanlab; auto = if it is installed"
    )
    folds: int = auto(ge=2, description="of the cross-validation for cleanlab")
    cleanlab_seeds: int = auto(
        ge=1, description="seeds with a cross-validation, each of folds - 1 trainings a model"
    )
    augment: Literal["none", "flip_crop"] = auto(
        description="training images only: random crop and horizontal flip"
    )
    schedule: Literal["constant", "cosine", "step"] = auto(
        description="learning rate over the epochs"
    )
    warmup_epochs: int = auto(ge=0, description="epochs of linear warm-up, fewer than epochs")
    batch_size: int = Field(128, ge=1, description="images per update")
    optimizer: Literal["adam", "sgd", "adamw"] = auto(description="update rule")
    learning_rate: float = auto(gt=0, description="step size at its peak")
    weight_decay: float = auto(ge=0, description="L2 penalty (adamw: decoupled)")

    @model_validator(mode="before")
    @classmethod
    def _no_fraction_with_a_file(cls, values: Any) -> Any:
        """A file of wrong labels stands alone: no further ones are made up."""
        filled = dict(values)
        if filled.get("noisy_labels") and filled.get("label_noise", AUTO) == AUTO:
            filled["label_noise"] = 0.0
        return filled

    @model_validator(mode="after")
    def _fit_warmup(self) -> Self:
        fit_warmup(self, epochs=self.epochs, warmup_epochs=self.warmup_epochs)
        return self

    @model_validator(mode="after")
    def _check_noise(self) -> Self:
        if not (self.label_noise or self.noisy_labels):
            raise ParameterError(
                "label_noise",
                "must be above 0 without noisy_labels",
                self.label_noise,
                "Pass for instance --label_noise 0.1.",
            )
        return self

    @property
    def with_cleanlab(self) -> bool:
        """Whether cleanlab's scores are computed."""
        return self.cleanlab == "true" or (self.cleanlab == "auto" and has_cleanlab())

    def trainings(self) -> list[TrainParams]:
        """A training of every model with every seed; the seed chooses the wrong labels too."""
        return [
            self.training(model=model, seed=seed, record=("train", "test"))
            for model, seed in itertools.product(self.models, range(self.seeds))
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Results:
    """Results of the trainings and cross-validations.

    Attributes:
        train: records of the noisy training split, one per training.
        test: records of the test split.
        detected: frame of `analysis.noise_detection`.
        seconds: of a training and, where there is one, of a cross-validation, by model.
    """

    train: list[StoredRecord]
    test: list[StoredRecord]
    detected: pd.DataFrame
    seconds: Mapping[str, tuple[float, float]]


def main(argv: Sequence[str]) -> None:
    """Train on wrong labels, measure every score, and report."""
    params = parse(LabelNoiseParams, argv)
    trainings = params.trainings()
    if params.cleanlab == "true":
        check_cleanlab()
    with experiment("label_noise", params, Store()) as current:
        results = _measure(current, params, trainings)
        summary = analysis.noise_summary(results.detected)
        table = _table(summary, results, params)
        print(f"\n{table.to_string(index=False)}")
        finding = _finding(summary, results, params)
        current.finish(_report(params, results, summary, table), finding)


def _measure(
    current: Experiment, params: LabelNoiseParams, trainings: Sequence[TrainParams]
) -> _Results:
    runs = current.train(trainings)
    validated = _cross_validate(current, params, trainings)
    ids = tuple(run.run_id for run in runs)
    train, test = (
        analysis.load_records(RunQuery(run_ids=ids, record=f"{split}-probe"), store=current.store)
        for split in ("train", "test")
    )
    further = {
        run.run_id: _quality(current.store, validated[position])
        for position, run in enumerate(runs)
        if position in validated
    }
    detected = analysis.noise_detection(
        train, ks=_ks(train), further=further, low_is_hard=_LOW_IS_HARD
    )
    seconds: dict[str, tuple[float, float]] = {}
    for model in params.models:
        positions = [
            position for position, training in enumerate(trainings) if training.model == model
        ]
        folds = [validated[position] for position in positions if position in validated]
        seconds[model] = (_seconds([runs[position] for position in positions]), _seconds(folds))
    return _Results(train=train, test=test, detected=detected, seconds=seconds)


def _cross_validate(
    current: Experiment, params: LabelNoiseParams, trainings: Sequence[TrainParams]
) -> dict[int, RunInfo]:
    """A run with out-of-fold probabilities, by the position of the training that it belongs to."""
    if not params.with_cleanlab:
        if params.cleanlab == "auto":
            print("\n== no cleanlab, no comparison with it: pip install 'actiontrack[cleanlab]'")
        return {}
    return {
        position: _validate(current, training, params.folds)
        for position, training in enumerate(trainings)
        if training.seed < params.cleanlab_seeds
    }


def _validate(current: Experiment, training: TrainParams, folds: int) -> RunInfo:
    def work(run: RunInfo) -> None:
        current.store.log_params(run.run_id, lasting(training) | {"folds": folds})
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _FILE
            cross_validate(training, folds).save(path)
            current.store.upload(run.run_id, path, _FOLDER)

    kind = f"cross-validation {training.model} seed {training.seed}"
    identity = {"training": training_identity(training), "folds": str(folds)}
    return current.step(kind, identity, work)


def _quality(store: Store, run: RunInfo) -> pd.DataFrame:
    """Cleanlab's scores from the probabilities that a run holds: sample_id and a column each."""
    with tempfile.TemporaryDirectory() as folder:
        out_of_fold = OutOfFold.load(store.download(run, f"{_FOLDER}/{_FILE}", Path(folder)))
    return pd.DataFrame(
        {"sample_id": out_of_fold.sample_ids}
        | label_quality(out_of_fold.labels, out_of_fold.probabilities)
    )


def _ks(records: Sequence[StoredRecord]) -> list[int]:
    """The number of wrong labels, which is the same in all runs, and 100."""
    samples: Any = records[0].samples  # of a training with noise: both labels are there
    n_wrong = int(wrong_labels(samples.labels, samples.true_labels).sum())
    return list(dict.fromkeys([n_wrong, min(_K, len(samples.sample_ids))]))


def _seconds(runs: Sequence[RunInfo]) -> float:
    """Mean wall time of runs, NaN of none."""
    times = [(run.end_time - run.start_time) / 1000 for run in runs]
    return float(np.mean(times)) if times else float("nan")


# ---------------------------------------------------------------- tables


def _table(summary: pd.DataFrame, results: _Results, params: LabelNoiseParams) -> pd.DataFrame:
    """A row per model and method, best AUROC first, with mean ± standard deviation as text."""
    rows = []
    for (model, method), part in summary.groupby(["model", "score"], sort=False):
        first = part.iloc[0]
        row = {"model": model, "method": method}
        row |= {title: _spread(first, name) for name, title in _METRICS.items()}
        row |= {
            f"P@{row_of_k['k']:g}": _spread(row_of_k, "precision_at_k")
            for _, row_of_k in part.iterrows()
        }
        validated = str(method).startswith("cleanlab_")
        row["runs"] = int(first["n_runs"])
        row["trainings"] = params.folds - 1 if validated else 1
        row["seconds"] = round(results.seconds[str(model)][validated])
        rows.append(row)
    return pd.DataFrame(rows)


def _spread(row: "pd.Series[Any]", metric: str) -> str:
    mean, deviation = row[f"{metric}_mean"], row[f"{metric}_std"]
    return f"{mean:.3f}" if np.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def _noise(params: LabelNoiseParams, results: _Results) -> str:
    first = results.detected.iloc[0]
    counted = f"{first['n_noisy']} of {first['n_samples']} training labels wrong"
    kind = "from a file" if params.noisy_labels else f"{params.noise_kind} noise"
    return f"With {counted} ({kind}), {params.epochs} epochs"


def _finding(summary: pd.DataFrame, results: _Results, params: LabelNoiseParams) -> str:
    finding = f"{_noise(params, results)}: {describe_noise(summary)}"
    rows = summary[summary["score"] == _SELF_CONFIDENCE].drop_duplicates("model")
    if rows.empty:
        return finding
    values = ", ".join(f"{row['model']} {_spread(row, 'auroc')}" for _, row in rows.iterrows())
    cost = "1 training" if params.folds == 2 else f"{params.folds - 1} trainings"
    return (
        f"{finding} cleanlab's self-confidence by {params.folds}-fold cross-validation, which "
        f"costs {cost} more, reaches {values}."
    )


# ---------------------------------------------------------------- report


def _report(
    params: LabelNoiseParams,
    results: _Results,
    summary: pd.DataFrame,
    table: pd.DataFrame,
) -> Report:
    sections = [
        Section(
            heading="Every method",
            text=_about_methods(params, results),
            frame=table,
            figure=detection_figure(summary),
            caption="AUROC of every method, mean over runs; bars are one standard deviation.",
        ),
        *noise_sections(results.train, results.test),
        Section(heading="Mean and standard deviation over seeds", frame=summary),
        Section(heading="Every run", frame=results.detected),
        Section(heading="Runs", frame=analysis.runs_frame([*results.train, *results.test])),
        Section(heading="How to read this", text=_how_to_read()),
    ]
    sources = sources_of([*results.train, *results.test])
    return Report(title="Which score finds wrong labels?", sections=sections, sources=sources)


def _about_methods(params: LabelNoiseParams, results: _Results) -> str:
    text = (
        f"{_noise(params, results)}, mean ± standard deviation over the runs: each seed draws "
        "other wrong labels too. Scores of the loss record all come from one training, "
        "tracked by evaluation passes over the training and the test split; EL2N is its mean over "
        f"the first epochs (at most {EL2N_STEPS}). AP is average precision, P@k precision at k. "
        "Seconds are the mean wall time of that training, its passes and its uploads included"
        f"{f', {params.parallel} at once' if params.parallel > 1 else ''}."
    )
    if not results.detected["score"].str.startswith("cleanlab_").any():
        return f"{text}\n\nNot compared with cleanlab."
    return (
        f"{text}\n\ncleanlab {version('cleanlab')} scores each sample by the model of the "
        f"{params.folds}-fold cross-validation that was not trained on it, with the same model, "
        f"epochs, optimiser, schedule, augmentation and wrong labels: {params.folds} trainings on "
        f"{params.folds - 1} of {params.folds} parts of the data, one after the other, on the "
        "wrong labels of the first "
        f"{'seed' if params.cleanlab_seeds == 1 else f'{params.cleanlab_seeds} seeds'}."
    )


def _how_to_read() -> str:
    return (
        "AUROC is the chance that a sample with a wrong label ranks above one with a right label: "
        "0.5 is guessing, below 0.5 the score points the other way. Average precision and "
        "precision at k tell how many of the first samples that one looks at are wrong; guessing "
        "gives the share of wrong labels. The test samples of the distributions stand for the "
        "paper's validation samples.\n\nAction and mean loss rank alike: one is a multiple "
        "of the other as long as every step counts the same. Confidence, AUM and cleanlab's "
        "scores are low for suspects, the others high. Variability and final entropy measure "
        "ambiguity, not error.\n\nThe true labels are those of the dataset, which has errors of "
        "its own: see the hardest samples with a right label."
    )


if __name__ == "__main__":
    sys.exit(run_main(main))
