"""What becomes of labels and true labels that are unknown: never the last class, never wrong."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from actiontrack import analysis, plots
from actiontrack.analysis.alignment import class_column
from actiontrack.reporting.findings import holds_noise
from actiontrack.reporting.pictures import noise_gallery
from actiontrack.testing import make_history

N_SAMPLES = 40
WRONG, UNKNOWN = slice(0, 6), slice(6, 16)


@pytest.fixture
def record(store, recorded_history):
    def make(**changes):
        history = make_history(n_steps=3, n_samples=N_SAMPLES, n_classes=3)
        run_id = recorded_history(replace(history, **changes), "m")
        return store.open_record(store.get_run(run_id), None)

    return make


@pytest.fixture
def half_known(record):
    """A record with 6 wrong labels and 10 samples whose truth is unknown."""
    labels = make_history(n_steps=3, n_samples=N_SAMPLES, n_classes=3).labels
    truth = labels.copy()
    truth[WRONG], truth[UNKNOWN] = (labels[WRONG] + 1) % 3, -1
    return record(true_labels=truth)


def test_detection_counts_the_samples_whose_truth_is_known(half_known):
    frame = analysis.noise_detection([half_known]).set_index("score")
    assert set(frame["n_noisy"]) == {6}
    assert set(frame["n_samples"]) == {N_SAMPLES - 10}
    kept = np.delete(np.arange(N_SAMPLES), UNKNOWN)
    action = half_known.scores()["action"].to_numpy()[kept]
    expected = metrics.roc_auc_score(kept < 6, action)
    assert frame.loc["action", "auroc"] == pytest.approx(expected)


def test_groups_of_the_distribution_name_the_unknown(half_known):
    groups = analysis.noise_scores([half_known])["group"].value_counts()
    assert groups.to_dict() == {"clean": N_SAMPLES - 16, "unknown": 10, "noisy": 6}


def test_pairs_of_classes_hold_wrong_labels_only(half_known):
    assert analysis.noise_pairs([half_known])["n_wrong"].sum() == 6


def test_a_record_whose_truth_is_unknown_everywhere_holds_no_wrong_label(record):
    assert not holds_noise(record(true_labels=np.full(N_SAMPLES, -1)))


def test_a_gallery_says_that_the_truth_is_unknown(half_known):
    rows = analysis.score_frame([half_known]).iloc[[0, 7, 20]]
    figure, _ = noise_gallery(half_known, rows)
    told = [axes.get_xlabel().split("\n")[1] for axes in figure.axes]
    assert told[1:] == ["true unknown", "right"]
    assert told[0].startswith("true class ")


def test_a_label_of_minus_one_is_unknown_and_not_the_last_class(record):
    labels = np.arange(N_SAMPLES) % 3
    labels[:4] = -1
    runs = [record(labels=labels, measures={}) for _ in range(2)]
    names = class_column(analysis.align(runs))
    assert names[:4].tolist() == ["unknown"] * 4
    assert names[5] == "class 2"
    classes = analysis.compare_runs(runs, n_bootstrap=0).groups["class"].unique().tolist()
    assert classes == ["overall", "within-class", "class 0", "class 1", "class 2", "unknown"]
    assert set(analysis.loss_curves(runs[:1], [0])["class"]) == {"unknown"}


def test_figures_of_a_record_by_wall_time_say_so(record):
    frame = analysis.score_frame([record(delta_kind="wall_time")])
    assert plots.class_distributions(frame).get_xlabel() == "action (loss × s)"
    assert plots.score_histogram(frame, score="aum").get_xlabel() == "aum (logits)"


def test_scores_of_records_with_other_deltas_share_no_unit(record):
    frame = analysis.score_frame([record(), record(delta_kind="wall_time")])
    assert plots.score_histogram(frame).get_xlabel() == "action (loss × Δn)"


def test_a_record_names_its_model_dataset_and_unit(record):
    opened = record(delta_kind="batch")
    assert (opened.model, opened.dataset, opened.unit) == ("m", "", "loss × updates")
