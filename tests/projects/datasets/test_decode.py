"""Facts about projects/datasets/decode.py; files are written here in every format."""

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from actiontrack.errors import DataError
from projects.datasets.decode import (
    decode_files,
    decode_image,
    decode_photograph,
    turn_box,
    turn_pixels,
)


def rng():
    return np.random.default_rng(0)


def write_images(folder, n, *, size=(8, 8), mode="RGB", suffix=".png"):
    """Write n images whose pixels all hold their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", size, (i, i, i)).convert(mode).save(folder / f"{i:03}{suffix}")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".bmp", ".webp"])
def test_every_format_is_decoded(tmp_path, suffix):
    write_images(tmp_path, 8, suffix=suffix)
    image = decode_image(tmp_path / f"007{suffix}")
    assert image.shape == (3, 8, 8)
    assert (image.float() - 7).abs().max() <= 2  # some are lossy


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("P", 3), ("RGBA", 3), ("LA", 3), ("RGB", 3)]
)
def test_grey_stays_grey_and_every_other_mode_becomes_rgb(tmp_path, mode, channels):
    image = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    image.save(tmp_path / "x.png")
    decoded = decode_image(tmp_path / "x.png")
    assert decoded.shape == (channels, 4, 4)
    assert decoded.eq(255).all()


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_colour_is_dropped(tmp_path, mode):
    image = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    transparent = {"P": b"\x00" * 256, "RGB": (255, 255, 255), "L": 255}[mode]
    image.save(tmp_path / "x.png", transparency=transparent)
    assert decode_image(tmp_path / "x.png").eq(255).all()


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "x.jpg")
    assert decode_image(tmp_path / "x.jpg").eq(255).all()


def test_a_truncated_jpeg_is_named(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(rng().integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match=r"x\.jpg can't be decoded \(image file is truncated"):
        decode_image(path)


def test_an_image_of_16_bits_is_refused_by_name(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(path)
    with pytest.raises(DataError) as caught:
        decode_image(path)
    assert str(caught.value) == f"{path} has more than 8 bits a channel. Convert it to 8 bits."


@pytest.mark.parametrize("size", [8, 100])
def test_many_files_keep_their_order_whether_small_or_large(tmp_path, size):
    write_images(tmp_path, 150, size=(size, size))  # more than two tasks
    files = sorted(tmp_path.glob("*.png"))
    images = decode_files(files, image_size=0, title="test")
    assert images[:, 0, 0, 0].tolist() == list(range(150))


# --- photographs with an Exif orientation ---

ORIENTATIONS = range(1, 9)


def save_turned(path, pixels, orientation):
    """Write stored pixels (H, W, 3) with an orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_a_photograph_is_turned_as_pillow_turns_it(tmp_path, orientation, suffix):
    path = tmp_path / f"x{suffix}"
    save_turned(path, rng().integers(256, size=(6, 10, 3), dtype=np.uint8), orientation)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(decode_image(path).permute(1, 2, 0), expected)
    assert decode_photograph(path)[1] == orientation


def test_a_turned_jpeg_is_tall(tmp_path):
    save_turned(tmp_path / "x.jpg", np.zeros((6, 10, 3), np.uint8), 6)
    assert decode_image(tmp_path / "x.jpg").shape == (3, 10, 6)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_means_nothing_is_none(tmp_path, value):
    save_turned(tmp_path / "x.png", np.zeros((6, 10, 3), np.uint8), value)
    assert decode_image(tmp_path / "x.png").shape == (3, 6, 10)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_leaves_the_pixels_as_they_are_stored(tmp_path):
    image = Image.fromarray(np.zeros((6, 10, 3), np.uint8))
    image.save(tmp_path / "x.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f damaged")
    assert decode_image(tmp_path / "x.jpg").shape == (3, 6, 10)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_box_stays_on_its_pixels_when_the_image_is_turned(tmp_path, orientation):
    stored = np.zeros((6, 10, 3), np.uint8)
    stored[1:3, 2:7] = 255  # left 2, top 1, right 7, bottom 3
    save_turned(tmp_path / "x.png", stored, orientation)
    inside = np.argwhere(decode_image(tmp_path / "x.png")[0].numpy() > 0)
    (top, left), (bottom, right) = inside.min(axis=0), inside.max(axis=0) + 1
    turned = turn_box(np.array([2.0, 1.0, 7.0, 3.0]), orientation, (10, 6))
    assert turned.tolist() == [left, top, right, bottom]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pixels_are_turned_as_their_image(tmp_path, orientation):
    stored = rng().integers(256, size=(6, 10), dtype=np.uint8)
    save_turned(tmp_path / "x.png", np.repeat(stored[..., None], 3, axis=2), orientation)
    expected = decode_image(tmp_path / "x.png")[0].numpy()
    np.testing.assert_array_equal(turn_pixels(stored, orientation), expected)


def test_a_palette_survives_turning(tmp_path):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 7, 7, 7])
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    image.save(tmp_path / "x.png", exif=exif)
    decoded = decode_image(tmp_path / "x.png")
    assert decoded[:, 0, 0].tolist() == [7, 7, 7]
    assert decoded[:, 1, 1].tolist() == [255, 0, 0]
