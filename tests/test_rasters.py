"""Images that anybody may have written: raster formats only, and no bombs."""

import io
import struct
import zlib

import numpy as np
import pytest
from helpers import message
from PIL import Image

from actiontrack import reporting
from actiontrack.errors import DataError
from actiontrack.record.rasters import open_raster
from actiontrack.recorder import Recorder
from actiontrack.reporting.exports.files import image_of


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
    assert image_of(record, 1)[1:] == (3, 2)
