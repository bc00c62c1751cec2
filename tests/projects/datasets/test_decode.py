"""Facts about projects/datasets/decode.py; files are written here in every format."""

import numpy as np
import pytest
from PIL import Image

from actiontrack.errors import DataError
from projects.datasets.decode import decode_files, decode_image


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
