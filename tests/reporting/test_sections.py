"""What the sections of a report say."""

from dataclasses import replace

import numpy as np
import pytest
from report_sections import headings, section

from actiontrack import analysis, reporting
from actiontrack.recorder import Recorder
from actiontrack.testing import make_history, record_history

NO_IMAGES = "No images: record with thumbnails to see them."


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
    assert part.caption == NO_IMAGES


def test_where_images_are_missing_no_caption_describes_them(new_run, store, spool):
    run_id, ids = new_run(), np.arange(10)
    losses = np.linspace(1, 2, 10)
    with Recorder(run_id=run_id, store=store, spool=spool, class_names=("x", "y")) as recorder:
        recorder.update(ids, losses, labels=ids % 2, components={"part": losses / 2})
        recorder.end_epoch()
        recorder.log_features(ids, ids[:, None].astype(np.float32))
    report = reporting.run_report(store.open_record(run_id))
    for heading in (
        "Hardest samples by part",
        "Easiest samples by part",
        "Nearest neighbours of the hardest samples",
    ):
        part = section(report, heading)
        assert (part.figure, part.caption) == (None, NO_IMAGES)


def test_counts_are_no_parts_of_the_loss(new_run, store, spool):
    losses, run_id = np.linspace(1, 2, 10), new_run()
    with Recorder(run_id=run_id, store=store, spool=spool) as recorder:
        components = {"part": losses / 2, "n_anchors": np.full(10, 256)}
        recorder.update(np.arange(10), losses, components=components)
        recorder.end_epoch()
    record = store.open_record(run_id)
    headings = [part.heading for part in reporting.run_report(record).sections]
    assert "action_n_anchors" not in record.scores()
    assert "Hardest samples by part" in headings
    assert not any("anchors" in heading for heading in headings)


def test_samples_without_a_finite_action_are_counted(new_run, store, spool, history):
    losses = history.losses.copy()
    losses[1, 3] = np.nan
    run_id = new_run()
    record_history(replace(history, losses=losses), run_id, store, spool)
    text = section(reporting.run_report(store.open_record(run_id)), "Summary").text
    assert "1 samples have no finite action" in text


def test_a_report_shows_the_hardest_and_easiest_of_each_part_of_the_loss(with_boxes):
    report = reporting.run_report(with_boxes)
    hardest = section(report, "Hardest samples by box regression")
    assert hardest.frame["sample_id"].tolist() == ["a", "b"]
    assert hardest.frame["action_box_regression"].tolist() == [1.0, 0.5]
    easiest = section(report, "Easiest samples by box regression")
    assert easiest.frame["sample_id"].tolist() == ["b", "a"]


@pytest.mark.parametrize(("n_steps", "n_samples"), [(2, 40), (4, 2)])
def test_too_few_steps_or_curves_are_not_clustered(new_run, store, spool, n_steps, n_samples):
    run_id = new_run()
    record_history(make_history(n_steps, n_samples), run_id, store, spool)
    assert "Clusters of loss curves" not in headings(
        reporting.run_report(store.open_record(run_id))
    )


def test_a_record_with_features_reports_the_neighbours_of_the_hardest(with_features):
    part = section(reporting.run_report(with_features), "Nearest neighbours of the hardest samples")
    assert part.frame["query_id"].unique().tolist() == [9, 8, 7, 6, 5, 4]
    assert part.figure is not None
    same = np.mean(part.frame["query_id"] % 2 == part.frame["sample_id"] % 2)
    assert part.text.startswith(f"{same:.1%} of the 8 nearest neighbours of 6 samples are of ")


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
    assert sections[1].caption == NO_IMAGES


def test_the_section_on_pairs_states_how_many_wrong_labels_are_found(noisy, history):
    text = reporting.noise_sections(noisy[:1])[-1].text
    hardest = np.argsort(-history.losses.astype(float).sum(axis=0))[:4]
    found = int((hardest < 4).sum())
    assert text.endswith(f"{found} of 4 wrong labels are among them ({found / 4:.1%}).")


def test_models_without_wrong_labels_have_no_section_on_pairs(
    noisy, new_run, store, spool, history
):
    run_id = new_run()
    right = replace(history, split="train", true_labels=history.labels)
    record_history(right, run_id, store, spool, model="all right")
    sections = reporting.noise_sections([store.open_record(run_id), noisy[0]])
    (pairs,) = [each for each in sections if each.heading.endswith("which wrong labels are found")]
    assert pairs.heading.startswith("softmax: ")
    assert pairs.frame["n_wrong"].sum() == 4
    alone = reporting.noise_sections([store.open_record(run_id)])
    assert alone[0].frame["group"].tolist() == ["clean"]
    assert len(alone) == 3


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
    for part in sections[2:4]:
        expected = regions[regions["region"] == part.heading.lower()].head(3)
        assert part.frame["sample_id"].tolist() == expected["sample_id"].tolist()
    marked = sections[-1].frame.dropna(subset=["region"])
    assert sorted(marked["sample_id"]) == sorted(regions["sample_id"])


def test_a_region_without_images_is_still_listed(ensemble, ensemble_scores):
    correlations = analysis.ensemble_correlations(ensemble_scores, n_bootstrap=0)
    section = reporting.ensemble_sections(ensemble[1:] * 2, ensemble_scores, correlations)[2]
    assert section.figure is None
    assert section.caption == NO_IMAGES
    assert len(section.frame) == 1


def test_a_report_names_the_other_records_of_its_runs(record, store, spool, history):
    record_history(replace(history, split="train"), record.run.run_id, store, spool, "softmax")
    opened = store.open_record(record.run.run_id)
    facts = section(reporting.run_report(opened), "Data and run").frame.set_index("what")["value"]
    assert facts["other records of the run"] == "train-probe"


def test_a_report_is_saved_beside_the_record(record, store):
    reporting.log_run_report(record)
    folder = store.local_root(record.run) / "actiontrack" / "test-probe" / "report"
    assert (folder / "report.html").is_file()
    assert {each.suffix for each in (folder / "figures").iterdir()} == {".png", ".svg"}
    assert store.open_record(record.run).manifest.complete


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
