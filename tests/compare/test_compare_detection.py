import numpy as np
import pytest
from helpers import message
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import VALUES, runs

from actiontrack import compare
from actiontrack.errors import ParameterError


def test_top_k_overlap_equals_set_intersection():
    values, _ = runs(n=50)
    top = [set(np.argsort(-row)[:10]) for row in values]
    expected = [[len(a & b) / 10 for b in top] for a in top]
    np.testing.assert_allclose(compare.top_k_overlap(values, 10), expected)


def test_top_k_ranks_nan_lowest():
    assert compare.top_k_overlap([[np.nan, 2, 1], [0, 2, 1]], 2)[0, 1] == 1.0


@pytest.mark.parametrize("k", [0, 7])
def test_top_k_refuses_k_outside_the_samples(k):
    text = f"k: must lie in 1..6, the number of samples, got {k}. Choose a smaller k."
    with pytest.raises(ParameterError, match=message(text)):
        compare.top_k_overlap(VALUES, k)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30))
def test_detection_equals_scikit_learn_under_heavy_ties(samples):
    from sklearn import metrics

    values, noisy = np.array([v for v, _ in samples], float), np.array([n for _, n in samples])
    if noisy.all() or not noisy.any():
        return
    frame = compare.detection(
        {"high": values, "low": -values}, noisy, low_is_hard=frozenset({"low"})
    )
    for row in frame.itertuples():
        assert row.auroc == pytest.approx(metrics.roc_auc_score(noisy, values), abs=1e-12)
        expected = metrics.average_precision_score(noisy, values)
        assert row.average_precision == pytest.approx(expected, abs=1e-12)


def test_precision_at_k_counts_the_noisy_among_the_k_highest():
    values = np.random.default_rng(0).normal(size=50)
    noisy = np.random.default_rng(1).random(50) < 0.3
    frame = compare.detection({"s": values}, noisy, ks=[1, 7, 50]).set_index("k")
    ranked = noisy[np.argsort(-values)]
    for k in (1, 7, 50):
        assert frame.loc[k, "precision_at_k"] == pytest.approx(ranked[:k].mean())
    default = compare.detection({"s": values}, noisy)
    assert default["k"].tolist() == [noisy.sum()]


def test_precision_at_k_in_the_middle_of_a_tie_is_the_mean_over_its_orders():
    # 9 is noisy; three samples share 5, one of them noisy: 2 of 3 orders put a clean one second
    frame = compare.detection({"s": [5, 9, 5, 1, 5]}, np.array([1, 1, 0, 0, 0], bool), ks=[2])
    assert frame["precision_at_k"].item() == pytest.approx((1 + 1 / 3) / 2)


def test_samples_without_a_score_are_left_out_and_an_infinite_score_is_the_highest():
    noisy = np.array([1, 0, 1, 0], bool)
    frame = compare.detection({"s": [np.inf, 1, np.nan, 0], "none": [np.nan] * 4}, noisy)
    assert frame["n_dropped"].tolist() == [1, 4]
    assert frame["n_noisy"].tolist() == [1, 0]
    assert frame["auroc"][0] == 1.0
    assert frame[["auroc", "average_precision", "precision_at_k"]].iloc[1].isna().all()


def test_precision_at_more_than_the_scored_samples_is_not_defined():
    frame = compare.detection({"s": [1, 2, np.nan]}, np.array([1, 0, 0], bool), ks=[3])
    assert np.isnan(frame["precision_at_k"].item())


WRONG_DETECTION = {
    "is_noisy: must be bool of shape (samples,), got ('int64', (3,)). Pass label != true_label.": (
        {}, np.array([0, 1, 0]), None
    ),
    "is_noisy: must mark some of the 2 samples and not all, got 0. "
    "Record a run with wrong labels.": ({}, np.zeros(2, bool), None),
    "s: must have shape (2,), got (3,). Pass one score per sample.": (
        {"s": [1, 2, 3]}, np.array([True, False]), None
    ),
    "ks: must lie in 1..2, the number of samples, got [3]. Choose a smaller k.": (
        {}, np.array([True, False]), [1, 3]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "arguments"), WRONG_DETECTION.items())
def test_wrong_arguments_of_detection_are_named(text, arguments):
    given_scores, noisy, ks = arguments
    with pytest.raises(ParameterError, match=message(text)):
        compare.detection(given_scores, noisy, ks=ks)


# ---------------------------------------------------------------- calibration and correction


@settings(deadline=None, max_examples=60)
@given(
    p=st.lists(st.floats(0, 1), min_size=1, max_size=60), seed=st.integers(0, 99),
    n_bins=st.integers(1, 20),
)  # fmt: skip
def test_the_calibration_error_is_the_mean_distance_of_the_bins(p, seed, n_bins):
    outcomes = np.random.default_rng(seed).random(len(p)) < 0.5
    expected = 0.0
    for number in range(n_bins):
        rows = [
            row for row, value in enumerate(p) if min(int(value * n_bins), n_bins - 1) == number
        ]
        if rows:
            distance = abs(np.mean([p[row] for row in rows]) - np.mean(outcomes[rows]))
            expected += distance * len(rows) / len(p)
    assert compare.calibration_error(p, outcomes, n_bins=n_bins) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("p", "outcomes", "text"),
    [
        ([0.5], [True, False], "probabilities: must have shape (2,), of one sample at least, got"),
        ([], [], "probabilities: must have shape (0,), of one sample at least, got (0,)."),
        ([0.5, 1.5], [True, False], "probabilities: must lie in 0..1, got [0.5, 1.5]."),
        ([0.5, np.nan], [True, False], "probabilities: must lie in 0..1, got [nan, nan]."),
    ],
)
def test_a_calibration_error_of_anything_else_is_refused(p, outcomes, text):
    with pytest.raises(ParameterError) as caught:
        compare.calibration_error(p, outcomes)
    assert str(caught.value).startswith(text)


def test_a_correction_counts_what_is_flagged_and_what_is_right():
    assert compare.correction(
        suggested=[1, 2, 0, 0, 2],
        flagged=[True, True, True, False, False],
        labels=[0, 0, 1, 1, 1],
        true_labels=[1, 1, 1, 0, 1],
    ) == {
        "n_wrong": 3.0,
        "n_flagged": 3.0,
        "wrong_of_flagged": pytest.approx(2 / 3),
        "flagged_of_wrong": pytest.approx(2 / 3),
        "right_of_wrong": pytest.approx(2 / 3),
        "right_of_flagged": pytest.approx(1 / 3),
    }


def test_a_share_of_nothing_is_no_number():
    nothing = compare.correction([0], [False], [1], [1])
    assert (nothing["n_wrong"], nothing["n_flagged"]) == (0, 0)
    assert all(np.isnan(nothing[name]) for name in nothing if "_of_" in name)
