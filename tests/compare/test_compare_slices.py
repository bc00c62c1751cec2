"""Slices against SciPy's rank test of each class, real permutations and a real bootstrap."""

import re

import numpy as np
import pytest
from scipy import stats

from actiontrack.compare import (
    Grouping,
    Strata,
    false_discovery_rates,
    slice_effects,
    slice_interval,
)
from actiontrack.errors import ParameterError


@pytest.fixture(scope="module")
def drawn():
    """Scores of 600 samples in 4 classes, with ties, and 3 groups of which the last is harder."""
    rng = np.random.default_rng(3)
    classes, groups = rng.integers(4, size=600), rng.integers(3, size=600)
    values = np.round(rng.gamma(2.0, size=600) + classes + 0.4 * (groups == 2), 1)
    return values, classes, groups


def superiority(values, classes, members):
    """The chance of SciPy's Mann-Whitney test in each class, weighted as documented."""
    total = weights = 0.0
    for label in np.unique(classes):
        inside = values[(classes == label) & members]
        outside = values[(classes == label) & ~members]
        if inside.size and outside.size:
            weight = inside.size * outside.size / (inside.size + outside.size)
            wins = stats.mannwhitneyu(inside, outside).statistic
            total += weight * wins / (inside.size * outside.size)
            weights += weight
    return total / weights


@pytest.mark.parametrize("group", [0, 1, 2])
def test_the_effect_is_the_chance_of_the_rank_test_of_each_class(drawn, group):
    values, classes, groups = drawn
    effects = slice_effects(Strata.of([values], classes), Grouping(groups, 3))
    assert effects.p_harder[group] == pytest.approx(superiority(values, classes, groups == group))
    assert effects.sizes[group] == (groups == group).sum()


def test_without_classes_the_p_value_is_that_of_the_rank_test(drawn):
    values, _, groups = drawn
    effects = slice_effects(Strata.of([values]), Grouping(groups, 3))
    expected = stats.mannwhitneyu(
        values[groups == 1], values[groups != 1], method="asymptotic", use_continuity=False
    )
    assert effects.p_values[1] == pytest.approx(expected.pvalue)


def test_the_p_value_is_that_of_permutations_within_classes(drawn):
    values, classes, groups = drawn
    rng, strata = np.random.default_rng(0), Strata.of([values], classes)
    observed = slice_effects(strata, Grouping(groups, 3))
    extreme = np.zeros(3)
    for _ in range(4000):
        permuted = groups.copy()
        for label in range(4):
            rows = np.flatnonzero(classes == label)
            permuted[rows] = groups[rng.permutation(rows)]
        drawn_effects = slice_effects(strata, Grouping(permuted, 3)).p_harder
        extreme += np.abs(drawn_effects - 0.5) >= np.abs(observed.p_harder - 0.5) - 1e-12
    np.testing.assert_allclose(observed.p_values, extreme / 4000, atol=0.025)


def test_the_interval_is_that_of_a_bootstrap_over_samples(drawn):
    values, classes, groups = drawn
    rng = np.random.default_rng(1)
    resampled = []
    for _ in range(800):
        rows = rng.integers(values.size, size=values.size)
        resampled.append(superiority(values[rows], classes[rows], groups[rows] == 2))
    interval = slice_interval(Strata.of([values], classes), groups == 2, times=2000)
    np.testing.assert_allclose(interval, np.quantile(resampled, [0.025, 0.975]), atol=0.012)


def test_ranks_of_several_runs_are_averaged(drawn):
    values, classes, groups = drawn
    other = np.random.default_rng(9).normal(size=values.size)
    both = slice_effects(Strata.of([values, other], classes), Grouping(groups, 3)).p_harder
    one, two = (
        slice_effects(Strata.of([row], classes), Grouping(groups, 3)).p_harder
        for row in (values, other)
    )
    np.testing.assert_allclose(both, (one + two) / 2)


def test_a_group_that_is_a_whole_class_is_compared_with_nothing():
    classes = np.array([0, 0, 0, 1, 1, 1])
    effects = slice_effects(Strata.of([np.arange(6.0)], classes), Grouping(classes, 2))
    assert np.isnan(effects.p_harder).all()
    assert np.isnan(effects.p_values).all()
    assert np.isnan(slice_interval(Strata.of([np.arange(6.0)], classes), classes == 1)).all()


def test_a_constant_score_gives_no_p_value():
    effects = slice_effects(Strata.of([np.zeros(6)]), Grouping(np.array([0, 1] * 3), 2))
    np.testing.assert_array_equal(effects.p_harder, [0.5, 0.5])
    assert np.isnan(effects.p_values).all()


def test_groups_of_two_attributes_are_crossed():
    crossed = Grouping(np.array([0, 1, 1]), 2).crossed(Grouping(np.array([2, 0, 1]), 3))
    assert crossed.codes.tolist() == [2, 3, 4]
    assert crossed.sizes().tolist() == [0, 0, 1, 1, 1, 0]


def test_rates_of_false_discoveries_are_those_of_scipy_without_what_was_not_tried():
    rates = false_discovery_rates([0.01, np.nan, 0.04, 0.03])
    expected = stats.false_discovery_control([0.01, 0.04, 0.03])
    np.testing.assert_allclose(rates[[0, 2, 3]], expected)
    assert np.isnan(rates[1])


@pytest.mark.parametrize(
    ("values", "classes", "text"),
    [
        ([[1.0, np.nan]], None, "values: must be finite"),
        ([[1.0, 2.0]], [0, 1, 2], "classes: must be integers of shape (2,)"),
        ([[1.0, 2.0]], [0.5, 1.0], "classes: must be integers of shape (2,)"),
    ],
)
def test_what_is_refused(values, classes, text):
    with pytest.raises(ParameterError, match=re.escape(text)):
        Strata.of(values, classes)
