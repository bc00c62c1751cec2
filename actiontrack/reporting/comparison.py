"""The report of several runs."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from actiontrack import analysis, compare, plots
from actiontrack.analysis import Alignment, Comparison
from actiontrack.analysis.sentences import (
    describe_comparison,
    describe_disattenuated,
    describe_map_correlation,
)
from actiontrack.reporting.common import (
    GALLERY,
    figure_of,
    first_of_each_model,
    has_classes,
    nested,
    sources_of,
    traced,
)
from actiontrack.reporting.details import detail_sections, stability_section
from actiontrack.reporting.document import Report, Section
from actiontrack.reporting.ensemble import entropy_sections
from actiontrack.reporting.facts import data_sections, incomparable_section
from actiontrack.reporting.noise import detection_sections, holds_noise
from actiontrack.reporting.pictures import draw_samples, with_caption
from actiontrack.reporting.run import class_section, distribution_section, run_report
from actiontrack.store import StoredRecord

__all__ = ["comparison_report", "query_report"]

_MAX_CONTRASTS = 6  # ordered pairs of models whose disagreement is shown
_MAX_MODELS = 6  # of which one run is looked into
_MAX_MAPPED = 500  # samples whose maps are correlated in a report


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
    kept, left_out = records, None
    if len(records) > 1:
        kept, left_out = analysis.split_comparable(
            records, on_mismatch=on_mismatch, up_to_step=up_to_step
        )
    if len(kept) == 1:
        return run_report(kept[0], left_out=left_out)
    comparison = analysis.compare_runs(
        kept,
        score=score,
        n_bootstrap=n_bootstrap,
        on_mismatch=on_mismatch,
        up_to_step=up_to_step,
    )
    return comparison_report(kept, comparison, left_out=left_out)


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
    aligned = analysis.align(
        records, score=comparison.score, on_mismatch="inner", up_to_step=comparison.up_to_step
    )
    scores = analysis.score_frame(records, up_to_step=comparison.up_to_step)
    noise = detection_sections(records) if all(map(holds_noise, records)) else []
    sections = [
        *data_sections(records),
        distribution_section(scores, hue=_hue(comparison)),
        *(_class_sections(scores) if has_classes(scores) else []),
        *_agreement(comparison, aligned),
        *_shared(records[0], aligned),
        *_entropies(records, comparison),
        *noise,
        *_map_section(records),
    ]
    inner = traced(sections, records)
    if details:
        inner += _details(records)
    told = [describe_comparison(comparison), *(each.text for each in noise[:1])]
    told += [each.text for each in inner if each.heading == _CORRECTED]
    if left_out is not None and len(left_out):
        told.append(
            f"{len(left_out)} of the {len(left_out) + len(records)} runs of the query are left "
            "out: see what is not comparable."
        )
    last = [
        incomparable_section(records[0], left_out),
        Section(heading="How to read this", text=_HOW_TO_READ),
    ]
    summary = Section(heading="Summary", text="\n\n".join(told))
    return Report(
        title=f"Comparison of the {comparison.score} of {len(records)} runs",
        sections=[*traced([summary], records), *inner, *traced(last, records)],
        sources=sources_of(records),
    )


_CORRECTED = "Correlation between models without the noise of training"
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
    """What the outlines of a distribution stand for: runs while they can be told apart."""
    distinct = comparison.runs["run_name"].nunique() == len(comparison.runs)
    return "run_name" if distinct and len(comparison.runs) <= 6 else "model"


def _agreement(comparison: Comparison, aligned: Alignment) -> list[Section]:
    """The correlation tables, with ceiling and intervals, and the correlation by quantile."""
    models = aligned.runs["model"].tolist()
    quantiles = compare.correlation_by_quantile(aligned.values, groups=models)
    parts = [
        *_corrected(comparison),
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
            frame=quantiles,
            figure=figure_of(plots.quantile_curves(quantiles)),
            caption="Correlation as a function of the quantile (paper, Fig. 14).",
        ),
    ]
    return [_correlations(comparison, "spearman"), *nested(parts)]


def _corrected(comparison: Comparison) -> list[Section]:
    """The correlations between models once the noise of training is taken out."""
    corrected = analysis.disattenuated_correlations(comparison)
    if corrected.empty:
        return []
    return [
        Section(
            heading=_CORRECTED,
            text=describe_disattenuated(corrected)
            + " r_ab / √(r_aa r_bb): the cross-model correlation over what two runs of each "
            "model reach with themselves (Spearman 1904). 1 would mean the same hard samples.",
            frame=corrected,
        )
    ]


def _entropies(records: Sequence[StoredRecord], comparison: Comparison) -> list[Section]:
    """Sections on entropy, where the runs have the same samples and all their steps count."""
    if comparison.note or comparison.up_to_step is not None:
        return []
    return entropy_sections(records)


def _map_section(records: Sequence[StoredRecord]) -> list[Section]:
    """How far the maps of pixel actions agree, where all runs have comparable ones."""
    kinds = {
        (each.manifest.pixel_loss_name, str(each.manifest.maps)) if each.has_maps else None
        for each in records
    }
    if None in kinds or len(kinds) > 1:
        return []
    heading = "Correlation of pixel actions"
    if records[0].manifest.n_samples > _MAX_MAPPED:
        text = (
            f"The records hold maps of {records[0].manifest.n_samples} samples, more than the "
            f"{_MAX_MAPPED} that a report correlates: actiontrack maps --run ID --run ID does."
        )
        return [Section(heading=heading, text=text)]
    found = analysis.map_correlation(records, on_mismatch="inner")
    summary = found.groupby(["method", "kind", "model_a", "model_b"], sort=False)["value"]
    return [
        Section(
            heading=heading,
            text=describe_map_correlation(found),
            frame=summary.describe().reset_index(),
        )
    ]


def _details(records: Sequence[StoredRecord]) -> list[Section]:
    """What one run of each model holds, the first one of each."""
    firsts = first_of_each_model(records)
    sections = []
    for model, record in list(firsts.items())[:_MAX_MODELS]:
        history = record.history(columns=())  # kept, so that it is read once
        scores = analysis.score_frame([record])
        parts = [*detail_sections(record, scores), *stability_section(record)]
        del history
        n_runs = sum(analysis.model_of(each) == model for each in records)
        text = f"The first of {n_runs} runs of {model}, {record.run.name}, looked into."
        named = [replace(each, heading=f"{each.heading}, {model}") for each in parts]
        found = [Section(heading=f"Model {model}", text=text), *nested(named)]
        sections += traced(found, [record])
    if len(firsts) > _MAX_MODELS:
        missing = ", ".join(list(firsts)[_MAX_MODELS:])
        text = f"Not looked into, to keep the report short: {missing}."
        sections += traced([Section(heading="Other models", text=text)], records)
    return sections


def _shared(record: StoredRecord, aligned: Alignment) -> list[Section]:
    """What the runs find hard together, and which samples only one model finds hard."""
    sections = _consensus(record, aligned)
    overlap = Section(
        heading="Hardest samples in common",
        text="Share of the k hardest samples that two runs have in common, mean over the "
        "pairs of runs; chance is k over the number of samples.",
        frame=analysis.top_k_overlaps(aligned),
    )
    sections.append(overlap)
    if len(set(aligned.runs["model"])) > 1:
        rows = analysis.contrasts(aligned, n=GALLERY)
        pairs = list(rows.groupby(["hard_for", "easy_for"], sort=False))[:_MAX_CONTRASTS]
        sections += [_contrast(record, str(hard), str(easy), rows) for (hard, easy), rows in pairs]
    return [sections[0], *nested(sections[1:])]


def _class_sections(scores: pd.DataFrame) -> list[Section]:
    """The classes, by model; and every run's."""
    found = class_section(scores)
    assert found.frame is not None  # noqa: S101 - made above
    medians = found.frame.pivot_table(
        index="class", columns="model", values="median", aggfunc="mean", sort=False, observed=True
    )
    order = medians.mean(axis=1).sort_values(ascending=False, kind="stable").index
    by_model = medians.loc[order].rename_axis(columns=None).reset_index()
    text = "Median action of each class, mean over the runs of a model, hardest class first."
    every = Section(heading="Every run and class", frame=found.frame, level=3)
    return [replace(found, text=text, frame=by_model), every]


def _consensus(record: StoredRecord, aligned: Alignment) -> list[Section]:
    """The hardest and easiest samples by their mean rank over the runs, with images."""
    ranks = analysis.mean_ranks(aligned)
    sections = []
    for word, chosen in (("Hardest", ranks.head(GALLERY)), ("Easiest", ranks.tail(GALLERY)[::-1])):
        rows = chosen.reset_index(drop=True)
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
    drawn, missing = draw_samples(record, rows["sample_id"].tolist(), titles)
    shown = ["place", "sample_id", "class", "rank_hard", "rank_easy", "difference"]
    return Section(
        heading=f"Hard for {hard}, easy for {easy}",
        text="Rank of a sample among all, 0 the easiest and 1 the hardest, mean over the runs of "
        "each model.",
        frame=rows[shown],
        figure=drawn if missing < len(rows) else None,
        caption=f"Label, and rank for {hard} / for {easy}, under each image.",
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
