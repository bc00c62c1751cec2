"""Reports of runs of a real store: what they say, and that they say it again."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from actiontrack import analysis, reporting
from actiontrack.recorder import Recorder
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
        "Run",
        "Distribution",
        "Difficulty per class",
        "Loss of the hardest samples",
        "Clusters of loss curves",
        "Hardest samples",
        "Easiest samples",
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
    frame = section(reporting.run_report(record), "Run").frame.set_index("what")["value"]
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
    verdict = "above" if same.min() > cross.max() else "not above"
    assert f"every same-model value lies {verdict} every cross-model value" in text
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
    rows = [("cnn", "aum", 0.95, 2), ("cnn", "action", 0.92, 2), ("cnn", "final_loss", 0.7, 2),
            ("res", "action", 0.99, 1)]  # fmt: skip
    summary = pd.DataFrame(rows, columns=["model", "score", "auroc_mean", "n_runs"])
    assert reporting.describe_noise(summary) == (
        "cnn: wrong labels are found at AUROC 0.920 by action, 0.700 by final_loss; best of 3 "
        "scores is aum with 0.950 (mean over 2 runs). "
        "res: wrong labels are found at AUROC 0.990 by action; best of 1 scores is action with "
        "0.990 (mean over 1 run)."
    )


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
