"""Figures of curves over training."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from actiontrack.compare import mean_interval
from actiontrack.plots.canvas import (
    FEW_POINTS,
    axes_or_new,
    class_names,
    no_samples,
    note_dropped,
    opaque_legend,
    palette,
    require_columns,
    score_label,
    wrap_label,
    write_note,
)

__all__ = [
    "accuracy_curves",
    "curve_clusters",
    "learning_curves",
    "loss_curves",
    "mean_score_curves",
]

_MIN_RUNS = 3  # for which an interval by Student's t is drawn
_TWO_RUNS = "no interval where only two runs have a value"
_CUT = "intervals cut at 0 and 1, none where they would span both"


def accuracy_curves(frame: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw accuracy against a threshold on normalised scores (paper Fig. 6c).

    Args:
        frame: As `actiontrack.analysis.accuracy_by_threshold` returns it: ``run_id``,
            ``model``, ``score``, ``threshold``, ``accuracy``.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes: for each score (and model, if there are several) the mean over the runs, in a
        band of its 95 % confidence interval by Student's t where three runs or more have a value.
        That of two runs, 12.7 standard errors to either side, would hide the plot and tell
        nothing: a note says that it is left out. Bands are cut at 0 and 1, and left out where they
        would span both; a note says so.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(frame, "frame", "run_id", "model", "score", "threshold", "accuracy")
    axes = axes_or_new(ax, width=6.8, height=4.0)
    if not np.isfinite(frame["accuracy"].to_numpy(np.float64)).any():
        return no_samples(axes)
    names = frame["score"].astype(str)
    if len(set(frame["model"])) > 1:
        names = names + " · " + frame["model"].astype(str)
    colours = palette(names)
    legend: dict[str, Line2D] = {}
    notes: set[str] = set()
    for name, part in frame.groupby(names, sort=False):
        wide = part.pivot_table(
            index="run_id", columns="threshold", values="accuracy", dropna=False, sort=True
        )
        x, colour = wide.columns.to_numpy(np.float64), colours[str(name)]
        mean, low, high = mean_interval(wide.to_numpy(np.float64))
        n_runs = wide.notna().sum(axis=0).to_numpy()
        notes |= {_TWO_RUNS} if (n_runs == 2).any() else set()
        beyond = (n_runs >= _MIN_RUNS) & ((low < 0) | (high > 1))
        notes |= {_CUT} if beyond.any() else set()
        hidden = (n_runs < _MIN_RUNS) | ((low <= 0) & (high >= 1))
        low, high = (np.where(hidden, np.nan, end) for end in (low, high))
        (legend[wrap_label(name)],) = axes.plot(x, mean, color=colour, label="score")
        band = low.clip(0, 1), high.clip(0, 1)
        axes.fill_between(x, *band, color=colour, alpha=0.2, linewidth=0)
    for note in sorted(notes):
        write_note(axes, note)
    axes.set(xlabel="threshold on the normalised score", ylabel="accuracy at or above it")
    axes.set_ylim(-0.02, 1.02)
    opaque_legend(axes, legend, "score")
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
    require_columns(frame, "frame", "strategy", "n_images", "accuracy")
    axes = _strategy_lines(frame, "accuracy", ax)
    axes.set(xlabel="training images", ylabel="accuracy")
    return axes


def mean_score_curves(
    frame: pd.DataFrame,
    *,
    score: str = "mean_action",
    unit: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the mean score of the training images against their number (paper Fig. 13 right).

    Args:
        frame: One row per training: ``strategy``, ``n_images``, the column ``score`` and ``added``,
            what the strategy has added last, written at its point; "" for nothing.
        score: Column to draw, in ``unit``.
        unit: Unit of the score, for the axis label. Default: see `canvas.score_label`.
        ax: Where to draw; None makes a figure.

    Returns:
        The Axes, as `learning_curves` draws it.

    Raises:
        ParameterError: A column is missing.
    """
    require_columns(frame, "frame", "strategy", "n_images", score, "added")
    axes = _strategy_lines(frame, score, ax)
    for position, (_, part) in enumerate(frame.groupby("strategy", sort=False)):
        above = position % 2 == 0
        labelled = part[part["added"] != ""]
        for x, y, text in zip(
            labelled["n_images"], labelled[score], labelled["added"], strict=True
        ):
            axes.annotate(
                wrap_label(text), (x, y), xytext=(0, 5 if above else -5),
                textcoords="offset points",
                ha="center", va="bottom" if above else "top", fontsize=8, zorder=4,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.7, "pad": 0.5},
            )  # fmt: skip
    axes.set(xlabel="training images", ylabel=score_label(frame, score, unit))
    return axes


