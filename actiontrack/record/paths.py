"""Names of a record's files."""

import re

from actiontrack.errors import ParameterError

__all__ = [
    "BOXES",
    "FEATURES",
    "FORMAT",
    "FORMAT_VERSION",
    "MANIFEST",
    "MAPS",
    "MAP_INDEX",
    "PICTURES",
    "PROBABILITIES",
    "SAMPLES",
    "SCORES",
    "THUMBNAILS",
    "block_path",
    "check_name",
    "map_path",
    "picture_path",
]

FORMAT = "actiontrack-record"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SAMPLES = "samples.parquet"
SCORES = "scores.parquet"
FEATURES = "features.parquet"
PROBABILITIES = "probabilities.parquet"
THUMBNAILS = "thumbnails.parquet"
BOXES = "boxes.parquet"
MAPS, PICTURES = "maps", "pictures"
MAP_INDEX = f"{MAPS}/index.parquet"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")


def check_name(argument: str, value: str) -> str:
    """A name that is safe in paths, tags and URLs: letters, digits, dot and underscore."""
    if not _NAME.fullmatch(value):
        raise ParameterError(
            argument,
            "must be 1 to 64 letters, digits, dots or underscores, starting with a letter or digit",
            value,
            "Choose a plain name such as 'test'.",
        )
    return value


def block_path(step: int) -> str:
    """Path of the block of one step inside the record."""
    return f"blocks/{step:06d}.parquet"


def map_path(number: int, folder: str = MAPS) -> str:
    """Path of a file of maps inside the record."""
    return f"{folder}/{number:06d}.parquet"


def picture_path(name: str) -> str:
    """Path of the pictures of one name, such as "label", inside the record."""
    return f"{PICTURES}/{check_name('name', name)}.parquet"
