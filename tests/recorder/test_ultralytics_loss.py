"""The losses of images in one call of a criterion, against calls with each image alone."""

import copy

import numpy as np
import pytest
import torch
import yolo_training as yolo
from helpers import message
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import (
    ClassificationModel,
    DetectionModel,
    PoseModel,
    SegmentationModel,
)
from ultralytics.utils.loss import v8PoseLoss

from actiontrack.errors import RecordingError
from actiontrack.recorder.ultralytics_loss import check_criterion, listen, stop_listening

N, SIDE, N_CLASSES = 4, yolo.SIDE, 3
KINDS = {
    "yolo11n.yaml": DetectionModel,
    "yolo26n.yaml": DetectionModel,
    "yolo11n-seg.yaml": SegmentationModel,
    "yolo26n-seg.yaml": SegmentationModel,
}


def make_model(name, **options):
    torch.manual_seed(0)
    model = KINDS[name](name, nc=N_CLASSES, verbose=False)
    model.args = get_cfg(overrides=options)
    return model.train()


@pytest.fixture(scope="module")
def models():
    return {name: make_model(name) for name in KINDS}


@pytest.fixture
def batch():
    """Three objects, one, none, two; the masks are their boxes."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(N), (3, 1, 0, 2))
    boxes = np.hstack((rng.uniform(0.3, 0.7, (6, 2)), rng.uniform(0.2, 0.5, (6, 2))))
    masks = np.zeros((N, SIDE // 4, SIDE // 4), dtype=np.float32)
    for row, (x, y, width, height) in enumerate(boxes):
        number = row - int(np.flatnonzero(image == image[row])[0]) + 1
        across, down = (
            slice(int((centre - size / 2) * 16), int((centre + size / 2) * 16) + 1)
            for centre, size in ((x, width), (y, height))
        )
        masks[image[row], down, across] = number
    return {
        "img": torch.from_numpy(rng.random((N, 3, SIDE, SIDE), dtype=np.float32)),
        "batch_idx": torch.from_numpy(image).float(),
        "cls": torch.from_numpy(rng.integers(N_CLASSES, size=(6, 1))).float(),
        "bboxes": torch.from_numpy(boxes).float(),
        "masks": torch.from_numpy(masks),
        "sem_masks": torch.zeros(N, SIDE // 4, SIDE // 4),
    }


def alone(value, row):
    """The predictions of one image."""
    if isinstance(value, dict):
        return {name: alone(part, row) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(alone(part, row) for part in value)
    return value[row : row + 1]


def batch_of_one(batch, row):
    own = batch["batch_idx"] == row
    return {
        "batch_idx": torch.zeros(int(own.sum())),
        **{name: batch[name][own] for name in ("cls", "bboxes")},
        **{name: batch[name][row : row + 1] for name in ("img", "masks", "sem_masks")},
    }


def heard(model, batch, preds):
    """What is told of one call of the criterion, and the call's own result."""
    told = []
    listener = lambda *arguments: told.append(arguments)  # noqa: E731 - to be taken off again
    listen(model, listener)
    outcome = model.criterion(preds, batch)
    stop_listening(model, listener)
    assert told[0][0] is batch
    return told[0][1], outcome


