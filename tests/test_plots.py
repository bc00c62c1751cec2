import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from actiontrack import compare, plots
from actiontrack.errors import ParameterError

CLASSES = ["ant", "bee", "cat"]
LONG = (
    "a class name far longer than any axis was meant for, the lesser panda of the order carnivora"
)


def message(text):
    return f"^{re.escape(text)}$"


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    rows = [
        {"run_id": f"{model}{seed}", "run_name": f"{model} {seed}", "model": model, "sample_id": i,
         "label": i % 3, "class": CLASSES[i % 3], "action": np.float32(i % 3 + rng.gamma(2.0))}
        for model in ("cnn", "resnet") for seed in (0, 1) for i in range(60)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def curves():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [
            {
                "run_id": "r",
                "sample_id": i,
                "step": n,
                "loss": rng.gamma(2.0),
                "class": CLASSES[i % 3],
            }
            for i in range(4)
            for n in range(1, 6)
        ]
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


# ---------------------------------------------------------------- scores


def test_histogram_counts_are_those_of_numpy(scores):
    axes = plots.score_histogram(scores, bins=10)
    expected, edges = np.histogram(scores["action"].to_numpy(float), bins=10)
    path = axes.collections[0].get_paths()[0].vertices
    for count, low, high in zip(expected, edges[:-1], edges[1:], strict=True):
        inside = (path[:, 0] > low - 1e-9) & (path[:, 0] < high + 1e-9)
        assert count in path[inside, 1]
    assert path[:, 1].max() == expected.max()
    assert axes.get_xlabel() == "action (loss × epochs)"
    assert axes.get_ylabel() == "samples"


def test_histogram_has_one_outline_and_one_legend_entry_per_run(scores):
    axes = plots.score_histogram(scores, hue="run_name", stat="density", unit="")
    assert len(axes.collections) == 4
    assert sorted(texts(axes)) == ["cnn 0", "cnn 1", "resnet 0", "resnet 1"]
    assert axes.get_legend().get_title().get_text() == "run name"
    assert axes.get_xlabel() == "action"
    assert axes.get_ylabel() == "density"


def test_scores_that_are_not_finite_are_counted_on_the_figure(scores):
    scores.loc[[0, 5], "action"] = [np.nan, np.inf]
    for draw in (plots.score_histogram, plots.class_distributions):
        axes = draw(scores)
        assert axes.get_title(loc="left") == "2 samples not finite, not drawn"


@pytest.fixture
def grouped(scores):
    scores["group"] = np.where(scores["sample_id"] < 6, "noisy", "clean")
    scores.loc[scores["run_id"].str.endswith("1"), "group"] = "test"
    return scores


def test_each_group_has_an_outline_of_area_one_the_mean_over_its_runs(grouped):
    axes = plots.noise_distributions(grouped, bins=12)
    assert texts(axes) == [
        "clean, 54 samples in each of 2 runs", "noisy, 6 samples in each of 2 runs",
        "test, 60 samples in each of 2 runs",
    ]  # fmt: skip
    assert axes.get_ylabel() == "density"
    edges = np.histogram_bin_edges(grouped["action"].to_numpy(float), 12)
    for group, outline in zip(("clean", "noisy", "test"), axes.patches[::2], strict=True):
        runs = [part["action"] for _, part in grouped[grouped["group"] == group].groupby("run_id")]
        means = np.mean([np.histogram(each, edges, density=True)[0] for each in runs], axis=0)
        np.testing.assert_allclose(outline.get_data().values, means, rtol=1e-6)
        assert (outline.get_data().values * np.diff(edges)).sum() == pytest.approx(1)


def test_a_band_spans_the_runs_of_a_group(grouped):
    axes = plots.noise_distributions(grouped, bins=12)
    edges = np.histogram_bin_edges(grouped["action"].to_numpy(float), 12)
    runs = [part["action"] for _, part in grouped.query("group == 'clean'").groupby("run_id")]
    low, high = np.sort([np.histogram(each, edges, density=True)[0] for each in runs], axis=0)
    np.testing.assert_allclose(axes.patches[1].get_data().values, high, rtol=1e-6)
    np.testing.assert_allclose(axes.patches[1].get_data().baseline, low, rtol=1e-6)


def test_a_group_of_one_run_is_told_by_its_samples_alone(grouped):
    axes = plots.noise_distributions(grouped[grouped["run_id"] == "cnn0"])
    assert texts(axes) == ["clean, 54 samples", "noisy, 6 samples"]


def test_each_model_has_a_panel_with_its_name(grouped):
    figure = plots.noise_panels(grouped)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["cnn", "resnet"]
    assert texts(figure.axes[0])[0] == "clean, 54 samples"
    assert_nothing_clipped(figure)


DETECTED = pd.DataFrame(
    {
        "model": ["cnn", "cnn", "resnet", "resnet"],
        "score": ["aum", "action", "aum", "action"],
        "auroc_mean": [0.8, 0.95, 0.9, 0.85],
        "auroc_std": [0.01, 0.02, np.nan, np.nan],
    }
)


def test_scores_are_ordered_by_their_mean_auroc_with_a_marker_per_model():
    axes = plots.detection_scores(DETECTED)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["action", "aum"]
    assert texts(axes) == ["cnn", "resnet"]
    drawn = [each.lines[0].get_xdata().tolist() for each in axes.containers]
    assert drawn == [[0.8, 0.95], [0.9, 0.85]]
    bars = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([bar[:, 0] for bar in bars], [[0.79, 0.81], [0.93, 0.97]])
    assert_nothing_clipped(axes.figure)


PAIRS = pd.DataFrame(
    {
        "true_class": ["ant", "ant", "bee"],
        "given_class": ["bee", "cat", "cat"],
        "n_wrong": [4, 2, 1],
        "n_found": [1, 2, 0],
        "share": [0.25, 1.0, 0.0],
    }
)


def test_a_cell_of_the_pairs_tells_found_of_wrong_and_others_are_grey():
    axes = plots.noise_pairs(PAIRS)
    assert [label.get_text() for label in axes.get_yticklabels()] == CLASSES
    assert [text.get_text() for text in axes.texts] == ["1/4", "2/2", "0/1"]
    shown = axes.collections[0].get_array().reshape(3, 3)
    assert shown.mask.tolist() == [[True, False, False], [True, True, False], [True] * 3]
    assert_nothing_clipped(axes.figure)


def test_the_cells_of_many_classes_hold_no_numbers():
    names = [f"class {each}" for each in range(16)]
    pairs = pd.DataFrame({"true_class": names, "given_class": names[::-1]})
    axes = plots.noise_pairs(pairs.assign(n_wrong=2, n_found=1, share=0.5))
    assert not axes.texts
    assert_nothing_clipped(axes.figure)


@pytest.mark.parametrize("kind", ["box", "violin"])
def test_classes_are_ordered_by_median_with_the_hardest_on_top(scores, kind):
    axes = plots.class_distributions(scores, kind=kind)
    medians = scores.groupby("class")["action"].median().sort_values(ascending=False)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(medians.index)
    bottom, top = axes.get_ylim()
    assert top < 0 < bottom
    assert axes.get_ylabel() == ""


def test_boxes_span_the_quartiles_and_whiskers_5_to_95_percent(scores):
    axes = plots.class_distributions(scores)
    for row, label in enumerate(axes.get_yticklabels()):
        values = scores.loc[scores["class"] == label.get_text(), "action"].to_numpy(float)
        low, first, third, high = np.quantile(values, [0.05, 0.25, 0.75, 0.95])
        box = axes.patches[row]
        assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((first, third))
        whiskers, median = axes.collections[2 * row : 2 * row + 2]
        ends = np.array([segment[:, 0] for segment in whiskers.get_segments()])
        np.testing.assert_allclose(ends, [[low, first], [third, high]])
        assert median.get_segments()[0][0, 0] == pytest.approx(np.median(values))
        outside = values[(values < low) | (values > high)]
        np.testing.assert_array_equal(axes.lines[row].get_xdata(), outside)


def test_many_classes_are_cut_to_the_hardest_and_the_figure_says_so():
    frame = pd.DataFrame({"class": [f"c{i}" for i in range(50)], "action": range(50)})
    axes = plots.class_distributions(frame, max_classes=4)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["c49", "c48", "c47", "c46"]
    assert axes.get_title(loc="left") == "the 4 hardest of 50 classes"


def test_an_unknown_kind_is_refused(scores):
    text = "kind: must be 'box' or 'violin', got 'swarm'. Choose one of them."
    with pytest.raises(ParameterError, match=message(text)):
        plots.class_distributions(scores, kind="swarm")


def test_scatter_points_are_the_scores():
    wide = pd.DataFrame({"cnn": [1.0, 2.0, np.nan, 4.0], "resnet": [2.0, 1.0, 3.0, 5.0]})
    axes = plots.model_scatter(wide)
    expected = [[1.0, 2.0], [2.0, 1.0], [4.0, 5.0]]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), expected)
    title = "1 samples not finite, not drawn\nSpearman ρ = 0.500, 3 samples"
    assert axes.get_title(loc="left") == title
    assert axes.get_xlabel() == "cnn (loss × epochs)"
    assert axes.get_ylabel() == "resnet (loss × epochs)"


