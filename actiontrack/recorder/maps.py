"""Maps of pixel actions (eq. 7): added up on disk, epoch by epoch, never kept epoch by epoch.

::

    <record>/accumulator/
        state.json     which sums there are: file, last step that it includes, size in bytes
        index.npz      id, height and width of each map, in the order of their first appearance
        epoch.f32      maps of the present epoch, as they come
        sum-0.f32      their sum up to one step …
        sum-1.f32      … and up to the step before or after it

Each ``.f32`` holds raw little-endian float32, one map after the other. An epoch is added to the sum
before it and written over the other file, so that at any moment one sum is whole: an interrupted
epoch adds nothing, and the last recorded epoch can be recorded again. A sum belongs to the record
only if the manifest's last step is its own.

Memory holds the maps of one batch. The disk holds three maps per sample, 12 bytes a stored pixel,
and the finished record beside them while it is written.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.errors import CorruptRecordError, ParameterError, RecordingError, StoreError
from actiontrack.record.disk import FileEntry
from actiontrack.record.maps import pool_map, read_map, read_map_index, write_maps
from actiontrack.record.paths import MAP_INDEX, MAPS
from actiontrack.recorder.arrays import canonical_ids, to_host
from actiontrack.recorder.epoch import first_ids
from actiontrack.recorder.spool import ACCUMULATOR, Spool
from actiontrack.scores import pixel_action

__all__ = ["PixelMaps", "flush_maps"]

Map = npt.NDArray[np.float32]

_STATE, _INDEX, _EPOCH = "state.json", "index.npz", "epoch.f32"
_SUMS = ("sum-0.f32", "sum-1.f32")
_BEFORE = f"{MAPS}/before"
_ITEM = np.dtype("<f4")


@dataclass(frozen=True)
class _Sum:
    """A file of sums: the last step that it includes, and how long it is."""

    step: int
    bytes: int


@dataclass
class _Layout:
    """Size and offset of the map of each id, the same in every file."""

    shapes: dict[Any, tuple[int, int]] = field(default_factory=dict)
    offsets: dict[Any, int] = field(default_factory=dict)
    end: int = 0

    def add(self, sample_id: Any, shape: tuple[int, int]) -> None:
        self.shapes[sample_id], self.offsets[sample_id] = shape, self.end
        self.end += shape[0] * shape[1] * _ITEM.itemsize

    def copy(self) -> "_Layout":
        return _Layout(dict(self.shapes), dict(self.offsets), self.end)


class PixelMaps:
    """The maps of one record while it is recorded.

    Args:
        folder: folder of the record in the spool.
        factor: side of the blocks of pixels whose mean is kept, see `record.maps.pool_map`.
        of_some: whether only some samples have maps: those of the first epoch, in each epoch.
    """

    def __init__(self, folder: Path, factor: int, *, of_some: bool = False) -> None:
        self._folder, self._factor, self._of_some = folder / ACCUMULATOR, factor, of_some
        self._layout = _Layout()
        self._committed = _Layout()  # as of the last epoch that was ended
        self._sums: dict[str, _Sum] = {}
        self._epoch: set[Any] = set()

    @classmethod
    def open(cls, spool: Spool) -> "PixelMaps":
        """The maps of a record, those of earlier epochs included.

        Raises:
            RecordingError: if the record has epochs whose maps are not there.
            CorruptRecordError: if they are damaged.
        """
        manifest = spool.manifest
        factor = int((manifest.maps or {}).get("factor", 1))
        maps = cls(spool.folder, factor, of_some=manifest.of_tokens)
        last = spool.last_step
        if last is None:
            maps.remove()
            return maps
        maps._load()
        if maps._file_of(last) is None:
            maps._restore(spool)
        if maps._file_of(last) is None:
            raise RecordingError(
                f"maps: the record {manifest.name} has {len(spool.steps)} epochs, but not the "
                "maps of them. Resume where its spool is, or start a new run."
            )
        return maps

    def add(self, ids: Any, maps: Any, *, duplicates: str) -> None:
        """Keep the maps of a batch, for the present epoch.

        Args:
            ids: (batch,) integers or strings.
            maps: (batch, H, W), or a sequence of (H, W) whose sizes differ.
            duplicates: "error", or "first" to keep the first map of an id.

        Raises:
            RecordingError: if an id is repeated, or its map has another size than before.
            ParameterError: if there is not one map per id.
            StoreError: if the disk is full.
        """
        names = canonical_ids(ids).tolist()
        pictures = _host_maps(maps, len(names))
        with _on_disk(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            mode = "r+b" if self._epoch else "wb"
            with (self._folder / _EPOCH).open(mode, buffering=0) as file:
                for name, picture in zip(names, pictures, strict=True):
                    if name not in self._epoch:
                        self._put(file, name, pool_map(picture, self._factor))
                    elif duplicates == "error":
                        raise RecordingError(
                            f"maps: the map of sample {name} comes twice in this epoch. Visit "
                            "each sample once per epoch, or pass duplicates='first'."
                        )

    def check(self, ids: npt.NDArray[Any], step: int, before: int | None) -> None:
        """Refuse an epoch that can't be added, before anything is written.

        Args:
            ids: samples whose losses the epoch holds.
            step: its number.
            before: the step that it follows, or None for the first one.

        Raises:
            RecordingError: if maps are missing or belong to no loss, or the sum up to `before` is
                not kept.
        """
        names = set(ids.tolist())
        mapped = names
        if self._of_some:
            mapped = names & (set(self._committed.shapes) if before is not None else self._epoch)
        for some, what in (
            (mapped - self._epoch, "a loss but no map"),
            (self._epoch - names, "a map but no loss"),
        ):
            if some:
                raise RecordingError(
                    f"maps: {len(some)} samples of epoch {step} have {what}: "
                    f"{first_ids(np.array(sorted(some)))}. Call update and update_maps for every "
                    "batch."
                )
        if before is not None and self._file_of(before) is None:
            steps = " and ".join(str(step) for step in sorted(s.step for s in self._sums.values()))
            raise RecordingError(
                f"maps: epoch {step} can't be recorded again: sums of maps are kept up to epoch "
                f"{steps} only. Go on from there, or start a new run."
            )

    def commit(self, step: int, delta: float, before: int | None) -> None:
        """Add the present epoch to the sum up to the step before it.

        Args:
            step: number of the epoch.
            delta: Δn.
            before: see `check`.

        Raises:
            StoreError: if the disk is full; the maps are kept, call again.
        """
        source = None if before is None else self._file_of(before)
        target = next(name for name in _SUMS if name != source)
        self._sums.pop(target, None)
        with _on_disk(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            self._save()
            with (self._folder / target).open("wb") as file:
                for name in self._layout.shapes:
                    self._added(name, delta, source).tofile(file)
            if self._layout.end != self._committed.end:
                self._save_index()
            before_it = {} if source is None else {source: self._sums[source]}
            self._sums = {**before_it, target: _Sum(step, self._layout.end)}
            self._save()
        self._committed = self._layout.copy()

    def discard(self) -> None:
        """Drop the maps since the last epoch."""
        self._epoch.clear()
        self._layout = self._committed.copy()

    def remove(self) -> None:
        """Delete the sums."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, spool: Spool, *, complete: bool) -> None:
        """Write the sum up to the last step into the record, each map to open alone.

        A record that may be continued keeps full precision and the sum before the last, too.

        Raises:
            StoreError: if the disk is full.
        """
        manifest = spool.manifest
        ids, options = spool.sample_ids(), dict(manifest.maps or {})
        last = spool.last_step
        if ids is None or last is None:
            return
        dtype = str(options.get("dtype", "float32")) if complete else "float32"
        entries = self._write(spool.folder, ids, last, dtype, MAPS)
        options |= {"step": last}
        options.pop("before", None)
        before = spool.steps[-2].step if len(spool.steps) > 1 else None
        if not complete and before is not None and self._file_of(before):
            entries |= self._write(spool.folder, ids, before, dtype, _BEFORE)
            options["before"] = before
        spool.add_maps(entries, options)

    def _write(
        self, folder: Path, ids: npt.NDArray[Any], step: int, dtype: str, under: str
    ) -> dict[str, FileEntry]:
        source = self._file_of(step)
        assert source is not None  # noqa: S101 - asked before
        names: Sequence[Any] = ids.tolist()
        maps = (
            self._read(source, name) if name in self._committed.shapes else None for name in names
        )
        return write_maps(folder, maps, dtype=dtype, under=under)

    def _file_of(self, step: int) -> str | None:
        return next((name for name, total in self._sums.items() if total.step == step), None)

    def _put(self, file: Any, name: Any, values: Map) -> None:
        shape = self._layout.shapes.get(name)
        if shape is None:
            self._layout.add(name, (values.shape[0], values.shape[1]))
        elif shape != values.shape:
            raise RecordingError(
                f"maps: the map of sample {name} had {shape[0]}×{shape[1]} stored pixels, now it "
                f"has {values.shape[0]}×{values.shape[1]}. Evaluate at the same size every epoch."
            )
        file.seek(self._layout.offsets[name])
        file.write(np.ascontiguousarray(values, dtype=_ITEM).data)
        self._epoch.add(name)

    def _added(self, name: Any, delta: float, source: str | None) -> Map:
        """A sample that misses an epoch has no action: a shorter sum would look easy."""
        if name not in self._epoch:
            return np.full(self._layout.shapes[name], np.nan, dtype=_ITEM)
        start = None if source is None else self._read(source, name)
        return pixel_action([self._read(_EPOCH, name)], [delta], start=start).astype(_ITEM)

    def _read(self, file: str, name: Any) -> Map:
        shape, offset = self._layout.shapes[name], self._layout.offsets[name]
        if file in self._sums and offset >= self._sums[file].bytes:
            return np.full(shape, np.nan, dtype=_ITEM)  # first seen after that step
        count = shape[0] * shape[1]
        values = np.fromfile(self._folder / file, _ITEM, count, offset=offset)
        if values.size != count:
            raise CorruptRecordError(
                f"{self._folder / file} is cut short. Start a new run: its sums of maps are lost."
            )
        return values.reshape(shape)

    def _save(self) -> None:
        temporary = self._folder / f".{_STATE}.tmp"
        state = {name: vars(total) for name, total in self._sums.items()}
        temporary.write_text(json.dumps(state), encoding="utf-8")
        temporary.replace(self._folder / _STATE)

    def _save_index(self) -> None:
        temporary = self._folder / f".{_INDEX}.tmp"
        shapes = np.array(list(self._layout.shapes.values()), dtype=np.int64).reshape(-1, 2)
        with temporary.open("wb") as file:
            np.savez(file, ids=np.array(list(self._layout.shapes)), shapes=shapes)
        temporary.replace(self._folder / _INDEX)

    def _load(self) -> None:
        try:
            state = json.loads((self._folder / _STATE).read_text(encoding="utf-8"))
            with np.load(self._folder / _INDEX, allow_pickle=False) as index:
                ids, shapes = index["ids"].tolist(), index["shapes"].tolist()
        except (OSError, ValueError, KeyError, TypeError):
            return
        for name, shape in zip(ids, shapes, strict=True):
            self._layout.add(name, (int(shape[0]), int(shape[1])))
        self._committed = self._layout.copy()
        self._sums = {name: _Sum(**total) for name, total in state.items() if name in _SUMS}

    def _restore(self, spool: Spool) -> None:
        """Go on from the maps in the record, where an earlier process has left them."""
        manifest, ids = spool.manifest, spool.sample_ids()
        options = manifest.maps or {}
        if ids is None or MAP_INDEX not in manifest.files:
            return
        self._layout, self._sums = _Layout(), {}
        folders = {"step": MAPS, "before": _BEFORE}
        with _on_disk(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            for key, target in zip(folders, _SUMS, strict=True):
                if key in options:
                    self._copy(spool, ids.tolist(), folders[key], target)
                    self._sums[target] = _Sum(int(options[key]), self._layout.end)
            self._committed = self._layout.copy()
            self._save_index()
            self._save()

    def _copy(self, spool: Spool, ids: Sequence[Any], under: str, target: str) -> None:
        with (self._folder / target).open("wb") as file:
            for name, values in zip(ids, _stored(spool, under), strict=True):
                if values is not None and name not in self._layout.shapes:
                    self._layout.add(name, (values.shape[0], values.shape[1]))
                if name in self._layout.shapes:
                    missing = np.full(self._layout.shapes[name], np.nan)
                    (missing if values is None else values).astype(_ITEM).tofile(file)


def flush_maps(spool: Spool) -> None:
    """Write maps that a crash has left in the accumulator of a spool into its record."""
    manifest = spool.manifest
    if manifest.pixel_loss_name and MAP_INDEX not in manifest.files and spool.steps:
        PixelMaps.open(spool).write(spool, complete=False)


def _stored(spool: Spool, under: str) -> Iterator[Map | None]:
    manifest = spool.manifest
    index = read_map_index(manifest, spool.fetch, under=under)
    for sample, file in enumerate(index["file"].tolist()):
        if file < 0:
            yield None
        else:
            yield read_map(manifest, spool.fetch, index, sample, under=under)


def _host_maps(maps: Any, n_ids: int) -> list[npt.NDArray[Any]]:
    whole = hasattr(maps, "shape")
    rule = f"must be {n_ids} maps of shape (H, W), one per id"
    try:
        pictures = list(_host(maps)) if whole else [_host(values) for values in maps]
    except (TypeError, ValueError):
        remedy = "Pass an array, or a sequence of them."
        raise ParameterError("maps", rule, maps, remedy) from None
    if any(values.dtype.kind not in "biuf" for values in pictures):
        raise ParameterError("maps", rule, maps, "Pass the losses as numbers.")
    if len(pictures) != n_ids or any(values.ndim != 2 or not values.size for values in pictures):
        shapes = tuple(maps.shape) if whole else [values.shape for values in pictures]
        raise ParameterError("maps", rule, shapes, "Sum over classes or channels first.")
    return pictures


def _host(values: Any) -> npt.NDArray[Any]:
    if hasattr(values, "detach"):
        values = values.detach()
    return to_host([values if hasattr(values, "shape") else np.array(values)])


@contextlib.contextmanager
def _on_disk(folder: Path) -> Iterator[None]:
    """Errors of the disk as ours."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {folder}: {error.strerror or error}. What was recorded before is safe. "
            "Free space or set ACTIONTRACK_SPOOL to a folder that can be written, then try again."
        ) from error