def _strategy_lines(frame: pd.DataFrame, value: str, ax: Axes | None) -> Axes:
    axes = axes_or_new(ax, width=6.8, height=4.0)
    finite = frame[np.isfinite(frame[value].to_numpy(np.float64))]
    if finite.empty:
        return no_samples(axes)
    colours = palette(finite["strategy"].astype(str))
    legend: dict[str, Line2D] = {}
    for position, (name, part) in enumerate(finite.groupby("strategy", sort=False)):
        spread = part.groupby("n_images", sort=True)[value].agg(["min", "mean", "max"])
        colour, x = colours[str(name)], spread.index.to_numpy(np.float64)
        (legend[wrap_label(name)],) = axes.plot(
            x, spread["mean"], marker="osD^v"[position % 5], color=colour, label="strategy",
            linewidth=max(2.8 - 0.45 * position, 1.0), markersize=max(6.5 - 0.8 * position, 3.0),
        )  # fmt: skip
        axes.fill_between(x, spread["min"], spread["max"], color=colour, alpha=0.2, linewidth=0)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    opaque_legend(axes, legend, "strategy")
    return axes


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
    require_columns(frame, "frame", "run_id", "sample_id", "step", "loss", *([hue] if hue else []))
    axes = axes_or_new(ax, width=6.8, height=4.0)
    if frame.empty:
        return no_samples(axes)
    frame = frame.reset_index(drop=True)
    curves = frame.groupby(["run_id", "sample_id"], sort=False)
    column = hue or _curve_hue(frame, curves.ngroups)
    names = _curve_names(frame, column)
    colours = palette(names)
    alpha = float(np.clip(10 / curves.ngroups, 0.15, 0.9))
    legend: dict[str, Line2D] = {}
    for _, part in curves:
        name = str(names.loc[part.index[0]])
        curve = part.sort_values("step", kind="stable")
        (line,) = axes.plot(
            curve["step"], curve["loss"], color=colours[name], alpha=alpha, label="curve"
        )
        legend.setdefault(name, line)
    note_dropped(axes, int((~np.isfinite(frame["loss"].to_numpy(float))).sum()), noun="value")
    axes.set(xlabel=step_name, ylabel=loss_name)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if column is not None:
        opaque_legend(axes, legend, None if column == "sample" else column)
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
    require_columns(frame, "frame", *columns)
    axes = axes_or_new(ax, width=6.8, height=4.0)
    if frame.empty:
        return no_samples(axes)
    colours = palette(frame["cluster"].astype(str))
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
    opaque_legend(axes, legend, "cluster")
    return axes


def _curve_hue(frame: pd.DataFrame, n_curves: int) -> str | None:
    if "cluster" in frame:
        return "cluster"
    if n_curves <= FEW_POINTS:
        return "sample"
    return "class" if "class" in frame and frame["class"].nunique() <= FEW_POINTS else None


def _curve_names(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """What colours each row: a column, or sample id, class and run where they tell something."""
    if column != "sample":
        return class_names(pd.Series("", frame.index) if column is None else frame[column])
    names = frame["sample_id"].astype(str)
    if "class" in frame:
        names = names + " · " + frame["class"].astype(str)
    if len(set(frame["run_id"])) > 1:
        names = names + " · " + frame["run_name" if "run_name" in frame else "run_id"].astype(str)
    return class_names(names)
