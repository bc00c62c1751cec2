"""A record in the tracking server, read through its manifest."""

import contextlib
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.errors import CorruptRecordError, NotFoundError
from actiontrack.history import DELTA_KINDS, LossHistory
from actiontrack.record.losses import read_history
from actiontrack.record.manifest import Manifest, manifest_digest, read_manifest
from actiontrack.record.maps import read_map, read_map_index
from actiontrack.record.paths import (
    BOXES,
    FEATURES,
    MANIFEST,
    MAP_INDEX,
    PICTURES,
    PROBABILITIES,
    SCORES,
    THUMBNAILS,
    block_path,
    picture_path,
)
from actiontrack.record.pictures import Pictures, read_boxes
from actiontrack.record.samples import Samples, read_samples
from actiontrack.record.vectors import check_scores, read_features, read_probabilities, read_scores
from actiontrack.scores import score_table
from actiontrack.store.notebook import facts_html
from actiontrack.store.runs import ARTIFACT_ROOT, RunInfo

if TYPE_CHECKING:
    from actiontrack.store.store import Store

__all__ = [
    "StoredRecord",
]

_DOWNLOAD_THREADS = 8
_MANIFEST_ATTEMPTS = 3


class StoredRecord:
    """One record of one run. Files are fetched when asked for, and verified.

    Args:
        store: where the run is.
        run: the run.
        name: name of the record, such as "test-probe".
        manifest: as it was read before. Default: it is read now.

    Raises:
        NotFoundError: if the run has no such record.
        CorruptRecordError: if the manifest is damaged.
    """

    def __init__(
        self, *, store: "Store", run: RunInfo, name: str, manifest: Manifest | None = None
    ) -> None:
        self.store, self.run, self.name = store, run, name
        self._prefix = f"{ARTIFACT_ROOT}/{name}"
        root = store.local_root(run)
        self._local = root / ARTIFACT_ROOT / name if root else None
        self.manifest = self._read_manifest() if manifest is None else manifest
        self._pictures: dict[str, Pictures] = {}
        self._histories: weakref.WeakValueDictionary[tuple[str, ...] | None, LossHistory] = (
            weakref.WeakValueDictionary()
        )

    def __copy__(self) -> Self:
        """Within a process, a copy of the same class with the same files; see `__reduce__`."""
        copied = object.__new__(type(self))
        vars(copied).update(vars(self))
        return copied

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes goes what says where the files are, and which ones: no file."""
        fields = {"store": self.store, "run": self.run, "name": self.name}
        return _record, (fields | {"manifest": self.manifest},)

    def _repr_html_(self) -> str:
        """Show itself in a notebook."""
        manifest = self.manifest
        held = {
            "features": self.has_features,
            "probabilities": self.has_probabilities,
            "maps": self.has_maps,
            "thumbnails": self.has_thumbnails,
            "boxes": self.has_boxes,
        }
        facts = {
            "run": f"{self.run.run_id} ({self.run.name})",
            "model": self.model,
            "loss": f"{manifest.loss_name}, Δn by {manifest.delta_kind}",
            "samples × steps": f"{manifest.n_samples} × {manifest.n_steps}",
            "classes": len(manifest.class_names) or "not named",
            "state": manifest.status,
            "holds": ", ".join(name for name, there in held.items() if there) or "losses only",
        }
        return facts_html(f"Record {self.name}", facts)

    @cached_property
    def digest(self) -> str:
        """The checksum of the manifest: it changes whenever anything of the record does."""
        return manifest_digest(self.manifest)

    @property
    def model(self) -> str:
        """Name of the model, by which runs are grouped: the record's, else that of its run."""
        return self.manifest.model or self.run.model

    @property
    def dataset(self) -> str:
        """Name of the dataset, from the run's parameters; "" where they hold none."""
        return self.run.params.get("dataset", "").strip("'")

    @property
    def unit(self) -> str:
        """Unit of the action, such as "loss × epochs"."""
        return f"loss × {DELTA_KINDS[self.manifest.delta_kind]}"

    def scores(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Scores, one row per sample; of an unfinished record, from its history so far.

        Returns:
            The columns of `scores.score_table`.

        Raises:
            NotFoundError: if there is no such score, or no complete epoch.
        """
        if SCORES in self.manifest.files:
            return read_scores(self.manifest, self.fetch, columns=columns)
        if not self.manifest.steps:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} has no complete epoch yet."
            )
        frame = score_table(self.history())
        check_scores(columns or (), list(frame.columns))
        return frame if columns is None else frame[list(columns)]

    def history(self, columns: Sequence[str] | None = None) -> LossHistory:
        """The loss history up to the last complete step, see `artifact.read_history`.

        While a caller keeps a history, others that ask for the same columns get the same one.
        """
        key = None if columns is None else tuple(columns)
        history = self._histories.get(key)
        if history is None:
            self._prefetch([block_path(each.step) for each in self.manifest.steps])
            history = read_history(self.manifest, self.fetch, columns=columns)
            self._histories[key] = history
        return history

    @cached_property
    def samples(self) -> Samples:
        """Ids, labels, paths and input digests of the samples."""
        return read_samples(self.manifest, self.fetch)

    @property
    def has_features(self) -> bool:
        """Whether last-layer features were recorded."""
        return FEATURES in self.manifest.files

    def features(self) -> npt.NDArray[np.float32]:
        """Last-layer features, (n_samples, n_features) float32, where they were recorded."""
        return read_features(self.manifest, self.fetch)

    @property
    def has_probabilities(self) -> bool:
        """Whether the final model's class probabilities were recorded."""
        return PROBABILITIES in self.manifest.files

    def probabilities(self) -> npt.NDArray[np.float32]:
        """The final model's (n_samples, n_classes) float32, where they were recorded."""
        return read_probabilities(self.manifest, self.fetch)

    @property
    def has_maps(self) -> bool:
        """Whether the actions of pixels were recorded; they are there once recording has ended."""
        return MAP_INDEX in self.manifest.files

    @cached_property
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
        return read_map(self.manifest, self.fetch, self.map_index, sample)

    @property
    def picture_names(self) -> tuple[str, ...]:
        """Names of the pictures that the record holds of each sample, such as "label"."""
        folder = f"{PICTURES}/"
        found = [each for each in self.manifest.files if each.startswith(folder)]
        return tuple(each.removeprefix(folder).removesuffix(".parquet") for each in found)

    def picture_bytes(self, name: str, sample: int) -> bytes:
        """The PNG of a name of the sample at a row position.

        Raises:
            NotFoundError: if there are no pictures of that name.
        """
        return self._picture_file(picture_path(name)).read(sample)

    def _picture_file(self, path: str) -> Pictures:
        """A file of PNGs, verified when it is first read from."""
        if path not in self._pictures:
            self._pictures[path] = Pictures(self.manifest, self.fetch, path)
        return self._pictures[path]

    @cached_property
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
        boxes = read_boxes(self.manifest, self.fetch)
        boxes.insert(0, "sample_id", self.samples.sample_ids[boxes.pop("sample").to_numpy()])
        return boxes

    @property
    def has_boxes(self) -> bool:
        """Whether the record holds annotated or predicted boxes."""
        return BOXES in self.manifest.files

    @property
    def has_thumbnails(self) -> bool:
        """Whether the record holds small images of the samples."""
        return THUMBNAILS in self.manifest.files

    def image_bytes(self, sample: int) -> bytes:
        """Encoded image of the sample at a row position.

        From the thumbnails of the record where there are any, else from the recorded root of
        the dataset, never from outside it.

        Raises:
            NotFoundError: if neither is there.
        """
        if self.manifest.hides_images:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} was made without images on purpose: "
                "there are none to show."
            )
        if self.has_thumbnails:
            return self._picture_file(THUMBNAILS).read(sample)
        if self.manifest.has_hashed_ids:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} holds hashes in place of ids and no "
                "thumbnails: its images can't be found. Record with thumbnails to see images."
            )
        source = self.manifest.source or {}
        if source.get("kind") != "folder" or "root" not in source or self.samples.paths is None:
            raise NotFoundError(
                f"record {self.name} of run {self.run.run_id} refers to no image files and holds "
                "no thumbnails. Record with thumbnails to see images."
            )
        return _read_below(Path(str(source["root"])), self.samples.paths[sample])

    def fetch(self, path: str) -> Path:
        """Local path of a file of the record, downloaded once.

        Raises:
            CorruptRecordError: if it is a link, or in a folder of the record that is one.
        """
        if self._local is not None:
            _check_no_link(self._local, path)
            return self._local / path
        target = self._scratch / path
        if not target.exists():
            whole = f"{self._prefix}/{path}"
            target.parent.mkdir(parents=True, exist_ok=True)
            # Beside its place and then moved: no other thread sees half of it.
            beside = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
            try:
                with contextlib.suppress(NotFoundError):
                    self.store.download(self.run, whole, target.parent, name=beside.name)
                    beside.replace(target)
            finally:
                beside.unlink(missing_ok=True)
        return target

    @cached_property
    def _scratch(self) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="actiontrack-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    def _prefetch(self, paths: Sequence[str]) -> None:
        if self._local is None:
            _ = self._scratch  # made once, before the threads ask for it
            with ThreadPoolExecutor(_DOWNLOAD_THREADS) as pool:
                list(pool.map(self.fetch, paths))

    def _read_manifest(self) -> Manifest:
        # A recording run replaces its manifest every epoch, and not every store does so in one
        # atomic step: what looks half-written gets a second look.
        for attempt in range(1, _MANIFEST_ATTEMPTS + 1):
            path = self.fetch(MANIFEST)
            try:
                return read_manifest(path)
            except NotFoundError:
                raise NotFoundError(
                    f"run {self.run.run_id} ({self.run.name}) has no readable record "
                    f"{self.name!r}. Its records: {', '.join(self.run.records) or 'none'}."
                ) from None
            except CorruptRecordError as error:
                if attempt == _MANIFEST_ATTEMPTS or self.run.status != "RUNNING":
                    where = f"{MANIFEST} of {self.name} of run {self.run.run_id}"
                    text = str(error)
                    if self._local is None:  # the path of a copy tells nobody anything
                        text = text.replace(str(path), where)
                    raise CorruptRecordError(text) from error
                if self._local is None:
                    path.unlink(missing_ok=True)
                time.sleep(0.2 * attempt)
        raise AssertionError  # pragma: no cover - the loop returns or raises


def _record(fields: dict[str, Any]) -> StoredRecord:
    return StoredRecord(**fields)


def _check_no_link(record: Path, path: str) -> None:
    """Refuse links: they would show what lies elsewhere on the machine that reads."""
    place = record
    for part in ("", *PurePosixPath(path).parts):
        place /= part
        if place.is_symlink():
            raise CorruptRecordError(
                f"{path} of {record.name} is, or lies in, a symbolic link. Records hold none: "
                "restore the file, or record the run again."
            )


def _read_below(root: Path, relative: str) -> bytes:
    base = root.resolve()
    path = (base / relative).resolve()
    if not path.is_relative_to(base):
        raise NotFoundError(f"image {relative!r} lies outside the dataset's folder {root}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotFoundError(
            f"image {relative!r} is not at {root} on this machine: {error.strerror}. "
            "Record with thumbnails to see images elsewhere."
        ) from error
