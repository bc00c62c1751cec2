"""Steps of a record: what each held, their totals, and the files of losses that hold them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from actiontrack.record.limits import check_steps

__all__ = ["NO_STEPS", "Block", "StepEntry", "StepTotals", "steps_from_text", "steps_to_text"]


@dataclass(frozen=True, slots=True)
class StepEntry:
    """One recorded step.

    Attributes:
        step: n of eq. 3.
        delta: Δn of eq. 3, in the unit of the manifest's `delta_kind`.
        n_seen: samples seen in this step.
        n_nonfinite: seen losses that are NaN or infinite.
        n_duplicates: repeated ids that were dropped (padding of distributed samplers).
    """

    step: int
    delta: float
    n_seen: int
    n_nonfinite: int = 0
    n_duplicates: int = 0

    def body(self) -> dict[str, Any]:
        """The fields by name, as JSON takes them."""
        return {name: getattr(self, name) for name in _FIELDS}


_FIELDS = tuple(item.name for item in fields(StepEntry))
_STEP_TEXT = 2**10  # characters that a step takes at most in a footer


@dataclass(frozen=True)
class StepTotals:
    """What the steps of a record add up to: a manifest of any number of steps is as long.

    Attributes:
        n_steps: number of steps.
        first_step: number of the first one, or None without any.
        last_step: number of the last one, or None without any.
        delta: sum of Δn.
        n_seen: losses seen, those of every step counted.
        n_nonfinite: of these, NaN or infinite.
        n_duplicates: repeated ids that were dropped.
    """

    n_steps: int = 0
    first_step: int | None = None
    last_step: int | None = None
    delta: float = 0.0
    n_seen: int = 0
    n_nonfinite: int = 0
    n_duplicates: int = 0

    @classmethod
    def of(cls, steps: Iterable[StepEntry]) -> "StepTotals":
        """The totals of some steps, in ascending order."""
        totals = cls()
        for step in steps:
            totals = totals.plus(step)
        return totals

    def plus(self, step: StepEntry) -> "StepTotals":
        """The totals with one step more, behind the others."""
        return replace(
            self,
            n_steps=self.n_steps + 1,
            first_step=step.step if self.first_step is None else self.first_step,
            last_step=step.step,
            delta=self.delta + step.delta,
            n_seen=self.n_seen + step.n_seen,
            n_nonfinite=self.n_nonfinite + step.n_nonfinite,
            n_duplicates=self.n_duplicates + step.n_duplicates,
        )


#: The totals of a record without a step.
NO_STEPS = StepTotals()


@dataclass(frozen=True, slots=True)
class Block:
    """A file of losses: some successive steps of all samples.

    Attributes:
        path: of the file inside the record.
        first_step: number of its first step.
        last_step: number of its last step.
        n_steps: number of its steps.
    """

    path: str
    first_step: int
    last_step: int
    n_steps: int

    @classmethod
    def of(cls, path: str, steps: Sequence[StepEntry]) -> "Block":
        """The block of some steps, one at least."""
        return cls(path, steps[0].step, steps[-1].step, len(steps))

    def body(self) -> dict[str, Any]:
        """The fields by name, as JSON takes them."""
        names = ("path", "first_step", "last_step", "n_steps")
        return {name: getattr(self, name) for name in names}


def steps_to_text(steps: Sequence[StepEntry]) -> str:
    """Steps as JSON, field by field, as a file of losses carries them.

    A field whose values are equal is written as one, and so are the numbers of successive steps.
    """
    body: dict[str, Any] = {"n_steps": len(steps)}
    for name in _FIELDS:
        values = [getattr(step, name) for step in steps]
        if name == "step":
            is_regular = values == list(range(values[0], values[0] + len(values)))
        else:
            is_regular = values.count(values[0]) == len(values)
        body[name] = values[0] if is_regular else values
    return json.dumps(body, separators=(",", ":"))


def steps_from_text(text: str | bytes, n_steps: int, n_samples: int) -> tuple[StepEntry, ...]:
    """The steps that a file of losses carries.

    Args:
        text: what `steps_to_text` has made.
        n_steps: how many there must be.
        n_samples: samples of the record.

    Raises:
        ValueError: if they are not what so many steps of so many samples can be.
        TypeError: likewise.
        KeyError: if a field is absent.
    """
    if len(text) > _STEP_TEXT * (n_steps + 1):
        raise ValueError(f"its footer tells of {n_steps} steps in {len(text)} characters")
    body = json.loads(text)
    if not isinstance(body, Mapping) or body["n_steps"] != n_steps:
        raise ValueError("its footer tells of another number of steps")
    columns = [_values(name, body[name], n_steps) for name in _FIELDS]
    entries = [dict(zip(_FIELDS, row, strict=True)) for row in zip(*columns, strict=True)]
    check_steps(entries, n_samples)
    return tuple(StepEntry(**entry) for entry in entries)


def _values(name: str, written: Any, n_steps: int) -> Sequence[Any]:
    if isinstance(written, list):
        if len(written) != n_steps:
            raise ValueError(f"its footer has {len(written)} values of {name} for {n_steps} steps")
        return written
    if name == "step":
        return range(written, written + n_steps)
    return [written] * n_steps