def test_scatter_colours_classes():
    wide = pd.DataFrame({"a": range(6), "b": range(6), "class": CLASSES * 2})
    assert texts(plots.model_scatter(wide)) == CLASSES


def test_scatter_of_three_runs_is_refused():
    text = (
        "scores_wide: must have two columns of scores, got ['a', 'b', 'c']. "
        "Pivot the score frame to one column per run."
    )
    with pytest.raises(ParameterError, match=message(text)):
        plots.model_scatter(pd.DataFrame({"a": [1], "b": [1], "c": [1]}))


# ---------------------------------------------------------------- correlations


@pytest.fixture
def table():
    return pd.DataFrame(
        [[0.61, -0.2], [0.9, np.nan]],
        index=["cnn / resnet", "cnn twice"],
        columns=["overall", "ant"],
    )


def test_heatmap_writes_each_value_in_its_cell(table):
    axes = plots.correlation_heatmap(table)
    cells = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in axes.texts}
    assert cells == {(0.5, 0.5): "0.61", (0.5, 1.5): "-0.20", (1.5, 0.5): "0.90", (1.5, 1.5): "–"}
    assert [label.get_text() for label in axes.get_xticklabels()] == ["overall", "ant"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cnn / resnet", "cnn twice"]
    assert axes.collections[0].get_clim() == (-0.2, 1.0)
    assert [line.get_ydata()[0] for line in axes.lines] == [1]


def test_heatmap_of_undefined_values_only(table):
    axes = plots.correlation_heatmap(table * np.nan)
    assert [text.get_text() for text in axes.texts] == ["–"] * 4


def test_quantile_curves_draw_the_means_dashed_for_one_model(scores):
    values = scores["action"].to_numpy().reshape(4, 60)
    frame = compare.correlation_by_quantile(values, groups=["cnn", "cnn", "resnet", "resnet"])
    axes = plots.quantile_curves(frame, method="pearson")
    assert texts(axes) == ["cnn / resnet", "cnn twice", "resnet twice"]
    assert [line.get_linestyle() for line in axes.lines[:3]] == ["-", "--", "--"]
    expected = frame[(frame.method == "pearson") & (frame.kind == "cross-model")]
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), expected["mean"])
    assert axes.get_ylabel() == "Pearson's r"
    assert axes.get_xlabel() == "samples at or above this quantile of action"


