"""Image files to one tensor.

Cameras store a photograph as the sensor saw it and note in its Exif data how to turn it. Every
viewer does, and so does this module: pixels are upright. What is known in stored pixels can be
turned along by `turn_box` and `turn_pixels`.

Pillow releases the GIL while it decodes, so threads help with photographs. With thumbnails they
only wait for each other: 4,000 images of 32x32 took 0.6 s in one thread and 1.0 s in four.
"""

import os
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image
from torch import Tensor
from tqdm import tqdm

from actiontrack.errors import DataError
from actiontrack.record.rasters import FIRST_ON_ITS_SIDE, TURNS
from projects.datasets.sizing import resize_and_crop

__all__ = [
    "FAILURES",
    "decode_files",
    "decode_image",
    "decode_photograph",
    "in_threads",
    "orientation_of",
    "swaps_sides",
    "turn_box",
    "turn_pixels",
    "upright",
]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

CHUNK = 64  # files per task: a future per file costs as much as decoding a small image
_MAX_THREADS = 16
SMALL = 96 * 96  # pixels; below, one thread is the fastest
FAILURES = (  # ImportError: Ultralytics has Pillow look for a plugin before it gives a file up
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, ImportError),
    Image.DecompressionBombError,
)

#: Left, top, right and bottom of a box, width and height of the stored image, to the turned box.
_BOX_TURNS: dict[int, Callable[..., tuple[float, float, float, float]]] = {
    2: lambda a, b, c, d, w, h: (w - c, b, w - a, d),  # noqa: ARG005
    3: lambda a, b, c, d, w, h: (w - c, h - d, w - a, h - b),
    4: lambda a, b, c, d, w, h: (a, h - d, c, h - b),  # noqa: ARG005
    5: lambda a, b, c, d, w, h: (b, a, d, c),  # noqa: ARG005
    6: lambda a, b, c, d, w, h: (h - d, a, h - b, c),  # noqa: ARG005
    7: lambda a, b, c, d, w, h: (h - d, w - c, h - b, w - a),
    8: lambda a, b, c, d, w, h: (b, w - c, d, w - a),  # noqa: ARG005
}


def orientation_of(image: Image.Image) -> int:
    """Exif orientation of an image whose pixels are loaded, 1 where it has none or a damaged one.

    Returns:
        1 to 8: 1 is upright, 6 and 8 are a quarter turn, 2, 4, 5 and 7 are mirrored.
    """
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*FAILURES, LookupError, TypeError, AttributeError, Warning):
        return 1  # Pillow warns of damaged Exif data, or fails
    return int(orientation) if orientation in TURNS else 1


def swaps_sides(orientation: int) -> bool:
    """Whether an image of this orientation is stored with width and height swapped."""
    return orientation >= FIRST_ON_ITS_SIDE


def upright(image: Image.Image) -> Image.Image:
    """The image as viewers show it; its mode and palette stay as they are."""
    image.load()
    turn = TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)


