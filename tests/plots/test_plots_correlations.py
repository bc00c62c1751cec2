import numpy as np
import pandas as pd
import pytest
from figure_checks import CLASSES, STABILITY, assert_nothing_clipped, texts
from helpers import message

from actiontrack import compare, plots
from actiontrack.errors import ParameterError


def test_scatter_points_are_the_scores():
    wide = pd.DataFrame({"cnn": [1.0, 2.0, np.nan, 4.0], "resnet": [2.0, 1.0, 3.0, 5.0]})
    axes = plots.model_scatter(wide)
    expected = [[1.0, 2.0], [2.0, 1.0], [4.0, 5.0]]
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), expected)
    title = "1 sample not finite, not drawn\nSpearman ρ = 0.500, 3 samples"
    assert axes.get_title(loc="left") == title
    assert axes.get_xlabel() == "cnn (loss × Δn)"
    assert axes.get_ylabel() == "resnet (loss × Δn)"


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


def ranks(n_samples, **attrs):
    rng = np.random.default_rng(2)
    frame = pd.DataFrame(rng.random((n_samples, 2)), columns=["outside_rank", "score_rank"])
    frame.attrs |= attrs
    return frame


def test_ranks_of_few_samples_are_points_beside_the_diagonal():
    frame = ranks(60, outside="entropy", score="final_loss", n_runs=3)
    axes = plots.difficulty_ranks(frame)
    np.testing.assert_array_equal(axes.collections[0].get_offsets(), frame.to_numpy())
    assert axes.lines[0].get_xydata().tolist() == [[0, 0], [1, 1]]
    rho = frame["outside_rank"].corr(frame["score_rank"], method="spearman")
    assert axes.get_title(loc="left") == f"Spearman ρ = {rho:.3f}, 60 samples"
    assert axes.get_xlabel() == "rank by entropy, 1 = hardest"
    assert axes.get_ylabel() == "rank by final loss, 1 = hardest, mean of 3 runs"


def test_ranks_of_many_samples_are_counted_in_cells():
    axes = plots.difficulty_ranks(ranks(10_000))
    assert axes.collections[0].get_array().sum() == 10_000
    assert [bar.get_ylabel() for bar in axes.figure.axes[1:]] == ["samples in a cell"]
    assert axes.get_xlabel() == "rank by outside difficulty, 1 = hardest"
    assert_nothing_clipped(axes.figure)
