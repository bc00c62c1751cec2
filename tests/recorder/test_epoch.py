import itertools

import numpy as np
import pytest
from helpers import message
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from actiontrack.errors import RecordingError
from actiontrack.recorder.epoch import EpochBuffer, check_uniform_losses, scatter


def buffer(*batches):
    """A buffer from (ids, losses) pairs."""
    found = EpochBuffer()
    for ids, losses in batches:
        found.add(ids, len(ids), {"loss": np.asarray(losses, np.float32)})
    return found


def test_a_buffer_counts_its_batches():
    assert len(buffer()) == 0
    assert len(buffer(([1], [1]), ([2, 3], [1, 2]))) == 2


@given(st.permutations(range(12)), st.lists(st.integers(0, 12), max_size=8))
def test_any_order_and_any_partition_give_the_same_rows(order, cuts):
    losses = np.arange(12, dtype=np.float32) / 7
    edges = [0, *sorted(cuts), 12]
    batches = [order[a:b] for a, b in itertools.pairwise(edges)]
    rows = buffer(*((ids, losses[ids]) for ids in batches)).rows(None)
    assert rows.ids.tolist() == list(range(12))
    np.testing.assert_array_equal(rows.columns["loss"], losses)
    assert rows.n_duplicates == 0


def test_the_first_of_a_repeated_id_counts():
    rows = buffer((["b", "a"], [1, 2]), (["a", "b", "c"], [3, 4, 5])).rows(None)
    assert rows.ids.tolist() == ["a", "b", "c"]
    assert rows.columns["loss"].tolist() == [2, 1, 5]
    assert (rows.n_duplicates, rows.repeated.tolist()) == (2, ["a", "b"])


def test_columns_keep_the_order_in_which_they_came_so_that_blocks_repeat_byte_by_byte():
    names = [f"part {each}" for each in range(12)]
    found = EpochBuffer()
    found.add([1, 2], 2, {name: np.ones(2, np.float32) for name in names})
    assert list(found.rows(None).columns) == names


def test_an_empty_buffer_has_no_rows():
    assert buffer().rows(None) is None
    assert buffer(([], [])).rows(None) is None


def test_losses_are_kept_as_float32_whatever_they_come_in():
    found = EpochBuffer()
    found.add([1, 2], 2, {"loss": np.array([1, 2]), "box": np.array([0.1, 1e300])})
    columns = found.rows(None).columns
    assert {each.dtype for each in columns.values()} == {np.dtype(np.float32)}
    assert columns["box"].tolist() == [pytest.approx(0.1), np.inf]


def test_labels_and_predictions_keep_their_type():
    found = EpochBuffer()
    found.add([1], 1, {"label": np.array([3]), "correct": np.array([True])})
    columns = found.rows(None).columns
    assert [columns[name].dtype.kind for name in ("label", "correct")] == ["i", "b"]


def test_a_batch_with_other_columns_is_refused():
    found = buffer(([1], [1]))
    text = (
        "update: this batch brings ['box', 'loss'], earlier ones brought ['loss']. "
        "Pass the same arguments for every batch."
    )
    with pytest.raises(RecordingError, match=message(text)):
        found.add([2], 1, {"loss": np.ones(1), "box": np.ones(1)})


def test_integers_among_strings_are_refused():
    text = "ids: some are integers and some are strings. Pass ids of the same type throughout."
    with pytest.raises(RecordingError, match=message(text)):
        buffer(([1], [1]), (["1"], [1])).rows(None)


def test_processes_are_merged_in_the_order_of_their_batches():
    # Ids 0..4 dealt to two ranks in batches of two; 0 pads the end of the second.
    ranks = [buffer(([0, 2], [0, 2]), ([4], [4])), buffer(([1, 3], [1, 3]), ([0], [9]))]
    other = ranks[1]._host()
    rows = ranks[0].rows(lambda mine: [mine, other])
    assert rows.columns["loss"].tolist() == [0, 1, 2, 3, 4]
    assert rows.n_duplicates == 1


def test_the_lower_rank_wins_within_the_same_batch():
    other = buffer(([7], [2]))._host()
    rows = buffer(([7], [1])).rows(lambda mine: [mine, other])
    assert rows.columns["loss"].tolist() == [1]