def turn_pixels(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn the pixels (H, W) that belong to a stored image of some Exif orientation upright."""
    turn = TURNS.get(orientation)
    return pixels if turn is None else np.array(Image.fromarray(pixels).transpose(turn))


def turn_box(
    box: NDArray[np.float64], orientation: int, size: tuple[int, int]
) -> NDArray[np.float64]:
    """Turn a box of a stored image as its Exif orientation turns the image.

    Args:
        box: (4,) left, top, right, bottom in pixels of the stored image.
        orientation: of the image, 1 to 8.
        size: Width and height of the stored image.

    Returns:
        (4,) left, top, right, bottom in pixels of the upright image.
    """
    turn = _BOX_TURNS.get(orientation)
    return box if turn is None else np.array(turn(*box.tolist(), *size))


def _as_8_bit(image: Image.Image, path: Path) -> Image.Image:
    """Keep grey, turn the rest into RGB; transparency is dropped."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode == "1":
        return image.convert("L")
    if image.mode == "F" or image.mode.startswith("I"):
        raise DataError(f"{path} has more than 8 bits a channel. Convert it to 8 bits.")
    if "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def decode_photograph(path: Path) -> tuple[Tensor, int]:
    """Decode a file, and say how it was turned.

    Args:
        path: A png, jpg, bmp or webp file.

    Returns:
        The upright pixels, as `decode_image` returns them, and the Exif orientation of the file.

    Raises:
        DataError: A missing, damaged or 16-bit file, by name.
    """
    try:
        with Image.open(path) as image:
            image.load()
            orientation = orientation_of(image)
            pixels = np.array(_as_8_bit(upright(image), path))
    except FAILURES as error:
        raise DataError(f"{path} can't be decoded ({error}). Replace or remove it.") from error
    images = torch.from_numpy(pixels)
    return images.unsqueeze(0) if images.ndim == 2 else images.permute(2, 0, 1), orientation


def decode_image(path: Path) -> Tensor:
    """Decode a file.

    Args:
        path: A png, jpg, bmp or webp file.

    Returns:
        uint8 (C, H, W), upright: C = 1 for grey and black-and-white files, else 3.

    Raises:
        DataError: A missing, damaged or 16-bit file, by name.
    """
    return decode_photograph(path)[0]


def _check_size(image: Tensor, path: Path, *, first: Tensor, first_path: Path) -> None:
    if image.shape[1:] != first.shape[1:]:
        (h, w), (h1, w1) = image.shape[1:], first.shape[1:]
        raise DataError(
            f"images must have one size: {path} is {w}x{h} and {first_path} is {w1}x{h1}. "
            f"Pass --image_size {min(h, w, h1, w1)} to resize and crop them."
        )


def _stack(images: list[Tensor]) -> Tensor:
    """Stack images; grey ones become RGB unless all are grey."""
    channels = max(len(image) for image in images)
    return torch.stack([image.expand(channels, -1, -1) for image in images])


def _threads(image: Tensor) -> int:
    if image[0].numel() < SMALL:
        return 1
    return min(_MAX_THREADS, os.cpu_count() or 1)


def decode_files(paths: Sequence[Path], *, image_size: int, title: str) -> Tensor:
    """Decode files of one size, or bring them to one.

    Args:
        paths: At least one file.
        image_size: Side of the square to resize and crop to; 0 keeps the stored size.
        title: Words beside the progress bar (on stderr, only in a terminal).

    Returns:
        uint8 (N, C, H, W) in the order of the paths; C = 1 if all files are grey, else 3.

    Raises:
        DataError: A file that can't be decoded, or sizes that differ while `image_size` is 0.
    """
    stored = decode_image(paths[0])
    first = resize_and_crop(stored, image_size)

    def decode(chunk: Sequence[Path]) -> list[Tensor]:
        images = [resize_and_crop(decode_image(path), image_size) for path in chunk]
        for image, path in zip(images, chunk, strict=True):
            _check_size(image, path, first=first, first_path=paths[0])
        return images

    images: list[Tensor] = []
    chunks = [paths[i : i + CHUNK] for i in range(0, len(paths), CHUNK)]
    with (
        ThreadPoolExecutor(_threads(stored)) as pool,
        tqdm(total=len(paths), desc=title, unit="image", disable=None, leave=False) as bar,
    ):
        for decoded in pool.map(decode, chunks):
            images += decoded
            bar.update(len(decoded))
    return _stack(images)


def in_threads(
    read: Callable[[_Item], _Result], items: Sequence[_Item], *, title: str
) -> list[_Result]:
    """Read images in several threads.

    Args:
        read: reads one image.
        items: what to read, one per image.
        title: words beside the progress bar (on stderr, only in a terminal).

    Returns:
        The results, in the order of the items.
    """
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        results = pool.map(read, items)
        total = len(items)
        bar = tqdm(results, total=total, desc=title, unit="image", disable=None, leave=False)
        return list(bar)
