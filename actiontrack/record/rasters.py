"""Images of samples from records and folders: untrusted input.

Only raster formats are opened, and none that is larger than a screen needs: a file of a few
kilobytes can hold gigabytes of pixels.

A photograph may lie on its side in its file, with a tag that says how to turn it. Browsers and
annotation tools heed the tag; training code often does not. Images are handed out as the tag says,
unless boxes or maps were recorded on the pixels as they are stored.
"""

import io
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from actiontrack.errors import DataError, ParameterError

__all__ = [
    "FIRST_ON_ITS_SIDE",
    "FORMATS",
    "TURNS",
    "EncodedImage",
    "RecordedSize",
    "as_png",
    "as_raster",
    "browser_image",
    "encoded_image",
    "open_raster",
    "unit_pixels",
]

#: Formats that are opened, by Pillow's names.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM", "TIFF")
_ENDINGS = {
    "PNG": "png", "JPEG": "jpg", "GIF": "gif", "WEBP": "webp",
    "BMP": "bmp", "PPM": "ppm", "TIFF": "tif",
}  # fmt: skip
_BROWSER_TYPES = {
    "PNG": "image/png", "JPEG": "image/jpeg", "GIF": "image/gif", "WEBP": "image/webp",
}  # fmt: skip
_MAX_BYTES = 64 * 2**20
_MAX_PIXELS = 2**26
#: ImportError: Ultralytics replaces Pillow's `open` by one that asks for a plugin (pi-heif) where
#: Pillow can't tell what a file is.
_FAILURES = (
    *(OSError, SyntaxError, ValueError, EOFError, MemoryError, ImportError),
    Image.DecompressionBombError,
)
_TAG_FAILURES = (*_FAILURES, struct.error, KeyError, IndexError, TypeError, OverflowError)

#: How an image is turned upright, by the value of its tag (EXIF 2.32, tag 0x0112).
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_UPRIGHT = 1
#: The first of the values of the tag that exchange width and height.
FIRST_ON_ITS_SIDE = 5

#: Gives width and height of the image that boxes or a map were recorded on, None without any.
RecordedSize = Callable[[], "tuple[float, float] | None"]


class EncodedImage(NamedTuple):
    """An image file.

    Attributes:
        content: the file.
        width: in pixels, as programs show it that heed the tag of its orientation.
        height: likewise.
        ending: of a file with this content, such as "png".
    """

    content: bytes
    width: int
    height: int
    ending: str


def open_raster(
    content: bytes, *, decode: bool = True, recorded_size: RecordedSize | None = None
) -> Image.Image:
    """Open an encoded image.

    Args:
        content: the file.
        decode: whether to read the pixels now, so that nothing can fail later, and to turn the
            image as the tag of its orientation says.
        recorded_size: of the image that boxes or a map were recorded on. An image stays as it is
            stored where that is the size that fits.

    Raises:
        DataError: if it is no raster image, or has more than 64 MiB or 2²⁶ pixels.
    """
    if len(content) > _MAX_BYTES:
        raise DataError(f"the image has {len(content)} bytes: too many to show.")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > _MAX_PIXELS:
            raise DataError(f"the image has {image.width} × {image.height} pixels.")
        if not decode:
            return image
        image.load()
        orientation = _orientation(image, content)
        if orientation == _UPRIGHT or _is_recorded_as_stored(image, orientation, recorded_size):
            return image
        return image.transpose(TURNS[orientation])
    except _FAILURES as error:
        raise DataError("the file is no image that can be shown.") from error


def encoded_image(content: bytes, recorded_size: RecordedSize | None = None) -> EncodedImage:
    """The file of an image, with the size that programs show.

    Args:
        content: the file.
        recorded_size: see `open_raster`. An image whose boxes or map were recorded on its stored
            pixels becomes a PNG without a tag.

    Raises:
        DataError: if it is no raster image, or too large.
    """
    with open_raster(content, decode=False) as image:
        ending, orientation = _ENDINGS[_format(image)], _orientation(image, content)
        width, height = image.size
        if orientation == _UPRIGHT:
            return EncodedImage(content, width, height, ending)
        if _is_recorded_as_stored(image, orientation, recorded_size):
            stored = as_png(open_raster(content, recorded_size=recorded_size))
            return EncodedImage(stored, width, height, _ENDINGS["PNG"])
    if orientation >= FIRST_ON_ITS_SIDE:
        width, height = height, width
    return EncodedImage(content, width, height, ending)


