"""Questions about records: answers agree with the records, options follow their rules."""

from typing import get_args

import numpy as np
import pandas as pd
import pytest

from actiontrack.analysis import exploration, load_scores
from actiontrack.analysis.options import CorrelationsOptions, FilteredScore, OrderedOptions
from actiontrack.analysis.questions import QUESTIONS, ask
from actiontrack.compare import Method
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.store import RunQuery, Store


@pytest.fixture
def answer(records, runs):
    """A function that asks about runs by the names of `records.everything`."""

    def about(question, *names, **options):
        return records.ask(question, [runs[name] for name in names], **options)

    return about


# One run


def test_scores_are_those_of_the_analysis(recorded, answer, runs):
    expected = load_scores(RunQuery(run_ids=(runs["mlp-0"],)), tracking_uri=recorded[0])
    frame = answer("scores", "mlp-0").sort_values("sample_id", ignore_index=True)
    pd.testing.assert_frame_equal(frame, expected)


def test_the_hardest_samples_come_first(answer):
    action = answer("scores", "mlp-0")["action"]
    assert len(action) == 200
    assert action.is_monotonic_decreasing


def test_of_a_score_whose_low_values_are_hard_the_lowest_come_first(answer):
    assert answer("scores", "mlp-0", score="aum")["aum"].is_monotonic_increasing


def test_filters_hold_together(answer):
    frame = answer(
        "scores", "mlp-0", correct="wrong", low=0.5, high=30.0, **{"class": ["one", "two"]}
    )
    every_sample = answer("scores", "mlp-0")
    named = every_sample["class"].astype(str).isin(["one", "two"])
    inside = every_sample["action"].between(0.5, 30.0)
    expected = every_sample.loc[named & inside & ~every_sample["correct"], "sample_id"]
    assert set(frame["sample_id"]) == set(expected)
    assert len(frame)


def test_the_histogram_counts_every_sample_once(answer):
    overall = answer("distributions", "mlp-0", bins=7)
    by_class = answer("distributions", "mlp-0", bins=7, by="class")
    assert overall["count"].sum() == by_class["count"].sum() == 200
    per_bin = by_class.groupby("low")["count"].sum().to_numpy()
    assert per_bin.tolist() == overall["count"].tolist()


def test_curves_are_the_losses_of_the_record(answer, runs, recorded):
    curve = answer("curves", "mlp-0", id=["3"])
    history = Store(recorded[0]).open_record(runs["mlp-0"]).history()
    np.testing.assert_array_equal(curve["loss"], history.losses[:, 3])
    assert curve["action"].iloc[0] == pytest.approx(history.losses[:, 3].sum(dtype=np.float64))


def test_curves_of_several_runs_hold_the_same_sample_of_each(answer, runs):
    frame = answer("curves", "mlp-0", "linear-1", id=["3"])
    sizes = frame.groupby("run_id", sort=False).size().to_dict()
    assert sizes == dict.fromkeys([runs["mlp-0"], runs["linear-1"]], 12)


def test_a_sample_that_is_named_twice_has_one_curve(answer):
    pd.testing.assert_frame_equal(
        answer("curves", "mlp-0", id=["3", "3"]), answer("curves", "mlp-0", id=["3"])
    )


def test_neighbours_are_looked_for_in_features(answer):
    frame = answer("neighbours", "mlp-0", id=["3"], k=4)
    assert frame["query_id"].unique().tolist() == [3]
    assert frame["distance"].is_monotonic_increasing


def test_boxes_are_those_of_the_sample(answer):
    frame = answer("boxes", "detection", id="3")
    assert frame["kind"].tolist() == ["truth", "predicted"]
    assert set(frame["sample_id"]) == {3}


# Several runs


