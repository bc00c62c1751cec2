"""Commands that write folders: reports and tables."""

from pathlib import Path
from typing import Any

import click
import pandas as pd

from actiontrack import analysis, reporting
from actiontrack.cli.options import MISMATCH, open_records, query_options
from actiontrack.cli.root import cli

__all__ = ["export", "report"]


@cli.command()
@query_options
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder."
)
def export(output: Path, **query: Any) -> None:
    """Write every table of the runs as Parquet and CSV into a folder."""
    records = open_records(query)
    frame = analysis.score_frame(records)
    written = [
        *analysis.save_frame(analysis.runs_frame(records), output / "runs"),
        *analysis.save_frame(frame, output / "scores"),
        *analysis.save_frame(analysis.class_distributions(frame), output / "classes"),
        *analysis.save_frame(analysis.loss_curves(records), output / "curves_of_hardest"),
    ]
    if all(reporting.has_pixel_classes(each) for each in records):
        pixels = pd.concat([analysis.pixel_classes(each) for each in records], ignore_index=True)
        written += analysis.save_frame(pixels, output / "pixel_classes")
    if len(records) > 1:
        written += analysis.compare_runs(records).save(output)
        quantiles = analysis.correlation_by_quantile(records)
        written += analysis.save_frame(quantiles, output / "correlation_by_quantile")
    for path in written:
        click.echo(str(path))


@cli.command()
@query_options
@MISMATCH
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("report"),
    show_default=True,
    help="Folder.",
)
def report(output: Path, on_mismatch: str, **query: Any) -> None:
    """Write a report of one run, or of a comparison of several, into a folder."""
    records = open_records(query)
    if len(records) == 1:
        made = reporting.run_report(records[0])
    else:
        comparison = analysis.compare_runs(records, on_mismatch=on_mismatch)
        made = reporting.comparison_report(records, comparison)
    for path in made.save(output).values():
        click.echo(str(path))
