"""The experiment of Fig. 13: chunks, the greedy choice, trainings on parts, all of it on digits."""

import multiprocessing
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import message
from hypothesis import given, settings
from hypothesis import strategies as st

from actiontrack.errors import ActionTrackError, DataError, ParameterError
from projects.datasets import load_dataset
from projects.experiments import curriculum
from projects.experiments.curriculum import CurriculumParams, Ranking, Steps
from projects.experiments.curriculum_chunks import (
    BEST_RANDOM,
    EASIEST,
    GREEDY,
    HARDEST,
    LEFT_OVER,
    RANDOM,
    best_chunk,
    chunk_summary,
    chunks_by_score,
    gaps,
    strategy_lines,
)
from projects.experiments.curriculum_training import Outcome, _digest, part_trainer, train_on
from projects.experiments.experiment import experiment as start_experiment
from projects.models import build_model
from projects.params import TrainParams, validate

TINY = {"model": "cnn3", "epochs": 1, "subset": 120, "test_subset": 60, "device": "cpu"}
TINY |= {"threads": 1}
few = settings(max_examples=50, deadline=None)


# ---------------------------------------------------------------- chunks


@st.composite
def scored(draw):
    """Scores with ties, labels of three classes of different size, and a number of chunks."""
    sizes = draw(st.lists(st.integers(3, 12), min_size=1, max_size=3))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    score = st.integers(0, 6).map(float)
    scores = draw(st.lists(score, min_size=len(labels), max_size=len(labels)))
    return np.array(scores), labels, draw(st.integers(1, min(sizes)))


def cut(case):
    scores, labels, n_chunks = case
    return chunks_by_score(scores, labels, np.arange(len(scores)), n_chunks=n_chunks)


@few
@given(scored())
def test_every_chunk_has_the_same_number_of_every_class(case):
    _, labels, n_chunks = case
    chunks = cut(case)
    expected = np.bincount(labels).min() // n_chunks
    assert set(chunks) - {LEFT_OVER} == set(range(n_chunks))
    for chunk in range(n_chunks):
        assert set(np.bincount(labels[chunks == chunk])) == {expected}


@few
@given(scored())
def test_within_a_class_no_chunk_has_a_lower_score_than_an_easier_one(case):
    scores, labels, _ = case
    frame = pd.DataFrame({"score": scores, "label": labels, "chunk": cut(case)})
    for _, rows in frame[frame["chunk"] != LEFT_OVER].groupby("label"):
        ends = rows.groupby("chunk")["score"].agg(["min", "max"])
        assert (ends["max"].to_numpy()[:-1] <= ends["min"].to_numpy()[1:]).all()


@few
@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(case, random):
    scores, labels, n_chunks = case
    order = list(range(len(scores)))
    random.shuffle(order)
    shuffled = chunks_by_score(scores[order], labels[order], np.array(order), n_chunks=n_chunks)
    np.testing.assert_array_equal(shuffled, cut(case)[order])


def test_each_class_is_ranked_by_itself():
    chunks = chunks_by_score(
        [0.1, 0.4, 0.2, 0.3, 7.0, 5.0, 8.0, 6.0], [0] * 4 + [1] * 4, range(8), n_chunks=2
    )
    assert chunks.tolist() == [0, 1, 0, 1, 1, 0, 1, 0]


def test_what_is_left_over_lies_between_both_ends():
    chunks = chunks_by_score([1.0, 2.0, 3.0, 4.0, 5.0], [0] * 5, range(5), n_chunks=2)
    assert chunks.tolist() == [0, 0, LEFT_OVER, 1, 1]


def test_equal_scores_are_ranked_by_sample_id():
    chunks = chunks_by_score([1.0] * 4, [0] * 4, ["d", "b", "a", "c"], n_chunks=2)
    assert chunks.tolist() == [1, 0, 0, 1]


def test_more_chunks_than_samples_of_a_class_are_refused():
    text = (
        "chunks: must be an integer >= 1 and <= 2, the samples of the smallest class, got 3. "
        "Pass fewer chunks, or use more images."
    )
    with pytest.raises(ParameterError, match=message(text)):
        chunks_by_score(np.zeros(5), [0, 0, 0, 1, 1], range(5), n_chunks=3)


