"""Figures of scores: a tidy frame and an Axes in, the Axes out; one function per kind of figure.

With ``ax=None`` a function makes its own figure, which is not registered with pyplot: nothing is
shown, nothing leaks, and ``save_figure(ax.figure, ...)`` writes it. Colours come from a palette
that colour-blind readers can tell apart. A frame without rows draws the words "no samples";
scores that are not finite can't be drawn and are counted on the figure.

A *score frame* has one row per run and sample: ``run_id``, ``run_name``, ``model``, ``sample_id``,
``label``, ``class``, ``action`` and any other score, named by the argument ``score``.
"""

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

from actiontrack.compare import mean_interval, pair_labels, spearman_matrix
from actiontrack.errors import ParameterError
from actiontrack.writing import writing

__all__ = [
    "accuracy_curves",
    "class_changes",
    "class_distributions",
    "correlation_heatmap",
    "curve_clusters",
    "detection_scores",
    "feature_scatter",
    "gallery",
    "joint_distribution",
    "learning_curves",
    "loss_curves",
    "mean_score_curves",
    "model_scatter",
    "noise_distributions",
    "noise_pairs",
    "noise_panels",
    "pixel_classes",
    "pixel_maps",
    "quantile_curves",
    "save_figure",
    "score_histogram",
    "stability_curves",
]

Colour = tuple[float, float, float]
Picture = Image.Image | NDArray[Any] | None

_UNIT = "loss × epochs"
_SYMBOL = {"spearman": "Spearman's ρ", "pearson": "Pearson's r"}
_WRAP = 28  # characters in a line of a class or run name
_ANNOTATED = 15  # classes up to which the cells of a matrix hold numbers
_PANEL_BINS = 40
_FEW = 10  # hues that the colour-blind palette can tell apart
_CELLS = 36  # hexagons along the side of a joint distribution
_SMALL = 256  # pixels: an image below this is enlarged without smoothing
_BOXED = 2.9  # inches that an image with boxes and their names needs
_OUTSIDE: dict[str, Any] = {
    "loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False, "fontsize": 9,
}  # fmt: skip
_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


# ---------------------------------------------------------------- scores


def score_histogram(
    scores: pd.DataFrame,
    *,
    score: str = "action",
    hue: str | None = None,
    stat: Literal["count", "density"] = "count",
    bins: int = 60,
    unit: str = _UNIT,
    ax: Axes | None = None,
) -> Axes:
    """Draw how a score is distributed, one outline per run, model or group (paper Fig. 12).

    Args:
        scores: Score frame with the columns ``score`` and ``hue``.
        score: Column to draw, in ``unit``.
        hue: Column that separates the outlines, for instance "run_name" or "model".
        stat: "count", or "density" to compare groups of different size (each has area 1).
        bins: Number of bins, shared by all outlines.
        unit: Unit of the score, for the axis label; "" for none.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes.

    Raises:
        ParameterError: A column is missing.
    """
    _require(scores, "scores", score, *([hue] if hue else []))
    axes = _axes(ax, width=6.4, height=4.0)
    finite = _finite(scores, score, axes)
    if finite.empty:
        return _no_samples(axes)
    data = pd.DataFrame({"x": finite[score].to_numpy(np.float64)})
    names = None if hue is None else _names(finite[hue])
    grouped: dict[str, Any] = (
        {} if names is None else {"hue": names.to_numpy(), "palette": _palette(names)}
    )
    sns.histplot(
        data, x="x", ax=axes, bins=bins, stat=stat, element="step", common_norm=False,
        alpha=0.12, linewidth=1.5, color=_colour(), **grouped,
    )  # fmt: skip
    axes.set_xlabel(_with_unit(score, unit))
    axes.set_ylabel("samples" if stat == "count" else "density")
    return _legend_outside(axes, hue)


