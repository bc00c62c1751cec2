"""What is no record, frame or query is refused by name, with the remedy."""

import pandas as pd
import pytest

from actiontrack import analysis, reporting
from actiontrack.analysis import changes, exploration, verdicts
from actiontrack.errors import ParameterError
from actiontrack.testing import make_history, record_history

OF_RECORDS = [
    *(analysis.accuracy_by_threshold, analysis.align, analysis.compare_runs),
    *(analysis.correlation_by_quantile, analysis.ensemble_scores, analysis.loss_curves),
    *(analysis.map_correlation, analysis.noise_detection, analysis.noise_pairs),
    *(analysis.noise_scores, analysis.runs_frame, analysis.score_frame),
    *(analysis.split_comparable, analysis.stability, exploration.action_and_entropy),
    *(reporting.query_report, reporting.noise_sections, analysis.wrong_label_counts),
]
OF_A_RECORD = [
    *(analysis.curve_clusters, analysis.feature_map, analysis.neighbours),
    *(analysis.pixel_classes, analysis.pixel_regions, verdicts.read),
    *(analysis.label_fixes, analysis.corrected_labels),
    *(reporting.model_card, reporting.run_report),
]
OF_SCORES = [analysis.class_distributions, analysis.easiest, analysis.hardest]
NO_RECORDS = [pd.DataFrame({"action": [1.0]}), "test-probe", {"a": 1}, None, [1, 2], 7]


def name_of(value):
    return getattr(value, "__name__", type(value).__name__)


@pytest.mark.parametrize("function", OF_RECORDS, ids=name_of)
@pytest.mark.parametrize("value", NO_RECORDS, ids=name_of)
def test_what_are_no_records_is_refused(function, value):
    with pytest.raises(ParameterError, match=r"^records: must be open records, got '.*load_rec"):
        function(value)


@pytest.mark.parametrize("function", OF_A_RECORD, ids=name_of)
@pytest.mark.parametrize("value", NO_RECORDS, ids=name_of)
def test_what_is_no_record_is_refused(function, value):
    with pytest.raises(ParameterError, match=r"^record: must be an open record, got '.*open_rec"):
        function(value)


@pytest.mark.parametrize("function", OF_SCORES, ids=name_of)
@pytest.mark.parametrize("value", [[], "scores", None], ids=name_of)
def test_what_are_no_scores_is_refused(function, value):
    with pytest.raises(ParameterError, match=r"^scores: must be a score frame, got '.*load_sco"):
        function(value)


@pytest.fixture
def record(store, run_id, spool):
    record_history(make_history(), run_id, store, spool)
    return store.open_record(run_id)


def test_a_single_record_in_place_of_several_is_refused_with_the_remedy(record):
    text = r"^records: must be a list of records, got 'one record'\. Pass \[record\]\.$"
    with pytest.raises(ParameterError, match=text):
        analysis.score_frame(record)


def test_no_records_at_all_are_refused():
    with pytest.raises(ParameterError, match=r"^records: must be one record or more, got 0"):
        analysis.score_frame([])


def test_a_set_that_is_no_set_of_records_is_named(record):
    with pytest.raises(ParameterError, match=r"^after: must be open records, got 'a DataFrame'"):
        changes.compare_sets([record], pd.DataFrame())


def test_a_text_in_place_of_a_query_is_refused(store):
    with pytest.raises(ParameterError, match=r"^query: must be a RunQuery, got 'digits'"):
        analysis.load_records("digits", store=store)
