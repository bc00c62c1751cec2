"""Facts about projects/models: parameter counts are worked out here layer by layer."""

import re
from pathlib import Path

import pytest
import torch

from actiontrack.errors import ParameterError
from projects.models import MODELS, build_model
from projects.models.xception_mini import _same_pool

README = Path(__file__).parents[3] / "projects" / "models" / "README.md"
WIDTH = {"cnn_keras": 512, "resnet_v2": 256, "xception_mini": 128, "vgg5": 128, "speednet": 256}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def conv(kernel, cin, cout, bias=1):
    return kernel * kernel * cin * cout + bias * cout


def dense(cin, cout):
    return cin * cout + cout


def bn(*channels):
    return 2 * sum(channels)  # weight and bias


def separable(cin, cout):
    return 9 * cin + conv(1, cin, cout, bias=0) + bn(cout)


def xception_block(cin, cout):
    return conv(1, cin, cout, 0) + bn(cout) + separable(cin, cout) + separable(cout, cout)


def bottleneck(cin, width, cout):
    """All units but the first: three convolutions, each behind a batch norm."""
    convolutions = conv(1, cin, width) + conv(3, width, width) + conv(1, width, cout)
    return bn(cin, width, width) + convolutions


def three_convs(channels):
    return conv(3, channels, 32) + conv(3, 32, 64) + conv(3, 64, 128)


def cnn_keras(channels, last_map):
    convs = conv(3, channels, 32) + conv(3, 32, 32) + conv(3, 32, 64) + conv(3, 64, 64)
    return convs + dense(64 * last_map, 512) + dense(512, 10)


def resnet_v2(channels):
    stem = conv(3, channels, 16) + bn(16)
    first = bottleneck(16, 16, 64) - bn(16) + conv(1, 16, 64) + bottleneck(64, 16, 64)
    second = bottleneck(64, 64, 128) + conv(1, 64, 128) + bottleneck(128, 64, 128)
    third = bottleneck(128, 128, 256) + conv(1, 128, 256) + bottleneck(256, 128, 256)
    return stem + first + second + third + bn(256) + dense(256, 10)


def xception_mini(channels, classes):
    stem = conv(3, channels, 8, 0) + bn(8) + conv(3, 8, 8, 0) + bn(8)
    widths = [(8, 16), (16, 32), (32, 64), (64, 128)]
    return stem + sum(xception_block(*pair) for pair in widths) + conv(3, 128, classes)


def speednet(channels):
    """Width 32: filters of the first layer are fixed, its biases and those of batch norms learn."""
    first = 8 * channels
    convolutions = [(first, 32), (32, 32), (32, 128), (128, 128), (128, 256), (256, 256)]
    shifts = first + 2 * (32 + 128 + 256)
    return shifts + sum(conv(3, *pair, 0) for pair in convolutions) + 256 * 10


HAND = {
    # 32x32: 32 -> 32, 30, 15 -> 15, 13, 6; 8x8: 8 -> 8, 6, 3 -> 3, 1
    "cnn_keras": (cnn_keras(3, 36), cnn_keras(1, 1)),
    "resnet_v2": (resnet_v2(3), resnet_v2(1)),
    "xception_mini": (xception_mini(3, 10), xception_mini(1, 10)),
    # 32x32 leaves a map of 4x4, 8x8 a single pixel
    "vgg5": (
        three_convs(3) + dense(128 * 16, 128) + dense(128, 10),
        three_convs(1) + dense(128, 128) + dense(128, 10),
    ),
    "cnn3": (three_convs(3) + dense(128 * 16, 10), three_convs(1) + dense(128, 10)),
    "speednet": (speednet(3), speednet(1)),
}


def build(name, channels=3, size=32, classes=10):
    return build_model(name, in_channels=channels, image_size=size, n_classes=classes)


def trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def running_statistics(model):
    return sum(b.numel() for name, b in model.named_buffers() if "running" in name)


@pytest.mark.parametrize("name", MODELS)
def test_the_parameter_count_is_the_sum_over_the_layers(name):
    assert (trainable(build(name)), trainable(build(name, 1, 8))) == HAND[name]


def test_cnn_keras_has_the_count_that_keras_reports():
    assert trainable(build("cnn_keras")) == 1_250_858


def test_resnet_v2_has_the_counts_that_keras_reports():
    model = build("resnet_v2")
    assert running_statistics(model) == 3_488
    assert trainable(model) + running_statistics(model) == 574_090


def test_xception_mini_has_the_counts_that_keras_reports_for_fer2013():
    model = build("xception_mini", 1, 48, 7)
    assert running_statistics(model) == 1_472
    assert trainable(model) + running_statistics(model) == 58_423


@pytest.mark.parametrize("name", MODELS)
def test_the_readme_tells_the_counts(name):
    cells = re.search(rf"^\| `{name}` \| ([\d,]+) \| ([\d,]+) \|", README.read_text(), re.M)
    assert tuple(int(n.replace(",", "")) for n in cells.groups()) == HAND[name]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize(("channels", "size"), [(1, 8), (1, 9), (1, 28), (3, 32), (3, 96)])
