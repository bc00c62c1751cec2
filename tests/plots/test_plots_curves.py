import numpy as np
import pandas as pd
import pytest
from figure_checks import ACCURACY, CLASSES, CLUSTERS, LEARNING, texts
from scipy import stats

from actiontrack import plots


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


CUT = "intervals cut at 0 and 1, none where they would span both"


def accuracies(*runs):
    rows = [
        (f"run {run}", "a", "action", threshold, accuracy)
        for run, curve in enumerate(runs)
        for threshold, accuracy in enumerate(curve)
    ]
    return pd.DataFrame(rows, columns=ACCURACY)


def test_two_runs_have_no_interval_and_a_note_says_so():
    axes = plots.accuracy_curves(accuracies([0.9, 0.5], [0.7, 0.6]))
    assert axes.lines[0].get_ydata().tolist() == [pytest.approx(0.8), pytest.approx(0.55)]
    assert not [each for each in axes.collections if each.get_paths()]
    assert axes.get_title(loc="left") == "no interval where only two runs have a value"


def test_an_interval_ends_at_zero_and_one_and_a_note_says_so():
    axes = plots.accuracy_curves(accuracies([0.99, 0.1], [0.9, 0.0], [0.95, 0.2]))
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == (0.0, 1.0)
    assert axes.get_title(loc="left") == CUT


def test_an_interval_from_zero_to_one_is_not_drawn():
    axes = plots.accuracy_curves(accuracies([0.9, 0.0], [0.92, 1.0], [0.91, 1.0]))
    (path,) = axes.collections[0].get_paths() or [None]
    assert path is None or path.vertices[:, 0].max() == 0  # the first threshold alone
    assert axes.get_title(loc="left") == CUT


def test_an_interval_inside_needs_no_note():
    runs = [0.5, 0.6], [0.52, 0.61], [0.51, 0.59]
    axes = plots.accuracy_curves(accuracies(*runs))
    low, high = stats.t.interval(0.95, 2, 0.51, stats.sem([0.5, 0.52, 0.51]))
    at_zero = axes.collections[0].get_paths()[0].vertices
    ends = at_zero[at_zero[:, 0] == 0, 1]
    assert (ends.min(), ends.max()) == (pytest.approx(low), pytest.approx(high))
    assert axes.get_title(loc="left") == ""