def test_a_process_without_batches_adds_nothing():
    rows = buffer(([7], [1])).rows(lambda mine: [mine, {}])
    assert rows.ids.tolist() == [7]


def test_a_process_that_does_not_write_has_no_rows():
    assert buffer(([7], [1])).rows(lambda _: None) is None


# ---------------------------------------------------------------- uniform losses


def test_a_batch_of_equal_losses_is_refused():
    text = (
        "losses: all 3 losses of batch 2 are 0.7. The criterion reduces the batch: construct it "
        "with reduction='none'. If the losses are right, pass allow_uniform=True."
    )
    batches = (([1, 2], [0.1, 0.2]), ([3, 4, 5], [0.7] * 3))
    with pytest.raises(RecordingError, match=message(text)):
        buffer(*batches).rows(None, check_uniform=True)


@pytest.mark.parametrize(
    "losses",
    [[0.7], [0, 0, 0], [0.7, 0.70001], [np.nan] * 3, [np.inf] * 3, [-np.inf] * 3],
    ids=["one", "zero", "close", "nan", "overflow", "negative overflow"],
)
def test_what_could_be_genuine_is_let_through(losses):
    check_uniform_losses(np.array(losses), np.zeros(len(losses), int))


def test_no_batches_are_no_reason_to_complain():
    check_uniform_losses(np.empty(0), np.empty(0, int))


# ---------------------------------------------------------------- scatter


def test_rows_of_some_samples_are_masked_elsewhere():
    columns, n_seen = scatter(buffer(([9, 3], [1, 2])).rows(None), np.array([3, 5, 9]))
    assert n_seen == 2
    assert columns["loss"].mask.tolist() == [False, True, False]
    assert columns["loss"].compressed().tolist() == [2, 1]


def test_rows_of_all_samples_are_not_masked():
    columns, n_seen = scatter(buffer(([9, 3], [1, 2])).rows(None), np.array([3, 9]))
    assert n_seen == 2
    assert not isinstance(columns["loss"], np.ma.MaskedArray)


@pytest.mark.parametrize("known", [[3, 5], [5, 9], [20, 30], []])
def test_unknown_ids_are_named(known):
    rows = buffer(([3, 9], [1, 2])).rows(None)
    unknown = [each for each in (3, 9) if each not in known]
    text = (
        f"ids: {len(unknown)} are unknown to this record: {', '.join(map(str, unknown))}. It knows "
        f"{len(known)} samples, declared or seen in the first epoch. Declare all of them with "
        "describe_samples(ids=...), or drop the others."
    )
    with pytest.raises(RecordingError, match=message(text)):
        scatter(rows, np.array(known, np.int64))


def test_a_long_list_of_ids_is_cut():
    rows = buffer((list(range(8)), np.arange(8))).rows(None)
    with pytest.raises(RecordingError, match=r": 1, 2, 3, 4, 5 and 2 more\. It knows"):
        scatter(rows, np.array([0]))


def test_a_batch_larger_than_what_is_measured_at_once_has_the_measures_of_its_samples():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(3000, 50)), rng.integers(50, size=3000)  # > 2**16 logits
    batches = EpochBuffer()
    batches.add(np.arange(3000), 3000, {"label": labels}, (logits, labels))
    found = batches.rows(None)
    log_p = special.log_softmax(logits, axis=1)[np.arange(3000), labels]
    np.testing.assert_allclose(found.columns["loss"], -log_p, rtol=1e-6)
    np.testing.assert_array_equal(found.columns["predicted"], logits.argmax(axis=1))


@pytest.mark.parametrize("first", [0, -7, 2**62, -(2**63)])
def test_dense_ids_in_any_order_come_out_ascending(first):
    ids = np.random.default_rng(0).permutation(100) + first
    found = buffer((ids, range(100))).rows(None)
    assert found.ids.tolist() == sorted(ids.tolist())
    assert found.columns["loss"].tolist() == np.argsort(ids).tolist()


def test_ids_further_apart_than_an_integer_are_sorted():
    found = buffer(([2**63 - 1, -(2**63), 0], [1, 2, 3])).rows(None)
    assert found.columns["loss"].tolist() == [2.0, 3.0, 1.0]