STABILITY = ("run_id", "run_name", "model", "step", "method", "value")


def stability(models):
    return pd.DataFrame(
        [
            (f"id{run}", f"run {run}", model, step, method, step / 4 - 0.1 * run)
            for run, model in enumerate(models)
            for method in ("spearman", "pearson")
            for step in (1, 2, 3, 4)
        ],
        columns=STABILITY,
    )


def test_stability_draws_a_line_per_run_and_one_at_the_level():
    frame = stability(["cnn", "cnn", "resnet"])
    axes = plots.stability_curves(frame, level=0.9)
    for run in range(3):
        assert axes.lines[run].get_xdata().tolist() == [1, 2, 3, 4]
        expected = frame.query(f"run_id == 'id{run}' and method == 'spearman'")["value"]
        np.testing.assert_array_equal(axes.lines[run].get_ydata(), expected)
    assert set(axes.lines[3].get_ydata()) == {0.9}
    assert texts(axes) == ["cnn", "resnet"]
    assert axes.get_ylabel() == "Spearman's ρ with the full score"


def test_stability_of_one_model_names_the_runs():
    axes = plots.stability_curves(stability(["cnn", "cnn"]), method="pearson")
    assert texts(axes) == ["run 0", "run 1"]
    assert axes.get_ylabel() == "Pearson's r with the full score"


