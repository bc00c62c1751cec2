"""Dice, Jaccard and focal loss against sums by NumPy, one image and class at a time."""

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch.nn.functional import cross_entropy
from torchvision.ops import sigmoid_focal_loss

from projects.tasks.segmentation_losses import SegmentationLoss

N_CLASSES = 4


@pytest.fixture
def batch():
    """Logits (3, 4, 5, 6) and targets (3, 5, 6); the second image holds classes 0 and 1 only."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, N_CLASSES, 5, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(N_CLASSES, (3, 5, 6), generator=generator)
    targets[1] %= 2
    return logits, targets.to(torch.uint8)


def by_hand(logits, targets, ignored=None):
    """Dice and Jaccard of each image with loops over images and classes."""
    p, dice, jaccard = softmax(logits.numpy(), axis=1), [], []
    for row, ids in enumerate(targets.numpy()):
        counted = np.ones(ids.shape, bool) if ignored is None else ids != ignored
        of_class = []
        for label in sorted(set(ids[counted].tolist())):
            truth, predicted = (ids == label)[counted], p[row, label][counted]
            overlap, total = (truth * predicted).sum(), truth.sum() + predicted.sum()
            of_class.append(
                (1 - (2 * overlap + 1) / (total + 1), 1 - (overlap + 1) / (total - overlap + 1))
            )
        means = np.mean(of_class, axis=0)
        dice.append(means[0])
        jaccard.append(means[1])
    return np.array(dice), np.array(jaccard)


@pytest.mark.parametrize("ignored", [None, 3])
def test_dice_and_jaccard_are_means_over_the_classes_of_the_image(batch, ignored):
    logits, targets = batch
    if ignored is not None:
        logits = logits[:, :3]  # a model without an output for void
    components = SegmentationLoss(ignored=ignored).components(logits, targets)
    dice, jaccard = by_hand(logits, targets, ignored)
    np.testing.assert_allclose(components["dice"], dice)
    np.testing.assert_allclose(components["jaccard"], jaccard)


def test_focal_without_focus_is_the_cross_entropy(batch):
    logits, targets = batch
    expected = cross_entropy(logits, targets.long(), reduction="none")
    loss = SegmentationLoss(gamma=0)
    torch.testing.assert_close(loss.pixels(logits, targets, "focal"), expected)
    torch.testing.assert_close(loss.components(logits, targets)["focal"], expected.mean(dim=(1, 2)))


def test_focal_of_two_classes_is_torchvisions(batch):
    logits, targets = batch
    logits, targets = logits[:, :2], targets % 2
    expected = sigmoid_focal_loss(
        logits[:, 1] - logits[:, 0], targets.double(), alpha=-1, gamma=2, reduction="none"
    )
    pixels = SegmentationLoss().pixels(logits, targets, "focal")
    torch.testing.assert_close(pixels, expected)


def test_the_loss_of_an_image_is_the_weighted_sum(batch):
    loss = SegmentationLoss(dice=0.5, jaccard=2, focal=3)
    parts = loss.components(*batch)
    expected = 0.5 * parts["dice"] + 2 * parts["jaccard"] + 3 * parts["focal"]
    torch.testing.assert_close(loss.per_image(parts), expected)
    torch.testing.assert_close(loss.mean(*batch), expected.mean())


def test_an_ignored_pixel_changes_nothing_and_has_no_loss(batch):
    logits, targets = batch
    loss = SegmentationLoss(ignored=N_CLASSES)
    targets[0, 2, 3] = N_CLASSES
    before = loss.components(logits, targets)
    logits[0, :, 2, 3] += torch.tensor([5.0, -5.0, 1.0, 0.0])
    for name, value in loss.components(logits, targets).items():
        torch.testing.assert_close(value, before[name])
    pixels = loss.pixels(logits, targets, "focal")
    assert pixels[0, 2, 3].isnan()
    assert pixels.isnan().sum() == 1


def test_an_image_of_nothing_but_void_has_no_loss_and_gives_no_gradient(batch):
    logits, targets = batch
    targets[1] = N_CLASSES
    loss = SegmentationLoss(ignored=N_CLASSES)
    logits.requires_grad_()
    assert loss.per_image(loss.components(logits, targets)).isnan().tolist() == [False, True, False]
    loss.mean(logits, targets).backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[1] == 0).all()
    assert (logits.grad[0] != 0).any()


def test_a_perfect_prediction_has_no_loss():
    targets = torch.tensor([[[0, 1], [2, 1]]], dtype=torch.uint8)
    logits = 100.0 * torch.nn.functional.one_hot(targets.long(), 3).movedim(-1, 1)
    components = SegmentationLoss().components(logits, targets)
    assert {name: float(value) for name, value in components.items()} == {
        "dice": 0.0,
        "jaccard": 0.0,
        "focal": 0.0,
    }
