"""How far models agree, and where they do not."""

from dataclasses import replace

import numpy as np
import pytest
from analysis_helpers import N_SAMPLES
from helpers import message
from scipy import stats

from actiontrack import analysis
from actiontrack.analysis.questions import QUESTIONS
from actiontrack.errors import ParameterError
from actiontrack.store import RunQuery


@pytest.fixture
def four_aligned(four_runs, experiment):
    return analysis.align(analysis.load_records(RunQuery(experiments=(experiment,))))


def test_the_overlap_of_the_hardest_is_the_mean_over_the_pairs_of_runs(four_aligned):
    frame = analysis.top_k_overlaps(four_aligned, fractions=(0.1,))
    top = [set(np.argsort(-row)[:6]) for row in four_aligned.values]
    shares = {(i, j): len(top[i] & top[j]) / 6 for i in range(4) for j in range(i)}
    cross = np.mean([shares[2, 0], shares[2, 1], shares[3, 0], shares[3, 1]])
    expected = [cross, shares[1, 0], shares[3, 2]]
    assert frame["kind"].tolist() == ["cross-model", "same-model", "same-model"]
    assert frame["overlap"].tolist() == pytest.approx(expected)
    assert frame["k"].tolist() == [6, 6, 6]
    assert frame["chance"].tolist() == pytest.approx([0.1] * 3)


def test_the_hardest_by_a_score_that_is_low_for_hard_samples_are_the_lowest(four_runs, experiment):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    aligned = analysis.align(records, score="aum")
    other = replace(aligned, values=-aligned.values, score="action")
    assert analysis.top_k_overlaps(aligned).equals(analysis.top_k_overlaps(other))
    assert analysis.contrasts(aligned).equals(analysis.contrasts(other))


def test_a_fraction_outside_its_range_is_refused(four_aligned):
    text = "fractions: must lie above 0 and at most at 1, got (0, 0.5). Pass 0.05 for 5 %."
    with pytest.raises(ParameterError, match=message(text)):
        analysis.top_k_overlaps(four_aligned, fractions=(0, 0.5))


def test_contrasts_are_the_largest_differences_of_mean_ranks(four_aligned):
    frame = analysis.contrasts(four_aligned, n=5)
    ranks = (stats.rankdata(four_aligned.values, axis=1) - 1) / (N_SAMPLES - 1)
    a, b = ranks[:2].mean(axis=0), ranks[2:].mean(axis=0)
    order = np.argsort(b - a)[:5]
    rows = frame.query("hard_for == 'a' and easy_for == 'b'")
    assert rows["sample_id"].tolist() == four_aligned.sample_ids[order].tolist()
    np.testing.assert_allclose(rows["difference"], (a - b)[order])
    np.testing.assert_allclose(rows["rank_hard"], a[order])
    np.testing.assert_allclose(rows["rank_easy"], b[order])
    names = [f"class {each}" for each in four_aligned.labels[order]]
    assert rows["class"].tolist() == names
    assert frame.groupby(["hard_for", "easy_for"]).size().to_dict() == {
        ("a", "b"): 5,
        ("b", "a"): 5,
    }


def test_contrasts_leave_out_what_is_not_finite_in_some_run(four_aligned):
    values = four_aligned.values.copy()
    hardest = int(values[0].argmax())
    values[3, hardest] = np.nan
    frame = analysis.contrasts(replace(four_aligned, values=values), n=N_SAMPLES)
    assert hardest not in set(frame["sample_id"])


def test_a_single_model_has_no_contrast(record, history):
    aligned = analysis.align([record(history, model="a"), record(history, model="a")])
    frame = analysis.contrasts(aligned)
    assert frame.empty
    assert set(QUESTIONS["contrasts"].columns) <= set(frame.columns)


def test_the_columns_are_the_same_with_one_model_and_with_two(four_aligned):
    one_model = replace(four_aligned, runs=four_aligned.runs.assign(model="a"))
    frame, empty = analysis.contrasts(four_aligned), analysis.contrasts(one_model)
    assert list(empty.columns) == list(frame.columns)
