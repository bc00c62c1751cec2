"""Galleries: images of samples with words under them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from actiontrack import analysis, plots
from actiontrack.errors import DataError, NotFoundError
from actiontrack.history import Classes
from actiontrack.plots.canvas import Colour, Picture
from actiontrack.record.rasters import open_raster
from actiontrack.reporting.common import pixel_unit_of
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
    titles = [f"{each} {value:.3g}" for each, value in zip(ids, rows[score], strict=True)]
    of_sample = [_shown_boxes(boxes.loc[boxes["sample_id"] == each]) for each in ids]
    return draw_samples(record, ids, titles, columns=3, boxes=of_sample)


def _shown_boxes(boxes: pd.DataFrame) -> pd.DataFrame:
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
        f"given {given}\n{'right' if 0 <= label == truth else f'true {names.of(truth)}'}\n"
        f"{value:.3g}"
        for given, label, truth, value in zip(
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
    images = [_image(record, each) for each in positions]
    others = record.picture_names
    pictures: list[dict[str, Picture]] = []
    for position, image in zip(positions, images, strict=True):
        shown: dict[str, Picture] = {"image": image}
        pictures.append(shown | {name: _picture(record, name, position) for name in others})
    maps = [record.pixel_action(each) for each in positions]
    classes = _class_colours(record, positions)
    drawn = plots.pixel_maps(pictures, maps, titles, unit=pixel_unit_of(record), classes=classes)
    return drawn, sum(each is None for each in images)


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
    position = {each: row for row, each in enumerate(record.samples.sample_ids.tolist())}
    images = [_image(record, position[each]) for each in sample_ids]
    if boxes is not None:
        boxes = [_scaled(each, image) for each, image in zip(boxes, images, strict=True)]
    drawn = plots.gallery(images, titles, columns=columns, boxes=boxes)
    return drawn, sum(each is None for each in images)


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


def _image(record: StoredRecord, sample: int) -> Image.Image | None:
    try:
        return open_raster(record.image_bytes(sample))
    except (NotFoundError, DataError):
        return None


def _picture(record: StoredRecord, name: str, position: int) -> Image.Image:
    return open_raster(record.picture_bytes(name, position))


def _class_colours(record: StoredRecord, positions: Sequence[int]) -> dict[str, Colour]:
    """Colour of each class in the palette pictures of some samples, by class."""
    found: dict[int, Colour] = {}
    for name in record.picture_names:
        for position in positions:
            image = _picture(record, name, position)
            palette = image.getpalette() if image.mode == "P" else None
            if palette is None:
                continue
            for value in np.unique(np.asarray(image)).tolist():
                red, green, blue = (each / 255 for each in palette[3 * value : 3 * value + 3])
                found[value] = (red, green, blue)
    return {analysis.class_name(record, value): found[value] for value in sorted(found)}
