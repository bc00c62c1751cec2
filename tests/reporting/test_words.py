"""Findings as sentences, on the terminal and in summaries."""

import numpy as np
import pandas as pd
import pytest
from report_sections import section

from actiontrack import analysis, reporting
from actiontrack.testing import make_history, record_history


def test_clusters_are_told_with_their_share_trend_and_ends():
    rows = [
        (1, "increasing", 5, 0, 1, 2.0), (1, "increasing", 5, 0, 2, 6.5),
        (1, "increasing", 5, 1, 1, 9.0), (1, "increasing", 5, 1, 2, 9.0),
        (2, "decreasing", 95, 0, 1, 1.5), (2, "decreasing", 95, 0, 2, 0.0125),
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["cluster", "trend", "n_samples", "rank", "step", "loss"])
    assert reporting.describe_clusters(frame) == (
        "The mean loss curves of 2 clusters, hardest first: 5.0% increasing (from 2 to 6.5), "
        "95.0% decreasing (from 1.5 to 0.0125)."
    )


def test_neighbours_are_told_in_one_sentence_with_numbers(with_features):
    frame = analysis.neighbours(with_features, [0, 9], k=3)
    assert reporting.describe_neighbours(frame) == (
        "33.3% of the 3 nearest neighbours of 2 samples are of the sample's own class; 2 of them "
        "lie mostly among other classes."
    )


def test_the_finding_of_an_ensemble_is_one_sentence_with_numbers():
    scores = pd.DataFrame({"correct": [True, True, False, True], "member_accuracy": [1, 1, 0, 0.5]})
    regions = pd.DataFrame({"region": ["high action, low entropy"] * 2, "correct": [False, True]})
    row = {"method": "spearman", "class": "overall", "score_a": "action", "score_b": "entropy"}
    row |= {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n_samples": 4}
    text = reporting.describe_ensemble(scores, regions, pd.DataFrame([row]), 3)
    assert text == (
        "Over an ensemble of 3 models, Spearman's ρ of action and entropy is 0.500 (95 % interval "
        "0.400 to 0.600) on 4 samples; the ensemble is right on 75.0% of them (one model on "
        "62.5%), on 50.0% of the 2 with high action and low entropy, and there are 0 with low "
        "action and high entropy."
    )


def stability(*runs):
    rows = [
        (f"id{run}", step, "spearman", value)
        for run, values in enumerate(runs)
        for step, value in enumerate(values, start=1)
    ]
    return pd.DataFrame(rows, columns=["run_id", "step", "method", "value"])


SETTLED = (
    "After {} epochs Spearman's ρ with the full score is at least 0.95 in {} run, and stays there."
)


UNDEFINED = (
    "Spearman's ρ with the full score is not defined in {} runs: fewer than 3 samples have a "
    "score, or all have the same."
)


STABILITY = {
    "one run": ([[0.5, 0.96, 1.0]], SETTLED.format("2 of 3", "the")),
    "the slowest run counts, and a fall below the level": (
        [[0.96, 0.9, 0.99, 1.0], [0.96, 0.97, 1.0, 1.0]],
        SETTLED.format("3 of 4", "every"),
    ),
    "runs of different length": (
        [[0.5, 1.0], [0.96, 0.97, 1.0]],
        SETTLED.format("2 of 2 to 3", "every"),
    ),
    "a constant score": ([[np.nan, np.nan], [0.5, 1.0]], UNDEFINED.format("1 of 2")),
}


@pytest.mark.parametrize(("runs", "sentence"), STABILITY.values(), ids=STABILITY.keys())
def test_the_early_answer_is_one_sentence_with_numbers(runs, sentence):
    assert reporting.describe_stability(stability(*runs)) == sentence


def test_the_finding_on_noise_names_action_final_loss_and_the_best_score():
    rows = [("cnn", "aum", 0.95, 0.004, 2), ("cnn", "action", 0.92, 0.01, 2),
            ("cnn", "final_loss", 0.7, 0.1, 2), ("res", "action", 0.99, np.nan, 1)]  # fmt: skip
    summary = pd.DataFrame(rows, columns=["model", "score", "auroc_mean", "auroc_std", "n_runs"])
    assert reporting.describe_noise(summary) == (
        "cnn: wrong labels are found at AUROC 0.920 ± 0.010 by action, 0.700 ± 0.100 by "
        "final_loss; best of 3 scores is aum with 0.950 ± 0.004 (mean ± standard deviation over "
        "2 runs). res: wrong labels are found at AUROC 0.990 by action; best of 1 scores is "
        "action with 0.990 (mean over 1 run)."
    )


def test_the_finding_on_noise_says_if_the_best_score_has_fewer_runs():
    rows = [("cnn", "other", 0.95, np.nan, 1), ("cnn", "action", 0.92, 0.01, 3)]
    summary = pd.DataFrame(rows, columns=["model", "score", "auroc_mean", "auroc_std", "n_runs"])
    assert reporting.describe_noise(summary) == (
        "cnn: wrong labels are found at AUROC 0.920 ± 0.010 by action; best of 2 scores is other "
        "with 0.950 over 1 run (mean ± standard deviation over 3 runs)."
    )


def test_a_terminal_is_told_where_things_are(record, store, tracking_uri):
    text = reporting.describe_run(store, record.run)
    root = store.local_root(record.run)
    assert f"report     {root}/actiontrack/test-probe/report/report.html" in text
    assert f"mlflow ui --backend-store-uri {tracking_uri}" in text


def test_the_hundredth_of_the_hardest_is_told_with_its_share(new_run, store, spool):
    history = make_history(3, 200, 3)
    run_id = new_run()
    record_history(history, run_id, store, spool)
    text = section(reporting.run_report(store.open_record(run_id)), "Summary").text
    action = np.sort(history.losses.astype(float).sum(axis=0))
    share = action[-2:].sum() / action.sum()
    assert f"The hardest 1 % of the samples hold {share:.1%} of all action." in text
