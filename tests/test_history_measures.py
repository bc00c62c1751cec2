import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from actiontrack import scores
from actiontrack.history import MEASURES


def batch(n=32, n_classes=5, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=scale, size=(n, n_classes)), rng.integers(n_classes, size=n)


def reference(logits, labels):
    """By torch, scipy and plain loops, in float64."""
    logits = np.asarray(logits, np.float64)
    p, rows = special.softmax(logits, axis=1), range(len(labels))
    others = [np.delete(logits[i], labels[i]) for i in rows]
    one_hot = np.eye(logits.shape[1])[labels]
    cross_entropy = torch.nn.functional.cross_entropy(
        torch.tensor(logits), torch.tensor(labels), reduction="none"
    )
    return {
        "cross_entropy": cross_entropy.numpy(),
        "target_probability": np.array([p[i, labels[i]] for i in rows]),
        "margin": np.array([logits[i, labels[i]] - others[i].max() for i in rows]),
        "el2n": np.array([math.dist(p[i], one_hot[i]) for i in rows]),
        "entropy": stats.entropy(p, axis=1),
        "predicted": logits.argmax(axis=1),
        "largest_other": np.array([first_largest_other(logits[i], labels[i]) for i in rows]),
        "correct": logits.argmax(axis=1) == labels,
    }


def first_largest_other(logits, label):
    """Of the other classes in their order, each with its index, where NumPy finds the largest."""
    others = np.delete(np.arange(len(logits)), label)
    return others[logits[others].argmax()]


def assert_measures(found, expected, **tolerance):
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(np.asarray(found[name]), values, err_msg=name, **tolerance)


def test_the_measures_are_those_that_the_record_knows():
    assert scores.classification_measures(*batch()).keys() == {"cross_entropy", *MEASURES}


@pytest.mark.parametrize(
    ("n", "n_classes"), [(32, 5), (1, 5), (32, 2), (1, 2), (32, 64), (32, 65), (8, 1000)]
)
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
def test_numpy_measures_equal_torch_and_scipy(n, n_classes, dtype, rtol):
    logits, labels = batch(n, n_classes)
    logits = logits.astype(dtype)
    found = scores.classification_measures(logits, labels)
    assert_measures(found, reference(logits, labels), rtol=rtol, atol=1e-6)
    assert found["cross_entropy"].dtype == dtype


