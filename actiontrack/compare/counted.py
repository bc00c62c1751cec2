"""Mid-ranks of resamples from how often they drew each sample, a long row at a time.

With t_g draws of the g-th smallest value, all of them share the rank
t_1 + ... + t_(g-1) + (t_g + 1) / 2: duplicates tie, as they would in the resampled array.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from actiontrack.compare.matrices import Floats, Ints
from actiontrack.compare.sorting import ascending, split_by_class, stretch_numbers, stretches

__all__ = [
    "SortedRow",
    "Workspace",
    "counted_ranks",
    "sorted_rows",
]


@dataclass(frozen=True)
class SortedRow:
    """The order of the scores of a run, to rank its resamples without another sort.

    Attributes:
        order: positions of the samples, sorted by class, if there are classes, and by score.
        edges: where in the order each stretch of equal scores begins, and the end of the last.
        stretch: number of the stretch that holds each sample.
    """

    order: Ints
    edges: Ints
    stretch: Ints

    def write_ranks(self, counts: Ints, ranks: Floats) -> None:
        """Write the ranks in a resample that drew sample i ``counts[i]`` times, (n,).

        Counted on from class to class; of a sample not drawn it is a value without meaning.
        """
        middles = _middles(counts.take(self.order), self.edges)
        middles.take(self.stretch, out=ranks, mode="clip")  # other modes take a copy


def sorted_rows(rows: Floats, sizes: Sequence[int] = ()) -> list[SortedRow]:
    """The order of each row (R, n), n > 0, and within it that of each class.

    Args:
        rows: finite scores; with classes their samples come class by class.
        sizes: number of samples of each class. Default: there are none.
    """
    sizes_of_classes = np.asarray(sizes if len(sizes) else [rows.shape[1]], dtype=np.intp)
    codes = np.repeat(np.arange(sizes_of_classes.size), sizes_of_classes)
    codes = codes.astype(np.min_scalar_type(sizes_of_classes.size))
    ready = []
    for row in rows:
        order = split_by_class(ascending(row)[0], codes)
        starts = stretches(row.take(order), sizes_of_classes)
        stretch = stretch_numbers(order, starts)
        ready.append(SortedRow(order, np.append(starts, row.size), stretch))
    return ready


def counted_ranks(row: Floats, counts: Ints) -> Floats:
    """Mid-ranks (n,) of finite scores (n,), n > 0, of which each occurs as often as it counts."""
    order, placed = ascending(row)
    starts = stretches(placed)
    middles = _middles(counts.take(order), np.append(starts, row.size))
    ranks = np.empty(row.size)
    if starts.size == row.size:
        ranks[order] = middles
    else:
        ranks[order] = np.repeat(middles, np.diff(starts, append=row.size))
    return ranks


class Workspace:
    """Memory for temporary arrays, used again: new pages would take longer than the arithmetic."""

    def __init__(self) -> None:
        self._memory: dict[str, Floats] = {}

    def floats(self, purpose: str, shape: tuple[int, ...]) -> Floats:
        """An array of any content, valid until the next one for this purpose."""
        size = math.prod(shape)
        memory = self._memory.get(purpose)
        if memory is None or memory.size < size:
            memory = self._memory[purpose] = np.empty(size)
        return memory[:size].reshape(shape)


def _middles(counts: Ints, edges: Ints) -> Floats:
    """The rank that each stretch shares, from the counts in the order of the scores."""
    before = np.zeros(counts.size + 1, dtype=np.intp)
    np.cumsum(counts, out=before[1:])
    if edges.size < before.size:
        before = before.take(edges)
    middles: Floats = (before[:-1] + before[1:]) / 2
    middles += 0.5
    return middles
