"""Figures of images: galleries, boxes, pixel maps and feature maps."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from PIL import Image

from actiontrack.errors import ParameterError
from actiontrack.plots.canvas import (
    Colour,
    Picture,
    axes_or_new,
    centred_text,
    class_names,
    finite_rows,
    first_colour,
    no_samples,
    note_dropped,
    require_columns,
    score_label,
    wrap_label,
)
from actiontrack.record.rasters import unit_pixels

__all__ = [
    "feature_scatter",
    "gallery",
    "pixel_classes",
    "pixel_maps",
]

_SMALL = 256  # pixels: an image below this is enlarged without smoothing
_BOXED = 2.9  # inches that an image with boxes and their names needs


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
        no_samples(figure.subplots())
        return figure
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    side = 1.6 if boxes is None else _BOXED
    wrapped = [wrap_label(title, round(12.5 * side)) for title in titles]
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
        x, y, wrap_label(name), ha="left" if row["kind"] == "truth" else "right",
        va=inside if at_edge else outside, fontsize=5.5, color="white", clip_on=True,
        bbox={"facecolor": colour, "alpha": 0.8, "pad": 0.6, "linewidth": 0},
    )  # fmt: skip


def pixel_maps(
    pictures: Sequence[Mapping[str, Picture]],
    maps: Sequence[NDArray[np.floating]],
    titles: Sequence[str],
    *,
    unit: str | None = None,
    classes: Mapping[str, Colour] | None = None,
) -> Figure:
    """Show samples with the action of each pixel, a row per sample (paper Fig. 11).

    Args:
        pictures: For each sample name and picture of what stands left of the map, such as the
            image, the label and the prediction; the same names for all.
        maps: (H, W) action of each pixel of each sample. All rows share one scale, so that they
            compare; it ends at the 99.5 % quantile, and NaN is grey.
        titles: What to write left of each row, for instance the sample and its action.
        unit: Of the action. Default: "loss × Δn".
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
    finite = np.concatenate([values[np.isfinite(values)] for values in maps])
    top = float(np.quantile(finite, 0.995)) if finite.size else 1.0
    colours = mpl.colormaps["magma"].with_extremes(bad="0.6")
    for axes, row_pictures, action, title in zip(grid, pictures, maps, titles, strict=True):
        for ax, name in zip(axes, names, strict=False):
            _show(ax, row_pictures[name], "")
        axes[-1].set(xticks=[], yticks=[])
        axes[-1].imshow(action, cmap=colours, vmin=0, vmax=top, interpolation="nearest")
        axes[0].set_ylabel(wrap_label(title, 22), fontsize=8)
    for ax, name in zip(grid[0], [*names, "pixel action"], strict=True):
        ax.set_title(name, fontsize=10)
    drawn = grid[0, -1].images[0]
    bar = figure.colorbar(drawn, ax=grid[:, -1], extend="max", shrink=0.9, aspect=30)
    bar.set_label(score_label(None, "action", unit))
    if classes:
        patches = [
            Patch(facecolor=colour, label=wrap_label(name)) for name, colour in classes.items()
        ]
        figure.legend(
            handles=patches, loc="outside lower center", ncols=6, frameon=False, fontsize=8
        )
    return figure


def pixel_classes(frame: pd.DataFrame, *, unit: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the mean action of the pixels of each class, hardest class on top (section 4.3).

    Args:
        frame: ``class``, ``mean`` and ``share_pixels``, the frame of `analysis.pixel_classes`.
        unit: Of the action. Default: see `canvas.score_label`.
        ax: Where to draw.

    Returns:
        The axes; the dashed line is the mean over all pixels, and each bar tells the share of
        pixels that the class has.
    """
    require_columns(frame, "frame", "class", "mean", "share_pixels")
    axes = axes_or_new(ax, width=6.5, height=0.8 + 0.32 * max(len(frame), 1))
    finite = frame.loc[np.isfinite(frame["mean"].to_numpy(np.float64))]
    if finite.empty:
        return no_samples(axes)
    note_dropped(axes, len(frame) - len(finite), noun="class", plural="classes")
    names, means = class_names(finite["class"]).tolist(), finite["mean"].to_numpy(np.float64)
    shares = finite["share_pixels"].to_numpy(np.float64)
    axes.barh(names, means, color=first_colour())
    axes.invert_yaxis()
    axes.axvline(float((means * shares).sum()), color="0.3", linestyle="--", linewidth=1)
    for position, (mean, share) in enumerate(zip(means, shares, strict=True)):
        axes.annotate(
            f"{share:.1%} of pixels", (mean, position), (4, 0), textcoords="offset points",
            va="center", fontsize=8, color="0.3",
        )  # fmt: skip
    axes.set_xlim(0, 1.28 * float(means.max()))
    axes.set(xlabel=score_label(frame, "action", unit, name="mean action of a pixel"), ylabel="")
    axes.grid(visible=False, axis="y")
    return axes


def feature_scatter(
    frame: pd.DataFrame, *, score: str = "action", unit: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw samples in the plane of their features, coloured by a score (supplement).

    Args:
        frame: ``x``, ``y`` and the score, the frame of `analysis.feature_map`, whose
            ``attrs["axes"]`` name the axes.
        score: Column to colour by; the scale ends at its 99 % quantile.
        unit: Of the score. Default: see `canvas.score_label`.
        ax: Where to draw.

    Returns:
        The axes; the hardest samples are drawn last, on top.
    """
    require_columns(frame, "frame", "x", "y", score)
    axes = axes_or_new(ax, width=6.0, height=4.8)
    finite = finite_rows(frame, score, axes).sort_values(score, kind="stable")
    if finite.empty:
        return no_samples(axes)
    top = float(finite[score].quantile(0.99))
    points = axes.scatter(
        finite["x"], finite["y"], c=finite[score], cmap="viridis", vmin=float(finite[score].min()),
        vmax=top, s=12, linewidths=0,
    )  # fmt: skip
    bar = axes.figure.colorbar(points, ax=axes, extend="max")
    bar.set_label(score_label(frame, score, unit))
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
        centred_text(axes, "image not\navailable")
        return
    pixels = _pixels(image)
    smooth = "nearest" if max(pixels.shape[:2]) < _SMALL else "antialiased"
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=1, interpolation=smooth)


def _pixels(image: Image.Image | NDArray[Any]) -> NDArray[np.float64]:
    """To float64 in [0, 1], (H, W) or (H, W, 3 or 4)."""
    if isinstance(image, Image.Image) and image.mode not in ("L", "RGB", "RGBA", "F", "I", "I;16"):
        image = image.convert("RGBA" if image.mode in ("LA", "PA") else "RGB")
    return unit_pixels(np.asarray(image))
