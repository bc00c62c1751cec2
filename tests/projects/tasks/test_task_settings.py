"""Every parameter that says what to read reaches the loader of its task."""

import pytest

from projects.models.ssd import DETECTORS
from projects.params import validate
from projects.params.autoencoder import AutoencoderParams
from projects.params.detection import DetectionParams
from projects.params.segmentation import SegmentationParams
from projects.tasks.detection import voc_settings
from projects.tasks.segmentation import _loss, mask_settings

SHARED = {"subset": 7, "test_subset": 5, "test_fraction": 0.3, "split_seed": 11}


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("dataset", "voc:~/x", "~/x"),
        ("train_set", "mine", "mine"),
        ("test_set", "yours", "yours"),
        ("classes", "b,a", ("b", "a")),
        ("bad_boxes", "drop", "drop"),
        ("difficult", "ignore", "ignore"),
        *[(name, value, value) for name, value in SHARED.items()],
    ],
)
def test_a_parameter_of_detection_reaches_the_loader(name, value, expected):
    settings = voc_settings(validate(DetectionParams, {name: value}))
    assert getattr(settings, "path" if name == "dataset" else name) == expected


@pytest.mark.parametrize("model", DETECTORS)
def test_images_are_read_at_the_side_of_the_detector(model):
    settings = voc_settings(validate(DetectionParams, {"model": model}))
    assert settings.side == DETECTORS[model].side


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("classes", "b,a", "class_names", ("b", "a")),
        ("void_id", 3, "void_id", 3),
        ("height", 20, "height", 20),
        ("width", 30, "width", 30),
        *[(name, value, name, value) for name, value in SHARED.items()],
    ],
)
def test_a_parameter_of_segmentation_reaches_the_loader(name, value, field, expected):
    settings = mask_settings(validate(SegmentationParams, {name: value}))
    assert getattr(settings, field) == expected


@pytest.mark.parametrize(
    ("dataset", "images", "masks", "is_cityscapes"),
    [("masks:a/b,c d", "a/b", "c d", False), ("cityscapes:x,y", "x,y", "", True)],
)
def test_the_folders_of_images_and_masks_are_those_of_the_dataset(
    dataset, images, masks, is_cityscapes
):
    params = validate(SegmentationParams, {"dataset": dataset})
    settings = mask_settings(params)
    assert (settings.images, settings.masks) == (images, masks)
    assert params.is_cityscapes is is_cityscapes


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("dice_weight", "dice"),
        ("jaccard_weight", "jaccard"),
        ("focal_weight", "focal"),
        ("focal_gamma", "gamma"),
    ],
)
def test_weights_and_gamma_reach_the_loss(name, field):
    loss = _loss(validate(SegmentationParams, {name: 0.25}), ignored=4)
    assert getattr(loss, field) == 0.25
    assert loss.ignored == 4


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *SHARED.items(),
        *[("dataset", "folder:x"), ("data_dir", "/d"), ("image_size", 9), ("seed", 4)],
    ],
)
def test_a_parameter_of_the_autoencoder_reaches_the_loader(name, value):
    assert getattr(validate(AutoencoderParams, {name: value}).data, name) == value
