"""Images in many shapes become thumbnails, and a record keeps those of its extremes."""

import io
import random
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from helpers import message
from PIL import Image
from recording import N
from torch.utils.data import DataLoader, Subset, TensorDataset

from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.recorder import images
from actiontrack.recorder.images import as_thumbnail, images_in, source_of
from actiontrack.recorder.torch import IndexedDataset

RED = np.zeros((6, 5, 3), dtype=np.uint8)
RED[..., 0] = 255


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def shade(png):
    """The grey of a picture of one colour."""
    return int(pixels(png)[0, 0, 0])


def random_states():
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what transforms draw
    return python, numpy[1].tolist(), torch.get_rng_state().tolist()


def grey(value):
    return np.full((8, 8), value, dtype=np.uint8)


# --- one image ---


@pytest.mark.parametrize(
    "image",
    [
        RED,
        RED / 255,
        np.moveaxis(RED, -1, 0),
        torch.tensor(RED).permute(2, 0, 1),
        torch.tensor(RED).permute(2, 0, 1).float() / 255,
        torch.tensor(RED).permute(2, 0, 1).bfloat16() / 255,
        (torch.tensor(RED).permute(2, 0, 1) / 255).requires_grad_(),
        Image.fromarray(RED),
        Image.fromarray(RED).convert("CMYK"),
    ],
    ids=[
        *("bytes", "floats", "channels first", "tensor", "float tensor", "bfloat16"),
        *("with a graph", "PIL", "CMYK"),
    ],
)
def test_an_image_of_any_kind_is_the_same_picture(image):
    np.testing.assert_allclose(pixels(as_thumbnail(image)), RED, atol=1)


def test_a_path_is_read_and_bytes_stay_as_they_are(tmp_path):
    Image.fromarray(RED).save(tmp_path / "red.bmp")
    png = as_thumbnail(tmp_path / "red.bmp")
    np.testing.assert_array_equal(pixels(png), RED)
    assert as_thumbnail(png) is png
    np.testing.assert_array_equal(pixels(as_thumbnail(str(tmp_path / "red.bmp"))), RED)


def test_a_normalised_tensor_is_stretched_to_its_own_range():
    image = torch.tensor([[[-2.0, 0.0], [1.0, 3.0]]])
    assert pixels(as_thumbnail(image))[..., 0].tolist() == [[0, 102], [153, 255]]


def test_a_tensor_of_three_by_width_by_three_has_its_channels_first():
    image = torch.zeros(3, 5, 3, dtype=torch.uint8)
    assert pixels(as_thumbnail(image)).shape == (5, 3, 3)
    assert pixels(as_thumbnail(image.numpy())).shape == (3, 5, 3)


def test_a_large_image_is_scaled_to_224_pixels():
    assert pixels(as_thumbnail(np.zeros((448, 112, 3), np.uint8))).shape == (224, 56, 3)


@pytest.mark.parametrize(
    ("image", "rule"),
    [
        (object(), "images: must be PIL images, arrays, paths or the bytes of PNG files"),
        (np.zeros((2, 5, 5)), "images: must have shape (H, W[, 1, 3 or 4]), got (2, 5, 5)"),
        (np.full((2, 2), "a"), "images: must hold numbers"),
    ],
)
def test_what_is_no_image_is_refused(image, rule):
    with pytest.raises(ParameterError, match=message(rule)[1:-1]):
        as_thumbnail(image)


# --- where images come from ---


class Photographs(torch.utils.data.Dataset):
    """Items (image, label), whose transform draws a random number."""

    def __len__(self):
        return N

    def __getitem__(self, index):
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002 - as transforms do
        return torch.full((3, 8, 8), index / N), 1


class Named(Mapping):
    def __getitem__(self, key):
        return grey(int(key[1:]))

    def __iter__(self):
        return iter([f"s{row}" for row in range(N)])

    def __len__(self):
        return N


