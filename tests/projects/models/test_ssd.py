"""Facts about projects/models/ssd.py."""

import pytest
import torch
from torchvision.models.detection.ssd import SSD

from actiontrack.errors import ParameterError
from projects.models.ssd import PackedSSD, SmallBackbone, build_detector


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    ssd = build_detector("ssd_small", n_classes=2)
    return PackedSSD(ssd, mean=torch.full((3,), 0.4), std=torch.full((3,), 0.2))


def test_the_small_detector_is_torchvisions_ssd_over_a_small_backbone(small):
    assert type(small.ssd) is SSD
    # Convolutions without bias, 3x3, and two numbers a channel for each batch norm.
    channels = [(3, 32), (32, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 256)]
    expected = sum(9 * cin * cout + 2 * cout for cin, cout in channels)
    assert sum(weights.numel() for weights in small.ssd.backbone.parameters()) == expected


def test_the_maps_are_an_eighth_to_a_sixty_fourth_of_the_image():
    maps = SmallBackbone()(torch.zeros(2, 3, 192, 192))
    assert [tuple(feature_map.shape) for feature_map in maps.values()] == [
        (2, 128, 24, 24), (2, 256, 12, 12), (2, 256, 6, 6), (2, 256, 3, 3),
    ]  # fmt: skip


def test_outputs_have_a_row_per_default_box_of_logits_and_offsets(small):
    outputs = small(torch.zeros(2, 3, 192, 192))
    # 4, 6, 6 and 4 default boxes at each place of the maps; 3 logits and 4 offsets.
    assert outputs.shape == (2, 4 * 24**2 + 6 * 12**2 + 6 * 6**2 + 4 * 3**2, 7)
    assert small.default_boxes.shape == (outputs.shape[1], 4)


@torch.no_grad()
def test_detections_are_those_of_torchvisions_forward(small):
    images = torch.rand(2, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    plain = PackedSSD(small.ssd, mean=torch.zeros(3), std=torch.ones(3)).eval()
    ours = plain.detections(plain(images))
    for expected, detections in zip(small.ssd(list(images)), ours, strict=True):
        assert {name: values.tolist() for name, values in detections.items()} == {
            name: values.tolist() for name, values in expected.items()
        }


@torch.no_grad()
def test_the_normalisation_of_the_data_is_undone(small):
    images = torch.rand(2, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    plain = PackedSSD(small.ssd, mean=torch.zeros(3), std=torch.ones(3)).eval()
    torch.testing.assert_close(
        small.eval()((images - 0.4) / 0.2), plain(images), rtol=1e-3, atol=1e-4
    )


def test_the_same_seed_gives_the_same_weights():
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build_detector("ssd_small", n_classes=2).state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_saved_weights_are_torchvisions_own(small):
    names = small.state_dict()
    assert {name.removeprefix("ssd.") for name in names} == set(small.ssd.state_dict())


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        (
            "yolo",
            {},
            "model: must be one of ssd_small, ssd300_vgg16, got 'yolo'. Pass one of these names.",
        ),
        ("ssd_small", {"n_classes": 0}, (
            "n_classes: must be an integer >= 1, got 0. Check the data."
        )),
        ("ssd_small", {"weights": "imagenet"}, (
            "weights: must be none for ssd_small, got 'imagenet'. "
            "Pass --model ssd300_vgg16 for them."
        )),
    ],
)  # fmt: skip
def test_what_there_is_not_is_refused(name, changes, expected):
    with pytest.raises(ParameterError) as caught:
        build_detector(name, **({"n_classes": 2} | changes))
    assert str(caught.value) == expected