@pytest.mark.parametrize("name", MODELS)
def test_images_of_every_size_give_one_row_of_logits_each(name, channels, size, batch, training):
    model = build(name, channels, size, classes=4).train(training)
    images = torch.rand(batch, channels, size, size).to(memory_format=torch.channels_last)
    logits = model(images)
    assert logits.shape == (batch, 4)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", MODELS)
def test_images_need_not_be_square(name):
    model = build(name, 3, (8, 21))
    assert model(torch.rand(1, 3, 8, 21)).shape == (1, 10)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_gets_a_gradient_from_a_batch_of_one_image(name):
    model = build(name).eval()
    model(torch.rand(1, 3, 32, 32)).square().sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", [name for name in MODELS if name != "xception_mini"])
def test_logits_are_the_head_on_top_of_the_features(name):
    model = build(name).eval()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model(images), model.head(model.features(images)))


def test_xception_mini_features_are_averages_of_the_map_under_the_last_convolution():
    model = build("xception_mini").eval()
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 32, 32)
    model(images)
    assert seen[0].shape == (2, 128, 2, 2)  # 32 - 4 = 28, 14, 7, 4, 2
    expected = seen[0].flatten(2).mean(2)
    torch.testing.assert_close(model.features(images), expected)


@pytest.mark.parametrize(("name", "width"), WIDTH.items())
def test_features_have_a_width_that_does_not_depend_on_the_image(name, width):
    for size in (8, 32):
        assert build(name, 1, size).eval().features(torch.rand(1, 1, size, size)).shape[1] == width


def test_cnn3_features_are_the_last_map_laid_flat():
    assert build("cnn3").features(torch.rand(2, 3, 32, 32)).shape == (2, 128 * 4 * 4)


def test_xception_mini_is_the_published_network_from_21_pixels_on():
    def strides(size):
        model = build("xception_mini", 1, size)
        return [block.shortcut[0].stride[0] for block in list(model.trunk)[6:]]

    assert strides(21) == [2, 2, 2, 2]
    assert strides(20) == [2, 2, 2, 1]


@pytest.mark.parametrize("size", [6, 7])
def test_xception_mini_pools_the_windows_of_keras_same_padding(size):
    image = torch.rand(1, 1, size, size)
    total = 2 * (-(-size // 2) - 1) + 3 - size  # TensorFlow's rule, the smaller half first
    before, after = total // 2, total - total // 2
    padded = torch.nn.functional.pad(image, (before, after) * 2, value=-1.0)
    expected = torch.nn.functional.max_pool2d(padded, 3, 2)
    torch.testing.assert_close(_same_pool((size, size), 2)(image), expected)


@pytest.mark.parametrize("name", MODELS)
def test_channels_last_changes_no_result(name):
    model = build(name).eval()
    images = torch.rand(2, 3, 32, 32)
    plain = model(images)
    model = model.to(memory_format=torch.channels_last)
    result = model(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(result, plain, rtol=1e-4, atol=1e-4)


def test_a_seed_gives_the_same_weights():
    torch.manual_seed(3)
    first = build("cnn3").head.weight
    torch.manual_seed(3)
    torch.testing.assert_close(build("cnn3").head.weight, first, rtol=0, atol=0)


def test_initial_biases_are_zero():
    for name in MODELS:
        biases = [p for key, p in build(name).named_parameters() if key.endswith("bias")]
        assert not any(bias.any() for bias in biases)


def test_resnet_v2_starts_from_he_normal_weights():
    weight = build("resnet_v2").trunk[5][0].residual[1][2].weight  # 3x3, 128 -> 128
    assert weight.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)


def test_cnn_keras_starts_from_glorot_uniform_weights():
    weight = build("cnn_keras").head[1].weight
    limit = (6 / (512 + 10)) ** 0.5
    assert limit * 0.98 < weight.abs().max().item() <= limit


def test_an_unknown_name_is_refused():
    with pytest.raises(ParameterError) as caught:
        build("resnet50")
    assert str(caught.value) == (
        "model: must be one of cnn_keras, resnet_v2, xception_mini, vgg5, cnn3, speednet, got "
        "'resnet50'. Pass one of these names."
    )


@pytest.mark.parametrize("name", MODELS)
def test_images_under_8_pixels_are_refused(name):
    with pytest.raises(ParameterError) as caught:
        build(name, 1, (7, 32))
    assert str(caught.value) == (
        f"image_size: must be at least 8x8 pixels for {name}, got '7x32'. "
        "Pass --image_size 8 or more."
    )


def test_a_model_without_classes_is_refused():
    with pytest.raises(ParameterError, match=r"^n_classes: must be an integer >= 1, got 0\. "):
        build("cnn3", classes=0)
