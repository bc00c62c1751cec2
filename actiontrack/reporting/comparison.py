"""The report of several runs."""

from collections.abc import Sequence

import pandas as pd

from actiontrack import analysis, plots
from actiontrack.analysis import Comparison
from actiontrack.report import Report, Section
from actiontrack.reporting.common import GALLERY, figure_of, has_classes
from actiontrack.reporting.pictures import draw_samples
from actiontrack.reporting.run import class_section
from actiontrack.reporting.sentences import describe_comparison, describe_disattenuated
from actiontrack.store import StoredRecord

__all__ = ["comparison_report"]

_MAX_CONTRASTS = 6  # ordered pairs of models whose disagreement is shown


def comparison_report(records: Sequence[StoredRecord], comparison: Comparison) -> Report:
    """Report of several runs: correlation tables, quantile curves, distributions per class."""
    scores = analysis.score_frame(records, up_to_step=comparison.up_to_step)
    sections = [Section(heading="Summary", text=describe_comparison(comparison))]
    sections += [_correlations(comparison, method) for method in ("spearman", "pearson")]
    quantiles = analysis.correlation_by_quantile(
        records,
        score=comparison.score,
        on_mismatch="inner",
        up_to_step=comparison.up_to_step,
    )
    sections += [
        Section(
            heading="Every pair of models",
            text="Mean over the pairs of runs, 95 % bootstrap interval over the samples.",
            frame=comparison.groups,
        ),
        Section(
            heading="Correlation among the hardest samples",
            text="Correlation of the samples at or above each quantile of the score.",
            frame=quantiles,
            figure=figure_of(plots.quantile_curves(quantiles)),
            caption="Correlation as a function of the quantile (paper, Fig. 14).",
        ),
    ]
    if len(set(comparison.runs["model"])) > 1:
        sections += _biases(records, comparison)
    if has_classes(scores):
        sections.append(class_section(scores))
    sections.append(Section(heading="Runs", text="The runs compared.", frame=comparison.runs))
    return Report(title="Comparison of action scores", sections=sections)


def _biases(records: Sequence[StoredRecord], comparison: Comparison) -> list[Section]:
    """Where the models of a comparison agree once noise is taken out, and where they do not."""
    aligned = analysis.align(
        records, score=comparison.score, on_mismatch="inner", up_to_step=comparison.up_to_step
    )
    sections = []
    corrected = analysis.disattenuated_correlations(comparison)
    if len(corrected):
        sections.append(
            Section(
                heading="Correlation between models without the noise of training",
                text=describe_disattenuated(corrected)
                + " r_ab / √(r_aa r_bb): the cross-model correlation over what two runs of each "
                "model reach with themselves (Spearman 1904). 1 would mean the same hard samples.",
                frame=corrected,
            )
        )
    sections.append(
        Section(
            heading="Hardest samples in common",
            text="Share of the k hardest samples that two runs have in common, mean over the "
            "pairs of runs; chance is k over the number of samples.",
            frame=analysis.top_k_overlaps(aligned),
        )
    )
    pairs = analysis.contrasts(aligned, n=GALLERY).groupby(["hard_for", "easy_for"], sort=False)
    for (hard, easy), rows in list(pairs)[:_MAX_CONTRASTS]:
        sections.append(_contrast(records[0], str(hard), str(easy), rows))
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
