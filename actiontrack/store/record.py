"""A record in the tracking server, read through its manifest."""

from collections.abc import Callable, Hashable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.errors import NotFoundError
from actiontrack.history import LossHistory
from actiontrack.record.losses import (
    history_up_to,
    read_curve,
    read_history,
    read_step,
)  # fmt: skip
from actiontrack.record.manifest import Manifest, manifest_digest
from actiontrack.record.maps import read_map, read_map_index
from actiontrack.record.parquet import Fetch
from actiontrack.record.paths import (
    BOXES,
    FEATURES,
    MAP_INDEX,
    PICTURES,
    PROBABILITIES,
    SCORES,
    THUMBNAILS,
    picture_path,
)
from actiontrack.record.pictures import Pictures, read_boxes
from actiontrack.record.samples import Samples, read_samples
from actiontrack.record.vectors import (
    check_scores,
    read_features,
    read_probabilities,
    read_scores,
)
from actiontrack.scores import score_table, score_unit
from actiontrack.store.artifacts import Artifacts
from actiontrack.store.cache import PRIVATE_BYTES, Cache
from actiontrack.store.files import RecordFiles
from actiontrack.store.images import image_of_source
from actiontrack.store.notebook import record_html
from actiontrack.store.runs import RunInfo
from actiontrack.store.score_names import score_names

__all__ = [
    "StoredRecord",
]

_Value = TypeVar("_Value")
_COPIES_ON_WRITE = int(pd.__version__.split(".")[0]) >= 3