@pytest.mark.parametrize("name", KINDS)
def test_losses_are_those_of_batches_of_one(models, batch, name):
    model = models[name]
    preds = model(batch["img"])
    losses, _ = heard(model, batch, preds)
    for row in range(N):
        expected = model.init_criterion()(alone(preds, row), batch_of_one(batch, row))[1]
        for part, values in losses.losses.items():
            assert float(values[row]) == pytest.approx(float(expected[part]), rel=2e-5, abs=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_items_of_the_batch_are_rebuilt(models, batch, name):
    losses, (_, items) = heard(models[name], batch, models[name](batch["img"]))
    rebuilt = losses.items()
    assert set(items) - set(rebuilt) <= {"sem_loss"}
    for part, value in rebuilt.items():
        assert float(value) == pytest.approx(float(items[part]), rel=1e-5)


def test_class_weights_count(batch):
    model = make_model("yolo11n.yaml")
    model.class_weights = torch.tensor([0.5, 1.0, 1.5])
    losses, (_, items) = heard(model, batch, model(batch["img"]))
    assert float(losses.items()["cls_loss"]) == pytest.approx(float(items["cls_loss"]), rel=1e-5)


def test_an_object_alone_in_its_image_has_the_box_losses_of_the_image(models, batch):
    losses, _ = heard(models["yolo11n.yaml"], batch, models["yolo11n.yaml"](batch["img"]))
    scores = losses.sums["target_scores"][1]
    assert float(losses.objects.target_scores[1, 0]) == pytest.approx(float(scores))
    for part in ("box_loss", "dfl_loss"):
        of_image = losses.losses[part][1] * max(1, scores) / scores
        assert float(losses.objects.losses[part][1, 0]) == pytest.approx(float(of_image), rel=1e-5)
    assert (losses.objects.n_anchors > 0).tolist() == [
        [True, True, True], [True, False, False], [False] * 3, [True, True, False],
    ]  # fmt: skip


def test_an_object_whose_anchors_have_no_score_has_their_plain_mean(models, batch):
    """Every predicted box is a point, so it overlaps none: nothing counts in the batch."""
    model = models["yolo11n.yaml"]
    preds = model(batch["img"])
    points = {**preds, "boxes": torch.zeros_like(preds["boxes"])}
    points["boxes"][:, ::16] = 1e4  # all sides are in the bin of no distance
    losses, _ = heard(model, batch, points)
    assigned = losses.objects.n_anchors > 0
    assert assigned.any()
    assert losses.losses["box_loss"].tolist() == [0] * N
    gain = model.args.box
    assert (losses.objects.losses["box_loss"][assigned] >= gain).all()  # no overlap at all
    assert torch.isfinite(losses.objects.losses["box_loss"]).all()


def test_a_batch_without_objects_has_class_losses(models, batch):
    empty = {**batch, **{name: batch[name][:0] for name in ("batch_idx", "cls", "bboxes")}}
    losses, (_, items) = heard(models["yolo11n.yaml"], empty, models["yolo11n.yaml"](batch["img"]))
    assert losses.losses["box_loss"].tolist() == [0] * N
    assert float(losses.items()["cls_loss"]) == pytest.approx(float(items["cls_loss"]), rel=1e-5)
    assert losses.objects.n_anchors.shape == (N, 0)


@pytest.mark.parametrize("name", ["yolo11n.yaml", "yolo26n-seg.yaml"])
def test_gradients_are_the_same_bit_for_bit(models, batch, name):
    model = models[name]
    gradients = []
    for listens in (False, True):
        twin = copy.deepcopy(model)
        twin.criterion = twin.init_criterion()
        preds = twin(batch["img"])
        loss = (heard(twin, batch, preds)[1] if listens else twin.criterion(preds, batch))[0]
        loss.sum().backward()
        gradients.append([part.grad for part in twin.parameters() if part.grad is not None])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


def test_the_criterion_is_the_same_object_after_the_last_listener(models):
    model = models["yolo26n.yaml"]
    model.criterion = model.init_criterion()
    before = model.criterion
    one, two = (lambda *_: None), (lambda *_: None)
    listen(model, one)
    listen(model, two)
    model.criterion.update()  # that of an end-to-end loss
    assert before.updates == 1
    stop_listening(model, one)
    assert model.criterion is not before
    stop_listening(model, two)
    assert model.criterion is before


def test_a_copy_of_a_model_has_no_listeners(models):
    model = models["yolo11n.yaml"]
    listener = lambda *_: None  # noqa: E731
    listen(model, listener)
    assert type(copy.deepcopy(model).criterion).__name__ == "v8DetectionLoss"
    stop_listening(model, listener)


def test_a_classifier_has_the_cross_entropy_of_its_logits(cross_entropy):
    torch.manual_seed(0)
    model = ClassificationModel("yolo11n-cls.yaml", nc=N_CLASSES, verbose=False).eval()
    batch = {"img": torch.rand(N, 3, SIDE, SIDE), "cls": torch.tensor([0, 2, 1, 1])}
    with torch.inference_mode():
        probabilities, logits = preds = model(batch["img"])
        losses, (loss, _) = heard(model, batch, preds)
    expected = cross_entropy(np.log(probabilities.numpy()), batch["cls"])
    np.testing.assert_allclose(losses.losses["loss"], expected, rtol=1e-5)
    assert torch.equal(losses.logits, logits)
    assert float(losses.items()["loss"]) == pytest.approx(float(loss), rel=1e-6)


def test_criteria_of_other_tasks_are_refused():
    model = PoseModel("yolo11n-pose.yaml", nc=1, data_kpt_shape=(3, 3), verbose=False)
    model.args = get_cfg()
    text = (
        "the losses of v8PoseLoss can't be told apart by image. Recorded are those of detection, "
        "segmentation and classification by YOLO models."
    )
    with pytest.raises(RecordingError, match=message(text)):
        check_criterion(v8PoseLoss(model))
