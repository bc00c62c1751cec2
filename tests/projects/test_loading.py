"""Facts about projects/loading.py."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from actiontrack.errors import ParameterError
from projects.datasets import ImageSplit
from projects.loading import Normalisation, batches, flip_and_crop


def make_split(n=10, channels=3, size=8):
    generator = torch.Generator().manual_seed(1)
    shape = (n, channels, size, size)
    return ImageSplit(
        images=torch.randint(256, shape, generator=generator, dtype=torch.uint8),
        labels=torch.arange(n) % 2,
        ids=np.arange(n) + 100,
        class_names=("a", "b"),
        name="made",
        split="train",
    )


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def run(split, **changes):
    arguments = {"batch_size": 4, "normalisation": Normalisation.of(split)} | changes
    return list(batches(split, **arguments))


def crops(image, *, pad):
    """Every crop of a (C, H, W) image, mirrored and not, by plain slicing."""
    _, height, width = image.shape
    padded = np.pad(image.numpy(), ((0, 0), (pad, pad), (pad, pad)))
    for top in range(2 * pad + 1):
        for left in range(2 * pad + 1):
            crop = padded[:, top : top + height, left : left + width]
            yield crop
            yield crop[:, :, ::-1]


def test_batches_carry_the_labels_of_their_images():
    split = make_split()
    for ids, _, targets in run(split, shuffle=True, generator=seeded()):
        assert torch.equal(targets, split.labels[torch.from_numpy(ids) - 100])


def test_batches_carry_the_soft_labels_where_there_are_some():
    soft = torch.tensor([[0.7, 0.3], [0.2, 0.8]]).repeat(5, 1)
    split = replace(make_split(), soft_labels=soft)
    for ids, _, targets in run(split, shuffle=True, generator=seeded()):
        assert torch.equal(targets, soft[torch.from_numpy(ids) - 100])


def test_normalisation_is_the_mean_and_deviation_of_each_channel():
    split = make_split()
    values = split.images.numpy().astype(np.float64) / 255
    stats = Normalisation.of(split)
    np.testing.assert_allclose(stats.mean, values.mean(axis=(0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(stats.std, values.std(axis=(0, 2, 3)), rtol=1e-6)


def test_normalised_training_images_have_mean_0_and_deviation_1():
    split = make_split()
    images = Normalisation.of(split).apply(split.images)
    assert images.dtype == torch.float32
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        images.std(dim=(0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0
    )


def test_constant_images_are_normalised_to_zero():
    split = make_split()
    split.images[:] = 7
    images = Normalisation.of(split).apply(split.images)
    torch.testing.assert_close(images, torch.zeros(images.shape), atol=1e-5, rtol=0)


def test_batches_come_in_the_order_of_the_split():
    ids = np.concatenate([b[0] for b in run(make_split())])
    np.testing.assert_array_equal(ids, np.arange(100, 110))


def test_the_last_batch_has_the_rest():
    assert [len(b[0]) for b in run(make_split())] == [4, 4, 2]


def test_a_batch_has_ids_float_images_in_channels_last_and_int64_labels():
    ids, images, labels = run(make_split())[0]
    assert (ids.shape, images.shape, labels.shape) == ((4,), (4, 3, 8, 8), (4,))
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("augment", ["none", "flip_crop", "flip_shift"])
def test_batches_of_one_image_keep_their_axes(augment):
    shapes = [
        b[1].shape for b in run(make_split(3), batch_size=1, generator=seeded(), augment=augment)
    ]
    assert shapes == [(1, 3, 8, 8)] * 3


def test_a_batch_larger_than_the_split_is_the_split():
    assert [len(b[0]) for b in run(make_split(), batch_size=99)] == [10]


def test_shuffling_gives_every_sample_once_in_another_order():
    ids = np.concatenate([b[0] for b in run(make_split(), shuffle=True, generator=seeded())])
    assert ids.tolist() != sorted(ids)
    assert sorted(ids) == list(range(100, 110))


def test_ids_images_and_labels_stay_together_when_shuffled():
    split = make_split()
    stats = Normalisation.of(split)
    for ids, images, labels in run(split, shuffle=True, generator=seeded()):
        rows = torch.from_numpy(ids - 100)
        torch.testing.assert_close(images, stats.apply(split.images[rows]))
        torch.testing.assert_close(labels, split.labels[rows])


def test_a_generator_repeats_order_and_augmentation():
    first, again = (
        run(make_split(), shuffle=True, generator=seeded(), augment="flip_crop") for _ in range(2)
    )
    for (ids, images, _), (ids2, images2, _) in zip(first, again, strict=True):
        np.testing.assert_array_equal(ids, ids2)
        torch.testing.assert_close(images, images2, rtol=0, atol=0)


def test_the_next_epoch_of_a_generator_has_another_order():
    generator = seeded()
    orders = [
        np.concatenate([b[0] for b in run(make_split(), shuffle=True, generator=generator)])
        for _ in range(2)
    ]
    assert (orders[0] != orders[1]).any()


@pytest.mark.parametrize(("size", "pad"), [(8, 1), (16, 2)])
def test_an_augmented_image_is_one_of_the_crops_of_the_padded_image(size, pad):
    images = torch.rand(20, 2, size, size, generator=seeded())
    for image, result in zip(images, flip_and_crop(images, seeded()), strict=True):
        assert any(np.array_equal(crop, result.numpy()) for crop in crops(image, pad=pad))


def test_every_crop_and_mirror_image_turns_up():
    image = torch.rand(1, 1, 8, 8, generator=seeded())
    results = flip_and_crop(image.expand(2000, -1, -1, -1), seeded())
    candidates = [crop.tobytes() for crop in crops(image[0], pad=1)]
    counts = dict.fromkeys(candidates, 0)
    for result in results:
        counts[np.ascontiguousarray(result.numpy()).tobytes()] += 1
    assert len(counts) == 18  # 3 x 3 places, mirrored or not
    assert min(counts.values()) > 60  # 111 expected, sigma 10
    assert max(counts.values()) < 162


def test_an_image_of_32_pixels_is_padded_by_4():
    image = torch.ones(1, 1, 32, 32).expand(500, -1, -1, -1)
    lost = (flip_and_crop(image, seeded())[:, 0, :, 16] == 0).sum(1)
    assert lost.max() == 4


def test_images_that_are_not_square_keep_their_shape():
    assert flip_and_crop(torch.rand(2, 3, 8, 12), seeded()).shape == (2, 3, 8, 12)


def test_the_images_of_the_split_are_never_changed():
    split = make_split()
    before = split.images.clone()
    run(split, shuffle=True, generator=seeded(), augment="flip_crop")
    assert torch.equal(split.images, before)


def test_a_batch_size_of_0_is_refused_by_the_call():
    with pytest.raises(ParameterError) as caught:
        batches(make_split(), batch_size=0, normalisation=Normalisation.of(make_split()))
    assert str(caught.value) == (
        "batch_size: must be an integer >= 1, got 0. Pass for example 128."
    )


@pytest.mark.parametrize("random", [{"shuffle": True}, {"augment": "flip_crop"}])
def test_randomness_without_a_generator_is_refused(random):
    with pytest.raises(ParameterError) as caught:
        run(make_split(), **random)
    assert str(caught.value) == (
        "generator: must be a torch.Generator on the CPU to shuffle or augment, got None. "
        "Pass torch.Generator().manual_seed(seed)."
    )


def test_images_on_another_device_go_where_they_are_wanted():
    split = make_split()
    _, images, labels = run(split, device="meta")[0]
    assert (images.device.type, labels.device.type) == ("meta", "meta")


def test_flip_shift_moves_by_two_pixels_at_most_into_the_mirrored_edge():
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.normal(size=(1, 3, 32, 32)).astype(np.float32))
    padded = np.pad(image[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    windows = [padded[:, top : top + 32, left : left + 32] for top in range(5) for left in range(5)]
    expected = {each.tobytes() for window in windows for each in (window, window[..., ::-1])}
    many = image.expand(2000, 3, 32, 32)
    shifted = flip_and_crop(many, seeded(), divisor=16, padding="reflect").contiguous().numpy()
    assert {one.tobytes() for one in shifted} == expected
