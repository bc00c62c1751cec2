"""Figures of one score: histograms, distributions by class, changes."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from numpy.typing import NDArray

from actiontrack.errors import ParameterError
from actiontrack.plots.canvas import (
    axes_or_new,
    class_names,
    finite_rows,
    first_colour,
    legend_outside,
    no_samples,
    palette,
    require_columns,
    row_height,
    score_label,
    wrap_label,
    write_note,
)

__all__ = [
    "class_changes",
    "class_distributions",
    "score_histogram",
]


def score_histogram(
    scores: pd.DataFrame,
    *,
    score: str = "action",
    hue: str | None = None,
    stat: Literal["count", "density"] = "count",
    bins: int = 60,
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how a score is distributed, one outline per run, model or group (paper Fig. 12).

    Args:
        scores: Score frame with the columns ``score`` and ``hue``.
        score: Column to draw, in ``unit``.
        hue: Column that separates the outlines, for instance "run_name" or "model".
        stat: "count", or "density" to compare groups of different size (each has area 1).
        bins: Number of bins, shared by all outlines.
        unit: Unit of the score, for the axis label. Default: see `canvas.score_label`.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(scores, "scores", score, *([hue] if hue else []))
    axes = axes_or_new(ax, width=6.4, height=4.0)
    finite = finite_rows(scores, score, axes)
    if finite.empty:
        return no_samples(axes)
    data = pd.DataFrame({"x": finite[score].to_numpy(np.float64)})
    names = None if hue is None else class_names(finite[hue])
    grouped: dict[str, Any] = (
        {} if names is None else {"hue": names.to_numpy(), "palette": palette(names)}
    )
    sns.histplot(
        data, x="x", ax=axes, bins=bins, stat=stat, element="step", common_norm=False,
        alpha=0.12, linewidth=1.5, color=first_colour(), **grouped,
    )  # fmt: skip
    axes.set_xlabel(score_label(scores, score, unit))
    axes.set_ylabel("samples" if stat == "count" else "density")
    return legend_outside(axes, hue)


def class_distributions(
    scores: pd.DataFrame,
    *,
    score: str = "action",
    kind: Literal["box", "violin"] = "box",
    max_classes: int = 40,
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a score's distribution in each class, the hardest class on top (paper Fig. 6a).

    Boxes span the quartiles, whiskers the 5th to the 95th percentile.

    Args:
        scores: Score frame with the columns ``score`` and ``class``.
        score: Column to draw, in ``unit``.
        kind: "box" or "violin".
        max_classes: Draw only this many classes, those with the highest median.
        unit: Unit of the score, for the axis label. Default: see `canvas.score_label`.
        ax: Where to draw; None makes a figure whose height follows the number of classes.

    Returns:
        The Axes; classes are ordered by median, highest first.

    Raises:
        ParameterError: A column is missing or ``kind`` is unknown.
    """
    require_columns(scores, "scores", score, "class")
    if kind not in ("box", "violin"):
        raise ParameterError("kind", "must be 'box' or 'violin'", kind, "Choose one of them.")
    usable = scores[np.isfinite(scores[score].to_numpy(np.float64))]
    medians = usable.groupby(usable["class"].astype(str), sort=False)[score].median()
    order = list(medians.sort_values(ascending=False, kind="stable").index)
    hardest = order[:max_classes]
    axes = axes_or_new(ax, width=6.4, height=1.2 + row_height(hardest, 0.34) * max(len(hardest), 4))
    finite_rows(scores, score, axes)
    if not hardest:
        return no_samples(axes)
    groups = [
        usable.loc[usable["class"].astype(str) == name, score].to_numpy(float) for name in hardest
    ]
    _boxes(axes, groups) if kind == "box" else _violins(axes, groups)
    axes.set_yticks(range(len(hardest)), [wrap_label(name) for name in hardest])
    axes.set_ylim(len(hardest) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(score_label(scores, score, unit))
    if len(hardest) < len(order):
        write_note(axes, f"the {len(hardest)} hardest of {len(order)} classes")
    return axes


def class_changes(changes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how much each class changed between two sets of runs.

    Args:
        changes: As `actiontrack.analysis.changes.Changes.classes` is: ``class``, ``before``,
            ``relative``, ``ci_low`` and ``ci_high``.
        ax: Where to draw; None makes a figure whose height follows the number of classes.

    Returns:
        The Axes: a row per class in the order given, its relative change in percent with the
        interval where there is one, and a line at no change.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(changes, "changes", "class", "before", "relative", "ci_low", "ci_high")
    axes = axes_or_new(ax, width=6.8, height=1.1 + 0.3 * max(len(changes), 2))
    if changes.empty:
        return no_samples(axes)
    relative = 100 * changes["relative"].to_numpy(np.float64)
    scale = 100 / changes["before"].abs().to_numpy(np.float64)
    ends = [changes[name].to_numpy(np.float64) * scale for name in ("ci_low", "ci_high")]
    widths = np.nan_to_num(np.abs(np.vstack([relative - ends[0], ends[1] - relative])))
    places = np.arange(len(changes))
    axes.errorbar(
        relative, places, xerr=widths, fmt="o", color=first_colour(), markersize=5, capsize=3
    )
    axes.axvline(0.0, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yticks(places, [wrap_label(name) for name in changes["class"]])
    axes.set_ylim(len(changes) - 0.4, -0.6)
    axes.set_xlabel("change, % of the mean before (dashed: none)")
    return axes


def _boxes(axes: Axes, groups: Sequence[NDArray[np.float64]]) -> None:
    colour, edge = first_colour(), "0.2"
    for row, values in enumerate(groups):
        low, first, middle, third, high = np.quantile(values, [0.05, 0.25, 0.5, 0.75, 0.95])
        outside = values[(values < low) | (values > high)]
        axes.barh(row, third - first, left=first, height=0.6, color=(*colour, 0.55), edgecolor=edge)
        axes.hlines([row, row], [low, third], [first, high], color=edge, linewidth=1)
        axes.vlines(middle, row - 0.3, row + 0.3, color=edge, linewidth=2)
        axes.plot(
            outside, np.full(outside.size, row), "|", color=colour, alpha=0.4, rasterized=True
        )


def _violins(axes: Axes, groups: Sequence[NDArray[np.float64]]) -> None:
    data = pd.DataFrame(
        {
            "x": np.concatenate(groups),
            "y": np.repeat(np.arange(len(groups)), [g.size for g in groups]),
        }
    )
    sns.violinplot(
        data, x="x", y="y", orient="h", cut=0, inner="quart", density_norm="width",
        color=sns.light_palette(first_colour(), 5)[2], saturation=1, linewidth=1, ax=axes,
    )  # fmt: skip
    axes.set_ylabel("")
