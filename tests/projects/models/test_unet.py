"""The U-Net: its encoder is torchvision's VGG-16, its output as large as the image."""

import pytest
import torch
from helpers import message
from torchvision.models import vgg16_bn

from actiontrack.errors import ParameterError
from projects.models.unet import UNet


@pytest.mark.parametrize("size", [(16, 16), (45, 60), (33, 50)])
def test_every_pixel_has_a_logit_of_each_class(size):
    model = UNet(5, width_divisor=32).eval()
    assert model(torch.zeros(2, 3, *size)).shape == (2, 5, *size)


def test_the_encoder_is_that_of_vgg16():
    with torch.device("meta"):  # shapes alone: no weight is drawn
        ours = UNet(2).stages.state_dict().values()
        theirs = vgg16_bn(weights=None).features.state_dict().values()
    assert [tensor.shape for tensor in ours] == [tensor.shape for tensor in theirs]


def test_the_stages_compute_what_vgg16_computes():
    model, x = UNet(2, width_divisor=16).eval(), torch.randn(1, 3, 32, 32)
    layers = [layer for stage in model.stages for layer in (*stage, torch.nn.MaxPool2d(2))][:-1]
    reached = []
    model.stages[-1].register_forward_hook(lambda *each: reached.append(each[2]))
    with torch.inference_mode():
        model(x)
        torch.testing.assert_close(reached[0], torch.nn.Sequential(*layers)(x))


def test_a_narrower_encoder_has_no_weights_of_imagenet():
    expected = (
        "encoder_weights: must be none for a narrower encoder: torchvision has weights of VGG-16 "
        "itself, got 'imagenet'. Pass --width_divisor 1, or --encoder_weights none."
    )
    with pytest.raises(ParameterError, match=message(expected)):
        UNet(2, width_divisor=8, imagenet=True)
