import numpy as np
import pandas as pd
import pytest
import torch
from helpers import message
from scipy import special

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.arrays import (
    canonical_ids,
    check_classes,
    class_labels,
    class_logits,
    log_probabilities,
    looks_like_probabilities,
    shape_error,
    snapshot,
    to_host,
)


@pytest.mark.parametrize("library", [np.array, torch.tensor])
def test_a_snapshot_is_out_of_reach_of_later_changes(library):
    values = library([1.0, 2.0])
    copy = snapshot(values)
    values[0] = 9
    assert copy.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_a_snapshot_of_a_tensor_leaves_the_autograd_graph(dtype):
    values = torch.ones(2, dtype=dtype, requires_grad=True) * 2
    copy = torch.as_tensor(snapshot(values))
    assert copy.requires_grad is False
    assert copy.dtype == dtype
    assert copy.tolist() == [2, 2]
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
    ],
)
def test_ids_that_are_no_stable_name_are_refused(ids, shown):
    text = f"ids: must be integers or strings, got {shown}. Give each sample a stable id."
    with pytest.raises(ParameterError, match=message(text)):
        canonical_ids(ids)


@pytest.mark.parametrize("ids", [[1, "a"], ("a", 1), np.array(["a", 1], object), ["a", 2, "b", 1]])
def test_integers_among_strings_are_refused_before_numpy_turns_them_into_text(ids):
    with pytest.raises(ParameterError, match=r"^ids: must be all integers or all strings, got \["):
        canonical_ids(ids)


@pytest.mark.parametrize("n", [2**63, 2**64 - 1])
@pytest.mark.parametrize(
    "make",
    [
        lambda n: np.array([17, n], np.uint64),
        lambda n: [17, n],
        lambda n: [-1, n],
        lambda n: pd.Series([17, n], dtype="UInt64"),
        lambda n: [np.int64(17), np.uint64(n)],
        lambda n: torch.tensor([17, n], dtype=torch.uint64),
    ],
)
def test_integers_beyond_int64_are_refused_by_name(make, n):
    text = (
        f"ids: must be integers from -2**63 to 2**63 - 1, or strings, got {n}. "
        "Pass larger ids as text: [str(id) for id in ids]."
    )
    with pytest.raises(ParameterError, match=message(text)):
        canonical_ids(make(n))


@pytest.mark.parametrize("kind", [np.uint64, np.int64, np.uint8, object])
def test_integers_that_int64_holds_stay_what_they_are(kind):
    ids = [0, 2**63 - 1] if kind not in {np.uint8} else [0, 255]
    assert canonical_ids(np.array(ids, dtype=kind)).tolist() == ids
    assert canonical_ids(ids).tolist() == ids


def test_the_most_negative_integer_is_an_id():
    assert canonical_ids([-(2**63), 2**63 - 1]).tolist() == [-(2**63), 2**63 - 1]


def test_a_truth_value_among_integers_is_refused():
    with pytest.raises(ParameterError, match=r"^ids: must be integers or strings, got True\."):
        canonical_ids([2, True])


@pytest.mark.parametrize("make", [list, tuple, pd.Series, lambda ids: np.array(ids, object)])
def test_text_that_ends_in_nul_is_refused_by_name(make):
    with pytest.raises(ParameterError, match=r"^ids: must not end in NUL, got 'a\\x00'\."):
        canonical_ids(make(["a", "a\0", "b"]))


def test_nul_inside_a_text_and_other_odd_texts_stay_what_they_are():
    ids = ["a\0b", "007", "7", " a", "a ", "caf\u00e9", "cafe\u0301", "A", "line\nbreak", "x\u2028"]
    assert canonical_ids(ids).tolist() == ids


def test_variable_width_strings_of_numpy_are_texts():
    ids = np.array(["x", "yy"], dtype=np.dtypes.StringDType())
    assert canonical_ids(ids).tolist() == ["x", "yy"]


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


# ---------------------------------------------------------------- logits and labels


def jax_array(values):
    return pytest.importorskip("jax.numpy").asarray(values)


LIBRARIES = pytest.mark.parametrize("library", [np.array, torch.tensor, jax_array])


@LIBRARIES
@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_a_single_logit_is_the_margin_of_class_1(library, shape):
    z = np.float32([2.0, -1.0, 0.5])
    found = class_logits(library(z.reshape(shape).tolist()))
    p = special.softmax(np.asarray(found, np.float64), axis=1)
    np.testing.assert_allclose(p[:, 1], special.expit(z), rtol=1e-6)
    np.testing.assert_allclose(p[:, 0], special.expit(-z), rtol=1e-6)


@LIBRARIES
def test_logits_of_several_classes_stay_as_they_are(library):
    logits = library([[1.0, 2.0], [0.5, -1.0]])
    assert class_logits(logits) is logits


def test_bfloat16_logits_stay_bfloat16():
    assert class_logits(torch.zeros(3, 1, dtype=torch.bfloat16)).dtype == torch.bfloat16


@LIBRARIES
@pytest.mark.parametrize("values", [[[3, 0], [1, 2]], [True, False]])
def test_integers_and_truth_values_are_no_logits(library, values):
    with pytest.raises(ParameterError, match=r"^logits: must be floating-point numbers, got "):
        class_logits(library(values))


@LIBRARIES
@pytest.mark.parametrize("labels", [[1, 0, 1], [[1], [0], [1]], [1.0, 0.0, 1.0], [[1.0], [0], [1]]])
def test_labels_of_a_binary_criterion_are_class_indices(library, labels):
    found = np.asarray(class_labels(library(labels)))
    assert found.tolist() == [1, 0, 1]
    assert found.dtype.kind == "i"


@LIBRARIES
def test_labels_that_are_no_whole_numbers_are_left_to_the_recorder(library):
    assert np.asarray(class_labels(library([0.5, 1.0]))).tolist() == [0.5, 1]


@LIBRARIES
def test_logarithms_of_probabilities_are_clipped(library):
    found = log_probabilities(library([0.0, 0.25, 1.0]))
    np.testing.assert_allclose(found, [np.log(np.finfo(float).eps), np.log(0.25), 0], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
def test_a_softmax_is_recognised_and_logits_are_not(dtype):
    logits = np.random.default_rng(0).normal(size=(50, 7)) * 3
    assert looks_like_probabilities(special.softmax(logits, axis=1).astype(dtype))
    assert looks_like_probabilities(np.eye(7, dtype=dtype))
    assert not looks_like_probabilities(logits.astype(dtype))
    assert not looks_like_probabilities(special.expit(logits).astype(dtype))
    assert not looks_like_probabilities(special.log_softmax(logits, axis=1).astype(dtype))
    assert not looks_like_probabilities(np.zeros((0, 7), dtype))
    assert not looks_like_probabilities(np.ones((3, 1), dtype))


@pytest.mark.parametrize(
    ("labels", "start"),
    [
        ([0.5, 1.0], "labels: must be class indices beside logits, got float32. If the targets "),
        ([0, 3], "labels: must be from 0 to 2 beside logits of 3 classes, got 3. Leave out what "),
        (
            [-1, 2],
            "labels: must be from 0 to 2 beside logits of 3 classes, got -1. Leave out what ",
        ),
    ],
)
def test_labels_that_are_no_classes_of_the_logits_are_refused(labels, start):
    values = {"logits": torch.zeros(2, 3), "labels": torch.tensor(labels)}
    with pytest.raises(RecordingError, match="^" + message(start)[1:-1]):
        check_classes(values)
    check_classes({"losses": torch.zeros(2), "labels": torch.tensor(labels)})
    check_classes(values | {"labels": torch.tensor([0, 2])})
