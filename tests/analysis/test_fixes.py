"""Which labels are wrong, what is right in their place, and how many there are."""

import numpy as np
import pytest
from helpers import message
from mislabelled import LABELS, N_SAMPLES, TRUTH, WRONG, mislabelled_history

from actiontrack import analysis
from actiontrack.analysis import verdicts
from actiontrack.analysis.questions import ask
from actiontrack.analysis.sentences import describe_wrong_labels
from actiontrack.analysis.verdicts import Verdict
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.testing import make_history

NAMES = np.array(["ant", "bee", "cat"])


@pytest.fixture
def mislabelled(record):
    return record(mislabelled_history(true_labels=TRUTH), "m")


def judge(record, **said):
    verdicts.add(record, [Verdict(who="me", **said)])


def test_the_wrong_labels_are_suspect_and_the_true_class_is_suggested(mislabelled):
    fixes = analysis.label_fixes(mislabelled)
    assert sorted(fixes["sample_id"]) == WRONG.tolist()
    rows = fixes["sample_id"].to_numpy()
    assert fixes["class"].tolist() == NAMES[LABELS[rows]].tolist()
    assert fixes["suggested_class"].tolist() == NAMES[TRUTH[rows]].tolist()
    assert fixes["true_class"].tolist() == fixes["suggested_class"].tolist()
    assert fixes["verdict"].isna().all()


def test_the_most_suspect_label_comes_first_with_the_stored_probabilities(mislabelled):
    fixes = analysis.label_fixes(mislabelled, at_least=0)
    assert sorted(fixes["sample_id"]) == list(range(N_SAMPLES))
    assert fixes["p_wrong"].is_monotonic_decreasing
    stored = mislabelled.scores().set_index("sample_id").loc[fixes["sample_id"]]
    assert fixes["p_wrong"].tolist() == stored["p_wrong"].tolist()
    assert fixes["p_suggested"].tolist() == stored["p_suggested"].tolist()


def test_the_probability_that_is_asked_for_counts_itself(mislabelled):
    table = mislabelled.scores()
    value = float(table["p_wrong"].median())
    value = float(table.loc[table["p_wrong"] >= value, "p_wrong"].min())  # that of a sample
    expected = table.loc[table["p_wrong"] >= value, "sample_id"]
    fixes = analysis.label_fixes(mislabelled, at_least=value)
    assert sorted(fixes["sample_id"]) == expected.tolist()
    assert fixes["p_wrong"].min() == value


def test_without_true_labels_there_is_no_true_class(record):
    fixes = analysis.label_fixes(record(mislabelled_history()))
    assert "true_class" not in fixes
    assert len(fixes) == len(WRONG)


def test_people_are_heard_before_the_network(mislabelled):
    fine, named, unnamed = int(WRONG[0]), int(WRONG[1]), 5
    third = int(3 - LABELS[named] - TRUTH[named])
    judge(mislabelled, sample_id=fine, verdict="fine")
    judge(mislabelled, sample_id=named, verdict="wrong_label", new_label=third)
    judge(mislabelled, sample_id=unnamed, verdict="wrong_label")
    fixes = analysis.label_fixes(mislabelled).set_index("sample_id")
    assert set(fixes.index) == {*WRONG.tolist(), unnamed} - {fine}
    assert fixes.loc[named, "suggested_class"] == NAMES[third]
    assert np.isnan(fixes.loc[named, "p_suggested"])
    assert fixes.loc[[named, unnamed], "verdict"].tolist() == ["wrong_label"] * 2


def test_corrected_labels_are_the_truth_of_every_sample(mislabelled):
    corrected = analysis.corrected_labels(mislabelled)
    assert corrected.columns.tolist() == ["id", "label"]
    assert corrected["id"].tolist() == list(range(N_SAMPLES))
    assert corrected["label"].tolist() == NAMES[TRUTH].tolist()


def test_corrected_labels_are_those_that_people_want(mislabelled):
    fine, named = int(WRONG[0]), 5
    judge(mislabelled, sample_id=fine, verdict="fine")
    judge(mislabelled, sample_id=named, verdict="wrong_label", new_label=0)
    expected = NAMES[TRUTH]
    expected[fine], expected[named] = NAMES[LABELS[fine]], "ant"
    assert analysis.corrected_labels(mislabelled)["label"].tolist() == expected.tolist()