def test_scores_that_are_not_finite_are_refused():
    text = (
        "scores: must be finite, got '2 that are not'. "
        "Train with a smaller learning rate, so that no loss overflows."
    )
    with pytest.raises(ParameterError, match=message(text)):
        chunks_by_score([1.0, np.nan, np.inf, 2.0], [0] * 4, range(4), n_chunks=2)


def test_the_summary_tells_size_and_range_of_each_chunk():
    summary = chunk_summary([3.0, 1.0, 2.0, 9.0, 5.0], [1, 0, 0, LEFT_OVER, 1])
    assert summary.to_dict("list") == {
        "chunk": [0, 1],
        "n_images": [2, 2],
        "mean_action": [1.5, 4.0],
        "min_action": [1.0, 3.0],
        "max_action": [2.0, 5.0],
    }


# ---------------------------------------------------------------- choice and curves


@pytest.mark.parametrize(("accuracies", "expected"), [([0.3, 0.5, 0.4], 2), ([0.5, 0.4, 0.5], 1)])
def test_the_best_chunk_is_the_most_accurate_and_the_easiest_of_equals(accuracies, expected):
    candidates = pd.DataFrame({"chunk": [3, 2, 1], "accuracy": accuracies})
    assert best_chunk(candidates, "accuracy") == expected


FIXED = pd.DataFrame(
    [
        (RANDOM, 10, 2.0, 0.30, 0.32, 0.28),
        (RANDOM, 10, 2.2, 0.31, 0.30, 0.32),
        (EASIEST, 10, 1.0, 0.20, 0.20, 0.20),
        (RANDOM, 20, 2.1, 0.50, 0.50, 0.50),
        (EASIEST, 20, 2.1, 0.50, 0.50, 0.50),
    ],
    columns=[
        *("strategy", "n_images", "mean_action"),
        *("accuracy", "choosing_accuracy", "held_out_accuracy"),
    ],
)
CHOSEN = pd.DataFrame(
    {"chunk": [1, 0], "n_images": [10, 20], "mean_action": [3.0, 2.1]}
    | {name: [0.4, 0.5] for name in ("accuracy", "choosing_accuracy", "held_out_accuracy")}
)


@pytest.mark.parametrize(
    ("by", "measure", "expected"),
    [("accuracy", "accuracy", 0.31), ("choosing_accuracy", "held_out_accuracy", 0.28)],
)
def test_the_best_random_subset_is_chosen_by_one_accuracy_and_told_by_another(
    by, measure, expected
):
    lines = strategy_lines(CHOSEN, FIXED, by=by, measure=measure)
    best = lines[lines["strategy"] == BEST_RANDOM]
    assert best["accuracy"].tolist() == [expected, 0.5]


def test_the_chosen_sets_tell_which_chunk_was_added():
    lines = strategy_lines(CHOSEN, FIXED, by="accuracy", measure="accuracy")
    assert lines.loc[lines["strategy"] == GREEDY, "added"].tolist() == ["1", "0"]


def test_gaps_compare_means_by_size_and_leave_out_all_images():
    lines = strategy_lines(CHOSEN, FIXED, by="accuracy", measure="accuracy")
    assert gaps(lines, GREEDY, RANDOM).to_dict() == {10: pytest.approx(0.4 - 0.305)}


# ---------------------------------------------------------------- trainings on parts


@pytest.fixture(scope="module")
def outcomes():
    """One training on each of two parts of digits."""
    params = validate(TrainParams, TINY)
    ids = training_ids(params)
    return params, [train_on(params, ids[:40]), train_on(params, ids[40:])]


def training_ids(params):
    return load_dataset(params)[0].ids


def test_a_training_sees_its_part_only(outcomes):
    assert [outcome.n_images for outcome in outcomes[1]] == [40, 80]


