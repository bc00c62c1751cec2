"""What people said of samples that they looked at."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiontrack.cli.options import SCORE, account_name, output_options, query_options
from actiontrack.cli.output import write
from actiontrack.cli.root import cli

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["verdicts"]


@cli.command()
@query_options
@output_options
@SCORE
@click.option("-k", "ks", type=click.IntRange(min=1), multiple=True, help="For --precision.")
@click.option("--precision", is_flag=True, help="Print precision at k instead.")
@click.option("--all", "everything", is_flag=True, help="Print replaced and withdrawn ones, too.")
@click.option(
    "--import",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="First keep the verdicts of a file: CSV, or Label Studio's JSON or CVAT's XML.",
)
@click.option("--who", help="--import: reviewer where the file names none; default: your account.")
def verdicts(
    kind: str,
    output: Path | None,
    score: str,
    ks: tuple[int, ...],
    precision: bool,
    everything: bool,
    file: Path | None,
    who: str | None,
    **query: Any,
) -> None:
    """Print what people said of the samples of a run, and how many of the hardest are wrong."""
    from actiontrack.analysis import verdicts as stored
    from actiontrack.analysis.options import PrecisionOptions, validated
    from actiontrack.analysis.questions import precision_of
    from actiontrack.cli.records import one_record

    record = one_record(query)
    if file is not None:
        from actiontrack.analysis.verdict_files import read_verdict_file

        imported = read_verdict_file(record, file, who=who or account_name() or "unnamed")
        stored.add(record, imported)
        click.echo(f"{len(imported)} verdicts kept", err=True)
    every_verdict = stored.read(record)
    current = stored.current(every_verdict)
    options = validated(PrecisionOptions, {"score": score, "k": ks})
    at_k = precision_of(record, current, options)
    table = every_verdict if everything else current
    if precision:
        table = at_k
    write(_with_texts(table, kind), kind, output)
    click.echo(_summary(current, at_k, score), err=True)


def _summary(current: "pd.DataFrame", precision: "pd.DataFrame", score: str) -> str:
    from actiontrack.analysis.verdicts import JUDGEMENTS

    counts = current["verdict"].value_counts()
    parts = [f"{counts.get(name, 0)} {name.replace('_', ' ')}" for name in JUDGEMENTS]
    text = f"{len(current)} samples judged: {', '.join(parts)}."
    judged = list(precision.loc[precision["n_judged"] > 0].itertuples())
    if not judged:
        return text
    last = judged[-1]
    return (
        f"{text} Of the {last.k} hardest by {score}, {last.n_judged} were judged and "
        f"{last.n_wrong} have a wrong label: precision {last.precision:.3f}."
    )


def _with_texts(frame: "pd.DataFrame", kind: str) -> "pd.DataFrame":
    """Times as ISO 8601 in formats that have no times."""
    if kind == "parquet" or "when" not in frame.columns:
        return frame
    return frame.assign(when=[time.isoformat() for time in frame["when"]])
