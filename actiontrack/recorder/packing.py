"""Which steps go into which file of losses: few files, none written often.

Steps arrive one by one, and a file can't be appended to. So new steps become a small file, and
small files that have become many are merged: sixteen of about a size into one, so that a value is
written as often as the logarithm of the number of steps says. A file that is large enough is left
as it is for ever.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Limits", "ranges", "tail_to_merge"]

_MERGED = 16  # small files of about a size that become one
_LARGE_BYTES = 2**22  # of losses before compression: a file of them is large enough
_LARGEST_BYTES = 2**24
_FEWEST_STEPS = 16  # of a large file: its values are compressed by sample
_LARGE_STEPS, _LARGEST_STEPS = 2**12, 2**13


@dataclass(frozen=True)
class Limits:
    """How many steps a file of losses holds.

    Attributes:
        large: from so many on it is never merged again.
        largest: more go into further files.
    """

    large: int
    largest: int

    @classmethod
    def of(cls, n_samples: int) -> "Limits":
        """The limits of a record of so many samples."""
        step = 4 * max(1, n_samples)
        large = min(max(_LARGE_BYTES // step, _FEWEST_STEPS), _LARGE_STEPS)
        return cls(large, min(max(_LARGEST_BYTES // step, 2 * _FEWEST_STEPS), _LARGEST_STEPS))


def ranges(n_steps: int, limits: Limits) -> list[range]:
    """Steps that go into one file: as few files as there can be, about as large as another."""
    n_files = -(-n_steps // limits.largest)
    ends = [n_steps * number // n_files for number in range(n_files + 1)] if n_files else [0]
    return [range(start, end) for start, end in pairwise(ends)]


def tail_to_merge(
    sizes: Sequence[int], limits: Limits, *, n_new: int = 0, all_small: bool = False
) -> int:
    """How many of the last files are to be merged now, with steps that are in no file yet.

    Args:
        sizes: steps of the files so far, in order.
        limits: how many steps a file holds.
        n_new: how many steps come behind them.
        all_small: whether nothing follows, so that as few files as possible are to be left.
    """
    n_small = 0
    while n_small < len(sizes) and sizes[-n_small - 1] < limits.large:
        n_small += 1
    parts = [*sizes[len(sizes) - n_small :], *([n_new] if n_new else [])]
    if len(parts) > 1 and (all_small or sum(parts) >= limits.large):
        return n_small
    level = _level(parts[-1]) if parts else 0
    n_same = 0
    while n_same < len(parts) and _level(parts[-n_same - 1]) <= level:
        n_same += 1
    return n_same - bool(n_new) if n_same >= _MERGED else 0


def _level(size: int) -> int:
    level = 0
    while size >= _MERGED ** (level + 1):
        level += 1
    return level
