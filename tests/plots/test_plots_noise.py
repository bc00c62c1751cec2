import numpy as np
import pandas as pd
import pytest
from figure_checks import CLASSES, DETECTED, PAIRS, assert_nothing_clipped, texts

from actiontrack import plots


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


def test_a_panel_shows_a_name_with_dollar_signs_as_it_is(grouped):
    figure = plots.noise_panels(grouped.assign(model="$a$"))
    figure.draw_without_rendering()
    assert figure.axes[0].get_title(loc="left") == r"\$a\$"


def test_scores_are_ordered_by_their_mean_auroc_with_a_marker_per_model():
    axes = plots.detection_scores(DETECTED)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["action", "aum"]
    assert texts(axes) == ["cnn", "resnet"]
    drawn = [each.lines[0].get_xdata().tolist() for each in axes.containers]
    assert drawn == [[0.8, 0.95], [0.9, 0.85]]
    bars = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose([bar[:, 0] for bar in bars], [[0.79, 0.81], [0.93, 0.97]])
    assert_nothing_clipped(axes.figure)


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


def test_a_bar_of_a_standard_deviation_ends_at_one():
    summary = pd.DataFrame(
        {"model": ["cnn"], "score": ["aum"], "auroc_mean": [0.98], "auroc_std": [0.05]}
    )
    axes = plots.detection_scores(summary)
    (bar,) = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(bar[:, 0], [0.93, 1.0])
