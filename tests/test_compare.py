import re
from importlib import import_module

import hypothesis.extra.numpy as hnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from actiontrack import compare
from actiontrack.compare import neighbours
from actiontrack.compare.ranks import dense_ranks
from actiontrack.compare.resampling import _weighted_ranks, run_pairs, samples_of_parts
from actiontrack.errors import ParameterError


def message(text):
    """The whole message, nothing around it."""
    return f"^{re.escape(text)}$"


def tied_runs(max_value=4, **shape):
    return hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, **shape),
        elements=st.integers(0, max_value).map(float),
    )


def runs(n=200, n_classes=4, seed=0, n_runs=4, noise=0.6):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    base = rng.gamma(1.5, 1.0, n) + labels
    return (base + noise * rng.normal(size=(n_runs, n))).astype(np.float32), labels


NAMES = ["ant", "bee", "cat", "dog"]
MODELS = ["cnn", "cnn", "resnet", "resnet"]


# ---------------------------------------------------------------- matrices


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
    for a in range(len(values)):
        for b in range(len(values)):
            if constant[a] or constant[b]:
                assert np.isnan(spearman[a, b])
                assert np.isnan(pearson[a, b])
            else:
                rho = stats.spearmanr(values[a], values[b]).statistic
                r = stats.pearsonr(values[a].astype(float), values[b].astype(float)).statistic
                assert spearman[a, b] == pytest.approx(rho, abs=1e-12)
                assert pearson[a, b] == pytest.approx(r, abs=1e-12)


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


# ---------------------------------------------------------------- the weighted trick


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


def centred(values, labels):
    frame = pd.DataFrame(values.T.astype(float))
    return (frame - frame.groupby(labels).transform("mean")).to_numpy().T


@pytest.mark.parametrize("method", ["spearman", "pearson"])
def test_bootstrap_equals_scipy_on_explicitly_resampled_arrays(method):
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
    monkeypatch.setattr(import_module("actiontrack.compare.correlations"), "RESAMPLES_AT_ONCE", 1)
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


# ---------------------------------------------------------------- correlations


@pytest.fixture(scope="module")
def result():
    values, labels = runs()
    return compare.correlations(values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=40)


def test_columns_and_row_order(result):
    assert list(result.pairs) == [
        "method", "run_a", "run_b", "class", "value", "n_samples", "n_dropped",
    ]  # fmt: skip
    assert list(result.groups) == [
        "method", "kind", "model_a", "model_b", "class",
        "mean", "ci_low", "ci_high", "n_pairs", "n_samples", "n_dropped",
    ]  # fmt: skip
    assert list(result.groups["class"].unique()) == ["overall", "within-class", *NAMES]
    first = result.groups.iloc[:3]
    assert list(first.kind) == ["cross-model", "same-model", "same-model"]
    assert list(first.model_a) == ["cnn", "cnn", "resnet"]
    assert list(first.model_b) == ["resnet", "cnn", "resnet"]
    assert list(first.n_pairs) == [4, 1, 1]
    assert len(result.pairs) == 2 * 6 * 6


def test_each_pair_equals_scipy_overall_within_and_per_class(result):
    values, labels = runs()
    inside = centred(values, labels)
    for row in result.pairs.itertuples(index=False):
        name = row[3]
        rows = {"overall": values, "within-class": inside}.get(name)
        rows = values[:, labels == NAMES.index(name)] if rows is None else rows
        function = stats.spearmanr if row.method == "spearman" else stats.pearsonr
        a, b = rows[[row.run_a, row.run_b]].astype(float)
        assert row.value == pytest.approx(function(a, b).statistic, abs=1e-9)
        assert row.n_samples == rows.shape[1]


def test_group_means_are_the_means_of_their_pairs(result):
    pairs = result.pairs.copy()
    same = pairs.run_a // 2 == pairs.run_b // 2
    pairs["kind"] = np.where(same, "same-model", "cross-model")
    pairs["model_a"] = np.array(MODELS)[pairs.run_a]
    pairs["model_b"] = np.array(MODELS)[pairs.run_b]
    keys = ["method", "kind", "model_a", "model_b", "class"]
    expected = pairs.groupby(keys)["value"].mean()
    got = result.groups.set_index(keys)["mean"].reindex(expected.index)
    np.testing.assert_allclose(got, expected, atol=1e-14)


