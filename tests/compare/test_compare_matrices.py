"""Correlation matrices of many runs against scipy, run by run."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from helpers import with_peak
from scipy import stats

from actiontrack.compare import matrices
from actiontrack.compare.matrices import (
    block_products,
    block_width,
    correlation_matrices,
    finite_samples,
    merged,
    prepared_rows,
)

BY_SCIPY = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}
METHODS = pytest.mark.parametrize("method", ["spearman", "pearson"])


@pytest.fixture
def values():
    """Four runs of 500 samples with ties."""
    rng = np.random.default_rng(0)
    common = rng.gamma(2, 2, 500)
    return np.round([common + rng.gamma(2, 1, 500) for _ in range(4)], 1)


@pytest.fixture(params=["whole", "blocks"])
def way(request, monkeypatch):
    """Small enough for one block and one thread, or for several of both."""
    if request.param == "blocks":
        monkeypatch.setattr(matrices, "_BLOCK", 128)
        monkeypatch.setattr(matrices, "_THREADED", 0)


def pair_by_pair(rows, method):
    found = np.ones((len(rows), len(rows)))
    for a, b in zip(*np.triu_indices(len(rows), 1), strict=True):
        found[a, b] = found[b, a] = BY_SCIPY[method](rows[a], rows[b]).statistic
    return found


@METHODS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_correlations_are_those_of_scipy(way, values, method, dtype):
    rows = values.astype(dtype)
    expected = pair_by_pair(rows.astype(np.float64), method)
    np.testing.assert_allclose(correlation_matrices(rows, method), expected, rtol=1e-12)


@METHODS
@pytest.mark.parametrize("count", [100, 400])  # of which a copy is made, and of which none
def test_only_the_named_samples_count(way, values, method, count):
    columns = np.random.default_rng(1).permutation(500)[:count]
    expected = pair_by_pair(values[:, columns], method)
    found = correlation_matrices(values, method, columns=columns)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@METHODS
def test_class_means_are_taken_out_as_by_pandas(way, values, method):
    classes = np.random.default_rng(2).integers(0, 5, 500)
    frame = pd.DataFrame(values.T)
    residuals = frame - frame.groupby(classes).transform("mean")
    expected = residuals.round(12).corr(method=method).to_numpy()
    found = correlation_matrices(values, method, classes=classes)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@METHODS
def test_class_means_are_taken_out_of_the_named_samples(way, values, method):
    columns = np.random.default_rng(3).permutation(500)[:450]
    classes = columns % 3
    found = correlation_matrices(values, method, columns=columns, classes=classes)
    expected = correlation_matrices(values[:, columns].copy(), method, classes=classes)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@METHODS
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("count", [100, 400, 500])
def test_rows_and_blocks_computed_apart_give_the_same_bits(way, values, method, within, count):
    """As on several machines: some runs here and some there, and so with the samples."""
    columns = np.random.default_rng(1).permutation(500)[:count]
    picked = {"columns": columns, "classes": columns % 3 if within else None}
    rows = np.vstack([prepared_rows(each, method, **picked) for each in (values[:3], values[3:])])
    width = block_width(len(rows))
    parts = [block_products(rows[:, at : at + width]) for at in range(0, count, width)]
    expected = correlation_matrices(values, method, **picked)
    np.testing.assert_array_equal(merged(parts, count, method), expected)


@METHODS
@pytest.mark.parametrize("constant", [0.0, 0.1, 1e9])
def test_a_constant_run_correlates_with_none(way, values, method, constant):
    values[2] = constant
    found = correlation_matrices(values, method)
    assert np.isnan(found[2]).all()
    assert np.isnan(found[:, 2]).all()
    assert np.isfinite(np.delete(np.delete(found, 2, 0), 2, 1)).all()


@METHODS
@pytest.mark.parametrize(("factor", "offset"), [(1e-200, 0), (1e200, 0), (1.0, 1e7)])
def test_neither_scale_nor_offset_matters(way, values, method, factor, offset):
    found = correlation_matrices(values * factor + offset, method)
    np.testing.assert_allclose(found, correlation_matrices(values, method), rtol=1e-6)


def test_no_samples_have_no_correlation(values):
    found = correlation_matrices(values, "spearman", columns=np.array([], dtype=np.intp))
    assert found.shape == (4, 4)
    assert np.isnan(found).all()


def test_a_sample_counts_where_it_is_finite_in_every_run():
    values = np.array([[1, np.nan, 3, 4], [1, 2, np.inf, 4]])
    assert finite_samples(values).tolist() == [True, False, False, True]


@METHODS
def test_memory_beside_the_scores_is_at_most_their_own(method, monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.random((20, 50_000), dtype=np.float32)
    classes = rng.integers(0, 10, 50_000)
    monkeypatch.setattr(matrices, "_BLOCK", 2**14)
    row = 50_000 * 8
    for groups in (None, classes):
        _, peak = with_peak(partial(correlation_matrices, values, method, classes=groups))
        assert peak < values.nbytes + 16 * row  # ranks, and some rows of the threads
