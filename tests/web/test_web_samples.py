"""One sample: its row and ranks, and how its prediction is called."""

import pandas as pd
import pytest

from actiontrack.errors import NotFoundError
from actiontrack.history import Classes
from actiontrack.store import Store
from actiontrack.web.permissions import Everybody
from actiontrack.web.records import Records
from actiontrack.web.samples import (
    add_verdict,
    mislabelled,
    ordered_ids,
    prediction_badges,
    sample_ranks,
    sample_row,
    suggestions,
)


def test_a_sample_knows_its_rank_its_class_and_its_prediction(records, runs):
    hardest = records.ask("scores", runs["mlp-0"]).iloc[0]
    row = sample_row(records, runs["mlp-0"], None, hardest["sample_id"])
    ranks = sample_ranks(records, runs["mlp-0"], None, hardest["sample_id"])
    assert ranks.set_index("score")["rank"]["action"] == 1
    assert row["class"] == hardest["class"]
    names = records.open(runs["mlp-0"]).manifest.class_names
    assert row["predicted_class"] == names[hardest["predicted"]]


def test_ordered_ids_are_those_of_the_scores(records, runs):
    options = {"score": "aum", "order": "easiest"}
    expected = records.ask("scores", runs["mlp-0"], **options)["sample_id"]
    assert ordered_ids(records, runs["mlp-0"], **options).tolist() == expected.tolist()


@pytest.mark.parametrize("sample_id", [10**30, "3.0", "1_0"])
def test_what_is_no_id_of_the_record_is_not_found(records, runs, sample_id):
    with pytest.raises(NotFoundError, match="no sample"):
        sample_row(records, runs["mlp-0"], None, sample_id)


def test_whoever_may_not_edit_adds_no_verdict(recorded, runs):
    class Reader(Everybody):
        def may_use_run(self, _run_id, right):
            return right == "read"

    records = Records(Store(recorded[0]), permissions=Reader())
    with pytest.raises(NotFoundError, match="not found"):
        add_verdict(records, runs["detection"], None, 3, verdict="fine", who="reader")


# Badges: label, true label and prediction of each sample


def predictions(labels, true_labels, predicted):
    """A score table with the columns that badges are made of."""
    table = pd.DataFrame({"label": labels, "predicted": predicted})
    table["correct"] = table["label"] == table["predicted"]
    return table if true_labels is None else table.assign(true_label=true_labels)


@pytest.mark.parametrize(
    ("label", "truth", "predicted", "badge"),
    [
        (0, 1, 1, ("right", True)),  # the label is wrong, the model is not
        (0, 1, 0, ("wrong", False)),  # the model has learnt the wrong label
        (0, 0, 0, ("right", True)),
        (0, 0, 1, ("wrong", False)),
        (0, -1, 0, ("as labelled", True)),  # the truth is unknown
        (0, -1, 1, ("not as labelled", False)),
    ],
)
def test_a_prediction_is_judged_by_the_truth_where_it_is_known(label, truth, predicted, badge):
    assert prediction_badges(predictions([label], [truth], [predicted])) == [badge]


def test_without_true_labels_a_prediction_agrees_with_the_label_or_not():
    badges = prediction_badges(predictions([0, 0], None, [0, 1]))
    assert badges == [("as labelled", True), ("not as labelled", False)]


def test_a_label_is_wrong_only_where_the_truth_is_known():
    assert mislabelled(predictions([0, 1, 2], [0, 2, -1], [0, 0, 0])) == [False, True, False]


def test_without_predictions_there_is_no_badge():
    assert prediction_badges(pd.DataFrame({"label": [0, 1]})) == [None, None]


# Suggestions


def test_a_suggestion_names_the_class_and_is_likely_from_one_half_on():
    columns = {"suggested_class": [1, 0, -1], "p_suggested": [0.4, 0.2, float("nan")]}
    table = pd.DataFrame(columns | {"p_wrong": [0.5, 0.49, float("nan")]})
    first, second, third = suggestions(table, Classes(("cat", "dog")))
    assert (first.label, first.name, first.probability, first.p_wrong) == (1, "dog", 0.4, 0.5)
    assert (first.is_likely, second.is_likely, third) == (True, False, None)


def test_a_record_of_an_earlier_version_has_no_suggestions():
    table = pd.DataFrame({"label": [0, 1], "p_wrong": [0.5, 0.1]})
    assert suggestions(table, Classes(())) == [None, None]
