"""Whether a record is whole: every file that its manifest names, as it was written."""

from collections.abc import Callable
from typing import Any

from actiontrack.errors import ActionTrackError
from actiontrack.record.parquet import verified_file
from actiontrack.record.paths import SAMPLES, SCORES, TOKENS
from actiontrack.record.tokens import read_tokens
from actiontrack.store.record import StoredRecord
from actiontrack.store.tokens import has_tokens, token_index

__all__ = ["damaged_files", "unreadable_tables"]


def damaged_files(record: StoredRecord, *, tables_only: bool = False) -> list[str]:
    """What is wrong with the files of a record: missing, truncated or altered ones.

    Args:
        record: an open record.
        tables_only: look at samples, scores and losses, and not at images, maps and features.

    Returns:
        One message per damaged file, in the order of the manifest; none for a whole record.
    """
    losses = {block.path for block in record.manifest.blocks}
    paths = [
        path
        for path in record.manifest.files
        if not tables_only or path in {SAMPLES, SCORES} or path in losses
    ]
    messages = (
        _failure(lambda path=path: verified_file(record.manifest, path, record.fetch))  # type: ignore[misc]
        for path in paths
    )
    return [message for message in messages if message]


def unreadable_tables(record: StoredRecord) -> list[str]:
    """What is wrong with the tables of a record whose files are as the manifest says.

    Returns:
        One message per table that can't be read, or does not fit the others.
    """
    readers: list[Callable[[], Any]] = [lambda: record.samples, lambda: record.boxes]
    if record.manifest.n_steps:
        readers += [record.history, record.scores]
    optional = (
        (record.has_features, record.features),
        (record.has_probabilities, record.probabilities),
        (record.has_maps, lambda: record.map_index),
        (has_tokens(record), lambda: token_index(record)),
        (TOKENS in record.manifest.files, lambda: read_tokens(record.manifest, record.fetch)),
    )
    readers += [read for held, read in optional if held]
    return [message for message in map(_failure, readers) if message]


def _failure(read: Callable[[], Any]) -> str:
    """The error message if reading fails, else the empty string."""
    try:
        read()
    except ActionTrackError as error:
        return str(error)
    return ""