ACCURACY = ("run_id", "model", "score", "threshold", "accuracy")


@pytest.mark.parametrize("models", [("a", "a"), ("a", "b")])
def test_accuracy_curves_draw_the_mean_over_runs(models):
    rows = [
        (f"id{run}", model, score, x, 1 - x + 0.1 * run)
        for run, model in enumerate(models)
        for score in ("action", "entropy")
        for x in (0.0, 0.5, 1.0)
    ]
    frame = pd.DataFrame(rows, columns=ACCURACY)
    axes = plots.accuracy_curves(frame)
    if models == ("a", "a"):
        assert texts(axes) == ["action", "entropy"]
        np.testing.assert_allclose(axes.lines[0].get_ydata(), [1.05, 0.55, 0.05])
    else:
        assert texts(axes) == ["action · a", "entropy · a", "action · b", "entropy · b"]
        np.testing.assert_allclose(axes.lines[2].get_ydata(), [1.1, 0.6, 0.1])


def test_accuracy_is_drawn_between_zero_and_one():
    rows = [(f"id{run}", "a", "action", 0.5, 0.9 * run) for run in (0, 1)]
    low, high = plots.accuracy_curves(pd.DataFrame(rows, columns=ACCURACY)).get_ylim()
    assert (round(low, 1), round(high, 1)) == (0.0, 1.0)


# ---------------------------------------------------------------- curves


def test_each_curve_is_one_sample_in_order_of_its_steps(curves):
    axes = plots.loss_curves(curves.sample(frac=1, random_state=0))
    drawn = dict(zip(texts(axes), axes.lines, strict=True))
    for i in range(4):
        line = drawn[f"{i} · {CLASSES[i % 3]}"]
        expected = curves[curves.sample_id == i]
        np.testing.assert_array_equal(line.get_xdata(), expected["step"])
        np.testing.assert_array_equal(line.get_ydata(), expected["loss"])
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "loss")


def test_curves_are_coloured_by_cluster_when_there_is_one(curves):
    curves["cluster"] = np.where(curves["sample_id"] < 2, "flat", "_rising")
    axes = plots.loss_curves(curves)
    assert texts(axes) == ["flat", "_rising"]
    assert len({line.get_color() for line in axes.lines}) == 2
    assert axes.get_legend().get_title().get_text() == "cluster"


def test_many_curves_are_coloured_by_class_or_not_at_all(curves):
    many = pd.concat(curves.assign(run_id=f"r{i}") for i in range(4))
    assert texts(plots.loss_curves(many)) == CLASSES
    axes = plots.loss_curves(many.drop(columns="class"), step_name="batch", loss_name="nats")
    assert axes.get_legend() is None
    assert len(axes.lines) == 16
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("batch", "nats")


def test_curves_of_two_runs_name_the_run(curves):
    both = pd.concat(
        [curves.assign(run_name="first"), curves.assign(run_id="s", run_name="second")]
    )
    assert "1 · bee · second" in texts(plots.loss_curves(both))


CLUSTERS = ("cluster", "trend", "n_samples", "kind", "rank", "step", "loss")


def test_clusters_draw_a_thick_centre_and_thin_curves_of_its_colour():
    rows = [
        (cluster, trend, size, "closest" if rank else "centre", rank, step, cluster + rank * step)
        for cluster, trend, size in [(1, "increasing", 5), (2, "flat", 95)]
        for rank in range(3)
        for step in (1, 2, 3)
    ]
    frame = pd.DataFrame(rows, columns=CLUSTERS)
    axes = plots.curve_clusters(frame)
    assert texts(axes) == ["1: increasing, 5 samples", "2: flat, 95 samples"]
    assert len(axes.lines) == 6
    for line, (_, part) in zip(axes.lines, frame.groupby(["cluster", "rank"]), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), part["loss"])
    assert [line.get_linewidth() > 2 for line in axes.lines] == [True, False, False] * 2
    assert axes.lines[0].get_color() == axes.lines[2].get_color() != axes.lines[3].get_color()


# ---------------------------------------------------------------- gallery


