"""Reports of runs of a real store: what they say, and that they say it again."""

import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import special

from actiontrack import analysis, reporting
from actiontrack.recorder import Recorder
from actiontrack.reporting import findings
from actiontrack.store import Cache
from actiontrack.store import record as stored_record
from actiontrack.testing import make_history, record_history


@pytest.fixture
def history():
    return make_history(n_steps=4, n_samples=40, n_classes=3)


@pytest.fixture
def record(new_run, store, spool, history):
    run_id = new_run()
    record_history(history, run_id, store, spool, model="softmax")
    return store.open_record(run_id)


def headings(report):
    return [each.heading for each in report.sections]


def section(report, heading):
    return next(each for each in report.sections if each.heading == heading)


def test_a_run_report_has_these_sections(record):
    assert headings(reporting.run_report(record)) == [
        "Summary",
        "Data and run",
        "Distribution",
        "Difficulty per class",
        "Hardest samples",
        "Easiest samples",
        "Loss of the hardest samples",
        "Clusters of loss curves",
        "Action against entropy",
        "Accuracy by threshold",
        "When recording could have stopped",
        "What is not comparable",
        "How to read this",
    ]


def test_the_summary_states_samples_steps_median_and_hardest_class(record, history):
    text = section(reporting.run_report(record), "Summary").text
    action = history.losses.astype(float).sum(axis=0)
    medians = {label: np.median(action[history.labels == label]) for label in range(3)}
    hardest = max(medians, key=medians.get)
    assert f"40 samples over 4 steps has median {np.median(action):.4g}" in text
    assert f"The hardest class is class {hardest} (median {medians[hardest]:.4g})" in text


def test_the_facts_name_run_loss_mode_and_digests(record):
    frame = section(reporting.run_report(record), "Data and run").frame.set_index("what")["value"]
    assert frame["run"] == record.run.run_id
    assert frame["loss"] == "cross_entropy"
    assert frame["split and mode"] == "test, probe"
    assert frame["digest of labels"] == record.manifest.digests["labels"]
    assert frame["digest of inputs"] == "unknown"


def test_the_same_record_gives_the_same_report(record):
    assert reporting.run_report(record).to_html() == reporting.run_report(record).to_html()


def test_without_images_the_report_says_so(record):
    part = section(reporting.run_report(record), "Hardest samples")
    assert part.figure is None
    assert part.caption == "No images: record with thumbnails to see them."


def test_samples_without_a_finite_action_are_counted(new_run, store, spool, history):
    losses = history.losses.copy()
    losses[1, 3] = np.nan
    run_id = new_run()
    record_history(replace(history, losses=losses), run_id, store, spool)
    text = section(reporting.run_report(store.open_record(run_id)), "Summary").text
    assert "1 samples have no finite action" in text


def test_a_gallery_opens_images_below_the_recorded_root(tmp_path, new_run, store, spool):
    (tmp_path / "data").mkdir()
    names = [f"{each}.png" for each in range(4)]
    for value, name in enumerate(names):
        Image.new("L", (8, 8), value * 60).save(tmp_path / "data" / name)
    source = {"kind": "folder", "root": str(tmp_path / "data")}
    run_id = new_run()
    logits = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    with Recorder(run_id=run_id, store=store, spool=spool, source=source) as recorder:
        recorder.describe_samples(names, labels=[0, 1, 0, 1], paths=names)
        recorder.update(names, logits=logits, labels=np.array([0, 1, 0, 1]))
        recorder.end_epoch()
    record = store.open_record(run_id)
    figure, missing = reporting.gallery(record, analysis.score_frame([record]))
    assert missing == 0
    assert len(figure.axes) >= 4
    opened = Image.open(io.BytesIO(record.image_bytes(3)))
    assert opened.getpixel((0, 0)) == 180


@pytest.fixture
def with_boxes(tmp_path, new_run, store, spool):
    """Two images of 8 x 4 pixels, stored as copies of half the size, with boxes."""
    run_id, names = new_run(), ["a", "b"]
    png = io.BytesIO()
    Image.new("L", (4, 2)).save(png, "PNG")
    with Recorder(run_id=run_id, store=store, spool=spool, loss_name="multibox") as recorder:
        for loss in (3.0, 1.0):
            losses = np.array([loss, loss / 2])
            recorder.update(names, losses, components={"box_regression": losses / 4})
            recorder.end_epoch()
        recorder.log_thumbnails(names, [png.getvalue()] * 2)
        recorder.log_boxes(_two_kinds_of_boxes())
    return store.open_record(run_id)


