"""Sections on action against entropy: of one run, and of an ensemble (4.1)."""

from collections.abc import Sequence

import pandas as pd

from actiontrack import analysis, plots
from actiontrack.analysis import exploration
from actiontrack.analysis.sentences import REGIONS, count_runs, describe_ensemble
from actiontrack.reporting.common import GALLERY, figure_of, nested
from actiontrack.reporting.document import Section
from actiontrack.reporting.pictures import region_gallery
from actiontrack.store import StoredRecord

__all__ = ["ensemble_sections", "entropy_sections"]

_SHARE = 0.02
_MIN_SAMPLES = 3  # below, a correlation says nothing
_MEASURES = {"entropy", "correct"}
_BY_THRESHOLD = (
    "mean over the runs, 95 % confidence interval by Student's t where there are several. The "
    "lower a curve lies, the better its score finds the samples that are misclassified."
)


def ensemble_sections(
    records: Sequence[StoredRecord],
    scores: pd.DataFrame,
    correlations: pd.DataFrame,
    *,
    share: float = _SHARE,
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
    regions = analysis.ensemble_regions(scores, share=share)
    accuracy = analysis.ensemble_accuracy(records, scores)
    marked = scores.merge(regions[["sample_id", "region"]], on="sample_id", how="left")
    return [
        *_findings(
            records,
            scores=scores,
            regions=regions,
            accuracy=accuracy,
            correlations=correlations,
            share=share,
            n_images=n_images,
        ),
        Section(heading="Runs", text="The models.", frame=analysis.runs_frame(records)),
        Section(
            heading="Accuracy at each threshold",
            text="The curves of accuracy by threshold, as numbers.",
            frame=analysis.accuracy_summary(accuracy),
        ),
        Section(
            heading="Every sample",
            text="Scores of the ensemble, the hardest sample first.",
            frame=marked.sort_values("action", ascending=False, kind="stable", ignore_index=True),
        ),
    ]


def entropy_sections(records: Sequence[StoredRecord]) -> list[Section]:
    """What entropy says that action does not, as far as the records tell (4.1).

    Args:
        records: open records of the same samples: one run, or several. Where all hold the class
            probabilities of their final models, they are taken as an ensemble.

    Returns:
        Nothing without entropies.
    """
    ensemble = len(records) > 1 and all(each.has_probabilities for each in records)
    if min(each.manifest.n_samples for each in records) < _MIN_SAMPLES:
        return []
    if ensemble and all(each.samples.labels is not None for each in records):
        return _entropy_of_ensemble(records)
    if not all(set(each.manifest.measures) >= _MEASURES for each in records):
        return []
    first = exploration.action_and_entropy(records[:1])
    regions = analysis.ensemble_regions(first, share=_SHARE)
    axes = plots.joint_distribution(first, regions)
    axes.set(xlabel="final entropy, normalised", ylabel="action, normalised")
    counts = [
        f"{len(rows)} samples have {name}, {rows['correct'].mean():.1%} of them predicted right: "
        f"{meaning.replace('models tend', 'model tends')}"
        for name, meaning in REGIONS.items()
        if len(rows := regions.loc[regions["region"] == name])
    ]
    joint = Section(
        heading="Action against entropy",
        text=f"Action and final predictive entropy of {_named(records)}, both min–max normalised. "
        "The regions hold the samples on which the two disagree most.\n\n" + " ".join(counts),
        frame=regions[["region", "place", "sample_id", "class", "action", "entropy", "correct"]],
        figure=figure_of(axes),
        caption="Joint distribution of action and final entropy (paper, Fig. 6b).",
    )
    accuracy = analysis.accuracy_by_threshold(records)
    masked = Section(
        heading="Accuracy by threshold",
        text="Accuracy on the samples at or above a threshold on each score, normalised within "
        f"its run: {_BY_THRESHOLD}",
        figure=figure_of(plots.accuracy_curves(accuracy)),
        caption="Accuracy against a threshold on action, final entropy and loss variance (paper, "
        "Fig. 6c).",
    )
    return [joint, masked]


def _named(records: Sequence[StoredRecord]) -> str:
    return "the run" if len(records) == 1 else f"run {records[0].run.name}, the first of them"


def _entropy_of_ensemble(records: Sequence[StoredRecord]) -> list[Section]:
    scores = analysis.ensemble_scores(records)
    correlations = analysis.ensemble_correlations(scores)
    regions = analysis.ensemble_regions(scores, share=_SHARE)
    accuracy = analysis.ensemble_accuracy(records, scores)
    if len(set(accuracy["model"])) > 1:  # one ensemble is one line per score
        accuracy = accuracy.assign(model="all models")
    told = describe_ensemble(scores, regions, correlations, len(records))
    head = Section(
        heading="Entropy",
        text=f"The {count_runs(len(records))} taken as one ensemble. {told}",
    )
    found = _findings(
        records, scores=scores, regions=regions, accuracy=accuracy, correlations=correlations
    )
    return [head, *nested(found)]


def _findings(
    records: Sequence[StoredRecord],
    *,
    scores: pd.DataFrame,
    regions: pd.DataFrame,
    accuracy: pd.DataFrame,
    correlations: pd.DataFrame,
    share: float = _SHARE,
    n_images: int = GALLERY,
) -> list[Section]:
    return [
        _joint_distribution(scores, regions, share),
        _masked_accuracy(accuracy),
        *(_region(records[0], regions, name, n_images) for name in REGIONS),
        Section(
            heading="Correlation of the scores",
            text="Correlation of action, entropy and loss variance over the samples, with 95 % "
            "bootstrap intervals over the samples.",
            frame=correlations,
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
    shown = rows.head(n_images)
    text = f"{len(rows)} samples have {name}: {REGIONS[name]}"
    if shown.empty:
        return Section(heading=name.capitalize(), text=text)
    figure, missing = region_gallery(record, shown)
    columns = ["place", "sample_id", "class", "predicted", "action", "entropy", "member_accuracy"]
    return Section(
        heading=name.capitalize(),
        text=text,
        frame=shown[columns],
        figure=figure if missing < len(shown) else None,
        caption="Label → class predicted by the ensemble, and action–entropy, under each image; "
        "first the samples whose two scores differ most (paper, Fig. 7).",
    )
