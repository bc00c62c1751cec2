"""Facts about the losses of a detector per image and per object, against torchvision's own."""

import pytest
import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torchvision.ops import box_iou

from projects.models.ssd import DETECTORS, PackedSSD, build_detector
from projects.tasks.detection_losses import multibox_losses

N_CLASSES = 3


def packed(name):
    torch.manual_seed(0)
    ssd = build_detector(name, n_classes=N_CLASSES)
    return PackedSSD(ssd, mean=torch.full((3,), 0.4), std=torch.full((3,), 0.2))


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def small():
    return packed("ssd_small")


def target(*objects):
    """Objects are label, left, top, right, bottom with sides as parts of the image."""
    rows = torch.tensor(objects, dtype=torch.float32).reshape(-1, 5)
    return {"labels": rows[:, 0].long(), "boxes": rows[:, 1:]}


def scaled(targets, side):
    return [target | {"boxes": target["boxes"] * side} for target in targets]


MANY = target(
    (1, 0.1, 0.1, 0.4, 0.5), (2, 0.3, 0.2, 0.9, 0.8), (3, 0.02, 0.6, 0.12, 0.72), (2, 0, 0, 1, 1)
)
ONE = target((3, 0.5, 0.4, 0.7, 0.9))
EMPTY = target()


def pixels(count, side):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def both(detector, targets, side):
    """torchvision's losses of a batch, and ours, from the same images in training mode."""
    images, targets = pixels(len(targets), side), scaled(targets, side)
    detector.train()
    theirs = detector.ssd(list(images), targets)
    ours = multibox_losses(detector, detector((images - 0.4) / 0.2), targets)
    return theirs, ours


@pytest.mark.parametrize(
    "targets", [[MANY, ONE], [MANY, EMPTY, ONE], [ONE], [EMPTY], [EMPTY, EMPTY]]
)
def test_the_three_losses_of_a_batch_add_up_to_torchvisions(small, targets):
    theirs, ours = both(small, targets, 192)
    n_matched = max(1, int(ours.n_matched.sum()))
    torch.testing.assert_close(ours.box.sum() / n_matched, theirs["bbox_regression"])
    classification = (ours.positive.sum() + ours.negative.sum()) / n_matched
    torch.testing.assert_close(classification, theirs["classification"])
    torch.testing.assert_close(ours.batch, theirs["classification"] + theirs["bbox_regression"])


@pytest.mark.slow
def test_the_losses_of_ssd300_add_up_to_torchvisions():
    detector, side = packed("ssd300_vgg16"), DETECTORS["ssd300_vgg16"].side
    seen = {}
    detector.ssd.head.register_forward_hook(lambda _, __, heads: seen.update(heads))
    detector.ssd.anchor_generator.register_forward_hook(
        lambda _, __, boxes: setattr(detector, "default_boxes", boxes[0])
    )
    targets = scaled([MANY, EMPTY], side)
    theirs = detector.ssd(list(pixels(2, side)), targets)
    outputs = torch.cat([seen["cls_logits"], seen["bbox_regression"]], dim=-1)
    ours = multibox_losses(detector, outputs, targets)
    assert detector.default_boxes.shape == (8732, 4)
    torch.testing.assert_close(ours.batch, theirs["classification"] + theirs["bbox_regression"])


def test_the_training_loss_is_torchvisions_own(small):
    images, targets = pixels(2, 192), scaled([MANY, EMPTY], 192)
    theirs = small.train().ssd(list(images), targets)
    ours = small.total(small((images - 0.4) / 0.2), targets)
    torch.testing.assert_close(ours, theirs["classification"] + theirs["bbox_regression"])


def test_the_losses_of_an_image_do_not_depend_on_the_images_beside_it(small):
    small.eval()
    images, targets = pixels(3, 192), scaled([MANY, EMPTY, ONE], 192)
    together = multibox_losses(small, small(images), targets).of_images()
    alone = multibox_losses(small, small(images[2:]), targets[2:]).of_images()
    for name, values in together.items():
        torch.testing.assert_close(values[2:], alone[name], rtol=1e-4, atol=1e-5)