def _two_kinds_of_boxes():
    sides = {"left": 2, "top": 0, "right": 6, "bottom": 4, "width": 8, "height": 4}
    rows = [
        {"sample_id": "a", "kind": "truth", "class": "cat", "score": np.nan},
        {"sample_id": "a", "kind": "predicted", "class": "dog", "score": 0.9},
        {"sample_id": "a", "kind": "predicted", "class": "dog", "score": 0.2},
    ]
    return pd.DataFrame([row | sides for row in rows])


def test_a_gallery_draws_annotated_boxes_and_confident_predictions(with_boxes):
    scores = analysis.score_frame([with_boxes])
    figure, missing = reporting.gallery(with_boxes, analysis.hardest(scores, 2))
    first, second = figure.axes
    assert missing == 0
    assert [each.get_text() for each in first.texts] == ["cat", "dog 0.90"]
    assert (first.get_xlabel(), second.get_xlabel()) == ("a 4", "b 2")
    assert not second.patches


def test_of_many_predicted_boxes_the_most_confident_are_drawn(tmp_path, new_run, store, spool):
    run_id = new_run()
    png = io.BytesIO()
    Image.new("L", (8, 8)).save(png, "PNG")
    scores = np.linspace(0.99, 0.6, 30)
    sides = {"left": 2, "top": 0, "right": 6, "bottom": 4, "width": 8, "height": 8}
    rows = [{"sample_id": "a", "kind": "truth", "class": "cat", "score": np.nan} | sides]
    rows += [
        {"sample_id": "a", "kind": "predicted", "class": "dog", "score": each} | sides
        for each in scores[::-1]
    ]
    with Recorder(run_id=run_id, store=store, spool=spool) as recorder:
        recorder.update(["a", "b"], np.array([3.0, 1.0]))
        recorder.end_epoch()
        recorder.log_thumbnails(["a", "b"], [png.getvalue()] * 2)
        recorder.log_boxes(pd.DataFrame(rows))
    record = store.open_record(run_id)
    figure, _ = reporting.gallery(record, analysis.score_frame([record]).head(1))
    drawn = [each.get_text() for each in figure.axes[0].texts]
    assert drawn == ["cat", *(f"dog {each:.2f}" for each in scores[:6])]


def test_boxes_are_scaled_to_the_copy_of_the_image_that_is_stored(with_boxes):
    figure, _ = reporting.gallery(with_boxes, analysis.score_frame([with_boxes]).head(1))
    # Left 2, right 6 of 8 pixels are 1 and 3 of 4; pixels are drawn from half a pixel before.
    box = figure.axes[0].patches[0].get_bbox().extents.tolist()
    assert box == [0.5, -0.5, 2.5, 1.5]


def test_a_report_shows_the_hardest_and_easiest_of_each_part_of_the_loss(with_boxes):
    report = reporting.run_report(with_boxes)
    hardest = section(report, "Hardest samples by box regression")
    assert hardest.frame["sample_id"].tolist() == ["a", "b"]
    assert hardest.frame["action_box_regression"].tolist() == [1.0, 0.5]
    easiest = section(report, "Easiest samples by box regression")
    assert easiest.frame["sample_id"].tolist() == ["b", "a"]


def test_images_outside_the_root_are_never_opened(tmp_path, new_run, store, spool):
    (tmp_path / "data").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    source = {"kind": "folder", "root": str(tmp_path / "data")}
    run_id = new_run()
    with Recorder(run_id=run_id, store=store, spool=spool, source=source) as recorder:
        recorder.describe_samples(["a"], paths=["../secret.png"])
        recorder.update(["a"], np.ones(1))
        recorder.end_epoch()
    record = store.open_record(run_id)
    _, missing = reporting.gallery(record, analysis.score_frame([record]))
    assert missing == 1


@pytest.mark.parametrize(("n_steps", "n_samples"), [(2, 40), (4, 2)])
def test_too_few_steps_or_curves_are_not_clustered(new_run, store, spool, n_steps, n_samples):
    run_id = new_run()
    record_history(make_history(n_steps, n_samples), run_id, store, spool)
    assert "Clusters of loss curves" not in headings(
        reporting.run_report(store.open_record(run_id))
    )


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


