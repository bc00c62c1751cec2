"""Pictures of objects: the box and a little around it, upright."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from projects.tasks import detection_pictures
from projects.tasks.detection_pictures import object_pictures

BLUE = (1, 115, 178)


@pytest.fixture
def split(tmp_path):
    """A function that writes one image with some boxes; what pictures need of a split."""

    def write(boxes, size=(200, 100), orientation=1):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "a.png", exif=exif)
        annotation = SimpleNamespace(boxes=np.array(boxes, dtype=np.float32))
        rows = np.arange(len(boxes))
        return SimpleNamespace(
            root=str(tmp_path),
            paths=("a.png",),
            annotations=(annotation,),
            n_objects=len(boxes),
            objects=lambda _: rows,
            object_ids=lambda _: [f"a#{row + 1}" for row in rows],
        )

    return write


def opened(split, thumbnails="always"):
    ids, files = object_pictures(split, thumbnails)
    return ids.tolist(), [Image.open(io.BytesIO(file)) for file in files]


def test_every_object_has_a_picture_with_a_longer_side_of_96_pixels(split):
    ids, pictures = opened(split([[10, 10, 50, 40], [100, 20, 120, 90]]))
    assert ids == ["a#1", "a#2"]
    assert [max(picture.size) for picture in pictures] == [96, 96]


def test_a_picture_shows_the_box_with_three_tenths_around_it(split):
    _, (picture,) = opened(split([[50, 40, 100, 60]]))
    # 50 x 20 pixels with 15 and 12 around: 80 x 44 become 96 x 53.
    assert picture.size == (96, 53)
    blue = np.argwhere((np.asarray(picture) == BLUE).all(axis=2))
    (top, left), (bottom, right) = blue.min(axis=0), blue.max(axis=0)
    assert [left, top, right, bottom] == pytest.approx([18, 14.4, 77, 37.4], abs=1)


def test_a_picture_ends_at_the_edge_of_the_image(split):
    _, (picture,) = opened(split([[0, 0, 200, 100]]))
    assert picture.size == (96, 48)


def test_a_box_of_one_pixel_has_a_picture(split):
    _, (picture,) = opened(split([[5, 5, 6, 6]]))
    assert max(picture.size) == 96


def test_the_picture_of_a_turned_photograph_is_upright(split):
    # Stored 200 x 100 with a quarter turn: seen 100 wide and 200 high.
    _, (picture,) = opened(split([[0, 0, 100, 200]], orientation=6))
    assert picture.size == (48, 96)


def test_pictures_may_be_left_out(split):
    assert object_pictures(split([[0, 0, 9, 9]]), "never") is None


def test_pictures_of_too_many_objects_are_made_on_request_only(split, monkeypatch):
    monkeypatch.setattr(detection_pictures, "_MAX_BYTES", 96 * 96 * 3)
    two = split([[0, 0, 9, 9], [0, 0, 5, 5]])
    assert object_pictures(two, "auto") is None
    assert len(object_pictures(two, "always")[0]) == 2
    assert len(object_pictures(split([[0, 0, 9, 9]]), "auto")[0]) == 1
