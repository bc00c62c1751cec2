"""Facts about projects/models/speednet.py beyond those of every model."""

import numpy as np
import pytest
import torch

from projects.datasets import load_dataset
from projects.loading import Normalisation
from projects.models import build_model
from projects.params import TrainParams, validate
from projects.tasks.classification import Classification


def build(size=32, channels=3, **options):
    torch.manual_seed(0)
    return build_model("speednet", in_channels=channels, image_size=size, n_classes=10, **options)


def coloured_noise(n, channels):
    """Images whose neighbouring pixels and channels go together."""
    noise = torch.randn(n, channels, 12, 12, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.avg_pool2d(noise, 3, stride=1)
    return 3 * smooth + smooth.mean(dim=1, keepdim=True)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_fitted_first_layer_gives_outputs_without_correlation_and_of_variance_one(channels):
    model, images = build(10, channels), coloured_noise(600, channels)
    model.fit_input(images)
    outputs = model.trunk[0](images).transpose(0, 1).flatten(1)
    n_pixels = 4 * channels
    moments = (outputs @ outputs.T / outputs.shape[1]).detach().numpy()
    np.testing.assert_allclose(moments[:n_pixels, :n_pixels], np.eye(n_pixels), atol=0.05)


def test_each_pattern_of_the_first_layer_stands_beside_its_negative():
    model = build(10)
    model.fit_input(coloured_noise(100, 3))
    first, second = model.trunk[0].weight.chunk(2)
    assert torch.equal(first, -second)


def test_the_first_layer_does_not_depend_on_the_number_of_images_in_a_part():
    images = coloured_noise(700, 3)  # more than one part
    model = build(10)
    model.fit_input(images)
    patches = images.unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 12)
    variances = np.linalg.eigvalsh(np.cov(patches.T.double().numpy(), bias=True))
    norms = model.trunk[0].weight[:12].flatten(1).norm(dim=1).square().numpy()
    mean = patches.mean(dim=0).square().sum().item()
    np.testing.assert_allclose(norms, 1 / (variances + 5e-4), rtol=0.01 + mean)


def test_training_changes_no_filter_of_the_first_layer_and_no_scale_of_a_batch_norm():
    model = build()
    trained = {name for name, _ in model.named_parameters()}
    norms = [name for name, part in model.named_modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert "trunk.0.weight" not in trained
    assert len(norms) == 6
    assert not {f"{name}.weight" for name in norms} & trained
    assert {f"{name}.bias" for name in norms} < trained
    assert "trunk.0.weight" in model.state_dict()


def test_convolutions_start_as_copies_of_their_inputs():
    convolution = build().trunk[2][0]  # 24 to 32 channels
    images = torch.rand(2, 24, 9, 9)
    torch.testing.assert_close(convolution(images)[:, :24], images)


def test_a_stage_halves_the_map_while_it_stays_2x2():
    def sides(size):
        model, maps = build(size).eval(), []
        for stage in model.trunk[2:5]:
            stage.register_forward_hook(lambda _, __, outputs: maps.append(outputs.shape[-1]))
        model(torch.rand(1, 3, size, size))
        return maps

    assert sides(32) == [15, 7, 3]
    assert sides(17) == [8, 4, 2]
    assert sides(16) == [7, 3, 3]
    assert sides(8) == [3, 3, 3]


def test_the_width_is_that_of_the_first_stage_and_the_others_follow():
    model = build(width=5)
    assert [stage[0].out_channels for stage in model.trunk[2:5]] == [5, 20, 40]


def test_the_task_fits_the_first_layer_to_normalised_training_images():
    params = validate(TrainParams, {"model": "speednet", "subset": 100, "width": 4})
    train, _ = load_dataset(params)
    model = Classification().build(params, train)
    outputs = model.trunk[0](Normalisation.of(train).apply(train.images)).transpose(0, 1).flatten(1)
    moments = (outputs[:4] @ outputs[:4].T / outputs.shape[1]).detach()
    torch.testing.assert_close(moments, torch.eye(4), atol=0.02, rtol=0)


def test_few_of_many_images_are_taken_evenly(monkeypatch):
    params = validate(TrainParams, {"model": "speednet", "subset": 100, "width": 4})
    train, _ = load_dataset(params)
    model = build(8, 1)
    seen = []
    monkeypatch.setattr(type(model), "fitted_images", 30)
    monkeypatch.setattr(type(model), "fit_input", lambda _, images: seen.append(images))
    Classification().build(params, train)
    expected = Normalisation.of(train).apply(train.images[[*range(0, 100, 4)]])
    assert torch.equal(seen[0], expected)


def test_the_description_of_the_model_builds_it_again():
    params = validate(TrainParams, {"model": "speednet", "subset": 60, "width": 4})
    train, _ = load_dataset(params)
    model = Classification().build(params, train)
    described = dict(Classification().describe_model(params, train))
    described.pop("class_names")
    again = build_model(described.pop("name"), **described)
    again.load_state_dict(model.state_dict())
    images = torch.rand(2, 1, 8, 8)
    assert torch.equal(model.eval()(images), again.eval()(images))
