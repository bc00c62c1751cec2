import numpy as np
import pandas as pd
import pytest
from helpers import message
from random_runs import LABELS, MODELS, NAMES, VALUES, centred, compared, runs
from scipy import stats

from actiontrack import compare
from actiontrack.errors import ParameterError


@pytest.fixture
def result():
    return compared()


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
