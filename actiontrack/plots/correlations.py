"""Figures that set two models or more side by side."""

from typing import Any, Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from actiontrack.compare import pair_labels, spearman_matrix
from actiontrack.errors import ParameterError
from actiontrack.plots.canvas import (
    FEW_POINTS,
    OUTSIDE,
    SYMBOLS,
    WRAP_WIDTH,
    axes_or_new,
    class_names,
    first_colour,
    legend_outside,
    longest_label,
    no_samples,
    note_dropped,
    opaque_legend,
    palette,
    require_columns,
    row_height,
    score_label,
    wrap_label,
    write_note,
)

__all__ = [
    "correlation_heatmap",
    "difficulty_ranks",
    "joint_distribution",
    "model_scatter",
    "quantile_curves",
    "stability_curves",
]

_CELLS = 36  # hexagons along the side of a joint distribution
_MANY = 10_000  # samples from which ranks are drawn as hexagons and not as points


def model_scatter(
    scores_wide: pd.DataFrame,
    *,
    score: str = "action",
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one model's scores against another's, one point per sample, with Spearman's ρ.

    Args:
        scores_wide: Two columns of scores, named as the axes shall be, one row per sample, and
            optionally the column ``class``, which colours the points.
        score: Which score they are.
        unit: Unit of both, for the axis labels. Default: see `canvas.score_label`.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes.

    Raises:
        ParameterError: There are not exactly two columns of scores.
    """
    columns = [column for column in scores_wide.columns if column != "class"]
    if len(columns) != 2:
        remedy = "Pivot the score frame to one column per run."
        raise ParameterError("scores_wide", "must have two columns of scores", columns, remedy)
    axes = axes_or_new(ax, width=5.4, height=4.6)
    values = scores_wide[columns].to_numpy(np.float64)
    keep = np.isfinite(values).all(axis=1)
    note_dropped(axes, int((~keep).sum()))
    if not keep.any():
        return no_samples(axes)
    data = pd.DataFrame(values[keep], columns=["x", "y"])
    classes = class_names(scores_wide.loc[keep, "class"]) if "class" in scores_wide else None
    hue: dict[str, Any] = {"color": first_colour()}
    if classes is not None:
        hue = {"hue": classes.to_numpy(), "palette": palette(classes)}
    sns.scatterplot(
        data, x="x", y="y", ax=axes, linewidth=0, rasterized=True,
        s=float(np.clip(30_000 / len(data), 6, 30)),
        alpha=float(np.clip(1_500 / len(data), 0.25, 0.8)), **hue,
    )  # fmt: skip
    rho = spearman_matrix(values[keep].T)[0, 1]
    write_note(axes, f"Spearman ρ = {rho:.3f}, {len(data)} samples")
    axes.set(
        xlabel=score_label(scores_wide, score, unit, name=wrap_label(columns[0])),
        ylabel=score_label(scores_wide, score, unit, name=wrap_label(columns[1])),
    )
    return legend_outside(axes, "class")


def joint_distribution(
    scores: pd.DataFrame, regions: pd.DataFrame | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw how action and entropy of an ensemble go together, with their margins (paper Fig. 6b).

    Args:
        scores: As `actiontrack.analysis.ensemble_scores` returns it: ``action`` and
            ``entropy``, normalised to [0, 1].
        regions: As `actiontrack.analysis.ensemble_regions` returns it: rows of ``scores``
            to mark, with their ``region``.
        ax: Where to draw; None makes a figure. The margins are drawn outside of it, above and on
            the right.

    Returns:
        The Axes: hexagons by number of samples, on a logarithmic scale, a mark for each sample
        of a region, and Spearman's ρ over all samples.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(scores, "scores", "action", "entropy")
    axes = axes_or_new(ax, width=6.8, height=5.6)
    values = scores[["entropy", "action"]].to_numpy(np.float64)
    keep = np.isfinite(values).all(axis=1)
    if not keep.any():
        return no_samples(axes)
    entropy, action = values[keep].T
    cells = _hexagons(axes, entropy, action)
    axes.set(xlabel="entropy of the ensemble, normalised", ylabel="mean action, normalised")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    above = _margins(axes, entropy, action)
    rho = spearman_matrix(np.vstack([action, entropy]))[0, 1]
    note_dropped(above, int((~keep).sum()))
    write_note(above, f"Spearman ρ = {rho:.3f}, {len(action)} samples")
    legend = {} if regions is None else _marked(axes, regions)
    figure = axes.get_figure(root=True)
    if figure is not None:
        bar_axes = axes.inset_axes((1.22, 0.0, 0.04, 0.5))
        figure.colorbar(cells, cax=bar_axes, label="samples in a cell")
    if legend:
        placement = OUTSIDE | {"bbox_to_anchor": (1.17, 1.0)}
        axes.legend(list(legend.values()), list(legend), title="region", **placement)
    return axes


def _hexagons(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> PolyCollection:
    """Cells by number of samples, on a logarithmic scale; x and y lie in [0, 1]."""
    cells = axes.hexbin(
        x, y, gridsize=_CELLS, extent=(0, 1, 0, 1), mincnt=1, bins="log", cmap="Greys",
        linewidths=0.1,
    )  # fmt: skip
    cells.set_clim(0.5, None)  # a single sample is grey, not white
    return cells


def _margins(axes: Axes, x: NDArray[np.float64], y: NDArray[np.float64]) -> Axes:
    """Histograms of both scores, above the axes and on the right; returns the upper axes."""
    above, beside = axes.inset_axes((0, 1.02, 1, 0.16)), axes.inset_axes((1.02, 0, 0.16, 1))
    edges = np.linspace(0, 1, _CELLS + 1)
    above.stairs(np.histogram(x, edges)[0], edges, fill=True, color="0.6")
    beside.stairs(
        np.histogram(y, edges)[0], edges, fill=True, color="0.6", orientation="horizontal"
    )
    above.set(xlim=axes.get_xlim(), xticks=[], yticks=[])
    beside.set(ylim=axes.get_ylim(), xticks=[], yticks=[])
    for margin in (above, beside):
        margin.set_axis_off()
    return above


def _marked(axes: Axes, regions: pd.DataFrame) -> dict[str, Line2D]:
    """A mark for each sample of a region, and what the legend says of it."""
    require_columns(regions, "regions", "action", "entropy", "region")
    legend: dict[str, Line2D] = {}
    colours = sns.color_palette("colorblind")
    style = {"o": colours[1], "^": colours[0], "s": colours[2]}
    for (name, part), (mark, colour) in zip(regions.groupby("region"), style.items(), strict=False):
        (points,) = axes.plot(
            part["entropy"], part["action"], mark, color=colour, markersize=5, alpha=0.6,
            markeredgewidth=0, rasterized=True,
        )  # fmt: skip
        label = ",\n".join(str(name).split(", "))
        legend[f"{label}\n{len(part)} samples"] = points
    return legend


def difficulty_ranks(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the ranks of samples by a score against those by an outside difficulty.

    Args:
        frame: As `actiontrack.analysis.difficulty_ranks` returns it: ``outside_rank`` and
            ``score_rank``, from 0 (easiest) to 1 (hardest); ``attrs`` says of what they are.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes: a point per sample, or hexagons by number of samples where there are many, the
        diagonal on which both agree, and Spearman's ρ of what is drawn.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(frame, "frame", "outside_rank", "score_rank")
    axes = axes_or_new(ax, width=5.6, height=4.8)
    if frame.empty:
        return no_samples(axes)
    outside, score = frame[["outside_rank", "score_rank"]].to_numpy(np.float64).T
    contrast = sns.color_palette("colorblind")[1]
    axes.plot([0, 1], [0, 1], color=contrast, linewidth=1, linestyle="--", zorder=3)
    if len(frame) < _MANY:
        size = float(np.clip(30_000 / len(frame), 6, 30))
        axes.scatter(
            outside, score, s=size, alpha=float(np.clip(1_500 / len(frame), 0.25, 0.8)),
            color=first_colour(), linewidth=0, rasterized=True,
        )  # fmt: skip
    else:
        axes.figure.colorbar(_hexagons(axes, outside, score), ax=axes, label="samples in a cell")
    rho = spearman_matrix(np.vstack([outside, score]))[0, 1]
    write_note(axes, f"Spearman ρ = {rho:.3f}, {len(frame)} samples")
    name = str(frame.attrs.get("score", "score")).replace("_", " ")
    n_runs = int(frame.attrs.get("n_runs", 1))
    over = f", mean of {n_runs} runs" if n_runs > 1 else ""
    measure = wrap_label(str(frame.attrs.get("outside", "outside difficulty")).replace("_", " "))
    axes.set(xlabel=f"rank by {measure}, 1 = hardest", ylabel=f"rank by {name}, 1 = hardest{over}")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    return axes


def correlation_heatmap(table: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the table of correlations, each cell with its value (paper Table 1).

    Args:
        table: As `actiontrack.compare.table1` lays it out: rows are pairs of models, the
            same-model rows ("a twice") last; columns are "overall" and the classes.
        ax: Where to draw; None makes a figure whose size follows the table.

    Returns:
        The Axes; a line separates cross-model rows from same-model rows, an undefined correlation
        is a grey cell with a dash.
    """
    width = 3.0 + row_height(table.columns, 0.62) * max(table.shape[1], 3)
    height = 0.8 + row_height(table.index, 0.42) * max(len(table), 2)
    axes = axes_or_new(
        ax, width=width, height=height + 0.1 * min(longest_label(table.columns), WRAP_WIDTH)
    )
    if table.empty:
        return no_samples(axes)
    values = table.to_numpy(np.float64)
    defined = np.isfinite(values)
    low = min(0.0, float(values[defined].min())) if defined.any() else 0.0
    sns.heatmap(
        values, ax=axes, mask=~defined, annot=True, fmt=".2f", annot_kws={"fontsize": 9},
        vmin=low, vmax=1.0, cmap="cividis", linewidths=1, cbar_kws={"label": "correlation"},
    )  # fmt: skip
    axes.set_facecolor("0.85")
    axes.grid(visible=False)
    for row, column in np.argwhere(~defined):
        axes.text(column + 0.5, row + 0.5, "–", ha="center", va="center", fontsize=9)
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, [wrap_label(name) for name in table.columns])
    axes.tick_params(axis="x", rotation=90 if longest_label(table.columns) > 5 else 0, length=0)
    axes.set_yticks(np.arange(len(table)) + 0.5, [wrap_label(name) for name in table.index])
    axes.tick_params(axis="y", rotation=0, length=0)
    cross = sum(not str(name).endswith(" twice") for name in table.index)
    if 0 < cross < len(table):
        axes.axhline(cross, color="white", linewidth=6)
    return axes


