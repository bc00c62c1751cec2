"""Several runs as one model."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import message
from scipy import special, stats

from actiontrack import analysis
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.recorder import Recorder


def test_accuracy_by_threshold_is_that_of_the_samples_left(record, history):
    opened = record(history, model="m")
    frame = analysis.accuracy_by_threshold([opened], n_thresholds=5)
    table = opened.scores()
    assert frame["score"].unique().tolist() == ["action", "final_entropy", "loss_variance"]
    for row in frame.itertuples():
        values = table[row.score]
        scaled = (values - values.min()) / (values.max() - values.min())
        left = table[scaled >= row.threshold]
        assert row.n == len(left)
        assert row.accuracy == pytest.approx(left["correct"].mean())


def test_accuracy_of_records_without_predictions_is_refused(record, history):
    with pytest.raises(ParameterError, match=r"^score: must be one of action, .*got 'correct'"):
        analysis.accuracy_by_threshold([record(replace(history, measures={}))])


@pytest.fixture
def members(record_once, store, spool):
    """A function that records models of an ensemble with given logits of their final state."""

    def make(logits, labels, names=("x", "y", "z")):
        records = []
        for seed, final in enumerate(logits):

            def fill(run_id, seed=seed, final=final):
                ids, options = np.arange(len(labels)), {"store": store, "spool": spool}
                with Recorder(run_id=run_id, class_names=names, **options) as recorder:
                    for scale in (0.1, 0.5 + 0.1 * seed, 1.0):
                        recorder.update(ids, logits=final * scale, labels=labels)
                        recorder.end_epoch()
                    recorder.log_probabilities(ids, special.softmax(final, axis=1))

            run_id = record_once(("member", seed, final, labels, names), fill)
            records.append(store.open_record(run_id))
        return records

    return make


@pytest.fixture
def ensemble(members):
    """Three models on 60 samples of three classes."""
    rng = np.random.default_rng(5)
    labels = rng.integers(3, size=60)
    shared = 2 * np.eye(3)[labels] + rng.normal(size=(60, 3))
    return members([shared + rng.normal(size=(60, 3)) for _ in range(3)], labels)


def scaled(values):
    return (values - values.min()) / (values.max() - values.min())


def test_ensemble_scores_are_means_over_the_models(ensemble):
    frame = analysis.ensemble_scores(ensemble)
    tables = [each.scores() for each in ensemble]
    for name in ("action", "loss_variance"):
        mean = np.mean([each[name] for each in tables], axis=0)
        np.testing.assert_allclose(frame[name], scaled(mean), rtol=1e-9)
    mean = np.mean([each.probabilities() for each in ensemble], axis=0)
    entropy = stats.entropy(mean, axis=1)
    np.testing.assert_allclose(frame["entropy_nats"], entropy, rtol=1e-5)
    np.testing.assert_allclose(frame["entropy"], scaled(entropy), rtol=1e-4, atol=1e-6)
    assert frame["predicted"].tolist() == [("x", "y", "z")[each] for each in mean.argmax(axis=1)]
    labels = ensemble[0].samples.labels
    assert frame["correct"].tolist() == (mean.argmax(axis=1) == labels).tolist()
    right = np.mean([each["correct"] for each in tables], axis=0)
    np.testing.assert_allclose(frame["member_accuracy"], right)


def test_ensemble_scores_keep_ids_labels_and_classes(ensemble):
    frame = analysis.ensemble_scores(ensemble)
    assert frame["sample_id"].tolist() == list(range(60))
    assert frame["label"].tolist() == ensemble[0].samples.labels.tolist()
    assert frame["class"].tolist() == [("x", "y", "z")[each] for each in frame["label"]]


def test_an_ensemble_of_one_model_is_refused(ensemble):
    text = (
        "records: must be those of two runs or more, got 1. Train the same model with another seed."
    )
    with pytest.raises(ParameterError, match=message(text)):
        analysis.ensemble_scores(ensemble[:1])


def test_a_model_without_probabilities_is_refused(record, history):
    records = [record(history), record(history)]
    text = (
        f"record test-probe of run {records[0].run.run_id} ({records[0].run.name}) holds no class "
        "probabilities. Record them with the training parameter save_probabilities=true, or with "
        "Recorder.log_probabilities."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        analysis.ensemble_scores(records)


def test_every_model_of_an_ensemble_is_asked_about_the_same_samples(ensemble):
    scores = analysis.ensemble_scores(ensemble)
    frame = analysis.ensemble_accuracy(ensemble, scores, by=("entropy",), n_thresholds=5)
    assert frame["score"].unique().tolist() == ["entropy"]
    assert len(frame) == 3 * 5
    for opened in ensemble:
        correct = opened.scores()["correct"].to_numpy()
        for row in frame[frame["run_id"] == opened.run.run_id].itertuples():
            left = scores["entropy"].to_numpy() >= row.threshold
            assert row.n == left.sum()
            assert row.accuracy == pytest.approx(correct[left].mean())


def test_accuracy_is_summed_up_over_the_runs_with_student_intervals():
    frame = pd.DataFrame(
        {
            "run_id": ["a", "b", "c"] * 2,
            "score": "action",
            "threshold": [0.0] * 3 + [1.0] * 3,
            "accuracy": [0.6, 0.7, 0.8, np.nan, np.nan, 0.5],
            "n": [9, 9, 9, 0, 0, 3],
        }
    )
    summary = analysis.accuracy_summary(frame)
    low, high = stats.t.interval(0.95, 2, 0.7, stats.sem([0.6, 0.7, 0.8]))
    expected = [["action", 0, 0.7, low, high, 9, 3], ["action", 1, 0.5, np.nan, np.nan, 1, 3]]
    columns = ["score", "threshold", "accuracy", "ci_low", "ci_high", "n", "n_runs"]
    pd.testing.assert_frame_equal(
        summary, pd.DataFrame(expected, columns=columns), check_dtype=False
    )


def test_regions_hold_the_samples_whose_scores_differ_most_in_order():
    frame = pd.DataFrame(
        {
            "sample_id": list("abcdefgh"),
            "action": [0.9, 0.1, 0.5, 1.0, 0.2, 0.4, 0.3, 0.0],
            "entropy": [0.2, 1.0, 0.5, 0.1, 0.8, 0.4, 0.3, 0.0],
        }
    )
    found = analysis.ensemble_regions(frame, share=0.25)
    assert found[["sample_id", "region", "place"]].to_numpy().tolist() == [
        ["d", "high action, low entropy", 1],
        ["a", "high action, low entropy", 2],
        ["b", "low action, high entropy", 1],
        ["e", "low action, high entropy", 2],
    ]


def test_correlations_of_an_ensembles_scores_are_those_of_scipy_with_an_interval(ensemble):
    scores = analysis.ensemble_scores(ensemble)
    found = analysis.ensemble_correlations(scores, by=("action", "entropy"), n_bootstrap=50)
    overall = found[(found["class"] == "overall") & (found["method"] == "spearman")].iloc[0]
    expected = stats.spearmanr(scores["action"], scores["entropy"]).statistic
    assert overall["value"] == pytest.approx(expected)
    assert overall["ci_low"] < overall["value"] < overall["ci_high"]
    assert (overall["score_a"], overall["score_b"]) == ("action", "entropy")
    assert set(found["class"]) == {"overall", "within-class", "x", "y", "z"}