def browser_image(content: bytes, recorded_size: RecordedSize | None = None) -> tuple[bytes, str]:
    """An image that every browser shows, and its MIME type.

    PNG, JPEG, GIF and WebP stay as they are; the others become PNG. So do images on their side,
    but for JPEG, which every browser turns.

    Args:
        content: the file.
        recorded_size: see `open_raster`.

    Raises:
        DataError: if it is no raster image, or too large.
    """
    with open_raster(content, decode=False) as image:
        name, orientation = _format(image), _orientation(image, content)
        turned = name == "JPEG" and not _is_recorded_as_stored(image, orientation, recorded_size)
        if name in _BROWSER_TYPES and (orientation == _UPRIGHT or turned):
            return content, _BROWSER_TYPES[name]
    return as_png(open_raster(content, recorded_size=recorded_size)), _BROWSER_TYPES["PNG"]


def as_png(image: Image.Image) -> bytes:
    """An image as a PNG file."""
    buffer = io.BytesIO()
    modes = {"1", "L", "LA", "P", "RGB", "RGBA"}
    (image if image.mode in modes else image.convert("RGB")).save(buffer, format="PNG")
    return buffer.getvalue()


def as_raster(array: npt.NDArray[Any]) -> Image.Image:
    """An array as an image, see `unit_pixels`; NaN is black."""
    pixels = array
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    if pixels.dtype != np.uint8 or (pixels.ndim != 2 and pixels.shape[-1] not in (3, 4)):
        pixels = np.rint(255 * np.nan_to_num(unit_pixels(pixels))).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels))


def unit_pixels(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Pixels to float64 in [0, 1], (H, W) or (H, W, 3 or 4).

    Args:
        array: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8, or of other numbers in [0, 1]: a
            wider range is stretched to it.

    Raises:
        ParameterError: if it has another shape, or holds no numbers.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        remedy = "Put the channels last."
        raise ParameterError("images", "must have shape (H, W[, 1, 3 or 4])", array.shape, remedy)
    if array.dtype == np.uint8:
        return array / 255.0
    if array.dtype.kind not in "biuf":
        remedy = "Pass numbers, a PIL image, or the path of a file."
        raise ParameterError("images", "must hold numbers", array.dtype, remedy)
    pixels = array.astype(np.float64)
    low, high = np.nanmin(pixels, initial=0.0), np.nanmax(pixels, initial=1.0)
    return np.asarray((pixels - low) / (high - low))


def _format(image: Image.Image) -> str:
    """Pillow's name of the format; MPO is a JPEG that holds further ones."""
    return "JPEG" if image.format == "MPO" else str(image.format)


def _orientation(image: Image.Image, content: bytes) -> int:
    """The tag's value from 1 to 8; 1, upright, where there is none that can be read."""
    if image.format == "TIFF":
        return _UPRIGHT  # Pillow has turned it
    if image.format == "PNG" and b"eXIf" not in content:
        return _UPRIGHT  # else Pillow would read all pixels to look for it behind them
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
    except _TAG_FAILURES:
        return _UPRIGHT
    return value if value in TURNS else _UPRIGHT


def _is_recorded_as_stored(
    image: Image.Image, orientation: int, recorded_size: RecordedSize | None
) -> bool:
    """Whether boxes or a map fit the image as it is stored, and not as it is shown."""
    if orientation < FIRST_ON_ITS_SIDE or recorded_size is None:
        return False
    size = recorded_size()
    if size is None:
        return False
    width, height = size
    as_stored = abs(width * image.height - height * image.width)
    as_shown = abs(width * image.width - height * image.height)
    return as_stored < as_shown
