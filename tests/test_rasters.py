"""Images that anybody may have written: raster formats only, and no bombs."""

import io
import struct
import zlib

import numpy as np
import pytest
from helpers import message
from PIL import Image, ImageOps

from actiontrack import reporting
from actiontrack.errors import DataError
from actiontrack.record.rasters import browser_image, encoded_image, open_raster
from actiontrack.recorder import Recorder
from actiontrack.reporting.exports.images import image_of


def bomb(side):
    """A PNG that says it has so many pixels a side; its data are a few bytes."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 64)),
        (b"IEND", b""),
    ]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(kind, mode="RGB"):
    target = io.BytesIO()
    Image.new(mode, (3, 2)).save(target, kind)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "PPM", "TIFF"])
def test_raster_formats_are_opened(kind):
    assert open_raster(encoded(kind)).size == (3, 2)


@pytest.mark.parametrize("side", [8193, 20_000, 60_000])
@pytest.mark.parametrize("decode", [True, False])
def test_an_image_that_says_it_is_huge_is_refused_before_its_pixels_are_read(side, decode):
    with pytest.raises(DataError, match=r"pixels\.$|no image that can be shown\.$"):
        open_raster(bomb(side), decode=decode)


def test_too_many_bytes_are_refused():
    text = "the image has 67108865 bytes: too many to show."
    with pytest.raises(DataError, match=message(text)):
        open_raster(b"\0" * (64 * 2**20 + 1))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
        b"%PDF-1.7",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        encoded("PNG")[:40],
    ],
)
def test_what_is_no_raster_image_is_refused(content):
    with pytest.raises(DataError, match=message("the file is no image that can be shown.")):
        open_raster(content)


def test_an_opener_that_lacks_its_plugin_refuses_a_file_in_the_same_words(monkeypatch):
    def opened(*_args, **_options):  # as Ultralytics 8.4.190 puts it in the place of Pillow's
        raise ModuleNotFoundError("No module named 'pi_heif'")

    monkeypatch.setattr(Image, "open", opened)
    with pytest.raises(DataError, match=message("the file is no image that can be shown.")):
        open_raster(b"no image")


PIXELS = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 14


def photo(kind, orientation):
    exif, target = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(target, kind, exif=exif)
    return target.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(9))
def test_images_are_turned_as_pillow_turns_them(kind, orientation):
    content = photo(kind, orientation)
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(np.asarray(open_raster(content)), expected)
    encoded = encoded_image(content)
    assert (encoded.height, encoded.width) == expected.shape[:2]
    assert encoded.content == content


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_browser_turns_jpeg_itself_and_gets_the_others_upright(orientation):
    content = photo("JPEG", orientation)
    assert browser_image(content) == (content, "image/jpeg")
    for kind in ("PNG", "WEBP", "TIFF"):
        shown, _ = browser_image(photo(kind, orientation))
        with Image.open(io.BytesIO(shown)) as image:
            assert image.getexif().get(0x0112, 1) == 1
            expected = np.rot90(PIXELS, -1) if orientation == 6 else PIXELS
            assert image.size == expected.shape[1::-1]


def test_an_image_with_recorded_boxes_on_stored_pixels_is_shown_as_stored():
    content = photo("PNG", 6)
    shown, kind = browser_image(content, lambda: (6.0, 4.0))
    with Image.open(io.BytesIO(shown)) as image:
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
        assert image.getexif().get(0x0112) is None
    assert kind == "image/png"
    upright = np.asarray(open_raster(content, recorded_size=lambda: (4.0, 6.0)))
    np.testing.assert_array_equal(upright, np.rot90(PIXELS, -1))


def test_a_tag_that_cannot_be_read_turns_nothing():
    content = photo("JPEG", 6)
    start = content.index(b"Exif\0\0") + 6
    broken = content[:start] + b"\xff" * 8 + content[start + 8 :]
    np.testing.assert_array_equal(open_raster(broken).size, (3, 2))


def test_a_photograph_of_several_pictures_is_a_jpeg():
    target = io.BytesIO()
    first, second = Image.fromarray(PIXELS), Image.fromarray(PIXELS)
    first.save(target, "MPO", save_all=True, append_images=[second])
    content = target.getvalue()
    assert browser_image(content) == (content, "image/jpeg")
    assert encoded_image(content).ending == "jpg"


@pytest.fixture
def record(store, run_id):
    """Two samples: a bomb for a thumbnail and a sound one."""
    with Recorder("test", run_id=run_id, store=store) as recorder:
        recorder.update([1, 2], np.array([2.0, 1.0]))
        recorder.end_epoch()
        recorder.log_thumbnails([1, 2], [bomb(60_000), encoded("PNG")])
    return store.open_record(run_id)


def test_a_gallery_leaves_a_bomb_out(record):
    rows = record.scores().assign(**{"class": "all"})
    _, missing = reporting.gallery(record, rows)
    assert missing == 1


def test_an_export_leaves_a_bomb_out(record):
    assert image_of(record, 0) is None
    assert image_of(record, 1)[1:] == (3, 2, "png")
