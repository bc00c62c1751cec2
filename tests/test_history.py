import numpy as np
import pytest
from helpers import message

from actiontrack.errors import ParameterError
from actiontrack.history import (
    DELTA_KINDS,
    MEASURES,
    MODES,
    Classes,
    LossHistory,
    known_truth,
    wrong_labels,
)

LOSSES = np.arange(6, dtype=np.float64).reshape(2, 3)


def history(**changes):
    return LossHistory(**{"losses": LOSSES, "sample_ids": [3, 5, 9]} | changes)


def test_defaults_count_epochs_from_one_with_weight_one_and_everything_seen():
    found = history()
    assert found.steps.tolist() == [1, 2]
    assert found.deltas.tolist() == [1.0, 1.0]
    assert found.seen.all()
    assert (found.n_steps, found.n_samples) == (2, 3)


def test_losses_become_float32():
    assert history().losses.dtype == np.float32


def test_a_history_is_frozen():
    with pytest.raises(AttributeError, match="cannot assign to field 'mode'"):
        history().mode = "inline"


@pytest.mark.parametrize(("steps", "expected"), [([0, 1], True), ([1, 2], False)])
def test_the_initial_state_is_step_zero(steps, expected):
    assert history(steps=np.array(steps)).has_initial_state is expected


def test_a_history_without_steps_has_no_initial_state():
    assert history(losses=np.empty((0, 3))).has_initial_state is False


def test_nan_and_infinite_losses_are_counted_and_missing_ones_are_not():
    losses = np.array([[np.nan, np.inf, np.nan], [1, -np.inf, 1]])
    seen = np.array([[True, True, False], [True, True, True]])
    assert history(losses=losses, seen=seen).n_nonfinite == 3


def test_a_loss_that_was_not_seen_becomes_nan():
    losses = LOSSES.astype(np.float32)
    seen = np.array([[True, True, False], [True, True, True]])
    found = history(losses=losses, seen=seen)
    np.testing.assert_array_equal(found.losses, [[0, 1, np.nan], [3, 4, 5]])
    assert losses[0, 2] == 2, "the caller's array is left alone"


def test_lists_are_accepted_for_labels_and_seen():
    found = history(labels=[0, 1, 2], true_labels=[0, 0, 2], seen=[[True] * 3] * 2)
    assert found.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("ids", [["a", "b", "c"], np.array(["a", "b", "c"], dtype=object)])
def test_string_ids_become_a_string_array(ids):
    assert history(sample_ids=ids).sample_ids.dtype.kind == "U"


def test_no_samples_are_a_valid_history():
    assert history(losses=np.empty((2, 0)), sample_ids=[]).n_samples == 0


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", DELTA_KINDS)
def test_every_mode_and_delta_kind_is_accepted(mode, kind):
    assert history(mode=mode, delta_kind=kind).mode == mode


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"losses": np.zeros(3)},
            "losses: must have shape (n_steps, n_samples), got (3,). Stack the steps.",
        ),
        (
            {"sample_ids": [1, 2]},
            "sample_ids: must have shape (3,), got (2,). Give one value per sample and step.",
        ),
        (
            {"labels": [1, 2]},
            "labels: must have shape (3,), got (2,). Give one value per sample and step.",
        ),
        (
            {"seen": np.ones((3, 2), bool)},
            "seen: must have shape (2, 3), got (3, 2). Give one value per sample and step.",
        ),
        (
            {"steps": np.array([1])},
            "steps: must have shape (2,), got (1,). Give one value per sample and step.",
        ),
        (
            {"measures": {"margin": np.ones(3)}},
            "margin: must have shape (2, 3), got (3,). Give one value per sample and step.",
        ),
        (
            {"components": {"box": np.ones(3)}},
            "box: must have shape (2, 3), got (3,). Give one value per sample and step.",
        ),
        (
            {"sample_ids": [3, 3, 9]},
            "sample_ids: must be unique and ascending, got [3, 3, 9]. Sort by id first.",
        ),
        (
            {"sample_ids": ["b", "a", "c"]},
            "sample_ids: must be unique and ascending, got ['b', 'a', 'c']. Sort by id first.",
        ),
        (
            {"sample_ids": [0.5, 1.5, 2.5]},
            (
                "sample_ids: must be integers or strings, got [0.5, 1.5, 2.5]. "
                "Give each sample a stable id."
            ),
        ),
        (
            {"losses": np.zeros((2, 2)), "sample_ids": [False, True]},
            (
                "sample_ids: must be integers or strings, got [False, True]. "
                "Give each sample a stable id."
            ),
        ),
        (
            {"steps": np.array([2, 2])},
            "steps: must ascend, got [2, 2]. Sort the steps, drop repeats.",
        ),
        (
            {"deltas": np.array([1.0, 0.0])},
            "deltas: must be positive, got 0.0. Pass Δn > 0 for each step.",
        ),
        (
            {"deltas": np.array([1.0, np.nan])},
            "deltas: must be positive, got nan. Pass Δn > 0 for each step.",
        ),
        (
            {"mode": "train"},
            "mode: must be one of probe, inline, got 'train'. Choose one of these.",
        ),
        (
            {"delta_kind": "hours"},
            "delta_kind: must be one of epoch, batch, wall_time, got 'hours'. Choose one of these.",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_message(changes, text):
    with pytest.raises(ParameterError, match=message(text)):
        history(**changes)


def test_every_measure_is_explained():
    assert all(MEASURES.values())


NAMED = Classes(("cat", "dog"))


@pytest.mark.parametrize(
    ("classes", "index", "name"),
    [
        (NAMED, 1, "dog"),
        (NAMED, np.int64(0), "cat"),
        (NAMED, 0.0, "cat"),
        (NAMED, -1, "unknown"),
        (NAMED, 2, "unknown"),
        (NAMED, None, "unknown"),
        (NAMED, float("nan"), "unknown"),
        (Classes(), 7, "7"),
        (Classes(), -1, "unknown"),
    ],
)
def test_a_class_index_has_one_name(classes, index, name):
    assert classes.of(index) == name


@pytest.mark.parametrize("classes", [NAMED, Classes()])
def test_names_of_many_indices_are_those_of_each(classes):
    indices = np.array([1, -1, 0, 5, 1, -7])
    assert classes.of_each(indices).tolist() == [classes.of(index) for index in indices]
    assert classes.of_each(np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize(
    ("classes", "indices", "codes", "names"),
    [
        (NAMED, [1, 0], [1, 0], ("cat", "dog")),
        (NAMED, [1, -1, 2], [1, 2, 2], ("cat", "dog", "unknown")),
        (Classes(("unknown", "dog")), [1, -1], [1, 0], ("unknown", "dog")),
        (Classes(), [2, -1], [2, 3], ("0", "1", "2", "unknown")),
        (Classes(), [], [], ()),
    ],
)
def test_coded_indices_are_positions_in_the_names(classes, indices, codes, names):
    found = classes.coded(np.array(indices, dtype=np.int64))
    assert (found[0].tolist(), found[1]) == (codes, names)


def test_a_label_is_wrong_only_where_the_truth_is_known():
    labels, truth = np.array([0, 1, 2, -1]), np.array([0, 2, -1, 1])
    assert wrong_labels(labels, truth).tolist() == [False, True, False, False]
    assert known_truth(labels, truth).tolist() == [True, True, False, False]
