"""What all figures share: axes, colours, names, notes, and saving."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from PIL import Image

from actiontrack.errors import ParameterError, writing
from actiontrack.scores import score_unit

__all__ = [
    "FEW_POINTS",
    "MOST_ANNOTATED_CELLS",
    "OUTSIDE",
    "SYMBOLS",
    "WRAP_WIDTH",
    "Colour",
    "Picture",
    "axes_or_new",
    "centred_text",
    "class_names",
    "finite_rows",
    "first_colour",
    "legend_outside",
    "longest_label",
    "no_samples",
    "note_dropped",
    "opaque_legend",
    "palette",
    "panel_grid",
    "require_columns",
    "row_height",
    "save_figure",
    "score_label",
    "wrap_label",
    "write_note",
]

Colour = tuple[float, float, float]
Picture = Image.Image | NDArray[Any] | None
SYMBOLS = {"spearman": "Spearman's ρ", "pearson": "Pearson's r"}
WRAP_WIDTH = 28  # characters in a line of a class or run name
MOST_ANNOTATED_CELLS = 15  # classes up to which the cells of a matrix hold numbers
FEW_POINTS = 10  # hues that the colour-blind palette can tell apart
OUTSIDE: dict[str, Any] = {
    "loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False, "fontsize": 9,
}  # fmt: skip
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def save_figure(fig: Figure, stem: Path, formats: Sequence[str] = ("png", "svg")) -> list[Path]:
    """Write a figure as ``<stem>.<format>``; the same figure gives the same bytes. Closes it.

    Args:
        fig: The figure, for instance ``ax.figure``.
        stem: Path without the suffix; its folder is made if it is missing.
        formats: Any of "png" (150 dots an inch), "svg" and "pdf".

    Returns:
        The paths, in the order of ``formats``.

    Raises:
        ParameterError: A format is unknown.
        StoreError: The folder can't be written.
    """
    unknown = [name for name in formats if name not in _METADATA]
    if unknown:
        rule = f"must come from {list(_METADATA)}"
        raise ParameterError("formats", rule, unknown, "Convert a PNG to any other format.")
    with writing(stem):
        stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.parent / f"{stem.name}.{name}" for name in formats]
    fig.draw_without_rendering()
    fig.set_layout_engine("none")  # laid out once: a second pass would move things by a rounding
    with mpl.rc_context({"svg.hashsalt": "actiontrack"}), writing(stem):
        for path, name in zip(paths, formats, strict=True):
            fig.savefig(
                path, format=name, dpi=150, bbox_inches="tight", pad_inches=0.1,
                metadata=_METADATA[name],
            )  # fmt: skip
    plt.close(fig)
    return paths


def require_columns(frame: pd.DataFrame, argument: str, *columns: str) -> None:
    """Refuse a frame that lacks columns."""
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        rule = f"must have the column {', '.join(map(repr, missing))}"
        remedy = "Add it, or name another column."
        raise ParameterError(argument, rule, list(frame.columns), remedy)


def axes_or_new(ax: Axes | None, *, width: float, height: float) -> Axes:
    """The axes, or those of a new figure of that size in inches."""
    return panel_grid(1, width=width, height=height)[0] if ax is None else ax


def panel_grid(count: int, *, width: float, height: float) -> list[Axes]:
    """A figure with axes one below the other; width and height in inches are those of each."""
    with mpl.rc_context(
        sns.axes_style("whitegrid", {"axes.edgecolor": "0.6", "grid.color": "0.9"})
    ):
        figure = Figure(figsize=(width, height * count), layout="constrained")
        panels: list[Axes] = list(figure.subplots(count, squeeze=False)[:, 0])
    for axes in panels:
        sns.despine(ax=axes)
    return panels


def no_samples(axes: Axes) -> Axes:
    """Empty axes that say so."""
    centred_text(axes, "no samples")
    axes.set(xticks=[], yticks=[])
    sns.despine(ax=axes, left=True, bottom=True)
    return axes


def centred_text(axes: Axes, text: str) -> None:
    """Write a text into the middle of the axes."""
    position: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, text, fontsize=9, color="0.3", **position)


def finite_rows(scores: pd.DataFrame, score: str, axes: Axes) -> pd.DataFrame:
    """The rows with a finite score; the others are counted on the figure."""
    is_finite = np.isfinite(scores[score].to_numpy(np.float64))
    note_dropped(axes, int((~is_finite).sum()))
    finite: pd.DataFrame = scores[is_finite]
    return finite


def note_dropped(axes: Axes, count: int, *, noun: str = "sample", plural: str = "") -> None:
    """Say above the axes how many values were not finite."""
    if count:
        counted = noun if count == 1 else plural or f"{noun}s"
        write_note(axes, f"{count} {counted} not finite, not drawn")


def write_note(axes: Axes, text: str) -> None:
    """Add a line above the axes, on the left."""
    above = axes.get_title(loc="left")
    axes.set_title(f"{above}\n{text}" if above else text, loc="left", fontsize=9, color="0.3")


def first_colour() -> Colour:
    """The colour of a figure that needs only one."""
    first: Colour = sns.color_palette("colorblind")[0]
    return first


def palette(names: pd.Series) -> dict[str, Colour]:
    """A colour for each distinct name, in order of first appearance."""
    distinct = list(dict.fromkeys(names))
    kind = "colorblind" if len(distinct) <= FEW_POINTS else "husl"
    return dict(zip(distinct, sns.color_palette(kind, len(distinct)), strict=True))


def class_names(column: pd.Series) -> pd.Series:
    """Names of a column as wrapped labels."""
    return column.astype(str).map(wrap_label)


def wrap_label(text: object, width: int = WRAP_WIDTH) -> str:
    """Break long names, and keep a dollar sign from starting a formula."""
    lines = [textwrap.fill(line, width) for line in str(text).split("\n")]
    return "\n".join(lines).replace("$", r"\$")


def longest_label(names: Sequence[object] | pd.Index) -> int:
    """Characters of the longest label; 0 without labels."""
    return max((len(str(name)) for name in names), default=0)


def row_height(names: Sequence[object] | pd.Index, single: float) -> float:
    """Inches that the tallest of these names needs, at least ``single``."""
    return max([single, *(0.2 * (wrap_label(name).count("\n") + 1) for name in names)])


def score_label(
    frame: pd.DataFrame | None, score: str, unit: str | None = None, *, name: str = ""
) -> str:
    """Axis label of a score: its name, and its unit where the name does not say it already.

    Args:
        frame: What is drawn. The frames of `actiontrack.analysis` say in
            ``attrs["delta_kind"]`` what Δn counts, and some in ``attrs["loss"]`` what the loss is
            called; without that the unit of an action is "loss × Δn".
        score: Column of the score.
        unit: Unit to write; "" for none. Default: that of `actiontrack.scores.score_unit`.
        name: What to call it. Default: the column, with spaces.
    """
    name = name or score.replace("_", " ")
    if unit is None:
        facts = {} if frame is None else frame.attrs
        kind, loss = facts.get("delta_kind"), facts.get("loss", "loss")
        unit = score_unit(score, kind, loss=loss)
        unit = "" if name.endswith(unit) else unit
    return _with_unit(name, unit)


def _with_unit(name: str, unit: str) -> str:
    """A name with its unit in brackets."""
    return f"{name} ({unit})" if unit else name


def legend_outside(axes: Axes, title: str | None) -> Axes:
    """Put the legend, if there is one, right of the axes, where it hides no data."""
    if axes.get_legend() is not None:
        title = title.replace("_", " ") if title else None
        placement = dict(OUTSIDE)
        sns.move_legend(axes, placement.pop("loc"), title=title, **placement)
    return axes


def opaque_legend(axes: Axes, lines: dict[str, Line2D], title: str | None) -> None:
    """A legend whose lines are opaque, whatever the lines of the axes are."""
    title = title.replace("_", " ") if title else None
    legend = axes.legend(list(lines.values()), ["name"] * len(lines), title=title, **OUTSIDE)
    for line, text, name in zip(legend.get_lines(), legend.get_texts(), lines, strict=True):
        line.set_alpha(1.0)
        text.set_text(name)  # set late: Matplotlib leaves out names that start with "_"