@pytest.fixture
def with_features(new_run, store, spool):
    """A record of 10 samples with features and 8 × 8 thumbnails."""
    run_id, ids, images = new_run(), np.arange(10), []
    for each in ids.tolist():
        buffer = io.BytesIO()
        Image.new("L", (8, 8), 20 * each).save(buffer, "PNG")
        images.append(buffer.getvalue())
    with Recorder(run_id=run_id, store=store, spool=spool, class_names=("x", "y")) as recorder:
        recorder.update(ids, np.linspace(1, 2, 10), labels=ids % 2)
        recorder.end_epoch()
        recorder.log_features(ids, ids[:, None].astype(np.float32))
        recorder.log_thumbnails(ids, images)
    return store.open_record(run_id)


def test_a_record_with_features_reports_the_neighbours_of_the_hardest(with_features):
    part = section(reporting.run_report(with_features), "Nearest neighbours of the hardest samples")
    assert part.frame["query_id"].unique().tolist() == [9, 8, 7, 6, 5, 4]
    assert part.figure is not None
    same = np.mean(part.frame["query_id"] % 2 == part.frame["sample_id"] % 2)
    assert part.text.startswith(f"{same:.1%} of the 8 nearest neighbours of 6 samples are of ")


@pytest.fixture
def noisy(new_run, store, spool, history):
    """A record of each split, of which the training labels of the first 4 samples are wrong."""
    truth = history.labels.copy()
    truth[:4] = (truth[:4] + 1) % 3
    kept = []
    for split, changes in (("train", {"true_labels": truth}), ("test", {})):
        run_id = new_run()
        changed = replace(history, split=split, **changes)
        record_history(changed, run_id, store, spool, model="softmax")
        kept.append(store.open_record(run_id))
    return kept


def test_a_gallery_of_noise_tells_given_and_true_label_and_score(noisy, history):
    rows = analysis.score_frame([noisy[0]]).iloc[[0, 4]]
    figure, missing = reporting.noise_gallery(noisy[0], rows)
    actions = history.losses.astype(float).sum(axis=0)
    wrong, right = history.labels[[0, 4]]
    assert [axes.get_xlabel().split("\n") for axes in figure.axes] == [
        [f"given class {wrong}", f"true class {(wrong + 1) % 3}", f"{actions[0]:.3g}"],
        [f"given class {right}", "right", f"{actions[4]:.3g}"],
    ]
    assert missing == 2


def test_the_sections_on_noise_are_distributions_galleries_and_pairs(noisy):
    sections = reporting.noise_sections(noisy[:1], noisy[1:])
    name = noisy[0].run.name
    assert [each.heading for each in sections] == [
        "Distributions of the action",
        f"{name}: hardest samples",
        f"{name}: hardest samples with a right label",
        "softmax: which wrong labels are found",
    ]
    groups = sections[0].frame.set_index("group")["count"].to_dict()
    assert groups == {"noisy": 4, "clean": 36, "test": 40}
    assert sections[1].caption == "No images: record with thumbnails to see them."


def test_the_section_on_pairs_states_how_many_wrong_labels_are_found(noisy, history):
    text = reporting.noise_sections(noisy[:1])[-1].text
    hardest = np.argsort(-history.losses.astype(float).sum(axis=0))[:4]
    found = int((hardest < 4).sum())
    assert text.endswith(f"{found} of 4 wrong labels are among them ({found / 4:.1%}).")


def test_a_gallery_of_neighbours_has_a_row_of_images_for_each_sample(with_features):
    frame = analysis.neighbours(with_features, [0, 9], k=3)
    figure, missing = reporting.neighbour_gallery(with_features, frame)
    assert missing == 0
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "sample 0: x", "y 1", "x 2", "y 3", "sample 9: y", "x 1", "y 2", "x 3"
    ]  # fmt: skip


def test_neighbours_are_told_in_one_sentence_with_numbers(with_features):
    frame = analysis.neighbours(with_features, [0, 9], k=3)
    assert reporting.describe_neighbours(frame) == (
        "33.3% of the 3 nearest neighbours of 2 samples are of the sample's own class; 2 of them "
        "lie mostly among other classes."
    )


@pytest.fixture
def ensemble(new_run, store, spool):
    """Two models on 40 samples of two classes, with thumbnails in the first record only."""
    rng = np.random.default_rng(2)
    ids, labels = np.arange(40), rng.integers(2, size=40)
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 128).save(buffer, "PNG")
    records = []
    for seed in range(2):
        logits = np.eye(2)[labels] + rng.normal(size=(40, 2))
        run_id = new_run()
        with Recorder(run_id=run_id, store=store, spool=spool, class_names=("x", "y")) as recorder:
            for scale in (0.1, 1.0):
                recorder.update(ids, logits=logits * scale, labels=labels)
                recorder.end_epoch()
            recorder.log_probabilities(ids, special.softmax(logits, axis=1))
            if not seed:
                recorder.log_thumbnails(ids, [buffer.getvalue()] * 40)
        records.append(store.open_record(run_id))
    return records