def test_gallery_shows_each_image_above_its_title():
    images = [np.arange(16, dtype=np.uint8).reshape(4, 4), Image.new("RGB", (5, 4), "red"), None]
    figure = plots.gallery(images, ["cat\naction 3.1", "dog", "bee"], columns=2)
    first, second, third, spare = figure.axes
    np.testing.assert_array_equal(first.images[0].get_array(), images[0] / 255)
    assert first.images[0].get_interpolation() == "nearest"
    assert first.images[0].get_clim() == (0, 1)
    assert second.images[0].get_array()[0, 0].tolist() == [1, 0, 0]
    assert [axes.get_xlabel() for axes in figure.axes] == ["cat\naction 3.1", "dog", "bee", ""]
    assert [text.get_text() for text in third.texts] == ["image not\navailable"]
    assert not third.images
    assert not spare.axison


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I", "I;16"])
def test_gallery_takes_images_of_every_mode(mode):
    (axes,) = plots.gallery([Image.new(mode, (3, 2))], [""]).axes
    pixels = axes.images[0].get_array()
    assert pixels.shape[:2] == (2, 3)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_gallery_takes_one_channel_and_stretches_a_wide_range():
    (axes,) = plots.gallery([np.array([[[-1.0], [3.0]]], np.float32)], [""]).axes
    assert axes.images[0].get_array().tolist() == [[0.0, 1.0]]


def test_large_images_are_smoothed():
    (axes,) = plots.gallery([np.zeros((300, 10))], [""]).axes
    assert axes.images[0].get_interpolation() != "nearest"


GALLERY = {
    "titles": (
        ([None], []),
        {},
        (
            "titles: must hold one title for each of the 1 images, got 0. "
            "Pass '' for an image without a title."
        ),
    ),
    "columns": (
        ([None], [""]),
        {"columns": 0},
        "columns: must be positive, got 0. Pass 6, for instance.",
    ),
    "shape": (
        ([np.zeros((3, 8, 8))], [""]),
        {},
        "images: must have shape (H, W[, 1, 3 or 4]), got (3, 8, 8). Put the channels last.",
    ),
    "boxes": (
        ([None], [""]),
        {"boxes": []},
        (
            "boxes: must hold one frame for each of the 1 images, got 0. "
            "Pass a frame without rows for no box."
        ),
    ),
}


def make_boxes(*rows):
    columns = ["kind", "class", "score", "left", "top", "right", "bottom"]
    return pd.DataFrame(rows, columns=columns)


def test_boxes_enclose_their_pixels():
    boxes = make_boxes(("truth", "cat", np.nan, 2, 10, 5, 18))
    (axes,) = plots.gallery([np.zeros((40, 60))], ["a"], boxes=[boxes]).axes
    (patch,) = axes.patches
    # Pixel 2 is drawn from 1.5 to 2.5, so columns 2 to 4 span 1.5 to 4.5.
    assert patch.get_bbox().extents.tolist() == [1.5, 9.5, 4.5, 17.5]


def test_truth_is_solid_and_predictions_are_dashed_in_another_colour_with_their_score():
    boxes = make_boxes(
        ("truth", "cat", np.nan, 2, 10, 5, 18), ("predicted", "dog", 0.874, 20, 12, 30, 18)
    )
    figure = plots.gallery([np.zeros((40, 60))], ["a"], boxes=[boxes])
    truth, predicted = figure.axes[0].patches
    assert (truth.get_linestyle(), predicted.get_linestyle()) == ("-", "--")
    assert truth.get_edgecolor() != predicted.get_edgecolor()
    assert [each.get_text() for each in figure.axes[0].texts] == ["cat", "dog 0.87"]
    (legend,) = figure.legends
    assert [each.get_text() for each in legend.get_texts()] == ["annotated", "predicted"]


def test_names_of_boxes_at_the_edge_stay_inside_the_image():
    boxes = make_boxes(
        ("truth", "cat", np.nan, 2, 0, 5, 18), ("predicted", "dog", 0.9, 20, 12, 30, 40)
    )
    (axes,) = plots.gallery([np.zeros((40, 60))], ["a"], boxes=[boxes]).axes
    assert [each.get_verticalalignment() for each in axes.texts] == ["top", "bottom"]


