"""Commands that write folders: reports and tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiontrack.cli.options import (
    MISMATCH,
    SCORE,
    UP_TO,
    query_options,
)
from actiontrack.cli.root import cli
from actiontrack.errors import DataError

if TYPE_CHECKING:
    from actiontrack.store import StoredRecord

__all__ = ["card", "export", "report"]

# Tables and all of `EXPORTS`, whose module is slow to import; a test compares.
_TARGETS = (
    *("tables", "datalab", "fiftyone", "label-studio", "cvat", "subset", "curriculum"),
    *("image-folder", "slices"),
)
# Those of `reporting.exports.training`; a test compares.
_FAVOURS = ("hard", "easy", "clean")

_MAX_LISTED = 20  # files whose paths are printed


@cli.command()
@query_options
@SCORE
@click.option(
    "--to",
    "target",
    type=click.Choice(_TARGETS),
    default="tables",
    show_default=True,
    help="What to write; all but tables are of one run.",
)
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder."
)
@click.option(
    "--share",
    type=click.FloatRange(0, 1),
    show_default="0.05",
    help="Part of the samples that is suspect, the hardest.",
)
@click.option("--top", type=click.IntRange(min=0), help="Number of suspect samples instead.")
@click.option(
    "--at-least",
    type=float,
    metavar="X",
    help="Suspect are samples with this score or a harder one instead, such as 0.5 with p_wrong.",
)
@click.option("--no-verdicts", is_flag=True, help="Go by scores alone, not by what people said.")
@click.option("--image-root", metavar="URL", help="fiftyone, label-studio: where the images are.")
@click.option(
    "--favour",
    type=click.Choice(_FAVOURS),
    default="clean",
    show_default=True,
    help="subset: what sampling weights favour.",
)
@click.option(
    "--chunks",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="curriculum: number of chunks.",
)
@click.option("--link", is_flag=True, help="image-folder: symbolic links instead of copies.")
@click.option(
    "--relabel",
    is_flag=True,
    help="image-folder, with --score p_wrong: put suspects into their suggested class.",
)
def export(
    target: str,
    output: Path,
    score: str,
    share: float | None,
    top: int | None,
    at_least: float | None,
    no_verdicts: bool,
    image_root: str | None,
    favour: str,
    chunks: int,
    link: bool,
    relabel: bool,
    **query: Any,
) -> None:
    """Write tables, or what other tools take: suspects to review, subsets to train on.

    tables: every table of the runs as Parquet and CSV. datalab: cleanlab's label issues. fiftyone,
    label-studio, cvat: samples to look at, with scores. subset: indices and weights for data
    loaders. curriculum: an order from easy to hard. image-folder: the samples that are not
    suspect, as images. slices: every slice of the attributes that are kept with the record, and the
    samples of those that are harder.

    With --score p_wrong, the probability that a label is wrong, the class that is suggested in its
    place goes with each suspect sample.
    """
    from actiontrack.cli.records import one_record, open_records
    from actiontrack.reporting import exports

    if target == "tables":
        written = _tables(open_records(query), output)
    else:
        suspects = exports.Suspects(
            score=score, share=share, top=top, at_least=at_least, reviewed=not no_verdicts
        )
        options = {"image_root": image_root, "favour": favour, "chunks": chunks, "link": link}
        options |= {"relabel": relabel}
        written = exports.EXPORTS[target](one_record(query), output, suspects, options)
    for path in written[:_MAX_LISTED]:
        click.echo(str(path))
    if len(written) > _MAX_LISTED:
        click.echo(f"and {len(written) - _MAX_LISTED} more files in {output}", err=True)


def _tables(records: Sequence["StoredRecord"], output: Path) -> list[Path]:
    import pandas as pd

    from actiontrack import analysis, reporting

    frame = analysis.score_frame(records)
    written = [
        *analysis.save_frame(analysis.runs_frame(records), output / "runs"),
        *analysis.save_frame(frame, output / "scores"),
        *analysis.save_frame(analysis.class_distributions(frame), output / "classes"),
        *analysis.save_frame(analysis.loss_curves(records), output / "curves_of_hardest"),
    ]
    if all(reporting.has_pixel_classes(record) for record in records):
        pixels = pd.concat(
            [analysis.pixel_classes(record) for record in records], ignore_index=True
        )
        written += analysis.save_frame(pixels, output / "pixel_classes")
    if len(records) > 1:
        written += analysis.compare_runs(records).save(output)
        quantiles = analysis.correlation_by_quantile(records)
        written += analysis.save_frame(quantiles, output / "correlation_by_quantile")
    return written


@cli.command()
@query_options
@SCORE
@UP_TO
@MISMATCH
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("report"),
    show_default=True,
    help="Folder.",
)
def report(
    output: Path, score: str, up_to_step: int | None, on_mismatch: str, **query: Any
) -> None:
    """Write a report of one run, or of a comparison of several, into a folder.

    The page report.html holds everything; report.md is the same for text, report.json names the
    runs behind each table and figure, and tables/ holds CSV, Parquet and LaTeX. Of several runs
    the largest comparable set is reported, with the reason why others are left out.
    """
    from actiontrack import reporting
    from actiontrack.cli.records import open_records

    records = open_records(query)
    made = reporting.query_report(
        records, score=score, on_mismatch=on_mismatch, up_to_step=up_to_step
    )
    left_out = len(records) - len({source.run_id for source in made.sources})
    if left_out:
        click.echo(
            f"{left_out} of {len(records)} runs can't be compared with the others and are left "
            "out: the report says why.",
            err=True,
        )
    for path in made.save(output).values():
        click.echo(str(path))


@cli.command()
@query_options
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("README.md"),
    show_default=True,
    help="The card; what you wrote between its markers stays.",
)
@click.option(
    "--task",
    default="image-classification",
    show_default=True,
    help="Task of the model-index, as Hugging Face names it.",
)
def card(output: Path, task: str, **query: Any) -> None:
    """Write or update the model card of a run, with its numbers per class filled in."""
    from actiontrack import reporting
    from actiontrack.cli.records import one_record
    from actiontrack.reporting.exports.files import write_text

    record = one_record(query)
    write_text(output, reporting.model_card(record, _existing(output), task=task))
    click.echo(str(output))


def _existing(card: Path) -> str:
    """The card as it is, or the empty string where there is none."""
    try:
        return card.read_text(encoding="utf-8") if card.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{card} can't be read: {error}. Choose a file in UTF-8.") from error
