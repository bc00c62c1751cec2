"""Commands that set runs side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiontrack.cli.options import (
    DASK,
    MISMATCH,
    PLOT,
    RECORD,
    SCORE,
    UP_TO,
    output_options,
    query_options,
    store_options,
)
from actiontrack.cli.output import for_terminal, save_plot, write
from actiontrack.cli.root import cli
from actiontrack.errors import ParameterError, ThresholdError

if TYPE_CHECKING:
    from pandas import DataFrame

    from actiontrack.compare import Method
    from actiontrack.store import RunQuery, StoredRecord

__all__ = ["agreement", "changed", "compare"]

# All of `Method`, whose module is slow to import; a test compares.
_METHODS: tuple["Method", ...] = ("spearman", "pearson")
_ALL = "all"
_BOOTSTRAP = click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=500,
    show_default=True,
    help="Resamples for the confidence intervals, 0 for none.",
)


@cli.command()
@query_options
@output_options
@SCORE
@UP_TO
@MISMATCH
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    default="spearman",
    show_default=True,
    help="Correlation to print as a table.",
)
@_BOOTSTRAP
@click.option("--tidy", is_flag=True, help="One row per value, with confidence intervals.")
@click.option("--quantiles", is_flag=True, help="By quantile of the score (Fig. 14) instead.")
@DASK
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
    dask: str | None,
    plot: Path | None,
    **query: Any,
) -> None:
    """Correlate a score between runs: the paper's Table 1, or Fig. 14 with --quantiles."""
    from actiontrack import analysis
    from actiontrack.analysis import sentences
    from actiontrack.cli.records import cluster_client, open_records

    records = open_records(query)
    options: dict[str, Any] = {"score": score, "on_mismatch": on_mismatch, "up_to_step": up_to_step}
    with cluster_client(dask) as client:
        if quantiles:
            frame = analysis.correlation_by_quantile(records, client=client, **options)
            write(frame, kind, output)
            if plot is not None:
                from actiontrack import plots

                save_plot(plot, plots.quantile_curves(frame).figure)
            return
        # Both correlations and intervals are in the tidy table only; the finding is Spearman's.
        comparison = analysis.compare_runs(
            records,
            methods=[name for name in _METHODS if tidy or name in {"spearman", method}],
            n_bootstrap=bootstrap if tidy else 0,
            client=client,
            **options,
        )
    table = comparison.table(method)
    write(comparison.groups if tidy else table.reset_index(), kind, output)
    click.echo(sentences.describe_comparison(comparison), err=True)
    if plot is not None:
        from actiontrack import plots

        save_plot(plot, plots.correlation_heatmap(table).figure)


@cli.command()
@query_options
@output_options
@click.option(
    "--with",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Table of ids and values, CSV or Parquet.",
)
@click.option("--id", "id_column", metavar="COLUMN", help="Of the ids; default: id or sample_id.")
@click.option(
    "--value", "columns", multiple=True, metavar="COLUMN", help="Of values; default: all others."
)
@click.option(
    "--high-is-hard/--high-is-easy",
    default=True,
    show_default=True,
    help="Whether a high value means a hard or an easy sample.",
)
@click.option(
    "--score", "scores", multiple=True, default=("action",), show_default=True,
    help='Score to use; repeat it, or say "all".',
)  # fmt: skip
@UP_TO
@MISMATCH
@_BOOTSTRAP
@click.option("--pearson", is_flag=True, help="Also Pearson's r, beside Spearman's ρ.")
@PLOT
def agreement(
    kind: str,
    output: Path | None,
    file: Path,
    id_column: str | None,
    columns: tuple[str, ...],
    high_is_hard: bool,
    scores: tuple[str, ...],
    up_to_step: int | None,
    on_mismatch: str,
    bootstrap: int,
    pearson: bool,
    plot: Path | None,
    **query: Any,
) -> None:
    """Correlate scores with difficulty from outside: of annotators, or of other methods.

    A positive correlation means that both find the same samples hard. Rows are joined by id, never
    by position. Of several runs of a model their mean is printed, too, with the correlation of the
    runs among each other. --plot draws the ranks by the first value and the first score.
    """
    from actiontrack import analysis
    from actiontrack.analysis import sentences
    from actiontrack.cli.records import open_records

    outside = analysis.read_difficulties(file, id_column=id_column, columns=columns)
    records = open_records(query)
    options: dict[str, Any] = {"on_mismatch": on_mismatch, "up_to_step": up_to_step}
    options["high_is_hard"] = high_is_hard
    result = analysis.agreement_with(
        records,
        outside,
        scores=None if _ALL in scores else scores,
        methods=_METHODS if pearson else _METHODS[:1],
        n_bootstrap=bootstrap,
        **options,
    )
    table = for_terminal(result.table, kind)
    write(table.dropna(axis=1, how="all") if kind == "table" else table, kind, output)
    click.echo(sentences.describe_agreement(result), err=True)
    if plot is not None:
        from actiontrack import plots

        score = str(result.table["score"].iloc[0])
        ranks = analysis.difficulty_ranks(records, outside, score=score, **options)
        save_plot(plot, plots.difficulty_ranks(ranks).figure)