def test_classes_without_names_are_corrected_by_their_index(record):
    corrected = analysis.corrected_labels(record(mislabelled_history(class_names=())))
    assert corrected["label"].tolist() == [str(label) for label in TRUTH]


def test_a_sample_without_a_label_has_none_to_correct(record):
    labels = LABELS.copy()
    labels[7] = -1
    corrected = analysis.corrected_labels(record(mislabelled_history(labels=labels)))
    assert corrected["id"].tolist() == np.delete(np.arange(N_SAMPLES), 7).tolist()


def test_the_count_is_near_the_number_of_wrong_labels(mislabelled):
    (row,) = analysis.wrong_label_counts([mislabelled]).itertuples()
    assert row.n_samples == N_SAMPLES
    assert row.n_wrong == pytest.approx(len(WRONG), abs=2)
    assert row.low <= row.n_wrong <= row.high
    assert row.share == pytest.approx(row.n_wrong / N_SAMPLES)
    assert (row.run_id, row.record) == (mislabelled.run.run_id, mislabelled.name)


def test_counts_of_classes_add_up_to_that_of_all_labels(mislabelled):
    total = analysis.wrong_label_counts([mislabelled])
    by_class = analysis.wrong_label_counts([mislabelled], by_class=True)
    assert by_class["n_samples"].sum() == N_SAMPLES
    assert by_class["n_wrong"].sum() == pytest.approx(total["n_wrong"].iloc[0])
    given = np.bincount(LABELS[WRONG], minlength=3)
    for row in by_class.to_dict("records"):
        index = NAMES.tolist().index(row["class"])
        assert row["n_samples"] == LABELS.tolist().count(index)
        assert row["n_wrong"] == pytest.approx(given[index], abs=2)
    assert by_class["n_wrong"].is_monotonic_decreasing


def test_labels_learnt_by_heart_are_found_in_earlier_steps(record):
    run = record(mislabelled_history(by_heart=True))
    late, early = (analysis.wrong_label_counts([run], up_to_step=step) for step in (None, 2))
    assert late["n_wrong"].iloc[0] < len(WRONG) / 2
    assert early["n_wrong"].iloc[0] == pytest.approx(len(WRONG), abs=2)
    assert sorted(analysis.label_fixes(run, up_to_step=2)["sample_id"]) == WRONG.tolist()
    assert "The range is wide" in describe_wrong_labels(late)
    assert "The range is wide" not in describe_wrong_labels(early)


LACKS = [
    (
        {"labels": None},
        "no labels",
        "Pass labels to Recorder.describe_samples, and train again.",
    ),
    (
        {"measures": {}},
        "no probabilities of classes",
        "Record a classifier by its logits and labels, and train again.",
    ),
    (
        {"without": ("largest_other",)},
        "no largest other class, as those of earlier versions",
        "Train again with this version.",
    ),
]


@pytest.mark.parametrize(
    ("changes", "lack", "remedy"), LACKS, ids=["labels", "classifier", "version"]
)
def test_a_record_that_lacks_something_says_what(record, changes, lack, remedy):
    run = record(mislabelled_history(**changes))
    where = f"record train-probe of run {run.run.run_id} ({run.run.name})"
    text = f"{where} holds {lack}: it can't tell which labels are wrong. {remedy}"
    with pytest.raises(NotFoundError, match=message(text)):
        analysis.label_fixes(run)
    with pytest.raises(NotFoundError, match=message(text)):
        analysis.wrong_label_counts([run])


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_probability_out_of_range_is_refused(mislabelled, value):
    with pytest.raises(ParameterError, match=r"^at_least: must lie in 0 to 1, got "):
        analysis.label_fixes(mislabelled, at_least=value)


def test_a_step_that_was_not_reached_is_refused(mislabelled):
    with pytest.raises(ParameterError, match=r"^up_to_step: must be a recorded step, at most 6"):
        analysis.wrong_label_counts([mislabelled], up_to_step=9)


def test_the_questions_answer_the_same(mislabelled):
    fixes = ask("fixes", [mislabelled], {"at_least": "0.5", "up_to_step": "6"})
    expected = analysis.label_fixes(mislabelled, up_to_step=6)
    assert fixes["sample_id"].tolist() == expected["sample_id"].tolist()
    by_class = ask("wrong_labels", [mislabelled], {"by": "class"})
    assert set(by_class["class"]) == set(NAMES)


def test_a_history_of_testing_tells_of_its_labels(record):
    assert len(analysis.wrong_label_counts([record(make_history(n_samples=60))])) == 1