@pytest.mark.parametrize(
    ("given", "sample_id", "value"),
    [
        (lambda sample_id: grey(sample_id + 1), 3, 4),
        (Named(), "s7", 7),
        ([grey(value) for value in range(5)], 2, 2),
        (np.stack([grey(value) for value in range(5)]), 2, 2),
        (Photographs(), 2, round(255 * 2 / N)),
        (DataLoader(Photographs(), 4, shuffle=True), 2, round(255 * 2 / N)),
        (IndexedDataset(Photographs(), range(100, 100 + N)), 102, round(255 * 2 / N)),
        (Subset(IndexedDataset(Photographs(), range(100, 100 + N)), [5, 3]), 103, 255 * 3 // N),
        (IndexedDataset([{"label": 1, "image": grey(9)}]), 0, 9),
    ],
    ids=[
        *("function", "mapping", "list", "array", "dataset", "loader", "ids"),
        *("subset of ids", "mappings"),
    ],
)
def test_a_source_gives_the_image_of_an_id(given, sample_id, value):
    assert shade(as_thumbnail(source_of(given)(sample_id))) == pytest.approx(value, abs=1)


def test_a_sequence_is_taken_in_the_order_of_its_ids():
    source = source_of([grey(1), grey(2)], ["b", "a"])
    assert [shade(as_thumbnail(source(name))) for name in "ab"] == [2, 1]


class Wrapped(torch.utils.data.Dataset):
    """Hands on the items of an `IndexedDataset`, which begin with their id."""

    def __init__(self, dataset):
        self.dataset = IndexedDataset(dataset)

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


def test_a_dataset_whose_items_carry_their_ids_has_no_source():
    assert source_of(Wrapped(Photographs())) is None


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ((3,), "images: must be a function, a mapping"),
        (([grey(1), grey(2)], [1, 2, 3]), "images: must be one per id, 3 of them, got 2"),
    ],
)
def test_a_source_that_is_none_is_refused(arguments, rule):
    with pytest.raises(ParameterError, match=message(rule)[:-1]):
        source_of(*arguments)


class Rows(list):
    """Like a `datasets.Dataset`: rows, and columns by name."""

    def __getitem__(self, key):
        return [row[key] for row in self] if isinstance(key, str) else super().__getitem__(key)

    @property
    def column_names(self):
        return list(super().__getitem__(0))


def rows_of(**columns):
    return Rows(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


SMALL = [Image.fromarray(grey(row + 1)) for row in range(3)]


@pytest.mark.parametrize(
    ("data", "sample_id", "value"),
    [
        (Photographs(), 4, round(255 * 4 / N)),
        (DataLoader(IndexedDataset(Photographs(), range(5, 5 + N))), 6, round(255 / N)),
        (rows_of(text=["a", "b", "c"], image=SMALL), 1, 2),
        (rows_of(sample_id=["x", "y", "z"], image=SMALL), "z", 3),
    ],
    ids=["dataset", "loader with ids", "rows", "rows with ids"],
)
def test_a_probe_set_of_images_has_them_without_a_word(data, sample_id, value):
    assert shade(as_thumbnail(images_in(data)(sample_id))) == pytest.approx(value, abs=1)


class Failing(torch.utils.data.Dataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise OSError("not there")


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        TensorDataset(torch.zeros(4, 64)),
        TensorDataset(torch.zeros(4, 7, 30)),
        TensorDataset(torch.zeros(4, 3, 5)),
        [{"input_ids": [1, 2], "label": 0}],
        Wrapped(Photographs()),
        [{"sample_id": 3, "image": SMALL[0]}],
        Failing(),
    ],
    ids=[
        *("none", "empty", "vectors", "series", "short series", "texts", "carried ids"),
        *("ids in items", "failing"),
    ],
)
def test_a_probe_set_without_plain_images_has_none(data):
    assert images_in(data) is None


# --- what a record keeps ---

MANY = 250


@pytest.fixture
def record(recorder, read):
    """Record MANY samples, of which the loss is the id, over two epochs; returns the record."""

    def make(*, batches=False, epochs=2, n=MANY, **options):
        with recorder(**options) as rec:
            for _ in range(epochs):
                for ids in np.array_split(np.random.default_rng(0).permutation(n), 5):
                    of_batch = np.stack([grey(name % 256) for name in ids]) if batches else None
                    rec.update(ids, ids.astype(float), images=of_batch)
                rec.end_epoch()
        return read()

    return make


def rows_with_image(stored):
    return [row for row in range(stored.manifest.n_samples) if stored.has_thumbnail(row)]


def test_a_record_keeps_images_of_its_hardest_and_easiest_samples(record):
    stored = record(images=grey)
    assert rows_with_image(stored) == [*range(50), *range(MANY - 50, MANY)]
    assert [shade(stored.image_bytes(row)) for row in (0, 49, 200, 249)] == [0, 49, 200, 249]


