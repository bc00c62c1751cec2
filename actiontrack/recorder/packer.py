"""From the log of a spool into files of losses, and from small files into larger ones."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from actiontrack.record.disk import FileEntry
from actiontrack.record.losses import Grids, measure_dtype, read_blocks, read_steps, write_losses
from actiontrack.record.manifest import Manifest
from actiontrack.record.paths import BLOCKS, FORMAT_VERSION, LOSSES, losses_path
from actiontrack.record.steps import Block, StepEntry, StepTotals
from actiontrack.recorder.packing import Limits, ranges, tail_to_merge
from actiontrack.recorder.spool import ACCUMULATOR, Spool
from actiontrack.recorder.step_log import Frame

__all__ = ["Steps", "count_from_one", "pack", "rewrite"]


@dataclass(frozen=True)
class Steps:
    """Some steps of all samples, in memory.

    Attributes:
        entries: what each step held.
        grids: name -> (n_steps, n_samples).
        seen: (n_steps, n_samples), what samples were seen.
    """

    entries: tuple[StepEntry, ...]
    grids: Grids
    seen: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, frames: Sequence[Frame], names: Sequence[str], n_samples: int) -> "Steps":
        """The steps of a log, one at least."""
        entries = tuple(frame.entry for frame in frames if frame.entry is not None)
        grids = {
            name: np.stack([frame.columns[name] for frame in frames]).astype(
                measure_dtype(name), copy=False
            )
            for name in names
        }
        seen = np.ones((len(frames), n_samples), dtype=np.bool_)
        for row, frame in enumerate(frames):
            if frame.seen is not None:
                seen[row] = frame.seen
        return cls(entries, grids, seen)

    @classmethod
    def read(cls, manifest: Manifest, blocks: Sequence[Block], spool: Spool) -> "Steps":
        """The steps of some files of losses."""
        return cls(*read_blocks(manifest, blocks, spool.fetch, _names(manifest)))

    def before(self, other: "Steps") -> "Steps":
        """These steps and those that follow."""
        grids = {
            name: np.concatenate([grid, other.grids[name]]) for name, grid in self.grids.items()
        }
        seen = np.concatenate([self.seen, other.seen])
        return Steps((*self.entries, *other.entries), grids, seen)

    def rows(self, start: int, end: int) -> "Steps":
        """Some of the steps, by their position."""
        grids = {name: grid[start:end] for name, grid in self.grids.items()}
        return Steps(self.entries[start:end], grids, self.seen[start:end])


class _Files:
    """Files of losses of a record as they become, beside its manifest."""

    def __init__(self, spool: Spool, manifest: Manifest, blocks: Sequence[Block]) -> None:
        self.spool, self.manifest = spool, manifest
        self.blocks = list(blocks)
        self.limits = Limits.of(manifest.n_samples)
        self.written: dict[str, FileEntry] = {}
        numbers = [_number(path) for path in manifest.files if path.startswith(f"{LOSSES}/")]
        local = (path.stem for path in (spool.folder / LOSSES).glob("*.parquet"))
        numbers += [int(stem) for stem in local if stem.isdigit()]
        spool.last_number = max([spool.last_number, *numbers])

    def read(self, blocks: Sequence[Block]) -> Steps:
        files = {**self.manifest.files, **self.written}
        return Steps.read(replace(self.manifest, files=files), blocks, self.spool)

    def write(self, steps: Steps) -> None:
        """Append steps, in as many files as it takes."""
        for part in ranges(len(steps.entries), self.limits):
            rows = steps.rows(part.start, part.stop)
            self.spool.last_number += 1
            path = losses_path(self.spool.last_number)
            self.written[path] = write_losses(
                self.spool.folder,
                path,
                rows.entries,
                rows.grids,
                rows.seen,
                durable=self.spool.durable,
            )
            self.blocks.append(Block.of(path, rows.entries))

    def append(self, steps: Steps | None, *, all_small: bool) -> None:
        """Append steps and merge the last files where they have become many."""
        sizes = [block.n_steps for block in self.blocks]
        n_new = len(steps.entries) if steps is not None else 0
        n_merged = tail_to_merge(sizes, self.limits, n_new=n_new, all_small=all_small)
        if n_merged:
            merged = self.blocks[len(self.blocks) - n_merged :]
            del self.blocks[len(self.blocks) - n_merged :]
            earlier = self.read(merged)
            steps = earlier if steps is None else earlier.before(steps)
        if steps is not None:
            self.write(steps)
        if n_merged:
            self.append(None, all_small=all_small)

    @contextlib.contextmanager
    def removed_on_error(self) -> Iterator[None]:
        """Leave no new file behind where not all of them could be written."""
        try:
            yield
        except BaseException:
            for path in self.written:
                self.spool.fetch(path).unlink(missing_ok=True)
            raise

    def cut(self, step: int) -> None:
        """Drop the steps from `step` on."""
        while self.blocks and self.blocks[-1].last_step >= step:
            block = self.blocks.pop()
            if block.first_step < step:
                steps = self.read([block])
                n_left = sum(entry.step < step for entry in steps.entries)
                self.write(steps.rows(0, n_left))


def pack(spool: Spool, *, all_small: bool = False) -> Manifest:
    """Move the steps of the log into files of losses, and name these in the manifest.

    Args:
        spool: the record on local disk.
        all_small: whether no step follows, so that as few files as possible are to be left.

    Returns:
        The manifest, which lacks no step any more that was recorded before the call.

    Raises:
        StoreError: if the disk is full; the log is as it was.
        CorruptRecordError: if a file is damaged that is to be merged.
    """
    with spool.packing:
        with spool.lock:
            end, manifest = spool.log.rotate(), spool.manifest
        if manifest.version == 1:
            return manifest
        logged = list(spool.log.frames(manifest.log, end))
        frames, cut = _pending(logged, manifest)
        files = _Files(spool, manifest, manifest.blocks)
        with files.removed_on_error():
            if cut is not None:
                files.cut(cut)
            if manifest.n_samples:
                names = _names(manifest)
                steps = Steps.of(frames, names, manifest.n_samples) if frames else None
                files.append(steps, all_small=all_small)
        if tuple(files.blocks) == manifest.blocks:
            return spool.manifest
        totals = manifest.totals if cut is None else None
        _commit(spool, files, frames, totals, end, n_changes=len(logged))
        return spool.manifest


def _commit(
    spool: Spool,
    files: _Files,
    frames: Sequence[Frame],
    totals: StepTotals | None,
    end: int,
    *,
    n_changes: int,
) -> None:
    """Name the files in the manifest, then delete the logs that they hold.

    The revision rises by the changes that the log held: a copy of the spool that was merged alone
    is no newer than what it was copied from.
    """
    first = files.manifest.log
    with spool.lock:
        current = spool.manifest
        named = {block.path for block in files.blocks}
        everything = {**current.files, **files.written}
        remaining = {
            path: entry
            for path, entry in everything.items()
            if path in named or not _is_of_losses(path)
        }
        manifest = replace(current, blocks=tuple(files.blocks), files=remaining, log=end)
        if totals is None:
            totals = StepTotals.of(read_steps(manifest, spool.fetch))
        else:
            for frame in frames:
                totals = totals.plus(frame.entry) if frame.entry is not None else totals
        spool.commit(replace(manifest, totals=totals), n_changes=n_changes)
    spool.superseded.update(set(everything) - set(remaining))
    spool.log.discard(first, end)


def count_from_one(spool: Spool) -> None:
    """Give every step the number one higher: of a loop that counts its epochs from 0.

    Maps must be in the record; the sums that they go on from are read from there.

    Raises:
        CorruptRecordError: if a file is damaged.
        StoreError: if the disk is full; the record is as it was.
    """
    pack(spool)
    maps = dict(spool.manifest.maps) if spool.manifest.maps else None
    for key in ("step", "before"):
        if maps and key in maps:
            maps[key] += 1
    shutil.rmtree(spool.folder / ACCUMULATOR, ignore_errors=True)
    entries = [replace(entry, step=entry.step + 1) for entry in spool.steps]
    rewrite(spool, entries, maps=maps)


def rewrite(spool: Spool, entries: Sequence[StepEntry] | None = None, **changes: Any) -> None:
    """Write all files of losses anew, in the present format.

    Args:
        spool: a record whose log is packed.
        entries: what the steps are to be called and to weigh. Default: as they are.
        changes: fields of the manifest that are to change with it.

    Raises:
        CorruptRecordError: if a file is damaged.
        StoreError: if the disk is full; the record is as it was.
    """
    with spool.packing, spool.lock:
        before = spool.manifest
        steps = Steps.read(before, before.blocks, spool)
        if entries is not None:
            steps = Steps(tuple(entries), steps.grids, steps.seen)
        files = _Files(spool, before, ())
        if steps.entries:
            files.write(steps)
        remaining = {path: entry for path, entry in before.files.items() if not _is_of_losses(path)}
        spool.commit(
            replace(
                before,
                version=FORMAT_VERSION,
                steps=(),
                blocks=tuple(files.blocks),
                totals=StepTotals.of(steps.entries),
                files={**remaining, **files.written},
                **changes,
            )
        )
        spool.read_steps_again()
        spool.superseded.update(path for path in before.files if _is_of_losses(path))


def _pending(frames: Iterable[Frame], manifest: Manifest) -> tuple[list[Frame], int | None]:
    """Steps of the log that are not void, and from where on those of the files are."""
    pending: list[Frame] = []
    cut: int | None = None
    for frame in frames:
        if frame.cut is None:
            pending.append(frame)
            continue
        pending = [other for other in pending if _step(other) < frame.cut]
        if manifest.last_step is not None and frame.cut <= manifest.last_step:
            cut = frame.cut if cut is None else min(cut, frame.cut)
    return pending, cut


def _step(frame: Frame) -> int:
    assert frame.entry is not None  # noqa: S101 - frames that cut are applied before
    return frame.entry.step


def _names(manifest: Manifest) -> tuple[str, ...]:
    return ("loss", *manifest.measures, *manifest.components)


def _is_of_losses(path: str) -> bool:
    return path.startswith((f"{LOSSES}/", f"{BLOCKS}/"))


def _number(path: str) -> int:
    stem = path.removeprefix(f"{LOSSES}/").removesuffix(".parquet")
    return int(stem) if stem.isdigit() else 0
