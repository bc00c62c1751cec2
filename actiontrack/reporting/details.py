"""Sections on what one record holds beyond its scores: curves, features, parts, pixels."""

import pandas as pd

from actiontrack import analysis, plots
from actiontrack.analysis.sentences import (
    describe_clusters,
    describe_neighbours,
    describe_pixel_classes,
    describe_stability,
)
from actiontrack.errors import ParameterError
from actiontrack.reporting.common import GALLERY, figure_of, pixel_unit_of, unit_of
from actiontrack.reporting.document import Section
from actiontrack.reporting.pictures import (
    draw_samples,
    gallery,
    has_pixel_classes,
    neighbour_gallery,
    pixel_figure,
    with_caption,
)
from actiontrack.store import StoredRecord

__all__ = ["CLUSTERS", "NEIGHBOURS", "QUERIES", "detail_sections", "extremes", "stability_section"]

QUERIES, NEIGHBOURS = 6, 8
CLUSTERS = 3
_OF_COMPONENT = 6  # hardest and easiest samples shown for each part of a loss
_CURVES = 6
_MAPS = 4  # hardest and easiest samples shown with the action of their pixels
_MIN_STEPS = 3  # below, a curve has no shape


def detail_sections(
    record: StoredRecord,
    scores: pd.DataFrame,
    *,
    n_clusters: int = CLUSTERS,
    n_queries: int = QUERIES,
    n_neighbours: int = NEIGHBOURS,
) -> list[Section]:
    """What a record holds: curves, clusters, parts of the loss, pixels, features, neighbours.

    Args:
        record: an open record.
        scores: its score frame.
        n_clusters: clusters of loss curves.
        n_queries: hardest samples whose neighbours are shown, where features are recorded.
        n_neighbours: neighbours of each.
    """
    return [
        _curves(record),
        *_clusters(record, n_clusters),
        *_component_extremes(record, scores),
        *_pixel_sections(record, scores),
        *_feature_section(record),
        *_neighbours(record, n_queries, n_neighbours),
    ]


def _curves(record: StoredRecord) -> Section:
    curves = analysis.loss_curves([record], n=_CURVES)
    return Section(
        heading="Loss of the hardest samples",
        text="Loss against step of the samples with the largest action.",
        figure=figure_of(plots.loss_curves(curves)),
        caption="A loss that rises while the model learns marks a sample that contradicts the "
        "others: often a wrong label (paper, Fig. 3).",
    )


def _clusters(record: StoredRecord, k: int = CLUSTERS) -> list[Section]:
    if record.manifest.n_steps < _MIN_STEPS:
        return []
    try:
        clusters = analysis.curve_clusters(record, k)
    except ParameterError:  # fewer distinct curves than clusters
        return []
    first = clusters.loc[clusters["step"] == clusters["step"].min()]
    section = Section(
        heading="Clusters of loss curves",
        text=describe_clusters(clusters),
        frame=first[["cluster", "trend", "n_samples", "kind", "sample_id", "class"]],
        figure=figure_of(plots.curve_clusters(clusters)),
        caption="Centres of k-means over all loss curves, and the three curves closest to each "
        "(paper, Fig. 2).",
    )
    closest = first.query("kind == 'closest'")
    titles = [
        f"{cluster}: {name}"
        for cluster, name in zip(closest["cluster"], closest["class"], strict=True)
    ]
    drawn, missing = draw_samples(record, closest["sample_id"].tolist(), titles, columns=3)
    if missing == len(closest):
        return [section]
    caption = "Cluster and label under each image, one row per cluster (paper, Fig. 2)."
    heading = "Samples closest to the centre of each cluster"
    return [section, Section(heading=heading, figure=drawn, caption=caption)]


def extremes(record: StoredRecord, scores: pd.DataFrame) -> list[Section]:
    """The hardest and the easiest samples, with their images where there are any."""
    sections = []
    for heading, rows in (
        ("Hardest samples", analysis.hardest(scores, GALLERY)),
        ("Easiest samples", analysis.easiest(scores, GALLERY)),
    ):
        figure, caption = with_caption(
            gallery(record, rows),
            len(rows),
            "Label and action under each image (paper, Fig. 1, 4).",
        )
        keep = ["sample_id", "class", "action", "final_loss", "aum", "forgetting", "predicted"]
        frame = rows[[each for each in keep if each in rows.columns]]
        sections.append(Section(heading=heading, frame=frame, figure=figure, caption=caption))
    return sections


