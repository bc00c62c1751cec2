"""Bringing images to one size: resize the shorter side, then crop the centre."""

from torch import Tensor
from torchvision.transforms.v2 import functional

__all__ = ["resize_and_crop"]


def resize_and_crop(images: Tensor, size: int) -> Tensor:
    """Resize the shorter side (bilinear, antialiased) and cut the central square out.

    Args:
        images: uint8 (..., C, H, W).
        size: Side of the square in pixels; 0 returns the images as they are.

    Returns:
        uint8 (..., C, size, size).
    """
    if size == 0 or images.shape[-2:] == (size, size):
        return images
    resized: Tensor = functional.resize(images, [size], antialias=True)
    cropped: Tensor = functional.center_crop(resized, [size, size])
    return cropped
