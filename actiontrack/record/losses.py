"""Files of losses, each of some steps of all samples, and the history that they make up.

A file has one row per sample and step, sample by sample, so that what differs little lies side by
side: `sample`, `step`, `loss`, measures and loss components. Its footer says what every step held.
Files of format 1 are the same, of one step each.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError
from actiontrack.history import LossHistory
from actiontrack.record.disk import FileEntry
from actiontrack.record.limits import check_claim
from actiontrack.record.manifest import Manifest
from actiontrack.record.parquet import (
    INDICES_AS_FLOATS,
    Fetch,
    ParquetTable,
    check_rows,
    column_values,
    corrupt_on_error,
    open_any,
    promised_file,
    write_table,
)
from actiontrack.record.pieces import open_pieces
from actiontrack.record.samples import Samples, read_samples
from actiontrack.record.steps import Block, StepEntry, steps_from_text, steps_to_text
from actiontrack.record.threads import in_threads

__all__ = [
    "Grids",
    "block_steps",
    "history_up_to",
    "measure_dtype",
    "read_blocks",
    "read_curve",
    "read_history",
    "read_step",
    "read_steps",
    "write_losses",
]

#: Name -> (n_steps, n_samples).
Grids = dict[str, npt.NDArray[Any]]

_READERS = 4  # threads that decode
_AT_ONCE = 2**26  # bytes of files that are in memory at once
_GROUP_ROWS = 2**18  # rows of a row group: a mebibyte of losses, which stays in the cache
_STEPS_KEY = b"actiontrack.steps"
_REPEATED = 32  # steps from which on the position of a sample counts as repeated
_STEP_BYTES = 2**8  # what the entry of a step takes in memory
_INDICES = {"predicted", *INDICES_AS_FLOATS}


def write_losses(
    folder: Path,
    path: str,
    steps: Sequence[StepEntry],
    grids: Mapping[str, npt.NDArray[Any]],
    seen: npt.NDArray[np.bool_] | None = None,
    *,
    durable: bool = False,
) -> FileEntry:
    """Write some steps of all samples into one file.

    Args:
        folder: folder of the record.
        path: of the file inside the record.
        steps: what each step held, in the order of the rows of the grids.
        grids: "loss" and further columns, each (n_steps, n_samples).
        seen: (n_steps, n_samples), what samples were seen; others are written as null. None: all.
        durable: whether the file must outlast a power cut from now on.

    Raises:
        StoreError: if the disk is full.
    """
    n_steps, n_samples = grids["loss"].shape
    numbers = np.array([step.step for step in steps], dtype=np.int32)
    columns: dict[str, pa.Array] = {
        "sample": pa.array(np.repeat(np.arange(n_samples, dtype=np.int32), n_steps)),
        "step": pa.array(np.tile(numbers, n_samples)),
    }
    missing = None if seen is None or seen.all() else ~np.ascontiguousarray(seen.T).ravel()
    for name, grid in grids.items():
        stored = grid.astype(np.float32) if name in INDICES_AS_FLOATS else grid
        columns[name] = pa.array(np.ascontiguousarray(stored.T).ravel(), mask=missing)
    nullable = set(grids) if missing is not None else set()
    fields = [pa.field(name, values.type, name in nullable) for name, values in columns.items()]
    schema = pa.schema(fields, metadata={_STEPS_KEY: steps_to_text(steps)})
    table = pa.table(list(columns.values()), schema=schema)
    rows = max(1, _GROUP_ROWS // n_steps) * n_steps  # whole samples
    # Where positions repeat, compression alone does it, in half of the time.
    plain = ("sample", "step") if n_steps >= _REPEATED else ("step",)
    return write_table(folder / path, table, rows, plain=plain, pieces=True, durable=durable)


def read_steps(manifest: Manifest, fetch: Fetch) -> tuple[StepEntry, ...]:
    """What every step of a record held, in order.

    Raises:
        CorruptRecordError: if a file is missing, truncated or altered.
    """
    if manifest.version == 1:
        return manifest.steps
    _check_claim(manifest, manifest.blocks)
    steps: list[StepEntry] = []
    for block in manifest.blocks:
        steps += _Losses.open(manifest, block, fetch, in_parts=True).steps
    return tuple(steps)


def read_history(
    manifest: Manifest,
    fetch: Fetch,
    *,
    columns: Sequence[str] | None = None,
    samples: Samples | None = None,
) -> LossHistory:
    """Read the history of a record up to its last complete step.

    Args:
        manifest: the record's manifest.
        fetch: gives the local path of a file of the record.
        columns: measures and components to read beside the loss. Default: all of them.
        samples: as they were read before. Default: they are read now.

    Raises:
        CorruptRecordError: if a file is missing, truncated or altered.
    """
    samples = read_samples(manifest, fetch) if samples is None else samples
    recorded = (*manifest.measures, *manifest.components)
    names = ["loss", *(name for name in recorded if columns is None or name in columns)]
    steps, grids, seen = read_blocks(manifest, manifest.blocks, fetch, names)
    _check_totals(manifest, steps)
    with corrupt_on_error(manifest.name):
        return LossHistory(
            losses=grids.pop("loss"),
            sample_ids=samples.sample_ids,
            labels=samples.labels,
            true_labels=samples.true_labels,
            steps=np.array([entry.step for entry in steps], dtype=np.int64),
            deltas=np.array([entry.delta for entry in steps], dtype=np.float64),
            seen=seen,
            measures={name: grids[name] for name in manifest.measures if name in grids},
            components={name: grids[name] for name in manifest.components if name in grids},
            class_names=manifest.class_names,
            split=manifest.split,
            mode=manifest.mode,
            delta_kind=manifest.delta_kind,
            loss_name=manifest.loss_name,
        )


def read_blocks(
    manifest: Manifest, blocks: Sequence[Block], fetch: Fetch, names: Sequence[str]
) -> tuple[tuple[StepEntry, ...], Grids, npt.NDArray[np.bool_]]:
    """The steps of some files of losses.

    Returns:
        What each step held, columns (n_steps, n_samples), and what samples were seen, of the same
        shape. What was not seen is NaN, -1 or False.

    Raises:
        CorruptRecordError: if a file is missing, truncated or altered, or claims too much.
    """
    shape = sum(block.n_steps for block in blocks), manifest.n_samples
    types = {name: np.dtype(measure_dtype(name)) for name in names}
    width = sum(dtype.itemsize for dtype in types.values()) + 1  # and what was seen
    _check_claim(manifest, blocks, manifest.n_samples * width)
    grids = {name: np.empty(shape, dtype=types[name]) for name in names}
    seen = np.ones(shape, dtype=np.bool_)
    steps: list[StepEntry] = []
    for batch in _batches(manifest, blocks):
        files: dict[int, _Losses] = {}

        def open_one(number: int, batch: Sequence[Block] = batch, files: Any = files) -> None:
            files[number] = _Losses.open(manifest, batch[number], fetch, names)

        in_threads(open_one, range(len(batch)), _READERS)  # digests release the GIL
        jobs = []
        for number in range(len(batch)):
            file = files[number]
            rows = slice(len(steps), len(steps) + len(file.steps))
            steps += file.steps
            jobs += [(file, group, rows) for group in range(len(file.starts))]

        def decode(job: "tuple[_Losses, int, slice]") -> None:
            file, group, rows = job
            file.decode(group, names, {name: grids[name][rows] for name in names}, seen[rows])

        in_threads(decode, jobs, _READERS)  # and so does decoding
    return tuple(steps), grids, seen


def _check_claim(manifest: Manifest, blocks: Sequence[Block], width: int = 0) -> None:
    """Refuse more steps than the files can hold; `width` is bytes of a step beside its entry."""
    n_steps = sum(block.n_steps for block in blocks)
    stored = sum(promised_file(manifest, block.path).bytes for block in blocks)
    check_claim(f"the history of {manifest.name}", n_steps * width, stored)
    check_claim(f"what the steps of {manifest.name} held", n_steps * _STEP_BYTES, stored)


def _check_totals(manifest: Manifest, steps: Sequence[StepEntry]) -> None:
    """Refuse files whose steps do not add up to what the manifest says."""
    totals = manifest.totals
    delta = sum(step.delta for step in steps)
    if not math.isclose(delta, totals.delta) or any(
        sum(getattr(step, name) for step in steps) != getattr(totals, name)
        for name in ("n_seen", "n_nonfinite", "n_duplicates")
    ):
        raise CorruptRecordError(
            f"the steps of {manifest.name} do not add up to the totals of its manifest. Restore "
            "its files, or record the run again."
        )


def _batches(manifest: Manifest, blocks: Sequence[Block]) -> Iterator[list[Block]]:
    """Blocks that are in memory at once: one at least."""
    batch: list[Block] = []
    size = 0
    for block in blocks:
        stored = promised_file(manifest, block.path).bytes
        if batch and size + stored > _AT_ONCE:
            yield batch
            batch, size = [], 0
        batch.append(block)
        size += stored
    if batch:
        yield batch


def read_step(
    manifest: Manifest, fetch: Fetch, step: int, names: Sequence[str]
) -> tuple[StepEntry, Grids, npt.NDArray[np.bool_]]:
    """One step of all samples, from the one file that holds it.

    Returns:
        What the step held, columns (n_samples,), and what samples were seen.

    Raises:
        NotFoundError: if the step was not recorded.
        CorruptRecordError: if the file is missing, truncated or altered.
    """
    blocks = [block for block in manifest.blocks if block.first_step <= step <= block.last_step]
    steps, grids, seen = read_blocks(manifest, blocks, fetch, names)
    rows = [row for row, entry in enumerate(steps) if entry.step == step]
    if manifest.version == 1 and blocks:
        steps = tuple(entry for entry in manifest.steps if entry.step == step)
    if not rows:
        raise NotFoundError(
            f"record {manifest.name} has no step {step}. Its last one is {manifest.last_step}."
        )
    return steps[rows[0]], {name: grid[rows[0]] for name, grid in grids.items()}, seen[rows[0]]


def read_curve(
    manifest: Manifest, fetch: Fetch, sample: int, names: Sequence[str]
) -> tuple[tuple[StepEntry, ...], Grids, npt.NDArray[np.bool_]]:
    """All steps of one sample; of every file only the pages that hold it are read.

    Args:
        manifest: the record's manifest.
        fetch: gives the local path of a file of the record.
        sample: row position in canonical order.
        names: of columns.

    Returns:
        What each step held, columns (n_steps,), and in what steps the sample was seen.

    Raises:
        CorruptRecordError: if a file is missing, or what is read of it altered.
        ParameterError: if there is no such sample.
    """
    if not 0 <= sample < manifest.n_samples:
        rule = f"must be a row position below {manifest.n_samples}"
        raise ParameterError("sample", rule, sample, "Look it up among the sample ids.")
    _check_claim(manifest, manifest.blocks)
    steps: list[StepEntry] = []
    parts: dict[str, list[npt.NDArray[Any]]] = {name: [] for name in names}
    seen: list[npt.NDArray[np.bool_]] = []
    width = sum(np.dtype(measure_dtype(name)).itemsize for name in names) + 1
    for block in manifest.blocks:
        file = _Losses.open(manifest, block, fetch, names, in_parts=True)
        group = int(np.searchsorted(file.starts, sample, side="right")) - 1
        shape = len(file.steps), file.n_samples_of(group)
        check_claim(block.path, shape[0] * shape[1] * width, file.table.stored)
        grids = {name: np.empty(shape, dtype=measure_dtype(name)) for name in names}
        present = np.ones(shape, dtype=np.bool_)
        file.decode(group, names, grids, present, alone=True)
        column = sample - file.starts[group]
        steps += file.steps
        seen.append(present[:, column])
        for name in names:
            parts[name].append(grids[name][:, column])
    _check_totals(manifest, steps)
    grids = {
        name: np.concatenate(values) if values else np.empty(0, dtype=measure_dtype(name))
        for name, values in parts.items()
    }
    return tuple(steps), grids, np.concatenate([*seen, np.empty(0, dtype=np.bool_)])


def block_steps(table: ParquetTable, block: Block, n_samples: int) -> tuple[StepEntry, ...]:
    """What the footer of a file of losses says of its steps.

    Raises:
        CorruptRecordError: if it says nothing, or something else than the manifest.
    """
    with corrupt_on_error(block.path):
        said = (table.file.schema_arrow.metadata or {}).get(_STEPS_KEY)
        if said is None:
            raise ValueError("its footer says nothing of its steps")
        steps = steps_from_text(said, block.n_steps, n_samples)
        if Block.of(block.path, steps) != block:
            raise ValueError("its steps are not those of the manifest")
        return steps


@dataclass(frozen=True)
class _Losses:
    """A file of losses that is open, and verified or to be verified as it is read.

    Attributes:
        table: the file.
        steps: what each of its steps held.
        starts: the first sample of every row group.
        n_samples: samples of the record.
    """

    table: ParquetTable
    steps: tuple[StepEntry, ...]
    starts: list[int]
    n_samples: int

    @classmethod
    def open(
        cls,
        manifest: Manifest,
        block: Block,
        fetch: Fetch,
        names: Sequence[str] = (),
        *,
        in_parts: bool = False,
    ) -> "_Losses":
        source = open_pieces(manifest, block.path, fetch) if in_parts else None
        table = open_any(manifest, block.path, fetch, source)
        check_rows(table.metadata, block.path, manifest.n_samples * block.n_steps)
        if manifest.version == 1:
            steps = tuple(step for step in manifest.steps if step.step == block.first_step)
        else:
            steps = block_steps(table, block, manifest.n_samples)
        lacking = set(names) - set(table.names)
        if lacking:
            raise CorruptRecordError(
                f"{block.path} lacks the columns {', '.join(sorted(lacking))}. "
                "Restore the file, or record the run again."
            )
        if names and not in_parts:
            table.footer.check(block.path, table.read, table.stored, columns=set(names))
        sizes = [table.metadata.row_group(group).num_rows for group in range(table.n_groups)]
        with corrupt_on_error(block.path):
            if sum(sizes) != table.metadata.num_rows or min(sizes, default=0) < 0:
                raise ValueError("its row groups have another number of rows than its footer says")
            if any(size % block.n_steps for size in sizes):
                raise ValueError("a row group ends within a sample")
        starts = np.cumsum([0, *sizes[:-1]]) // block.n_steps
        return cls(table, steps, starts.tolist() if sizes else [], manifest.n_samples)

    def n_samples_of(self, group: int) -> int:
        """Samples of a row group."""
        ends = [*self.starts[1:], self.n_samples]
        return ends[group] - self.starts[group]

    def decode(
        self,
        group: int,
        names: Sequence[str],
        grids: Mapping[str, npt.NDArray[Any]],
        seen: npt.NDArray[np.bool_],
        *,
        alone: bool = False,
    ) -> None:
        """Read a row group into columns (n_steps, n_samples), or of its samples alone."""
        table = self.table
        if alone:
            table.footer.check(
                table.name, table.read, table.stored, columns=set(names), groups=[group]
            )
        n_steps, n_samples = len(self.steps), self.n_samples_of(group)
        start = 0 if alone else self.starts[group]
        where = slice(start, start + n_samples)
        with corrupt_on_error(table.name):
            rows = table.reopened().read_row_group(group, columns=list(names), use_threads=False)
            if rows.num_rows != n_samples * n_steps or len(rows.column_names) != len(names):
                raise ValueError(f"{rows.num_rows} rows where its footer says otherwise")
            loss = rows["loss"] if "loss" in names else rows[names[0]]
            if loss.null_count:
                seen[:, where] = loss.is_valid().to_numpy().reshape(n_samples, n_steps).T
            for name in names:
                column = rows[name]
                if name in INDICES_AS_FLOATS and pa.types.is_floating(column.type):
                    column = column.cast(pa.int32())  # raises where one is no whole number
                values = _filled(column, grids[name].dtype)
                grids[name][:, where] = values.reshape(n_samples, n_steps).T


def measure_dtype(name: str) -> type[np.generic]:
    """Type of the numbers of a loss or measure in a history."""
    if name == "correct":
        return np.bool_
    return np.int32 if name in _INDICES else np.float32


def _filled(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if column.null_count:
        missing: float | int | bool = np.nan
        if dtype.kind in "bi":
            missing = False if dtype.kind == "b" else -1
        column = column.fill_null(missing)
    return column_values(column, dtype)


def history_up_to(history: LossHistory, last: int | None) -> LossHistory:
    """A history without the steps after one of them; all of it for None."""
    if last is None or not history.n_steps or int(history.steps[-1]) <= last:
        return history
    rows = history.steps <= last
    grids = {
        name: {column: grid[rows] for column, grid in getattr(history, name).items()}
        for name in ("measures", "components")
    }
    names = ("losses", "steps", "deltas", "seen")
    cut = {name: getattr(history, name)[rows] for name in names}
    return LossHistory(**{**vars(history), **grids, **cut})