def test_every_part_starts_from_the_initial_weights_that_the_seed_gives(outcomes):
    params, (first, second) = outcomes
    torch.manual_seed(params.seed)
    fresh = build_model("cnn3", in_channels=1, image_size=8, n_classes=10)
    assert first.initial_weights == second.initial_weights == _digest(fresh)


def test_another_seed_starts_from_other_weights(outcomes):
    params, (first, _) = outcomes
    other = train_on(validate(TrainParams, TINY | {"seed": 1}), training_ids(params)[:40])
    assert other.initial_weights != first.initial_weights


def test_the_halves_of_the_test_split_make_up_the_whole(outcomes):
    for outcome in outcomes[1]:
        halves = outcome.choosing_accuracy + outcome.held_out_accuracy
        assert outcome.accuracy == pytest.approx(halves / 2)
        assert outcome.n_test == 60


def test_the_order_in_which_a_part_is_named_does_not_matter(outcomes):
    params, (first, _) = outcomes
    again = train_on(params, training_ids(params)[:40][::-1])
    assert replace(again, seconds=0.0) == replace(first, seconds=0.0)


def test_processes_come_to_the_same_outcome(outcomes):
    params, expected = outcomes
    ids = training_ids(params)
    with part_trainer(params, parallel=2) as trainer:
        results = trainer.train([ids[:40], ids[40:]])
    assert [replace(outcome, seconds=0.0) for outcome in results] == [
        replace(outcome, seconds=0.0) for outcome in expected
    ]


@pytest.mark.long
def test_an_error_in_a_process_is_told_as_it_is(tmp_path):
    params = validate(TrainParams, TINY | {"dataset": f"folder:{tmp_path / 'absent'}"})
    with pytest.raises(DataError, match="absent"), part_trainer(params, parallel=2) as trainer:
        trainer.train([np.array(["a"])])


@pytest.mark.long
def test_a_process_that_dies_is_an_error_in_one_line(outcomes):
    params, _ = outcomes
    ids = training_ids(params)
    text = (
        "a process that trains died, for instance for want of memory. Pass a smaller --parallel, "
        "and start again: what is finished is not done again."
    )
    with part_trainer(params, parallel=2) as trainer:
        trainer.train([ids[:40]])
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        with pytest.raises(ActionTrackError, match=message(text)):
            trainer.train([ids[:40]])


# ---------------------------------------------------------------- steps


class Scripted:
    """In place of trainings: the accuracy of each set of chunks, one sample in each chunk."""

    def __init__(self, table):
        self.table, self.trained = table, []

    def train(self, parts, **_):
        names = ["".join(map(str, sorted(part.tolist()))) for part in parts]
        self.trained += names
        return [
            Outcome(
                n_images=len(name),
                accuracy=self.table.get(name, (0.5, 0.5))[0],
                choosing_accuracy=self.table.get(name, (0.5, 0.5))[1],
                held_out_accuracy=0.5,
                n_test=100,
                seconds=1.0,
                initial_weights="same",
            )
            for name in names
        ]


RANKING = Ranking(
    sample_ids=np.arange(3),
    labels=np.zeros(3, dtype=np.int64),
    scores=np.array([1.0, 2.0, 6.0]),
    chunks=np.arange(3),
    digest="scores",
)
TABLE = {"0": (0.5, 0.5), "1": (0.7, 0.6), "2": (0.6, 0.7)}
TABLE |= {"01": (0.8, 0.1), "12": (0.75, 0.2), "02": (0.3, 0.3)}