def _component_extremes(record: StoredRecord, scores: pd.DataFrame) -> list[Section]:
    """Hardest and easiest samples by the action of each part of the loss (Fig. 8 to 10)."""
    sections = []
    for name in record.manifest.components:
        column = f"action_{name}"
        for word, choose in (("Hardest", analysis.hardest), ("Easiest", analysis.easiest)):
            rows = choose(scores, _OF_COMPONENT, by=column)
            drawn, missing = gallery(record, rows, score=column)
            shown = ["sample_id", "class", column, "action"]
            section = Section(
                heading=f"{word} samples by {name.replace('_', ' ')}",
                frame=rows[shown],
                figure=drawn if missing < len(rows) else None,
                caption=f"Action of the loss {name.replace('_', ' ')} alone under each image.",
            )
            sections.append(section)
    return sections


def _pixel_sections(record: StoredRecord, scores: pd.DataFrame) -> list[Section]:
    """Which class holds the hard pixels, and where they are in the hardest and easiest samples."""
    if not record.has_maps:
        return []
    sections = []
    if has_pixel_classes(record):
        classes = analysis.pixel_classes(record)
        sections.append(
            Section(
                heading="Difficulty of pixels per class",
                text=describe_pixel_classes(classes),
                frame=classes.drop(columns=["run_id", "run_name", "model"]),
                figure=figure_of(plots.pixel_classes(classes, unit=pixel_unit_of(record))),
                caption="Mean action of the pixels of each class; the dashed line is the mean over "
                "all pixels (paper, section 4.3).",
            )
        )
        regions = analysis.pixel_regions(record)
        sections.append(
            Section(
                heading="Hardest regions",
                text="Connected pixels of one class with the largest mean action.",
                frame=regions.drop(columns=["run_id", "run_name", "model"]),
            )
        )
    for heading, rows in (
        ("Pixel actions of the hardest samples", analysis.hardest(scores, _MAPS)),
        ("Pixel actions of the easiest samples", analysis.easiest(scores, _MAPS)),
    ):
        figure, _ = pixel_figure(record, rows)
        caption = "Loss of each pixel, accumulated over training (paper, eq. 7 and Fig. 11)."
        sections.append(Section(heading=heading, figure=figure, caption=caption))
    return sections


def _feature_section(record: StoredRecord) -> list[Section]:
    """Where the hard samples lie in feature space."""
    if not record.has_features or min(record.features().shape) < 2:
        return []
    points = analysis.feature_map(record)
    caption = "Each sample in the plane of its features, coloured by its action (supplement)."
    if record.features().shape[1] != 2:
        caption = f"First two principal components of the features. {caption}"
    drawn = figure_of(plots.feature_scatter(points, unit=unit_of(record)))
    return [Section(heading="Samples in feature space", figure=drawn, caption=caption)]


def _neighbours(record: StoredRecord, n: int = QUERIES, k: int = NEIGHBOURS) -> list[Section]:
    k = min(k, record.manifest.n_samples - 1)
    if not record.has_features or k < 1:
        return []
    frame = analysis.neighbours(record, n=n, k=k)
    if frame.empty:
        return []
    drawn, missing = neighbour_gallery(record, frame)
    n_images = frame["query_id"].nunique() * (k + 1)
    shown = ["query_id", "query_class", "rank", "sample_id", "class", "distance", "same_class"]
    section = Section(
        heading="Nearest neighbours of the hardest samples",
        text=describe_neighbours(frame),
        frame=frame[shown],
        figure=drawn if missing < n_images else None,
        caption="Each hardest sample, then its nearest neighbours by the last feature layer, with "
        "label and distance (paper, Fig. 5).",
    )
    return [section]


def stability_section(record: StoredRecord) -> list[Section]:
    """From which step on the ranking of the samples hardly changed, if there are enough steps."""
    if record.manifest.n_steps < _MIN_STEPS:
        return []
    frame = analysis.stability([record])
    return [
        Section(
            heading="When recording could have stopped",
            text=describe_stability(frame),
            frame=frame.pivot(index="step", columns="method", values="value")  # noqa: PD010 - 1 value a cell
            .reset_index()
            .rename_axis(columns=None),
            figure=figure_of(plots.stability_curves(frame)),
            caption="Correlation of the action after each step with the full action.",
        )
    ]
