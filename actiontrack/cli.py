"""The command line: `actiontrack COMMAND`, on the runs of a tracking server.

Exit codes: 0 success, 2 wrong usage, and those of `actiontrack.errors`. Tables go to stdout,
everything else to stderr, so that output can be piped.
"""

import importlib.metadata
import io
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import pandas as pd
from click.shell_completion import get_completion_class

import actiontrack
from actiontrack import analysis, plots, reporting
from actiontrack.errors import ActionTrackError, CorruptRecordError, ParameterError, StoreError
from actiontrack.recorder import spool_root, sync
from actiontrack.store import RunQuery, Store, StoredRecord

__all__ = ["cli", "main"]

FORMATS = ("table", "csv", "json", "parquet")
_SHELLS = ("bash", "zsh", "fish")
_Command = TypeVar("_Command", bound=Callable[..., Any])


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point: one line on stderr and the exit code of the error, never a traceback."""
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    try:
        cli.main(None if argv is None else list(argv), "actiontrack", standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except ActionTrackError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(actiontrack.__version__, prog_name="actiontrack")
def cli() -> None:
    """Which samples are hard, mislabelled or biased: action scores of tracked runs.

    Runs are chosen by --run, --experiment and --filter; without them, all runs that hold a
    record. The tracking server is MLflow's own choice (MLFLOW_TRACKING_URI) unless
    --tracking-uri names another.
    """


def _query_options(command: _Command) -> _Command:
    """The options by which runs are chosen."""
    options = [
        click.option("--tracking-uri", metavar="URI", help="Tracking server or local store."),
        click.option("--run", "run_ids", multiple=True, metavar="ID", help="Run id or its start."),
        click.option("--experiment", "experiments", multiple=True, help="Name of an experiment."),
        click.option("--filter", "filter_string", default="", help="MLflow filter string."),
        click.option("--record", help='Record to read, such as "test-probe".'),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _output_options(command: _Command) -> _Command:
    """The options by which a table is written."""
    options = [
        click.option(
            "--format", "kind", type=click.Choice(FORMATS), default="table", show_default=True
        ),
        click.option(
            "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to a file."
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


_SCORE = click.option("--score", default="action", show_default=True, help="Score to use.")
_UP_TO = click.option(
    "--up-to", "up_to_step", type=click.IntRange(min=0), help="Score up to this step only."
)
_MISMATCH = click.option(
    "--on-mismatch",
    type=click.Choice(["error", "inner"]),
    default="error",
    show_default=True,
    help="If samples differ: refuse, or compare those that all runs share.",
)


@cli.command()
@_query_options
@_output_options
def runs(kind: str, output: Path | None, **query: Any) -> None:
    """List the runs that hold a record."""
    records = _open(query)
    frame = analysis.runs_frame(records)
    if kind == "table":
        frame = frame.assign(run_id=frame["run_id"].str[:8])
    _write(frame, kind, output)


@cli.command()
@_query_options
@_output_options
@_UP_TO
@click.option("--top", type=click.IntRange(min=1), help="Only the hardest of each run.")
@_SCORE
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg.")
def scores(
    kind: str,
    output: Path | None,
    up_to_step: int | None,
    top: int | None,
    score: str,
    plot: Path | None,
    **query: Any,
) -> None:
    """Print the scores of every sample; --plot draws their distribution."""
    frame = analysis.score_frame(_open(query), up_to_step=up_to_step)
    shown = analysis.hardest(frame, top, by=score) if top else frame
    _write(_for_terminal(shown, kind), kind, output)
    _plot(plot, lambda: plots.score_histogram(frame, score=score, hue="run_name"))


@cli.command()
@_query_options
@_output_options
@_SCORE
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg.")
def classes(kind: str, output: Path | None, score: str, plot: Path | None, **query: Any) -> None:
    """Summarise a score per class, hardest class first."""
    frame = analysis.score_frame(_open(query))
    _write(_for_terminal(analysis.class_distributions(frame, score=score), kind), kind, output)
    _plot(plot, lambda: plots.class_distributions(frame, score=score))


@cli.command()
@_query_options
@_output_options
@_SCORE
@_UP_TO
@_MISMATCH
@click.option(
    "--method", type=click.Choice(["spearman", "pearson"]), default="spearman", show_default=True
)
@click.option(
    "--bootstrap", type=click.IntRange(min=0), default=500, show_default=True, help="0 for none."
)
@click.option("--tidy", is_flag=True, help="One row per value, with confidence intervals.")
@click.option("--quantiles", is_flag=True, help="By quantile of the score (Fig. 14) instead.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg.")
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
    records = _open(query)
    if quantiles:
        frame = analysis.correlation_by_quantile(
            records, score=score, on_mismatch=on_mismatch, up_to_step=up_to_step
        )
        _write(frame, kind, output)
        _plot(plot, lambda: plots.quantile_curves(frame))
        return
    comparison = analysis.compare_runs(
        records,
        score=score,
        n_bootstrap=bootstrap if tidy or kind != "table" else 0,
        on_mismatch=on_mismatch,
        up_to_step=up_to_step,
    )
    table = comparison.table(method)
    _write(comparison.groups if tidy else table.reset_index(), kind, output)
    click.echo(reporting.describe_comparison(comparison), err=True)
    _plot(plot, lambda: plots.correlation_heatmap(table))


@cli.command()
@_query_options
@_output_options
@click.option("--sample", "samples", multiple=True, metavar="ID", help="Sample id.")
@click.option("-n", "n", type=click.IntRange(min=1), default=6, show_default=True)
@click.option(
    "--clusters",
    type=click.IntRange(min=1),
    metavar="K",
    help="Cluster all curves instead: K centres and the curves closest to each (Fig. 2).",
)
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg.")
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
    if clusters is not None:
        if samples:
            raise click.UsageError("--clusters looks at all curves: leave --sample out.")
        centres = analysis.curve_clusters(_one_record(query), clusters)
        _write(_for_terminal(centres, kind), kind, output)
        click.echo(reporting.describe_clusters(centres), err=True)
        _plot(plot, lambda: plots.curve_clusters(centres))
        return
    frame = analysis.loss_curves(_open(query), list(samples) or None, n=n)
    _write(_for_terminal(frame, kind), kind, output)
    _plot(plot, lambda: plots.loss_curves(frame))


@cli.command()
@_query_options
@_output_options
@_SCORE
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg.")
def stability(kind: str, output: Path | None, score: str, plot: Path | None, **query: Any) -> None:
    """Correlate a score after each epoch with the full score: when could one have stopped?"""
    frame = analysis.stability(_open(query), score=score)
    _write(_for_terminal(frame, kind), kind, output)
    click.echo(reporting.describe_stability(frame), err=True)
    _plot(plot, lambda: plots.stability_curves(frame))


@cli.command()
@_query_options
@_SCORE
@click.option("-n", "n", type=click.IntRange(min=1), default=12, show_default=True)
@click.option("--easiest", is_flag=True, help="The easiest samples instead of the hardest.")
@click.option("--class", "class_name", help="Only samples of this class.")
@click.option("--plot", type=click.Path(path_type=Path), default=Path("gallery"), show_default=True)
def gallery(
    score: str,
    n: int,
    easiest: bool,
    class_name: str | None,
    plot: Path,
    **query: Any,
) -> None:
    """Draw the hardest samples of one run, with label and score."""
    record = _one_record(query)
    rows = _extreme_rows(record, n, score=score, easiest=easiest, class_name=class_name)
    figure, missing = reporting.gallery(record, rows, score=score)
    for path in plots.save_figure(figure, plot):
        click.echo(str(path))
    _tell_missing(missing, len(rows))


@cli.command()
@_query_options
@_output_options
@click.option("--sample", "samples", multiple=True, metavar="ID", help="Sample id.")
@click.option("-n", "n", type=click.IntRange(min=1), default=4, show_default=True)
@click.option("--easiest", is_flag=True, help="The easiest samples instead of the hardest.")
@click.option("--plot", type=click.Path(path_type=Path), default=Path("maps"), show_default=True)
def maps(
    kind: str,
    output: Path | None,
    samples: tuple[str, ...],
    n: int,
    easiest: bool,
    plot: Path,
    **query: Any,
) -> None:
    """Draw the action of each pixel of given or of the N hardest samples, and rank the classes.

    Of two runs or more, print the correlation of the maps of each sample instead.
    """
    records = _open(query)
    if len(records) > 1:
        frame = analysis.map_correlation(records)
        _write(_for_terminal(frame, kind), kind, output)
        click.echo(reporting.describe_map_correlation(frame), err=True)
        return
    record = records[0]
    rows = analysis.score_frame(records)
    if samples:
        rows = rows.iloc[analysis.positions(record, samples)]
    else:
        rows = (analysis.easiest if easiest else analysis.hardest)(rows, n)
    figure, missing = reporting.pixel_figure(record, rows)
    if reporting.has_pixel_classes(record):
        _write(_for_terminal(analysis.pixel_classes(record), kind), kind, output)
    for path in plots.save_figure(figure, plot):
        click.echo(str(path), err=True)
    _tell_missing(missing, len(rows))


@cli.command()
@_query_options
@_output_options
@_SCORE
@click.option("--sample", "samples", multiple=True, metavar="ID", help="Sample id.")
@click.option("-n", "n", type=click.IntRange(min=1), default=6, show_default=True)
@click.option("-k", "k", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg.")
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
    record = _one_record(query)
    frame = analysis.neighbours(record, list(samples) or None, n=n, k=k, score=score)
    _write(_for_terminal(frame, kind), kind, output)
    click.echo(reporting.describe_neighbours(frame), err=True)
    if plot is not None:
        figure, missing = reporting.neighbour_gallery(record, frame)
        for path in plots.save_figure(figure, plot):
            click.echo(str(path), err=True)
        _tell_missing(missing, frame["query_id"].nunique() * (k + 1))


@cli.command()
@_query_options
@_output_options
@_SCORE
@_UP_TO
@click.option("-k", "ks", type=click.IntRange(min=1), multiple=True, help="For precision at k.")
@click.option("--each", is_flag=True, help="One row per run instead of means over runs.")
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg.")
def noise(
    kind: str,
    output: Path | None,
    score: str,
    up_to_step: int | None,
    ks: tuple[int, ...],
    each: bool,
    plot: Path | None,
    **query: Any,
) -> None:
    """Measure how well every score finds wrong labels; --plot draws --score of noisy and clean."""
    records = _open(query)
    detected = analysis.noise_detection(records, ks=ks or None, up_to_step=up_to_step)
    summary = analysis.noise_summary(detected)
    _write(_for_terminal(detected, kind) if each else summary, kind, output)
    click.echo(reporting.describe_noise(summary), err=True)
    _plot(plot, lambda: plots.noise_distributions(analysis.noise_scores(records), score=score))


@cli.command()
@_query_options
@_output_options
@click.option("--plot", type=click.Path(path_type=Path), help="Also draw to STEM.png and .svg.")
def accuracy(kind: str, output: Path | None, plot: Path | None, **query: Any) -> None:
    """Print accuracy among samples above thresholds on action, entropy and loss variance."""
    frame = analysis.accuracy_by_threshold(_open(query))
    _write(_for_terminal(frame, kind), kind, output)
    _plot(plot, lambda: plots.accuracy_curves(frame))


@cli.command()
@_query_options
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder."
)
def export(output: Path, **query: Any) -> None:
    """Write every table of the runs as Parquet and CSV into a folder."""
    records = _open(query)
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
@_query_options
@_MISMATCH
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("report"),
    show_default=True,
    help="Folder.",
)
def report(output: Path, on_mismatch: str, **query: Any) -> None:
    """Write a report of one run, or of a comparison of several, into a folder."""
    records = _open(query)
    if len(records) == 1:
        made = reporting.run_report(records[0])
    else:
        comparison = analysis.compare_runs(records, on_mismatch=on_mismatch)
        made = reporting.comparison_report(records, comparison)
    for path in made.save(output).values():
        click.echo(str(path))


@cli.command("sync")
@click.argument(
    "folder", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
def sync_command(folder: Path | None) -> None:
    """Upload records that a crash or an unreachable server left in the local spool."""
    synced = sync(folder or spool_root())
    for name in synced:
        click.echo(f"uploaded {name}")
    if not synced:
        click.echo(f"nothing to upload in {folder or spool_root()}", err=True)


@cli.command()
@_query_options
@_output_options
def doctor(kind: str, output: Path | None, **query: Any) -> None:
    """Check versions, the tracking server, and that every record is whole and its ids are sound."""
    rows = [*_versions(), ("spool", *_spool_state())]
    store: Store | None = None
    try:
        store = Store(query["tracking_uri"])
        store.ping()
        rows.append(("tracking server", "ok", store.tracking_uri))
    except ActionTrackError as error:
        rows.append(("tracking server", "failed", str(error)))
        store = None
    if store is not None:
        rows += [_check_record(each) for each in _records_or_none(query, rows)]
    _write(pd.DataFrame(rows, columns=["what", "state", "detail"]), kind, output)
    failed = [what for what, state, _ in rows if state == "failed"]
    if failed:
        raise StoreError(f"{len(failed)} checks failed: {', '.join(failed)}.")


@cli.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    For bash: eval "$(actiontrack completion bash)" in ~/.bashrc.
    """
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - the choice is limited to what click knows
    click.echo(kind(cli, {}, "actiontrack", "_ACTIONTRACK_COMPLETE").source())


