"""Tables, finding and report of the experiment with wrong labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd

from actiontrack import analysis
from actiontrack.reporting import (
    describe_noise,
    detection_figure,
    noise_sections,
    sources_of,
)
from actiontrack.reporting.document import Report, Section
from actiontrack.scores import EL2N_STEPS
from actiontrack.store import StoredRecord
from projects.experiments.label_noise_params import LabelNoiseParams

__all__ = ["K", "NoiseResults", "correction_table", "noise_finding", "noise_report", "noise_table"]

K = 100  # besides the number of wrong labels
_SELF_CONFIDENCE = "cleanlab_self_confidence"
_METRICS = {"auroc": "AUROC", "average_precision": "AP"}
_CORRECTION = {
    "calibration_error": "calibration error",
    "flagged_of_wrong": "recall",
    "wrong_of_flagged": "precision",
    "right_of_wrong": "right of wrong",
    "right_of_flagged": "right of flagged",
}


@dataclass(frozen=True, kw_only=True)
class NoiseResults:
    """Results of the trainings and cross-validations on one noise.

    Attributes:
        noise: its short name.
        drawn: whether its wrong labels are drawn by chance, with each seed others.
        train: records of the noisy training split, one per training.
        test: records of the test split.
        detected: frame of `analysis.noise_detection`.
        corrected: frame of `analysis.correction_quality`.
        seconds: of a training and, where there is one, of a cross-validation, by model.
    """

    noise: str
    drawn: bool
    train: list[StoredRecord]
    test: list[StoredRecord]
    detected: pd.DataFrame
    corrected: pd.DataFrame
    seconds: Mapping[str, tuple[float, float]]

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Frame of `analysis.noise_summary`."""
        return analysis.noise_summary(self.detected)


def noise_table(results: Sequence[NoiseResults], params: LabelNoiseParams) -> pd.DataFrame:
    """A row per noise, model and method, best AUROC first, with mean ± deviation as text."""
    return pd.DataFrame(
        [{"noise": of_noise.noise} | row for of_noise in results for row in _rows(of_noise, params)]
    )


def correction_table(results: Sequence[NoiseResults]) -> pd.DataFrame:
    """How many labels are wrong, and mended: a row per noise, model and method, as text."""
    rows = []
    for of_noise in results:
        for (model, method), runs in of_noise.corrected.groupby(["model", "method"], sort=False):
            rows.append(
                {"noise": of_noise.noise, "model": model, "method": method}
                | {"wrong": round(runs["n_wrong"].mean())}
                | {"estimate": _over_runs(runs["estimate"], digits=0)}
                | {title: _over_runs(runs[name]) for name, title in _CORRECTION.items()}
                | {"runs": len(runs)}
            )
    return pd.DataFrame(rows)


def _over_runs(values: "pd.Series[float]", *, digits: int = 3) -> str:
    """Mean ± standard deviation, "" for values that there are none of."""
    return "" if values.isna().all() else _plus_minus(values.mean(), values.std(), digits)


def _plus_minus(mean: float, deviation: float, digits: int = 3) -> str:
    """A mean, with its deviation where there is one."""
    spread = "" if np.isnan(deviation) else f" ± {deviation:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _rows(results: NoiseResults, params: LabelNoiseParams) -> list[dict[str, object]]:
    rows = []
    for (model, method), part in results.summary.groupby(["model", "score"], sort=False):
        at_wrong, at_k = part.iloc[0], part.iloc[-1]  # the same row where as many are wrong
        validated = str(method).startswith("cleanlab_")
        rows.append(
            {"model": model, "method": method}
            | {title: _spread(at_wrong, name) for name, title in _METRICS.items()}
            | {"P@wrong": _spread(at_wrong, "precision_at_k")}
            | {f"P@{at_k['k']:g}": _spread(at_k, "precision_at_k")}
            | {"wrong": int(at_wrong["k"]), "runs": int(at_wrong["n_runs"])}
            | {"trainings": params.folds - 1 if validated else 1}
            | {"seconds": round(results.seconds[str(model)][validated])}
        )
    return rows


def _spread(row: "pd.Series[Any]", metric: str) -> str:
    return _plus_minus(row[f"{metric}_mean"], row[f"{metric}_std"])


def _side_by_side(results: Sequence[NoiseResults]) -> pd.DataFrame:
    """AUROC of each model and method with a column per noise, best mean over the noises first."""
    tables = {
        of_noise.noise: of_noise.summary.drop_duplicates(["model", "score"])
        .set_index(["model", "score"])
        .rename_axis(["model", "method"])
        for of_noise in results
    }
    means = pd.concat({noise: table["auroc_mean"] for noise, table in tables.items()}, axis=1)
    texts = pd.concat(
        {
            noise: table.apply(lambda row: _spread(row, "auroc"), axis=1)
            for noise, table in tables.items()
        },
        axis=1,
    )
    mean = means.mean(axis=1)
    order = mean.reset_index(name="mean").sort_values("mean", ascending=False, kind="stable")
    frame = texts.assign(mean=mean.map("{:.3f}".format)).reset_index()
    sorted_by_model = frame.loc[order.index].sort_values("model", kind="stable", key=_first_seen)
    return sorted_by_model.reset_index(drop=True)


