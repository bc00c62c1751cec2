"""Images of samples for other programs: their files, their names and their addresses."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath
from urllib.parse import quote

from PIL import Image

from actiontrack.analysis.image_sizes import recorded_size
from actiontrack.errors import DataError, NotFoundError, ParameterError
from actiontrack.record.escaping import distinct_names, joined_name, safe_name
from actiontrack.record.rasters import EncodedImage, browser_image, encoded_image, open_raster
from actiontrack.store import StoredRecord

__all__ = [
    "browser_file",
    "flat_names",
    "image_address",
    "image_names",
    "image_of",
    "raster_of",
]

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")  # one letter is the drive of a path
#: Addresses with these schemes are percent-encoded; those of stores (s3, gs, azure-blob) hold the
#: key of an object as it is.
_PERCENT_ENCODED = frozenset({"http", "https", "file", "ftp"})
#: What ends a key for a reader that splits addresses as URLs, or is left out by it.
_NOT_IN_KEYS = re.compile(r"[?\t\r\n]")


def image_of(record: StoredRecord, row: int) -> EncodedImage | None:
    """The image file of the sample at a row position; None where there is none."""
    try:
        return encoded_image(record.image_bytes(row), partial(recorded_size, record, row))
    except (NotFoundError, DataError):
        return None


def browser_file(record: StoredRecord, row: int) -> tuple[bytes, str] | None:
    """Image of the sample at a row position for a browser, and its MIME type; None without."""
    try:
        return browser_image(record.image_bytes(row), partial(recorded_size, record, row))
    except (NotFoundError, DataError):
        return None


def raster_of(record: StoredRecord, row: int) -> Image.Image | None:
    """The pixels of the sample at a row position; None where there are none."""
    try:
        content = record.image_bytes(row)
        return open_raster(content, recorded_size=partial(recorded_size, record, row))
    except (NotFoundError, DataError):
        return None


def image_names(record: StoredRecord) -> list[str]:
    """A relative path for the image of every sample, in canonical order, each once.

    The sample's path below the dataset's root, else its id as PNG.
    """
    rows = range(record.manifest.n_samples)
    names = ["/".join(map(safe_name, _image_parts(record, row))) or "%" for row in rows]
    return distinct_names(names, record.samples.sample_ids.tolist())


def flat_names(record: StoredRecord, rows: Sequence[int], folders: Sequence[str]) -> list[str]:
    """FOLDER/NAME for the images at some row positions, each once, each with its ending."""
    names = [
        f"{folder}/{joined_name(_image_parts(record, row))}"
        for row, folder in zip(rows, folders, strict=True)
    ]
    sample_ids = record.samples.sample_ids
    return distinct_names(names, [sample_ids[row] for row in rows])


def _image_parts(record: StoredRecord, row: int) -> list[str]:
    """Folders and name of a sample's image as the dataset has them; its id as PNG without any."""
    paths = record.samples.paths
    if paths is None or record.has_thumbnail(row):
        return [_id_as_png(record, row)]
    return _path_parts(paths[row])


def _path_parts(path: object) -> list[str]:
    return [part for part in PurePosixPath(str(path)).parts if part != "/"]


def _id_as_png(record: StoredRecord, row: int) -> str:
    return f"{str(record.samples.sample_ids[row]) or '%'}.png"


def image_address(record: StoredRecord, row: int, image_root: str, *, is_url: bool) -> str:
    """Where a tool finds the image of a sample below a root that the tool can read.

    Args:
        record: an open record.
        row: row position of the sample.
        image_root: a folder, an address or a bucket.
        is_url: whether the tool takes a root without a scheme for part of a URL, as Label Studio
            does, or for a folder, as FiftyOne does.

    Raises:
        ParameterError: if the key of a stored object holds what Label Studio takes for its end.
    """
    paths = record.samples.paths
    parts = [safe_name(_id_as_png(record, row))] if paths is None else _path_parts(paths[row])
    scheme = _SCHEME.match(image_root)
    encode = is_url if scheme is None else scheme[1].lower() in _PERCENT_ENCODED
    inside = "/".join(quote(part) if encode else part for part in parts)
    if is_url and not encode and _NOT_IN_KEYS.search(inside):
        rule = "must lead to keys without ? and line breaks, which end the key for Label Studio"
        raise ParameterError("image_root", rule, inside, "Rename the object, or use https://.")
    return f"{image_root.rstrip('/')}/{inside}"
