"""What every step of a record held, as text and in total."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actiontrack.record.steps import (
    NO_STEPS,
    Block,
    StepEntry,
    StepTotals,
    steps_from_text,
    steps_to_text,
)

N = 9
STEPS = (StepEntry(3, 1.0, 9), StepEntry(4, 1.0, 8, 1), StepEntry(6, 0.5, 9, 0, 2))


@st.composite
def steps_of_a_file(draw):
    """Steps in ascending order, of fields that are equal or that differ."""
    numbers = draw(st.sets(st.integers(0, 2**31 - 1), min_size=1, max_size=9))
    if draw(st.booleans()):
        first = draw(st.integers(0, 2**31 - 10))
        numbers = range(first, first + len(numbers))
    deltas = st.floats(1e-300, 1e300) | st.just(1.0)
    counts = st.integers(0, 2**63) | st.just(0)
    return tuple(
        StepEntry(number, draw(deltas), draw(st.integers(0, N)), draw(counts), draw(counts))
        for number in sorted(numbers)
    )


@given(steps_of_a_file())
def test_steps_survive_as_text(steps):
    assert steps_from_text(steps_to_text(steps), len(steps), N) == steps


@given(steps_of_a_file())
def test_steps_are_read_from_bytes_as_from_text(steps):
    assert steps_from_text(steps_to_text(steps).encode(), len(steps), N) == steps


def test_steps_are_json_field_by_field_and_equal_values_are_one():
    assert json.loads(steps_to_text(STEPS)) == {
        "n_steps": 3,
        "step": [3, 4, 6],
        "delta": [1.0, 1.0, 0.5],
        "n_seen": [9, 8, 9],
        "n_nonfinite": [0, 1, 0],
        "n_duplicates": [0, 0, 2],
    }
    regular = [StepEntry(step, 1.0, 9) for step in range(5, 4101)]
    assert json.loads(steps_to_text(regular)) == {
        "n_steps": 4096,
        "step": 5,
        "delta": 1.0,
        "n_seen": 9,
        "n_nonfinite": 0,
        "n_duplicates": 0,
    }


def test_fields_that_are_not_known_are_ignored():
    body = json.loads(steps_to_text(STEPS)) | {"mood": ["fine"] * 3}
    assert steps_from_text(json.dumps(body), 3, N) == STEPS


WRONG = {
    "another number of steps": {"n_steps": 2},
    "fewer values than steps": {"n_seen": [9, 8]},
    "more values than steps": {"step": [3, 4, 6, 7]},
    "steps that do not ascend": {"step": [3, 3, 6]},
    "a negative step": {"step": [-1, 4, 6]},
    "a step beyond int32": {"step": 2**31},
    "a step of half": {"step": [3, 4.5, 6]},
    "a step that is text": {"step": "3"},
    "a first step of half": {"step": 3.5},
    "no weight": {"delta": 0},
    "a negative weight": {"delta": [1, 1, -1]},
    "a weight that is no number": {"delta": float("nan")},
    "a weight without end": {"delta": float("inf")},
    "a weight that is text": {"delta": "1"},
    "more samples than there are": {"n_seen": N + 1},
    "a truth value for a number of samples": {"n_seen": True},
    "fewer than no losses": {"n_nonfinite": -1},
    "more losses than a number holds": {"n_duplicates": 2**64},
    "an object for a number": {"n_duplicates": {}},
    "lists of lists": {"n_seen": [[9], [8], [9]]},
}


@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG.keys())
def test_what_steps_can_not_be_is_refused(change):
    text = json.dumps(json.loads(steps_to_text(STEPS)) | change)
    with pytest.raises((TypeError, ValueError)):
        steps_from_text(text, 3, N)


@pytest.mark.parametrize("field", json.loads(steps_to_text(STEPS)))
def test_a_field_that_is_absent_is_refused(field):
    body = json.loads(steps_to_text(STEPS))
    del body[field]
    with pytest.raises(KeyError, match=field):
        steps_from_text(json.dumps(body), 3, N)


@pytest.mark.parametrize("text", ["", "null", "3", "[]", "{", '"steps"', b"\xff\xfe\xff"])
def test_text_that_is_no_object_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        steps_from_text(text, 3, N)


def test_text_that_is_longer_than_so_many_steps_can_take_is_refused_unread():
    """Parsed, text takes many times its length."""
    text = steps_to_text(STEPS)
    assert steps_from_text(text.ljust(4096), 3, N) == STEPS
    with pytest.raises(ValueError, match="its footer tells of 3 steps in 4097 characters"):
        steps_from_text(text.ljust(4097), 3, N)


@given(st.lists(steps_of_a_file(), max_size=3))
def test_totals_are_sums_and_ends(parts):
    steps = [step for part in parts for step in part]
    totals = StepTotals.of(steps)
    assert totals.n_steps == len(steps)
    assert totals.first_step == (steps[0].step if steps else None)
    assert totals.last_step == (steps[-1].step if steps else None)
    assert totals.delta == pytest.approx(sum(step.delta for step in steps))
    for name in ("n_seen", "n_nonfinite", "n_duplicates"):
        assert getattr(totals, name) == sum(getattr(step, name) for step in steps)


def test_totals_of_no_steps_are_those_of_an_empty_record():
    assert StepTotals.of([]) == NO_STEPS == StepTotals(0, None, None, 0.0, 0, 0, 0)


def test_totals_go_on_with_another_step():
    assert StepTotals.of(STEPS[:2]).plus(STEPS[2]) == StepTotals(3, 3, 6, 2.5, 26, 1, 2)


def test_a_block_says_which_steps_its_file_holds():
    block = Block.of("losses/000007.parquet", STEPS)
    assert asdict(block) == block.body()
    assert block.body() == {
        "path": "losses/000007.parquet",
        "first_step": 3,
        "last_step": 6,
        "n_steps": 3,
    }


def test_a_step_is_written_field_by_field():
    assert STEPS[1].body() == {
        "step": 4,
        "delta": 1.0,
        "n_seen": 8,
        "n_nonfinite": 1,
        "n_duplicates": 0,
    }
