"""What the parts of a report share: the unit of pixels, figures, sources."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from actiontrack.analysis import model_of
from actiontrack.reporting.document import Section, Source
from actiontrack.scores import score_unit
from actiontrack.store import StoredRecord

__all__ = [
    "GALLERY",
    "figure_of",
    "first_of_each_model",
    "has_classes",
    "nested",
    "pixel_unit_of",
    "sources_of",
    "traced",
]

GALLERY = 12


def figure_of(axes: object) -> Figure:
    """The figure of axes that a plot has returned."""
    figure = getattr(axes, "figure", None)
    assert isinstance(figure, Figure)  # noqa: S101 - plots make their own figures
    return figure


def pixel_unit_of(record: StoredRecord) -> str:
    """Unit of the action of a pixel of a record."""
    loss = record.manifest.pixel_loss_name.replace("_", " ")
    return score_unit("action", record.manifest.delta_kind, loss=loss)


def has_classes(scores: pd.DataFrame) -> bool:
    """Whether a score frame holds more than one class."""
    return len(scores["class"].unique()) > 1


def first_of_each_model(records: Iterable[StoredRecord]) -> dict[str, StoredRecord]:
    """The first record of each model, by its name."""
    firsts: dict[str, StoredRecord] = {}
    for record in records:
        firsts.setdefault(model_of(record), record)
    return firsts


def sources_of(records: Iterable[StoredRecord]) -> list[Source]:
    """The records as sources of a report, in their order."""
    return [
        Source(
            run_id=record.run.run_id, name=record.run.name, record=record.name, digest=record.digest
        )
        for record in records
    ]


def traced(sections: Iterable[Section], records: Sequence[StoredRecord]) -> list[Section]:
    """The sections, marked as based on the runs of these records."""
    run_ids = tuple(dict.fromkeys(record.run.run_id for record in records))
    return [replace(section, run_ids=run_ids) for section in sections]


def nested(sections: Iterable[Section]) -> list[Section]:
    """The sections as parts of the section before them."""
    return [replace(section, level=3) for section in sections]
