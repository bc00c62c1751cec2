"""Facts about projects/datasets/loading.py, on digits."""

import numpy as np
import pytest
import torch

from actiontrack.errors import ParameterError
from projects.datasets import load_dataset
from projects.params import TrainParams, validate


def load(**values):
    return load_dataset(validate(TrainParams, values))


def test_a_subset_has_the_size_and_the_classes_in_proportion():
    train, test = load(subset=100, test_subset=20)
    assert (len(train), len(test)) == (100, 20)
    assert set(np.bincount(train.labels)) <= {9, 10, 11}
    assert np.bincount(test.labels).tolist() == [2] * 10


def test_a_subset_of_one_image_has_one_image():
    assert len(load(subset=1)[0]) == 1


def test_a_subset_depends_on_the_split_seed_and_not_on_the_seed():
    ids = load(subset=50)[0].ids
    np.testing.assert_array_equal(load(subset=50, seed=9)[0].ids, ids)
    assert set(load(subset=50, split_seed=9)[0].ids) != set(ids)


@pytest.mark.parametrize(("argument", "size"), [("subset", 1437), ("test_subset", 360)])
def test_a_subset_larger_than_its_split_is_refused(argument, size):
    with pytest.raises(ParameterError) as caught:
        load(**{argument: size + 1})
    split = "train" if argument == "subset" else "test"
    assert str(caught.value) == (
        f"{argument}: must be at most {size}, the images of the {split} split, got {size + 1}. "
        f"Pass --{argument} 0 for all of them."
    )


def test_image_size_applies_to_every_dataset():
    train, test = load(image_size=12, subset=3, test_subset=2)
    assert (train.images.shape, test.images.shape) == ((3, 1, 12, 12), (2, 1, 12, 12))


def test_noise_changes_training_labels_only_and_keeps_the_truth():
    clean, (train, test) = load(), load(label_noise=0.1)
    assert (train.labels != train.true_labels).sum() == 144  # round(143.7)
    assert torch.equal(train.true_labels, clean[0].labels)
    assert torch.equal(test.labels, clean[1].labels)
    assert test.true_labels is None


def test_without_noise_there_is_no_second_truth():
    assert load()[0].true_labels is None


def test_the_noise_follows_its_own_seed():
    fixed = load(label_noise=0.1, noise_seed=3)[0].labels
    assert torch.equal(load(label_noise=0.1, noise_seed=3, seed=8)[0].labels, fixed)
    assert not torch.equal(load(label_noise=0.1, noise_seed=4)[0].labels, fixed)
