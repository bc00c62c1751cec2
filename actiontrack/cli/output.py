"""How tables, figures and notes leave a command."""

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiontrack.errors import ParameterError, writing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["for_terminal", "save_plot", "tell_missing", "write"]


def for_terminal(frame: "pd.DataFrame", kind: str) -> "pd.DataFrame":
    """The table without columns that only repeat one value, if a person reads it."""
    if kind != "table":
        return frame
    hidden = ["run_id", "record", "label", "complete", "true_label"]
    return frame.drop(columns=[name for name in hidden if name in frame.columns])


def write(frame: "pd.DataFrame", kind: str, output: Path | None) -> None:
    """Write a table to a file, or to stdout without one; `kind` is one of `FORMATS`."""
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
    with writing(output, "file"):
        output.write_bytes(content)
    click.echo(str(output))


def tell_missing(missing: int, total: int) -> None:
    """Say how many images of a figure could not be found."""
    if missing:
        click.echo(
            f"{missing} of {total} images are neither stored with the run nor at the dataset's "
            "folder on this machine.",
            err=True,
        )


def save_plot(stem: Path, figure: Any, *, err: bool = True) -> None:
    """Write a figure to STEM.png and STEM.svg, and name the files on stderr, or on stdout."""
    from actiontrack import plots

    for path in plots.save_figure(figure, stem):
        click.echo(str(path), err=err)


def _text(frame: "pd.DataFrame", kind: str) -> str:
    if kind == "csv":
        from actiontrack.record.escaping import to_csv

        return to_csv(frame)
    if kind == "json":
        return str(frame.to_json(orient="records", force_ascii=False, double_precision=15)) + "\n"
    if not len(frame):
        return "no rows\n"
    return frame.to_string(index=False, float_format=lambda value: f"{value:.4g}") + "\n"
