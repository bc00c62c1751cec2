"""Ranks of a sample and samples of a region; counts and sorts are checked by hand or by scipy."""

import numpy as np
import pandas as pd
import pytest
from helpers import message
from scipy.stats import rankdata

from actiontrack.analysis.exploration import (
    SampleFilter,
    choose_region,
    choose_samples,
    sample_ranks,
    score_histogram,
)
from actiontrack.errors import ParameterError


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"action": rng.integers(0, 20, 50) / 2.0, "aum": rng.normal(size=50)})
    frame.insert(0, "sample_id", np.arange(50))
    return frame


@pytest.mark.parametrize("row", [0, 17, 49])
def test_rank_is_the_place_among_the_hardest(scores, row):
    ranks = sample_ranks(scores, ["action", "aum"], row).set_index("score")
    assert ranks.loc["action", "rank"] == rankdata(-scores["action"], method="min")[row]
    assert ranks.loc["aum", "rank"] == rankdata(scores["aum"], method="min")[row]  # low is hard
    assert ranks.loc["action", "value"] == scores["action"][row]


def test_percentile_is_the_share_that_is_easier(scores):
    ranks = sample_ranks(scores, ["action", "aum"], 7)
    easier = [
        (scores["action"] < scores["action"][7]).mean(),
        (scores["aum"] > scores["aum"][7]).mean(),
    ]
    np.testing.assert_allclose(ranks["percentile"], 100 * np.array(easier))


def test_a_sample_without_a_score_has_no_rank_and_counts_for_none(scores):
    scores.loc[[3, 4], "action"] = np.nan
    missing = sample_ranks(scores, ["action"], 3).iloc[0]
    assert np.isnan(missing["rank"])
    assert np.isnan(missing["percentile"])
    known = scores["action"].dropna()
    expected = 100 * (known < scores["action"][5]).sum() / 48
    assert sample_ranks(scores, ["action"], 5)["percentile"].item() == pytest.approx(expected)


def test_infinite_scores_are_the_hardest():
    frame = pd.DataFrame({"forgetting": [0.0, np.inf, 1.0, np.inf]})
    ranks = [sample_ranks(frame, ["forgetting"], row)["rank"].item() for row in range(4)]
    assert ranks == [4, 1, 3, 1]


def test_ranks_of_an_unknown_score_are_refused(scores):
    text = "score: must be one of action, aum, sample_id, got 'beauty'. Choose one of these."
    with pytest.raises(ParameterError, match=message(text)):
        sample_ranks(scores, ["beauty"], 0)


def test_a_region_includes_its_bounds_and_keeps_the_order():
    frame = pd.DataFrame({"x": [3.0, 1.0, 2.0, np.nan, 5.0], "y": [0.0, 1.0, 2.0, 1.0, 9.0]})
    assert choose_region(frame, "x", "y", [1, 3, 0, 2])["x"].tolist() == [3, 1, 2]
    assert choose_region(frame, "x", "y", [2, None, None, 8])["x"].tolist() == [3, 2]
    assert choose_region(frame, "x", "y", [None, None, 1, 1]).index.tolist() == [1, 3]


def test_a_region_without_bounds_is_everything():
    frame = pd.DataFrame({"x": [np.nan, 1.0], "y": [1.0, np.nan]})
    pd.testing.assert_frame_equal(choose_region(frame, "x", "y", [None] * 4), frame)


@pytest.mark.parametrize(("x", "region"), [("z", [None] * 4), ("x", [1, 2, 3])])
def test_a_region_that_makes_no_sense_is_refused(x, region):
    frame = pd.DataFrame({"x": [1.0], "y": [1.0]})
    with pytest.raises(ParameterError):
        choose_region(frame, x, "y", region)


@pytest.fixture
def mixed():
    """Six samples of two classes; one without a score, one with an infinite one."""
    return pd.DataFrame(
        {
            "sample_id": [1, 2, 3, 4, 5, 6],
            "class": pd.Categorical(["a", "b", "a", "b", "a", "b"]),
            "action": [2.0, 5.0, np.nan, np.inf, 1.0, 3.0],
            "aum": [1.0, -2.0, 0.0, -9.0, 4.0, -1.0],
            "correct": [True, False, True, False, True, True],
        }
    )


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [1, 2, 3, 4, 5, 6]),
        ({"order": "hardest"}, [4, 2, 6, 1, 5, 3]),
        ({"order": "easiest"}, [5, 1, 6, 2, 4, 3]),
        ({"order": "hardest", "score": "aum"}, [4, 2, 6, 3, 1, 5]),
        ({"order": "easiest", "score": "aum"}, [5, 1, 3, 6, 2, 4]),
        ({"sample_filter": SampleFilter(low=2.0, high=5.0)}, [1, 2, 6]),
        ({"sample_filter": SampleFilter(low=-np.inf)}, [1, 2, 4, 5, 6]),
        ({"sample_filter": SampleFilter(classes=("b",), correct="wrong")}, [2, 4]),
        ({"sample_filter": SampleFilter(correct="correct"), "order": "hardest"}, [6, 1, 5, 3]),
        ({"sample_filter": SampleFilter(low=9.0, high=8.0)}, []),
    ],
)
def test_samples_are_chosen_and_ordered(mixed, options, expected):
    assert choose_samples(mixed, **options)["sample_id"].tolist() == expected


@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"score": "beauty"}, "score"),
        ({"score": "class"}, "score"),
        ({"order": "best"}, "order"),
        ({"sample_filter": SampleFilter(classes=("a", "c"))}, "class"),
        ({"sample_filter": SampleFilter(correct="maybe")}, "correct"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused(mixed, options, argument):
    with pytest.raises(ParameterError) as caught:
        choose_samples(mixed, **options)
    assert caught.value.argument == argument


def test_predictions_that_were_not_recorded_are_not_asked_for(mixed):
    with pytest.raises(ParameterError, match="without predictions"):
        choose_samples(mixed.drop(columns="correct"), SampleFilter(correct="wrong"))


def test_a_histogram_leaves_out_what_is_not_finite(mixed):
    found = score_histogram(mixed, bins=2)
    assert found.to_numpy().tolist() == [["all", 1.0, 3.0, 2], ["all", 3.0, 5.0, 2]]


def test_classes_are_counted_in_the_same_bins(mixed):
    found = score_histogram(mixed, bins=2, by_class=True)
    counts = found.pivot_table(index="class", columns="low", values="count", observed=True)
    assert counts.to_numpy().tolist() == [[2, 0], [0, 2]]


def test_a_histogram_of_nothing_is_empty(mixed):
    assert score_histogram(mixed.iloc[[2, 3]]).empty


@pytest.mark.parametrize("bins", [0, 1001])
def test_bins_out_of_range_are_refused(mixed, bins):
    with pytest.raises(ParameterError, match="bins"):
        score_histogram(mixed, bins=bins)