def test_pairs_keep_the_order_in_which_the_runs_are_named(answer):
    one, other = answer("pairs", "mlp-0", "linear-0"), answer("pairs", "linear-0", "mlp-0")
    assert one["score_a"].tolist() == other["score_b"].tolist()
    expected = answer("scores", "mlp-0").sort_values("sample_id")["action"]
    assert one["score_a"].tolist() == expected.tolist()


def test_pairs_up_to_a_step_are_sums_of_the_first_losses(answer, runs, recorded):
    frame = answer("pairs", "mlp-0", "linear-0", up_to_step=3)
    history = Store(recorded[0]).open_record(runs["mlp-0"]).history()
    assert history.steps[:3].tolist() == [1, 2, 3]
    expected = history.losses[:3].sum(axis=0, dtype=np.float64)
    np.testing.assert_allclose(frame["score_a"], expected, rtol=1e-12)


def test_entropy_of_one_run_is_its_final_entropy(answer):
    frame = answer("entropy", "mlp-0")
    scores = answer("scores", "mlp-0").sort_values("sample_id")
    assert frame["entropy_nats"].tolist() == scores["final_entropy"].tolist()
    assert (frame["action"].min(), frame["action"].max()) == (0, 1)


def test_entropy_of_an_ensemble_needs_probabilities(answer):
    assert len(answer("entropy", "mlp-0", "mlp-1")) == 200
    with pytest.raises(NotFoundError, match="holds no entropy"):
        answer("entropy", "regression")


# Options


@pytest.mark.parametrize(
    ("question", "options", "words"),
    [
        ("scores", {"score": "beauty"}, "score: must be one of"),
        ("scores", {"score": "class"}, "score: must be one of"),
        ("scores", {"class": ["x"]}, "class: must be one of"),
        ("scores", {"classes": ["one"]}, "query: must only hold class, correct"),
        ("scores", {"order": "sideways"}, "order: must be one of hardest, easiest"),
        ("scores", {"low": "nan"}, "low: must be a number"),
        ("scores", {"score": "\ud800"}, "score: must be text without lone surrogates"),
        ("clusters", {"k": 10**6}, "k: must be at most 20"),
        ("distributions", {"bins": 10**9}, "bins: must be at most 1000"),
        ("distributions", {"bins": 1.5}, "bins: must be a whole number"),
        ("neighbours", {"id": [" "]}, "id: must not be blank"),
        ("boxes", {}, "id: must be given"),
        ("precision", {"k": [0]}, "k: must lie in 1 to 200"),
        ("correlations", {}, "number of runs: must be 2 to 100 for"),
        ("beauty", {}, "question: must be one of scores"),
    ],
)
def test_an_option_that_breaks_a_rule_is_refused_by_name(answer, question, options, words):
    with pytest.raises(ParameterError, match=words):
        answer(question, "mlp-0", **options)


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=lambda question: question.name)
def test_every_option_has_a_description(question):
    fields = question.options.model_fields
    assert all(field.description for field in fields.values())
    assert len(question.columns) > 2


def test_choices_of_options_are_those_of_the_analysis():
    def choices(model, name):
        return get_args(model.model_fields[name].annotation)

    assert choices(FilteredScore, "correct") == exploration.CORRECT
    assert choices(OrderedOptions, "order") == exploration.ORDERS
    assert choices(CorrelationsOptions, "method") == (Method, type(None))


def test_a_server_has_limits_that_a_users_own_machine_has_not(recorded, runs):
    opened = [Store(recorded[0]).open_record(runs["mlp-0"])]
    assert ask("curves", opened, {"n": 2000})["sample_id"].nunique() == 200
    with pytest.raises(ParameterError, match="n: must be at most 1000"):
        ask("curves", opened, {"n": 2000}, limited=True)
    with pytest.raises(ParameterError, match="id: must be given at most 1000 times"):
        ask("curves", opened, {"id": ["3"] * 1001}, limited=True)


def test_without_records_nothing_is_asked():
    with pytest.raises(ParameterError, match="number of runs: must be 1 for"):
        ask("scores", [])
