"""Figures of scores: a tidy frame and an Axes in, the Axes out; one function per kind of figure.

With ``ax=None`` a function makes its own figure, which is not registered with pyplot: nothing is
shown, nothing leaks, and ``save_figure(ax.figure, ...)`` writes it. Colours come from a palette
that colour-blind readers can tell apart. A frame without rows draws the words "no samples";
scores that are not finite can't be drawn and are counted on the figure.

A *score frame* has one row per run and sample: ``run_id``, ``run_name``, ``model``, ``sample_id``,
``label``, ``class``, ``action`` and any other score, named by the argument ``score``.
"""

from actiontrack.plots.canvas import (
    save_figure,
)
from actiontrack.plots.correlations import (
    correlation_heatmap,
    difficulty_ranks,
    joint_distribution,
    model_scatter,
    quantile_curves,
    stability_curves,
)
from actiontrack.plots.curves import (
    accuracy_curves,
    curve_clusters,
    learning_curves,
    loss_curves,
    mean_score_curves,
)
from actiontrack.plots.noise import (
    detection_scores,
    noise_distributions,
    noise_pairs,
    noise_panels,
)
from actiontrack.plots.pictures import (
    feature_scatter,
    gallery,
    pixel_classes,
    pixel_maps,
)
from actiontrack.plots.scores import (
    class_changes,
    class_distributions,
    score_histogram,
)

__all__ = [
    "accuracy_curves",
    "class_changes",
    "class_distributions",
    "correlation_heatmap",
    "curve_clusters",
    "detection_scores",
    "difficulty_ranks",
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
