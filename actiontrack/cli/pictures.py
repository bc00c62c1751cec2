"""Commands that draw samples."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiontrack.cli.options import (
    DASK,
    EASIEST,
    PLOT,
    SAMPLES,
    SCORE,
    figure_option,
    number_option,
    output_options,
    query_options,
)
from actiontrack.cli.output import for_terminal, save_plot, tell_missing, write
from actiontrack.cli.root import cli
from actiontrack.errors import ParameterError

if TYPE_CHECKING:
    import pandas as pd

    from actiontrack.store import StoredRecord

__all__ = ["gallery", "maps", "neighbours"]


@cli.command()
@query_options
@SCORE
@number_option(12)
@EASIEST
@click.option("--class", "class_name", help="Only samples of this class.")
@figure_option("gallery")
def gallery(
    score: str,
    n: int,
    easiest: bool,
    class_name: str | None,
    plot: Path,
    **query: Any,
) -> None:
    """Draw the hardest samples of one run, with label and score."""
    from actiontrack import reporting
    from actiontrack.cli.records import one_record

    record = one_record(query)
    rows = _extreme_rows(record, n, score=score, easiest=easiest, class_name=class_name)
    figure, missing = reporting.gallery(record, rows, score=score)
    save_plot(plot, figure, err=False)
    tell_missing(missing, len(rows))


@cli.command()
@query_options
@output_options
@SAMPLES
@number_option(4)
@EASIEST
@figure_option("maps")
@DASK
def maps(
    kind: str,
    output: Path | None,
    samples: tuple[str, ...],
    n: int,
    easiest: bool,
    plot: Path,
    dask: str | None,
    **query: Any,
) -> None:
    """Draw the action of each pixel of given or of the N hardest samples, and rank the classes.

    Of two runs or more, print the correlation of the maps of each sample instead.
    """
    from actiontrack import analysis, reporting
    from actiontrack.analysis import sentences
    from actiontrack.cli.records import cluster_client, open_records

    records = open_records(query)
    if len(records) > 1:
        with cluster_client(dask) as client:
            frame = analysis.map_correlation(records, client=client)
        write(for_terminal(frame, kind), kind, output)
        click.echo(sentences.describe_map_correlation(frame), err=True)
        return
    record = records[0]
    rows = analysis.score_frame(records)
    if samples:
        rows = rows.iloc[analysis.positions(record, samples)]
    else:
        rows = (analysis.easiest if easiest else analysis.hardest)(rows, n)
    figure, missing = reporting.pixel_figure(record, rows)
    if reporting.has_pixel_classes(record):
        with cluster_client(dask) as client:
            classes = analysis.pixel_classes(record, client=client)
        write(for_terminal(classes, kind), kind, output)
    save_plot(plot, figure)
    tell_missing(missing, len(rows))


@cli.command()
@query_options
@output_options
@SCORE
@SAMPLES
@number_option(6)
@click.option(
    "-k", "k", type=click.IntRange(min=1), default=8, show_default=True, help="Neighbours of each."
)
@PLOT
def neighbours(
    kind: str,
    output: Path | None,
    score: str,
    samples: tuple[str, ...],
    n: int,
    k: int,
    plot: Path | None,
    **query: Any,
) -> None:
    """Find the K nearest neighbours, in feature space, of given or of the N hardest samples."""
    from actiontrack.analysis import sentences
    from actiontrack.analysis.questions import ask
    from actiontrack.cli.records import one_record

    record = one_record(query)
    frame = ask("neighbours", [record], {"id": samples, "n": n, "k": k, "score": score})
    write(for_terminal(frame, kind), kind, output)
    click.echo(sentences.describe_neighbours(frame), err=True)
    if plot is not None:
        from actiontrack import reporting

        figure, missing = reporting.neighbour_gallery(record, frame)
        save_plot(plot, figure)
        tell_missing(missing, frame["query_id"].nunique() * (k + 1))


def _extreme_rows(
    record: "StoredRecord", n: int, *, score: str, easiest: bool, class_name: str | None
) -> "pd.DataFrame":
    from actiontrack import analysis

    frame = analysis.score_frame([record])
    if class_name is not None:
        names = sorted(str(name) for name in frame["class"].unique())
        if class_name not in names:
            raise ParameterError(
                "--class", f"must be one of {', '.join(names)}", class_name, "Choose one of these."
            )
        frame = frame.loc[frame["class"] == class_name]
    choose = analysis.easiest if easiest else analysis.hardest
    return choose(frame, n, by=score)
