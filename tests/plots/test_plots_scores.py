import numpy as np
import pandas as pd
import pytest
from figure_checks import texts
from helpers import message

from actiontrack import plots
from actiontrack.errors import ParameterError


def test_histogram_counts_are_those_of_numpy(scores):
    axes = plots.score_histogram(scores, bins=10)
    expected, edges = np.histogram(scores["action"].to_numpy(float), bins=10)
    path = axes.collections[0].get_paths()[0].vertices
    for count, low, high in zip(expected, edges[:-1], edges[1:], strict=True):
        inside = (path[:, 0] > low - 1e-9) & (path[:, 0] < high + 1e-9)
        assert count in path[inside, 1]
    assert path[:, 1].max() == expected.max()
    assert axes.get_xlabel() == "action (loss × Δn)"
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


@pytest.mark.parametrize(
    ("kind", "unit"), [("epoch", "loss × epochs"), ("wall_time", "loss × s"), (None, "loss × Δn")]
)
def test_the_unit_of_an_action_is_that_of_the_frame_s_delta(scores, kind, unit):
    scores.attrs = {} if kind is None else {"delta_kind": kind}
    for draw in (plots.score_histogram, plots.class_distributions):
        assert draw(scores).get_xlabel() == f"action ({unit})"


@pytest.mark.parametrize(
    ("score", "label"),
    [
        ("aum", "aum (logits)"),
        ("forgetting", "forgetting (events)"),
        ("final_loss", "final loss"),
        ("loss_variance", "loss variance (loss²)"),
        ("my_column", "my column"),
    ],
)
def test_other_scores_have_units_of_their_own(scores, score, label):
    renamed = scores.rename(columns={"action": score})
    renamed.attrs["delta_kind"] = "epoch"
    assert plots.score_histogram(renamed, score=score).get_xlabel() == label


def test_a_unit_that_is_passed_is_written(scores):
    assert plots.score_histogram(scores, unit="nats").get_xlabel() == "action (nats)"
