"""Annotated and detected boxes as `actiontrack.recorder.Recorder.log_boxes` takes them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from actiontrack.errors import ParameterError
from actiontrack.record.rasters import as_png
from actiontrack.recorder.arrays import to_host

__all__ = ["MIN_SCORE", "MOST_PICTURES", "Boxes", "class_name_of", "listed", "small_picture"]

#: Detections with a lower score are left out.
MIN_SCORE = 0.05

#: Pictures are kept of as many images, about 50 kB each.
MOST_PICTURES = 1000

_PICTURE_SIDE = 192  # pixels of the longer side
_SIDES = ("left", "top", "right", "bottom")


def class_name_of(class_names: Sequence[Any] | Mapping[int, Any]) -> Mapping[int, str]:
    """The name of each label.

    Args:
        class_names: a mapping, or names in the order of the labels, the background's first, as in
            ``weights.meta["categories"]``.

    Raises:
        ParameterError: if a name is no text.
    """
    names = dict(class_names if isinstance(class_names, Mapping) else enumerate(class_names))
    for label, name in names.items():
        if not isinstance(name, str):
            rule = "must be the name of each label, that of the background first"
            raise ParameterError("class_names", rule, {label: name}, "Pass texts.")
    return names


def small_picture(image: Any) -> bytes:
    """A PNG of at most 192 pixels a side of an image, a tensor (3, H, W) of values in 0..1."""
    pixels = (image.detach().float().clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    picture = Image.fromarray(pixels.cpu().numpy())
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    return as_png(picture)


class Boxes:
    """Boxes of images, batch by batch; nothing is copied from a device before they are read.

    Args:
        class_names: label to name; a label without one is called by its number.
    """

    def __init__(self, class_names: Mapping[int, str]) -> None:
        self._class_names = class_names
        self._images: list[pd.DataFrame] = []  # a row per image
        self._ids: list[Any] = []
        self._objects: dict[str, list[Any]] = {"boxes": [], "labels": [], "scores": []}

    def add(
        self,
        kind: str,
        ids: Any,
        images: Sequence[Any],
        objects: Sequence[Mapping[str, Any]],
    ) -> None:
        """Keep the boxes of a batch.

        Args:
            kind: "truth" or "predicted".
            ids: (batch,) of the images, a list or a tensor.
            images: (batch,) each (3, H, W), of which the boxes are in pixels.
            objects: of each image ``boxes`` (n, 4), ``labels`` (n,), and ``scores`` (n,) if they
                are predicted.
        """
        sizes = [tuple(image.shape[-2:]) for image in images]
        counts = [len(of_image["boxes"]) for of_image in objects]
        rows = pd.DataFrame(sizes, columns=["height", "width"]).assign(count=counts, kind=kind)
        self._images.append(rows)
        self._ids.append(ids)
        for of_image in objects:
            boxes = of_image["boxes"].detach()
            scores = of_image.get("scores") if kind == "predicted" else None
            self._objects["boxes"].append(boxes.reshape(-1, 4))
            self._objects["labels"].append(of_image["labels"].detach())
            self._objects["scores"].append(
                boxes.new_full((len(boxes),), np.nan) if scores is None else scores.detach()
            )

    def frame(self) -> pd.DataFrame:
        """One row per box, see `actiontrack.recorder.Recorder.log_boxes`.

        Of an image that was added more than once the boxes are those of the first time.
        """
        images = pd.concat(self._images, ignore_index=True)
        ids = [sample_id for batch in self._ids for sample_id in listed(batch)]
        rows = images.assign(sample_id=pd.Series(ids, dtype=object))
        rows["repeated"] = rows.duplicated(["sample_id", "kind"])
        rows = rows.loc[rows.index.repeat(rows["count"])].reset_index(drop=True)
        columns = {name: to_host(parts) for name, parts in self._objects.items()}
        names = [self._class_names.get(label, str(label)) for label in columns["labels"].tolist()]
        rows = rows.drop(columns="count").assign(**{"class": names}, score=columns["scores"])
        rows[list(_SIDES)] = columns["boxes"]
        certain = (rows["kind"] == "truth") | (rows["score"] >= MIN_SCORE)
        chosen = certain & ~rows["repeated"]
        return rows[chosen].drop(columns="repeated").reset_index(drop=True)


def listed(ids: Any) -> list[Any]:
    """Ids of a batch, a list or a tensor, as a list on the host."""
    return to_host([ids]).tolist() if hasattr(ids, "shape") else list(ids)
