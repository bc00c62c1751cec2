"""Properties of images, beside the same by plain NumPy."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter
from scipy import ndimage

from actiontrack.analysis import slices
from actiontrack.errors import NotFoundError
from actiontrack.recorder import Recorder

IDS = ["a/grey.png", "flat.png", "photo.png", "gone.png"]
RNG = np.random.default_rng(8)
GREY = RNG.integers(60, 200, (20, 30), dtype=np.uint8)
PHOTO = RNG.integers(0, 256, (12, 10, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    Image.fromarray(GREY).save(tmp_path / "a" / "grey.png")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "flat.png")
    Image.fromarray(PHOTO).save(tmp_path / "photo.png")
    return tmp_path


@pytest.fixture
def opened(new_run, store, spool):
    """A function that records four samples under their ids."""

    def record(thumbnails=None, **options):
        run_id = new_run()
        with Recorder("test", run_id=run_id, store=store, spool=spool, **options) as recorder:
            recorder.update(IDS, np.arange(4.0) + 1)
            recorder.end_epoch(1)
            if thumbnails:
                recorder.log_thumbnails(IDS, thumbnails)
        return store.open_record(run_id)

    return record


@pytest.fixture
def measured(opened, folder):
    return slices.image_properties(opened(), folder).set_index("sample_id")


def test_brightness_and_contrast_are_moments_of_the_grey_values(measured):
    row = measured.loc["a/grey.png"]
    assert row["brightness"] == pytest.approx(GREY.mean() / 255)
    assert row["contrast"] == pytest.approx(GREY.std() / 255)


def test_sharpness_is_the_spread_of_the_laplacian(measured):
    laplacian = ndimage.laplace(GREY.astype(float))[1:-1, 1:-1]
    assert measured.loc["a/grey.png", "sharpness"] == pytest.approx(laplacian.std() / 255, rel=0.01)
    assert measured.loc["flat.png", "sharpness"] == 0


def test_a_blurred_image_is_less_sharp(opened, folder, measured):
    blurred = Image.fromarray(GREY).filter(ImageFilter.GaussianBlur(1))
    blurred.save(folder / "a" / "grey.png")
    after = slices.image_properties(opened(), folder).set_index("sample_id")
    assert after.loc["a/grey.png", "sharpness"] < measured.loc["a/grey.png", "sharpness"] / 3


def test_colourfulness_is_that_of_hasler_and_suesstrunk(measured):
    red, green, blue = PHOTO.astype(float).transpose(2, 0, 1)
    first, second = red - green, 0.5 * (red + green) - blue
    spread = np.sqrt(first.var() + second.var())
    middle = np.sqrt(first.mean() ** 2 + second.mean() ** 2)
    found = measured["colourfulness"]
    assert found["photo.png"] == pytest.approx(spread + 0.3 * middle, rel=1e-5)
    assert found["a/grey.png"] == 0


def test_shape_and_size_are_those_of_the_file(measured):
    assert measured.loc["a/grey.png", ["aspect_ratio", "size"]].tolist() == [1.5, 600]


def test_a_sample_without_an_image_has_no_value(measured):
    assert measured.loc["gone.png"].isna().all()


def test_sixteen_bits_are_as_bright_as_eight(opened, folder):
    deep = (GREY.astype(np.uint16) * 257).astype(np.uint16)
    Image.fromarray(deep).save(folder / "a" / "grey.png")
    row = slices.image_properties(opened(), folder).set_index("sample_id").loc["a/grey.png"]
    assert row["brightness"] == pytest.approx(GREY.mean() / 255, abs=1e-3)


def test_the_record_s_own_thumbnails_are_measured_without_a_folder(opened):
    def png(value):
        buffer = io.BytesIO()
        Image.new("L", (4, 4), value).save(buffer, "PNG")
        return buffer.getvalue()

    frame = slices.image_properties(opened([png(51 * number) for number in range(4)]))
    by_id = dict(zip(frame["sample_id"], frame["brightness"], strict=True))
    assert [by_id[name] for name in IDS] == pytest.approx([0, 0.2, 0.4, 0.6])


def test_properties_of_hashed_ids_are_kept_under_the_hashes(opened):
    buffer = io.BytesIO()
    Image.fromarray(GREY).save(buffer, "PNG")
    record = opened([buffer.getvalue()] * 4, id_salt="a salt of enough letters")
    slices.add_metadata(record, slices.image_properties(record), columns=["contrast"])
    assert len(slices.read_metadata(record)) == 4


def test_a_folder_without_any_of_the_images_is_refused(opened, tmp_path):
    with pytest.raises(NotFoundError, match="no image of the 4 samples was found below"):
        slices.image_properties(opened(), tmp_path)
