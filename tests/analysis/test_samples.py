"""The hardest and easiest samples, and scores by class."""

import re
from dataclasses import replace

import numpy as np
import pytest
from analysis_helpers import N_SAMPLES

from actiontrack import analysis
from actiontrack.errors import ParameterError


def test_class_distributions_agree_with_pandas(record, history):
    scores = analysis.score_frame([record(history)])
    summary = analysis.class_distributions(scores).set_index("class")
    expected = scores.groupby(scores["class"].astype(str))["action"]
    for name, rows in expected:
        assert summary.loc[name, "n"] == len(rows)
        assert summary.loc[name, "median"] == pytest.approx(rows.median())
        assert summary.loc[name, "mean"] == pytest.approx(rows.mean())
        assert summary.loc[name, "q95"] == pytest.approx(rows.quantile(0.95))
    assert summary["median"].is_monotonic_decreasing


def test_an_unknown_score_is_refused_with_those_that_there_are(record, history):
    scores = analysis.score_frame([record(history)])
    with pytest.raises(ParameterError, match=r"^score: must be one of action, .*'actoin'"):
        analysis.class_distributions(scores, score="actoin")


def test_hardest_have_the_largest_action(record, history):
    scores = analysis.score_frame([record(history)])
    top = analysis.hardest(scores, 5)
    expected = scores.sort_values("action", ascending=False)["sample_id"].head(5).tolist()
    assert top["sample_id"].tolist() == expected


def test_hardest_by_margin_have_the_smallest_margin(record, history):
    scores = analysis.score_frame([record(history)])
    top = analysis.hardest(scores, 5, by="aum")
    assert top["aum"].tolist() == sorted(scores["aum"])[:5]


def test_easiest_have_the_smallest_action(record, history):
    scores = analysis.score_frame([record(history)])
    assert analysis.easiest(scores, 3)["action"].tolist() == sorted(scores["action"])[:3]


def test_hardest_per_class_gives_n_of_each_class(record, history):
    scores = analysis.score_frame([record(history)])
    top = analysis.hardest(scores, 2, per_class=True)
    assert top.groupby(top["class"].astype(str)).size().tolist() == [2, 2, 2]


def test_hardest_leaves_out_samples_without_a_finite_score(record, history):
    losses = history.losses.copy()
    losses[0, 7], losses[1, 9] = np.nan, np.inf
    top = analysis.hardest(
        analysis.score_frame([record(replace(history, losses=losses))]), N_SAMPLES
    )
    assert len(top) == N_SAMPLES - 2
    assert not {7, 9} & set(top["sample_id"])


def test_hardest_of_no_samples_is_refused(record, history):
    message = "n: must be 1 or more, got 0. Ask for at least one sample."
    with pytest.raises(ParameterError, match=re.escape(message)):
        analysis.hardest(analysis.score_frame([record(history)]), 0)
