import numpy as np
import pandas as pd
import pytest
from helpers import message
from PIL import Image

from actiontrack import plots
from actiontrack.errors import ParameterError


def test_gallery_shows_each_image_above_its_title():
    images = [np.arange(16, dtype=np.uint8).reshape(4, 4), Image.new("RGB", (5, 4), "red"), None]
    figure = plots.gallery(images, ["cat\naction 3.1", "dog", "bee"], columns=2)
    first, second, third, spare = figure.axes
    np.testing.assert_array_equal(first.images[0].get_array(), images[0] / 255)
    assert first.images[0].get_interpolation() == "nearest"
    assert first.images[0].get_clim() == (0, 1)
    assert second.images[0].get_array()[0, 0].tolist() == [1, 0, 0]
    assert [axes.get_xlabel() for axes in figure.axes] == ["cat\naction 3.1", "dog", "bee", ""]
    assert [text.get_text() for text in third.texts] == ["image not\navailable"]
    assert not third.images
    assert not spare.axison


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "F", "I", "I;16"])
def test_gallery_takes_images_of_every_mode(mode):
    (axes,) = plots.gallery([Image.new(mode, (3, 2))], [""]).axes
    pixels = axes.images[0].get_array()
    assert pixels.shape[:2] == (2, 3)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_gallery_takes_one_channel_and_stretches_a_wide_range():
    (axes,) = plots.gallery([np.array([[[-1.0], [3.0]]], np.float32)], [""]).axes
    assert axes.images[0].get_array().tolist() == [[0.0, 1.0]]


def test_large_images_are_smoothed():
    (axes,) = plots.gallery([np.zeros((300, 10))], [""]).axes
    assert axes.images[0].get_interpolation() != "nearest"


GALLERY = {
    "titles": (
        ([None], []),
        {},
        (
            "titles: must hold one title for each of the 1 images, got 0. "
            "Pass '' for an image without a title."
        ),
    ),
    "columns": (
        ([None], [""]),
        {"columns": 0},
        "columns: must be positive, got 0. Pass 6, for instance.",
    ),
    "shape": (
        ([np.zeros((3, 8, 8))], [""]),
        {},
        "images: must have shape (H, W[, 1, 3 or 4]), got (3, 8, 8). Put the channels last.",
    ),
    "boxes": (
        ([None], [""]),
        {"boxes": []},
        (
            "boxes: must hold one frame for each of the 1 images, got 0. "
            "Pass a frame without rows for no box."
        ),
    ),
}


def make_boxes(*rows):
    columns = ["kind", "class", "score", "left", "top", "right", "bottom"]
    return pd.DataFrame(rows, columns=columns)


def test_boxes_enclose_their_pixels():
    boxes = make_boxes(("truth", "cat", np.nan, 2, 10, 5, 18))
    (axes,) = plots.gallery([np.zeros((40, 60))], ["a"], boxes=[boxes]).axes
    (patch,) = axes.patches
    # Pixel 2 is drawn from 1.5 to 2.5, so columns 2 to 4 span 1.5 to 4.5.
    assert patch.get_bbox().extents.tolist() == [1.5, 9.5, 4.5, 17.5]


def test_truth_is_solid_and_predictions_are_dashed_in_another_colour_with_their_score():
    boxes = make_boxes(
        ("truth", "cat", np.nan, 2, 10, 5, 18), ("predicted", "dog", 0.874, 20, 12, 30, 18)
    )
    figure = plots.gallery([np.zeros((40, 60))], ["a"], boxes=[boxes])
    truth, predicted = figure.axes[0].patches
    assert (truth.get_linestyle(), predicted.get_linestyle()) == ("-", "--")
    assert truth.get_edgecolor() != predicted.get_edgecolor()
    assert [each.get_text() for each in figure.axes[0].texts] == ["cat", "dog 0.87"]
    (legend,) = figure.legends
    assert [each.get_text() for each in legend.get_texts()] == ["annotated", "predicted"]


def test_names_of_boxes_at_the_edge_stay_inside_the_image():
    boxes = make_boxes(
        ("truth", "cat", np.nan, 2, 0, 5, 18), ("predicted", "dog", 0.9, 20, 12, 30, 40)
    )
    (axes,) = plots.gallery([np.zeros((40, 60))], ["a"], boxes=[boxes]).axes
    assert [each.get_verticalalignment() for each in axes.texts] == ["top", "bottom"]


def test_an_image_that_is_not_available_has_no_boxes():
    boxes = make_boxes(("truth", "cat", np.nan, 2, 10, 5, 18))
    (axes,) = plots.gallery([None], ["a"], boxes=[boxes]).axes
    assert not axes.patches


@pytest.mark.parametrize(("given", "options", "text"), GALLERY.values(), ids=GALLERY.keys())
def test_gallery_refuses_what_it_cannot_show(given, options, text):
    with pytest.raises(ParameterError, match=message(text)):
        plots.gallery(*given, **options)
