"""Images in memory as PNG files, for what a record keeps of them."""

import io

from PIL import Image
from torch import Tensor

__all__ = ["to_png"]


def to_png(image: Tensor) -> bytes:
    """Encode uint8 (C, H, W), C = 1 or 3, without loss."""
    pixels = image.permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()
