import numpy as np
import pytest
import torch
from helpers import message

from actiontrack.errors import ParameterError
from actiontrack.recorder.arrays import canonical_ids, shape_error, snapshot, to_host


@pytest.mark.parametrize("library", [np.array, torch.tensor])
def test_a_snapshot_is_out_of_reach_of_later_changes(library):
    values = library([1.0, 2.0])
    copy = snapshot(values)
    values[0] = 9
    assert copy.tolist() == [1.0, 2.0]


def test_a_snapshot_of_a_tensor_leaves_the_autograd_graph():
    values = torch.ones(2, requires_grad=True) * 2
    assert snapshot(values).requires_grad is False
    assert values.requires_grad is True


def test_a_snapshot_of_a_list_is_an_array():
    assert snapshot([1.0, 2.0]).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("library", [np.array, torch.tensor])
def test_batches_become_one_numpy_array(library):
    joined = to_host([library([1.0, 2.0]), library([3.0])])
    assert isinstance(joined, np.ndarray)
    assert joined.tolist() == [1, 2, 3]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tensors_become_float32_without_loss(dtype):
    values = torch.tensor([0.1, 1e-3], dtype=dtype)
    joined = to_host([values])
    assert joined.dtype == np.float32
    assert joined.tolist() == values.double().tolist()


def test_float32_integer_and_boolean_tensors_keep_their_type():
    for dtype in (torch.float32, torch.int64, torch.uint8, torch.bool):
        assert str(to_host([torch.ones(2, dtype=dtype)]).dtype) == str(dtype).split(".")[1]


@pytest.mark.parametrize(
    "ids",
    [
        [1, 2],
        (1, 2),
        range(1, 3),
        np.array([1, 2], np.uint8),
        torch.tensor([1, 2]),
        torch.tensor([1, 2], dtype=torch.int32),
    ],
)
def test_integer_ids_of_any_kind_become_int64(ids):
    found = canonical_ids(ids)
    assert found.dtype == np.int64
    assert found.tolist() == [1, 2]


@pytest.mark.parametrize(
    "ids", [["é", "猫"], ("é", "猫"), np.array(["é", "猫"], object), np.array(["é", "猫"])]
)
def test_string_ids_of_any_kind_become_a_string_array(ids):
    found = canonical_ids(ids)
    assert found.dtype.kind == "U"
    assert found.tolist() == ["é", "猫"]


@pytest.mark.parametrize(
    ("ids", "shown"),
    [
        ([1.0, 2.0], "[1.0, 2.0]"),
        (torch.tensor([0.5]), "[0.5]"),
        ([True, False], "[True, False]"),
        (torch.tensor([True]), "[True]"),
        ([b"a"], "[b'a']"),
        ([None, 1, 2, 3], "[None, 1, 2]"),
        (np.array(["a", 1], object), "['a', 1]"),
    ],
)
def test_ids_that_are_no_stable_name_are_refused(ids, shown):
    text = f"ids: must be integers or strings, got {shown}. Give each sample a stable id."
    with pytest.raises(ParameterError, match=message(text)):
        canonical_ids(ids)


@pytest.mark.parametrize(("ids", "shape"), [(3, "()"), ([[1], [2]], "(2, 1)")])
def test_ids_have_one_dimension(ids, shape):
    text = f"ids: must have shape (batch,), got {shape}. Pass one id per sample."
    with pytest.raises(ParameterError, match=message(text)):
        canonical_ids(ids)


def test_the_error_for_a_reduced_loss_names_the_remedy():
    assert str(shape_error("loss", (), 4)) == (
        "losses: must have one value per sample, got a single number. "
        "The criterion reduces the batch: construct it with reduction='none'."
    )


def test_the_error_for_another_column_names_it():
    text = "label: must have shape (4,), one value per id, got (4, 1)."
    assert str(shape_error("label", (4, 1), 4)) == text