@pytest.fixture
def ensemble_scores(ensemble):
    return analysis.ensemble_scores(ensemble)


def test_an_ensemble_has_figures_galleries_and_tables(ensemble, ensemble_scores):
    correlations = analysis.ensemble_correlations(ensemble_scores, n_bootstrap=0)
    sections = reporting.ensemble_sections(
        ensemble, ensemble_scores, correlations, share=0.1, n_images=3
    )
    assert [(each.heading, each.figure is not None) for each in sections] == [
        ("Action against entropy", True),
        ("Accuracy by threshold", True),
        ("High action, low entropy", True),
        ("Low action, high entropy", True),
        ("Correlation of the scores", False),
        ("Runs", False),
        ("Accuracy at each threshold", False),
        ("Every sample", False),
    ]
    regions = analysis.ensemble_regions(ensemble_scores, share=0.1)
    for section in sections[2:4]:
        expected = regions[regions["region"] == section.heading.lower()].head(3)
        assert section.frame["sample_id"].tolist() == expected["sample_id"].tolist()
    marked = sections[-1].frame.dropna(subset=["region"])
    assert sorted(marked["sample_id"]) == sorted(regions["sample_id"])


def test_a_gallery_of_a_region_shows_label_prediction_action_and_entropy(ensemble):
    rows = pd.DataFrame(
        {"sample_id": [3, 5], "class": ["x", "y"], "predicted": ["y", "y"],
         "action": [0.912, 1.0], "entropy": [0.046, 0.0]}
    )  # fmt: skip
    figure, missing = reporting.region_gallery(ensemble[0], rows)
    assert missing == 0
    assert [axes.get_xlabel() for axes in figure.axes] == ["x → y\n0.91–0.05", "y → y\n1.00–0.00"]


def test_a_region_without_images_is_still_listed(ensemble, ensemble_scores):
    correlations = analysis.ensemble_correlations(ensemble_scores, n_bootstrap=0)
    section = reporting.ensemble_sections(ensemble[1:] * 2, ensemble_scores, correlations)[2]
    assert section.figure is None
    assert len(section.frame) == 1


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


@pytest.fixture
def comparison(new_run, store, spool, history):
    rng = np.random.default_rng(0)
    for model, spread in (("a", 0.1), ("a", 0.1), ("b", 3.0), ("b", 3.0)):
        noise = rng.gamma(1.0, spread, size=history.losses.shape).astype(np.float32)
        record_history(
            replace(history, losses=history.losses + noise), new_run(), store, spool, model=model
        )
    return analysis.load_records


def test_a_comparison_says_whether_same_model_values_lie_above(comparison, experiment):
    from actiontrack.store import RunQuery

    records = comparison(RunQuery(experiments=(experiment,)))
    made = analysis.compare_runs(records, n_bootstrap=20)
    text = reporting.describe_comparison(made)
    spearman = made.groups.query("method == 'spearman' and `class` == 'overall'")
    same = spearman.query("kind == 'same-model'")["mean"]
    cross = spearman.query("kind == 'cross-model'")["mean"]
    every = "every" if same.min() > cross.max() else "not every"
    assert f": {every} same-model value lies above every cross-model value" in text
    assert f"{same.min():.3f} to {same.max():.3f}" in text


def test_a_comparison_report_traces_every_number_to_run_ids(comparison, experiment):
    from actiontrack.store import RunQuery

    records = comparison(RunQuery(experiments=(experiment,)))
    report = reporting.comparison_report(records, analysis.compare_runs(records, n_bootstrap=5))
    page = report.to_html()
    assert all(each.run.run_id in page for each in records)
    assert "Correlation between models, Spearman" in " ".join(headings(report))


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


def test_a_report_names_the_other_records_of_its_runs(record, store, spool, history):
    record_history(replace(history, split="train"), record.run.run_id, store, spool, "softmax")
    opened = store.open_record(record.run.run_id)
    facts = section(reporting.run_report(opened), "Data and run").frame.set_index("what")["value"]
    assert facts["other records of the run"] == "train-probe"


