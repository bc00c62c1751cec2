import importlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import MODELS, NAMES, centred, runs, tied_runs
from scipy import stats

from actiontrack import compare
from actiontrack.compare import resampling
from actiontrack.compare.counted import Workspace, counted_ranks, sorted_rows
from actiontrack.compare.ranks import dense_ranks
from actiontrack.compare.resampling import _weighted_ranks, run_pairs, samples_of_parts


@settings(deadline=None)
@given(tied_runs(max_value=5, min_side=2, max_side=15), st.integers(0, 2**31))
def test_weighted_ranks_are_the_ranks_of_the_resampled_array(values, seed):
    rng = np.random.default_rng(seed)
    n = values.shape[1]
    drawn = rng.integers(0, n, (3, n))
    counts = np.stack([np.bincount(row, minlength=n) for row in drawn]).astype(float)
    ranks = _weighted_ranks(dense_ranks(values)[None], counts)
    for b, columns in enumerate(drawn):
        expected = stats.rankdata(values[:, columns], axis=1)
        np.testing.assert_array_equal(ranks[b][:, columns], expected)


def resamples(n, times, seed):
    """The same draws as the product's, as columns."""
    return np.random.default_rng(seed).integers(0, n, size=(times, n))


@pytest.fixture(params=["few", "many"])
def way(request, monkeypatch):
    """Ranks of all runs and resamples at once, or of one row after the other."""
    monkeypatch.setattr(resampling, "_MANY", {"few": 1000, "many": 0}[request.param])


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_bootstrap_equals_scipy_on_explicitly_resampled_arrays(way, method):
    values, labels = runs(n=60, n_classes=3, n_runs=3)
    values[:, labels < 2] = np.round(values[:, labels < 2] * 2)  # ties inside classes 0 and 1
    values[:, labels == 1] += 0.25  # no ties between classes that rounding could break
    order = np.argsort(labels, kind="stable")
    values, labels = values[:, order], labels[order]
    groups = ["a", "a", "b"]
    keep = compare.finite_columns(values)
    parts = compare.to_resample(values, samples_of_parts(keep, labels, NAMES[:3]))
    pairs = run_pairs(groups)
    counts = compare.Resamples(n_samples=60, times=20, chunk=7, seed=5).counts()
    draws = compare.resampled(parts, [method], pairs, counts)[:, 0]
    function = stats.spearmanr if method == "spearman" else stats.pearsonr
    for b, columns in enumerate(resamples(60, 20, 5)):
        x, y = values[:, columns].astype(float), labels[columns]
        for k, rows in enumerate(
            [x, np.round(centred(x, y), 9), *(x[:, y == code] for code in range(3))]
        ):
            pair = [function(rows[a], rows[c]).statistic for a, c in [(0, 2), (1, 2), (0, 1)]]
            expected = [np.mean(pair[:2]), pair[2]]
            np.testing.assert_allclose(draws[b, k], expected, atol=2e-7, err_msg=f"{b} {k}")


@pytest.mark.parametrize("sizes", [[200], [60, 0, 1, 2, 137, 0], [0, 200]])
def test_either_way_of_ranking_gives_the_same_bits(monkeypatch, sizes):
    """Whatever the classes: empty ones, and some of too few samples."""
    values, _ = runs(n=205)
    values[0] = np.round(values[0])
    values[1] = 3.5
    values[2, :5] = [np.nan, np.inf, -np.inf, np.nan, np.nan]
    labels = np.r_[np.zeros(5, int), np.repeat(np.arange(len(sizes)), sizes)]
    names = [f"class {code}" for code in range(len(sizes))]
    frames = []
    for many in (1000, 0):
        monkeypatch.setattr(resampling, "_MANY", many)
        options = {"groups": MODELS, "n_bootstrap": 30}
        frames += [compare.correlations(values, **options).groups]
        frames += [compare.correlations(values, labels, class_names=names, **options).groups]
    pd.testing.assert_frame_equal(frames[0], frames[2], check_exact=True)
    pd.testing.assert_frame_equal(frames[1], frames[3], check_exact=True)


@settings(deadline=None)
@given(tied_runs(max_value=5, min_side=1, max_side=15), st.integers(0, 2**31))
def test_ranks_by_counts_are_the_ranks_of_the_resampled_row(values, seed):
    rows = values.astype(np.float64)
    n = rows.shape[1]
    columns = np.random.default_rng(seed).integers(0, n, n)
    counts = np.bincount(columns, minlength=n)
    first = n // 3  # samples of the first of two classes
    for row, whole, split in zip(
        rows, sorted_rows(rows), sorted_rows(rows, [first, n - first]), strict=True
    ):
        ranks, by_class = np.empty((2, n))
        whole.write_ranks(counts, ranks)
        split.write_ranks(counts, by_class)
        np.testing.assert_array_equal(ranks[columns], stats.rankdata(row[columns]))
        drawn = counts > 0
        np.testing.assert_array_equal(ranks[drawn], counted_ranks(row[drawn], counts[drawn]))
        before = 0
        for own in (columns[columns < first], columns[columns >= first]):
            np.testing.assert_array_equal(by_class[own], stats.rankdata(row[own]) + before)
            before += own.size


def test_a_workspace_gives_the_same_memory_again_where_it_suffices():
    workspace = Workspace()
    first = workspace.floats("ranks", (3, 4))
    assert np.shares_memory(first, workspace.floats("ranks", (2, 5)))
    assert not np.shares_memory(first, workspace.floats("centred", (3, 4)))
    assert not np.shares_memory(first, workspace.floats("ranks", (4, 4)))


@pytest.mark.parametrize("n_parts", [1, 3, 4, 20])
def test_draws_that_are_split_are_the_same_draws(n_parts):
    whole = compare.Resamples(n_samples=9, times=20, chunk=3, seed=5)
    parts = list(whole.split(n_parts))
    assert len(parts) <= n_parts
    found = [each for part in parts for each in part.counts()]
    for one, other in zip(whole.counts(), found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_interval_does_not_depend_on_the_chunk_size(monkeypatch):
    values, labels = runs()
    once = compare.correlations(values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=30)
    module = importlib.import_module("actiontrack.compare.correlation")
    monkeypatch.setattr(module, "RESAMPLES_AT_ONCE", 1)
    again = compare.correlations(values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=30)
    pd.testing.assert_frame_equal(once.groups, again.groups)


def test_a_95_percent_interval_covers_the_truth_about_95_times_in_100():
    rng = np.random.default_rng(1)
    covered = 0
    for seed in range(100):
        x = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 200).T
        row = compare.correlations(
            x, groups=["a", "b"], methods=["pearson"], n_bootstrap=200, seed=seed
        ).groups.iloc[0]
        covered += row.ci_low <= 0.6 <= row.ci_high
    assert 88 <= covered <= 99


def test_a_wider_confidence_gives_a_wider_interval_around_the_mean():
    values, _ = runs()
    narrow = compare.correlations(values, groups=MODELS, confidence=0.5).groups
    wide = compare.correlations(values, groups=MODELS, confidence=0.99).groups
    assert (wide.ci_low < narrow.ci_low).all()
    assert (wide.ci_high > narrow.ci_high).all()
    assert wide["mean"].between(wide.ci_low, wide.ci_high).all()
