"""How tables, figures and notes leave a command."""

import io
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from actiontrack.errors import ParameterError, writing

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["for_terminal", "save_plot", "tell_missing", "write"]

_FIRST = (
    *("run_id", "run_name", "model", "sample_id", "class", "predicted", "action"),
    *("final_loss", "p_wrong", "suggested_class"),
)
_OUTPUTS = ("predicted", "suggested_class")  # class indices


def for_terminal(
    frame: "pd.DataFrame", kind: str, whole: "pd.DataFrame | None" = None
) -> "pd.DataFrame":
    """The table without columns that only repeat one value, classes by name, if a person reads it.

    What a reader looks for comes first: a terminal may have no room for the rest.

    Args:
        frame: the table.
        kind: one of `FORMATS`.
        whole: the table that it is a part of, whose labels tell the names of classes.
    """
    if kind != "table":
        return frame
    frame = _with_class_names(frame, frame if whole is None else whole)
    first = [name for name in _FIRST if name in frame.columns]
    if "sample_id" in first:
        frame = frame[[*first, *(name for name in frame.columns if name not in first)]]
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
        if kind == "table" and output is None and sys.stdout.isatty():
            frame = _fitting(frame, shutil.get_terminal_size().columns)
        content = _text(frame, kind).encode()
    if output is None:
        sys.stdout.buffer.write(content)
        sys.stdout.flush()
        return
    with writing(output, "file"):
        output.write_bytes(content)
    click.echo(str(output))


def _with_class_names(frame: "pd.DataFrame", whole: "pd.DataFrame") -> "pd.DataFrame":
    """Class indices of outputs as names of classes, as far as labels tell them."""
    outputs = [name for name in _OUTPUTS if name in frame.columns]
    if not outputs or not {"label", "class"} <= set(frame.columns):
        return frame
    pairs = whole[["label", "class"]].drop_duplicates()
    if pairs["label"].duplicated().any():  # runs that name their classes differently
        return frame
    names = pairs.set_index("label")["class"].astype(str)
    return frame.assign(
        **{
            name: frame[name].map(names).fillna(frame[name].astype(str).replace("-1", "–"))
            for name in outputs
        }
    )


def _fitting(frame: "pd.DataFrame", width: int) -> "pd.DataFrame":
    """The first columns of a table, as many as a terminal has room for."""
    n = len(frame.columns)
    while n > 1 and len(_text(frame.iloc[:1, :n], "table").splitlines()[0]) > width:
        n -= 1
    while n > 1 and max(map(len, _text(frame.iloc[:, :n], "table").splitlines())) > width:
        n -= 1
    if n < len(frame.columns):
        left_out = ", ".join(map(str, frame.columns[n:]))
        click.echo(f"no room for {left_out}: --format csv has all.", err=True)
    return frame.iloc[:, :n]


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