def test_a_terminal_is_told_where_things_are(record, store, tracking_uri):
    text = reporting.describe_run(store, record.run)
    root = store.local_root(record.run)
    assert f"report     {root}/actiontrack/test-probe/report/report.html" in text
    assert f"mlflow ui --backend-store-uri {tracking_uri}" in text


def test_a_report_is_saved_beside_the_record(record, store):
    reporting.log_run_report(record)
    folder = store.local_root(record.run) / "actiontrack" / "test-probe" / "report"
    assert (folder / "report.html").is_file()
    assert {each.suffix for each in (folder / "figures").iterdir()} == {".png", ".svg"}
    assert store.open_record(record.run).manifest.complete


# ---------------------------------------------------------------- reports of a query


@pytest.fixture
def mixed(new_run, store, spool, history):
    """Two runs of a, two of b, one of a shorter training and one on other labels."""
    rng = np.random.default_rng(0)
    for model, spread in (("a", 0.1), ("a", 0.1), ("b", 3.0), ("b", 3.0)):
        noise = rng.gamma(1.0, spread, size=history.losses.shape).astype(np.float32)
        changed = replace(history, losses=history.losses + noise)
        record_history(changed, new_run(), store, spool, model=model)
    others = (make_history(3, 40, 3), replace(history, labels=(history.labels + 1) % 3))
    for other in others:
        record_history(other, new_run(), store, spool, model="a")
    return store


def test_a_query_of_runs_that_differ_is_reported_with_what_was_left_out(mixed, experiment):
    from actiontrack.store import RunQuery

    records = analysis.load_records(RunQuery(experiments=(experiment,)), store=mixed)
    report = reporting.query_report(records, n_bootstrap=5)
    part = section(report, "What is not comparable")
    assert len(report.sources) == 4
    left = set(part.frame["run_id"])
    assert left == {each.run.run_id for each in records} - {e.run_id for e in report.sources}
    reasons = part.frame["reason"].tolist()
    assert any(each == "number of steps is 3, not 4" for each in reasons)
    assert any(each.startswith("labels of run ") for each in reasons)
    assert "2 of the 6 runs of the query are left out" in section(report, "Summary").text


def test_every_number_of_a_comparison_leads_to_its_runs(mixed, experiment):
    from actiontrack.store import RunQuery

    records = analysis.load_records(RunQuery(experiments=(experiment,)), store=mixed)
    report = reporting.query_report(records, n_bootstrap=5)
    known = {each.run_id: each.digest for each in report.sources}
    assert all(each.run_ids for each in report.sections)
    assert {run for each in report.sections for run in each.run_ids} == set(known)
    assert known == {r.run.run_id: r.digest for r in records if r.run.run_id in known}
    single = section(report, "Loss of the hardest samples, b")
    (run_id,) = single.run_ids
    assert {each.run.run_id: each.manifest.model for each in records}[run_id] == "b"


def test_runs_of_which_no_two_compare_give_the_report_of_one(new_run, store, spool, experiment):
    from actiontrack.store import RunQuery

    for steps in (3, 4):
        record_history(make_history(steps, 40, 3), new_run(), store, spool)
    records = analysis.load_records(RunQuery(experiments=(experiment,)), store=store)
    report = reporting.query_report(records)
    assert report.title.startswith("Action scores of ")
    assert section(report, "What is not comparable").frame["run_id"].tolist() == [
        records[1].run.run_id
    ]


CODE_OF_A_REPORT = """
import sys
from pathlib import Path
from actiontrack import analysis, reporting
from actiontrack.store import RunQuery, Store
uri, experiment, folder = sys.argv[1:]
records = analysis.load_records(RunQuery(experiments=(experiment,)), store=Store(uri))
reporting.query_report(records, n_bootstrap=20).save(Path(folder))
"""


