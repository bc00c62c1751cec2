"""The report of several runs."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from actiontrack import analysis, plots
from actiontrack.analysis.comparison import Comparison
from actiontrack.analysis.sentences import (
    describe_comparison,
    describe_disattenuated,
    describe_map_correlation,
)
from actiontrack.analysis.tables import open_records
from actiontrack.reporting.common import GALLERY, figure_of, nested, sources_of, traced
from actiontrack.reporting.details import detail_sections, stability_sections
from actiontrack.reporting.document import Report, Section
from actiontrack.reporting.ensemble import entropy_sections
from actiontrack.reporting.facts import data_sections, incomparable_section
from actiontrack.reporting.findings import ComparisonFindings, find_comparison, read_once
from actiontrack.reporting.noise import detection_sections
from actiontrack.reporting.pictures import draw_samples, with_caption
from actiontrack.reporting.run import class_section, distribution_section, run_report
from actiontrack.reporting.slices import slice_sections
from actiontrack.store import StoredRecord

__all__ = ["comparison_report", "query_report"]

_MAX_CONTRASTS = 6  # ordered pairs of models whose disagreement is shown


def query_report(
    records: Sequence[StoredRecord],
    *,
    score: str = "action",
    on_mismatch: str = "error",
    up_to_step: int | None = None,
    n_bootstrap: int = 500,
) -> Report:
    """Report of whatever a query has found: of one run, or of those that can be compared.

    Runs that measure something else than the largest comparable set are left out; the report says
    which, and why.

    Args:
        records: open records of one run or more.
        score: the score compared between runs.
        on_mismatch: with "inner", runs of different samples are compared by those that they share.
        up_to_step: compare up to this step only.
        n_bootstrap: see `analysis.compare_runs`.

    Raises:
        NotFoundError: if no record has a complete epoch.
        ParameterError: if there is no such score.
    """
    records = open_records(records)
    comparable, left_out = records, None
    if len(records) > 1:
        comparable, left_out = analysis.split_comparable(
            records, on_mismatch=on_mismatch, up_to_step=up_to_step
        )
    if len(comparable) == 1:
        return run_report(comparable[0], left_out=left_out)
    comparable = read_once(comparable)
    for record in comparable:  # whole tables, of which the comparison takes a column each
        record.scores()
    comparison = analysis.compare_runs(
        comparable,
        score=score,
        n_bootstrap=n_bootstrap,
        on_mismatch=on_mismatch,
        up_to_step=up_to_step,
    )
    return _report(find_comparison(comparable, comparison, details=True), left_out)


def comparison_report(
    records: Sequence[StoredRecord],
    comparison: Comparison,
    *,
    left_out: pd.DataFrame | None = None,
    details: bool = True,
) -> Report:
    """Report of several runs: correlations with their ceiling, and what the models share.

    Args:
        records: open records of two runs or more.
        comparison: of these records, see `analysis.compare_runs`.
        left_out: runs of the query that can't be compared with them, see
            `analysis.split_comparable`.
        details: also look into one run of each model: curves, clusters, features, parts, pixels.
    """
    return _report(find_comparison(read_once(records), comparison, details=details), left_out)


def _report(findings: ComparisonFindings, left_out: pd.DataFrame | None) -> Report:
    records, comparison = findings.records, findings.comparison
    noise, corrected = detection_sections(findings.noise), _corrected(findings.corrected)
    sections = [
        *data_sections(records),
        distribution_section(findings.scores, hue=_hue(comparison)),
        *_class_sections(findings),
        *_agreement(findings, corrected),
        *_shared(findings),
        *entropy_sections(findings.entropy),
        *noise,
        *slice_sections(findings.slices),
        *_map_section(findings),
    ]
    inner = [*traced(sections, records), *_details(findings)]
    texts = [describe_comparison(comparison)]
    texts += [section.text for section in (*noise[:1], *corrected)]
    if findings.slices is not None:
        texts.append(findings.slices.sentence)
    if left_out is not None and len(left_out):
        texts.append(
            f"{len(left_out)} of the {len(left_out) + len(records)} runs of the query are left "
            "out: see what is not comparable."
        )
    last = [
        incomparable_section(records[0], left_out),
        Section(heading="How to read this", text=_HOW_TO_READ),
    ]
    summary = Section(heading="Summary", text="\n\n".join(texts))
    return Report(
        title=f"Comparison of the {comparison.score} of {len(records)} runs",
        sections=[*traced([summary], records), *inner, *traced(last, records)],
        sources=sources_of(records),
    )


_HOW_TO_READ = (
    "The action of a sample is its loss accumulated over training, Σ loss · Δn: high is hard to "
    "learn. Two runs of the same model do not agree wholly either: their correlation is the "
    "ceiling that a correlation between models is to be read against. A value below the ceiling "
    "by more than the confidence intervals means that the models find different samples hard; "
    "“within classes” tells whether they agree on more than which class is hard. Intervals are 95 "
    "% bootstrap intervals over the samples: they do not include the spread of another training, "
    "which the number of pairs shows. A hard sample is not a wrong label: look before you relabel."
)


def _hue(comparison: Comparison) -> str:
    """The column that splits a distribution into outlines: runs, as long as they are few."""
    distinct = comparison.runs["run_name"].nunique() == len(comparison.runs)
    return "run_name" if distinct and len(comparison.runs) <= 6 else "model"


def _agreement(findings: ComparisonFindings, corrected: list[Section]) -> list[Section]:
    """The correlation tables, with ceiling and intervals, and the correlation by quantile."""
    comparison = findings.comparison
    parts = [
        *corrected,
        _correlations(comparison, "pearson"),
        Section(
            heading="Every pair of models",
            text="Mean over the pairs of runs, 95 % bootstrap interval over the samples.",
            frame=comparison.groups,
        ),
        Section(
            heading="Every pair of runs",
            text="The values that the means above are taken over.",
            frame=comparison.pairs,
        ),
        Section(
            heading="Correlation among the hardest samples",
            text="Correlation of the samples at or above each quantile of the score.",
            frame=findings.quantiles,
            figure=figure_of(plots.quantile_curves(findings.quantiles)),
            caption="Correlation as a function of the quantile (paper, Fig. 14).",
        ),
    ]
    return [_correlations(comparison, "spearman"), *nested(parts)]


def _corrected(corrected: pd.DataFrame) -> list[Section]:
    """The correlations between models once the noise of training is taken out."""
    if corrected.empty:
        return []
    return [
        Section(
            heading="Correlation between models without the noise of training",
            text=describe_disattenuated(corrected)
            + " r_ab / √(r_aa r_bb): the cross-model correlation over what two runs of each "
            "model reach with themselves (Spearman 1904). 1 would mean the same hard samples.",
            frame=corrected,
        )
    ]


def _map_section(findings: ComparisonFindings) -> list[Section]:
    """How far the maps of pixel actions agree."""
    heading = "Correlation of pixel actions"
    if findings.n_maps_left_out:
        text = (
            f"The records hold maps of {findings.n_maps_left_out} samples, more than a report "
            "correlates. Correlate them with: actiontrack maps --run ID --run ID"
        )
        return [Section(heading=heading, text=text)]
    if findings.maps is None:
        return []
    keys = ["method", "kind", "model_a", "model_b"]
    summary = findings.maps.groupby(keys, sort=False)["value"].describe().reset_index()
    text = describe_map_correlation(findings.maps)
    return [Section(heading=heading, text=text, frame=summary)]


def _details(findings: ComparisonFindings) -> list[Section]:
    """What one run of each model holds, the first one of each."""
    sections = []
    models = [analysis.model_of(record) for record in findings.records]
    for model, details in findings.details.items():
        record = details.record
        parts = [*detail_sections(details), *stability_sections(details.stability)]
        text = f"Details of {record.run.name}, the first of {models.count(model)} runs of {model}."
        named = [replace(part, heading=f"{part.heading}, {model}") for part in parts]
        head = Section(heading=f"Model {model}", text=text)
        sections += traced([head, *nested(named)], [record])
    if findings.models_left_out:
        missing = ", ".join(findings.models_left_out)
        text = f"Without details, to keep the report short: {missing}."
        sections += traced([Section(heading="Other models", text=text)], findings.records)
    return sections


def _shared(findings: ComparisonFindings) -> list[Section]:
    """What the runs find hard together, and which samples only one model finds hard."""
    record, rows = findings.records[0], findings.contrasts
    overlap = Section(
        heading="Hardest samples in common",
        text="Share of the k hardest samples that two runs have in common, mean over the "
        "pairs of runs; chance is k over the number of samples.",
        frame=findings.overlaps,
    )
    sections = [*_consensus(record, findings.ranks), overlap]
    if len(rows):
        pairs = list(rows.groupby(["hard_for", "easy_for"], sort=False))[:_MAX_CONTRASTS]
        sections += [_contrast(record, str(hard), str(easy), part) for (hard, easy), part in pairs]
    return [sections[0], *nested(sections[1:])]


def _class_sections(findings: ComparisonFindings) -> list[Section]:
    """The classes, by model; and every run's."""
    if findings.classes is None:
        return []
    medians = findings.classes.pivot_table(
        index="class", columns="model", values="median", aggfunc="mean", sort=False, observed=True
    )
    order = medians.mean(axis=1).sort_values(ascending=False, kind="stable").index
    by_model = medians.loc[order].rename_axis(columns=None).reset_index()
    text = "Median action of each class, mean over the runs of a model, hardest class first."
    every = Section(heading="Every run and class", frame=findings.classes, level=3)
    return [replace(class_section(findings.scores, by_model), text=text), every]


