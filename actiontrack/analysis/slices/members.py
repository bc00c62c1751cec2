"""Which samples a slice holds, by its name, and where they lie among those of their classes."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.analysis.slices.effects import Sliced, sliced
from actiontrack.analysis.slices.metadata import metadata_version, shared_metadata
from actiontrack.compare import Strata
from actiontrack.errors import ParameterError
from actiontrack.store import StoredRecord

__all__ = ["Strip", "in_slices", "members_of", "strips"]

_AND = " & "  # between the attributes of a slice


@dataclass(frozen=True, kw_only=True)
class Strip:
    """Where the samples of a slice lie among those of their classes, from 0 (easiest) to 1.

    Attributes:
        ranks: of some of the samples, evenly from the easiest to the hardest.
        mean: of all of them.
        low: a quarter of the samples lies below.
        high: a quarter of the samples lies above.
    """

    ranks: npt.NDArray[np.float64]
    mean: float
    low: float
    high: float


def members_of(sample_set: Sliced, name: str) -> npt.NDArray[np.bool_]:
    """Which samples a slice holds.

    Args:
        sample_set: of `effects.sliced`.
        name: of the slice, as in the column slice of `effects.slices`: ATTRIBUTE = GROUP, or
            several of them with " & " between.

    Raises:
        ParameterError: if there is no such slice.
    """
    groups = {
        f"{attribute.name} = {group}": (attribute, code)
        for attribute in (sample_set.of_class, *sample_set.attributes)
        for code, group in enumerate(attribute.groups)
    }
    parts = next(_parts(name, groups.keys()), None)
    if parts is None:
        examples = ", ".join(list(groups)[-2:])
        rule = f"must be made of groups such as {examples}"
        raise ParameterError("slice", rule, name, "Look into the slices of the record.")
    members = np.ones(sample_set.n_samples, dtype=np.bool_)
    for attribute, code in map(groups.__getitem__, parts):
        members &= attribute.codes == code
    return members


def in_slices(
    record: StoredRecord, names: Sequence[str], *, score: str = "action"
) -> npt.NDArray[np.bool_]:
    """Which samples of a record lie in all of some slices.

    Args:
        record: an open record that metadata is kept with.
        names: of the slices, see `members_of`.
        score: by which it is sliced; samples without it lie in none.

    Returns:
        (n_samples,), in the order of the record.

    Raises:
        NotFoundError: if the record has no metadata.
        ParameterError: if there is no such slice.
        DataError: if no attribute forms groups.
    """

    def compute() -> npt.NDArray[np.bool_]:
        sample_set = sliced([record], shared_metadata([record]), score=score)
        members = np.logical_and.reduce([members_of(sample_set, name) for name in names])
        chosen = sample_set.aligned.sample_ids[members]
        return np.asarray(pd.Index(record.samples.sample_ids).isin(chosen))

    return record.cached(("in slices", score, *names, *metadata_version([record])), compute)


def strips(sample_set: Sliced, names: Sequence[str], *, most: int = 80) -> list[Strip]:
    """Where the samples of some slices lie among those of their classes.

    Args:
        sample_set: of `effects.sliced`.
        names: of the slices, see `members_of`.
        most: ranks of each strip.
    """
    strata = Strata.of(sample_set.hardness, sample_set.of_class.codes)
    return [_strip(strata.deviations[members_of(sample_set, name)] + 0.5, most) for name in names]


def _strip(ranks: npt.NDArray[np.float64], most: int) -> Strip:
    low, high = np.quantile(ranks, (0.25, 0.75))
    placed = np.sort(ranks)
    rows = np.linspace(0, placed.size - 1, min(most, placed.size)).round().astype(np.intp)
    return Strip(ranks=placed[rows], mean=float(ranks.mean()), low=float(low), high=float(high))


def _parts(name: str, groups: Collection[str]) -> Iterator[list[str]]:
    """Every way to read a name as parts that exist: a group may hold what joins them."""
    pieces = name.split(_AND)
    for end in range(1, len(pieces) + 1):
        head, rest = _AND.join(pieces[:end]), pieces[end:]
        if head not in groups:
            continue
        if not rest:
            yield [head]
        else:
            yield from ([head, *tail] for tail in _parts(_AND.join(rest), groups))
