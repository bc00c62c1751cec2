"""Correlations of a score between runs."""

import numpy as np
import pytest
from scipy import stats

from actiontrack import analysis
from actiontrack.errors import ParameterError
from actiontrack.store import RunQuery


def test_correlations_agree_with_scipy_overall_and_per_class(four_runs, experiment):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    comparison = analysis.compare_runs(records, n_bootstrap=20)
    scores = analysis.score_frame(records)
    wide = scores.pivot_table(index="sample_id", columns="run_id", values="action")
    classes = scores.drop_duplicates("sample_id").set_index("sample_id")["class"].astype(str)
    for pair in comparison.pairs.query("`class` != 'within-class'").itertuples():
        rows = wide if pair._4 == "overall" else wide[classes == pair._4]
        function = stats.spearmanr if pair.method == "spearman" else stats.pearsonr
        expected = function(rows[pair.run_a], rows[pair.run_b]).statistic
        assert pair.value == pytest.approx(expected, abs=1e-12)


def test_groups_hold_the_mean_over_the_pairs_of_two_models(four_runs, experiment):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    comparison = analysis.compare_runs(records, n_bootstrap=0)
    model = {each.run.run_id: each.manifest.model for each in records}
    pairs = comparison.pairs.query("method == 'spearman' and `class` == 'overall'")
    cross = [p.value for p in pairs.itertuples() if model[p.run_a] != model[p.run_b]]
    group = comparison.groups.query(
        "method == 'spearman' and `class` == 'overall' and kind == 'cross-model'"
    )
    assert group["n_pairs"].tolist() == [4]
    assert group["mean"].item() == pytest.approx(np.mean(cross))


def test_the_table_has_same_model_rows_after_the_pairs(four_runs, experiment):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    table = analysis.compare_runs(records, n_bootstrap=0).table()
    assert table.index.tolist() == ["a / b", "a twice", "b twice"]
    assert table.columns.tolist() == [
        "overall", "within-class", "class 0", "class 1", "class 2"
    ]  # fmt: skip


def test_one_run_cannot_be_compared(record, history):
    with pytest.raises(ParameterError, match="at least 2"):
        analysis.compare_runs([record(history)])


def test_quantile_zero_is_the_overall_correlation(four_runs, experiment):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    curve = analysis.correlation_by_quantile(records)
    overall = analysis.compare_runs(records, n_bootstrap=0).table().loc["a / b", "overall"]
    first = curve.query("method == 'spearman' and quantile == 0.0 and kind == 'cross-model'")
    assert first["mean"].item() == pytest.approx(overall)
