"""Encoded images for tests of exports."""

import io

import numpy as np
from PIL import Image


def photo(pixels, kind="PNG", orientation=None):
    """An encoded image, with a tag that says how to turn it."""
    image, buffer, options = Image.fromarray(pixels), io.BytesIO(), {}
    if orientation is not None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def shade(row):
    """Pixels of the sample at a position: no other one's."""
    return np.full((4, 6, 3), 5 * row, dtype=np.uint8)