def test_an_image_alone_has_torchvisions_loss_of_a_batch_of_one(small):
    theirs, ours = both(small, [MANY], 192)
    total = sum(ours.of_images().values())
    torch.testing.assert_close(total[0], theirs["classification"] + theirs["bbox_regression"])


def test_an_image_without_an_object_has_no_loss(small):
    _, ours = both(small, [EMPTY, ONE], 192)
    assert {name: float(losses[0]) for name, losses in ours.of_images().items()} == {
        "positive_classification": 0,
        "negative_classification": 0,
        "box_regression": 0,
    }
    assert ours.object_matched.tolist() == ours.n_matched[1:].tolist()


def test_three_negatives_are_chosen_for_each_matched_box_the_hardest_ones(small):
    images, (target,) = pixels(1, 192), scaled([ONE], 192)
    outputs = small.train()(images)
    (matched,) = small.match([target])
    background = [
        float(cross_entropy(row[None, :-4], torch.tensor([0])))
        for row, owner in zip(outputs[0], matched, strict=True)
        if owner < 0
    ]
    hardest = sorted(background, reverse=True)[: 3 * int((matched >= 0).sum())]
    ours = multibox_losses(small, outputs, [target])
    assert float(ours.negative[0]) == pytest.approx(sum(hardest), rel=1e-5)


def test_the_losses_of_an_object_are_means_over_its_own_default_boxes(small):
    images, (target,) = pixels(1, 192), scaled([MANY], 192)
    outputs = small.train()(images)
    ours = multibox_losses(small, outputs, [target])
    (matched,) = small.match([target])
    for number, label in enumerate(target["labels"]):
        of_object = matched == number
        labels = label.repeat(int(of_object.sum()))
        positive = cross_entropy(outputs[0, of_object, :-4], labels)
        boxes = target["boxes"][number].repeat(len(labels), 1)
        offsets = small.ssd.box_coder.encode_single(boxes, small.default_boxes[of_object])
        box = smooth_l1_loss(outputs[0, of_object, -4:], offsets, reduction="sum") / len(labels)
        recorded = {name: losses[number] for name, losses in ours.of_objects().items()}
        torch.testing.assert_close(recorded["positive_classification"], positive)
        torch.testing.assert_close(recorded["box_regression"], box)


def test_the_losses_of_objects_add_up_to_those_of_their_images(small):
    _, ours = both(small, [MANY, EMPTY, ONE], 192)
    n = len(MANY["labels"])
    torch.testing.assert_close(ours.object_positive[:n].sum(), ours.positive[0])
    torch.testing.assert_close(ours.object_box[n:].sum(), ours.box[2])
    assert ours.object_matched[:n].sum() == ours.n_matched[0]


def test_of_two_objects_that_want_the_same_default_box_the_later_one_has_it(small):
    twice = target((1, 0.3, 0.3, 0.31, 0.31), (2, 0.3, 0.3, 0.31, 0.31))
    _, ours = both(small, [twice], 192)
    assert ours.object_matched.tolist() == [0, 1]
    assert ours.of_objects()["box_regression"].isnan().tolist() == [True, False]


def test_objects_are_matched_as_the_paper_says(small):
    targets = scaled([MANY], 192)
    small(pixels(1, 192))
    (matched,) = small.match(targets)
    overlaps = box_iou(targets[0]["boxes"], small.default_boxes)
    best = overlaps.argmax(dim=1)
    assert matched[best].tolist() == list(range(len(best)))
    others = torch.ones_like(matched, dtype=torch.bool)
    others[best] = False
    highest, owner = overlaps.max(dim=0)
    expected = torch.where(highest >= 0.5, owner, -1)
    assert torch.equal(matched[others].clamp(min=-1), expected[others])
