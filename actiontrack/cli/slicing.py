"""Attributes of samples, and which slices of the samples are harder than the others."""

from pathlib import Path
from typing import Any

import click

from actiontrack.cli.options import MISMATCH, SCORE, UP_TO, output_options, query_options
from actiontrack.cli.output import for_terminal, write
from actiontrack.cli.root import cli
from actiontrack.errors import ParameterError

__all__ = ["metadata", "slices_command"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ID = click.option(
    "--id", "id_column", metavar="COLUMN", help="Of the ids; default: id or sample_id."
)
_KIND = click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="COLUMN=KIND",
    help="category, number, boolean or time, where a column looks like another; repeat it.",
)


@cli.command()
@query_options
@output_options
@click.option("--file", type=_FILE, help="Keep its attributes: CSV or Parquet, one row a sample.")
@click.option(
    "--from-images", "images", is_flag=False, flag_value="", metavar="[DIR]",
    help="Keep brightness, contrast, sharpness, aspect ratio, size and colourfulness of the images "
    "in a folder, or of those of the record.",
)  # fmt: skip
@click.option(
    "--from-features", "parts", type=click.IntRange(2, 20), metavar="K",
    help="Keep the part of its class that a sample is in, by k-means of the recorded features.",
)  # fmt: skip
@_ID
@click.option(
    "--column", "columns", multiple=True, help="Attribute to keep; default: all columns but ids."
)
@_KIND
def metadata(
    kind: str,
    output: Path | None,
    file: Path | None,
    images: str | None,
    parts: int | None,
    id_column: str | None,
    columns: tuple[str, ...],
    kinds: tuple[str, ...],
    **query: Any,
) -> None:
    """Keep attributes of samples, such as camera or time of day, beside finished records.

    Rows are joined by id, never by position. Without a source, print what is kept. A column that
    was kept before is replaced. Records with hashed ids keep the columns that you
    name.
    """
    from actiontrack.analysis import slices
    from actiontrack.cli.records import one_record, open_records

    sources = {"--file": file, "--from-images": images, "--from-features": parts}
    named = [name for name, value in sources.items() if value is not None]
    if not named:
        write(slices.read_metadata(one_record(query)), kind, output)
        return
    if len(named) > 1:
        rule = f"goes without {named[0]}"
        raise ParameterError(named[1], rule, sources[named[1]], "Keep one after the other.")
    if file is not None:
        frame = slices.read_metadata_file(file, id_column=id_column, kinds=_kinds(kinds))
    for record in open_records(query):
        if images is not None:
            frame = slices.image_properties(record, Path(images) if images else None)
        elif parts is not None:
            frame = slices.feature_clusters(record, k=parts)
        rows = slices.add_metadata(record, frame, columns=columns)
        text = f"{len(rows)} of {record.manifest.n_samples} samples have attributes now"
        click.echo(f"{record.name} of {record.run.name}: {text}", err=True)


@cli.command("slices")
@query_options
@output_options
@click.option("--file", type=_FILE, help="Attributes; default: those kept beside the records.")
@_ID
@click.option("--column", "columns", multiple=True, help="Attribute to slice by; default: all.")
@_KIND
@click.option("--pairs/--no-pairs", default=True, show_default=True, help="Cross attributes.")
@click.option(
    "--bins", type=click.IntRange(2, 100), default=5, show_default=True,
    help="Of numbers and times.",
)  # fmt: skip
@click.option(
    "--min-size", type=click.IntRange(min=5), default=30, show_default=True,
    help="Fewest samples of a slice.",
)  # fmt: skip
@click.option(
    "--fdr", type=click.FloatRange(min=0, max=1, min_open=True), default=0.05, show_default=True,
    help="Rate of false discoveries among the slices that are printed; 1 prints all.",
)  # fmt: skip
@click.option(
    "--early", type=click.IntRange(min=1), metavar="STEPS",
    help="No attributes: the part of each class of one run that lags behind in the first steps.",
)  # fmt: skip
@click.option(
    "--search", type=click.IntRange(1, 3), metavar="ATTRIBUTES",
    help="Search the hardest slices of up to so many attributes, and test them on other samples.",
)  # fmt: skip
@click.option("--samples", "members", is_flag=True, help="--early: print the samples instead.")
@SCORE
@UP_TO
@MISMATCH
def slices_command(
    kind: str,
    output: Path | None,
    file: Path | None,
    id_column: str | None,
    columns: tuple[str, ...],
    kinds: tuple[str, ...],
    pairs: bool,
    bins: int,
    min_size: int,
    fdr: float,
    early: int | None,
    search: int | None,
    members: bool,
    score: str,
    up_to_step: int | None,
    on_mismatch: str,
    **query: Any,
) -> None:
    """Print the slices of the samples that are harder, or easier, than the rest of their classes.

    A slice is a group of an attribute, or of two: "camera = 3", "camera = 3 & time = night".
    p_harder is the chance that a sample of it is harder than one of the same class outside it.
    Ranks of several runs are averaged.
    """
    from actiontrack.analysis import sentences, slices
    from actiontrack.cli.records import one_record, open_records

    if members and early is None:
        rule = "goes with --early only"
        raise ParameterError("--samples", rule, "no --early", "Add --early 3.")
    if early is not None:
        if file is not None or columns or kinds or search is not None:
            rule = "goes without attributes"
            remedy = "Leave out --file, --column, --kind and --search."
            raise ParameterError("--early", rule, early, remedy)
        lagging = slices.early_samples if members else slices.early_minorities
        write(lagging(one_record(query), steps=early), kind, output)
        return
    records = open_records(query)
    if file is not None:
        frame = slices.read_metadata_file(file, id_column=id_column, kinds=_kinds(kinds))
    else:
        frame = slices.shared_metadata(records)
    sample_set = slices.sliced(
        records,
        frame,
        score=score,
        columns=columns,
        bins=bins,
        on_mismatch=on_mismatch,
        up_to_step=up_to_step,
    )
    options: dict[str, Any] = {"min_size": min_size, "false_discovery_rate": fdr}
    if search is None:
        result = slices.slices(sample_set, pairs=pairs, **options)
    else:
        result = slices.search_slices(sample_set, most_attributes=search, **options)
    write(for_terminal(result.table, kind), kind, output)
    click.echo(sentences.describe_slices(result), err=True)


def _kinds(texts: tuple[str, ...]) -> dict[str, str]:
    """COLUMN=KIND as a mapping."""
    kinds = {}
    for text in texts:
        column, sign, kind = text.rpartition("=")
        if not sign:
            raise ParameterError("--kind", "must be COLUMN=KIND", text, "Write camera=category.")
        kinds[column] = kind
    return kinds
