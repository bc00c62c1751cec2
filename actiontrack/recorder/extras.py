"""What a record keeps beside losses, if it can: features, images, boxes, texts."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import THUMBNAILS
from actiontrack.recorder import attachments
from actiontrack.recorder.arrays import canonical_ids
from actiontrack.recorder.attachments import Attachment
from actiontrack.recorder.images import N_IMAGES, SampleImages, Source, thumbnails_of
from actiontrack.recorder.null_writer import NullWriter
from actiontrack.recorder.open_record import OpenRecord
from actiontrack.recorder.privacy import Privacy
from actiontrack.recorder.result import Shows

__all__ = ["KeepsExtras"]

_THUMBNAILS = "thumbnails"  # name of the note
_OF_EXTREMES = f"of the {N_IMAGES} hardest and {N_IMAGES} easiest samples"


class KeepsExtras(OpenRecord):
    """An open record that takes files beside the losses.

    Args:
        manifest: the record as it was asked for.
        writer: what writes it.
        privacy: what is kept out of it.
        image_source: gives the image of the sample of an id.
        shows: what the record shows when it is finished.
    """

    def __init__(
        self,
        manifest: Manifest,
        writer: NullWriter,
        privacy: Privacy,
        image_source: Source | None = None,
        shows: Shows | None = None,
    ) -> None:
        super().__init__(manifest, writer, shows)
        self._privacy = privacy
        self._images = SampleImages(image_source)

    def _attach_last(self, scores: pd.DataFrame) -> None:
        """Thumbnails of the hardest and easiest samples, where there are images and no others."""
        if not self._images.any or self._privacy.hides_places:
            return
        # Those of a record that goes on are of its extremes up to then.
        if self._writer.holds(THUMBNAILS) and self.notes.get(_THUMBNAILS) != _OF_EXTREMES:
            return

        def make() -> Attachment:
            return attachments.thumbnails(*self._images.extremes(scores))

        if self._attach("thumbnails", make, stacklevel=6):
            self._writer.note(_THUMBNAILS, _OF_EXTREMES)

    def _take_images(self, ids: Any, images: Any) -> None:
        """Images of a batch; what can't be taken is warned about once."""
        if self._images.refused or not self._privacy.keeps([images]):
            return
        if self._privacy.salt is None:
            try:
                self._images.take(ids, images)
            except Exception as error:  # noqa: BLE001 - the training is worth more
                self._images.refused = True
                reason = str(error) or type(error).__name__
                warnings.warn(f"record {self.name} takes no images: {reason}", stacklevel=4)

    # What is optional is not worth a failed training: what can't be kept is warned about, whether
    # it does not fit the samples of the record, is no array, or finds the disk full.

    def log_features(self, ids: Any, features: Any) -> None:
        """Keep last-layer features, (n_samples, n_features), with ids in any order."""
        self._attach("features", lambda: attachments.features(self._privacy.ids(ids), features))

    def log_probabilities(self, ids: Any, probabilities: Any) -> None:
        """Keep what the final model says of each sample, with ids in any order (section 4.1).

        Args:
            ids: (n_samples,) integers or strings.
            probabilities: (n_samples, n_classes), each row a distribution over the classes.
        """
        self._attach(
            "probabilities",
            lambda: attachments.probabilities(self._privacy.ids(ids), probabilities),
        )

    def log_thumbnails(self, ids: Any, images: Any) -> None:
        """Keep images of samples with the run: of all, or of some.

        Args:
            ids: (n_images,) in any order.
            images: one per id: PIL images, NumPy, PyTorch or JAX arrays, paths, or the bytes of
                PNG files, see `actiontrack.recorder.images.as_thumbnail`; or a function of an id.
                All but bytes are scaled to at most 224 pixels a side.
        """
        if not self._privacy.keeps([images]):
            return

        def make() -> Attachment:
            asked = map(images, canonical_ids(ids).tolist()) if callable(images) else images
            pngs = thumbnails_of(asked)
            return attachments.thumbnails(self._privacy.ids(ids), pngs)

        if self._attach("thumbnails", make) and _THUMBNAILS in self.notes:
            self.note(_THUMBNAILS, "logged")

    def log_pictures(self, name: str, ids: Any, images: Sequence[bytes]) -> None:
        """Keep one PNG per sample under a name, such as "label" or "prediction".

        Pixel values of label images are class indices. Pictures of an earlier epoch are dropped
        when the next one is recorded.

        Args:
            name: letters, digits, dots and underscores.
            ids: (n_samples,) in any order.
            images: one PNG per id.
        """
        if self._privacy.keeps(images):
            self._attach(
                "pictures", lambda: attachments.pictures(name, self._privacy.ids(ids), images)
            )

    def log_boxes(self, boxes: pd.DataFrame) -> None:
        """Keep annotated and predicted boxes with the run: galleries and reports draw them.

        Boxes of an earlier epoch are dropped when the next one is recorded.

        Args:
            boxes: one row per box: sample_id; kind, "truth" or "predicted"; class, its name;
                score, NaN for the truth; left, top, right, bottom in pixels of the image, from
                0 and without the last; width and height of the image. Samples without a box
                have no row.
        """
        self._attach("boxes", lambda: attachments.boxes(boxes, self._privacy.ids))

    def log_tokens(self, ids: Any, texts: Sequence[Sequence[str]]) -> None:
        """Keep the texts of the tokens of some documents, whose losses are maps one row high.

        As private as images: what keeps those out of the record keeps out these.

        Args:
            ids: (n_documents,) in any order, some of the record's.
            texts: of the tokens of each of them.
        """
        if self._privacy.keeps(texts):
            self._attach("tokens", lambda: attachments.tokens(self._privacy.ids(ids), texts))

    def _attach(self, what: str, make: Callable[[], Attachment], *, stacklevel: int = 3) -> bool:
        """Keep what `make` makes. Returns whether it is kept; else a warning says why not."""
        try:
            with self._state.lock:
                self._state.check_open(f"log_{what}")
                self._writer.attach(make())
        except Exception as error:  # noqa: BLE001 - whatever it is, the training is worth more
            reason = str(error) or type(error).__name__
            warnings.warn(
                f"record {self.name} is left without {what}: {reason}", stacklevel=stacklevel
            )
            return False
        return True
