"""The report of what changed between two sets of runs."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from actiontrack import analysis, plots
from actiontrack.analysis.changes import OVERALL, Changes
from actiontrack.reporting.common import (
    GALLERY,
    count_runs,
    figure_of,
    short_number,
    sources_of,
    traced,
)
from actiontrack.reporting.document import Report, Section
from actiontrack.reporting.facts import incomparable_section
from actiontrack.reporting.pictures import draw_samples, with_caption
from actiontrack.store import StoredRecord

__all__ = ["change_report", "describe_changes"]


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


def describe_changes(changes: Changes) -> str:
    """What changed, in plain sentences with numbers."""
    overall = changes.classes.iloc[0]
    sets = f"{count_runs(changes.n_before)} before and {count_runs(changes.n_after)} after"
    first = (
        f"{sets} are compared by the {changes.score} of {int(overall['n'])} samples: its mean goes "
        f"from {short_number(overall['before'])} to {short_number(overall['after'])} "
        f"({overall['relative']:+.1%}{_interval(overall)})."
    )
    sentences = [first]
    classes = changes.classes.loc[changes.classes["class"] != OVERALL]
    if len(classes):
        most = classes.iloc[int(np.argmax(classes["relative"].abs().to_numpy(np.float64)))]
        sentences.append(
            f"The class that changed most is {most['class']}, from {short_number(most['before'])} "
            f"to {short_number(most['after'])} ({most['relative']:+.1%}{_interval(most)})."
        )
    if changes.has_noise:
        count = int(changes.samples["beyond_noise"].sum())
        chance = 0.05 * len(changes.samples)
        sentences.append(
            f"{count} samples changed by more than 95 % of samples as difficult do by chance; "
            f"{chance:.0f} would without any change."
        )
    else:
        sentences.append(
            "There is one run in each set: what another seed would have changed is not known. "
            "Train two runs or more of either."
        )
    if len(changes.relabelled):
        sentences.append(f"{len(changes.relabelled)} samples have another label.")
    if changes.left_out:
        sentences.append(f"{changes.left_out} samples are not in all runs and left out.")
    return " ".join(sentences)


def _verdict(threshold: float, crossed: pd.DataFrame) -> str:
    if crossed.empty:
        return f"Nothing became harder by more than {threshold:.1%} and than chance."
    named = ", ".join(
        f"{row['class']} ({row['relative']:+.1%})" for row in crossed.to_dict("records")
    )
    return f"Harder by more than {threshold:.1%} and than chance: {named}."


def _interval(row: "pd.Series[float]") -> str:
    if not np.isfinite(row["ci_low"]):
        return ""
    low, high = (row[name] / abs(row["before"]) for name in ("ci_low", "ci_high"))
    return f", 95 % interval {low:+.1%} to {high:+.1%}"


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
        shown = rows.reset_index(drop=True)
        titles = [
            f"{name}\n{old:.3g} → {new:.3g}"
            for name, old, new in zip(shown["class"], shown["before"], shown["after"], strict=True)
        ]
        figure, caption = with_caption(
            draw_samples(record, shown["sample_id"].tolist(), titles),
            len(shown),
            "Label, and score before → after, under each image.",
        )
        heading = f"Samples that became {word}"
        sections.append(Section(heading=heading, frame=shown, figure=figure, caption=caption))
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
