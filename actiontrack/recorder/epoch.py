"""The batches of one epoch, and what they add up to: one row per sample, each sample once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
from array_api_compat import device

from actiontrack.errors import RecordingError
from actiontrack.recorder.arrays import canonical_ids, joined, to_host
from actiontrack.scores import classification_measures

__all__ = ["Columns", "EpochBuffer", "EpochRows", "Gather", "first_ids", "scatter"]

Columns = dict[str, npt.NDArray[Any]]

#: Collects the columns of every process: a list on the one that writes, None on the others.
Gather = Callable[[Columns], "list[Columns] | None"]

_SHOWN_IDS = 5
_OUTPUTS = 2**16  # logits that are measured at once: few calls, and they stay in the cache
_NOT_FLOATS = frozenset({"label", "predicted", "largest_other", "correct"})


@dataclass(frozen=True)
class EpochRows:
    """The rows of an epoch, each sample once, by ascending id.

    Attributes:
        ids: (n_seen,) int64 or str, unique, ascending.
        columns: name -> (n_seen,).
        n_duplicates: rows that repeated an id and were dropped; the first one counts.
        repeated: ids that were repeated.
    """

    ids: npt.NDArray[Any]
    columns: Columns
    n_duplicates: int
    repeated: npt.NDArray[Any]


@dataclass
class EpochBuffer:
    """Batches as they come; nothing is copied from a device before `rows`.

    Logits wait until there are enough of them: the measures of many batches cost what those of one
    do, as long as the batches are small.
    """

    ids: list[Any] = field(default_factory=list)
    columns: dict[str, list[Any]] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    _brought: tuple[str, ...] = ()
    _invalid: list[Any] = field(default_factory=list)
    _outputs: list[tuple[Any, Any]] = field(default_factory=list)
    _kind: tuple[Any, ...] = ()
    _n_logits: int = 0

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.sizes)

    def add(
        self,
        ids: Any,
        size: int,
        columns: Mapping[str, Any],
        outputs: tuple[Any, Any] | None = None,
        invalid: Any = None,
    ) -> None:
        """Keep one batch.

        Args:
            ids: (size,).
            size: number of samples.
            columns: name -> (size,).
            outputs: logits (size, n_classes) and labels (size,) whose measures are columns too.
            invalid: 0-d, whether the outputs are no distributions though they should be.

        Raises:
            RecordingError: if the batch has other columns than those before it.
        """
        brought = (*columns, "logits") if outputs else tuple(columns)
        if brought != self._brought:
            self._check_names(brought)
            self._brought = brought
        if invalid is not None:
            self._invalid.append(invalid)
        self.ids.append(ids)
        self.sizes.append(size)
        for name, values in columns.items():
            self.columns.setdefault(name, []).append(values)
        if outputs:
            self._await(outputs)

    def _check_names(self, brought: tuple[str, ...]) -> None:
        if self.sizes and set(brought) != set(self._brought):
            raise RecordingError(
                f"update: this batch brings {sorted(brought)}, earlier ones brought "
                f"{sorted(self._brought)}. Pass the same arguments for every batch."
            )

    def _await(self, outputs: tuple[Any, Any]) -> None:
        logits, labels = outputs
        rows, n_classes = logits.shape
        where = getattr(logits, "device", None)
        kind = (type(logits), logits.dtype, where, n_classes, type(labels), labels.dtype)
        if kind != self._kind:  # what cannot be joined with those before it
            self._measure()
            self._kind = kind
        self._outputs.append(outputs)
        self._n_logits += rows * n_classes
        if self._n_logits >= _OUTPUTS:
            self._measure()

    def _measure(self) -> None:
        if not self._outputs:
            return
        # NumPy is the fastest on the host for as little at once as this.
        join = to_host if _on_host(self._outputs[0][0]) else joined
        logits, labels = (join(parts) for parts in zip(*self._outputs, strict=True))
        self._outputs, self._n_logits = [], 0
        for rows in _pieces(logits):
            measures = classification_measures(logits[rows], labels[rows])
            cross_entropy = measures.pop("cross_entropy")
            if "loss" not in self._brought:
                measures["loss"] = cross_entropy
            for name, values in measures.items():
                self.columns.setdefault(name, []).append(values)

    def rows(self, gather: Gather | None, *, check_uniform: bool = False) -> EpochRows | None:
        """The epoch's rows, or None if it has none or on a process that does not write.

        Args:
            gather: collects the columns of all processes.
            check_uniform: refuse a batch whose losses are all equal.

        Raises:
            RecordingError: if a batch has equal losses, see `check_uniform_losses`, or brought
                probabilities that are none.
        """
        host = self._host()
        parts = [host] if gather is None else gather(host)
        self._check_distributions()  # the other processes must not wait for this one
        if parts is None:
            return None
        gathered = [columns for columns in parts if columns]
        if check_uniform:
            for columns in gathered:
                check_uniform_losses(columns["loss"], columns["batch"])
        rows = _first_of_each_id(gathered) if gathered else None
        return rows if rows is not None and rows.ids.size else None

    def _check_distributions(self) -> None:
        if not self._invalid:
            return
        # Of one device together: each copy waits for it.
        runs = groupby(self._invalid, key=lambda flag: (type(flag), str(device(flag))))
        flags = [to_host([flag.reshape(1) for flag in run]) for _, run in runs]
        wrong = np.flatnonzero(np.concatenate(flags))
        if wrong.size:
            raise RecordingError(
                f"probabilities: rows of batch {wrong[0] + 1} are no distributions over the "
                "classes. Each must be non-negative and sum to 1; pass what comes before the "
                "softmax as logits."
            )

    def _host(self) -> Columns:
        if not self.sizes:
            return {}
        self._measure()
        host: Columns = {
            name: _storable(name, to_host(values)) for name, values in self.columns.items()
        }
        host["ids"] = _joined_ids([canonical_ids(ids) for ids in self.ids])
        host["batch"] = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return host


def _pieces(logits: Any) -> Iterable[slice]:
    """Rows to measure at once: all of them, but on the host about as many as its cache holds."""
    n_rows, n_classes = logits.shape
    n_pieces = max(1, n_rows * n_classes // _OUTPUTS) if _on_host(logits) else 1
    size = -(-n_rows // n_pieces)  # none is much smaller than the others: each has a fixed cost
    return (slice(start, start + size) for start in range(0, n_rows, max(1, size)))


def _on_host(values: Any) -> bool:
    return str(device(values)) == "cpu"


def _storable(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Losses and measures as float32, whatever the framework computes in."""
    if name in _NOT_FLOATS:
        return values
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _joined_ids(batches: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Ids of all batches; NumPy would turn integers among strings into text."""
    if len({ids.dtype.kind for ids in batches if ids.size}) > 1:
        raise RecordingError(
            "ids: some are integers and some are strings. Pass ids of the same type throughout."
        )
    return np.concatenate([ids for ids in batches if ids.size] or batches)


def check_uniform_losses(losses: npt.NDArray[Any], batches: npt.NDArray[Any]) -> None:
    """Refuse a batch whose losses are all the same: the mark of a forgotten reduction.

    Zero is let through: a learned batch can have loss 0 in every sample. So is infinity: losses
    that overflow are no matter of the reduction.

    Args:
        losses: (n_rows,) in the order of the batches.
        batches: (n_rows,) number of the batch that each row came in, ascending.

    Raises:
        RecordingError: names the batch, the value and the remedy.
    """
    starts = np.flatnonzero(np.diff(batches, prepend=-1))
    sizes = np.diff(starts, append=batches.size)
    low, high = np.minimum.reduceat(losses, starts), np.maximum.reduceat(losses, starts)
    uniform = np.flatnonzero((low == high) & (sizes > 1) & (low != 0) & np.isfinite(low))
    if uniform.size:
        first = int(uniform[0])
        raise RecordingError(
            f"losses: all {sizes[first]} losses of batch {batches[starts[first]] + 1} are "
            f"{float(low[first]):g}. The criterion reduces the batch: construct it with "
            "reduction='none'. If the losses are right, pass allow_uniform=True."
        )


def _first_of_each_id(gathered: Sequence[Columns]) -> EpochRows:
    """Merge processes; of a repeated id keep the row that came first in time.

    A distributed sampler deals sample i to rank i mod R and pads at the end, so that the padding
    always sits in a later batch, or in the same batch on a later rank, than the original.
    """
    names = [name for name in gathered[0] if name != "ids"]  # in order: blocks repeat byte by byte
    all_ids = _joined_ids([columns["ids"] for columns in gathered])
    merged = {name: np.concatenate([part[name] for part in gathered]) for name in names}
    batches = merged.pop("batch")
    order = _order_of_unique(all_ids)
    if order is None:
        in_time = np.argsort(batches, kind="stable")
        ids = all_ids[in_time]
        unique, first, counts = np.unique(ids, return_index=True, return_counts=True)
        order, repeated = in_time[first], unique[counts > 1]
    else:
        unique, repeated = all_ids[order], all_ids[:0]
    columns = {name: values[order] for name, values in merged.items()}
    return EpochRows(unique, columns, int(all_ids.size - unique.size), repeated)


def _order_of_unique(ids: npt.NDArray[Any]) -> npt.NDArray[np.intp] | None:
    """Rows by ascending id where the ids fill a range, each once, as most do; else None.

    Nothing is sorted: an id less the first one is its row.
    """
    if ids.dtype.kind != "i" or not ids.size:
        return None
    first = int(ids.min())
    if int(ids.max()) - first != ids.size - 1:  # in Python's integers, which do not overflow
        return None
    order = np.full(ids.size, -1, dtype=np.intp)
    order[ids - first] = np.arange(ids.size)
    return None if (order < 0).any() else order


def scatter(
    rows: EpochRows, sample_ids: npt.NDArray[Any]
) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Columns in canonical order; masked where a sample was not seen.

    Returns:
        name -> (n_samples,), and the number of samples seen.

    Raises:
        RecordingError: if an id is unknown.
    """
    if rows.ids.size == sample_ids.size and bool((rows.ids == sample_ids).all()):
        return dict(rows.columns), int(rows.ids.size)
    unknown = np.setdiff1d(rows.ids, sample_ids, assume_unique=True)
    if unknown.size:
        raise RecordingError(
            f"ids: {unknown.size} are unknown to this record: {first_ids(unknown)}. It knows "
            f"{sample_ids.size} samples, declared or seen in the first epoch. Declare all of "
            "them with describe_samples(ids=...), or drop the others."
        )
    positions = np.searchsorted(sample_ids, rows.ids)
    missing = np.ones(sample_ids.size, dtype=np.bool_)
    missing[positions] = False
    columns: dict[str, npt.NDArray[Any]] = {}
    for name, values in rows.columns.items():
        column = np.zeros(sample_ids.size, dtype=values.dtype)
        column[positions] = values
        columns[name] = np.ma.MaskedArray(column, mask=missing)
    return columns, int(rows.ids.size)


def first_ids(ids: npt.NDArray[Any]) -> str:
    """The first few ids, for a message."""
    text = ", ".join(str(name) for name in ids[:_SHOWN_IDS].tolist())
    return text if ids.size <= _SHOWN_IDS else f"{text} and {ids.size - _SHOWN_IDS} more"