def _first_seen(models: "pd.Series[Any]") -> "pd.Series[Any]":
    return pd.Series(pd.factorize(models)[0], index=models.index)


def _noise(results: NoiseResults, params: LabelNoiseParams) -> str:
    first = results.detected.iloc[0]
    counted = f"{first['n_noisy']} of {first['n_samples']} training labels wrong"
    kind = f"{results.noise} noise" if results.drawn else f"from {results.noise}"
    return f"With {counted} ({kind}), {params.epochs} epochs"


def noise_finding(results: Sequence[NoiseResults], params: LabelNoiseParams) -> str:
    """One sentence or two on each noise."""
    return " ".join(_finding(of_noise, params) for of_noise in results)


def _finding(results: NoiseResults, params: LabelNoiseParams) -> str:
    summary = results.summary
    finding = f"{_noise(results, params)}: {describe_noise(summary)}"
    rows = summary[summary["score"] == _SELF_CONFIDENCE].drop_duplicates("model")
    if rows.empty:
        return finding
    values = ", ".join(f"{row['model']} {_spread(row, 'auroc')}" for _, row in rows.iterrows())
    cost = "1 training" if params.folds == 2 else f"{params.folds - 1} trainings"
    return (
        f"{finding} cleanlab's self-confidence by {params.folds}-fold cross-validation, which "
        f"costs {cost} more, reaches {values}."
    )


def noise_report(
    results: Sequence[NoiseResults], table: pd.DataFrame, params: LabelNoiseParams
) -> Report:
    """The report: one table of every method on every noise, then each noise by itself.

    Args:
        results: of each noise.
        table: frame of `noise_table`.
        params: of the experiment.
    """
    records = [record for of_noise in results for record in (*of_noise.train, *of_noise.test)]
    if len(results) == 1:
        first, *others = _noise_sections(results[0], params)
        sections = [replace(first, frame=table), *others]
    else:
        sections = [_noises_section(results), Section(heading="Every method", frame=table)]
        sections += [
            replace(section, heading=f"{of_noise.noise}: {section.heading}")
            for of_noise in results
            for section in _noise_sections(of_noise, params)
        ]
    sections += [
        Section(
            heading="How many labels are wrong, and which class is right",
            text=_about_corrections(),
            frame=correction_table(results),
        ),
        Section(heading="Runs", frame=analysis.runs_frame(records)),
        Section(heading="How to read this", text=_how_to_read()),
    ]
    sources = sources_of(records)
    return Report(title="Which score finds wrong labels?", sections=sections, sources=sources)


def _noise_sections(results: NoiseResults, params: LabelNoiseParams) -> list[Section]:
    """What there is to tell of one noise; the first section is of every method."""
    return [
        Section(
            heading="Every method",
            text=_about_methods(results, params),
            figure=detection_figure(results.summary),
            caption="AUROC of every method, mean over runs; bars are one standard deviation.",
        ),
        *noise_sections(results.train, results.test),
        Section(heading="Mean and standard deviation over seeds", frame=results.summary),
        Section(heading="Every run", frame=results.detected),
    ]


def _noises_section(results: Sequence[NoiseResults]) -> Section:
    return Section(
        heading="AUROC on every noise",
        text="Mean ± standard deviation over the runs; the last column is the mean over the "
        "noises, by which the methods of each model are sorted.",
        frame=_side_by_side(results),
    )


def _about_methods(results: NoiseResults, params: LabelNoiseParams) -> str:
    drawn = ": each seed draws other wrong labels too" if results.drawn else ""
    at_once = f", {params.parallel} at once" if params.parallel > 1 else ""
    text = (
        f"{_noise(results, params)}, mean ± standard deviation over the runs{drawn}. "
        "Scores of the loss record all come from one training, "
        "tracked by evaluation passes over the training and the test split; EL2N is its mean over "
        f"the first epochs (at most {EL2N_STEPS}). AP is average precision, P@k precision at k, "
        "P@wrong at the number of wrong labels. "
        "Seconds are the mean wall time of that training, its passes and its uploads included"
        f"{at_once}."
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


def _about_corrections() -> str:
    return (
        "Estimate is the expected number of wrong labels, calibration error how far p_wrong is "
        "from the shares of wrong labels (expected calibration error, 15 bins). A label is flagged "
        "if p_wrong is at least 0.5; recall is the share of the wrong labels that are flagged, "
        "precision the share of the flagged that are wrong. Right is the share of the wrong, or "
        "flagged, labels whose suggested class is the true one. cleanlab: find_label_issues, "
        "num_label_issues and the most probable class of the cross-validation."
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
