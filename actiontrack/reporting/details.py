"""Sections on what one record holds beyond its scores: curves, features, parts, pixels."""

import pandas as pd

from actiontrack import plots
from actiontrack.analysis.sentences import (
    describe_clusters,
    describe_neighbours,
    describe_pixel_classes,
    describe_stability,
)
from actiontrack.reporting.common import figure_of, pixel_unit_of
from actiontrack.reporting.document import Section
from actiontrack.reporting.findings import DetailFindings, PixelFindings
from actiontrack.reporting.pictures import (
    draw_samples,
    gallery,
    neighbour_gallery,
    pixel_figure,
    with_caption,
)
from actiontrack.store import StoredRecord

__all__ = ["detail_sections", "extreme_sections", "stability_sections"]


def detail_sections(findings: DetailFindings) -> list[Section]:
    """What a record holds: curves, clusters, parts of the loss, pixels, features, neighbours."""
    return [
        _curves(findings.curves),
        *_clusters(findings.record, findings.clusters),
        *_component_extremes(findings),
        *_pixel_sections(findings.record, findings.pixels),
        *_feature_section(findings),
        *_neighbours(findings.record, findings.neighbours),
    ]


def _curves(curves: pd.DataFrame) -> Section:
    return Section(
        heading="Loss of the hardest samples",
        text="Loss against step of the samples with the largest action.",
        figure=figure_of(plots.loss_curves(curves)),
        caption="A loss that rises while the model learns marks a sample that contradicts the "
        "others: often a wrong label (paper, Fig. 3).",
    )


def _clusters(record: StoredRecord, clusters: pd.DataFrame | None) -> list[Section]:
    if clusters is None:
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


def extreme_sections(
    record: StoredRecord, hardest: pd.DataFrame, easiest: pd.DataFrame
) -> list[Section]:
    """The hardest and the easiest samples, with their images where there are any."""
    sections = []
    for heading, rows in (("Hardest samples", hardest), ("Easiest samples", easiest)):
        figure, caption = with_caption(
            gallery(record, rows),
            len(rows),
            "Label and action under each image (paper, Fig. 1, 4).",
        )
        names = ["sample_id", "class", "action", "final_loss", "aum", "forgetting", "predicted"]
        frame = rows[[name for name in names if name in rows.columns]]
        sections.append(Section(heading=heading, frame=frame, figure=figure, caption=caption))
    return sections


def _component_extremes(findings: DetailFindings) -> list[Section]:
    """Hardest and easiest samples by the action of each part of the loss (Fig. 8 to 10)."""
    sections = []
    for word, name, rows in findings.components:
        column, part = f"action_{name}", name.replace("_", " ")
        figure, caption = with_caption(
            gallery(findings.record, rows, score=column),
            len(rows),
            f"Action of the loss {part} alone under each image.",
        )
        frame = rows[["sample_id", "class", column, "action"]]
        heading = f"{word} samples by {part}"
        sections.append(Section(heading=heading, frame=frame, figure=figure, caption=caption))
    return sections


def _pixel_sections(record: StoredRecord, pixels: PixelFindings | None) -> list[Section]:
    """Which class holds the hard pixels, and where they are in the hardest and easiest samples."""
    if pixels is None:
        return []
    sections = [*_pixel_classes(record, pixels), *_pixel_regions(pixels)]
    for word, rows in (("hardest", pixels.hardest), ("easiest", pixels.easiest)):
        figure, _ = pixel_figure(record, rows)
        heading = f"Pixel actions of the {word} samples"
        caption = "Loss of each pixel, accumulated over training (paper, eq. 7 and Fig. 11)."
        sections.append(Section(heading=heading, figure=figure, caption=caption))
    return sections


def _pixel_classes(record: StoredRecord, pixels: PixelFindings) -> list[Section]:
    if pixels.classes is None:
        return []
    return [
        Section(
            heading="Difficulty of pixels per class",
            text=describe_pixel_classes(pixels.classes),
            frame=pixels.classes.drop(columns=["run_id", "run_name", "model"]),
            figure=figure_of(plots.pixel_classes(pixels.classes, unit=pixel_unit_of(record))),
            caption="Mean action of the pixels of each class; the dashed line is the mean over "
            "all pixels (paper, section 4.3).",
        )
    ]


def _pixel_regions(pixels: PixelFindings) -> list[Section]:
    if pixels.regions is None:
        return []
    return [
        Section(
            heading="Hardest regions",
            text="Connected pixels of one class with the largest mean action.",
            frame=pixels.regions.drop(columns=["run_id", "run_name", "model"]),
        )
    ]


def _feature_section(findings: DetailFindings) -> list[Section]:
    """Where the hard samples lie in feature space."""
    if findings.points is None:
        return []
    caption = "Each sample in the plane of its features, coloured by its action (supplement)."
    if findings.n_features != 2:
        caption = f"First two principal components of the features. {caption}"
    drawn = figure_of(plots.feature_scatter(findings.points, unit=findings.record.unit))
    return [Section(heading="Samples in feature space", figure=drawn, caption=caption)]


def _neighbours(record: StoredRecord, neighbours: pd.DataFrame | None) -> list[Section]:
    if neighbours is None:
        return []
    figure, caption = with_caption(
        neighbour_gallery(record, neighbours),
        neighbours["query_id"].nunique() + len(neighbours),
        "Each hardest sample, then its nearest neighbours by the last feature layer, with "
        "label and distance (paper, Fig. 5).",
    )
    columns = ["query_id", "query_class", "rank", "sample_id", "class", "distance", "same_class"]
    section = Section(
        heading="Nearest neighbours of the hardest samples",
        text=describe_neighbours(neighbours),
        frame=neighbours[columns],
        figure=figure,
        caption=caption,
    )
    return [section]


def stability_sections(stability: pd.DataFrame | None) -> list[Section]:
    """From which step on the ranking of the samples hardly changed, if there are enough steps."""
    if stability is None:
        return []
    table = stability.pivot(index="step", columns="method", values="value")  # noqa: PD010 - 1 value a cell
    return [
        Section(
            heading="When recording could have stopped",
            text=describe_stability(stability),
            frame=table.reset_index().rename_axis(columns=None),
            figure=figure_of(plots.stability_curves(stability)),
            caption="Correlation of the action after each step with the full action.",
        )
    ]
