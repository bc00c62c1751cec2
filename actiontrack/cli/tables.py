"""Commands that print one table of one or more runs."""

import sys
from pathlib import Path
from typing import Any

import click

from actiontrack.cli.options import (
    PLOT,
    SAMPLES,
    SCORE,
    UP_TO,
    number_option,
    output_options,
    query_options,
    run_options,
)
from actiontrack.cli.output import for_terminal, save_plot, write
from actiontrack.cli.root import cli

__all__ = ["accuracy", "classes", "curves", "noise", "runs", "scores", "stability"]

_MOST_ROWS = 20  # hardest samples of a run that a terminal gets
_MOST_FIXES = 20  # suspect labels that a terminal gets


@cli.command()
@run_options
@output_options
def runs(kind: str, output: Path | None, **query: Any) -> None:
    """List the runs that hold a record, one row per record.

    Records whose manifest can't be read are named below, and make the command exit with 6. Their
    files are not looked at: `actiontrack doctor` does that.
    """
    from actiontrack import analysis
    from actiontrack.analysis.loading import sound_records
    from actiontrack.cli.records import leave_out
    from actiontrack.store import RunQuery, Store

    store = Store(query.pop("tracking_uri"))
    records, damaged = sound_records(
        RunQuery(**query), store=store, every_record=True, manifests_only=True
    )
    leave_out(damaged)
    frame = analysis.runs_frame(records)
    if kind == "table":
        from actiontrack.store.runs import short_id

        frame = frame.assign(run_id=frame["run_id"].map(short_id))
    write(frame, kind, output)


@cli.command()
@query_options
@output_options
@UP_TO
@click.option("--top", type=click.IntRange(min=1), help="Only the hardest of each run.")
@SCORE
@PLOT
def scores(
    kind: str,
    output: Path | None,
    up_to_step: int | None,
    top: int | None,
    score: str,
    plot: Path | None,
    **query: Any,
) -> None:
    """Print the scores of every sample; --plot draws their distribution.

    A terminal gets the 20 hardest of each run, a pipe or a file all of them.
    """
    from actiontrack import analysis
    from actiontrack.cli.records import open_scores

    frame = open_scores(query, up_to_step=up_to_step)
    on_terminal = kind == "table" and output is None and sys.stdout.isatty()
    table = analysis.hardest(frame, top or _MOST_ROWS, by=score) if top or on_terminal else frame
    if not top and len(table) < len(frame):
        click.echo(
            f"the {_MOST_ROWS} hardest of each run: --top N for more, --output FILE for all "
            f"{len(frame):,} rows.",
            err=True,
        )
    write(for_terminal(table, kind, whole=frame), kind, output)
    if plot is not None:
        from actiontrack import plots

        save_plot(plot, plots.score_histogram(frame, score=score, hue="run_name").figure)


@cli.command()
@query_options
@output_options
@SCORE
@PLOT
def classes(kind: str, output: Path | None, score: str, plot: Path | None, **query: Any) -> None:
    """Summarise a score per class, hardest class first."""
    from actiontrack import analysis
    from actiontrack.cli.records import open_scores

    frame = open_scores(query)
    write(for_terminal(analysis.class_distributions(frame, score=score), kind), kind, output)
    if plot is not None:
        from actiontrack import plots

        save_plot(plot, plots.class_distributions(frame, score=score).figure)


@cli.command()
@query_options
@output_options
@SAMPLES
@number_option(6)
@click.option(
    "--clusters",
    type=click.IntRange(min=1),
    metavar="K",
    help="Cluster all curves instead: K centres and the curves closest to each (Fig. 2).",
)
@PLOT
def curves(
    kind: str,
    output: Path | None,
    samples: tuple[str, ...],
    n: int,
    clusters: int | None,
    plot: Path | None,
    **query: Any,
) -> None:
    """Print loss against step, of given samples or of the hardest of each run."""
    from actiontrack.analysis import sentences
    from actiontrack.analysis.questions import ask
    from actiontrack.cli.records import one_record, open_records

    if clusters is not None:
        if samples:
            raise click.UsageError("--clusters looks at all curves: leave --sample out.")
        centres = ask("clusters", [one_record(query)], {"k": clusters})
        write(for_terminal(centres, kind), kind, output)
        click.echo(sentences.describe_clusters(centres), err=True)
        if plot is not None:
            from actiontrack import plots

            save_plot(plot, plots.curve_clusters(centres).figure)
        return
    frame = ask("curves", open_records(query), {"id": samples, "n": n})
    write(for_terminal(frame, kind), kind, output)
    if plot is not None:
        from actiontrack import plots

        save_plot(plot, plots.loss_curves(frame).figure)


