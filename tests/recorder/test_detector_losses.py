"""Losses of single images, against the losses that torchvision itself returns."""

import copy

import pytest
import torch
from detecting import FAMILIES, Pictures, detector
from torch import nn
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.ssd import SSD

from actiontrack.errors import ParameterError
from actiontrack.recorder.detector_losses import (
    batch_losses,
    family_of,
    per_image,
    replaced,
    unwrapped,
)

pytestmark = pytest.mark.slow


def step(model, images, targets, *, take):
    """Losses, gradients, statistics and random state of one step, and what was taken."""
    torch.manual_seed(1)
    if take:
        with per_image(model) as taken:
            losses = model(images, targets)
    else:
        losses, taken = model(images, targets), []
    sum(losses.values()).backward()
    gradients = [weights.grad for weights in model.parameters() if weights.grad is not None]
    return losses, [*gradients, *model.buffers(), torch.get_rng_state()], taken


@pytest.fixture(scope="module", params=FAMILIES)
def steps(request):
    """Of each detector one step without and one with its images' losses taken."""
    model = detector(request.param)
    twin = copy.deepcopy(model)
    with torch.random.fork_rng():
        plain = step(model, *Pictures().batch, take=False)
        recorded = step(twin, *Pictures().batch, take=True)
    return request.param, plain, recorded, twin


def test_the_losses_of_a_batch_are_rebuilt_from_those_of_its_images(steps):
    _, (expected, *_), (_, _, (taken,)), _ = steps
    rebuilt = batch_losses({name: part.numpy() for name, part in taken.components.items()})
    assert rebuilt.keys() == expected.keys()
    for name, loss in expected.items():
        assert rebuilt[name] == pytest.approx(float(loss.detach()), rel=1e-5, abs=1e-6)
    total = sum(float(loss.detach()) for loss in expected.values())
    assert float(taken.of_batch()) == pytest.approx(total, rel=1e-6)
    torch.testing.assert_close(taken.total, sum(taken.losses.values()))


def test_losses_gradients_statistics_and_random_states_are_the_same_bit_for_bit(steps):
    _, (expected, state, _), (losses, recorded_state, _), _ = steps
    assert {name: float(loss.detach()) for name, loss in losses.items()} == {
        name: float(loss.detach()) for name, loss in expected.items()
    }
    assert len(state) == len(recorded_state)
    assert all(map(torch.equal, state, recorded_state))


def test_nothing_stays_on_the_model(steps):
    name, _, _, twin = steps
    untouched = dict(detector(name).named_modules())
    for path, module in twin.named_modules():
        assert vars(module).keys() == vars(untouched[path]).keys()
        assert not module._forward_hooks


def test_every_detector_has_a_name_of_its_loss(steps):
    name, _, _, twin = steps
    assert family_of(twin) == name


def test_a_plain_mean_over_images_is_another_number_with_an_empty_image():
    model = detector("fcos")
    with per_image(model) as taken:
        losses = model(*Pictures().batch)
    box = float(losses["bbox_regression"].detach())
    assert abs(float(taken[0].losses["bbox_regression"].mean()) - box) > 0.05 * box


def test_a_failing_forward_leaves_the_model_as_it_was():
    model = detector("faster_rcnn")
    images, targets = Pictures().batch
    with pytest.raises(AssertionError), per_image(model):
        model(images, [target | {"boxes": target["boxes"].flip(1)} for target in targets])
    assert "compute_loss" not in vars(model.rpn)
    assert not model.roi_heads.box_predictor._forward_hooks


def test_a_forward_in_evaluation_mode_has_no_losses():
    model = detector("ssd").eval()
    with torch.no_grad(), per_image(model) as taken:
        model([torch.rand(3, 32, 32)])
    assert taken == []


def test_an_attribute_that_the_model_had_is_back_afterwards():
    owner = nn.Module()
    owner.size = 1
    with replaced(owner, "size", 2):
        assert owner.size == 2
    assert owner.size == 1


class OwnHead(FCOSHead):
    def compute_loss(self, *arguments):
        return super().compute_loss(*arguments)


class OwnLoss(SSD):
    def compute_loss(self, *arguments):
        return super().compute_loss(*arguments)


def test_a_head_with_a_loss_of_its_own_is_refused():
    model = detector("fcos")
    model.head.__class__ = OwnHead
    with pytest.raises(ParameterError) as caught:
        family_of(model)
    assert str(caught.value) == (
        "model: must compute its losses by torchvision's FCOSHead, got 'OwnHead with compute_loss "
        "of its own'. How that divides a loss among images is unknown: record by Recorder.update."
    )
    ssd = detector("ssd")
    ssd.__class__ = OwnLoss
    with pytest.raises(ParameterError, match="OwnLoss with compute_loss of its own"):
        family_of(ssd)


@pytest.mark.parametrize("model", [nn.Linear(1, 1), "retinanet", None])
def test_other_models_are_refused(model):
    with pytest.raises(ParameterError, match="model: must be a Faster, Mask or Keypoint R-CNN"):
        family_of(model)


def test_a_compiled_detector_is_refused():
    with pytest.raises(ParameterError, match="got 'OptimizedModule'"):
        family_of(torch.compile(detector("ssd"), backend="eager"))


def test_only_the_wrapper_for_several_processes_is_taken_off():
    model = nn.Linear(1, 1)
    assert unwrapped(model) is model
