"""The report of one record."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack import plots
from actiontrack.analysis.sentences import short_number
from actiontrack.analysis.tables import open_record
from actiontrack.reporting.common import figure_of, sources_of, traced
from actiontrack.reporting.details import (
    detail_sections,
    extreme_sections,
    stability_sections,
)
from actiontrack.reporting.document import Report, Section
from actiontrack.reporting.ensemble import entropy_sections
from actiontrack.reporting.facts import incomparable_section, run_section
from actiontrack.reporting.findings import (
    CLUSTERS,
    NEIGHBOURS,
    QUERIES,
    RunFindings,
    find_run,
    read_once,
)
from actiontrack.reporting.noise import detection_sections
from actiontrack.reporting.slices import slice_sections
from actiontrack.reporting.suspects import suspect_sections
from actiontrack.store import StoredRecord

__all__ = ["class_section", "distribution_section", "run_report", "summary_of"]


def run_report(
    record: StoredRecord,
    *,
    n_clusters: int = CLUSTERS,
    n_queries: int = QUERIES,
    n_neighbours: int = NEIGHBOURS,
    left_out: pd.DataFrame | None = None,
) -> Report:
    """Report of one record, with a section for everything that it holds.

    Args:
        record: an open record.
        n_clusters: clusters of loss curves.
        n_queries: hardest samples whose neighbours are shown, where features are recorded.
        n_neighbours: neighbours of each.
        left_out: runs of the query that can't be compared with it, see
            `analysis.split_comparable`.

    Raises:
        NotFoundError: if the record has no complete epoch.
    """
    [record] = read_once([open_record(record)])
    findings = find_run(
        record, n_clusters=n_clusters, n_queries=n_queries, n_neighbours=n_neighbours
    )
    stability = stability_sections(findings.details.stability)
    noise = detection_sections(findings.noise)
    sections = [
        run_section(record),
        distribution_section(findings.scores),
        *_classes(findings),
        *extreme_sections(record, findings.hardest, findings.easiest),
        *detail_sections(findings.details),
        *entropy_sections(findings.entropy),
        *suspect_sections(findings.suspects),
        *slice_sections(findings.slices),
        *noise,
        *stability,
        incomparable_section(record, left_out),
        Section(heading="How to read this", text=_how_to_read(record)),
    ]
    suspects = "" if findings.suspects is None else findings.suspects.sentence
    first = summary_of(record, findings.scores, findings.classes, suspects)
    by_slice = [] if findings.slices is None else [findings.slices.sentence]
    texts = [first, *by_slice, *(section.text for section in (*noise[:1], *stability))]
    summary = Section(heading="Summary", text="\n\n".join(texts))
    return Report(
        title=f"Action scores of {record.run.name}, record {record.name}",
        sections=traced([summary, *sections], [record]),
        sources=sources_of([record]),
    )


def distribution_section(scores: pd.DataFrame, *, hue: str | None = None) -> Section:
    """How the action is distributed, one outline per value of a column."""
    word = "run" if hue == "run_name" else hue
    over = "all samples" if hue is None else f"all samples, one outline per {word}"
    return Section(
        heading="Distribution",
        text=f"How the action is distributed over {over}.",
        figure=figure_of(plots.score_histogram(scores, hue=hue)),
        caption="Histogram of the action. A heavy right tail holds the hard samples.",
    )


def class_section(scores: pd.DataFrame, classes: pd.DataFrame) -> Section:
    """Classes by median action, as a table and a figure.

    Args:
        scores: frame of `analysis.score_frame`.
        classes: frame of `analysis.class_distributions`, or columns of it.
    """
    return Section(
        heading="Difficulty per class",
        text="Classes by median action, hardest first.",
        frame=classes,
        figure=figure_of(plots.class_distributions(scores)),
        caption="Action per class (paper, Fig. 6a).",
    )


def _classes(findings: RunFindings) -> list[Section]:
    """The classes of the only run, without the columns that name it in every row."""
    if findings.classes is None:
        return []
    table = findings.classes.drop(columns=["run_id", "run_name", "model", "rank"])
    return [class_section(findings.scores, table)]


def summary_of(
    record: StoredRecord, scores: pd.DataFrame, classes: pd.DataFrame | None, suspects: str
) -> str:
    """What one record comes to, in sentences.

    Args:
        record: the record.
        scores: its score frame.
        classes: frame of `analysis.class_distributions`, None without classes.
        suspects: how many labels are wrong, see `suspects.wrong_label_sentence`.
    """
    manifest = record.manifest
    state = "" if manifest.complete else " The record is not complete: it holds up to there."
    median = short_number(float(scores["action"].median()))
    size = f"{manifest.n_samples} samples over {manifest.n_steps} steps"
    text = [f"The action of {size} has median {median} ({record.unit}).{state}"]
    share = _top_share(scores["action"].to_numpy(dtype=np.float64))
    if share is not None:
        text.append(f"The hardest 1 % of the samples hold {share:.1%} of all action.")
    if classes is not None:
        first, last = classes.iloc[0], classes.iloc[-1]
        text.append(
            f"The hardest class is {first['class']} (median {short_number(first['median'])}), the "
            f"easiest {last['class']} ({short_number(last['median'])})."
        )
    if "correct" in scores.columns:
        text.append(f"At the last step {scores['correct'].mean():.1%} are predicted right.")
    if suspects:
        text.append(suspects)
    nonfinite = int((~np.isfinite(scores["action"])).sum())
    if nonfinite:
        text.append(f"{nonfinite} samples have no finite action: see the step table.")
    return " ".join(text)


def _top_share(action: npt.NDArray[np.float64]) -> float | None:
    """Share of the hardest hundredth in the sum of all actions, of 100 samples or more."""
    finite = np.sort(action[np.isfinite(action)])
    if finite.size < 100 or finite[0] < 0 or not finite.sum() > 0:
        return None
    return float(finite[-(finite.size // 100) :].sum() / finite.sum())


def _how_to_read(record: StoredRecord) -> str:
    mode = (
        "Losses come from an evaluation pass after each epoch."
        if record.manifest.mode == "probe"
        else "Losses are those of the training batches as they went by."
    )
    return (
        "The action of a sample is its loss accumulated over training, Σ loss · Δn: high is hard "
        f"to learn. {mode} Scores compare only with runs of the same samples, mode, loss, Δn and "
        "number of steps. A hard sample is not a wrong label: look before you relabel.\n\n"
        "A curve that falls was learnt; one that stays high was not; one that rises while the "
        "others fall contradicts them, and is often labelled wrong. High action with low entropy "
        "means that the model is sure of another class than the label; low action with high "
        "entropy that it hesitates. The report is saved with every table as CSV, Parquet and "
        "LaTeX."
    )
