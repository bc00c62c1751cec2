"""torchvision's own detectors: how they are built, and what they are given."""

import pytest
import torch
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.ssd import SSD

from actiontrack.errors import DataError, ParameterError
from projects.models import detectors
from projects.models.detectors import WHOLE_DETECTORS, WholeDetector, build_whole_detector
from projects.models.ssd import DETECTORS
from projects.params import validate
from projects.params.detection import DetectionParams

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "kind"), [
    ("fasterrcnn_mobilenet_v3_large_320_fpn", FasterRCNN),
    ("retinanet_resnet50_fpn", RetinaNet),
    ("fcos_resnet50_fpn", FCOS),
    ("ssdlite320_mobilenet_v3_large", SSD),
])  # fmt: skip
def test_a_detector_is_torchvisions_with_the_side_of_the_images(name, kind):
    model = build_whole_detector(name, n_classes=2)
    assert type(model) is kind
    assert model.training
    images = model.transform([torch.rand(3, 320, 320)])[0]
    assert tuple(images.tensors.shape[-2:]) == (320, 320)


def test_every_detector_that_the_parameters_name_is_built_by_one_of_the_two():
    names = DetectionParams.model_fields["model"].annotation.__args__
    assert set(names) == set(DETECTORS) | set(WHOLE_DETECTORS)


@pytest.mark.parametrize(
    "name", [*DETECTORS, *(name for name, model in WHOLE_DETECTORS.items() if model.is_fixed)]
)
def test_a_size_of_the_images_is_refused_for_a_detector_that_has_one_of_its_own(name):
    with pytest.raises(ParameterError, match=f"^image_size: must be 0 for model {name}, which has"):
        validate(DetectionParams, {"model": name, "image_size": 96})


@pytest.mark.parametrize(
    "name", [name for name, model in WHOLE_DETECTORS.items() if not model.is_fixed]
)
def test_any_other_detector_takes_a_size_of_the_images(name):
    params = validate(DetectionParams, {"model": name, "image_size": 96})
    assert (params.model, params.image_size) == (name, 96)


def test_pixels_are_those_before_the_normalisation():
    images = torch.rand(2, 3, 8, 8)
    whole = WholeDetector(
        torch.nn.Identity(), mean=torch.full((3,), 0.4), std=torch.full((3,), 0.2)
    )
    pixels = whole.pixels((images - 0.4) / 0.2)
    torch.testing.assert_close(torch.stack(pixels), images)
    assert not whole.state_dict()


def test_weights_that_cannot_be_downloaded_are_an_error_in_words(monkeypatch):
    def refuse(**options):
        assert options["weights_backbone"] == "IMAGENET1K_V1"
        raise OSError("no route")

    model = detectors.WholeModel(refuse)
    monkeypatch.setattr(detectors, "WHOLE_DETECTORS", {"fcos_resnet50_fpn": model})
    text = "the backbone of fcos_resnet50_fpn can't be downloaded .no route.. Pass --weights none"
    with pytest.raises(DataError, match=text):
        build_whole_detector("fcos_resnet50_fpn", n_classes=1, weights="imagenet")


@pytest.mark.parametrize(("name", "n_classes", "parameter"), [
    ("yolo", 1, "model"), ("fcos_resnet50_fpn", 0, "n_classes"),
])  # fmt: skip
def test_wrong_arguments_are_refused(name, n_classes, parameter):
    with pytest.raises(ParameterError, match=f"^{parameter}: must be"):
        build_whole_detector(name, n_classes=n_classes)
