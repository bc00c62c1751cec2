"""Images of samples from records and folders, which anybody may have written.

Only raster formats are opened, and none that is larger than a screen needs: a file of a few
kilobytes can hold gigabytes of pixels.
"""

import io

from PIL import Image

from actiontrack.errors import DataError

__all__ = [
    "FORMATS",
    "open_raster",
]

#: Formats that are opened, by Pillow's names.
FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM", "TIFF")
_MAX_BYTES = 64 * 2**20
_MAX_PIXELS = 2**26
_FAILURES = (OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError)


def open_raster(content: bytes, *, decode: bool = True) -> Image.Image:
    """Open an encoded image.

    Args:
        content: the file.
        decode: whether to read the pixels now, so that nothing can fail later.

    Raises:
        DataError: if it is no raster image, or has more than 64 MiB or 2²⁶ pixels.
    """
    if len(content) > _MAX_BYTES:
        raise DataError(f"the image has {len(content)} bytes: too many to show.")
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > _MAX_PIXELS:
            raise DataError(f"the image has {image.width} × {image.height} pixels.")
        if decode:
            image.load()
    except _FAILURES as error:
        raise DataError("the file is no image that can be shown.") from error
    return image
