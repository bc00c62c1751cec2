"""Images of samples that a record refers to and does not hold."""

from collections.abc import Callable, Sequence
from pathlib import Path

from actiontrack.errors import NotFoundError
from actiontrack.record.manifest import Manifest
from actiontrack.store.files import read_below

__all__ = ["image_of_source"]


def image_of_source(
    manifest: Manifest, owner: str, paths: Callable[[], Sequence[str] | None], sample: int
) -> bytes:
    """Encoded image of a sample, from the recorded root of the dataset, never from outside it.

    Args:
        manifest: the record's manifest.
        owner: the record and its run, for messages.
        paths: reads the paths of the samples, relative to the root.
        sample: row position in canonical order.

    Raises:
        NotFoundError: if the record refers to no image, or it is not there.
    """
    if manifest.hides_images:
        raise NotFoundError(f"{owner} was made without images on purpose: there are none to show.")
    if manifest.has_hashed_ids:
        raise NotFoundError(
            f"{owner} holds hashes in place of ids and no thumbnail of this sample: its image "
            "can't be found. Record with thumbnails to see images."
        )
    source = manifest.source or {}
    relative = paths() if source.get("kind") == "folder" and "root" in source else None
    if relative is None:
        raise NotFoundError(
            f"{owner} refers to no image files and holds no thumbnail of this sample. Record with "
            "thumbnails to see images."
        )
    return read_below(Path(str(source["root"])), relative[sample])