@cli.command()
@query_options
@output_options
@SCORE
@PLOT
def stability(kind: str, output: Path | None, score: str, plot: Path | None, **query: Any) -> None:
    """Correlate a score after each epoch with the full score: when could one have stopped?"""
    from actiontrack import analysis
    from actiontrack.analysis import sentences
    from actiontrack.cli.records import open_records

    frame = analysis.stability(open_records(query), score=score)
    write(for_terminal(frame, kind), kind, output)
    click.echo(sentences.describe_stability(frame), err=True)
    if plot is not None:
        from actiontrack import plots

        save_plot(plot, plots.stability_curves(frame).figure)


@cli.command()
@query_options
@output_options
@SCORE
@UP_TO
@click.option("-k", "ks", type=click.IntRange(min=1), multiple=True, help="For precision at k.")
@click.option("--each", is_flag=True, help="One row per run instead of means over runs.")
@PLOT
@click.option(
    "--fix",
    is_flag=True,
    help="Print the labels of one run that are likely wrong, and what is likely right, instead.",
)
@click.option(
    "--at-least",
    type=click.FloatRange(0, 1),
    show_default="0.5",
    metavar="P",
    help="--fix: probability that a label is wrong from which on it is suspect.",
)
@click.option(
    "--labels",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="--fix: also write all labels, the suspect ones corrected, as CSV of id,label.",
)
def noise(
    kind: str,
    output: Path | None,
    score: str,
    up_to_step: int | None,
    ks: tuple[int, ...],
    each: bool,
    plot: Path | None,
    fix: bool,
    at_least: float | None,
    labels: Path | None,
    **query: Any,
) -> None:
    """Measure how well every score finds wrong labels; --plot draws --score of noisy and clean.

    With --fix no true labels are needed: it prints which labels are likely wrong, says how many
    are, and corrects them with --labels. What people said counts more: see the command verdicts.
    """
    if fix:
        if ks or each or plot is not None:
            raise click.UsageError("--fix prints suspects: leave -k, --each and --plot out.")
        options = {"up_to_step": up_to_step} | ({} if at_least is None else {"at_least": at_least})
        _print_fixes(query, options, kind, output, labels)
        return
    if at_least is not None or labels is not None:
        raise click.UsageError("--at-least and --labels go with --fix.")
    from actiontrack import analysis
    from actiontrack.analysis import sentences
    from actiontrack.cli.records import open_records

    records = open_records(query)
    detected = analysis.noise_detection(records, ks=ks or None, up_to_step=up_to_step)
    summary = analysis.noise_summary(detected)
    write(for_terminal(detected, kind) if each else summary, kind, output)
    click.echo(sentences.describe_noise(summary), err=True)
    if plot is not None:
        from actiontrack import plots

        save_plot(
            plot, plots.noise_distributions(analysis.noise_scores(records), score=score).figure
        )


def _print_fixes(
    query: dict[str, Any],
    options: dict[str, Any],
    kind: str,
    output: Path | None,
    file: Path | None,
) -> None:
    """Print the suspect labels of a run and how many are wrong, and write the corrected ones."""
    from actiontrack import analysis
    from actiontrack.analysis import sentences
    from actiontrack.cli.records import one_record

    record = one_record(query)
    fixes = analysis.label_fixes(record, **options)
    counts = analysis.wrong_label_counts([record], up_to_step=options["up_to_step"])
    if kind == "table" and output is None:
        table = fixes.head(_MOST_FIXES).assign(verdict=fixes["verdict"].fillna(""))
        nobody_said = (table["verdict"] == "").all()
        write(table.drop(columns="verdict") if nobody_said else table, kind, output)
    else:
        write(fixes, kind, output)
    click.echo(sentences.describe_wrong_labels(counts), err=True)
    suspects = f"{len(fixes)} labels are suspect"
    if kind == "table" and output is None and len(fixes) > _MOST_FIXES:
        suspects += f", of which these are the first {_MOST_FIXES}; --output FILE has all"
    click.echo(f"{suspects}.", err=True)
    if file is not None:
        from actiontrack.reporting.exports.files import write_csv

        click.echo(str(write_csv(file, analysis.corrected_labels(record, **options))), err=True)


@cli.command()
@query_options
@output_options
@PLOT
def accuracy(kind: str, output: Path | None, plot: Path | None, **query: Any) -> None:
    """Print accuracy among samples above thresholds on action, entropy and loss variance."""
    from actiontrack import analysis
    from actiontrack.cli.records import open_records

    frame = analysis.accuracy_by_threshold(open_records(query))
    write(for_terminal(frame, kind), kind, output)
    if plot is not None:
        from actiontrack import plots

        save_plot(plot, plots.accuracy_curves(frame).figure)
