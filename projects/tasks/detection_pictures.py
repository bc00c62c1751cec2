"""Small pictures of single objects: what lies in a box and a little around it."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from actiontrack.record.rasters import as_png
from projects.datasets.decode import upright
from projects.datasets.voc import DetectionSplit

__all__ = ["object_pictures"]

_SIDE = 96  # pixels of the longer side of a picture
_AROUND = 0.3  # of the box's sides, on each side of it
_LEAST_AROUND = 12  # pixels
_MAX_BYTES = 64 * 2**20
_COLOUR = (1, 115, 178)  # blue of seaborn's palette for colour-blind readers, as in galleries


def object_pictures(
    images: DetectionSplit, thumbnails: str
) -> tuple[NDArray[np.str_], list[bytes]] | None:
    """A picture of each object, with its box.

    Args:
        images: The split; its files are read again.
        thumbnails: "never", "always", or "auto" for up to 2,427 objects, 64 MiB.

    Returns:
        Ids of the objects and PNG files of at most 96 pixels a side, or None.
    """
    too_many = images.n_objects * _SIDE * _SIDE * 3 > _MAX_BYTES
    if thumbnails == "never" or (thumbnails == "auto" and too_many):
        return None
    ids: list[str] = []
    pictures: list[bytes] = []
    for row, path in enumerate(images.paths):
        boxes = images.annotations[row].boxes[images.objects(row)]
        with Image.open(Path(images.root) / path) as opened:
            image = upright(opened).convert("RGB")
        ids += images.object_ids(row)
        pictures += [_picture(image, box) for box in boxes]
    return np.array(ids), pictures


def _picture(image: Image.Image, box: NDArray[np.float32]) -> bytes:
    left, top, right, bottom = box.tolist()
    x = max(_AROUND * (right - left), _LEAST_AROUND)
    y = max(_AROUND * (bottom - top), _LEAST_AROUND)
    area = (
        max(0, round(left - x)),
        max(0, round(top - y)),
        min(image.width, round(right + x)),
        min(image.height, round(bottom + y)),
    )
    crop = image.crop(area)
    scale = _SIDE / max(crop.size)
    crop = crop.resize([max(1, round(side * scale)) for side in crop.size])
    inside = [
        (left - area[0]) * scale,
        (top - area[1]) * scale,
        (right - area[0]) * scale - 1,
        (bottom - area[1]) * scale - 1,
    ]
    ImageDraw.Draw(crop).rectangle(inside, outline=_COLOUR)
    return as_png(crop)
