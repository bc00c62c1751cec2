"""Encoded images that are safe to hand to a browser, and from where they may be read.

A record says where its images are, and whoever writes a record may write anything there. So a
server reads image files only below folders that its operator has allowed, after following links,
and hands out nothing but raster images, recognised by their content. SVG is a document that may
hold scripts: it is never handed out.
"""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from actiontrack import settings
from actiontrack.analysis.image_sizes import recorded_size
from actiontrack.errors import DataError, NotFoundError
from actiontrack.record.manifest import Manifest
from actiontrack.record.rasters import RecordedSize, as_png, browser_image
from actiontrack.store import StoredRecord

__all__ = ["ROOTS_VARIABLE", "ImageRoots", "checked", "map_png", "sample_image", "why_no_images"]

ROOTS_VARIABLE = settings.IMAGE_ROOTS.name
_RECORDED = "recorded"
_QUANTILE = 0.995  # of a map, where its colours end: as in the figures of pixel maps


@dataclass(frozen=True)
class ImageRoots:
    """Folders below which image files may be read.

    Attributes:
        folders: resolved folders.
        recorded: whether the folder that a record names is allowed, whatever it is. Only for a
            store whose records are all the user's own.
    """

    folders: tuple[Path, ...] = ()
    recorded: bool = False

    @classmethod
    def from_environment(cls) -> "ImageRoots":
        """From ACTIONTRACK_IMAGE_ROOTS: folders with a colon between, or the word "recorded".

        Raises:
            ParameterError: if a folder is not absolute.
        """
        parts = settings.IMAGE_ROOTS.value()
        resolved = tuple(Path(folder).resolve() for folder in parts if folder != _RECORDED)
        return cls(folders=resolved, recorded=_RECORDED in parts)

    def allows(self, source: Mapping[str, Any] | None) -> bool:
        """Whether images of a record with this source may be read."""
        root = _root(source)
        return root is not None and (self.recorded or self._below(root.resolve()))

    def _below(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self.folders)


def sample_image(record: StoredRecord, sample: int, roots: ImageRoots) -> tuple[bytes, str]:
    """Encoded image of the sample at a row position, and its MIME type.

    From the thumbnails of the record, else from the recorded folder where `roots` allows it.

    Raises:
        NotFoundError: if neither is there, or it is no raster image.
    """
    if not record.has_thumbnail(sample) and not roots.allows(record.manifest.source):
        owner = f"record {record.name} of run {record.run.run_id}"
        raise NotFoundError(
            f"{owner} holds no thumbnail of this sample. {why_no_images(record.manifest)}"
        )
    return checked(record.image_bytes(sample), partial(recorded_size, record, sample))


def why_no_images(manifest: Manifest) -> str:
    """Why a server has no images of a record, and what to do about it."""
    if manifest.hides_images:
        return "This record was made without images on purpose."
    none, record_them = "There are no images of these samples", "Recorder(images=dataset)"
    root = _root(manifest.source)
    if root is None:
        return f"{none}: the record names no folder. Those of the extremes come by {record_them}."
    return (
        f"{none}: they lie in {root}, which this server may not read. Start it with "
        f"{ROOTS_VARIABLE}={shlex.quote(str(root))}, or record those of the extremes by "
        f"{record_them}."
    )


def checked(content: bytes, recorded_size: RecordedSize | None = None) -> tuple[bytes, str]:
    """A raster image as it may be handed to a browser, and its MIME type.

    Args:
        content: the file.
        recorded_size: of the image that boxes or a map lie on, see `rasters.open_raster`.

    Raises:
        NotFoundError: if the content is no raster image, or one that is too large.
    """
    try:
        return browser_image(content, recorded_size)
    except DataError as error:
        raise NotFoundError(str(error)) from error


def map_png(action: npt.NDArray[np.floating]) -> bytes:
    """The action of each pixel as a PNG in colours, transparent where there is none.

    Args:
        action: (H, W). Colours run from 0 to the 99.5 % quantile of its finite values.
    """
    import matplotlib as mpl  # noqa: PLC0415 - most servers never draw a map

    finite = np.isfinite(action)
    top = float(np.quantile(action[finite], _QUANTILE)) if finite.any() else 0.0
    scaled = np.where(finite, action, 0.0) / (top or 1.0)
    colours = mpl.colormaps["magma"](np.clip(scaled, 0, 1), bytes=True)
    colours[~finite, 3] = 0
    return as_png(Image.fromarray(colours, "RGBA"))


def _root(source: Mapping[str, Any] | None) -> Path | None:
    if not source or source.get("kind") != "folder" or not isinstance(source.get("root"), str):
        return None
    return Path(source["root"])
