"""Which records measure the same thing on the same samples."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.analysis.tables import model_of, open_records, run_columns
from actiontrack.errors import NotComparableError, NotFoundError
from actiontrack.history import check_choice
from actiontrack.record.manifest import Manifest
from actiontrack.store import StoredRecord

__all__ = [
    "CHOOSE_RUNS",
    "check_same_measure",
    "common_samples",
    "sample_difference",
    "sample_indexes",
    "shared_samples",
    "split_comparable",
]


def split_comparable(
    records: Sequence[StoredRecord], *, on_mismatch: str = "error", up_to_step: int | None = None
) -> tuple[list[StoredRecord], pd.DataFrame]:
    """The largest set of records that can be compared, and why the others can't be.

    Of sets of one size the one with more models is taken, then the one that comes first.

    Args:
        records: open records.
        on_mismatch: with "inner", records of different samples count as comparable, see `align`.
        up_to_step: compare up to this step only: the number of steps may differ then.

    Returns:
        The records of the set in their order, and one row per other record: run_id, run_name,
        model, record, reason.

    Raises:
        NotFoundError: if no record has a complete epoch.
    """
    records = open_records(records)
    check_choice("on_mismatch", on_mismatch, ("error", "inner"))
    usable = [record for record in records if not _too_short(record, up_to_step)]
    if not usable:
        raise NotFoundError(
            f"none of the {len(records)} records can be scored: the first has "
            f"{_too_short(records[0], up_to_step)}. Wait for it, or lower up_to_step (--up-to)."
        )

    def differences(first: StoredRecord, other: StoredRecord) -> list[str]:
        measures = [
            f"{what} is {b!r}, not {a!r}"
            for what, a, b in _measure_differences(first, other, up_to_step)
        ]
        samples = "" if on_mismatch == "inner" else sample_difference([first, other])
        return [*measures, *([samples] if samples else [])]

    largest = _largest_set(usable, differences)
    chosen = {id(record) for record in largest}
    rows = [
        {
            **run_columns(record),
            "record": record.manifest.name,
            "reason": _too_short(record, up_to_step)
            or "; ".join(differences(largest[0], record))
            or "differs from another of the runs compared",
        }
        for record in records
        if id(record) not in chosen
    ]
    columns = ["run_id", "run_name", "model", "record", "reason"]
    left_out = pd.DataFrame(rows, columns=columns)
    return [record for record in records if id(record) in chosen], left_out


def _largest_set(
    records: Sequence[StoredRecord],
    differences: Callable[[StoredRecord, StoredRecord], list[str]],
) -> list[StoredRecord]:
    """The largest of the sets of records without differences that begin with each record."""
    largest: list[StoredRecord] = []
    covered: set[int] = set()
    for start in records:  # a record of an earlier set would only give that set again
        if id(start) in covered:
            continue
        members = [start]
        for record in records:
            if record is not start and not any(differences(one, record) for one in members):
                members.append(record)
        covered |= {id(record) for record in members}
        largest = max(largest, members, key=_size_and_models)
    return largest


def _size_and_models(records: Sequence[StoredRecord]) -> tuple[int, int]:
    return len(records), len({model_of(record) for record in records})


def _too_short(record: StoredRecord, up_to_step: int | None) -> str:
    """Why a record can't be scored, or the empty string."""
    last = record.manifest.last_step
    if last is None:
        return "no complete epoch yet"
    return "" if up_to_step is None or last >= up_to_step else f"no step beyond {last}"


def check_same_measure(records: Sequence[StoredRecord], up_to_step: int | None) -> None:
    """Refuse records that do not measure the same thing; their samples may differ.

    Raises:
        NotComparableError: names the difference, both runs and the remedy.
    """
    first = records[0]
    for other in records[1:]:
        for what, a, b in _measure_differences(first, other, up_to_step):
            raise NotComparableError(
                f"the runs do not measure the same thing: {what} is {a!r} in run "
                f"{first.run.run_id} ({first.run.name}) and {b!r} in run "
                f"{other.run.run_id} ({other.run.name}). {_REMEDY.get(what, CHOOSE_RUNS)}"
            )


