"""Names of a record's files."""

import re

from actiontrack.errors import ParameterError

__all__ = [
    "BLOCKS",
    "BOXES",
    "FEATURES",
    "FORMAT",
    "FORMAT_VERSION",
    "LOSSES",
    "MANIFEST",
    "MAPS",
    "MAP_INDEX",
    "PICTURES",
    "PROBABILITIES",
    "SAMPLES",
    "SCORES",
    "THUMBNAILS",
    "TOKENS",
    "block_path",
    "check_name",
    "losses_path",
    "map_path",
    "picture_path",
]

#: What a manifest calls its format.
FORMAT = "actiontrack-record"
#: The newest version of the format that this version writes and reads.
FORMAT_VERSION = 2
#: File that names all others, written last.
MANIFEST = "manifest.json"
#: File of ids, labels, paths and digests.
SAMPLES = "samples.parquet"
#: Folder of the files of losses, one for each step, of a record of format 1.
BLOCKS = "blocks"
#: Folder of the files of losses.
LOSSES = "losses"
#: File of the score table.
SCORES = "scores.parquet"
#: File of last-layer features.
FEATURES = "features.parquet"
#: File of the final model's class probabilities.
PROBABILITIES = "probabilities.parquet"
#: File of one small PNG per sample.
THUMBNAILS = "thumbnails.parquet"
#: File of annotated and predicted boxes.
BOXES = "boxes.parquet"
#: File of the texts of tokens.
TOKENS = "tokens.parquet"
#: Folder of the maps of pixel actions.
MAPS = "maps"
#: Folder of pictures, such as labels and predictions.
PICTURES = "pictures"
#: File that says which file holds the map of each sample.
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
    """Path of the block of one step inside a record of format 1."""
    return f"{BLOCKS}/{step:06d}.parquet"


def losses_path(number: int) -> str:
    """Path of a file of losses inside the record. No number comes twice in a record."""
    return f"{LOSSES}/{number:06d}.parquet"


def map_path(number: int, folder: str = MAPS) -> str:
    """Path of a file of maps inside the record."""
    return f"{folder}/{number:06d}.parquet"


def picture_path(name: str) -> str:
    """Path of the pictures of one name, such as "label", inside the record."""
    return f"{PICTURES}/{check_name('name', name)}.parquet"