def noise_distributions(
    frame: pd.DataFrame,
    *,
    score: str = "action",
    bins: int = 60,
    unit: str = _UNIT,
    ax: Axes | None = None,
) -> Axes:
    """Draw how a score is distributed over noisy and clean samples (paper Fig. 12).

    Args:
        frame: As `actiontrack.analysis.noise_scores` returns it: ``run_id``, the column
            ``score`` and ``group``, "noisy", "clean" or the name of another split.
        score: Column to draw, in ``unit``.
        bins: Number of bins, shared by all groups and runs.
        unit: Unit of the score, for the axis label; "" for none.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes: for each group one outline of area 1, the mean of the densities of its runs, in
        a band from the lowest to the highest of them where there are several.

    Raises:
        ParameterError: A column is missing.
    """
    _require(frame, "frame", "run_id", score, "group")
    axes = _axes(ax, width=6.4, height=3.6)
    finite = _finite(frame, score, axes)
    if finite.empty:
        return _no_samples(axes)
    edges = np.histogram_bin_edges(finite[score].to_numpy(np.float64), bins)
    first = {"clean": 0, "noisy": 1}
    order = sorted(set(finite["group"]), key=lambda name: (first.get(name, 2), name))
    colours = _palette(pd.Series(order))
    for name in order:
        group = finite[finite["group"] == name]
        runs = [part[score].to_numpy(np.float64) for _, part in group.groupby("run_id")]
        drawn = np.stack([np.histogram(each, edges, density=True)[0] for each in runs])
        low, mean, high = drawn.min(axis=0), drawn.mean(axis=0), drawn.max(axis=0)
        axes.stairs(
            mean, edges, color=colours[name], linewidth=1.6,
            linestyle="-" if name in first else "--",
            label=_group_label(name, [each.size for each in runs]),
        )  # fmt: skip
        axes.stairs(high, edges, baseline=low, fill=True, color=colours[name], alpha=0.25)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(0, None)
    axes.set(xlabel=_with_unit(score, unit), ylabel="density")
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
        standard deviation to either side where there is one, and a line at chance.

    Raises:
        ParameterError: A column is missing.
    """
    _require(summary, "summary", "model", "score", "auroc_mean", "auroc_std")
    rows = summary.dropna(subset="auroc_mean").drop_duplicates(["model", "score"])
    means = rows.groupby("score", sort=False)["auroc_mean"].mean()
    order = list(means.sort_values(ascending=False, kind="stable").index)
    axes = _axes(ax, width=7.8, height=1.2 + 0.28 * max(len(order), 4))
    if rows.empty:
        return _no_samples(axes)
    models = list(dict.fromkeys(rows["model"]))
    colours = _palette(pd.Series(models))
    shift = np.linspace(-0.15, 0.15, len(models)) if len(models) > 1 else [0.0]
    for model, offset, marker in zip(models, shift, itertools.cycle("osD^vP"), strict=False):
        part = rows[rows["model"] == model]
        places = [order.index(each) + offset for each in part["score"]]
        axes.errorbar(
            part["auroc_mean"], places, xerr=part["auroc_std"].fillna(0.0), fmt=marker,
            color=colours[model], markersize=5, capsize=2, label=_wrap(model),
        )  # fmt: skip
    axes.axvline(0.5, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(order)), [_wrap(name, 2 * _WRAP) for name in order])
    axes.set_ylim(len(order) - 0.4, -0.6)
    axes.set_xlabel("AUROC of wrong labels (dashed: chance)")
    axes.legend(title="model", **_OUTSIDE)
    return axes


def noise_panels(frame: pd.DataFrame, *, score: str = "action", unit: str = _UNIT) -> Figure:
    """Draw `noise_distributions` of each model, one below the other (paper Fig. 12).

    Args:
        frame: As `noise_distributions` takes it, with the column ``model``.
        score: Column to draw, in ``unit``.
        unit: Unit of the score, for the axis labels; "" for none.

    Returns:
        A figure with one panel per model, in order of appearance, each with its own scales.

    Raises:
        ParameterError: A column is missing.
    """
    _require(frame, "frame", "model", "run_id", score, "group")
    models = list(dict.fromkeys(frame["model"])) or [""]
    panels = _panels(len(models), width=6.8, height=3.0)
    for axes, model in zip(panels, models, strict=True):
        noise_distributions(
            frame[frame["model"] == model], score=score, bins=_PANEL_BINS, unit=unit, ax=axes
        )
        above = axes.get_title(loc="left")
        axes.set_title(f"{model}\n{above}" if above else model, loc="left", fontsize=10)
    figure = panels[0].figure
    assert isinstance(figure, Figure)  # noqa: S101 - made above
    return figure


def noise_pairs(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw which share of the wrong labels is found, by true and given class.

    Args:
        frame: As `actiontrack.analysis.noise_pairs` returns it for one model:
            ``true_class``, ``given_class``, ``n_wrong``, ``n_found``, ``share``.
        ax: Where to draw; None makes a figure whose size follows the number of classes.

    Returns:
        The Axes: a row per true class, a column per given class. Up to 15 classes each cell tells
        how many were found of how many; a pair without a wrong label is grey.

    Raises:
        ParameterError: A column is missing.
    """
    _require(frame, "frame", "true_class", "given_class", "n_wrong", "n_found", "share")
    names = _class_order(frame)
    small = len(names) <= _ANNOTATED
    side = 1.6 + (0.62 if small else 0.25) * max(len(names), 4)
    axes = _axes(ax, width=side + 1.2, height=0.75 * side + 0.5)
    if frame.empty:
        return _no_samples(axes)
    place = {name: position for position, name in enumerate(names)}
    at = frame["true_class"].map(place), frame["given_class"].map(place)
    share = np.full((len(names), len(names)), np.nan)
    share[at] = frame["share"]
    cells = np.full(share.shape, "", dtype=object)
    cells[at] = frame["n_found"].astype(str) + "/" + frame["n_wrong"].astype(str)
    sns.heatmap(
        share, ax=axes, mask=np.isnan(share), vmin=0.0, vmax=1.0, cmap="cividis",
        annot=cells if small else False, fmt="", annot_kws={"fontsize": 8},
        linewidths=1 if small else 0, cbar_kws={"label": "share found"},
        xticklabels=[_wrap(name) for name in names], yticklabels=[_wrap(name) for name in names],
    )  # fmt: skip
    axes.set_facecolor("0.85")
    axes.grid(visible=False)
    axes.tick_params(axis="x", rotation=90 if _longest(names) > 5 else 0, length=0)
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
    return _wrap(f"{name}, {size} samples{runs}", 2 * _WRAP)