def test_within_class_takes_out_class_difficulty():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    values = 10 * labels + rng.normal(size=(2, 400))  # only the class is shared
    frame = compare.correlations(
        values, labels, groups=["a", "b"], class_names=NAMES, n_bootstrap=0
    ).groups.set_index(["method", "class"])["mean"]
    assert frame["spearman", "overall"] > 0.9
    assert abs(frame["spearman", "within-class"]) < 0.15


def test_the_order_of_samples_does_not_matter():
    values, labels = runs()
    shuffled = np.random.default_rng(3).permutation(labels.size)
    options = {"groups": MODELS, "class_names": NAMES, "n_bootstrap": 0}
    once = compare.correlations(values, labels, **options)
    again = compare.correlations(values[:, shuffled], labels[shuffled], **options)
    pd.testing.assert_frame_equal(once.pairs, again.pairs, rtol=1e-10)


def test_the_order_of_runs_does_not_change_the_group_means():
    values, labels = runs()
    options = {"class_names": NAMES, "n_bootstrap": 0}
    keys = ["method", "kind", "class"]
    means = [
        compare.correlations(values[order], labels, groups=np.array(MODELS)[order], **options)
        .groups.groupby(keys)["mean"]
        .mean()
        for order in ([0, 1, 2, 3], [2, 0, 3, 1])
    ]
    pd.testing.assert_series_equal(*means, rtol=1e-10)


def test_samples_that_are_not_finite_in_some_run_are_dropped_and_counted():
    values, labels = runs()
    values[0, labels == 1] = np.where(
        np.arange((labels == 1).sum()) < 2, np.nan, values[0, labels == 1]
    )
    values[3, np.flatnonzero(labels == 2)[0]] = np.inf
    groups = compare.correlations(
        values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=0
    ).groups
    dropped = groups.groupby("class", sort=False)["n_dropped"].unique().map(list).to_dict()
    assert dropped == {
        "overall": [3], "within-class": [3], "ant": [0], "bee": [2], "cat": [1], "dog": [0],
    }  # fmt: skip
    assert set(groups.loc[groups["class"] == "overall", "n_samples"]) == {197}
    assert groups["mean"].notna().all()


def test_a_class_with_fewer_than_three_samples_gives_nan():
    values, labels = runs(n=50, n_classes=2)
    labels[:2] = 2
    groups = compare.correlations(
        values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=10
    ).groups.set_index("class")
    for name, count in (("cat", 2), ("dog", 0)):
        assert groups.loc[name, ["mean", "ci_low", "ci_high"]].isna().all(axis=None)
        assert set(groups.loc[name, "n_samples"]) == {count}
    assert groups.loc[["ant", "bee", "overall"], "ci_low"].notna().all()


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_a_constant_run_gives_nan_pairs_and_no_warning(value):
    values, labels = runs()
    values[1] = value
    out = compare.correlations(values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=5)
    touched = (out.pairs.run_a == 1) | (out.pairs.run_b == 1)
    assert (out.pairs["value"].isna() == touched).all()
    fine = (out.groups.model_a == "resnet") & (out.groups.kind == "same-model")
    assert (out.groups["mean"].notna() == fine).all()
    assert (out.groups["ci_low"].notna() == fine).all()


def test_a_constant_class_counts_as_zero_difficulty_within_classes():
    values, labels = runs(n=60, n_classes=3)
    values[:, labels == 0] = 0.1
    groups = compare.correlations(
        values, labels, groups=MODELS, class_names=NAMES[:3], n_bootstrap=20
    ).groups.set_index("class")
    assert groups.loc["ant", "mean"].isna().all()
    assert groups.loc["within-class", ["mean", "ci_low", "ci_high"]].notna().all(axis=None)


def test_no_finite_sample_gives_nan_everywhere():
    out = compare.correlations(np.full((2, 5), np.nan), groups=["a", "b"], n_bootstrap=5)
    assert out.groups[["mean", "ci_low", "ci_high"]].isna().all(axis=None)
    assert set(out.groups.n_dropped) == {5}


