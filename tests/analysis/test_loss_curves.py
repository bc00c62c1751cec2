"""Loss curves, their clusters, and the score as training goes on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analysis_helpers import N_SAMPLES
from helpers import message
from scipy import stats

from actiontrack import analysis
from actiontrack.errors import NotFoundError, ParameterError


def test_loss_curves_hold_every_step_of_the_samples_asked_for(record, history):
    curves = analysis.loss_curves([record(history)], [3, 11])
    assert curves["sample_id"].tolist() == [3] * 4 + [11] * 4
    assert curves["step"].tolist() == [1, 2, 3, 4] * 2
    np.testing.assert_array_equal(curves["loss"].to_numpy()[:4], history.losses[:, 3])


def test_loss_curves_default_to_the_hardest(record, history):
    curves = analysis.loss_curves([record(history)], n=2)
    worst = np.argsort(-history.losses.astype(float).sum(axis=0))[:2]
    assert list(dict.fromkeys(curves["sample_id"])) == history.sample_ids[worst].tolist()


def test_an_unknown_sample_is_named(record, history):
    with pytest.raises(NotFoundError, match="has no sample 'zebra'"):
        analysis.loss_curves([record(history)], ["zebra"])


@pytest.mark.parametrize("score", ["action", "aum", "el2n"])
def test_stability_correlates_the_score_after_k_steps_with_the_full_one(record, history, score):
    opened = record(history, model="softmax")
    frame = analysis.stability([opened], score=score)
    assert frame.columns.tolist() == ["run_id", "run_name", "model", "step", "method", "value"]
    full = opened.scores()[score]
    functions = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}
    assert len(frame) == 8
    for row in frame.itertuples():
        early = analysis.score_frame([opened], up_to_step=row.step)[score]
        expected = functions[row.method](early, full).statistic
        assert row.value == pytest.approx(expected, abs=1e-12)


def test_stability_leaves_out_samples_that_missed_an_epoch(record, history):
    seen = np.ones(history.losses.shape, dtype=bool)
    seen[2, 5] = False
    opened = record(replace(history, seen=seen))
    value = analysis.stability([opened], methods=["spearman"]).query("step == 1")["value"].item()
    kept = np.delete(history.losses.astype(float), 5, axis=1)
    assert value == pytest.approx(stats.spearmanr(kept[0], kept.sum(axis=0)).statistic)


def test_stability_by_an_unknown_method_is_refused(record, history):
    text = (
        "methods: must come from ['spearman', 'pearson'], got ['kendall']. "
        "Pass one or both of them."
    )
    with pytest.raises(ParameterError, match=message(text)):
        analysis.stability([record(history)], methods=["kendall"])


def test_stability_by_no_method_is_refused(record, history):
    text = "methods: must come from ['spearman', 'pearson'], got []. Pass one or both of them."
    with pytest.raises(ParameterError, match=message(text)):
        analysis.stability([record(history)], methods=[])


def test_curve_clusters_hold_centres_and_their_closest_curves(record, history):
    frame = analysis.curve_clusters(record(history, model="softmax"), k=2)
    assert frame.columns.tolist() == [
        "run_id", "run_name", "model", "cluster", "trend", "n_samples", "kind", "rank",
        "sample_id", "class", "step", "loss",
    ]  # fmt: skip
    assert len(frame) == 2 * (1 + 3) * 4
    centres = frame.query("kind == 'centre'")
    assert centres["sample_id"].isna().all()
    assert centres.groupby("cluster")["n_samples"].first().sum() == N_SAMPLES
    assert centres.groupby("cluster")["loss"].mean().is_monotonic_decreasing
    for (_, rank), rows in frame.query("kind == 'closest'").groupby(["cluster", "rank"]):
        (sample,) = set(rows["sample_id"])
        np.testing.assert_array_equal(rows["loss"], history.losses[:, sample])
        assert set(rows["class"]) == {f"class {history.labels[sample]}"}
        assert rank in {1, 2, 3}


def test_curve_clusters_of_records_without_labels_and_with_string_ids(record, history, tmp_path):
    ids = np.array([f"s{each:02d}" for each in range(N_SAMPLES)])
    changes = {"sample_ids": ids, "labels": None, "class_names": ()}
    frame = analysis.curve_clusters(record(replace(history, **changes)))
    closest = frame.query("kind == 'closest'")
    assert set(closest["sample_id"]) <= set(ids)
    assert set(closest["class"]) == {"all"}
    parquet, _ = analysis.save_frame(frame, tmp_path / "clusters")
    assert pd.read_parquet(parquet)["sample_id"].isna().sum() == 3 * 4