@pytest.fixture
def steps(store, experiment, monkeypatch):
    """A function that takes the steps of an experiment of three samples with a script."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    params = validate(CurriculumParams, {"chunks": 3})

    def go(script, ask, ranking=RANKING):
        with start_experiment("curriculum", params, store) as current:
            return ask(Steps(current, params, ranking, script, "training"))

    return go


def test_each_step_keeps_the_chunk_of_the_highest_accuracy(steps):
    script = Scripted(TABLE)
    chosen = steps(script, lambda taken: taken.greedy("accuracy"))
    assert chosen["chunk"].tolist() == [1, 0, 2]
    assert chosen["n_candidates"].tolist() == [3, 2, 1]
    assert chosen["mean_action"].tolist() == [2.0, 1.5, 3.0]
    assert script.trained == ["0", "1", "2", "01", "12", "012"]


def test_the_choice_on_one_half_takes_another_path_and_shares_the_first_step(steps):
    script = Scripted(TABLE)

    def both(taken):
        taken.greedy("accuracy")
        return taken.greedy("choosing_accuracy")

    assert steps(script, both)["chunk"].tolist() == [2, 0, 1]
    assert script.trained == ["0", "1", "2", "01", "12", "012", "02", "12"]


def test_nothing_is_chosen_in_the_fixed_orders(steps):
    script = Scripted({})
    fixed = steps(script, lambda taken: taken.fixed())
    counts = fixed.value_counts(["strategy", "n_images"])
    assert counts[RANDOM].sort_index().tolist() == [3, 3, 1]
    for order, first, second in ((EASIEST, "0", "01"), (HARDEST, "2", "12")):
        assert counts[order].sort_index().tolist() == [1, 1, 1]
        assert {first, second} <= set(script.trained)


def test_random_subsets_have_the_classes_and_the_size_of_the_chunks():
    labels = np.repeat([0, 1], 6)
    chunks = chunks_by_score(np.arange(12.0), labels, range(12), n_chunks=3)
    ranking = replace(RANKING, sample_ids=np.arange(12), labels=labels, chunks=chunks)
    drawn = [ranking.random(2, seed) for seed in range(5)]
    assert {tuple(np.bincount(labels[positions])) for positions in drawn} == {(4, 4)}
    assert len({tuple(positions) for positions in drawn}) > 1


def test_steps_that_are_finished_are_skipped_and_read_alike(steps, capsys):
    first = steps(Scripted(TABLE), lambda taken: taken.greedy("accuracy"))
    capsys.readouterr()
    script = Scripted(TABLE)
    second = steps(script, lambda taken: taken.greedy("accuracy"))
    pd.testing.assert_frame_equal(first, second)
    assert script.trained == []
    skipped = re.findall(r"== (.*): skipped, finished already in run", capsys.readouterr().out)
    assert skipped == [
        "1 of 3 chunks: one chunk",
        "2 of 3 chunks: chunks 1 and one more",
        "all chunks",
    ]


def test_other_scores_are_trained_on_anew(steps):
    steps(Scripted(TABLE), lambda taken: taken.greedy("accuracy"))
    script = Scripted(TABLE)
    steps(script, lambda taken: taken.greedy("accuracy"), replace(RANKING, digest="others"))
    assert script.trained == ["0", "1", "2", "01", "12", "012"]


# ---------------------------------------------------------------- the experiment


ARGUMENTS = ["--subset", "120", "--test_subset", "60", "--epochs", "2", "--score_epochs", "1"]
ARGUMENTS += ["--chunks", "2", "--parallel", "1", "--random_subsets", "2", "--device", "cpu"]


def test_digits_are_ranked_trained_on_and_reported(
    experiment, tmp_path, monkeypatch, capsys, store
):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    curriculum.main(ARGUMENTS)
    printed = capsys.readouterr().out
    size, left = map(int, re.search(r"2 chunks of (\d+) images, (\d+) left", printed).groups())
    assert 2 * size + left == 120
    assert "beats the best of 2 random subsets at" in printed
    (page,) = (tmp_path / "artifacts").glob("*/artifacts/curriculum/report.html")
    figures = {path.stem.partition("-")[2] for path in (page.parent / "figures").glob("*.png")}
    assert figures == {
        "accuracy-as-the-paper-measures-it",
        "accuracy-on-images-that-have-no-part-in-the-choice",
        "mean-action-of-the-training-images",
    }
    (table,) = page.parent.glob("tables/*all-trainings.parquet")
    trainings = pd.read_parquet(table)
    assert len(set(trainings["initial_weights"])) == 1
    # for each choice two candidates, then two random subsets, two orders, all chunks
    assert trainings["n_images"].tolist() == [size] * (2 * 2 + 2 + 2) + [2 * size]
