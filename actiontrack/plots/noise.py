"""Figures of label noise: distributions and detection."""

import itertools
from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from actiontrack.plots.canvas import (
    MOST_ANNOTATED_CELLS,
    OUTSIDE,
    WRAP_WIDTH,
    axes_or_new,
    finite_rows,
    longest_label,
    no_samples,
    palette,
    panel_grid,
    require_columns,
    score_label,
    wrap_label,
)

__all__ = [
    "detection_scores",
    "noise_distributions",
    "noise_pairs",
    "noise_panels",
]

_PANEL_BINS = 40


def noise_distributions(
    frame: pd.DataFrame,
    *,
    score: str = "action",
    bins: int = 60,
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw how a score is distributed over noisy and clean samples (paper Fig. 12).

    Args:
        frame: As `actiontrack.analysis.noise_scores` returns it: ``run_id``, the column
            ``score`` and ``group``, "noisy", "clean" or the name of another split.
        score: Column to draw, in ``unit``.
        bins: Number of bins, shared by all groups and runs.
        unit: Unit of the score, for the axis label. Default: see `canvas.score_label`.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes: for each group one outline of area 1, the mean of the densities of its runs, in
        a band from the lowest to the highest of them where there are several.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(frame, "frame", "run_id", score, "group")
    axes = axes_or_new(ax, width=6.4, height=3.6)
    finite = finite_rows(frame, score, axes)
    if finite.empty:
        return no_samples(axes)
    edges = np.histogram_bin_edges(finite[score].to_numpy(np.float64), bins)
    first = {"clean": 0, "noisy": 1}
    order = sorted(set(finite["group"]), key=lambda name: (first.get(name, 2), name))
    colours = palette(pd.Series(order))
    for name in order:
        group = finite[finite["group"] == name]
        runs = [part[score].to_numpy(np.float64) for _, part in group.groupby("run_id")]
        drawn = np.stack([np.histogram(values, edges, density=True)[0] for values in runs])
        low, mean, high = drawn.min(axis=0), drawn.mean(axis=0), drawn.max(axis=0)
        axes.stairs(
            mean, edges, color=colours[name], linewidth=1.6,
            linestyle="-" if name in first else "--",
            label=_group_label(name, [values.size for values in runs]),
        )  # fmt: skip
        axes.stairs(high, edges, baseline=low, fill=True, color=colours[name], alpha=0.25)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)
    axes.set(xlabel=score_label(frame, score, unit), ylabel="density")
    axes.legend(frameon=False, fontsize=9)
    return axes