@pytest.mark.parametrize("index", [torch.int64, torch.int32, torch.uint8])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_measures_equal_torch_and_scipy(dtype, index):
    logits, labels = batch()
    logits = torch.tensor(logits, dtype=dtype)
    found = scores.classification_measures(logits, torch.tensor(labels).to(index))
    assert_measures(found, reference(logits.numpy(), labels), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_computed_in_float32(dtype):
    logits, labels = batch(n_classes=100)
    logits = torch.tensor(logits, dtype=dtype)
    found = scores.classification_measures(logits, torch.tensor(labels))
    assert found["cross_entropy"].dtype == torch.float32
    assert_measures(found, reference(logits.float().numpy(), labels), rtol=2e-5, atol=1e-6)


def test_numpy_half_precision_is_computed_in_float32():
    logits, labels = batch(n_classes=100)
    logits = logits.astype(np.float16)
    found = scores.classification_measures(logits, labels)
    assert found["cross_entropy"].dtype == np.float32
    assert_measures(found, reference(logits, labels), rtol=2e-5, atol=1e-6)


def test_el2n_of_a_sure_prediction_is_no_rounding_noise():
    logits = np.array([[25.0, 0.0, 0.0]], np.float32)  # 1 - p is below the last bit of float32
    rest = math.exp(-25)
    expected = math.hypot(2 * rest, rest, rest) / (1 + 2 * rest)
    found = scores.classification_measures(logits, np.array([0]))
    assert found["el2n"].tolist() == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("scale", [1e30, 1.6e38])
def test_huge_logits_do_not_overflow(scale):
    logits = np.array([[scale, -scale], [-scale, scale]], np.float32)
    found = scores.classification_measures(logits, np.array([0, 0]))
    assert found["cross_entropy"].tolist() == [0.0, pytest.approx(2 * scale)]
    assert found["entropy"].tolist() == [0.0, 0.0]
    assert found["el2n"].tolist() == [0.0, pytest.approx(math.sqrt(2))]


def test_a_perfect_prediction_has_loss_zero_without_a_sign():
    found = scores.classification_measures(np.array([[1e9, 0.0]]), np.array([0]))
    assert str(found["cross_entropy"][0]) == "0.0"


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_a_logit_of_minus_infinity_is_a_class_of_probability_zero(library):
    logits = [[0.0, -math.inf, 0.0], [0.0, -math.inf, 0.0]]
    found = scores.classification_measures(library(logits), library([0, 1]))
    expected = {
        "cross_entropy": [math.log(2), math.inf],
        "target_probability": [0.5, 0.0],
        "margin": [0.0, -math.inf],
        "el2n": [math.sqrt(0.5), math.sqrt(1.5)],
        "entropy": [math.log(2)] * 2,
        "predicted": [0, 0],
        "largest_other": [2, 0],
        "correct": [True, False],
    }
    assert_measures(found, expected, rtol=1e-6)


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
@pytest.mark.parametrize("n_classes", [2, 64, 65])
@given(data=st.data())
def test_the_prediction_is_the_first_largest_logit_or_the_first_nan(library, n_classes, data):
    numbers = st.sampled_from([-math.inf, -1.0, 0.0, 1.0, math.inf, math.nan])
    logits = data.draw(hnp.arrays(np.float32, (3, n_classes), elements=numbers))
    found = scores.classification_measures(library(logits), library([0, 0, 0]))
    np.testing.assert_array_equal(np.asarray(found["predicted"]), logits.argmax(axis=1))


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
@pytest.mark.parametrize("n_classes", [2, 3, 64, 65])
@given(data=st.data())
def test_the_largest_other_is_the_first_largest_or_first_nan_among_the_rest(
    library, n_classes, data
):
    numbers = st.sampled_from([-math.inf, -1.0, 0.0, 1.0, 1.0 + 2**-23, math.inf, math.nan])
    logits = data.draw(hnp.arrays(np.float32, (4, n_classes), elements=numbers))
    labels = data.draw(hnp.arrays(np.int64, 4, elements=st.integers(-2, n_classes + 1)))
    expected = [
        first_largest_other(row, label) if 0 <= label < n_classes else -1
        for row, label in zip(logits.astype(np.float64), labels, strict=True)
    ]
    found = scores.classification_measures(library(logits), library(labels))
    assert found["largest_other"].tolist() == expected
    assert found["largest_other"].dtype == found["predicted"].dtype
    is_class = (labels >= 0) & (labels < n_classes)
    assert found["correct"].tolist() == (is_class & (logits.argmax(axis=1) == labels)).tolist()


def test_logits_that_differ_by_less_than_their_margin_holds_are_told_apart():
    logits = np.float32([[100.0, 1e-7, 2e-7]])  # less 100 both are -100
    assert scores.classification_measures(logits, np.array([0]))["largest_other"].tolist() == [2]


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
@pytest.mark.parametrize("n_classes", [2, 5, 100])
def test_the_probability_of_the_largest_other_follows_from_what_is_kept(library, n_classes):
    logits, labels = batch(200, n_classes)
    found = scores.classification_measures(library(logits), library(labels))
    kept = {name: np.asarray(values) for name, values in found.items()}
    by_record = kept["target_probability"] * np.exp(-kept["margin"])
    p = special.softmax(logits, axis=1)
    np.testing.assert_allclose(by_record, p[np.arange(200), kept["largest_other"]], rtol=1e-12)
    p[np.arange(200), labels] = 0
    np.testing.assert_allclose(by_record, p.max(axis=1), rtol=1e-12)


@pytest.mark.parametrize("n_classes", [3, 100])
def test_measuring_changes_no_logit(n_classes):
    logits, labels = batch(1, n_classes)
    for array in (logits, np.asfortranarray(logits)):
        array.flags.writeable = False
        found = scores.classification_measures(array, labels)
        assert_measures(found, reference(logits, labels), rtol=1e-12, atol=1e-6)


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_float64_logits_may_be_larger_than_float32_holds(library):
    logits = library(np.array([[1e300, -1e300], [-1e300, 1e300]]))
    found = scores.classification_measures(logits, library([0, 0]))
    assert found["margin"].tolist() == [pytest.approx(2e300), pytest.approx(-2e300)]
    assert found["cross_entropy"].tolist() == [0.0, pytest.approx(2e300)]


def test_a_label_that_alone_is_possible_has_an_infinite_margin():
    logits = np.array([[0.0, -math.inf, -math.inf]], np.float32)
    found = scores.classification_measures(logits, np.array([0]))
    assert found["margin"].tolist() == [math.inf]
    assert found["entropy"].tolist() == [0.0]
    assert found["largest_other"].tolist() == [1]


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_logit_makes_its_own_row_nan_and_no_other(library, bad):
    logits = library([[0.0, bad], [0.0, 0.0]])
    loss = scores.classification_measures(logits, library([0, 0]))["cross_entropy"].tolist()
    assert math.isnan(loss[0])
    assert loss[1] == pytest.approx(math.log(2))


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
@pytest.mark.parametrize("label", [-100, 2])
def test_a_label_that_is_no_class_gives_nan_and_not_an_easy_sample(library, label):
    logits = library([[0.0, 1.0], [0.0, 0.0]])
    found = scores.classification_measures(logits, library([label, 0]))
    for name in ("cross_entropy", "target_probability", "margin", "el2n"):
        assert math.isnan(found[name].tolist()[0]), name
        assert math.isfinite(found[name].tolist()[1]), name
    assert not found["correct"].tolist()[0]
    assert found["largest_other"].tolist() == [-1, 1]
