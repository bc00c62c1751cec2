"""The report of what changed between two sets of runs."""

from collections.abc import Sequence

import pandas as pd

from actiontrack import analysis, plots
from actiontrack.analysis.changes import Changes
from actiontrack.analysis.sentences import describe_changes, short_number
from actiontrack.reporting.common import GALLERY, figure_of, sources_of, traced
from actiontrack.reporting.document import Report, Section
from actiontrack.reporting.facts import incomparable_section
from actiontrack.reporting.pictures import draw_samples, with_caption
from actiontrack.store import StoredRecord

__all__ = ["change_report"]


def change_report(
    before: Sequence[StoredRecord],
    after: Sequence[StoredRecord],
    changes: Changes,
    *,
    threshold: float | None = None,
    crossed: pd.DataFrame | None = None,
) -> Report:
    """Report of what became harder or easier, per class and per sample, and how sure that is.

    Args:
        before: open records.
        after: open records; images are those of the first.
        changes: of these sets, see `changes.compare_sets`.
        threshold: the threshold that was asked about, see `changes.regressions`.
        crossed: the rows that crossed it.
    """
    records = [*before, *after]
    text = describe_changes(changes)
    if threshold is not None and crossed is not None:
        text += f"\n\n{_verdict(threshold, crossed)}"
    frame = analysis.runs_frame(records)
    frame.insert(0, "set", ["before"] * len(before) + ["after"] * len(after))
    sections = [
        Section(heading="Summary", text=text),
        Section(heading="Data and runs", text="The runs of both sets.", frame=frame),
        _class_section(changes),
        *_sample_sections(after[0], changes),
        *_relabelled(changes),
        Section(
            heading="Agreement between runs",
            text="Spearman's ρ of the score between two runs. Values between the sets below those "
            "within them mean that other samples are hard now.",
            frame=changes.agreement,
        ),
        incomparable_section(after[0]),
        Section(heading="How to read this", text=_HOW_TO_READ),
    ]
    return Report(
        title=f"What changed in the {changes.score}",
        sections=traced(sections, records),
        sources=sources_of(records),
    )


def _verdict(threshold: float, crossed: pd.DataFrame) -> str:
    if crossed.empty:
        return f"Nothing became harder by more than {threshold:.1%} and than chance."
    named = ", ".join(
        f"{row['class']} ({row['relative']:+.1%})" for row in crossed.to_dict("records")
    )
    return f"Harder by more than {threshold:.1%} and than chance: {named}."


def _class_section(changes: Changes) -> Section:
    return Section(
        heading="Change per class",
        text="Mean score over samples and runs, before and after. The interval is that of the "
        "change by the spread between runs of a set; harder tells whether the change is beyond it.",
        frame=changes.classes,
        figure=figure_of(plots.class_changes(changes.classes)),
        caption="Change of each class relative to its mean before, with the 95 % interval by the "
        "spread between runs where there is one.",
    )


def _sample_sections(record: StoredRecord, changes: Changes) -> list[Section]:
    sections = []
    for word, rows in (
        ("harder", changes.samples.head(GALLERY)),
        ("easier", changes.samples.tail(GALLERY)[::-1]),
    ):
        extreme = rows.reset_index(drop=True)
        titles = [
            f"{name}\n{old:.3g} → {new:.3g}"
            for name, old, new in zip(
                extreme["class"], extreme["before"], extreme["after"], strict=True
            )
        ]
        figure, caption = with_caption(
            draw_samples(record, extreme["sample_id"].tolist(), titles),
            len(extreme),
            "Label, and score before → after, under each image.",
        )
        heading = f"Samples that became {word}"
        sections.append(Section(heading=heading, frame=extreme, figure=figure, caption=caption))
    return sections


def _relabelled(changes: Changes) -> list[Section]:
    if changes.relabelled.empty:
        return []
    mean = changes.relabelled[["before", "after"]].mean()
    return [
        Section(
            heading="Relabelled samples",
            text=f"The {len(changes.relabelled)} samples whose label differs: their mean score "
            f"goes from {short_number(mean['before'])} to {short_number(mean['after'])}. Scores "
            "before are by the label before.",
            frame=changes.relabelled,
        )
    ]


_HOW_TO_READ = (
    "Runs are the units of chance. Of two sets of runs that differ in nothing but the seed, the "
    "means differ as well; the interval says by how much, from the spread between the runs of each "
    "set. With one run in each set there is no interval. A class counts as harder if its interval "
    "lies wholly on that side. Of many classes one in twenty does so by chance: look for more than "
    "that, or train more runs."
)
