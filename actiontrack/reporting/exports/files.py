"""Files that exports write: names that a record's text cannot abuse, and images."""

import hashlib
import json
import re
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import pandas as pd

from actiontrack.errors import DataError, NotFoundError, writing
from actiontrack.record.rasters import open_raster
from actiontrack.store import StoredRecord

__all__ = [
    "image_name",
    "image_of",
    "image_url",
    "is_png",
    "safe_name",
    "write_bytes",
    "write_csv",
    "write_json",
    "write_text",
]

_UNSAFE = re.compile(r"[^\w .()+,=@-]|^[\s.]+|[\s.]+$")
_MAX_NAME = 150  # bytes


def safe_name(text: object) -> str:
    """A file or folder name for any text: what is not plain is percent-encoded.

    >>> safe_name("../cat"), safe_name("a cat"), safe_name(".."), safe_name("")
    ('%2E%2E%2Fcat', 'a cat', '%2E%2E', '%')
    """
    name = _UNSAFE.sub(lambda found: _encoded(found[0]), str(text)) or "%"
    if len(name.encode()) > _MAX_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:12]
        name = f"{name.encode()[: _MAX_NAME - 13].decode(errors='ignore')}-{digest}"
    return name


def _encoded(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode(errors="surrogatepass"))


def image_name(record: StoredRecord, row: int) -> str:
    """Relative path of a sample's image: its own below the dataset's root, else its id as PNG."""
    paths = record.samples.paths
    if paths is not None and not record.has_thumbnails:
        parts = [safe_name(each) for each in PurePosixPath(str(paths[row])).parts if each != "/"]
        return "/".join(parts)
    return f"{safe_name(record.samples.sample_ids[row])}.png"


def image_of(record: StoredRecord, row: int) -> tuple[bytes, int, int] | None:
    """Encoded image of a sample, its width and its height; None where there is none."""
    try:
        content = record.image_bytes(row)
        with open_raster(content, decode=False) as image:
            return content, image.width, image.height
    except (NotFoundError, DataError):
        return None


def is_png(content: bytes) -> bool:
    """Whether an encoded image is a PNG; exports call every other one a JPEG."""
    return content.startswith(b"\x89PNG")


def image_url(record: StoredRecord, row: int, image_root: str) -> str:
    """Where a tool finds the image of a sample: below a root that the tool can read."""
    paths = record.samples.paths
    if paths is None:
        return f"{image_root.rstrip('/')}/{safe_name(record.samples.sample_ids[row])}.png"
    inside = "/".join(quote(each) for each in PurePosixPath(str(paths[row])).parts if each != "/")
    return f"{image_root.rstrip('/')}/{inside}"


def write_text(path: Path, text: str) -> Path:
    """Write a text file; its folder is made.

    Raises:
        StoreError: if it can't be written.
    """
    return write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file; its folder is made.

    Raises:
        StoreError: if it can't be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write JSON in UTF-8, readable by people."""
    return write_text(
        path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )


def write_csv(path: Path, frame: pd.DataFrame) -> Path:
    """Write a table as CSV."""
    return write_text(path, frame.to_csv(index=False, lineterminator="\n"))