class StoredRecord:
    """One record of one run. Files are fetched when asked for, and verified.

    Score tables, histories, samples, features and the like are read once and then come from a
    cache. Records that are given the same cache share its room, and so do several records of one
    run: a table that one has read is not read again. Frames are the caller's own; arrays are
    shared, and those of features and probabilities are read-only.

    Args:
        store: where the artifacts of the run are.
        run: the run.
        name: name of the record, such as "test-probe".
        manifest: as it was read before. Default: it is read now.
        cache: where tables are stored once they are read. Default: one of the record's own.

    Raises:
        NotFoundError: if the run has no such record.
        CorruptRecordError: if the manifest is damaged.
    """

    def __init__(
        self,
        *,
        store: Artifacts,
        run: RunInfo,
        name: str,
        manifest: Manifest | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.store, self.run, self.name = store, run, name
        self.cache = Cache(PRIVATE_BYTES) if cache is None else cache
        self._files = RecordFiles(store, run, name)
        with self._files.naming_the_run():
            self.manifest = self._files.manifest() if manifest is None else manifest
        self._pictures: dict[str, Pictures] = {}

    def __copy__(self) -> Self:
        """Within a process, a copy of the same class with the same files; see `__reduce__`."""
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle where the files are and which ones they are, but no file."""
        fields = {"store": self.store, "run": self.run, "name": self.name}
        return _record, (fields | {"manifest": self.manifest},)

    def with_cache(self, cache: Cache) -> Self:
        """The same record, with the same files, that reads its tables through another cache."""
        record = self.__copy__()
        record.cache = cache
        return record

    def with_run(self, run: RunInfo) -> Self:
        """The same record, with the same files and cache, of a run whose name or tags are newer."""
        record = self.__copy__()
        record.run = run
        return record

    @property
    def key(self) -> tuple[str, ...]:
        """What cached values depend on: the content of the record, and how its run is named."""
        return (self.run.run_id, self.name, self.digest, self.run.name, self.run.model)

    def cached(self, what: Hashable, compute: Callable[[], _Value]) -> _Value:
        """A value that is derived from this record alone, computed once.

        Args:
            what: which value: everything that it depends on beside the record.
            compute: makes the value. Whoever gets it must not change it.

        Raises:
            Exception: what `compute` raises.
        """
        return self.cache.get((*self.key, what), compute)

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        optional = ("features", "probabilities", "maps", "thumbnails", "boxes")
        held = [name for name in optional if getattr(self, f"has_{name}")]
        run = f"{self.run.run_id} ({self.run.name})"
        return record_html(self.manifest, run, self.model, held)

    @cached_property
    def digest(self) -> str:
        """The checksum of the manifest: it changes whenever any part of the record does."""
        return manifest_digest(self.manifest)

    @property
    def model(self) -> str:
        """Name of the model, by which runs are grouped: the record's, else that of its run."""
        return self.manifest.model or self.run.model

    @property
    def dataset(self) -> str:
        """Name of the dataset, from the run's parameters; "" where they hold none."""
        return self.run.dataset

    @property
    def unit(self) -> str:
        """Unit of the action, such as "loss × epochs"."""
        return score_unit("action", self.manifest.delta_kind)

    def scores(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Scores, one row per sample.

        A score that the stored table lacks, such as one that was introduced after the record was
        finished, and every score of an unfinished record are computed from the history.

        Args:
            columns: names of scores. Default: all of them.

        Returns:
            The columns of `scores.score_table`; the caller may change the frame.

        Raises:
            NotFoundError: if there is no such score, or no complete epoch.
            CorruptRecordError: if a file is damaged.
        """
        if columns is None or (*self.key, "scores") in self.cache:
            frame = self.cached("scores", self._read_all_scores)
            check_scores(columns or (), list(frame.columns))
            return _own(frame if columns is None else frame[list(columns)])
        names = tuple(columns)
        return _own(self.cached(("scores", names), lambda: self._read_scores(names)))

    def _read_scores(self, names: tuple[str, ...]) -> pd.DataFrame:
        """Some scores: only their columns are read where the stored table has them."""
        try:
            with self._files.naming_the_run():
                return read_scores(self.manifest, self.fetch, columns=names)
        except NotFoundError:  # not stored: to be computed
            frame = self.cached("scores", self._read_all_scores)
        check_scores(names, list(frame.columns))
        return frame[list(names)]

    def _read_all_scores(self) -> pd.DataFrame:
        if SCORES in self.manifest.files:
            with self._files.naming_the_run():
                stored = read_scores(self.manifest, self.fetch)
            names = score_names(
                self.manifest.measures, self.manifest.components, labelled="label" in stored
            )
            if all(name in stored.columns for name in names):
                return stored
            computed = score_table(self.history())
            ours = [stored.get(name, computed[name]) for name in computed.columns]
            later = stored[stored.columns.difference(computed.columns, sort=False)]
            return pd.concat([*ours, later], axis=1)
        if not self.manifest.n_steps:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} has no complete epoch yet."
            )
        return score_table(self.history())

    def history(self, columns: Sequence[str] | None = None) -> LossHistory:
        """The loss history up to the last complete step, see `record.losses.read_history`.

        Callers that ask for the same columns get the same history: don't change its arrays.
        """
        names = None if columns is None else tuple(columns)

        def read(manifest: Manifest) -> LossHistory:
            self._files.prefetch([block.path for block in manifest.blocks])
            return read_history(manifest, self.fetch, columns=names, samples=self.samples)

        return self.cached(
            ("history", names),
            lambda: history_up_to(self._read_losses(read), self.manifest.last_step),
        )

    def _read_losses(self, read: Callable[[Manifest], _Value]) -> _Value:
        with self._files.naming_the_run():
            return self._files.read_losses(self.manifest, read)

    def loss_curve(self, sample: int, columns: Sequence[str] = ("loss",)) -> pd.DataFrame:
        """All steps of the sample at a row position; of the losses only its pages are read.

        Returns:
            step, delta and the columns, one row per step. What was not seen is NaN, -1 or False.

        Raises:
            CorruptRecordError: if what is read is damaged.
        """
        steps, grids, _ = self._read_losses(
            lambda manifest: read_curve(manifest, self.fetch, sample, columns)
        )
        numbers = {"step": [step.step for step in steps], "delta": [step.delta for step in steps]}
        return pd.DataFrame({**numbers, **grids}).head(self.manifest.n_steps)

    def losses_of_step(self, step: int, columns: Sequence[str] = ("loss",)) -> pd.DataFrame:
        """One step of all samples, one row per sample; only the file that holds it is read.

        Raises:
            NotFoundError: if the step was not recorded.
            CorruptRecordError: if the file is damaged.
        """
        read = lambda manifest: read_step(manifest, self.fetch, step, columns)  # noqa: E731
        return pd.DataFrame(self._read_losses(read)[1])

    @property
    def samples(self) -> Samples:
        """Ids, labels, paths and input digests of the samples."""

        def read() -> Samples:
            with self._files.naming_the_run():
                return read_samples(self.manifest, self.fetch)

        return self.cached("samples", read)

    @property
    def has_features(self) -> bool:
        """Whether last-layer features were recorded."""
        return FEATURES in self.manifest.files

    def features(self) -> npt.NDArray[np.float32]:
        """Last-layer features, (n_samples, n_features) float32.

        Raises:
            NotFoundError: if the record holds none.
        """
        if not self.has_features:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} ({self.run.name}) holds no features. "
                "Record them with the training parameter save_features=true, or with "
                "Recorder.log_features."
            )
        return self.cached("features", lambda: self._vectors(read_features))

    @property
    def has_probabilities(self) -> bool:
        """Whether the final model's class probabilities were recorded."""
        return PROBABILITIES in self.manifest.files

    def probabilities(self) -> npt.NDArray[np.float32]:
        """The final model's (n_samples, n_classes) float32, where they were recorded."""
        return self.cached("probabilities", lambda: self._vectors(read_probabilities))

    def _vectors(
        self, read: Callable[[Manifest, Fetch], npt.NDArray[np.float32]]
    ) -> npt.NDArray[np.float32]:
        with self._files.naming_the_run():
            vectors = read(self.manifest, self.fetch)
        vectors.flags.writeable = False
        return vectors

    @property
    def has_maps(self) -> bool:
        """Whether pixel actions were recorded; they are available once recording has ended."""
        return MAP_INDEX in self.manifest.files and not self.manifest.of_tokens

    @property
    def map_index(self) -> pd.DataFrame:
        """The maps of pixel actions, one row per sample in canonical order.

        Returns:
            sample, sample_id, height, width (stored pixels, 0 without a map), file and row.

        Raises:
            NotFoundError: if the record holds no maps.
        """
        if not self.has_maps:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} ({self.run.name}) holds no maps of "
                "pixel actions. Record them with Recorder(pixel_loss_name=…) and update_maps; "
                "they are written when recording ends."
            )
        return _own(self.cached("map index", self._read_map_index))

    def _read_map_index(self) -> pd.DataFrame:
        with self._files.naming_the_run():
            index = read_map_index(self.manifest, self.fetch)
        index.insert(1, "sample_id", self.samples.sample_ids)
        return index

    def pixel_action(self, sample: int) -> npt.NDArray[np.float32]:
        """Action of each pixel (eq. 7) of the sample at a row position; fetches its file only.

        Returns:
            (H, W) float32, as large as the image over `manifest.maps["factor"]`, rounded up.

        Raises:
            NotFoundError: if there is no such map.
            CorruptRecordError: if it is damaged.
        """
        index = self.map_index
        with self._files.naming_the_run():
            return read_map(self.manifest, self.fetch, index, sample)

    @property
    def picture_names(self) -> tuple[str, ...]:
        """Names of the pictures that the record holds of each sample, such as "label"."""
        folder = f"{PICTURES}/"
        paths = [path for path in self.manifest.files if path.startswith(folder)]
        return tuple(path.removeprefix(folder).removesuffix(".parquet") for path in paths)

    def picture_bytes(self, name: str, sample: int) -> bytes:
        """The PNG of a name of the sample at a row position.

        Raises:
            NotFoundError: if there are no pictures of that name.
        """
        return self._picture(picture_path(name), sample)

    def _picture(self, path: str, sample: int) -> bytes:
        with self._files.naming_the_run():
            return self._pictures_in(path).read(sample)

    def _pictures_in(self, path: str) -> Pictures:
        """A file of PNGs, which is verified when it is first read from."""
        if path not in self._pictures:
            self._pictures[path] = Pictures(self.manifest, self.fetch, path)
        return self._pictures[path]

    @property
    def boxes(self) -> pd.DataFrame | None:
        """Annotated and predicted boxes, None where none were recorded.

        A row per box in the order of the samples: sample_id, kind ("truth" or "predicted"),
        class, score (NaN for the truth), left, top, right, bottom, width and height of the
        image, all in pixels of the image.

        Raises:
            CorruptRecordError: if the file is damaged.
        """
        if not self.has_boxes:
            return None
        return _own(self.cached("boxes", self._read_boxes))

    def _read_boxes(self) -> pd.DataFrame:
        with self._files.naming_the_run():
            boxes = read_boxes(self.manifest, self.fetch)
        boxes.insert(0, "sample_id", self.samples.sample_ids[boxes.pop("sample").to_numpy()])
        return boxes

    @property
    def has_boxes(self) -> bool:
        """Whether the record holds annotated or predicted boxes."""
        return BOXES in self.manifest.files

    @property
    def has_thumbnails(self) -> bool:
        """Whether the record holds small images of its samples, or of some of them."""
        return THUMBNAILS in self.manifest.files

    def has_thumbnail(self, sample: int) -> bool:
        """Whether the record holds a small image of the sample at a row position."""
        if not self.has_thumbnails:
            return False
        with self._files.naming_the_run():
            return self._pictures_in(THUMBNAILS).has(sample)

    def image_bytes(self, sample: int) -> bytes:
        """Encoded image of the sample at a row position.

        From the thumbnails of the record where it has one of the sample, else from the recorded
        root of the dataset, never from outside it.

        Raises:
            NotFoundError: if neither is there.
        """
        if not self.manifest.hides_images and self.has_thumbnail(sample):
            return self._picture(THUMBNAILS, sample)
        owner = f"record {self.name} of run {self.run.run_id}"
        return image_of_source(self.manifest, owner, lambda: self.samples.paths, sample)

    def fetch(self, path: str) -> Path:
        """Local path of a file of the record, downloaded once.

        Raises:
            CorruptRecordError: if the file or a folder above it in the record is a link.
        """
        return self._files.fetch(path)

    def prefetch(self, paths: Sequence[str]) -> None:
        """Download several files of the record at once, for `fetch`."""
        self._files.prefetch(paths)


def _record(fields: dict[str, Any]) -> StoredRecord:
    return StoredRecord(**fields)


def _own(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame that the caller may change without changing the cached one."""
    return frame.copy(deep=not _COPIES_ON_WRITE)
