"""Galleries: images of samples with words under them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from actiontrack import analysis, plots
from actiontrack.history import Classes
from actiontrack.plots.canvas import Colour, Picture
from actiontrack.record.rasters import open_raster
from actiontrack.reporting.common import pixel_unit_of
from actiontrack.reporting.exports.images import raster_of
from actiontrack.store import StoredRecord

__all__ = [
    "draw_samples",
    "gallery",
    "has_pixel_classes",
    "neighbour_gallery",
    "noise_gallery",
    "pixel_figure",
    "region_gallery",
    "with_caption",
]

LABEL = "label"  # name of the pictures whose pixel values are classes
_SHOWN_SCORE = 0.5  # of predicted boxes in a gallery
_MORE_BOXES = 5  # predicted boxes that are drawn beyond the number of annotated ones


def gallery(
    record: StoredRecord, rows: pd.DataFrame, *, score: str = "action"
) -> tuple[Figure, int]:
    """Images of samples with label and score under each (Fig. 1, 4), with boxes where logged.

    Args:
        record: where the images are referred to or stored.
        rows: rows of a score frame of this record.
        score: score to show.

    Returns:
        The figure, and how many images could not be had.
    """
    titles = [
        f"{label} {value:.3g}" for label, value in zip(rows["class"], rows[score], strict=True)
    ]
    ids = rows["sample_id"].tolist()
    boxes = record.boxes
    if boxes is None:
        return draw_samples(record, ids, titles)
    titles = [f"{sample_id} {value:.3g}" for sample_id, value in zip(ids, rows[score], strict=True)]
    of_sample = [_boxes_to_draw(boxes.loc[boxes["sample_id"] == sample_id]) for sample_id in ids]
    return draw_samples(record, ids, titles, columns=3, boxes=of_sample)


def _boxes_to_draw(boxes: pd.DataFrame) -> pd.DataFrame:
    """Annotated boxes of an image and the most confident predictions, few enough to be read."""
    truth = boxes.loc[boxes["kind"] == "truth"]
    confident = boxes.loc[(boxes["kind"] == "predicted") & (boxes["score"] >= _SHOWN_SCORE)]
    return pd.concat([truth, confident.nlargest(len(truth) + _MORE_BOXES, "score")])


def noise_gallery(
    record: StoredRecord, rows: pd.DataFrame, *, score: str = "action"
) -> tuple[Figure, int]:
    """Images of samples with given label, true label and score under each (4.4).

    Args:
        record: where the images are referred to or stored; its samples have true labels.
        rows: rows of a score frame of this record.
        score: score to show.

    Returns:
        The figure, and how many images could not be had.
    """
    names = Classes(record.manifest.class_names)
    titles = [
        f"given {given_class}\n"
        f"{'right' if 0 <= label == truth else f'true {names.of(truth)}'}\n"
        f"{value:.3g}"
        for given_class, label, truth, value in zip(
            rows["class"], rows["label"], rows["true_label"], rows[score], strict=True
        )
    ]
    return draw_samples(record, rows["sample_id"].tolist(), titles)


def region_gallery(record: StoredRecord, rows: pd.DataFrame) -> tuple[Figure, int]:
    """Images of samples with label, prediction, action and entropy under each (Fig. 7).

    Args:
        record: where the images are referred to or stored.
        rows: rows of the frame of `analysis.ensemble_regions`.

    Returns:
        The figure, and how many images could not be had.
    """
    titles = [
        f"{label} → {predicted}\n{action:.2f}–{entropy:.2f}"
        for label, predicted, action, entropy in zip(
            rows["class"], rows["predicted"], rows["action"], rows["entropy"], strict=True
        )
    ]
    return draw_samples(record, rows["sample_id"].tolist(), titles)


def neighbour_gallery(record: StoredRecord, neighbours: pd.DataFrame) -> tuple[Figure, int]:
    """A row of images for each sample: itself, then its nearest neighbours (Fig. 5).

    Args:
        record: where the images are referred to or stored.
        neighbours: frame of `analysis.neighbours` of this record.

    Returns:
        The figure, and how many images could not be had.
    """
    ids: list[object] = []
    titles: list[str] = []
    for query, rows in neighbours.groupby("query_id", sort=False):
        ids += [query, *rows["sample_id"].tolist()]
        titles.append(f"sample {query}: {rows['query_class'].iloc[0]}")
        titles += [
            f"{name} {distance:.3g}"
            for name, distance in zip(rows["class"], rows["distance"], strict=True)
        ]
    columns = 1 + int(neighbours["rank"].max()) if len(neighbours) else 1
    return draw_samples(record, ids, titles, columns=columns)


def pixel_figure(record: StoredRecord, rows: pd.DataFrame) -> tuple[Figure, int]:
    """Image, pictures such as label and prediction, and pixel actions of samples (Fig. 11).

    Args:
        record: an open record that holds maps.
        rows: rows of a score frame of this record, one per sample to show.

    Returns:
        The figure, and how many images could not be had.

    Raises:
        NotFoundError: if the record holds no maps.
    """
    positions = analysis.positions(record, rows["sample_id"].tolist())
    titles = [
        f"{name}\n{value:.3g}"
        for name, value in zip(rows["sample_id"], rows["action"], strict=True)
    ]
    images = [raster_of(record, position) for position in positions]
    others = record.picture_names
    pictures: list[dict[str, Picture]] = []
    for position, image in zip(positions, images, strict=True):
        first: dict[str, Picture] = {"image": image}
        pictures.append(first | {name: _picture(record, name, position) for name in others})
    maps = [record.pixel_action(position) for position in positions]
    classes = _class_colours(record, positions)
    drawn = plots.pixel_maps(pictures, maps, titles, unit=pixel_unit_of(record), classes=classes)
    return drawn, sum(image is None for image in images)


def has_pixel_classes(record: StoredRecord) -> bool:
    """Whether a record holds maps, and labels that tell the class of each pixel."""
    return record.has_maps and LABEL in record.picture_names


def draw_samples(
    record: StoredRecord,
    sample_ids: Sequence[object],
    titles: Sequence[str],
    *,
    columns: int = 6,
    boxes: Sequence[pd.DataFrame] | None = None,
) -> tuple[Figure, int]:
    """Images of samples with a title under each, and how many could not be had."""
    position = {sample_id: row for row, sample_id in enumerate(record.samples.sample_ids.tolist())}
    images = [raster_of(record, position[sample_id]) for sample_id in sample_ids]
    if boxes is not None:
        boxes = [_scaled(frame, image) for frame, image in zip(boxes, images, strict=True)]
    drawn = plots.gallery(images, titles, columns=columns, boxes=boxes)
    return drawn, sum(image is None for image in images)


def with_caption(
    drawn: tuple[Figure, int], n_images: int, caption: str
) -> tuple[Figure | None, str]:
    """Figure and caption of a gallery; without any of its images, how to get them instead."""
    figure, missing = drawn
    if missing == n_images:
        return None, "No images: record with thumbnails to see them."
    return figure, caption


def _scaled(boxes: pd.DataFrame, image: Image.Image | None) -> pd.DataFrame:
    """Boxes in pixels of the image at hand, which may be a smaller copy."""
    if image is None:
        return boxes
    x, y = image.width / boxes["width"], image.height / boxes["height"]
    factors = {"left": x, "right": x, "top": y, "bottom": y}
    return boxes.assign(**{side: boxes[side] * factor for side, factor in factors.items()})


def _picture(record: StoredRecord, name: str, position: int) -> Image.Image:
    return open_raster(record.picture_bytes(name, position))


def _class_colours(record: StoredRecord, positions: Sequence[int]) -> dict[str, Colour]:
    """Colour of each class in the palette pictures of some samples, by class."""
    colours: dict[int, Colour] = {}
    for name in record.picture_names:
        for position in positions:
            image = _picture(record, name, position)
            palette = image.getpalette() if image.mode == "P" else None
            if palette is None:
                continue
            for value in np.unique(np.asarray(image)).tolist():
                red, green, blue = (channel / 255 for channel in palette[3 * value : 3 * value + 3])
                colours[value] = (red, green, blue)
    return {analysis.class_name(record, value): colours[value] for value in sorted(colours)}
