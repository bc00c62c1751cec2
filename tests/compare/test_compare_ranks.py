from itertools import combinations_with_replacement

import numpy as np
import pytest
from helpers import message
from hypothesis import given, settings
from random_runs import runs, tied_runs
from scipy import stats

from actiontrack import compare
from actiontrack.compare.ranks import dense_ranks
from actiontrack.errors import ParameterError


def test_mid_ranks_of_a_tie_worked_by_hand():
    ranks = compare.average_ranks(np.array([[5, 1, 5, 5, 0]], np.float32))
    assert ranks.dtype == np.float64
    assert ranks.tolist() == [[4.0, 2.0, 4.0, 4.0, 1.0]]


def test_spearman_worked_by_hand_with_ties():
    # ranks 1.5 1.5 3 4 and 1 2.5 2.5 4: deviations -1 -1 .5 1.5 and -1.5 0 0 1.5
    matrix = compare.spearman_matrix([[0, 0, 1, 2], [0, 7, 7, 9]])
    assert matrix[0, 1] == pytest.approx((1.5 + 1.5**2) / 4.5, abs=1e-15)


@settings(deadline=None)
@given(tied_runs(min_side=3, max_side=12))
def test_matrices_equal_scipy_pair_by_pair_under_heavy_ties(values):
    spearman, pearson = compare.spearman_matrix(values), compare.pearson_matrix(values)
    constant = np.ptp(values, axis=1) == 0
    for a, b in combinations_with_replacement(range(len(values)), 2):
        there_and_back = [a, b], [b, a]
        if constant[a] or constant[b]:
            assert np.isnan(spearman[there_and_back]).all()
            assert np.isnan(pearson[there_and_back]).all()
        else:
            rho = stats.spearmanr(values[a], values[b]).statistic
            r = stats.pearsonr(values[a].astype(float), values[b].astype(float)).statistic
            assert spearman[there_and_back] == pytest.approx(rho, abs=1e-12)
            assert pearson[there_and_back] == pytest.approx(r, abs=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, -3.3e-38])
@pytest.mark.parametrize("matrix", [compare.spearman_matrix, compare.pearson_matrix])
def test_a_constant_run_gives_nan_and_no_warning(matrix, value):
    result = matrix(np.array([[value] * 7, range(7)], np.float32))
    assert np.isnan(result[0]).all()
    assert np.isnan(result[:, 0]).all()
    assert result[1, 1] == 1.0


def test_float32_is_centred_in_float64():
    rng = np.random.default_rng(0)
    values = (4096 + rng.integers(0, 8, (2, 500)) / 1024).astype(np.float32)
    expected = np.corrcoef(values.astype(np.float64))[0, 1]
    assert compare.pearson_matrix(values)[0, 1] == pytest.approx(expected, abs=1e-13)


def test_pearson_does_not_overflow_or_vanish_with_the_scale():
    values, _ = runs(n=50, n_runs=2)
    scaled = values.astype(np.float64) * np.array([[1e250], [1e-250]])
    expected = compare.pearson_matrix(values)
    np.testing.assert_allclose(compare.pearson_matrix(scaled), expected, atol=1e-12)


def test_spearman_does_not_change_under_a_monotone_transformation():
    values, _ = runs(n=80)
    np.testing.assert_array_equal(
        compare.spearman_matrix(values), compare.spearman_matrix(np.exp(values.astype(float)))
    )


def test_matrices_are_symmetric_bounded_with_a_unit_diagonal():
    values, _ = runs(n=40)
    values[1] = values[0] * 3
    for matrix in (compare.spearman_matrix(values), compare.pearson_matrix(values)):
        np.testing.assert_array_equal(matrix, matrix.T)
        assert np.abs(matrix).max() == 1.0
        assert np.diag(matrix).tolist() == [1.0] * 4
        assert matrix[0, 1] == pytest.approx(1.0, abs=1e-12)


def test_one_run_and_no_samples_keep_their_shapes():
    assert compare.spearman_matrix([[1.0, 2.0]]).tolist() == [[1.0]]
    assert compare.average_ranks(np.empty((2, 0))).shape == (2, 0)
    assert np.isnan(compare.pearson_matrix(np.empty((2, 0)))).all()


def test_a_non_finite_value_spoils_its_own_row_only():
    values = [[1.0, np.nan, 3.0], [1.0, 2.0, np.inf], [1.0, 2.0, 4.0], [3.0, 1.0, 2.0]]
    matrix = compare.pearson_matrix(values)
    assert np.isnan(matrix[:2]).all()
    assert np.isfinite(matrix[2:, 2:]).all()


def test_finite_columns_are_finite_in_every_run():
    mask = compare.finite_columns([[1, np.nan, 2, np.inf], [-np.inf, 0, 2, 3]])
    assert mask.tolist() == [False, False, True, False]


@pytest.mark.parametrize(
    "function",
    [
        compare.average_ranks,
        compare.finite_columns,
        compare.pearson_matrix,
        compare.spearman_matrix,
    ],
)
def test_a_flat_array_is_refused(function):
    text = (
        "values: must have shape (runs, samples), got (3,). "
        "Stack one row of scores per run, samples in the same order."
    )
    with pytest.raises(ParameterError, match=message(text)):
        function([1.0, 2.0, 3.0])


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_rows_are_correlated_with_the_last_as_scipy_does(method):
    values, _ = runs(n=50, n_runs=40)
    function = stats.spearmanr if method == "spearman" else stats.pearsonr
    expected = [function(row.astype(float), values[-1].astype(float)).statistic for row in values]
    np.testing.assert_allclose(compare.with_last(values, method), expected, atol=1e-12)


def test_infinite_scores_have_a_rank_but_no_pearson_correlation():
    values = np.array([[1, 2, 3, np.inf, 0], [1, 3, 2, 9, np.nan]])
    assert compare.with_last(values)[0] == pytest.approx(0.8)
    assert compare.with_last(values, "pearson")[0] == pytest.approx(0.5)


def test_fewer_than_three_samples_have_no_correlation_with_the_last_row():
    assert np.isnan(compare.with_last([[1, 2], [1, 2]])).all()


@pytest.mark.parametrize("n_samples", [1, 999, 1000, 3000])
def test_dense_ranks_of_few_and_many_scores_are_those_of_scipy(n_samples):
    rows = np.random.default_rng(0).integers(-50, 50, (2, 3, n_samples)) / 7
    expected = stats.rankdata(rows, method="dense", axis=-1) - 1
    np.testing.assert_array_equal(dense_ranks(rows), expected)
