"""Reports of runs of a real store: what they say, and that they say it again."""

import io
from dataclasses import replace

import numpy as np
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
