"""What the tests of figures share."""

import itertools

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg

CLASSES = ["ant", "bee", "cat"]


LONG = (
    "a class name far longer than any axis was meant for, the lesser panda of the order carnivora"
)


def texts(axes):
    legend = axes.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else []


def assert_nothing_clipped(figure):
    """Everything drawn lies inside the canvas, before a saved file is cut to what is drawn."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # settles the layout
    drawn = figure.get_tightbbox(canvas.get_renderer())  # inches
    width, height = figure.get_size_inches()
    assert min(drawn.x0, drawn.y0) >= -0.01
    assert drawn.x1 <= width + 0.01
    assert drawn.y1 <= height + 0.01


def assert_rows_do_not_overlap(axes):
    renderer = axes.figure.canvas.get_renderer()
    boxes = [label.get_window_extent(renderer) for label in axes.get_yticklabels()]
    boxes.sort(key=lambda box: box.y0)
    assert all(low.y1 <= high.y0 + 1 for low, high in itertools.pairwise(boxes))


DETECTED = pd.DataFrame(
    {
        "model": ["cnn", "cnn", "resnet", "resnet"],
        "score": ["aum", "action", "aum", "action"],
        "auroc_mean": [0.8, 0.95, 0.9, 0.85],
        "auroc_std": [0.01, 0.02, np.nan, np.nan],
    }
)


PAIRS = pd.DataFrame(
    {
        "true_class": ["ant", "ant", "bee"],
        "given_class": ["bee", "cat", "cat"],
        "n_wrong": [4, 2, 1],
        "n_found": [1, 2, 0],
        "share": [0.25, 1.0, 0.0],
    }
)


STABILITY = ("run_id", "run_name", "model", "step", "method", "value")


ACCURACY = ("run_id", "model", "score", "threshold", "accuracy")


CLUSTERS = ("cluster", "trend", "n_samples", "kind", "rank", "step", "loss")


LEARNING = ("strategy", "n_images", "accuracy")


MEAN_SCORE = ("strategy", "n_images", "mean_action", "added")
