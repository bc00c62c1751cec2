"""Images of samples as users have them, and which of them a record keeps at its end."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from actiontrack.errors import ParameterError
from actiontrack.record.rasters import as_png, as_raster, open_raster
from actiontrack.recorder.arrays import canonical_ids
from actiontrack.recorder.randomness import unchanged_python_and_numpy

__all__ = ["N_IMAGES", "SampleImages", "as_thumbnail", "images_in", "source_of", "thumbnails_of"]

#: Images that a record keeps by itself of its hardest samples, and of its easiest.
N_IMAGES = 50

_SIDE = 224  # pixels of the longer side of a thumbnail
_CHANNELS = frozenset({1, 3, 4})
_LEAST_SIDE = 8  # pixels of what is an image without a word of the user
_ID_COLUMN = "sample_id"
_FIRST = 400  # images of the first epoch, when nobody can say yet which samples are hard
_CANDIDATES = 2 * N_IMAGES  # hardest and easiest so far whose images are held

#: Gives the image of the sample of an id.
Source = Callable[[Any], Any]


def as_thumbnail(image: Any) -> bytes:
    """An image as a PNG of at most 224 pixels a side.

    Args:
        image: a PIL image; a NumPy, PyTorch or JAX array of (H, W), (H, W, C) or (C, H, W), where
            C is 1, 3 or 4, of uint8 or of numbers in [0, 1], a wider range is stretched; the path
            of a file; or the bytes of a PNG, which stay as they are.

    Raises:
        ParameterError: if it is none of these.
        DataError: if the file is no image.
        OSError: if the file can't be read.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    return as_png(_small(image))


def thumbnails_of(images: Any) -> list[bytes]:
    """Thumbnails of several images, see `as_thumbnail`.

    Args:
        images: a sequence of images, or an array (n, …) of them.
    """
    return [as_thumbnail(image) for image in images]


def source_of(images: Any, ids: Any = None) -> Source | None:
    """How the image of a sample is had.

    Args:
        images: a function of an id, a mapping from ids, or a sequence, an array or a map-style
            dataset. Of a dataset's items the first part that is an image counts.
        ids: (n,) of a sequence, in its order. Default: those of an `IndexedDataset`, else the
            positions.

    Returns:
        A function of an id, or None where a dataset does not tell which item has which id.

    Raises:
        ParameterError: if the images are none of these, or not one per id.
    """
    if callable(images) and not hasattr(images, "__getitem__"):
        return images  # type: ignore[no-any-return]
    if isinstance(images, Mapping):
        return lambda sample_id: _image_in(images[sample_id])
    items, names = (images, None) if ids is not None else _items_and_ids(images)
    if items is None:
        return None
    if not hasattr(items, "__getitem__"):
        rule = "must be a function, a mapping, a sequence, an array or a map-style dataset"
        raise ParameterError("images", rule, type(images).__name__, "Pass a function of an id.")
    names = ids if ids is not None else names
    if names is None:
        return lambda sample_id: _image_in(items[int(sample_id)])
    if len(names) != len(items):
        rule = f"must be one per id, {len(names)} of them"
        raise ParameterError("images", rule, len(items), "Pass images in the order of the ids.")
    rows = {sample_id: row for row, sample_id in enumerate(canonical_ids(names).tolist())}
    return lambda sample_id: _image_in(items[rows[sample_id]])


def images_in(data: Any) -> Source | None:
    """How the images of a probe set are had; None where its items hold none that are plain to see.

    An image is then a PIL image, or an array or tensor with one, three or four channels. Where
    items are mappings, their ids are in the column "sample_id".

    Args:
        data: a map-style dataset or a DataLoader, or None.
    """
    try:
        columns = getattr(data, "column_names", ())
        ids = data[_ID_COLUMN] if _ID_COLUMN in columns else None
        items = data if ids is not None else _items_and_ids(data)[0]
        if items is None or not len(items):
            return None
        with _unchanged_randomness():
            item = items[0]
        if isinstance(item, Mapping) and _ID_COLUMN in item and ids is None:
            return None
        return source_of(data, ids) if _is_plain_image(_image_in(item)) else None
    except Exception:  # noqa: BLE001 - whatever it is, the training does not need it
        return None