def test_other_processes_write_the_same_bytes(
    mixed, experiment, tracking_uri, tmp_path, in_subprocess
):
    folders = [tmp_path / "first", tmp_path / "second"]
    for seed, folder in enumerate(folders):
        in_subprocess(CODE_OF_A_REPORT, tracking_uri, experiment, folder, PYTHONHASHSEED=str(seed))
    first, second = (
        {
            path.relative_to(folder): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        for folder in folders
    )
    assert first.keys() == second.keys()
    assert len(first) > 30
    assert [str(name) for name in first if first[name] != second[name]] == []


def test_a_record_with_wrong_labels_reports_how_well_they_are_found(noisy, history):
    report = reporting.run_report(noisy[0])
    part = section(report, "Wrong labels")
    assert part.text in section(report, "Summary").text
    wrong = np.arange(40) < 4
    action = history.losses.astype(float).sum(axis=0)
    above = (action[wrong][:, None] > action[~wrong][None]).mean()
    row = part.frame.query("score == 'action'").iloc[0]
    assert row["auroc_mean"] == pytest.approx(above, abs=1e-12)


def test_entropy_is_reported_with_the_accuracy_of_each_region(record):
    part = section(reporting.run_report(record), "Action against entropy")
    table = record.scores()
    rows = part.frame.set_index("sample_id")
    known = table.set_index("sample_id").loc[rows.index]
    assert rows["correct"].tolist() == known["correct"].tolist()
    high = rows.loc[rows["region"] == "high action, low entropy", "correct"]
    assert f"{len(high)} samples have high action, low entropy, {high.mean():.1%}" in part.text


def test_runs_with_probabilities_are_reported_as_an_ensemble(ensemble):
    comparison = analysis.compare_runs(ensemble, n_bootstrap=0)
    report = reporting.comparison_report(ensemble, comparison, details=False)
    assert section(report, "Entropy").text.startswith(
        "The 2 runs taken as one ensemble. Over an ensemble of 2 models"
    )
    assert section(report, "High action, low entropy").level == 3


def test_samples_of_all_runs_come_by_their_mean_rank(ensemble):
    comparison = analysis.compare_runs(ensemble, n_bootstrap=0)
    report = reporting.comparison_report(ensemble, comparison, details=False)
    rows = section(report, "Hardest samples of all runs").frame
    ranks = [
        pd.Series(each.scores()["action"]).rank().sub(1).div(39).to_numpy() for each in ensemble
    ]
    mean = np.mean(ranks, axis=0)
    assert rows["sample_id"].tolist() == np.argsort(-mean, kind="stable")[:12].tolist()
    np.testing.assert_allclose(rows["rank"], np.sort(mean)[::-1][:12])


def test_the_hundredth_of_the_hardest_is_told_with_its_share(new_run, store, spool):
    history = make_history(3, 200, 3)
    run_id = new_run()
    record_history(history, run_id, store, spool)
    text = section(reporting.run_report(store.open_record(run_id)), "Summary").text
    action = np.sort(history.losses.astype(float).sum(axis=0))
    share = action[-2:].sum() / action.sum()
    assert f"The hardest 1 % of the samples hold {share:.1%} of all action." in text


@pytest.fixture
def reads(monkeypatch):
    """Names of the functions that read files of records, and how often each was called."""
    counts = Counter()

    def counted(name):
        function = getattr(stored_record, name)

        def wrapper(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        return wrapper

    for name in ("read_scores", "read_history", "read_samples"):
        monkeypatch.setattr(stored_record, name, counted(name))
    return counts


def test_a_report_of_one_run_reads_each_table_once(record, reads):
    reporting.run_report(record)
    assert reads == {"read_scores": 1, "read_history": 1, "read_samples": 1}


def test_a_report_of_four_runs_reads_scores_four_times_and_the_losses_of_each_model(
    mixed, experiment, reads
):
    from actiontrack.store import RunQuery

    records = analysis.load_records(RunQuery(experiments=(experiment,)), store=mixed)
    report = reporting.query_report(records, n_bootstrap=5)
    assert len(report.sources) == 4
    assert (reads["read_scores"], reads["read_history"]) == (4, 2)
    assert reads["read_samples"] <= 4


def test_a_report_up_to_a_step_reads_each_history_once(mixed, experiment, reads):
    from actiontrack.store import RunQuery

    records = analysis.load_records(RunQuery(experiments=(experiment,)), store=mixed)
    report = reporting.query_report(records[2:], n_bootstrap=5, up_to_step=2)
    assert len(report.sources) == 4
    # Whole for the scores up to the step; once more, losses only, for the curves of two models.
    assert reads["read_history"] == 4 + 2


def test_a_report_holds_no_more_tables_than_its_room(ensemble, monkeypatch):
    caches = []

    def small(_room):
        caches.append(Cache(4000))
        return caches[-1]

    monkeypatch.setattr(findings, "Cache", small)
    comparison = analysis.compare_runs(ensemble, n_bootstrap=0)
    report = reporting.comparison_report(ensemble, comparison, details=False)
    assert report.to_html().count("<section") > 5
    assert caches[0].n_bytes <= 4000
