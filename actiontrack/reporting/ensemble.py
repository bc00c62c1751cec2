"""Sections on action against entropy: of one run, and of an ensemble (4.1)."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from actiontrack import analysis, plots
from actiontrack.analysis.sentences import REGIONS, count_runs, describe_ensemble
from actiontrack.reporting.common import GALLERY, figure_of, nested
from actiontrack.reporting.document import Section
from actiontrack.reporting.findings import SHARE, EntropyFindings, find_ensemble, read_once
from actiontrack.reporting.pictures import region_gallery, with_caption
from actiontrack.store import StoredRecord

__all__ = ["ensemble_sections", "entropy_sections"]

_BY_THRESHOLD = (
    "mean over the runs, 95 % confidence interval by Student's t where there are several. The "
    "lower a curve lies, the better its score finds the samples that are misclassified."
)


def ensemble_sections(
    records: Sequence[StoredRecord],
    scores: pd.DataFrame,
    correlations: pd.DataFrame,
    *,
    share: float = SHARE,
    n_images: int = GALLERY,
) -> list[Section]:
    """Sections on an ensemble: action against entropy, accuracy by threshold, regions (4.1).

    Args:
        records: open records of its models; the images are those of the first.
        scores: frame of `analysis.ensemble_scores` of these records.
        correlations: frame of `analysis.ensemble_correlations` of these scores.
        share: part of the samples in each region, see `compare.regions_of_interest`.
        n_images: samples of each gallery.

    Raises:
        ParameterError: if the share is not above 0 and at most 0.5.
    """
    findings = find_ensemble(read_once(records), scores, correlations, share=share)
    regions = findings.regions[["sample_id", "region"]]
    marked = scores.merge(regions, on="sample_id", how="left")
    return [
        *_ensemble(findings, n_images),
        Section(heading="Runs", text="The models.", frame=analysis.runs_frame(records)),
        Section(
            heading="Accuracy at each threshold",
            text="The curves of accuracy by threshold, as numbers.",
            frame=analysis.accuracy_summary(findings.accuracy),
        ),
        Section(
            heading="Every sample",
            text="Scores of the ensemble, the hardest sample first.",
            frame=marked.sort_values("action", ascending=False, kind="stable", ignore_index=True),
        ),
    ]


def entropy_sections(findings: EntropyFindings | None) -> list[Section]:
    """What entropy says that action does not (4.1); nothing without entropies."""
    if findings is None:
        return []
    if findings.correlations is not None:
        return _entropy_of_ensemble(findings, findings.correlations)
    regions = findings.regions
    axes = plots.joint_distribution(findings.scores, regions)
    axes.set(xlabel="final entropy, normalised", ylabel="action, normalised")
    counts = [
        f"{len(rows)} samples have {name}, {rows['correct'].mean():.1%} of them predicted right: "
        f"{meaning.replace('models tend', 'model tends')}"
        for name, meaning in REGIONS.items()
        if len(rows := regions.loc[regions["region"] == name])
    ]
    joint = Section(
        heading="Action against entropy",
        text=f"Action and final predictive entropy of {_named(findings.records)}, both min–max "
        "normalised. The regions hold the samples on which the two disagree most.\n\n"
        + " ".join(counts),
        frame=regions[["region", "place", "sample_id", "class", "action", "entropy", "correct"]],
        figure=figure_of(axes),
        caption="Joint distribution of action and final entropy (paper, Fig. 6b).",
    )
    masked = Section(
        heading="Accuracy by threshold",
        text="Accuracy on the samples at or above a threshold on each score, normalised within "
        f"its run: {_BY_THRESHOLD}",
        figure=figure_of(plots.accuracy_curves(findings.accuracy)),
        caption="Accuracy against a threshold on action, final entropy and loss variance (paper, "
        "Fig. 6c).",
    )
    return [joint, masked]


def _named(records: Sequence[StoredRecord]) -> str:
    return "the run" if len(records) == 1 else f"run {records[0].run.name}, the first of them"


def _entropy_of_ensemble(findings: EntropyFindings, correlations: pd.DataFrame) -> list[Section]:
    n_models = len(findings.records)
    summary = describe_ensemble(findings.scores, findings.regions, correlations, n_models)
    head = Section(
        heading="Entropy", text=f"The {count_runs(n_models)} taken as one ensemble. {summary}"
    )
    accuracy = findings.accuracy
    if len(set(accuracy["model"])) > 1:  # one ensemble is one line per score
        findings = replace(findings, accuracy=accuracy.assign(model="all models"))
    return [head, *nested(_ensemble(findings, GALLERY))]


def _ensemble(findings: EntropyFindings, n_images: int) -> list[Section]:
    record, regions = findings.records[0], findings.regions
    return [
        _joint_distribution(findings.scores, regions, findings.share),
        _masked_accuracy(findings.accuracy),
        *(_region(record, regions, name, n_images) for name in REGIONS),
        Section(
            heading="Correlation of the scores",
            text="Correlation of action, entropy and loss variance over the samples, with 95 % "
            "bootstrap intervals over the samples.",
            frame=findings.correlations,
        ),
    ]


def _joint_distribution(scores: pd.DataFrame, regions: pd.DataFrame, share: float) -> Section:
    return Section(
        heading="Action against entropy",
        text="The action of each sample is its mean over the models, the entropy that of their "
        "mean prediction; both are min–max normalised. The regions of interest hold "
        f"the {share:.0%} of the samples whose action exceeds their entropy most, and the "
        f"{share:.0%} whose entropy exceeds their action most.",
        figure=figure_of(plots.joint_distribution(scores, regions)),
        caption="Joint distribution of action and entropy, with both regions of interest (paper, "
        "Fig. 6b).",
    )


def _masked_accuracy(accuracy: pd.DataFrame) -> Section:
    return Section(
        heading="Accuracy by threshold",
        text="Accuracy of the models on the samples at or above a threshold on each normalised "
        "score of the ensemble: mean over the models, 95 % confidence interval by Student's t. "
        "The lower a curve lies, the better its score finds the samples that are misclassified.",
        figure=figure_of(plots.accuracy_curves(accuracy)),
        caption="Accuracy against a threshold on action, entropy and loss variance (paper, "
        "Fig. 6c).",
    )


def _region(record: StoredRecord, regions: pd.DataFrame, name: str, n_images: int) -> Section:
    rows = regions.loc[regions["region"] == name]
    largest = rows.head(n_images)
    text = f"{len(rows)} samples have {name}: {REGIONS[name]}"
    if largest.empty:
        return Section(heading=name.capitalize(), text=text)
    figure, caption = with_caption(
        region_gallery(record, largest),
        len(largest),
        "Label → class predicted by the ensemble, and action–entropy, under each image; "
        "first the samples whose two scores differ most (paper, Fig. 7).",
    )
    columns = ["place", "sample_id", "class", "predicted", "action", "entropy", "member_accuracy"]
    return Section(
        heading=name.capitalize(),
        text=text,
        frame=largest[columns],
        figure=figure,
        caption=caption,
    )
