"""How well scores find wrong labels."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analysis_helpers import N_SAMPLES
from helpers import message

from actiontrack import analysis
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.scores import SCORES
from actiontrack.store import RunQuery


@pytest.fixture
def noisy_runs(record, history):
    """Two runs of one model whose first 10 labels are wrong, and a test split without truth."""
    truth = history.labels.copy()
    truth[:10] = (truth[:10] + 1) % 3
    extra = np.random.default_rng(0).gamma(1.0, size=(2, 4, N_SAMPLES)).astype(np.float32)
    changes = {"split": "train", "true_labels": truth}
    runs = [record(replace(history, losses=history.losses + e, **changes), "m") for e in extra]
    return runs, record(history, "m")


def test_noise_detection_agrees_with_scikit_learn_for_every_score(noisy_runs):
    from sklearn import metrics

    runs, _ = noisy_runs
    frame = analysis.noise_detection(runs)
    ranked = {name for name, score in SCORES.items() if score.ranks}
    assert set(frame["score"]) == ranked - {"action_NAME", "perplexity"}
    noisy = np.arange(N_SAMPLES) < 10
    for run in runs:
        table = run.scores().replace(np.inf, 1e9)
        for row in frame[frame["run_id"] == run.run.run_id].itertuples():
            sign = -1 if SCORES[row.score].hard == "low" else 1
            expected = metrics.roc_auc_score(noisy, sign * table[row.score])
            assert row.auroc == pytest.approx(expected, abs=1e-12)
            assert (row.k, row.n_noisy) == (10, 10)


def test_a_noise_summary_has_mean_and_deviation_over_runs_best_first(noisy_runs):
    frame = analysis.noise_detection(noisy_runs[0], ks=[5, 10])
    summary = analysis.noise_summary(frame)
    assert len(summary) == 12 * 2
    assert summary["auroc_mean"].is_monotonic_decreasing
    for row in summary.itertuples():
        values = frame.query(f"score == '{row.score}' and k == {row.k}")
        assert row.n_runs == len(values) == 2
        for name in ("auroc", "average_precision", "precision_at_k"):
            assert getattr(row, f"{name}_mean") == pytest.approx(values[name].mean())
            assert getattr(row, f"{name}_std") == pytest.approx(values[name].std())


def test_scores_of_another_method_are_measured_beside_our_own_by_sample_id(noisy_runs):
    from sklearn import metrics

    run = noisy_runs[0][0]
    quality = np.random.default_rng(3).random(N_SAMPLES)
    other = pd.DataFrame({"sample_id": np.arange(N_SAMPLES), "other": quality})[::-1]
    detected = analysis.noise_detection(
        noisy_runs[0], further={run.run.run_id: other}, low_is_hard={"other"}
    )
    (row,) = detected[detected["score"] == "other"].itertuples()
    noisy = np.arange(N_SAMPLES) < 10
    assert row.run_id == run.run.run_id
    assert row.auroc == pytest.approx(metrics.roc_auc_score(noisy, -quality), abs=1e-12)
    summary = analysis.noise_summary(detected).set_index("score")["n_runs"]
    assert (summary["other"], summary["action"]) == (1, 2)


def test_scores_of_another_method_that_lack_a_sample_are_refused(noisy_runs):
    run = noisy_runs[0][0]
    other = pd.DataFrame({"sample_id": np.arange(1, N_SAMPLES), "other": 0.5})
    text = (
        f"the further scores of run {run.run.run_id} lack 1 of {N_SAMPLES} samples, such as 0. "
        "Pass one row per sample."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        analysis.noise_detection([run], further={run.run.run_id: other})


def test_noise_pairs_count_the_wrong_labels_found_by_class_over_all_runs(noisy_runs, history):
    runs, _ = noisy_runs
    frame = analysis.noise_pairs(runs)
    expected = pd.DataFrame()
    for run in runs:
        table = run.scores()
        found = table.nlargest(10, "action")["sample_id"]
        wrong = table[table["label"] != table["true_label"]]
        expected = pd.concat([expected, wrong.assign(found=wrong["sample_id"].isin(found))])
    for row in frame.itertuples():
        pair = (int(row.true_class[-1]), int(row.given_class[-1]))
        cell = expected.query(f"true_label == {pair[0]} and label == {pair[1]}")
        assert (row.n_wrong, row.n_found) == (len(cell), cell["found"].sum())
        assert row.share == pytest.approx(row.n_found / row.n_wrong)
    assert frame["n_wrong"].sum() == 2 * 10
    assert (frame["true_class"] != frame["given_class"]).all()


def test_noise_pairs_of_a_score_that_is_low_for_hard_samples_take_the_lowest(noisy_runs):
    run = noisy_runs[0][0]
    lowest = run.scores().nsmallest(3, "aum")["sample_id"]
    frame = analysis.noise_pairs([run], k=3, score="aum")
    assert frame["n_found"].sum() == (lowest < 10).sum()


def test_noise_scores_are_grouped_as_noisy_clean_and_other_splits(noisy_runs):
    runs, test = noisy_runs
    frame = analysis.noise_scores([runs[0], test])
    assert frame["group"].tolist() == ["noisy"] * 10 + ["clean"] * 50 + ["test"] * N_SAMPLES


TRUTH = (
    "Train with the parameter label_noise, or pass true_labels to Recorder.describe_samples; "
    "--record names the record of the training split."
)


def test_noise_without_true_labels_says_how_to_record_them(noisy_runs):
    _, test = noisy_runs
    text = f"record test-probe of run {test.run.run_id} holds no true labels. {TRUTH}"
    with pytest.raises(NotFoundError, match=message(text)):
        analysis.noise_detection([test])
    with pytest.raises(
        NotFoundError, match=message(f"none of the 1 records holds true labels. {TRUTH}")
    ):
        analysis.noise_scores([test])


def test_a_run_without_a_wrong_label_is_named(record, history):
    run = record(replace(history, true_labels=history.labels))
    what = f"record test-probe of run {run.run.run_id} without any"
    text = (
        f"records: must hold some wrong labels, got {what!r}. "
        "Leave this run out, or choose another with --record."
    )
    with pytest.raises(ParameterError, match=message(text)):
        analysis.noise_detection([run])


def test_the_noise_of_training_is_taken_out_by_spearman_s_formula(four_runs, experiment):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    comparison = analysis.compare_runs(records, n_bootstrap=0)
    frame = analysis.disattenuated_correlations(comparison)
    means = comparison.groups.set_index(["method", "kind", "model_a", "model_b", "class"])["mean"]
    assert len(frame) == 2 * (2 + 3)  # methods x (overall, within-class, three classes)
    for row in frame.itertuples():
        name = row[4]  # "class" is no attribute name
        cross = means[row.method, "cross-model", "a", "b", name]
        same = [means[row.method, "same-model", each, each, name] for each in "ab"]
        assert row.disattenuated == pytest.approx(cross / np.sqrt(same[0] * same[1]))


def test_without_a_second_run_nothing_is_known_of_the_noise(record, history):
    runs = [record(history, model=each) for each in "ab"]
    comparison = analysis.compare_runs(runs, n_bootstrap=0)
    assert analysis.disattenuated_correlations(comparison).empty


def test_the_quality_of_a_correction_follows_from_the_columns_of_the_record(noisy_runs):
    from sklearn import metrics

    runs, _ = noisy_runs
    frame = analysis.correction_quality(runs, at_least=0.2)
    assert frame["method"].tolist() == ["p_wrong"] * 2
    for run, row in zip(runs, frame.itertuples(), strict=True):
        table = run.scores()
        wrong = table["label"] != table["true_label"]
        flagged = table["p_wrong"] >= 0.2
        right = table["suggested_class"] == table["true_label"]
        assert (row.run_id, row.n_samples, row.n_wrong) == (run.run.run_id, N_SAMPLES, 10)
        assert row.estimate == pytest.approx(table["p_wrong"].sum())
        assert row.flagged_of_wrong == pytest.approx(metrics.recall_score(wrong, flagged))
        assert row.right_of_wrong == pytest.approx(right[wrong].mean())
        assert row.n_flagged == flagged.sum()


def test_another_method_is_measured_on_the_same_samples(noisy_runs):
    runs, _ = noisy_runs
    samples = runs[0].samples
    wrong = samples.labels != samples.true_labels
    perfect = pd.DataFrame(
        {"sample_id": samples.sample_ids, "suggested_class": samples.true_labels}
        | {"flagged": wrong, "method": "oracle", "estimate": 10}
    ).sample(frac=1, random_state=0)
    frame = analysis.correction_quality(runs, further={runs[0].run.run_id: perfect})
    assert frame["method"].tolist() == ["p_wrong", "oracle", "p_wrong"]
    oracle = frame.iloc[1]
    assert (oracle["estimate"], oracle["right_of_wrong"], oracle["right_of_flagged"]) == (10, 1, 1)
    assert np.isnan(oracle["calibration_error"])


def test_a_record_without_the_probability_is_refused(record, history):
    measures = {name: history.measures[name] for name in ("margin", "correct")}
    truth = (history.labels + 1) % 3
    plain = record(replace(history, measures=measures, true_labels=truth), "m")
    with pytest.raises(ParameterError, match="p_wrong"):
        analysis.correction_quality([plain])
