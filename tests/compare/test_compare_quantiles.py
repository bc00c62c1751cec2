import numpy as np
import pandas as pd
import pytest
from helpers import message
from random_runs import MODELS, VALUES, compared, runs
from scipy import stats

from actiontrack import compare
from actiontrack.errors import ParameterError


@pytest.fixture
def result():
    return compared()


def test_quantile_zero_is_the_overall_correlation(result):
    values, _ = runs()
    curve = compare.correlation_by_quantile(values, groups=MODELS)
    start = curve[curve["quantile"] == 0].set_index(["method", "kind", "model_a"])["mean"]
    overall = result.groups[result.groups["class"] == "overall"]
    expected = overall.set_index(["method", "kind", "model_a"])["mean"]
    pd.testing.assert_series_equal(start, expected, rtol=1e-12)


def test_quantile_curve_equals_a_plain_selection_by_mean_rank():
    values, _ = runs(n=100, n_runs=2)
    difficulty = stats.rankdata(values, axis=1).mean(axis=0)
    curve = compare.correlation_by_quantile(
        values, groups=["a", "b"], quantiles=(0.5, 0.9), methods=["spearman"]
    )
    for row in curve.itertuples(index=False):
        chosen = values[:, difficulty >= np.quantile(difficulty, row.quantile)]
        assert row.mean == pytest.approx(stats.spearmanr(*chosen).statistic, abs=1e-12)
        assert row.n_samples == chosen.shape[1]
    assert list(curve) == [
        "method", "kind", "model_a", "model_b", "quantile",
        "mean", "n_samples", "n_pairs", "n_dropped",
    ]  # fmt: skip


def test_quantile_selection_ignores_the_scale_of_a_run():
    values, _ = runs(n=100, n_runs=2)
    scaled = values * np.array([[1.0], [1000.0]])
    options = {"groups": ["a", "b"], "methods": ["spearman"]}
    pd.testing.assert_frame_equal(
        compare.correlation_by_quantile(values, **options),
        compare.correlation_by_quantile(scaled, **options),
    )


def test_quantile_curve_counts_dropped_and_leaves_tiny_tails_undefined():
    values, _ = runs(n=12)
    values[0, 0] = np.nan
    curve = compare.correlation_by_quantile(values, groups=MODELS, quantiles=(0.0, 0.9))
    assert set(curve.n_dropped) == {1}
    assert curve.loc[curve["quantile"] == 0.9, "mean"].isna().all()
    empty = compare.correlation_by_quantile(values * np.nan, groups=MODELS)
    assert empty["mean"].isna().all()
    assert set(empty.n_samples) == {0}


@pytest.mark.parametrize(("quantiles", "value"), [((0.5, 1.0), "[1.0]"), ((), "[]")])
def test_quantiles_outside_zero_to_one_are_refused(quantiles, value):
    text = f"quantiles: must lie in [0, 1), got {value}. Pass 0.9 for the hardest tenth."
    with pytest.raises(ParameterError, match=message(text)):
        compare.correlation_by_quantile(VALUES, groups=MODELS, quantiles=quantiles)
