"""Images in memory as PNG files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from projects.pictures import to_png


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_file_has_the_pixels_of_the_image(channels, mode):
    pixels = np.random.default_rng(0).integers(256, size=(channels, 5, 7), dtype=np.uint8)
    image = Image.open(io.BytesIO(to_png(torch.from_numpy(pixels))))
    assert (image.format, image.mode, image.size) == ("PNG", mode, (7, 5))
    decoded = np.asarray(image).reshape(5, 7, channels).transpose(2, 0, 1)
    np.testing.assert_array_equal(decoded, pixels)