def test_zero_resamples_give_nan_intervals_and_the_same_means(result):
    values, labels = runs()
    bare = compare.correlations(values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=0)
    assert bare.groups[["ci_low", "ci_high"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(
        bare.groups.drop(columns=["ci_low", "ci_high"]),
        result.groups.drop(columns=["ci_low", "ci_high"]),
    )


def test_without_labels_there_is_only_overall():
    values, _ = runs()
    out = compare.correlations(values, groups=MODELS, n_bootstrap=0, methods=["spearman"])
    assert set(out.groups["class"]) == {"overall"}
    assert set(out.groups["method"]) == {"spearman"}


def test_the_input_is_left_as_it_was():
    values, labels = runs()
    before = values.copy(), labels.copy()
    compare.correlations(values, labels, groups=MODELS, class_names=NAMES, n_bootstrap=2)
    np.testing.assert_array_equal(values, before[0])
    np.testing.assert_array_equal(labels, before[1])


VALUES, LABELS = runs(n=6)
GOOD = {"values": VALUES, "labels": LABELS, "groups": MODELS, "class_names": NAMES}
REFUSED = {
    "one run": (
        {"values": VALUES[:1], "groups": ["cnn"]},
        (
            "values: must hold at least 2 runs, got 1. "
            "Add another run, for instance the same model with another seed."
        ),
    ),
    "groups": (
        {"groups": ["cnn"]},
        (
            "groups: must name the model of each of the 4 runs, got 1. "
            "Pass one name per row of values."
        ),
    ),
    "method": (
        {"methods": ["kendall"]},
        (
            "methods: must come from ['spearman', 'pearson'], got ['kendall']. "
            "Pass one or both of them."
        ),
    ),
    "bootstrap": (
        {"n_bootstrap": -1},
        "n_bootstrap: must not be negative, got -1. Pass 0 to skip the intervals.",
    ),
    "confidence": (
        {"confidence": 95},
        "confidence: must lie between 0 and 1, got 95. Pass 0.95 for a 95 % interval.",
    ),
    "label length": (
        {"labels": LABELS[:3]},
        (
            "labels: must have shape (6,), got (3,). "
            "Pass the true class of each sample, in the order of the scores."
        ),
    ),
    "label type": (
        {"labels": LABELS.astype(float)},
        "labels: must be integers, got 'float64'. Pass positions into class_names.",
    ),
    "label range": (
        {"labels": np.full(6, 4)},
        "labels: must lie in 0..3, the positions of class_names, got 4. Name every class.",
    ),
    "reserved name": (
        {"class_names": ["overall", *NAMES]},
        (
            "class_names: must not use 'overall' or 'within-class', which name rows of the result, "
            "got ['overall']. Rename the class."
        ),
    ),
    "name twice": (
        {"class_names": [*NAMES, "ant"]},
        "class_names: must be distinct, got ['ant']. Rename one of them.",
    ),
}


@pytest.mark.parametrize(("change", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_wrong_arguments_are_refused_by_name(change, text):
    with pytest.raises(ParameterError, match=message(text)):
        compare.correlations(**{**GOOD, **change})


# ---------------------------------------------------------------- Table 1


def test_table1_lists_cross_pairs_then_the_same_model_baseline(result):
    table = compare.table1(result.groups, "pearson")
    assert list(table.index) == ["cnn / resnet", "cnn twice", "resnet twice"]
    assert list(table.columns) == ["overall", "within-class", *NAMES]
    rows = result.groups[(result.groups.method == "pearson") & (result.groups["class"] == "cat")]
    np.testing.assert_array_equal(table["cat"], rows["mean"])


def test_table1_refuses_a_method_that_was_not_computed(result):
    text = "method: must be one of ['pearson', 'spearman'], got 'kendall'. Compute it first."
    with pytest.raises(ParameterError, match=message(text)):
        compare.table1(result.groups, "kendall")


# ---------------------------------------------------------------- Figure 14


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


# ---------------------------------------------------------------- one run


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


def test_disattenuation_recovers_the_correlation_of_the_noiseless_scores():
    rng = np.random.default_rng(0)
    truth = rng.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]], 20000).T
    a, b = (truth[i] + rng.normal(size=(2, 20000)) for i in (0, 1))
    r = compare.pearson_matrix([*a, *b])
    assert r[0, 2] == pytest.approx(0.25, abs=0.03)
    assert compare.disattenuated(r[0, 2], r[0, 1], r[2, 3]) == pytest.approx(0.5, abs=0.05)


def test_disattenuation_is_undefined_without_reliability():
    result = compare.disattenuated([0.5, 0.5], [-0.1, 0.25], [-0.1, 1.0])
    np.testing.assert_array_equal(result, [np.nan, 1.0])


def test_all_is_sorted_and_complete():
    names = [name for name in compare.__all__ if name.islower()]
    assert names == sorted(names)
    assert all(hasattr(compare, name) for name in compare.__all__)


# ---------------------------------------------------------------- regions of interest


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


# ---------------------------------------------------------------- with the last row


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


# ---------------------------------------------------------------- clusters of curves


@pytest.fixture
def three_kinds():
    """Loss curves (8 steps) of 30 learnt, 20 flat and 10 unlearnt samples, shuffled; their kind."""
    rng = np.random.default_rng(0)
    shapes = np.array([np.linspace(2, 0.1, 8), np.full(8, 2.0), np.linspace(1, 6, 8)])
    kind = rng.permutation(np.repeat([0, 1, 2], [30, 20, 10]))
    return (shapes[kind] + 0.05 * rng.normal(size=(60, 8))).T.astype(np.float32), kind


def test_clusters_come_hardest_first_with_their_trend_and_size(three_kinds):
    losses, kind = three_kinds
    found = compare.cluster_curves(losses)
    assert found.trends == ("increasing", "flat", "decreasing")
    assert found.sizes.tolist() == [10, 20, 30]
    np.testing.assert_array_equal(found.members, 2 - kind)
    assert found.centres.dtype == np.float64
    for number in range(3):
        mine = losses[:, found.members == number].astype(float)
        np.testing.assert_allclose(found.centres[number], mine.mean(axis=1))


def test_the_closest_curves_are_those_nearest_to_the_centre(three_kinds):
    losses, _ = three_kinds
    found = compare.cluster_curves(losses, n_closest=4)
    for number, centre in enumerate(found.centres):
        distance = np.linalg.norm(losses.T - centre, axis=1)
        assert found.closest[number].tolist() == np.argsort(distance)[:4].tolist()


@pytest.mark.parametrize("k", [1, 3, 5])
def test_k_means_is_as_good_as_that_of_scikit_learn(k):
    from sklearn.cluster import KMeans

    losses = np.random.default_rng(1).gamma(2.0, size=(6, 300))
    found = compare.cluster_curves(losses, k=k)
    reference = KMeans(k, n_init=10, random_state=0).fit(losses.T)
    assert found.inertia <= 1.01 * reference.inertia_
    own = losses.T - found.centres[found.members]
    assert found.inertia == pytest.approx((own**2).sum())


def test_clusters_repeat_with_the_same_seed():
    losses = np.random.default_rng(2).gamma(2.0, size=(5, 200))
    first, second = (compare.cluster_curves(losses, seed=3) for _ in range(2))
    np.testing.assert_array_equal(first.members, second.members)
    np.testing.assert_array_equal(first.centres, second.centres)


def test_curves_that_are_not_finite_belong_to_no_cluster(three_kinds):
    losses, kind = three_kinds
    losses[2, 4], losses[3, 9] = np.nan, np.inf
    found = compare.cluster_curves(losses)
    assert found.members[[4, 9]].tolist() == [-1, -1]
    assert found.sizes.sum() == 58
    others = np.delete(np.arange(60), [4, 9])
    np.testing.assert_array_equal(found.members[others], 2 - kind[others])


TRENDS = [
    ([1.0, 1.0, 1.0], "flat"),
    ([0.0, 0.0, 0.0], "flat"),
    ([1.12, 1.0, 0.88], "flat"),  # falls by 0.24 of its level
    ([1.13, 1.0, 0.87], "decreasing"),  # by 0.26
    ([0.87, 1.0, 1.13], "increasing"),
    ([1.0, 3.0, 1.0], "flat"),
    ([-1.0, -2.0, -3.0], "decreasing"),
    ([5.0], "flat"),
]


@pytest.mark.parametrize(("curve", "trend"), TRENDS)
def test_a_trend_is_a_change_by_more_than_a_quarter_of_the_level(curve, trend):
    assert compare.cluster_curves(np.array([curve]).T, k=1).trends == (trend,)


def test_more_clusters_than_distinct_curves_are_refused():
    losses = np.array([[1, 1, 2, 2, np.nan], [1, 1, 2, 2, 1]])
    text = (
        "k: must be at most 2, the number of distinct finite curves, got 3. Choose fewer clusters."
    )
    with pytest.raises(ParameterError, match=message(text)):
        compare.cluster_curves(losses, k=3)


def test_no_clusters_are_refused():
    text = "k: must be positive, got 0. Pass 3, for instance."
    with pytest.raises(ParameterError, match=message(text)):
        compare.cluster_curves(np.ones((2, 2)), k=0)


def test_curves_without_steps_are_refused():
    text = "losses: must have shape (steps, samples), got (3,). Stack the steps."
    with pytest.raises(ParameterError, match=message(text)):
        compare.cluster_curves([1.0, 2.0, 3.0])


# ---------------------------------------------------------------- neighbours


@pytest.mark.parametrize("chunk", [1, 2**19])
def test_neighbours_equal_those_of_scikit_learn(chunk, monkeypatch):
    from sklearn.neighbors import NearestNeighbors

    monkeypatch.setattr(neighbours, "_DISTANCES_AT_ONCE", chunk)
    features = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
    queries = [3, 70, 3]
    where, distance = compare.nearest_neighbours(features, queries, k=6)
    reference = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(features.astype(float))
    expected, positions = reference.kneighbors(features[queries].astype(float))
    np.testing.assert_array_equal(where, positions[:, 1:])
    np.testing.assert_allclose(distance, expected[:, 1:], atol=1e-6)
    assert distance.dtype == np.float64


def test_neighbours_at_the_same_distance_come_in_order_of_position():
    where, distance = compare.nearest_neighbours([[0.0], [1.0], [0.0], [-1.0], [0.0]], [0], k=4)
    assert where.tolist() == [[2, 4, 1, 3]]
    assert distance.tolist() == [[0.0, 0.0, 1.0, 1.0]]


WRONG_NEIGHBOURS = {
    "features: must have shape (samples, D), got (3,). Pass one feature vector per sample.": (
        [1.0, 2.0, 3.0], [0], 1
    ),
    "features: must be finite, got 'row 1'. Leave such samples out.": (
        [[1.0], [np.nan], [2.0]], [0], 1
    ),
    "k: must lie in 1..2, the number of other samples, got 3. Choose a smaller k.": (
        [[1.0], [2.0], [3.0]], [0], 3
    ),
    "queries: must lie in 0..2, got 3. Pass positions of samples.": (
        [[1.0], [2.0], [3.0]], [0, 3], 1
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "arguments"), WRONG_NEIGHBOURS.items())
def test_wrong_arguments_of_neighbours_are_named(text, arguments):
    features, queries, k = arguments
    with pytest.raises(ParameterError, match=message(text)):
        compare.nearest_neighbours(features, queries, k=k)


# ---------------------------------------------------------------- detection


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


# ---------------------------------------------------------------- mean over runs


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


def test_many_curves_are_clustered_as_few_are():
    rng = np.random.default_rng(0)
    group = rng.integers(3, size=12_000)
    curves = np.array([[4, 4, 4], [3, 2, 1], [1, 0.5, 0.1]], dtype=float)[group].T
    found = compare.cluster_curves(curves + rng.normal(scale=0.1, size=curves.shape))
    assert found.sizes.tolist() == np.bincount(group).tolist()
    np.testing.assert_array_equal(found.members, group)
