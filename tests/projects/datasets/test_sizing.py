"""Facts about projects/datasets/sizing.py."""

import torch

from projects.datasets.sizing import resize_and_crop


def test_a_resized_image_is_the_centre_of_the_longer_side():
    image = torch.zeros(1, 8, 24, dtype=torch.uint8)
    image[:, :, 8:16] = 200
    assert resize_and_crop(image, 8).eq(200).all()


def test_resizing_down_averages_instead_of_dropping_pixels():
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(16).expand(1, 32, 32).contiguous()
    assert resize_and_crop(stripes, 8)[:, :, 1:-1].float().sub(100).abs().max() < 10


def test_images_that_have_the_size_come_back_as_they_are():
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    assert resize_and_crop(image, 8) is image
    assert resize_and_crop(image, 0) is image
