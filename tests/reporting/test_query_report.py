"""Reports of several runs."""

import os

import numpy as np
import pandas as pd
from report_sections import headings, section

from actiontrack import analysis, reporting
from actiontrack.testing import make_history, record_history


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


def test_a_contrast_of_models_without_images_says_so(comparison, experiment):
    from actiontrack.store import RunQuery

    records = comparison(RunQuery(experiments=(experiment,)))
    report = reporting.comparison_report(records, analysis.compare_runs(records, n_bootstrap=0))
    part = section(report, "Hard for a, easy for b")
    assert part.figure is None
    assert part.caption == "No images: record with thumbnails to see them."


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
    mixed, experiment, tracking_uri, tmp_path, in_subprocess, in_warm_process
):
    folders = [tmp_path / "first", tmp_path / "second"]
    in_warm_process(CODE_OF_A_REPORT, tracking_uri, experiment, folders[0])
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # not that of the warm process
    in_subprocess(CODE_OF_A_REPORT, tracking_uri, experiment, folders[1], PYTHONHASHSEED=seed)
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