def test_an_image_that_is_not_available_has_no_boxes():
    boxes = make_boxes(("truth", "cat", np.nan, 2, 10, 5, 18))
    (axes,) = plots.gallery([None], ["a"], boxes=[boxes]).axes
    assert not axes.patches


@pytest.mark.parametrize(("given", "options", "text"), GALLERY.values(), ids=GALLERY.keys())
def test_gallery_refuses_what_it_cannot_show(given, options, text):
    with pytest.raises(ParameterError, match=message(text)):
        plots.gallery(*given, **options)


# ---------------------------------------------------------------- ensembles


@pytest.fixture
def joint():
    rng = np.random.default_rng(0)
    entropy = rng.beta(0.5, 2, 400)
    action = np.clip(entropy + rng.normal(0, 0.2, 400), 0, 1)
    return pd.DataFrame({"sample_id": range(400), "action": action, "entropy": entropy})


def test_a_joint_distribution_counts_every_sample_once_with_entropy_along_x(joint):
    axes = plots.joint_distribution(joint)
    cells = axes.collections[0]
    assert cells.get_array().sum() == 400
    assert axes.get_xlabel() == "entropy of the ensemble, normalised"
    assert axes.get_ylabel() == "mean action, normalised"
    above, beside, _ = axes.child_axes
    for margin, score in ((above, "entropy"), (beside, "action")):
        expected = np.histogram(joint[score], bins=np.linspace(0, 1, 37))[0]
        assert margin.patches[0].get_data().values.tolist() == expected.tolist()
    rho = joint["action"].corr(joint["entropy"], method="spearman")
    assert above.get_title(loc="left") == f"Spearman ρ = {rho:.3f}, 400 samples"


def test_regions_are_marked_and_counted_in_the_legend(joint):
    regions = joint.head(5).assign(region=["high action, low entropy"] * 2 + ["b, c"] * 3)
    axes = plots.joint_distribution(joint, regions)
    assert texts(axes) == ["b,\nc\n3 samples", "high action,\nlow entropy\n2 samples"]
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), joint["action"].head(2))
    assert_nothing_clipped(axes.figure)


def test_a_joint_distribution_counts_what_is_not_finite(joint):
    joint.loc[[0, 5], "action"] = [np.nan, np.inf]
    above = plots.joint_distribution(joint).child_axes[0]
    assert above.get_title(loc="left").startswith("2 samples not finite, not drawn\n")


# ---------------------------------------------------------------- training sets of growing size


LEARNING = ("strategy", "n_images", "accuracy")
MEAN_SCORE = ("strategy", "n_images", "mean_action", "added")
TRAININGS = pd.DataFrame(
    [
        ("greedy", 200, 0.6, 3.0, "1"),
        ("greedy", 100, 0.4, 2.0, "4"),
        ("random", 100, 0.2, 2.5, ""),
        ("random", 100, 0.4, 2.7, ""),
        ("random", 200, 0.6, 2.6, ""),
    ],
    columns=[*LEARNING, "mean_action", "added"],
)


def test_learning_curves_draw_the_mean_of_each_size_in_a_band_of_its_trainings():
    axes = plots.learning_curves(TRAININGS)
    assert texts(axes) == ["greedy", "random"]
    drawn = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in axes.lines]
    assert drawn == [([100, 200], [0.4, 0.6]), ([100, 200], [pytest.approx(0.3), 0.6])]
    band = axes.collections[1].get_paths()[0].vertices
    assert set(band[band[:, 0] == 100, 1]) == {0.2, 0.4}
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training images", "accuracy")


def test_lines_on_top_of_each_other_all_show():
    same = TRAININGS[TRAININGS["strategy"] == "greedy"]
    axes = plots.learning_curves(pd.concat([same.assign(strategy=str(i)) for i in range(5)]))
    widths = [line.get_linewidth() for line in axes.lines]
    assert widths == sorted(set(widths), reverse=True)


def test_mean_score_curves_tell_what_was_added():
    axes = plots.mean_score_curves(TRAININGS, unit="")
    assert [(text.get_text(), text.xy) for text in axes.texts] == [
        ("1", (200, 3.0)),
        ("4", (100, 2.0)),
    ]
    assert axes.lines[0].get_ydata().tolist() == [2.0, 3.0]
    assert axes.get_ylabel() == "mean action"


# ---------------------------------------------------------------- all of them


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


# ---------------------------------------------------------------- files


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