def _measure_differences(
    first: StoredRecord, other: StoredRecord, up_to_step: int | None
) -> list[tuple[str, object, object]]:
    """What two records measure differently: its name, and its value in either."""
    values = [(what, get(first.manifest), get(other.manifest)) for what, get in _MEASURED]
    return [
        (what, a, b)
        for what, a, b in values
        if a != b and not (what == "number of steps" and up_to_step is not None)
    ]


CHOOSE_RUNS = "Choose runs that agree in it."
_SALT = "the salt of hashed ids"

_REMEDY = {
    _SALT: "Hashes with different salts, or with and without one, name different samples: record "
    "the runs with the same ACTIONTRACK_ID_SALT.",
    "number of steps": "Compare them up to a step that all have reached, with up_to_step "
    "(--up-to), or choose runs that agree in it.",
}

_MEASURED: tuple[tuple[str, Callable[[Manifest], object]], ...] = (
    ("record", lambda manifest: manifest.name),
    (_SALT, lambda manifest: (manifest.privacy or {}).get("salt_check", "none")),
    ("mode", lambda manifest: manifest.mode),
    ("loss", lambda manifest: manifest.loss_name),
    ("void", lambda manifest: manifest.void),
    ("Δn", lambda manifest: manifest.delta_kind),
    ("the untrained state n = 0", lambda manifest: manifest.has_initial_state),
    ("number of steps", lambda manifest: manifest.n_steps),
)


def sample_difference(records: Sequence[StoredRecord]) -> str:
    """In which way the samples of the runs differ, or the empty string."""
    first = records[0]
    for other in records[1:]:
        a, b = first.manifest.digests, other.manifest.digests
        for part in ("ids", "labels", "inputs"):
            both_known = a.get(part) is not None and b.get(part) is not None
            if both_known and a[part] != b[part]:
                return (
                    f"{part} of run {first.run.run_id} ({first.run.name}, "
                    f"{first.manifest.n_samples} samples) and run {other.run.run_id} "
                    f"({other.run.name}, {other.manifest.n_samples} samples) differ"
                )
    return ""


def shared_samples(
    records: Sequence[StoredRecord],
) -> tuple[list[npt.NDArray[np.intp]], str]:
    """Positions in each record of the samples that all have with the same label and input."""
    indexes = sample_indexes(records)
    shared = common_samples(
        indexes, "the runs have no sample in common: no id with the same label and input."
    )
    total = max(len(index) for index in indexes)
    note = f"{len(shared)} of up to {total} samples are shared by all {len(records)} runs"
    return [np.asarray(index.get_indexer(shared)) for index in indexes], note


def sample_indexes(
    records: Sequence[StoredRecord], parts: Sequence[str] = ("labels", "input_digests")
) -> list[pd.MultiIndex]:
    """What tells the samples of each record apart: sample_ids, and what all of the records have.

    Args:
        records: open records.
        parts: attributes of `Samples` of which those count that no record lacks.
    """
    columns = [
        part
        for part in parts
        if all(getattr(record.samples, part) is not None for record in records)
    ]
    return [
        pd.MultiIndex.from_frame(
            pd.DataFrame({name: getattr(record.samples, name) for name in ("sample_ids", *columns)})
        )
        for record in records
    ]


def common_samples(indexes: Sequence[pd.MultiIndex], refusal: str) -> pd.MultiIndex:
    """The samples that all indexes of `sample_indexes` have, ascending.

    Raises:
        NotComparableError: with the sentence `refusal`, if there is none.
    """
    shared = indexes[0]
    for index in indexes[1:]:
        shared = shared.intersection(index)
    if not len(shared):
        raise NotComparableError(refusal)
    return shared.sort_values()