def detection_scores(summary: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how well each score finds wrong labels, a marker per model.

    Args:
        summary: As `actiontrack.analysis.noise_summary` returns it: ``model``, ``score``,
            ``auroc_mean``, ``auroc_std``.
        ax: Where to draw; None makes a figure whose height follows the number of scores.

    Returns:
        The Axes: a row per score, that with the best mean over the models on top, a bar of one
        standard deviation to either side where there is one (it ends at 0 and 1, which no AUROC
        leaves), and a line at chance.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(summary, "summary", "model", "score", "auroc_mean", "auroc_std")
    rows = summary.dropna(subset="auroc_mean").drop_duplicates(["model", "score"])
    best = rows.groupby("score", sort=False)["auroc_mean"].mean()
    order = list(best.sort_values(ascending=False, kind="stable").index)
    axes = axes_or_new(ax, width=7.8, height=1.2 + 0.28 * max(len(order), 4))
    if rows.empty:
        return no_samples(axes)
    models = list(dict.fromkeys(rows["model"]))
    colours = palette(pd.Series(models))
    shift = np.linspace(-0.15, 0.15, len(models)) if len(models) > 1 else [0.0]
    for model, offset, marker in zip(models, shift, itertools.cycle("osD^vP"), strict=False):
        part = rows[rows["model"] == model]
        heights = [order.index(score) + offset for score in part["score"]]
        means, widths = part["auroc_mean"].to_numpy(), part["auroc_std"].fillna(0.0).to_numpy()
        axes.errorbar(
            means, heights, xerr=[widths.clip(max=means), widths.clip(max=1 - means)], fmt=marker,
            color=colours[model], markersize=5, capsize=2, label=wrap_label(model),
        )  # fmt: skip
    axes.axvline(0.5, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(order)), [wrap_label(name, 2 * WRAP_WIDTH) for name in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlabel("AUROC of wrong labels (dashed: chance)")
    axes.legend(title="model", **OUTSIDE)
    return axes


def noise_panels(frame: pd.DataFrame, *, score: str = "action", unit: str | None = None) -> Figure:
    """Draw `noise_distributions` of each model, one below the other (paper Fig. 12).

    Args:
        frame: As `noise_distributions` takes it, with the column ``model``.
        score: Column to draw, in ``unit``.
        unit: Unit of the score, for the axis labels. Default: see `canvas.score_label`.

    Returns:
        A figure with one panel per model, in order of appearance, each with its own scales.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(frame, "frame", "model", "run_id", score, "group")
    models = list(dict.fromkeys(frame["model"])) or [""]
    panels = panel_grid(len(models), width=6.8, height=3.0)
    for axes, model in zip(panels, models, strict=True):
        noise_distributions(
            frame[frame["model"] == model], score=score, bins=_PANEL_BINS, unit=unit, ax=axes
        )
        above = axes.get_title(loc="left")
        title = wrap_label(model)
        axes.set_title(f"{title}\n{above}" if above else title, loc="left", fontsize=10)
    figure = panels[0].figure
    assert isinstance(figure, Figure)  # noqa: S101 - made above
    return figure


def noise_pairs(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw the share of wrong labels that a score finds, by true and given class.

    Args:
        frame: As `actiontrack.analysis.noise_pairs` returns it for one model:
            ``true_class``, ``given_class``, ``n_wrong``, ``n_found``, ``share``.
        ax: Where to draw; None makes a figure whose size follows the number of classes.

    Returns:
        The Axes: a row per true class, a column per given class. With up to 15 classes each cell
        holds "found/wrong"; a pair without a wrong label is grey.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(frame, "frame", "true_class", "given_class", "n_wrong", "n_found", "share")
    names = _class_order(frame)
    small = len(names) <= MOST_ANNOTATED_CELLS
    side = 1.6 + (0.62 if small else 0.25) * max(len(names), 4)
    axes = axes_or_new(ax, width=side + 1.2, height=0.75 * side + 0.5)
    if frame.empty:
        return no_samples(axes)
    position_of = {name: position for position, name in enumerate(names)}
    positions = frame["true_class"].map(position_of), frame["given_class"].map(position_of)
    share = np.full((len(names), len(names)), np.nan)
    share[positions] = frame["share"]
    cells = np.full(share.shape, "", dtype=object)
    cells[positions] = frame["n_found"].astype(str) + "/" + frame["n_wrong"].astype(str)
    labels = [wrap_label(name) for name in names]
    sns.heatmap(
        share, ax=axes, mask=np.isnan(share), vmin=0.0, vmax=1.0, cmap="cividis",
        annot=cells if small else False, fmt="", annot_kws={"fontsize": 8},
        linewidths=1 if small else 0, cbar_kws={"label": "share found"},
        xticklabels=labels, yticklabels=labels,
    )  # fmt: skip
    axes.set_facecolor("0.85")
    axes.grid(visible=False)
    axes.tick_params(axis="x", rotation=90 if longest_label(names) > 5 else 0, length=0)
    axes.tick_params(axis="y", rotation=0, length=0)
    axes.set(xlabel="given class", ylabel="true class")
    return axes


def _class_order(frame: pd.DataFrame) -> list[str]:
    """Classes of pairs in the order of the frame's rows, those that are only given at the end."""
    return list(dict.fromkeys([*frame["true_class"], *frame["given_class"]]))


def _group_label(name: str, sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    size = str(high) if low == high else f"{low} to {high}"
    runs = f" in each of {len(sizes)} runs" if len(sizes) > 1 else ""
    return wrap_label(f"{name}, {size} samples{runs}", 2 * WRAP_WIDTH)