@cli.command()
@store_options
@click.option("--before", required=True, metavar="QUERY", help="The runs to start from.")
@click.option("--after", required=True, metavar="QUERY", help="The runs to look at.")
@RECORD
@SCORE
@UP_TO
@click.option(
    "--threshold",
    type=click.FloatRange(min=0),
    metavar="X",
    help="Exit with 10 if all samples or a class became harder by more than X times the score "
    "before, and by more than chance.",
)
@click.option(
    "--slices",
    "by_slice",
    is_flag=True,
    help="Print slices by the attributes that are kept with the runs, in the place of classes.",
)
@click.option(
    "--slice-threshold", type=click.FloatRange(0, 1), metavar="X",
    help="--slices: exit with 10 if a slice became harder by more than X in mean rank, from 0 to "
    "1, and by more than chance.",
)  # fmt: skip
@click.option(
    "--report",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Also write a report into a folder.",
)
@output_options
def changed(
    tracking_uri: str | None,
    before: str,
    after: str,
    record: str | None,
    score: str,
    up_to_step: int | None,
    threshold: float | None,
    by_slice: bool,
    slice_threshold: float | None,
    folder: Path | None,
    kind: str,
    output: Path | None,
) -> None:
    """Print what became harder between two sets of runs; fail if it is more than a threshold.

    QUERY is experiment:NAME, filter:STRING (MLflow's own filter) or run ids with commas between.
    Labels may differ between the sets. With two runs or more in a set the spread between them says
    what chance does.
    """
    from actiontrack import analysis
    from actiontrack.analysis import changes, sentences
    from actiontrack.store import Store

    if slice_threshold is not None and not by_slice:
        rule = "goes with --slices only"
        raise ParameterError("--slice-threshold", rule, slice_threshold, "Add --slices.")
    store = Store(tracking_uri)
    old = analysis.load_records(_parsed("--before", before, record), store=store)
    new = analysis.load_records(_parsed("--after", after, record), store=store)
    differences = changes.compare_sets(old, new, score=score, up_to_step=up_to_step)
    crossed = None if threshold is None else changes.regressions(differences, threshold)
    measure = {"score": score, "up_to_step": up_to_step}
    harder = _changed_slices(old, new, measure, slice_threshold) if by_slice else None
    write(differences.classes if harder is None else harder[0], kind, output)
    click.echo(sentences.describe_changes(differences), err=True)
    if harder is not None:
        click.echo(harder[1], err=True)
    if folder is not None:
        from actiontrack import reporting

        made = reporting.change_report(old, new, differences, threshold=threshold, crossed=crossed)
        click.echo(str(made.save(folder)["report.html"]), err=True)
    if crossed is not None and len(crossed):
        names = ", ".join(
            f"{row['class']} {row['relative']:+.1%}" for row in crossed.to_dict("records")
        )
        raise ThresholdError(f"harder by more than {threshold:.1%} and than chance: {names}.")
    if harder is not None and harder[2]:
        raise ThresholdError(
            f"slices that are harder by more than {slice_threshold:g} and than chance: "
            f"{', '.join(harder[2])}."
        )


def _changed_slices(
    old: Sequence["StoredRecord"],
    new: Sequence["StoredRecord"],
    measure: Mapping[str, Any],
    threshold: float | None,
) -> "tuple[DataFrame, str, list[str]]":
    """The table of slices, a sentence on it, and those that crossed the threshold."""
    from actiontrack.analysis import sentences, slices

    records = [*old, *new]
    sample_set = slices.sliced(
        records,
        slices.shared_metadata(records),
        on_mismatch="inner",
        **measure,
    )
    result = slices.slice_differences(sample_set, len(old))
    crossed = []
    if threshold is not None:
        rows = slices.harder_slices(result, threshold).to_dict("records")
        crossed = [f"{row['slice']} {row['change']:+.3f}" for row in rows]
    return result.table, sentences.describe_slice_differences(result), crossed


def _parsed(name: str, text: str, record: str | None) -> "RunQuery":
    from actiontrack.store import RunQuery

    kind, _, rest = text.partition(":")
    if kind == "experiment" and rest:
        return RunQuery(experiments=(rest,), record=record)
    if kind == "filter" and rest:
        return RunQuery(filter_string=rest, record=record)
    ids = tuple(word.strip() for word in text.split(",") if word.strip())
    if not ids or ":" in text:
        rule = "must be experiment:NAME, filter:STRING or run ids"
        raise ParameterError(name, rule, text, "Write experiment:baseline, for instance.")
    return RunQuery(run_ids=ids, record=record)