def _open(query: dict[str, Any]) -> list[StoredRecord]:
    store = Store(query.pop("tracking_uri"))
    return analysis.load_records(RunQuery(**query), store=store)


def _one_record(query: dict[str, Any]) -> StoredRecord:
    records = _open(query)
    if len(records) > 1:
        raise ParameterError(
            "--run", "must choose one run", f"{len(records)} runs", "Name one with --run ID."
        )
    return records[0]


def _extreme_rows(
    record: StoredRecord, n: int, *, score: str, easiest: bool, class_name: str | None
) -> pd.DataFrame:
    frame = analysis.score_frame([record])
    if class_name is not None:
        known = sorted(str(each) for each in frame["class"].unique())
        if class_name not in known:
            raise ParameterError(
                "--class", f"must be one of {', '.join(known)}", class_name, "Choose one of these."
            )
        frame = frame.loc[frame["class"] == class_name]
    choose = analysis.easiest if easiest else analysis.hardest
    return choose(frame, n, by=score)


def _for_terminal(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Without the columns that only repeat themselves, where a person reads the table."""
    if kind != "table":
        return frame
    hidden = ["run_id", "record", "label", "complete", "true_label"]
    return frame.drop(columns=[each for each in hidden if each in frame.columns])


def _write(frame: pd.DataFrame, kind: str, output: Path | None) -> None:
    if kind == "parquet":
        if output is None and sys.stdout.isatty():
            raise ParameterError(
                "--format", "must go to a file or a pipe as parquet", kind, "Pass --output FILE."
            )
        buffer = io.BytesIO()
        frame.to_parquet(buffer, index=False)
        content = buffer.getvalue()
    else:
        content = _text(frame, kind).encode()
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    try:
        output.write_bytes(content)
    except OSError as error:
        raise StoreError(
            f"cannot write {output}: {error.strerror}. Choose a file that can be written."
        ) from error
    click.echo(str(output))


def _text(frame: pd.DataFrame, kind: str) -> str:
    if kind == "csv":
        return frame.to_csv(index=False)
    if kind == "json":
        return str(frame.to_json(orient="records", force_ascii=False, double_precision=15)) + "\n"
    return frame.to_string(index=False, float_format=lambda value: f"{value:.4g}") + "\n"


def _tell_missing(missing: int, total: int) -> None:
    if missing:
        click.echo(
            f"{missing} of {total} images are neither stored with the run nor at the dataset's "
            "folder on this machine.",
            err=True,
        )


def _plot(stem: Path | None, draw: Callable[[], Any]) -> None:
    if stem is not None:
        for path in plots.save_figure(draw().figure, stem):
            click.echo(str(path), err=True)


def _versions() -> list[tuple[str, str, str]]:
    rows = [
        ("actiontrack", "ok", actiontrack.__version__),
        ("python", "ok", sys.version.split()[0]),
    ]
    for package in ("mlflow", "numpy", "pandas", "pyarrow", "scipy", "seaborn", "torch"):
        try:
            rows.append((package, "ok", importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            optional = package == "torch"
            rows.append(
                (package, "ok" if optional else "failed", "not installed (needed for training)")
            )
    return rows


def _spool_state() -> tuple[str, str]:
    waiting = sorted(spool_root().glob("*/*/manifest.json"))
    if not waiting:
        return "ok", f"nothing waits in {spool_root()}"
    return "waiting", f"{len(waiting)} records in {spool_root()}: upload with 'actiontrack sync'"


def _records_or_none(query: dict[str, Any], rows: list[tuple[str, str, str]]) -> list[StoredRecord]:
    try:
        return _open(dict(query))
    except ActionTrackError as error:
        state = "failed" if isinstance(error, CorruptRecordError) else "ok"
        rows.append(("records", state, str(error)))
        return []


def _check_record(record: StoredRecord) -> tuple[str, str, str]:
    what = f"{record.run.run_id[:8]} {record.name}"
    try:
        history = record.history()
    except ActionTrackError as error:
        return what, "failed", str(error)
    state = "complete" if record.manifest.complete else f"unfinished, run {record.run.status}"
    detail = f"{history.n_samples} samples × {history.n_steps} steps, {state}"
    if history.n_nonfinite:
        detail += f", {history.n_nonfinite} losses not finite"
    missing = int((~history.seen).sum())
    if missing:
        detail += f", {missing} missing"
    return what, "ok", detail


if __name__ == "__main__":
    main()