def class_distributions(
    scores: pd.DataFrame,
    *,
    score: str = "action",
    kind: Literal["box", "violin"] = "box",
    max_classes: int = 40,
    unit: str = _UNIT,
    ax: Axes | None = None,
) -> Axes:
    """Draw a score's distribution in each class, the hardest class on top (paper Fig. 6a).

    Boxes span the quartiles, whiskers the 5th to the 95th percentile.

    Args:
        scores: Score frame with the columns ``score`` and ``class``.
        score: Column to draw, in ``unit``.
        kind: "box" or "violin".
        max_classes: Draw only this many classes, those with the highest median.
        unit: Unit of the score, for the axis label; "" for none.
        ax: Where to draw; None makes a figure whose height follows the number of classes.

    Returns:
        The Axes; classes are ordered by median, highest first.

    Raises:
        ParameterError: A column is missing or ``kind`` is unknown.
    """
    _require(scores, "scores", score, "class")
    if kind not in ("box", "violin"):
        raise ParameterError("kind", "must be 'box' or 'violin'", kind, "Choose one of them.")
    usable = scores[np.isfinite(scores[score].to_numpy(np.float64))]
    medians = usable.groupby(usable["class"].astype(str), sort=False)[score].median()
    order = list(medians.sort_values(ascending=False, kind="stable").index)
    shown = order[:max_classes]
    axes = _axes(ax, width=6.4, height=1.2 + _row_height(shown, 0.34) * max(len(shown), 4))
    _finite(scores, score, axes)
    if not shown:
        return _no_samples(axes)
    groups = [
        usable.loc[usable["class"].astype(str) == name, score].to_numpy(float) for name in shown
    ]
    _boxes(axes, groups) if kind == "box" else _violins(axes, groups)
    axes.set_yticks(range(len(shown)), [_wrap(name) for name in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(_with_unit(score, unit))
    if len(shown) < len(order):
        _note(axes, f"the {len(shown)} hardest of {len(order)} classes")
    return axes


def class_changes(changes: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw how much each class changed between two sets of runs.

    Args:
        changes: As `actiontrack.changes.Changes.classes` is: ``class``, ``before``, ``relative``,
            ``ci_low`` and ``ci_high``.
        ax: Where to draw; None makes a figure whose height follows the number of classes.

    Returns:
        The Axes: a row per class in the order given, its relative change in percent with the
        interval where there is one, and a line at no change.

    Raises:
        ParameterError: A column is missing.
    """
    _require(changes, "changes", "class", "before", "relative", "ci_low", "ci_high")
    axes = _axes(ax, width=6.8, height=1.1 + 0.3 * max(len(changes), 2))
    if changes.empty:
        return _no_samples(axes)
    relative = 100 * changes["relative"].to_numpy(np.float64)
    scale = 100 / changes["before"].abs().to_numpy(np.float64)
    ends = [changes[name].to_numpy(np.float64) * scale for name in ("ci_low", "ci_high")]
    widths = np.nan_to_num(np.abs(np.vstack([relative - ends[0], ends[1] - relative])))
    places = np.arange(len(changes))
    axes.errorbar(relative, places, xerr=widths, fmt="o", color=_colour(), markersize=5, capsize=3)
    axes.axvline(0.0, color="0.4", linewidth=0.8, linestyle="--")
    axes.set_yticks(places, [_wrap(name) for name in changes["class"]])
    axes.set_ylim(len(changes) - 0.4, -0.6)
    axes.set_xlabel("change, % of the mean before (dashed: none)")
    return axes


def _boxes(axes: Axes, groups: Sequence[NDArray[np.float64]]) -> None:
    colour, edge = _colour(), "0.2"
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
        color=sns.light_palette(_colour(), 5)[2], saturation=1, linewidth=1, ax=axes,
    )  # fmt: skip
    axes.set_ylabel("")


def model_scatter(scores_wide: pd.DataFrame, *, unit: str = _UNIT, ax: Axes | None = None) -> Axes:
    """Draw one model's scores against another's, one point per sample, with Spearman's ρ.

    Args:
        scores_wide: Two columns of scores, named as the axes shall be, one row per sample, and
            optionally the column ``class``, which colours the points.
        unit: Unit of both scores, for the axis labels; "" for none.
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
    axes = _axes(ax, width=5.4, height=4.6)
    values = scores_wide[columns].to_numpy(np.float64)
    keep = np.isfinite(values).all(axis=1)
    _note_dropped(axes, int((~keep).sum()))
    if not keep.any():
        return _no_samples(axes)
    data = pd.DataFrame(values[keep], columns=["x", "y"])
    classes = _names(scores_wide.loc[keep, "class"]) if "class" in scores_wide else None
    hue: dict[str, Any] = {"color": _colour()}
    if classes is not None:
        hue = {"hue": classes.to_numpy(), "palette": _palette(classes)}
    sns.scatterplot(
        data, x="x", y="y", ax=axes, linewidth=0, rasterized=True,
        s=float(np.clip(30_000 / len(data), 6, 30)),
        alpha=float(np.clip(1_500 / len(data), 0.25, 0.8)), **hue,
    )  # fmt: skip
    rho = spearman_matrix(values[keep].T)[0, 1]
    _note(axes, f"Spearman ρ = {rho:.3f}, {len(data)} samples")
    axes.set(xlabel=_with_unit(_wrap(columns[0]), unit), ylabel=_with_unit(_wrap(columns[1]), unit))
    return _legend_outside(axes, "class")


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
    _require(scores, "scores", "action", "entropy")
    axes = _axes(ax, width=6.8, height=5.6)
    values = scores[["entropy", "action"]].to_numpy(np.float64)
    keep = np.isfinite(values).all(axis=1)
    if not keep.any():
        return _no_samples(axes)
    entropy, action = values[keep].T
    cells = axes.hexbin(
        entropy, action, gridsize=_CELLS, extent=(0, 1, 0, 1), mincnt=1, bins="log", cmap="Greys",
        linewidths=0.1,
    )  # fmt: skip
    cells.set_clim(0.5, None)  # a single sample is grey, not white
    axes.set(xlabel="entropy of the ensemble, normalised", ylabel="mean action, normalised")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    above = _margins(axes, entropy, action)
    rho = spearman_matrix(np.vstack([action, entropy]))[0, 1]
    _note_dropped(above, int((~keep).sum()))
    _note(above, f"Spearman ρ = {rho:.3f}, {len(action)} samples")
    legend = {} if regions is None else _marked(axes, regions)
    figure = axes.get_figure(root=True)
    if figure is not None:
        where = axes.inset_axes((1.22, 0.0, 0.04, 0.5))
        figure.colorbar(cells, cax=where, label="samples in a cell")
    if legend:
        place = _OUTSIDE | {"bbox_to_anchor": (1.17, 1.0)}
        axes.legend(list(legend.values()), list(legend), title="region", **place)
    return axes


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
    for each in (above, beside):
        each.set_axis_off()
    return above


def _marked(axes: Axes, regions: pd.DataFrame) -> dict[str, Line2D]:
    """A mark for each sample of a region, and what the legend says of it."""
    _require(regions, "regions", "action", "entropy", "region")
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


# ---------------------------------------------------------------- correlations


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
    width = 3.0 + _row_height(table.columns, 0.62) * max(table.shape[1], 3)
    height = 0.8 + _row_height(table.index, 0.42) * max(len(table), 2)
    axes = _axes(ax, width=width, height=height + 0.1 * min(_longest(table.columns), _WRAP))
    if table.empty:
        return _no_samples(axes)
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
    axes.set_xticks(np.arange(table.shape[1]) + 0.5, [_wrap(name) for name in table.columns])
    axes.tick_params(axis="x", rotation=90 if _longest(table.columns) > 5 else 0, length=0)
    axes.set_yticks(np.arange(len(table)) + 0.5, [_wrap(name) for name in table.index])
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
    _require(frame, "frame", "method", "kind", "model_a", "model_b", "quantile", "mean")
    axes = _axes(ax, width=6.8, height=4.0)
    defined = np.isfinite(frame["mean"].to_numpy(np.float64))
    chosen = frame[(frame["method"] == method) & defined].reset_index(drop=True)
    if chosen.empty:
        return _no_samples(axes)
    names = _names(pair_labels(chosen))
    colours = _palette(names)
    for name, part in chosen.groupby(names, sort=False):
        same = part["kind"].iloc[0] == "same-model"
        curve = part.sort_values("quantile")
        axes.plot(
            curve["quantile"], curve["mean"], "o--" if same else "o-",
            color=colours[str(name)], markersize=4, label=str(name),
        )  # fmt: skip
    axes.axhline(0, color="0.4", linewidth=0.8)
    axes.set_xlabel("samples at or above this quantile of action")
    axes.set_ylabel(_SYMBOL[method])
    axes.legend()
    return _legend_outside(axes, None)


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
    _require(frame, "frame", "run_id", "run_name", "model", "step", "method", "value")
    axes = _axes(ax, width=6.8, height=4.0)
    chosen = frame[frame["method"] == method].reset_index(drop=True)
    if not np.isfinite(chosen["value"].to_numpy(np.float64)).any():
        return _no_samples(axes)
    few = len(set(chosen["model"])) == 1 and len(set(chosen["run_id"])) <= _FEW
    column = "run_name" if few else "model"
    names = _names(chosen[column])
    colours = _palette(names)
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
    axes.set_ylabel(f"{_SYMBOL[method]} with the full score")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _opaque_legend(axes, legend, column)
    return axes


def accuracy_curves(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against a threshold on normalised scores (paper Fig. 6c).

    Args:
        frame: As `actiontrack.analysis.accuracy_by_threshold` returns it: ``run_id``,
            ``model``, ``score``, ``threshold``, ``accuracy``.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes: for each score (and model, if there are several) the mean over the runs, in a
        band of its 95 % confidence interval by Student's t where two runs or more have a value.

    Raises:
        ParameterError: A column is missing.
    """
    _require(frame, "frame", "run_id", "model", "score", "threshold", "accuracy")
    axes = _axes(ax, width=6.8, height=4.0)
    if not np.isfinite(frame["accuracy"].to_numpy(np.float64)).any():
        return _no_samples(axes)
    names = frame["score"].astype(str)
    if len(set(frame["model"])) > 1:
        names = names + " · " + frame["model"].astype(str)
    colours = _palette(names)
    legend: dict[str, Line2D] = {}
    for name, part in frame.groupby(names, sort=False):
        wide = part.pivot_table(
            index="run_id", columns="threshold", values="accuracy", dropna=False, sort=True
        )
        x, colour = wide.columns.to_numpy(np.float64), colours[str(name)]
        mean, low, high = mean_interval(wide.to_numpy(np.float64))
        (legend[_wrap(name)],) = axes.plot(x, mean, color=colour, label="score")
        axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.set(xlabel="threshold on the normalised score", ylabel="accuracy at or above it")
    axes.set_ylim(-0.02, 1.02)  # an interval of few runs may reach where no accuracy can be
    _opaque_legend(axes, legend, "score")
    return axes


def learning_curves(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against the number of training images, by how they were chosen (Fig. 13 left).

    Args:
        frame: One row per training: ``strategy``, ``n_images``, ``accuracy``.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes: for each strategy the mean over its trainings of one size, in a band from the
        lowest to the highest where there are several. Lines get thinner one after the other, so
        that one on top of another hides nothing.

    Raises:
        ParameterError: A column is missing.
    """
    _require(frame, "frame", "strategy", "n_images", "accuracy")
    axes = _strategy_lines(frame, "accuracy", ax)
    axes.set(xlabel="training images", ylabel="accuracy")
    return axes


def mean_score_curves(
    frame: pd.DataFrame,
    *,
    score: str = "mean_action",
    unit: str = _UNIT,
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean score of the training images against their number (paper Fig. 13 right).

    Args:
        frame: One row per training: ``strategy``, ``n_images``, the column ``score`` and ``added``,
            what the strategy has added last, written at its point; "" for nothing.
        score: Column to draw, in ``unit``.
        unit: Unit of the score, for the axis label; "" for none.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes, as `learning_curves` draws it.

    Raises:
        ParameterError: A column is missing.
    """
    _require(frame, "frame", "strategy", "n_images", score, "added")
    axes = _strategy_lines(frame, score, ax)
    for place, (_, part) in enumerate(frame.groupby("strategy", sort=False)):
        above = place % 2 == 0
        told = part[part["added"] != ""]
        for x, y, text in zip(told["n_images"], told[score], told["added"], strict=True):
            axes.annotate(
                _wrap(text), (x, y), xytext=(0, 5 if above else -5), textcoords="offset points",
                ha="center", va="bottom" if above else "top", fontsize=8, zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
            )  # fmt: skip
    axes.set(xlabel="training images", ylabel=_with_unit(score.replace("_", " "), unit))
    return axes


def _strategy_lines(frame: pd.DataFrame, value: str, ax: Axes | None) -> Axes:
    axes = _axes(ax, width=6.8, height=4.0)
    finite = frame[np.isfinite(frame[value].to_numpy(np.float64))]
    if finite.empty:
        return _no_samples(axes)
    colours = _palette(finite["strategy"].astype(str))
    legend: dict[str, Line2D] = {}
    for place, (name, part) in enumerate(finite.groupby("strategy", sort=False)):
        spread = part.groupby("n_images", sort=True)[value].agg(["min", "mean", "max"])
        colour, x = colours[str(name)], spread.index.to_numpy(np.float64)
        (legend[_wrap(name)],) = axes.plot(
            x, spread["mean"], marker="osD^v"[place % 5], color=colour, label="strategy",
            linewidth=max(2.8 - 0.45 * place, 1.0), markersize=max(6.5 - 0.8 * place, 3.0),
        )  # fmt: skip
        axes.fill_between(x, spread["min"], spread["max"], color=colour, alpha=0.2, linewidth=0)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    _opaque_legend(axes, legend, "strategy")
    return axes


# ---------------------------------------------------------------- curves


def loss_curves(
    frame: pd.DataFrame,
    *,
    hue: str | None = None,
    step_name: str = "epoch",
    loss_name: str = "loss",
    ax: Axes | None = None,
) -> Axes:
    """Draw the loss of single samples over training (paper Fig. 2 and 3).

    Args:
        frame: One row per run, sample and step: ``run_id``, ``sample_id``, ``step``, ``loss``.
        hue: Column that colours the curves. By default "cluster" if the frame has it; otherwise
            each curve has its colour and its name in the legend if there are at most 10; otherwise
            "class" if the frame has it and there are at most 10; otherwise one colour.
        step_name: What a step is, for the axis label.
        loss_name: What the loss is, with its unit if it has one, for the axis label.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes, with one line per run and sample.

    Raises:
        ParameterError: A column is missing.
    """
    _require(frame, "frame", "run_id", "sample_id", "step", "loss", *([hue] if hue else []))
    axes = _axes(ax, width=6.8, height=4.0)
    if frame.empty:
        return _no_samples(axes)
    frame = frame.reset_index(drop=True)
    curves = frame.groupby(["run_id", "sample_id"], sort=False)
    column = hue or _curve_hue(frame, curves.ngroups)
    names = _curve_names(frame, column)
    colours = _palette(names)
    alpha = float(np.clip(10 / curves.ngroups, 0.15, 0.9))
    legend: dict[str, Line2D] = {}
    for _, part in curves:
        name = str(names.loc[part.index[0]])
        curve = part.sort_values("step", kind="stable")
        (line,) = axes.plot(
            curve["step"], curve["loss"], color=colours[name], alpha=alpha, label="curve"
        )
        legend.setdefault(name, line)
    _note_dropped(axes, int((~np.isfinite(frame["loss"].to_numpy(float))).sum()), what="values")
    axes.set(xlabel=step_name, ylabel=loss_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if column is not None:
        _opaque_legend(axes, legend, None if column == "sample" else column)
    return axes


def curve_clusters(
    frame: pd.DataFrame,
    *,
    step_name: str = "epoch",
    loss_name: str = "loss",
    ax: Axes | None = None,
) -> Axes:
    """Draw the centres of clusters of loss curves and the curves closest to them (paper Fig. 2).

    Args:
        frame: As `actiontrack.analysis.curve_clusters` returns it for one record:
            ``cluster``, ``trend``, ``n_samples``, ``kind``, ``rank``, ``step``, ``loss``.
        step_name: What a step is, for the axis label.
        loss_name: What the loss is, with its unit if it has one, for the axis label.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes: a thick line for each centre, thin lines of its colour for its closest curves.

    Raises:
        ParameterError: A column is missing.
    """
    columns = ("cluster", "trend", "n_samples", "kind", "rank", "step", "loss")
    _require(frame, "frame", *columns)
    axes = _axes(ax, width=6.8, height=4.0)
    if frame.empty:
        return _no_samples(axes)
    colours = _palette(frame["cluster"].astype(str))
    legend: dict[str, Line2D] = {}
    for (cluster, rank), part in frame.groupby(["cluster", "rank"], sort=False):
        curve = part.sort_values("step", kind="stable")
        centre = rank == 0
        (line,) = axes.plot(
            curve["step"], curve["loss"], color=colours[str(cluster)], label="curve",
            linewidth=3.0 if centre else 0.9, alpha=1.0 if centre else 0.7, zorder=3 - centre,
        )  # fmt: skip
        if centre:
            trend, size = part[["trend", "n_samples"]].iloc[0]
            legend[f"{cluster}: {trend}, {size} samples"] = line
    axes.set(xlabel=step_name, ylabel=loss_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _opaque_legend(axes, legend, "cluster")
    return axes


def _curve_hue(frame: pd.DataFrame, n_curves: int) -> str | None:
    if "cluster" in frame:
        return "cluster"
    if n_curves <= _FEW:
        return "sample"
    return "class" if "class" in frame and frame["class"].nunique() <= _FEW else None


def _curve_names(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """What colours each row: a column, or sample id, class and run where they tell something."""
    if column != "sample":
        return _names(pd.Series("", frame.index) if column is None else frame[column])
    names = frame["sample_id"].astype(str)
    if "class" in frame:
        names = names + " · " + frame["class"].astype(str)
    if len(set(frame["run_id"])) > 1:
        names = names + " · " + frame["run_name" if "run_name" in frame else "run_id"].astype(str)
    return _names(names)


def _opaque_legend(axes: Axes, lines: dict[str, Line2D], title: str | None) -> None:
    title = title.replace("_", " ") if title else None
    legend = axes.legend(list(lines.values()), ["name"] * len(lines), title=title, **_OUTSIDE)
    for line, text, name in zip(legend.get_lines(), legend.get_texts(), lines, strict=True):
        line.set_alpha(1.0)
        text.set_text(name)  # set late: Matplotlib leaves out names that start with "_"


# ---------------------------------------------------------------- pictures


def gallery(
    images: Sequence[Picture],
    titles: Sequence[str],
    *,
    columns: int = 6,
    boxes: Sequence[pd.DataFrame] | None = None,
) -> Figure:
    """Show samples side by side, each with its title below (paper Fig. 1, 4 and 8 to 10).

    Args:
        images: PIL images or arrays, (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), uint8 or float in
            [0, 1] (a wider range is stretched to it); None where an image is not available.
        titles: What to write below each image, for instance its true label and its action.
        columns: Images in a row.
        boxes: For each image a frame of the boxes to draw: ``kind`` ("truth" or "predicted"),
            ``class``, ``score`` (shown for predicted ones), ``left``, ``top``, ``right`` and
            ``bottom`` in pixels of the image. Images are shown larger then.

    Returns:
        A figure; images under 256 pixels are enlarged without smoothing.

    Raises:
        ParameterError: Lengths differ, ``columns`` is not positive, or an array is no image.
    """
    if len(images) != len(titles):
        rule = f"must hold one title for each of the {len(images)} images"
        raise ParameterError("titles", rule, len(titles), "Pass '' for an image without a title.")
    if boxes is not None and len(images) != len(boxes):
        rule = f"must hold one frame for each of the {len(images)} images"
        raise ParameterError("boxes", rule, len(boxes), "Pass a frame without rows for no box.")
    if columns < 1:
        raise ParameterError("columns", "must be positive", columns, "Pass 6, for instance.")
    if not images:
        figure = Figure(figsize=(4.0, 1.5), layout="constrained")
        _no_samples(figure.subplots())
        return figure
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    side = 1.6 if boxes is None else _BOXED
    wrapped = [_wrap(title, round(12.5 * side)) for title in titles]
    lines = max(title.count("\n") + 1 for title in wrapped)
    tallest = 1.0 if boxes is None else max(map(_height_to_width, images))
    size = (side * columns, (side * tallest + 0.1 + 0.2 * lines) * rows)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, image, title in zip(grid, images, wrapped, strict=False):
        _show(axes, image, title)
    for axes in grid[len(images) :]:
        axes.set_axis_off()
    if boxes is not None:
        _draw_boxes(figure, list(grid[: len(images)]), images, boxes)
    return figure


def _height_to_width(image: Picture) -> float:
    if image is None:
        return 1.0
    height, width = (
        (image.height, image.width) if isinstance(image, Image.Image) else image.shape[:2]
    )
    return float(height / width)


def _draw_boxes(
    figure: Figure,
    panels: Sequence[Axes],
    images: Sequence[Picture],
    boxes: Sequence[pd.DataFrame],
) -> None:
    """Truth in solid lines, named above its box; predictions dashed, named below."""
    truth, predicted, *_ = sns.color_palette("colorblind", 2)
    styles: dict[str, tuple[Colour, Any, str]] = {
        "truth": (truth, "-", "annotated"),
        "predicted": (predicted, "--", "predicted"),
    }
    for axes, image, frame in zip(panels, images, boxes, strict=True):
        if image is None:
            continue
        for row in frame.to_dict("records"):
            colour, line, _ = styles[row["kind"]]
            _draw_box(axes, row, colour=colour, line=line)
    handles = [
        Line2D([], [], color=colour, linestyle=line, label=name)
        for colour, line, name in styles.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False, fontsize=9)


def _draw_box(axes: Axes, row: dict[Any, Any], *, colour: Colour, line: str) -> None:
    left, top, right, bottom = (row[side] - 0.5 for side in ("left", "top", "right", "bottom"))
    axes.add_patch(
        Rectangle(
            (left, top), right - left, bottom - top,
            fill=False, edgecolor=colour, linestyle=line, linewidth=1.2,
        )
    )  # fmt: skip
    lowest, highest = axes.get_ylim()  # images count rows downwards
    near = 0.06 * (lowest - highest)
    if row["kind"] == "truth":
        name, x, y, outside, inside = str(row["class"]), left, top, "bottom", "top"
        at_edge = top - highest < near
    else:
        name, x, y, outside, inside = (
            f"{row['class']} {row['score']:.2f}", right, bottom, "top", "bottom",
        )  # fmt: skip
        at_edge = lowest - bottom < near
    axes.text(
        x, y, _wrap(name), ha="left" if row["kind"] == "truth" else "right",
        va=inside if at_edge else outside, fontsize=5.5, color="white", clip_on=True,
        bbox={"facecolor": colour, "alpha": 0.8, "pad": 0.6, "linewidth": 0},
    )  # fmt: skip


def pixel_maps(
    pictures: Sequence[Mapping[str, Picture]],
    maps: Sequence[NDArray[np.floating]],
    titles: Sequence[str],
    *,
    unit: str = _UNIT,
    classes: Mapping[str, Colour] | None = None,
) -> Figure:
    """Show samples with the action of each pixel, a row per sample (paper Fig. 11).

    Args:
        pictures: For each sample name and picture of what stands left of the map, such as the
            image, the label and the prediction; the same names for all.
        maps: (H, W) action of each pixel of each sample. All rows share one scale, so that they
            compare; it ends at the 99.5 % quantile, and NaN is grey.
        titles: What to write left of each row, for instance the sample and its action.
        unit: Of the action.
        classes: Name and colour, RGB in [0, 1], of the classes in the pictures, for the legend.

    Returns:
        A figure with a colour bar.

    Raises:
        ParameterError: Lengths differ.
    """
    if not len(pictures) == len(maps) == len(titles):
        rule = f"must hold one title for each of the {len(maps)} maps"
        raise ParameterError("titles", rule, len(titles), "Pass one picture row per map, too.")
    if not maps:
        return gallery([], [])
    names = list(pictures[0])
    height, width = maps[0].shape
    row = 2.4 * height / width + 0.1
    size = (2.4 * (len(names) + 1) + 1.2, row * len(maps) + (0.9 if classes else 0.4))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(maps), len(names) + 1, squeeze=False)
    finite = np.concatenate([each[np.isfinite(each)] for each in maps])
    top = float(np.quantile(finite, 0.995)) if finite.size else 1.0
    colours = mpl.colormaps["magma"].with_extremes(bad="0.6")
    for axes, shown, action, title in zip(grid, pictures, maps, titles, strict=True):
        for ax, name in zip(axes, names, strict=False):
            _show(ax, shown[name], "")
        axes[-1].set(xticks=[], yticks=[])
        axes[-1].imshow(action, cmap=colours, vmin=0, vmax=top, interpolation="nearest")
        axes[0].set_ylabel(_wrap(title, 22), fontsize=8)
    for ax, name in zip(grid[0], [*names, "pixel action"], strict=True):
        ax.set_title(name, fontsize=10)
    drawn = grid[0, -1].images[0]
    bar = figure.colorbar(drawn, ax=grid[:, -1], extend="max", shrink=0.9, aspect=30)
    bar.set_label(_with_unit("action", unit))
    if classes:
        patches = [Patch(facecolor=colour, label=_wrap(name)) for name, colour in classes.items()]
        figure.legend(
            handles=patches, loc="outside lower center", ncols=6, frameon=False, fontsize=8
        )
    return figure


def pixel_classes(frame: pd.DataFrame, *, unit: str = _UNIT, ax: Axes | None = None) -> Axes:
    """Draw the mean action of the pixels of each class, hardest class on top (section 4.3).

    Args:
        frame: ``class``, ``mean`` and ``share_pixels``, the frame of `analysis.pixel_classes`.
        unit: Of the action.
        ax: Where to draw.

    Returns:
        The axes; the dashed line is the mean over all pixels, and each bar tells the share of
        pixels that the class has.
    """
    _require(frame, "frame", "class", "mean", "share_pixels")
    axes = _axes(ax, width=6.5, height=0.8 + 0.32 * max(len(frame), 1))
    shown = frame.loc[np.isfinite(frame["mean"].to_numpy(np.float64))]
    if shown.empty:
        return _no_samples(axes)
    _note_dropped(axes, len(frame) - len(shown), what="classes")
    names, means = _names(shown["class"]).tolist(), shown["mean"].to_numpy(np.float64)
    shares = shown["share_pixels"].to_numpy(np.float64)
    axes.barh(names, means, color=_colour())
    axes.invert_yaxis()
    axes.axvline(float((means * shares).sum()), color="0.3", linestyle="--", linewidth=1)
    for place, (mean, share) in enumerate(zip(means, shares, strict=True)):
        axes.annotate(
            f"{share:.1%} of pixels", (mean, place), (4, 0), textcoords="offset points",
            va="center", fontsize=8, color="0.3",
        )  # fmt: skip
    axes.set_xlim(0, 1.28 * float(means.max()))
    axes.set(xlabel=_with_unit("mean action of a pixel", unit), ylabel="")
    axes.grid(visible=False, axis="y")
    return axes


def feature_scatter(
    frame: pd.DataFrame, *, score: str = "action", unit: str = _UNIT, ax: Axes | None = None
) -> Axes:
    """Draw samples in the plane of their features, coloured by a score (supplement).

    Args:
        frame: ``x``, ``y`` and the score, the frame of `analysis.feature_map`, whose
            ``attrs["axes"]`` name the axes.
        score: Column to colour by; the scale ends at its 99 % quantile.
        unit: Of the score.
        ax: Where to draw.

    Returns:
        The axes; the hardest samples are drawn last, on top.
    """
    _require(frame, "frame", "x", "y", score)
    axes = _axes(ax, width=6.0, height=4.8)
    shown = _finite(frame, score, axes).sort_values(score, kind="stable")
    if shown.empty:
        return _no_samples(axes)
    top = float(shown[score].quantile(0.99))
    points = axes.scatter(
        shown["x"], shown["y"], c=shown[score], cmap="viridis", vmin=float(shown[score].min()),
        vmax=top, s=12, linewidths=0,
    )  # fmt: skip
    bar = axes.figure.colorbar(points, ax=axes, extend="max")
    bar.set_label(_with_unit(score.replace("_", " "), unit))
    names = frame.attrs.get("axes", ["x", "y"])
    axes.set(xlabel=names[0], ylabel=names[1])
    return axes


def _show(axes: Axes, image: Picture, title: str) -> None:
    axes.set(xticks=[], yticks=[])
    axes.set_xlabel(title, fontsize=9)
    for spine in axes.spines.values():
        spine.set_color("0.8")
    if image is None:
        axes.set_facecolor("0.93")
        axes.set_box_aspect(1)
        _centred_text(axes, "image not\navailable")
        return
    pixels = _pixels(image)
    smooth = "nearest" if max(pixels.shape[:2]) < _SMALL else "antialiased"
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation=smooth)


def _pixels(image: Image.Image | NDArray[Any]) -> NDArray[np.float64]:
    """To float64 in [0, 1], (H, W) or (H, W, 3 or 4)."""
    if isinstance(image, Image.Image) and image.mode not in ("L", "RGB", "RGBA", "F", "I", "I;16"):
        image = image.convert("RGBA" if image.mode in ("LA", "PA") else "RGB")
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and (array.ndim != 3 or array.shape[2] not in (3, 4)):
        remedy = "Put the channels last."
        raise ParameterError("images", "must have shape (H, W[, 1, 3 or 4])", array.shape, remedy)
    if array.dtype == np.uint8:
        return array / 255.0
    pixels = array.astype(np.float64)
    low, high = np.nanmin(pixels, initial=0.0), np.nanmax(pixels, initial=1.0)
    return np.asarray((pixels - low) / (high - low))


# ---------------------------------------------------------------- files


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


# ---------------------------------------------------------------- shared


def _require(frame: pd.DataFrame, argument: str, *columns: str) -> None:
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        rule = f"must have the column {', '.join(map(repr, missing))}"
        remedy = "Add it, or name another column."
        raise ParameterError(argument, rule, list(frame.columns), remedy)


def _axes(ax: Axes | None, *, width: float, height: float) -> Axes:
    return _panels(1, width=width, height=height)[0] if ax is None else ax


def _panels(count: int, *, width: float, height: float) -> list[Axes]:
    """A figure with axes one below the other; width and height in inches are those of each."""
    with mpl.rc_context(
        sns.axes_style("whitegrid", {"axes.edgecolor": "0.6", "grid.color": "0.9"})
    ):
        figure = Figure(figsize=(width, height * count), layout="constrained")
        panels: list[Axes] = list(figure.subplots(count, squeeze=False)[:, 0])
    for axes in panels:
        sns.despine(ax=axes)
    return panels


def _no_samples(axes: Axes) -> Axes:
    _centred_text(axes, "no samples")
    axes.set(xticks=[], yticks=[])
    sns.despine(ax=axes, left=True, bottom=True)
    return axes


def _centred_text(axes: Axes, text: str) -> None:
    place: dict[str, Any] = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, text, fontsize=9, color="0.3", **place)


def _finite(scores: pd.DataFrame, score: str, axes: Axes) -> pd.DataFrame:
    """The rows with a finite score; the others are counted on the figure."""
    keep = np.isfinite(scores[score].to_numpy(np.float64))
    _note_dropped(axes, int((~keep).sum()))
    kept: pd.DataFrame = scores[keep]
    return kept


def _note_dropped(axes: Axes, count: int, *, what: str = "samples") -> None:
    if count:
        _note(axes, f"{count} {what} not finite, not drawn")


def _note(axes: Axes, text: str) -> None:
    """Add a line above the axes, on the left."""
    above = axes.get_title(loc="left")
    axes.set_title(f"{above}\n{text}" if above else text, loc="left", fontsize=9, color="0.3")


def _colour() -> Colour:
    first: Colour = sns.color_palette("colorblind")[0]
    return first


def _palette(names: pd.Series) -> dict[str, Colour]:
    """A colour for each distinct name, in order of first appearance."""
    distinct = list(dict.fromkeys(names))
    kind = "colorblind" if len(distinct) <= _FEW else "husl"
    return dict(zip(distinct, sns.color_palette(kind, len(distinct)), strict=True))


def _names(column: pd.Series) -> pd.Series:
    return column.astype(str).map(_wrap)


def _wrap(text: object, width: int = _WRAP) -> str:
    """Break long names, and keep a dollar sign from starting a formula."""
    lines = [textwrap.fill(line, width) for line in str(text).split("\n")]
    return "\n".join(lines).replace("$", r"\$")


def _longest(names: Sequence[object] | pd.Index) -> int:
    return max((len(str(name)) for name in names), default=0)


def _row_height(names: Sequence[object] | pd.Index, single: float) -> float:
    """Inches that the tallest of these names needs, at least ``single``."""
    return max([single, *(0.2 * (_wrap(name).count("\n") + 1) for name in names)])


def _with_unit(name: str, unit: str) -> str:
    return f"{name} ({unit})" if unit else name


def _legend_outside(axes: Axes, title: str | None) -> Axes:
    """Put the legend, if there is one, right of the axes, where it hides no data."""
    if axes.get_legend() is not None:
        title = title.replace("_", " ") if title else None
        place = dict(_OUTSIDE)
        sns.move_legend(axes, place.pop("loc"), title=title, **place)
    return axes
