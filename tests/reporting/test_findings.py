"""A report reads every table once, in bounded memory."""

from collections import Counter

import pytest

from actiontrack import analysis, reporting
from actiontrack.reporting import findings
from actiontrack.store import Cache
from actiontrack.store import record as stored_record


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
