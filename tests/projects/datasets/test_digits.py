"""Facts about projects/datasets/digits.py."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from projects.datasets import load_dataset
from projects.params import TrainParams, validate


def load(**values):
    return load_dataset(validate(TrainParams, values))


def test_digits_are_1437_training_and_360_test_images_of_8x8():
    train, test = load()
    assert train.images.shape == (1437, 1, 8, 8)
    assert test.images.shape == (360, 1, 8, 8)
    assert train.class_names == tuple("0123456789")


def test_digits_ids_are_the_index_into_load_digits():
    bunch = load_digits()
    for split in load():
        assert split.labels.tolist() == bunch.target[split.ids].tolist()
        scaled = bunch.images[split.ids] / 16 * 255
        assert np.abs(split.images[:, 0].numpy() - scaled).max() <= 0.5


def test_digits_are_in_exactly_one_of_the_splits():
    train, test = load()
    assert sorted([*train.ids, *test.ids]) == list(range(1797))


def test_a_fifth_of_each_digit_is_for_testing():
    counts = np.bincount(load_digits().target)
    assert np.abs(np.bincount(load()[1].labels) - counts * 360 / 1797).max() < 1


@pytest.mark.parametrize("changed", [{"seed": 5}, {"split_seed": 5}])
def test_the_split_of_the_digits_depends_on_no_seed(changed):
    np.testing.assert_array_equal(load()[1].ids, load(**changed)[1].ids)


def test_the_split_of_the_digits_stays_what_it_was():
    assert load()[1].ids[:8].tolist() == [0, 1, 11, 18, 22, 25, 34, 38]
