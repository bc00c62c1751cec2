import numpy as np
import pandas as pd
import pytest
from helpers import message
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import NAMES, runs
from scipy import stats

from actiontrack import compare
from actiontrack.errors import ParameterError


def test_class_summary_equals_pandas_groupby():
    values, labels = runs()
    score = values[0]
    summary = compare.class_summary(score, labels, class_names=NAMES)
    groups = pd.DataFrame({"score": score.astype(float), "class": np.array(NAMES)[labels]})
    groups = groups.groupby("class")["score"]
    got = summary.set_index("class")
    for column in ("mean", "std", "median", "min", "max"):
        np.testing.assert_allclose(got.loc[NAMES, column], groups.agg(column)[NAMES], rtol=1e-12)
    for column, q in (("q05", 0.05), ("q25", 0.25), ("q75", 0.75), ("q95", 0.95)):
        np.testing.assert_allclose(got.loc[NAMES, column], groups.quantile(q)[NAMES], rtol=1e-12)
    assert list(summary["rank"]) == [1, 2, 3, 4]
    assert summary["median"].is_monotonic_decreasing
    assert summary["n"].sum() == 200


def test_class_summary_counts_non_finite_scores_and_puts_empty_classes_last():
    summary = compare.class_summary(
        np.array([1, np.nan, 5, np.inf], np.float32), [0, 0, 2, 2], class_names=NAMES
    )
    assert list(summary) == [
        "rank", "class", "n", "mean", "std", "median",
        "q05", "q25", "q75", "q95", "min", "max", "n_nonfinite",
    ]  # fmt: skip
    assert list(summary["class"]) == ["cat", "ant", "bee", "dog"]
    assert list(summary["n"]) == [1, 1, 0, 0]
    assert list(summary["n_nonfinite"]) == [1, 1, 0, 0]
    assert summary["median"].tolist()[:2] == [5.0, 1.0]
    assert summary["std"].isna().all()


def test_class_summary_of_nothing():
    summary = compare.class_summary([], np.array([], int), class_names=NAMES)
    assert list(summary["n"]) == [0, 0, 0, 0]
    assert summary["q05"].isna().all()


def test_accuracy_worked_by_hand():
    frame = compare.accuracy_by_threshold(
        np.array([0.0, 0.25, 0.25, 1.0, np.nan], np.float32),
        [True, True, False, False, True],
        thresholds=[0.0, 0.25, 0.3, 1.1],
    )
    assert frame["threshold"].tolist() == [0.0, 0.25, 0.3, 1.1]
    assert frame["n"].tolist() == [4, 3, 1, 0]
    np.testing.assert_allclose(frame["accuracy"], [0.5, 1 / 3, 0.0, np.nan])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=20))
def test_accuracy_is_that_of_the_samples_at_or_above_each_threshold(samples):
    score = np.array([s for s, _ in samples], float)
    correct = np.array([c for _, c in samples], bool)
    frame = compare.accuracy_by_threshold(score, correct, thresholds=[0, 1, 2.5, 4, 5])
    for row in frame.itertuples(index=False):
        kept = correct[score >= row.threshold]
        assert row.n == kept.size
        assert row.accuracy == pytest.approx(kept.mean() if kept.size else np.nan, nan_ok=True)


def test_accuracy_refuses_shapes_and_values_that_do_not_fit():
    text = "correct: must have shape (2,), got (3,). Pass one bit per sample."
    with pytest.raises(ParameterError, match=message(text)):
        compare.accuracy_by_threshold([0.0, 1.0], [1, 0, 1], thresholds=[0])
    text = "correct: must be bool or 0/1, got 2. Pass prediction == label."
    with pytest.raises(ParameterError, match=message(text)):
        compare.accuracy_by_threshold([0.0, 1.0], [1, 2], thresholds=[0])
    text = "score: must have shape (samples,), got (1, 2). Pass one score per sample."
    with pytest.raises(ParameterError, match=message(text)):
        compare.accuracy_by_threshold([[0.0, 1.0]], [1, 0], thresholds=[0])


def test_regions_lie_beyond_the_quantiles_of_the_difference():
    rng = np.random.default_rng(0)
    action, entropy = rng.random((2, 1000)).astype(np.float32)
    found = pd.Series(compare.regions_of_interest(action, entropy, share=0.03))
    difference = pd.Series(action - entropy)
    assert found[difference.nlargest(30).index].eq("high action, low entropy").all()
    assert found[difference.nsmallest(30).index].eq("low action, high entropy").all()
    assert found.eq("").sum() == 940


def test_scores_that_agree_have_no_region():
    assert compare.regions_of_interest([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]).tolist() == ["", "", ""]


def test_a_region_has_the_sign_of_its_name():
    found = compare.regions_of_interest([0.0, 0.1, 0.2], [0.5, 0.7, 0.9], share=0.4)
    assert found.tolist() == ["", "", "low action, high entropy"]


def test_a_sample_without_a_finite_score_is_in_no_region():
    action, entropy = [np.nan, 1.0, 0.2, 0.1], [0.0, 0.0, np.inf, 1.0]
    assert compare.regions_of_interest(action, entropy, share=0.5).tolist() == [
        "", "high action, low entropy", "", "low action, high entropy"
    ]  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.6, np.nan])
def test_a_share_out_of_range_is_refused(share):
    text = (
        f"share: must lie above 0 and at most at 0.5, got {share}. "
        "Pass 0.02 for 2 % of the samples in each region."
    )
    with pytest.raises(ParameterError, match=message(text)):
        compare.regions_of_interest([0.1], [0.2], share=share)


def test_regions_of_different_samples_are_refused():
    text = "entropy: must have shape (1,), got (2,). Pass both scores of the same samples."
    with pytest.raises(ParameterError, match=message(text)):
        compare.regions_of_interest([0.1], [0.2, 0.3])


def test_the_interval_of_a_mean_is_that_of_scipy_with_missing_runs_left_out():
    values = np.random.default_rng(0).normal(size=(5, 4))
    values[0, 1], values[1:, 2], values[:, 3] = np.nan, np.nan, np.nan
    mean, low, high = compare.mean_interval(values)
    for column, kept in ((0, values[:, 0]), (1, values[1:, 1])):
        expected = stats.ttest_1samp(kept, 0).confidence_interval(0.95)
        assert mean[column] == pytest.approx(kept.mean())
        assert (low[column], high[column]) == pytest.approx((expected.low, expected.high))
    assert mean[2] == values[0, 2]
    assert np.isnan([low[2], high[2], mean[3], low[3]]).all()