def test_a_sample_between_the_extremes_has_no_image(record):
    stored = record(images=grey)
    with pytest.raises(NotFoundError, match="holds no thumbnail of this sample"):
        stored.image_bytes(100)


def test_a_small_record_keeps_every_image(record):
    assert rows_with_image(record(images=grey, n=60)) == list(range(60))


def test_images_of_batches_are_held_for_the_extremes(record):
    stored = record(batches=True)
    assert rows_with_image(stored) == [*range(50), *range(MANY - 50, MANY)]
    assert [shade(stored.image_bytes(row)) for row in (3, 249)] == [3, 249]


def test_images_of_batches_stay_few_in_memory(recorder, monkeypatch):
    monkeypatch.setattr(images, "_FIRST", 10)
    monkeypatch.setattr(images, "_CANDIDATES", 4)
    with recorder() as rec:
        for _ in range(2):
            rec.update(np.arange(100), np.arange(100.0), images=np.stack([grey(1)] * 100))
            assert len(rec._images._held) <= 10 + 8
            rec.end_epoch()
            assert set(rec._images._held) <= {0, 1, 2, 3, 96, 97, 98, 99}
        assert len(rec._images._held) == 8


def test_images_that_were_logged_stay_the_ones(recorder, read):
    with recorder(images=grey) as rec:
        rec.update(range(N), np.arange(float(N)))
        rec.end_epoch()
        rec.log_thumbnails([4], [grey(77)])
    assert rows_with_image(read()) == [4]
    assert shade(read().image_bytes(4)) == 77


def test_logged_images_may_be_a_function_of_the_id(recorder, read):
    with recorder() as rec:
        rec.update(torch.arange(N), np.arange(float(N)))
        rec.end_epoch()
        rec.log_thumbnails(torch.tensor([9, 4]), grey)
    assert [shade(read().image_bytes(row)) for row in (4, 9)] == [4, 9]


def test_an_id_that_is_logged_twice_is_named(recorder):
    with recorder() as rec:
        rec.update(range(N), np.arange(float(N)))
        rec.end_epoch()
        with pytest.warns(UserWarning, match="ids: must be those of one image each, got '4 twice'"):
            rec.log_thumbnails([4, 5, 4], grey)


def test_images_may_come_with_the_description_of_the_samples(recorder, read):
    order = np.arange(N)[::-1]
    with recorder() as rec:
        rec.describe_samples(order, images=[grey(name) for name in order])
        rec.update(range(N), np.arange(float(N)))
        rec.end_epoch()
    assert shade(read().image_bytes(6)) == 6


@pytest.mark.parametrize("options", [{"images": False}, {"id_salt": "sixteen characters and more"}])
def test_private_records_keep_no_image_by_themselves(recorder, read, options):
    with recorder(**options) as rec:
        rec.describe_samples(range(N), images=grey)
        rec.update(range(N), np.arange(float(N)), images=np.stack([grey(1)] * N))
        rec.end_epoch()
    assert not read().has_thumbnails


def test_random_numbers_are_as_before_where_a_dataset_draws(recorder):
    with recorder(images=Photographs()) as rec:
        rec.update(range(N), np.arange(float(N)))
        rec.end_epoch()
        before = random_states()
        rec.finish()
    assert random_states() == before


def test_images_that_cannot_be_had_are_a_warning_and_no_error(recorder, read):
    def broken(sample_id):
        raise OSError("the disk is gone")

    rec = recorder(images=broken)
    rec.update(range(N), np.arange(float(N)))
    rec.end_epoch()
    with pytest.warns(UserWarning, match="is left without thumbnails: the disk is gone"):
        rec.finish()
    assert read().manifest.complete
    assert not read().has_thumbnails


def test_a_batch_whose_images_do_not_fit_is_recorded_without_them(recorder, read):
    with recorder() as rec:
        with pytest.warns(UserWarning, match="takes no images: images: must be one per id"):
            rec.update(range(N), np.arange(float(N)), images=np.stack([grey(1)] * 3))
        rec.end_epoch()
    assert read().manifest.n_samples == N


def test_a_resumed_record_gets_the_images_of_its_later_extremes(recorder, read):
    def epoch(rec, losses):
        rec.update(range(MANY), losses)
        rec.end_epoch()

    with recorder(images=grey) as rec:
        epoch(rec, np.arange(float(MANY)))
    with recorder(images=grey, resume=True) as rec:
        epoch(rec, np.where(np.arange(MANY) == 120, 1e6, 0.0))
    assert read().has_thumbnail(120)