def _consensus(record: StoredRecord, ranks: pd.DataFrame) -> list[Section]:
    """The hardest and easiest samples by their mean rank over the runs, with images."""
    sections = []
    for word, extreme in (("Hardest", ranks.head(GALLERY)), ("Easiest", ranks.tail(GALLERY)[::-1])):
        rows = extreme.reset_index(drop=True)
        titles = [
            f"{name} {rank:.2f}" for name, rank in zip(rows["class"], rows["rank"], strict=True)
        ]
        figure, caption = with_caption(
            draw_samples(record, rows["sample_id"].tolist(), titles),
            len(rows),
            "Label and mean rank under each image.",
        )
        sections.append(
            Section(
                heading=f"{word} samples of all runs",
                text="By the rank of a sample among all, 0 the easiest and 1 the hardest: mean, "
                "lowest and highest over the runs.",
                frame=rows,
                figure=figure,
                caption=caption,
            )
        )
    return sections


def _contrast(record: StoredRecord, hard: str, easy: str, rows: pd.DataFrame) -> Section:
    titles = [
        f"{name} {high:.2f} / {low:.2f}"
        for name, high, low in zip(rows["class"], rows["rank_hard"], rows["rank_easy"], strict=True)
    ]
    figure, caption = with_caption(
        draw_samples(record, rows["sample_id"].tolist(), titles),
        len(rows),
        f"Label, and rank for {hard} / for {easy}, under each image.",
    )
    columns = ["place", "sample_id", "class", "rank_hard", "rank_easy", "difference"]
    return Section(
        heading=f"Hard for {hard}, easy for {easy}",
        text="Rank of a sample among all, 0 the easiest and 1 the hardest, mean over the runs of "
        "each model.",
        frame=rows[columns],
        figure=figure,
        caption=caption,
    )


def _correlations(comparison: Comparison, method: str) -> Section:
    table = comparison.table(method)
    name = "Spearman's ρ" if method == "spearman" else "Pearson's r"
    return Section(
        heading=f"Correlation between models, {name}",
        text="Pairs of models first, then two runs of the same model: the ceiling that a "
        "cross-model value is to be read against.",
        frame=table.reset_index(),
        figure=figure_of(plots.correlation_heatmap(table)),
        caption=f"{name} of the {comparison.score}, overall, within classes and per class "
        "(paper, Table 1).",
    )
