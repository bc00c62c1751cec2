"""Facts about projects/datasets/split.py."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from actiontrack.errors import DataError
from projects.datasets import ImageSplit


def make_split(**changes):
    parts = {
        "images": torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1]),
        "ids": np.arange(4),
        "class_names": ("a", "b"),
        "name": "made",
        "split": "test",
    }
    return ImageSplit(**(parts | changes))


def test_a_split_tells_its_length_channels_size_and_classes():
    split = make_split(images=torch.zeros(4, 1, 8, 12, dtype=torch.uint8))
    assert (len(split), split.in_channels, split.image_size) == (4, 1, (8, 12))
    assert split.n_classes == 2


def test_samples_are_taken_with_all_that_belongs_to_them_in_the_order_asked_for():
    soft = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 1, 8, 8)
    split = make_split(
        images=images, soft_labels=soft, paths=("p0", "p1", "p2", "p3"),
        true_labels=torch.tensor([1, 1, 0, 0]),
    )  # fmt: skip
    taken = split.take(np.array([3, 0]))
    assert taken.images[:, 0, 0, 0].tolist() == [3, 0]
    assert (taken.labels.tolist(), taken.ids.tolist()) == ([1, 0], [3, 0])
    assert (taken.paths, taken.true_labels.tolist()) == (("p3", "p0"), [0, 1])
    assert torch.equal(taken.soft_labels, soft[[3, 0]])


def test_samples_taken_of_a_bare_split_are_bare():
    taken = make_split().take(np.array([1]))
    assert (taken.paths, taken.true_labels, taken.soft_labels) == (None, None, None)


def test_a_split_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        make_split().name = "other"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"images": torch.zeros(4, 3, 8, 8)},
            "images must be uint8 (N, C, H, W), got torch.float32 (4, 3, 8, 8)",
        ),
        (
            {"images": torch.zeros(4, 8, 8, dtype=torch.uint8)},
            "images must be uint8 (N, C, H, W), got torch.uint8 (4, 8, 8)",
        ),
        (
            {"images": torch.zeros(4, 2, 8, 8, dtype=torch.uint8)},
            "images must have N >= 1 and C = 1 or 3, got (4, 2, 8, 8)",
        ),
        (
            {"images": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)},
            "images must have N >= 1 and C = 1 or 3, got (0, 3, 8, 8)",
        ),
        ({"labels": torch.tensor([0])}, "one of labels per image needed, got 1 for 4 images"),
        ({"ids": np.arange(3)}, "one of ids per image needed, got 3 for 4 images"),
        ({"paths": ("x",)}, "one of paths per image needed, got 1 for 4 images"),
        ({"ids": np.array([1, 1, 2, 3])}, "ids must be unique"),
        (
            {"labels": torch.tensor([0, 1, 2, 1])},
            "labels must be int64 0..1, got torch.int64 0..2",
        ),
        (
            {"true_labels": torch.tensor([0, 1, -1, 1])},
            "labels must be int64 0..1, got torch.int64 -1..1",
        ),
        (
            {"labels": torch.tensor([0, 1, 0, 1], dtype=torch.int32)},
            "labels must be int64 0..1, got torch.int32 0..1",
        ),
        (
            {"soft_labels": torch.full((3, 2), 0.5)},
            "one of soft_labels per image needed, got 3 for 4 images",
        ),
        (
            {"soft_labels": torch.full((4, 3), 1 / 3)},
            "soft_labels must be float32 (N, 2), got torch.float32 (4, 3)",
        ),
        (
            {"soft_labels": torch.full((4, 2), 0.5, dtype=torch.float64)},
            "soft_labels must be float32 (N, 2), got torch.float64 (4, 2)",
        ),
        (
            {"soft_labels": torch.full((4, 2), 0.6)},
            "soft_labels must be >= 0 and sum to 1 for each image",
        ),
        (
            {"soft_labels": torch.tensor([[1.5, -0.5]] * 4)},
            "soft_labels must be >= 0 and sum to 1 for each image",
        ),
        (
            {"soft_labels": torch.tensor([[0.9, 0.1]] * 4)},
            "labels must be the most likely of the soft_labels",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, expected):
    with pytest.raises(DataError) as caught:
        make_split(**changes)
    assert str(caught.value) == f"made (test): {expected}"


def test_the_targets_are_the_labels():
    split = make_split()
    assert split.targets is split.labels


def test_the_targets_are_the_soft_labels_where_there_are_some():
    soft = torch.tensor([[0.6, 0.4], [0.1, 0.9], [1.0, 0.0], [0.0, 1.0]])
    assert make_split(soft_labels=soft).targets is soft


def test_a_split_with_more_channels_has_the_grey_in_each():
    grey = make_split(images=torch.full((4, 1, 8, 8), 5, dtype=torch.uint8))
    colour = grey.with_channels(3)
    assert colour.images.shape == (4, 3, 8, 8)
    assert colour.images.eq(5).all()
    assert replace(colour).with_channels(3).images is colour.images
