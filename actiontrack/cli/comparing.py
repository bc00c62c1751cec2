"""Commands that set runs side by side."""

from pathlib import Path
from typing import Any

import click

from actiontrack import analysis, plots, reporting
from actiontrack.cli.options import (
    MISMATCH,
    PLOT,
    SCORE,
    UP_TO,
    open_records,
    output_options,
    query_options,
)
from actiontrack.cli.output import save_plot, write
from actiontrack.cli.root import cli

__all__ = ["compare"]


@cli.command()
@query_options
@output_options
@SCORE
@UP_TO
@MISMATCH
@click.option(
    "--method",
    type=click.Choice(["spearman", "pearson"]),
    default="spearman",
    show_default=True,
    help="Correlation to print as a table.",
)
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Resamples for the confidence intervals, 0 for none.",
)
@click.option("--tidy", is_flag=True, help="One row per value, with confidence intervals.")
@click.option("--quantiles", is_flag=True, help="By quantile of the score (Fig. 14) instead.")
@PLOT
def compare(
    kind: str,
    output: Path | None,
    score: str,
    up_to_step: int | None,
    on_mismatch: str,
    method: str,
    bootstrap: int,
    tidy: bool,
    quantiles: bool,
    plot: Path | None,
    **query: Any,
) -> None:
    """Correlate a score between runs: the paper's Table 1, or Fig. 14 with --quantiles."""
    records = open_records(query)
    if quantiles:
        frame = analysis.correlation_by_quantile(
            records, score=score, on_mismatch=on_mismatch, up_to_step=up_to_step
        )
        write(frame, kind, output)
        save_plot(plot, lambda: plots.quantile_curves(frame))
        return
    comparison = analysis.compare_runs(
        records,
        score=score,
        n_bootstrap=bootstrap if tidy or kind != "table" else 0,
        on_mismatch=on_mismatch,
        up_to_step=up_to_step,
    )
    table = comparison.table(method)
    write(comparison.groups if tidy else table.reset_index(), kind, output)
    click.echo(reporting.describe_comparison(comparison), err=True)
    save_plot(plot, lambda: plots.correlation_heatmap(table))
