import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from figure_checks import (
    ACCURACY,
    CLUSTERS,
    DETECTED,
    LEARNING,
    LONG,
    MEAN_SCORE,
    PAIRS,
    STABILITY,
    assert_nothing_clipped,
    assert_rows_do_not_overlap,
)
from helpers import message
from matplotlib.figure import Figure

from actiontrack import plots
from actiontrack.errors import ParameterError


def empty(*columns):
    return pd.DataFrame({column: [] for column in columns})


QUANTILE = ("method", "kind", "model_a", "model_b", "quantile", "mean")


EMPTY = {
    "joint_distribution": (plots.joint_distribution, empty("action", "entropy")),
    "score_histogram": (plots.score_histogram, empty("action")),
    "noise_distributions": (plots.noise_distributions, empty("run_id", "action", "group")),
    "noise_panels": (
        lambda frame: plots.noise_panels(frame).axes[0],
        empty("model", "run_id", "action", "group"),
    ),
    "noise_pairs": (plots.noise_pairs, empty(*PAIRS.columns)),
    "detection_scores": (plots.detection_scores, empty(*DETECTED.columns)),
    "class_distributions": (plots.class_distributions, empty("action", "class")),
    "correlation_heatmap": (plots.correlation_heatmap, pd.DataFrame()),
    "difficulty_ranks": (plots.difficulty_ranks, empty("outside_rank", "score_rank")),
    "quantile_curves": (plots.quantile_curves, empty(*QUANTILE)),
    "stability_curves": (plots.stability_curves, empty(*STABILITY)),
    "accuracy_curves": (plots.accuracy_curves, empty(*ACCURACY)),
    "learning_curves": (plots.learning_curves, empty(*LEARNING)),
    "mean_score_curves": (plots.mean_score_curves, empty(*MEAN_SCORE)),
    "curve_clusters": (plots.curve_clusters, empty(*CLUSTERS)),
    "loss_curves": (plots.loss_curves, empty("run_id", "sample_id", "step", "loss")),
    "model_scatter": (plots.model_scatter, empty("a", "b")),
    "gallery": (lambda _: plots.gallery([], []).axes[0], None),
}


@pytest.mark.parametrize(("draw", "frame"), EMPTY.values(), ids=EMPTY.keys())
def test_nothing_to_draw_says_no_samples(draw, frame):
    assert [text.get_text() for text in draw(frame).texts] == ["no samples"]


MISSING = {
    "joint_distribution": (plots.joint_distribution, "scores", "'action', 'entropy'"),
    "score_histogram": (plots.score_histogram, "scores", "'action'"),
    "noise_distributions": (plots.noise_distributions, "frame", "'run_id', 'action', 'group'"),
    "noise_panels": (plots.noise_panels, "frame", "'model', 'run_id', 'action', 'group'"),
    "noise_pairs": (plots.noise_pairs, "frame", ", ".join(map(repr, PAIRS.columns))),
    "detection_scores": (
        plots.detection_scores,
        "summary",
        ", ".join(map(repr, DETECTED.columns)),
    ),
    "class_distributions": (plots.class_distributions, "scores", "'action', 'class'"),
    "difficulty_ranks": (plots.difficulty_ranks, "frame", "'outside_rank', 'score_rank'"),
    "quantile_curves": (plots.quantile_curves, "frame", ", ".join(map(repr, QUANTILE))),
    "stability_curves": (plots.stability_curves, "frame", ", ".join(map(repr, STABILITY))),
    "accuracy_curves": (plots.accuracy_curves, "frame", ", ".join(map(repr, ACCURACY))),
    "learning_curves": (plots.learning_curves, "frame", ", ".join(map(repr, LEARNING))),
    "mean_score_curves": (plots.mean_score_curves, "frame", ", ".join(map(repr, MEAN_SCORE))),
    "curve_clusters": (plots.curve_clusters, "frame", ", ".join(map(repr, CLUSTERS))),
    "loss_curves": (plots.loss_curves, "frame", "'run_id', 'sample_id', 'step', 'loss'"),
}


@pytest.mark.parametrize(("draw", "argument", "columns"), MISSING.values(), ids=MISSING.keys())
def test_a_missing_column_is_named(draw, argument, columns):
    text = f"{argument}: must have the column {columns}, got ['x']. Add it, or name another column."
    with pytest.raises(ParameterError, match=message(text)):
        draw(empty("x"))


def test_the_given_axes_are_used_and_returned(scores, curves, table):
    figure = Figure(layout="constrained")
    grid = figure.subplots(5).tolist()
    wide = pd.DataFrame({"a": [1, 2], "b": [2, 3]})
    assert plots.score_histogram(scores, ax=grid[0]) is grid[0]
    assert plots.class_distributions(scores, ax=grid[1]) is grid[1]
    assert plots.correlation_heatmap(table, ax=grid[2]) is grid[2]
    assert plots.loss_curves(curves, ax=grid[3]) is grid[3]
    assert plots.model_scatter(wide, ax=grid[4]) is grid[4]


def test_the_caller_s_settings_are_left_alone(scores):
    before = dict(plt.rcParams)
    plots.class_distributions(scores)
    assert dict(plt.rcParams) == before


def test_long_names_and_formula_signs_are_not_clipped(scores, curves, table):
    name = f"{LONG} costs $5 or $x_"
    scores = scores.replace({"class": {"ant": name}, "run_name": {"cnn 0": name}})
    axes = [
        plots.class_distributions(scores),
        plots.class_distributions(scores, kind="violin"),
        plots.score_histogram(scores, hue="run_name"),
        plots.correlation_heatmap(table.rename(columns={"ant": name}, index={"cnn twice": name})),
        plots.loss_curves(curves.replace({"class": {"ant": name}})),
        plots.model_scatter(pd.DataFrame({name: range(4), "b": range(4)})),
    ]
    for figure in [*(ax.figure for ax in axes), plots.gallery([None] * 3, [name] * 3, columns=2)]:
        assert_nothing_clipped(figure)
    for ax in (axes[0], axes[1], axes[3]):
        assert_rows_do_not_overlap(ax)


def test_the_same_figure_gives_the_same_bytes(scores, curves, tmp_path):
    for draw in (
        lambda: plots.score_histogram(scores, hue="model").figure,
        lambda: plots.class_distributions(scores).figure,
        lambda: plots.loss_curves(curves).figure,
        lambda: plots.gallery([None, np.eye(4)], ["a", "b"]),
    ):
        formats = ("png", "svg", "pdf")
        first, second = (plots.save_figure(draw(), tmp_path / d / "f.v1", formats) for d in "ab")
        assert [path.name for path in first] == ["f.v1.png", "f.v1.svg", "f.v1.pdf"]
        for one, two in zip(first, second, strict=True):
            assert one.read_bytes() == two.read_bytes()
        assert b"<dc:date>" not in first[1].read_bytes()


def test_saving_closes_a_pyplot_figure(tmp_path):
    figure, _ = plt.subplots()
    plots.save_figure(figure, tmp_path / "f")
    assert plt.get_fignums() == []


def test_an_unknown_format_is_refused(tmp_path):
    text = (
        "formats: must come from ['png', 'svg', 'pdf'], got ['bmp']. "
        "Convert a PNG to any other format."
    )
    with pytest.raises(ParameterError, match=message(text)):
        plots.save_figure(Figure(), tmp_path / "f", formats=("png", "bmp"))
