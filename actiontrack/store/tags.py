"""What the tags of a run say of its records: a list of runs needs no file of any of them.

A record that is complete has its whole manifest in a tag, compressed, where it is short enough.
Its checksum and its limits are checked as those of the file are.
"""

import base64
import binascii
import tempfile
import zlib
from pathlib import Path

from actiontrack.errors import ActionTrackError
from actiontrack.record.manifest import Manifest, read_manifest, write_manifest
from actiontrack.record.paths import MANIFEST
from actiontrack.store.runs import FORMAT_TAG, MODEL_TAG, RECORD_TAG, RunInfo

__all__ = ["MANIFEST_TAG", "listed_manifest", "listed_text", "manifest_tag", "record_tags"]

MANIFEST_TAG = "actiontrack.manifest."
#: What the tag says where the manifest is too long for it, or may still change.
ELSEWHERE = f"in {MANIFEST}"
_MAX_CHARACTERS = 5000  # what every tracking store takes; it expands to 4 MB at most


def record_tags(manifest: Manifest) -> dict[str, str]:
    """The tags of a run that holds a record: by them queries find it and tables describe it."""
    tags = {
        FORMAT_TAG: str(manifest.version),
        f"{RECORD_TAG}{manifest.name}": manifest.status,
    } | manifest_tag(manifest.name, manifest if manifest.complete else None)
    if manifest.model:
        tags[MODEL_TAG] = manifest.model
    for name, text in (manifest.notes or {}).items():
        tags[f"actiontrack.{manifest.name}.{name}"] = text
    return tags


def manifest_tag(record: str, manifest: Manifest | None) -> dict[str, str]:
    """The tag that holds a record's manifest.

    Args:
        record: name of the record.
        manifest: None for one that may change: readers then go by its file.
    """
    text = ELSEWHERE if manifest is None else _packed(manifest)
    return {f"{MANIFEST_TAG}{record}": text if len(text) <= _MAX_CHARACTERS else ELSEWHERE}


def listed_manifest(run: RunInfo, record: str) -> Manifest | None:
    """The manifest of a complete record as the run's tags hold it, checked as its file would be.

    Returns:
        None where there is none, or it is no whole manifest of that record: its file then tells.
    """
    text = listed_text(run, record)
    if not text:
        return None
    try:
        manifest = _unpacked(text)
    except (ActionTrackError, binascii.Error, ValueError, zlib.error):
        return None
    return manifest if manifest.name == record and manifest.complete else None


def listed_text(run: RunInfo, record: str) -> str:
    """The tag that holds the manifest of a complete record; "" where there is none."""
    text = run.tags.get(f"{MANIFEST_TAG}{record}", ELSEWHERE)
    whole = run.record_state(record) == "complete" and len(text) <= _MAX_CHARACTERS
    return text if whole and text != ELSEWHERE else ""


def _packed(manifest: Manifest) -> str:
    """The text of a manifest's file, compressed."""
    with tempfile.TemporaryDirectory(prefix="actiontrack-") as folder:
        write_manifest(Path(folder), manifest)
        content = (Path(folder) / MANIFEST).read_bytes()
    return base64.b64encode(zlib.compress(content, 9)).decode("ascii")


def _unpacked(text: str) -> Manifest:
    content = zlib.decompress(base64.b64decode(text, validate=True))
    with tempfile.TemporaryDirectory(prefix="actiontrack-") as folder:
        path = Path(folder) / MANIFEST
        path.write_bytes(content)
        return read_manifest(path)
