"""The parts that models share: geometry and initial weights."""

import math

import pytest
import torch
from torch import nn

from projects.models import MODELS
from projects.models.layers import Classifier, conv3, init_keras, init_resnet, pooled


@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_keeps_the_size_or_takes_two_pixels_off(padding):
    layers = conv3(2, 5, padding=padding)
    side = 9 if padding else 7
    outputs = layers(torch.randn(1, 2, 9, 9))
    assert outputs.shape == (1, 5, side, side)
    assert outputs.min() >= 0
    assert sum(weights.numel() for weights in layers.parameters()) == 9 * 2 * 5 + 5


@pytest.mark.parametrize(
    ("size", "times"), [((32, 32), 3), ((9, 17), 1), ((15, 8), 2), ((8, 8), 0)]
)
def test_the_size_after_pooling_is_that_of_pytorch(size, times):
    images = torch.zeros(1, 1, *size)
    for _ in range(times):
        images = nn.functional.max_pool2d(images, 2)
    assert pooled(size, times) == tuple(images.shape[2:])


@pytest.fixture
def layers():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(16, 64, 3), nn.BatchNorm2d(64), nn.Linear(200, 300, bias=False))


def test_keras_weights_are_uniform_within_glorots_bound_and_biases_are_zero(layers):
    init_keras(layers)
    convolution, dense = layers[0].weight, layers[2].weight
    for weights, fans in ((convolution, 9 * (16 + 64)), (dense, 200 + 300)):
        bound = math.sqrt(6 / fans)
        assert weights.abs().max() <= bound
        assert float(weights.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=0.03)
    assert not layers[0].bias.any()


def test_resnet_weights_are_normal_with_hes_variance_and_biases_are_zero(layers):
    init_resnet(layers)
    for weights, fan_in in ((layers[0].weight, 9 * 16), (layers[2].weight, 200)):
        assert float(weights.detach().std()) == pytest.approx(math.sqrt(2 / fan_in), rel=0.03)
        assert float(weights.detach().mean()) == pytest.approx(0, abs=0.01)
    assert not layers[0].bias.any()


@pytest.mark.parametrize("init", [init_keras, init_resnet])
def test_batch_norms_keep_their_weights(layers, init):
    init(layers)
    assert layers[1].weight.eq(1).all()
    assert layers[1].bias.eq(0).all()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_a_classifier_that_takes_images_of_8_pixels(name):
    assert issubclass(MODELS[name], Classifier)
    assert MODELS[name].min_size == 8


def test_logits_are_the_head_on_the_features():
    class Two(Classifier):
        def __init__(self):
            super().__init__()
            self.trunk, self.head = nn.Flatten(), nn.Linear(4, 3)

    model, images = Two(), torch.randn(5, 1, 2, 2)
    torch.testing.assert_close(model(images), model.head(model.features(images)))