@dataclass
class SampleImages:
    """Where the images of one record come from.

    Attributes:
        source: gives the image of a sample, None where images come with batches, or not at all.
        refused: whether no further images are taken, as one could not be.
    """

    source: Source | None = None
    refused: bool = False
    _held: dict[Any, Image.Image] = field(default_factory=dict)
    _wanted: frozenset[Any] | None = None
    _losses: "pd.Series[float] | None" = None
    _brought: bool = False

    @property
    def any(self) -> bool:
        """Whether there may be images at all."""
        return self.source is not None or self._brought

    def take(self, ids: Any, images: Any) -> None:
        """Take from a batch the images of those samples that may be among the extremes.

        Args:
            ids: (batch,) as they are recorded.
            images: (batch, …).

        Raises:
            ParameterError: if there is not one image per id.
        """
        self._brought = True
        names = canonical_ids(ids).tolist()
        if len(images) != len(names):
            rule = f"must be one per id, {len(names)} of them"
            raise ParameterError("images", rule, len(images), "Pass the images of the batch.")
        for row, sample_id in enumerate(names):
            if sample_id not in self._held and self._wants(sample_id):
                self._held[sample_id] = _small(_image_in(images[row]))

    def _wants(self, sample_id: Any) -> bool:
        if self._wanted is None:
            return len(self._held) < _FIRST
        return sample_id in self._wanted

    def rank(self, ids: npt.NDArray[Any], losses: npt.NDArray[Any]) -> None:
        """Choose which images the next epoch is asked for, by the losses up to now.

        Args:
            ids: (n_seen,).
            losses: (n_seen,) of one epoch.
        """
        if not self._brought:
            return
        latest = pd.Series(np.nan_to_num(losses.astype(np.float64)), index=ids)
        total = latest if self._losses is None else self._losses.add(latest, fill_value=0.0)
        self._losses = total
        names = total.sort_values(kind="stable").index.tolist()
        self._wanted = frozenset(names[:_CANDIDATES]) | frozenset(names[-_CANDIDATES:])
        if len(names) > _FIRST:
            self._held = {name: self._held[name] for name in self._wanted & self._held.keys()}

    def extremes(self, scores: pd.DataFrame) -> tuple[list[Any], list[bytes]]:
        """Ids and thumbnails of the hardest and easiest samples, by ascending action.

        Args:
            scores: sample_id and action of every sample.
        """
        ranked = scores.loc[np.isfinite(scores["action"])].sort_values("action", kind="stable")
        names = ranked["sample_id"].tolist()
        chosen = names if len(names) <= 2 * N_IMAGES else names[:N_IMAGES] + names[-N_IMAGES:]
        with _unchanged_randomness():
            images = {name: self._of(name) for name in chosen}
        pngs = {name: as_thumbnail(image) for name, image in images.items() if image is not None}
        return list(pngs), list(pngs.values())

    def _of(self, sample_id: Any) -> Any:
        if self.source is not None:
            return self.source(sample_id)
        return self._held.get(sample_id)


def _small(image: Any) -> Image.Image:
    raster = _raster(image)
    if max(raster.size) > _SIDE:
        raster = raster.copy()
        raster.thumbnail((_SIDE, _SIDE))
    return raster


def _raster(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, str | os.PathLike):
        return open_raster(Path(image).read_bytes())
    if not _is_array(image):
        rule = "must be PIL images, arrays, paths or the bytes of PNG files"
        raise ParameterError("images", rule, type(image).__name__, "Pass one image per id.")
    is_tensor = hasattr(image, "detach")
    pixels = np.asarray(image.detach().cpu().float().numpy() if _is_half(image) else _host(image))
    return as_raster(_channels_last(pixels, first=is_tensor))


def _is_half(image: Any) -> bool:
    return hasattr(image, "is_floating_point") and image.is_floating_point() and image.itemsize < 4


def _host(image: Any) -> Any:
    return image.detach().cpu().numpy() if hasattr(image, "detach") else image


def _channels_last(pixels: npt.NDArray[Any], *, first: bool) -> npt.NDArray[Any]:
    """(H, W[, C]) of an array that may have its channels first; tensors rather do."""
    if pixels.ndim != 3:
        return pixels
    has_first, has_last = pixels.shape[0] in _CHANNELS, pixels.shape[2] in _CHANNELS
    if has_first and (first or not has_last):
        return np.moveaxis(pixels, 0, -1)
    return pixels


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _is_image(part: Any) -> bool:
    if isinstance(part, Image.Image | bytes):
        return True
    if isinstance(part, str | os.PathLike):
        return Path(part).is_file()
    return _is_array(part) and len(part.shape) in {2, 3}


def _is_plain_image(part: Any) -> bool:
    if isinstance(part, Image.Image):
        return True
    if not _is_array(part) or len(part.shape) != 3 or min(part.shape) < 1:
        return False
    sides = sorted(part.shape)[1:]
    return bool({part.shape[0], part.shape[-1]} & _CHANNELS) and sides[0] >= _LEAST_SIDE


def _image_in(item: Any) -> Any:
    """The first part of an item that is an image; the item itself where it has no parts."""
    if isinstance(item, Mapping):
        parts: Sequence[Any] = list(item.values())
    elif isinstance(item, tuple | list):
        parts = item
    else:
        return item
    return next((part for part in parts if _is_image(part)), None)


def _items_and_ids(images: Any) -> tuple[Any, Any]:
    """The items of a dataset, and their ids or None; (None, None) where items hold the ids."""
    torch = sys.modules.get("torch")
    if torch is None or _is_array(images):
        return images, None
    if isinstance(images, torch.utils.data.DataLoader):
        images = images.dataset
    if not isinstance(images, torch.utils.data.Dataset):
        return images, None
    samples = _torch_sampling().samples_of(images)
    return (None, None) if samples.carried else (samples.items, samples.ids)


def _unchanged_randomness() -> AbstractContextManager[None]:
    """Random numbers as before, whatever a dataset's transforms draw."""
    if "torch" in sys.modules:
        return _torch_sampling().unchanged_randomness()  # type: ignore[no-any-return]
    return unchanged_python_and_numpy()


def _torch_sampling() -> Any:
    """The part that needs PyTorch, for programs that have imported it."""
    return import_module("actiontrack.recorder.torch_sampling")
