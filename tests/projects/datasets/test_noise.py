"""Facts about projects/datasets/noise.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actiontrack.errors import ParameterError
from projects.datasets.noise import add_label_noise

LABELS = np.arange(1000, dtype=np.int64) % 10


def noisy(labels=LABELS, **changes):
    arguments = {"n_classes": 10, "fraction": 0.1, "kind": "symmetric", "seed": 0} | changes
    return add_label_noise(labels, **arguments)


@given(
    n=st.integers(1, 200),
    n_classes=st.integers(2, 12),
    fraction=st.floats(0, 0.999),
    kind=st.sampled_from(["symmetric", "asymmetric"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_exactly_the_rounded_fraction_of_the_labels_is_wrong(n, n_classes, fraction, kind, seed):
    labels = np.arange(n, dtype=np.int64) % n_classes
    result = noisy(labels, n_classes=n_classes, fraction=fraction, kind=kind, seed=seed)
    assert (result != labels).sum() == round(fraction * n)
    assert result.min() >= 0
    assert result.max() < n_classes


def test_asymmetric_noise_goes_to_the_next_class():
    result = noisy(kind="asymmetric")
    wrong = result != LABELS
    assert set(result[wrong] - LABELS[wrong]) == {1, -9}


def test_symmetric_noise_goes_to_all_other_classes_alike():
    labels = np.zeros(100_000, dtype=np.int64)
    counts = np.bincount(noisy(labels, fraction=0.9), minlength=10)
    assert counts[0] == 10_000
    assert np.abs(counts[1:] / 10_000 - 1).max() < 0.05  # 5 sigma of a binomial, 90,000 draws


def test_noise_hits_positions_all_over_the_split():
    where = np.flatnonzero(noisy() != LABELS)
    assert np.histogram(where, bins=4, range=(0, 1000))[0].min() > 10


def test_a_seed_repeats_the_noise():
    np.testing.assert_array_equal(noisy(seed=3), noisy(seed=3))


def test_another_seed_gives_other_noise():
    assert (noisy(seed=3) != noisy(seed=4)).any()


def test_the_given_labels_stay_as_they_are():
    labels = LABELS.copy()
    noisy(labels, fraction=0.5)
    np.testing.assert_array_equal(labels, LABELS)


def test_no_noise_returns_equal_labels_in_a_new_array():
    result = noisy(fraction=0.0)
    np.testing.assert_array_equal(result, LABELS)
    assert result is not LABELS


def test_a_single_class_cannot_have_noise():
    with pytest.raises(ParameterError) as caught:
        noisy(np.zeros(10, dtype=np.int64), n_classes=1)
    assert str(caught.value) == (
        "label_noise: must be 0 for a dataset with one class, got 0.1. Leave it out."
    )
