"""Attributes that images have by themselves: brightness, contrast, sharpness, shape, colour."""

import contextlib
import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageFilter, ImageStat

from actiontrack.analysis.image_sizes import recorded_size
from actiontrack.analysis.tables import open_record
from actiontrack.errors import DataError, NotFoundError
from actiontrack.record.rasters import open_raster
from actiontrack.record.threads import in_threads
from actiontrack.store import StoredRecord
from actiontrack.store.files import read_below

__all__ = ["PROPERTIES", "image_properties"]

#: Columns of `image_properties` beside the ids, and what each means.
PROPERTIES: Mapping[str, str] = {
    "brightness": "mean grey value, 0 (black) to 1 (white)",
    "contrast": "standard deviation of the grey values, in the same unit",
    "sharpness": "standard deviation of their Laplacian: 0 for a flat or blurred image",
    "aspect_ratio": "width by height",
    "size": "pixels",
    "colourfulness": "after Hasler and Süsstrunk (2003): 0 for grey, above 80 for vivid",
}
_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".gif")
_THREADS = 4
_LARGEST = 255.0
_DEEPEST = 65535  # of images with 16 bits a pixel
_SCALE = 8  # of the Laplacian, so that it fits eight bits
_LAPLACIAN = ImageFilter.Kernel((3, 3), (0, 1, 0, 1, -4, 1, 0, 1, 0), scale=_SCALE, offset=128)


def image_properties(record: StoredRecord, folder: Path | None = None) -> pd.DataFrame:
    """Properties of the images of the samples of a record.

    Args:
        record: an open record.
        folder: where the images are, under the paths that the record has for them, or else under
            their ids. Default: those that the record holds or refers to; of thumbnails the size is
            that of the small copies.

    Returns:
        sample_id and a column for each of `PROPERTIES`; NaN for samples whose image is not there
        or no raster image.

    Raises:
        NotFoundError: if no sample has an image.
    """
    open_record(record)
    content = partial(_of_folder, record, folder) if folder is not None else record.image_bytes
    rows = range(record.manifest.n_samples)
    measured: dict[int, dict[str, float]] = {}

    def measure(row: int) -> None:
        with contextlib.suppress(NotFoundError, DataError):
            measured[row] = _measure(record, row, content)

    in_threads(measure, rows, _THREADS)
    if not measured:
        place = f"below {folder}" if folder is not None else "in the record"
        example = str(record.samples.sample_ids[0])
        raise NotFoundError(
            f"no image of the {len(rows)} samples was found {place}. Ids, or the paths of the "
            f"record, must be those of files, but the first id is {example!r}."
        )
    table = pd.DataFrame([measured.get(row, {}) for row in rows], columns=list(PROPERTIES))
    return pd.DataFrame({"sample_id": record.samples.sample_ids}).join(table.astype("float64"))


def _of_folder(record: StoredRecord, folder: Path, row: int) -> bytes:
    paths = record.samples.paths
    if paths is not None:
        return read_below(folder, paths[row])
    name = str(record.samples.sample_ids[row])
    for ending in _ENDINGS:
        with contextlib.suppress(NotFoundError):
            return read_below(folder, f"{name}{ending}")
    raise NotFoundError(f"no image {name!r} is below {folder}.")


def _measure(record: StoredRecord, row: int, content: Callable[[int], bytes]) -> dict[str, float]:
    image = open_raster(content(row), recorded_size=partial(recorded_size, record, row))
    grey = _grey(image)
    tones = ImageStat.Stat(grey)
    return {
        "brightness": tones.mean[0] / _LARGEST,
        "contrast": tones.stddev[0] / _LARGEST,
        "sharpness": _sharpness(grey),
        "aspect_ratio": image.width / image.height,
        "size": float(image.width * image.height),
        "colourfulness": _colourfulness(image),
    }


def _grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        deep = np.asarray(image, dtype=np.float64) * (_LARGEST / _DEEPEST)
        return Image.fromarray(deep.round().clip(0, _LARGEST).astype(np.uint8))
    return image.convert("L")


def _sharpness(grey: Image.Image) -> float:
    """Without the border, which Pillow leaves as it is."""
    if min(grey.size) < 3:
        return float("nan")
    inside = grey.filter(_LAPLACIAN).crop((1, 1, grey.width - 1, grey.height - 1))
    return ImageStat.Stat(inside).stddev[0] * _SCALE / _LARGEST


def _colourfulness(image: Image.Image) -> float:
    if image.mode in {"1", "L", "LA", "I", "F"} or image.mode.startswith("I;16"):
        return 0.0
    red, green, blue = np.moveaxis(np.asarray(image.convert("RGB"), dtype=np.float32), -1, 0)
    opponents = (red - green, (red + green) / 2 - blue)
    spread = math.hypot(*(float(one.std()) for one in opponents))
    return spread + 0.3 * math.hypot(*(float(one.mean()) for one in opponents))