def quantile_curves(
    frame: pd.DataFrame,
    *,
    method: Literal["spearman", "pearson"] = "spearman",
    ax: Axes | None = None,
) -> Axes:
    """Draw the correlation among ever harder samples (paper Fig. 14).

    Args:
        frame: As `actiontrack.compare.correlation_by_quantile` returns it: ``method``,
            ``kind``, ``model_a``, ``model_b``, ``quantile``, ``mean``.
        method: Which correlation to draw.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes: solid lines for two models, dashed for two runs of one.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(frame, "frame", "method", "kind", "model_a", "model_b", "quantile", "mean")
    axes = axes_or_new(ax, width=6.8, height=4.0)
    defined = np.isfinite(frame["mean"].to_numpy(np.float64))
    chosen = frame[(frame["method"] == method) & defined].reset_index(drop=True)
    if chosen.empty:
        return no_samples(axes)
    names = class_names(pair_labels(chosen))
    colours = palette(names)
    for name, part in chosen.groupby(names, sort=False):
        same = part["kind"].iloc[0] == "same-model"
        curve = part.sort_values("quantile")
        axes.plot(
            curve["quantile"], curve["mean"], "o--" if same else "o-",
            color=colours[str(name)], markersize=4, label=str(name),
        )  # fmt: skip
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_xlabel("samples at or above this quantile of action")
    axes.set_ylabel(SYMBOLS[method])
    axes.legend()
    return legend_outside(axes, None)


def stability_curves(
    frame: pd.DataFrame,
    *,
    method: Literal["spearman", "pearson"] = "spearman",
    level: float = 0.95,
    step_name: str = "epoch",
    ax: Axes | None = None,
) -> Axes:
    """Draw how soon a score has settled: its correlation with the full score after each step.

    Args:
        frame: As `actiontrack.analysis.stability` returns it: ``run_id``, ``run_name``,
            ``model``, ``step``, ``method``, ``value``.
        method: Which correlation to draw.
        level: Where to draw a dashed line.
        step_name: What a step is, for the axis label.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes, with one line per run, coloured by model, or by run if there is one model only
        and at most 10 runs.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(frame, "frame", "run_id", "run_name", "model", "step", "method", "value")
    axes = axes_or_new(ax, width=6.8, height=4.0)
    chosen = frame[frame["method"] == method].reset_index(drop=True)
    if not np.isfinite(chosen["value"].to_numpy(np.float64)).any():
        return no_samples(axes)
    few = len(set(chosen["model"])) == 1 and len(set(chosen["run_id"])) <= FEW_POINTS
    column = "run_name" if few else "model"
    names = class_names(chosen[column])
    colours = palette(names)
    legend: dict[str, Line2D] = {}
    for _, part in chosen.groupby("run_id", sort=False):
        name = str(names.loc[part.index[0]])
        curve = part.sort_values("step", kind="stable")
        (line,) = axes.plot(
            curve["step"], curve["value"], "o-", color=colours[name], markersize=3, label="run"
        )
        legend.setdefault(name, line)
    axes.axhline(level, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_xlabel(step_name)
    axes.set_ylabel(f"{SYMBOLS[method]} with the full score")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    opaque_legend(axes, legend, column)
    return axes
