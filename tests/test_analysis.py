"""Runs of a real store to tables; expectations by plain pandas, numpy and scipy."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers import message
from scipy import special, stats

from actiontrack import analysis
from actiontrack.errors import NotComparableError, NotFoundError, ParameterError
from actiontrack.history import LossHistory
from actiontrack.recorder import Recorder
from actiontrack.scores import SCORES
from actiontrack.store import RunQuery, Store
from actiontrack.testing import make_history, record_history

N_SAMPLES = 60


@pytest.fixture
def record(new_run, store, spool):
    """A function that records a history into a new run and opens the record."""

    def make(history, model="", **options):
        run_id = new_run(**options)
        record_history(history, run_id, store, spool, model=model)
        return store.open_record(run_id)

    return make


@pytest.fixture
def history():
    return make_history(n_steps=4, n_samples=N_SAMPLES, n_classes=3)


@pytest.fixture
def four_runs(record):
    """Two models with two runs each on the same samples: the steps of one history, reweighted."""
    base = make_history(n_steps=4, n_samples=N_SAMPLES, n_classes=3)
    noise = np.random.default_rng(1).gamma(1.0, size=(4, 4, N_SAMPLES)).astype(np.float32)
    for row, model in enumerate(["a", "a", "b", "b"]):
        scale = (0.05 + 0.5 * (model == "b")) * noise[row]
        record(replace(base, losses=base.losses + scale), model=model)


def test_scores_of_a_query_are_the_sums_of_the_recorded_losses(record, history, experiment):
    record(history, model="softmax")
    scores = analysis.load_scores(RunQuery(experiments=(experiment,)))
    expected = sum(row.astype(float) for row in history.losses)
    np.testing.assert_allclose(scores["action"], expected, rtol=1e-12)
    assert scores["sample_id"].tolist() == history.sample_ids.tolist()
    assert set(scores["model"]) == {"softmax"}
    assert scores["class"].tolist() == [f"class {each}" for each in history.labels]
    assert scores["complete"].all()


def test_several_runs_follow_each_other_in_one_frame(four_runs, experiment):
    scores = analysis.load_scores(RunQuery(experiments=(experiment,)))
    assert len(scores) == 4 * N_SAMPLES
    assert scores.groupby("run_id").size().tolist() == [N_SAMPLES] * 4


def test_a_query_without_a_match_says_what_was_asked_and_where(experiment, tracking_uri):
    message = (
        f"no run with a record matches: experiment {experiment} at {tracking_uri}. "
        "List what there is with: actiontrack runs"
    )
    with pytest.raises(NotFoundError, match=re.escape(message)):
        analysis.load_scores(RunQuery(experiments=(experiment,)))


def test_scores_up_to_a_step_sum_the_first_steps_only(record, history):
    frame = analysis.score_frame([record(history)], up_to_step=2)
    np.testing.assert_allclose(
        frame["action"], history.losses[:2].astype(float).sum(axis=0), rtol=1e-12
    )


def test_scores_beyond_the_last_step_are_refused(record, history):
    message = (
        "up_to_step: must be a recorded step, at most 4, got 5. "
        "Choose a step that every run has reached."
    )
    with pytest.raises(ParameterError, match=re.escape(message)):
        analysis.score_frame([record(history)], up_to_step=5)


def test_labels_without_names_become_their_numbers(record, history):
    frame = analysis.score_frame([record(replace(history, class_names=()))])
    assert frame["class"].astype(str).tolist() == [str(each) for each in history.labels]


def test_records_without_labels_have_one_class(record, history):
    frame = analysis.score_frame([record(replace(history, labels=None))])
    assert set(frame["class"]) == {"all"}


# ---------------------------------------------------------------- what can be compared


def reasons(left_out):
    return dict(zip(left_out["run_id"], left_out["reason"], strict=True))


def test_the_largest_set_is_compared_and_the_others_say_why_not(record, history):
    kept = [record(history, model="a"), record(history, model="b")]
    shorter = record(replace(make_history(3, N_SAMPLES, 3)), model="a")
    moved = replace(history, labels=(history.labels + 1) % 3)
    inline = replace(moved, mode="inline", loss_name="hinge")
    other, two_reasons = record(moved), record(inline)
    chosen, left_out = analysis.split_comparable([shorter, kept[0], other, kept[1], two_reasons])
    assert [each.run.run_id for each in chosen] == [each.run.run_id for each in kept]
    found = reasons(left_out)
    assert list(found) == [each.run.run_id for each in (shorter, other, two_reasons)]
    assert found[shorter.run.run_id] == "number of steps is 3, not 4"
    assert found[other.run.run_id].startswith("labels of run ")
    assert found[two_reasons.run.run_id].startswith(
        "record is 'test-inline', not 'test-probe'; mode is 'inline', not 'probe'; loss is 'hinge'"
    )


def test_what_was_split_off_is_refused_and_what_was_kept_is_not(record, history):
    moved = replace(history, labels=(history.labels + 1) % 3)
    records = [record(history), record(moved), record(history)]
    with pytest.raises(NotComparableError):
        analysis.align(records)
    chosen, _ = analysis.split_comparable(records)
    assert analysis.align(chosen).values.shape == (2, N_SAMPLES)


def test_other_samples_are_comparable_by_an_inner_join(record, history):
    records = [record(history), record(make_history(4, 2 * N_SAMPLES, 3))]
    chosen, left_out = analysis.split_comparable(records)
    assert (len(chosen), len(left_out)) == (1, 1)
    chosen, left_out = analysis.split_comparable(records, on_mismatch="inner")
    assert (len(chosen), len(left_out)) == (2, 0)


def test_fewer_steps_are_comparable_up_to_a_step_that_all_have(record, history):
    shorter = record(make_history(3, N_SAMPLES, 3))
    records = [record(history), shorter, record(history)]
    assert len(analysis.split_comparable(records, up_to_step=3)[0]) == 3
    chosen, left_out = analysis.split_comparable(records, up_to_step=4)
    assert len(chosen) == 2
    assert reasons(left_out) == {shorter.run.run_id: "no step beyond 3"}


def test_of_sets_of_one_size_the_one_with_more_models_is_taken(record, history):
    moved = replace(history, labels=(history.labels + 1) % 3)
    same = [record(history, model="a"), record(history, model="a")]
    different = [record(moved, model="a"), record(moved, model="b")]
    chosen, _ = analysis.split_comparable([*same, *different])
    assert [each.run.run_id for each in chosen] == [each.run.run_id for each in different]


def test_a_record_without_a_complete_epoch_is_left_out(record, history):
    whole, started = record(history), record(history)
    started.manifest = replace(started.manifest, steps=())
    chosen, left_out = analysis.split_comparable([started, whole])
    assert [each.run.run_id for each in chosen] == [whole.run.run_id]
    assert reasons(left_out) == {started.run.run_id: "no complete epoch yet"}
    with pytest.raises(NotFoundError, match="none of the 1 records can be scored"):
        analysis.split_comparable([started])


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


DIFFERENCES = [
    ({"mode": "inline"}, "record is 'test-probe'"),
    ({"split": "train"}, "record is 'test-probe'"),
    ({"loss_name": "focal"}, "loss is 'cross_entropy'"),
    ({"delta_kind": "wall_time"}, "Δn is 'epoch'"),
]


@pytest.mark.parametrize(("change", "reason"), DIFFERENCES)
def test_runs_that_measure_something_else_are_refused(record, history, change, reason):
    records = [record(history), record(replace(history, **change))]
    with pytest.raises(NotComparableError, match=re.escape(reason)):
        analysis.align(records)


def test_runs_of_different_length_are_refused_with_the_remedy(record, history):
    shorter = make_history(n_steps=3, n_samples=N_SAMPLES, n_classes=3)
    records = [record(history), record(shorter)]
    with pytest.raises(NotComparableError, match=re.escape("up_to_step (--up-to)")):
        analysis.align(records)
    assert analysis.align(records, up_to_step=3).values.shape == (2, N_SAMPLES)


def test_runs_that_include_the_untrained_state_are_not_mixed_with_others(record, history):
    with_initial = replace(history, steps=np.arange(4))
    with pytest.raises(NotComparableError, match="the untrained state n = 0"):
        analysis.align([record(history), record(with_initial)])


def relabelled(history, sample):
    labels = history.labels.copy()
    labels[sample] = (labels[sample] + 1) % 3
    return replace(history, labels=labels)


def test_runs_with_another_label_are_refused(record, history):
    with pytest.raises(NotComparableError, match="labels of run"):
        analysis.align([record(history), record(relabelled(history, 5))])


def test_an_inner_join_keeps_samples_with_the_same_label_and_says_how_many(record, history):
    records = [record(history), record(relabelled(history, 5))]
    aligned = analysis.align(records, on_mismatch="inner")
    assert 5 not in aligned.sample_ids
    assert aligned.values.shape == (2, N_SAMPLES - 1)
    assert aligned.note == f"{N_SAMPLES - 1} of up to {N_SAMPLES} samples are shared by all 2 runs"


def part(history, keep):
    return LossHistory(
        losses=history.losses[:, keep],
        sample_ids=history.sample_ids[keep],
        labels=history.labels[keep],
        class_names=history.class_names,
        loss_name=history.loss_name,
    )


def test_an_inner_join_aligns_by_id_and_not_by_position(record, history):
    shared = np.arange(20, N_SAMPLES)
    records = [record(history), record(part(history, shared))]
    aligned = analysis.align(records, on_mismatch="inner")
    np.testing.assert_array_equal(aligned.sample_ids, shared)
    np.testing.assert_array_equal(aligned.values[0], aligned.values[1])


def test_runs_without_a_common_sample_are_refused(record, history):
    records = [record(part(history, np.arange(30))), record(part(history, np.arange(30, 60)))]
    with pytest.raises(NotComparableError, match="no sample in common"):
        analysis.align(records, on_mismatch="inner")


def test_quantile_zero_is_the_overall_correlation(four_runs, experiment):
    records = analysis.load_records(RunQuery(experiments=(experiment,)))
    curve = analysis.correlation_by_quantile(records)
    overall = analysis.compare_runs(records, n_bootstrap=0).table().loc["a / b", "overall"]
    first = curve.query("method == 'spearman' and quantile == 0.0 and kind == 'cross-model'")
    assert first["mean"].item() == pytest.approx(overall)


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


@pytest.fixture
def with_features(new_run, store, spool):
    """A record of 12 samples in 3 classes whose single feature is their id, and its losses."""
    from actiontrack.recorder import Recorder

    run_id, ids = new_run(), np.arange(12)
    losses = np.random.default_rng(0).gamma(2.0, size=12)
    options = {"class_names": ("x", "y", "z"), "loss_name": "hinge"}
    with Recorder(run_id=run_id, store=store, spool=spool, **options) as recorder:
        recorder.update(ids, losses, labels=ids % 3)
        recorder.end_epoch()
        recorder.log_features(ids, ids[:, None].astype(np.float32))
    return store.open_record(run_id), losses


def test_neighbours_are_told_with_distance_and_class(with_features):
    record, losses = with_features
    frame = analysis.neighbours(record, [0, 11], k=3)
    assert frame["query_id"].tolist() == [0] * 3 + [11] * 3
    assert frame["sample_id"].tolist() == [1, 2, 3, 10, 9, 8]
    assert frame["distance"].tolist() == [1.0, 2.0, 3.0] * 2
    assert frame["rank"].tolist() == [1, 2, 3] * 2
    assert frame["query_class"].tolist() == ["x"] * 3 + ["z"] * 3
    assert frame["class"].tolist() == ["y", "z", "x", "y", "x", "z"]
    assert frame["same_class"].tolist() == [False, False, True] * 2
    np.testing.assert_allclose(frame["action"], losses[frame["sample_id"]], rtol=1e-6)
    np.testing.assert_allclose(frame["query_action"], losses[frame["query_id"]], rtol=1e-6)


def test_neighbours_default_to_those_of_the_hardest(with_features):
    record, losses = with_features
    frame = analysis.neighbours(record, n=2, k=1)
    assert frame["query_id"].tolist() == np.argsort(-losses)[:2].tolist()


def test_neighbours_without_features_say_how_to_record_them(record, history):
    opened = record(history)
    text = (
        f"record test-probe of run {opened.run.run_id} ({opened.run.name}) holds no features. "
        "Record them with the training parameter save_features=true, or with "
        "Recorder.log_features."
    )
    with pytest.raises(NotFoundError, match=message(text)):
        analysis.neighbours(opened)


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
    assert set(frame["score"]) == ranked - {"action_NAME"}
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
    assert len(summary) == 10 * 2
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


@pytest.fixture
def four_aligned(four_runs, experiment):
    return analysis.align(analysis.load_records(RunQuery(experiments=(experiment,))))


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
    assert analysis.contrasts(aligned).empty


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
def members(new_run, store, spool):
    """A function that records models of an ensemble with given logits of their final state."""

    def make(logits, labels, names=("x", "y", "z")):
        records = []
        for seed, final in enumerate(logits):
            run_id, ids = new_run(), np.arange(len(labels))
            with Recorder(run_id=run_id, store=store, spool=spool, class_names=names) as recorder:
                for scale in (0.1, 0.5 + 0.1 * seed, 1.0):
                    recorder.update(ids, logits=final * scale, labels=labels)
                    recorder.end_epoch()
                recorder.log_probabilities(ids, special.softmax(final, axis=1))
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


def test_frames_are_saved_as_parquet_and_csv(tmp_path, record, history):
    scores = analysis.score_frame([record(history)])
    parquet, csv = analysis.save_frame(scores, tmp_path / "out" / "scores")
    assert pd.read_parquet(parquet)["action"].tolist() == scores["action"].tolist()
    np.testing.assert_allclose(pd.read_csv(csv)["action"], scores["action"])


def test_an_unfinished_record_is_read_up_to_its_last_epoch_and_marked(new_run, store, spool):
    run_id = new_run()
    recorder = Recorder(run_id=run_id, store=store, spool=spool)
    logits = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    for _ in range(2):
        recorder.update(np.arange(6), logits=logits, labels=np.arange(6) % 3)
        recorder.end_epoch()
    recorder.update(np.arange(4), logits=logits[:4], labels=np.arange(4) % 3)
    recorder.close()
    scores = analysis.load_scores(RunQuery(run_ids=(run_id,)))
    assert not scores["complete"].any()
    assert scores["n_steps"].tolist() == [2] * 6


def test_everything_works_through_a_server_with_proxied_artifacts(server, spool, history):
    remote = Store(server.uri)
    client = remote._client
    run_id = client.create_run("0").info.run_id
    record_history(history, run_id, remote, spool, model="remote")
    scores = analysis.load_scores(RunQuery(run_ids=(run_id,)), tracking_uri=server.uri)
    np.testing.assert_allclose(
        scores["action"], history.losses.astype(float).sum(axis=0), rtol=1e-12
    )
    curves = analysis.loss_curves([remote.open_record(run_id)], n=1)
    assert len(curves) == history.n_steps
