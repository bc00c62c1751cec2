"""Images in memory as PNG files, for what a record keeps of them."""

from PIL import Image
from torch import Tensor

from actiontrack.record.rasters import as_png

__all__ = ["to_png"]


def to_png(image: Tensor) -> bytes:
    """Encode uint8 (C, H, W), C = 1 or 3, without loss."""
    pixels = image.permute(1, 2, 0).numpy()  # (C, H, W) -> (H, W, C)
    return as_png(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels))
