"""Photographs and masks on disk."""

import numpy as np
from PIL import Image

RNG = np.random.default_rng(0)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def photograph(height=6, width=8):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def mask(height=6, width=8, classes=3):
    ids = RNG.integers(0, classes, (height, width), dtype=np.uint8)
    ids[0, :classes] = np.arange(classes)
    return ids
