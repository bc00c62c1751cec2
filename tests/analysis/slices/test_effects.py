"""The table of slices: what is tried, what is listed, in which order."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import message
from scipy import stats

from actiontrack.analysis import slices
from actiontrack.errors import DataError, NotComparableError, ParameterError
from actiontrack.testing import make_history

N = 900


@pytest.fixture(scope="module")
def biased():
    """A history whose samples of group "night" of an attribute are harder, and attributes."""
    rng = np.random.default_rng(5)
    history = make_history(n_steps=2, n_samples=N, n_classes=3)
    frame = pd.DataFrame({
        "sample_id": np.arange(N),
        "light": rng.choice(["day", "dusk", "night"], size=N),
        "camera": rng.choice(["front", "rear"], size=N),
        "angle": rng.normal(size=N),
    })  # fmt: skip
    night = (frame["light"] == "night").to_numpy()
    losses = history.losses + night.astype(np.float32) * 0.2
    return replace(history, losses=losses), frame


@pytest.fixture
def opened(record, biased):
    return record(biased[0])


def test_the_hardest_slice_comes_first_with_its_numbers(opened, biased):
    history, frame = biased
    result = slices.slices(slices.sliced([opened], frame), pairs=False)
    row = result.table.iloc[0]
    night = (frame["light"] == "night").to_numpy()
    action = history.losses.astype(float).sum(axis=0)
    assert (row["slice"], row["n"]) == ("light = night", night.sum())
    assert row["mean"] == pytest.approx(action[night].mean())
    assert row["mean_rest"] == pytest.approx(action[~night].mean())
    overall = stats.mannwhitneyu(action[night], action[~night]).statistic
    assert row["p_harder_overall"] == pytest.approx(overall / night.sum() / (~night).sum())
    assert row["ci_low"] < row["p_harder"] < row["ci_high"]
    assert row["rank_difference"] == pytest.approx(row["p_harder"] - 0.5)
    assert result.table["p_harder"].is_monotonic_decreasing
    assert set(result.table["slice"]) == {"light = night", "light = day", "light = dusk"}


def test_all_that_was_tried_counts_for_the_rate_of_false_discoveries(opened, biased):
    every = slices.slices(slices.sliced([opened], biased[1]), false_discovery_rate=1)
    assert len(every.table) == every.n_tried
    expected = stats.false_discovery_control(every.table["p_value"])
    np.testing.assert_allclose(every.table["q_value"], expected)
    listed = slices.slices(slices.sliced([opened], biased[1]))
    assert len(listed.table) == (expected <= 0.05).sum()


def test_pairs_hold_the_samples_of_both_groups(opened, biased):
    frame = biased[1]
    table = slices.slices(slices.sliced([opened], frame), false_discovery_rate=1).table
    sizes = table.set_index("slice")["n"]
    both = (frame["light"] == "night") & (frame["camera"] == "rear")
    assert sizes["light = night & camera = rear"] == both.sum()
    labels = biased[0].labels
    assert (
        sizes["light = night & class = class 1"]
        == ((frame["light"] == "night") & (labels == 1)).sum()
    )


def test_a_pair_that_is_the_whole_of_a_group_is_tried_once(opened, biased):
    frame = biased[1].assign(twin=biased[1]["light"].str.upper())
    table = slices.slices(
        slices.sliced([opened], frame, columns=["light", "twin"]), false_discovery_rate=1
    ).table
    assert not table["slice"].str.contains("light = .* & twin").any()


def test_an_attribute_that_only_names_the_class_is_nothing_by_itself(opened, biased):
    frame = biased[1].assign(animal=np.array(["cat", "dog", "owl"])[biased[0].labels])
    table = slices.slices(slices.sliced([opened], frame), false_discovery_rate=1).table
    assert not table["slice"].str.startswith("animal = cat").loc[table["attributes"] == 1].any()


def test_samples_without_a_row_are_missing(opened, biased):
    frame = biased[1].iloc[:600]
    sample_set = slices.sliced([opened], frame, columns=["light"])
    assert sample_set.without_row == N - 600
    (light,) = sample_set.attributes
    assert light.groups[-1] == slices.MISSING
    assert (light.codes == 3).sum() == N - 600


def test_a_small_slice_is_not_tried(opened, biased):
    result = slices.slices(slices.sliced([opened], biased[1]), min_size=200, false_discovery_rate=1)
    assert (result.table["n"] >= 200).all()


def test_columns_without_groups_are_left_out_and_named(opened, biased):
    frame = biased[1].assign(file=[f"{number}.jpg" for number in range(N)], site="one")
    result = slices.slices(slices.sliced([opened], frame))
    assert result.left_out["column"].tolist() == ["file", "site"]


def test_a_low_score_may_be_the_hard_one(opened, biased):
    sample_set = slices.sliced([opened], biased[1], score="aum")
    np.testing.assert_array_equal(sample_set.hardness, -sample_set.aligned.values)


def test_clean_data_have_no_slices_in_nineteen_of_twenty_runs(record):
    history = make_history(n_steps=1, n_samples=N, n_classes=3)
    opened, with_any = record(history), 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        frame = pd.DataFrame({"sample_id": np.arange(N)} | {
            f"column {number}": rng.integers(4, size=N).astype(str) for number in range(4)
        })  # fmt: skip
        with_any += len(slices.slices(slices.sliced([opened], frame)).table) > 0
    assert with_any <= 2


@pytest.mark.parametrize(
    ("change", "options", "error", "text"),
    [
        (
            {"sample_id": np.arange(N) + N},
            {},
            NotComparableError,
            (
                f"none of the {N} samples of the runs has metadata: their ids look like '0', those "
                f"of the table like '{N}'. Ids are compared as text, never by position: write "
                "those of the record."
            ),
        ),
        (
            {},
            {"columns": ["weather"]},
            ParameterError,
            (
                "columns (--column): must come from light, camera, angle, got 'weather'. Look "
                "into the metadata."
            ),
        ),
        ({}, {"bins": 1}, ParameterError, "bins: must lie in 2..100, got 1. Pass 5."),
        (
            {"light": "day"},
            {"columns": ["light"]},
            DataError,
            "the column 'light' has one group only (day): there is nothing to compare.",
        ),
    ],
)
def test_what_can_not_be_sliced_is_refused(opened, biased, change, options, error, text):
    with pytest.raises(error, match=message(text)):
        slices.sliced([opened], biased[1].assign(**change), **options)


def test_a_constant_score_is_refused(record, biased):
    history = replace(biased[0], losses=np.ones_like(biased[0].losses))
    sample_set = slices.sliced([record(history)], biased[1])
    with pytest.raises(DataError, match="all samples of a class have the same action"):
        slices.slices(sample_set)


def test_slices_that_are_all_too_small_are_refused(opened, biased):
    with pytest.raises(DataError, match="no slice of the 900 samples has 800 of them"):
        slices.slices(slices.sliced([opened], biased[1]), min_size=800)
