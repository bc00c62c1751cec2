"""Images: from where they may be read, and what may be handed to a browser."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import message
from PIL import Image

from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.recorder import Recorder
from actiontrack.web.images import ROOTS_VARIABLE, ImageRoots, checked, map_png
from actiontrack.web.records import Records
from actiontrack.web.runs import view_run
from actiontrack.web.samples import image_of, map_of

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'


def encoded(kind, mode="RGB"):
    target = io.BytesIO()
    Image.new(mode, (3, 2), 1).save(target, kind)
    return target.getvalue()


@pytest.fixture
def pictures(tmp_path):
    """A folder of images outside of which lies another."""
    root = tmp_path / "dataset"
    root.mkdir()
    (root / "good.png").write_bytes(encoded("PNG"))
    (root / "drawing.svg").write_bytes(SVG)
    (tmp_path / "secret.png").write_bytes(encoded("PNG"))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    return root


@pytest.fixture
def recorded_run(new_run, store, spool, pictures):
    """Id of a run whose samples name files of `pictures`, and two outside of it."""
    run_id = new_run()
    paths = ["good.png", "link.png", "../secret.png", "drawing.svg", "none.png"]
    source = {"kind": "folder", "root": str(pictures)}
    with Recorder("test", run_id=run_id, store=store, spool=spool, source=source) as recorder:
        recorder.describe_samples(list(range(5)), paths=paths)
        recorder.update(list(range(5)), np.arange(5.0))
        recorder.end_epoch()
    return run_id


def roots(*folders):
    return ImageRoots(folders=tuple(Path(each).resolve() for each in folders))


def test_without_a_word_of_the_operator_no_file_is_read(recorded_run, store):
    records = Records(store)
    assert not view_run(records, ImageRoots(), recorded_run).has_images
    with pytest.raises(NotFoundError, match=ROOTS_VARIABLE):
        image_of(records, ImageRoots(), recorded_run, None, 0)


def test_the_message_names_the_folder_and_how_to_allow_it(recorded_run, store, pictures):
    with pytest.raises(NotFoundError) as caught:
        image_of(Records(store), ImageRoots(), recorded_run, None, 0)
    assert f"{ROOTS_VARIABLE}={pictures}" in str(caught.value)


def test_thumbnails_of_some_samples_open_no_folder_for_the_others(new_run, store, spool, pictures):
    run_id = new_run()
    source = {"kind": "folder", "root": str(pictures)}
    with Recorder("test", run_id=run_id, store=store, spool=spool, source=source) as recorder:
        recorder.describe_samples([0, 1], paths=["good.png", "good.png"])
        recorder.update([0, 1], np.arange(2.0))
        recorder.end_epoch()
        recorder.log_thumbnails([1], [encoded("PNG", "L")])
    records = Records(store)
    assert image_of(records, ImageRoots(), run_id, None, 1)[0] == encoded("PNG", "L")
    with pytest.raises(NotFoundError, match="holds no thumbnail of this sample"):
        image_of(records, ImageRoots(), run_id, None, 0)
    content, _ = image_of(records, roots(pictures), run_id, None, 0)
    assert content == (pictures / "good.png").read_bytes()


@pytest.mark.parametrize("allowed", ["dataset", "."])
def test_images_below_an_allowed_folder_are_read(recorded_run, store, pictures, allowed):
    records, image_roots = Records(store), roots(pictures.parent / allowed)
    assert view_run(records, image_roots, recorded_run).has_images
    content, mimetype = image_of(records, image_roots, recorded_run, None, 0)
    assert (content, mimetype) == ((pictures / "good.png").read_bytes(), "image/png")


@pytest.mark.parametrize("allowed", ["dataset/deeper", "data", "dataset2"])
def test_a_root_that_is_not_below_an_allowed_folder_is_refused(
    recorded_run, store, pictures, allowed
):
    image_roots = roots(pictures.parent / allowed)
    with pytest.raises(NotFoundError, match="which this server may not read"):
        image_of(Records(store), image_roots, recorded_run, None, 0)


def test_a_root_that_is_a_link_counts_where_it_leads(recorded_run, store, pictures, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    pictures.rename(elsewhere)
    pictures.symlink_to(elsewhere)
    with pytest.raises(NotFoundError, match="which this server may not read"):
        image_of(Records(store), roots(tmp_path / "allowed"), recorded_run, None, 0)
    assert not roots(tmp_path / "dataset2").allows({"kind": "folder", "root": str(pictures)})
    assert roots(elsewhere).allows({"kind": "folder", "root": str(pictures)})


@pytest.mark.parametrize("sample", [1, 2])
def test_neither_links_nor_dots_lead_out_of_the_root(recorded_run, store, sample):
    with pytest.raises(NotFoundError, match="outside the dataset's folder"):
        image_of(Records(store), ImageRoots(recorded=True), recorded_run, None, sample)


def test_a_drawing_with_scripts_is_no_image(recorded_run, store):
    with pytest.raises(NotFoundError, match=message("the file is no image that can be shown.")):
        image_of(Records(store), ImageRoots(recorded=True), recorded_run, None, 3)


def test_a_missing_file_is_not_found(recorded_run, store):
    with pytest.raises(NotFoundError, match="is not at"):
        image_of(Records(store), ImageRoots(recorded=True), recorded_run, None, 4)


@pytest.mark.parametrize("content", [SVG, b"", b"<html>", b"GIF89a", b"\x89PNG\r\n\x1a\n" + SVG])
def test_what_is_no_raster_image_is_not_handed_out(content):
    with pytest.raises(NotFoundError):
        checked(content)


@pytest.mark.parametrize(
    ("kind", "mimetype"),
    [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/gif"), ("WEBP", "image/webp")],
)
def test_images_that_browsers_know_are_handed_out_as_they_are(kind, mimetype):
    content = encoded(kind)
    assert checked(content) == (content, mimetype)


@pytest.mark.parametrize(("kind", "mode"), [("BMP", "RGB"), ("TIFF", "CMYK"), ("PPM", "L")])
def test_other_images_are_handed_out_as_png(kind, mode):
    content, mimetype = checked(encoded(kind, mode))
    assert mimetype == "image/png"
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("PNG", (3, 2))


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded():
    small = encoded("BMP")
    width = np.array([2**14, 2**14], dtype="<i4").tobytes()
    with pytest.raises(NotFoundError, match=r"pixels|no image"):
        checked(small[:18] + width + small[26:])


def test_a_map_is_transparent_where_there_is_no_action():
    action = np.array([[0.0, 1.0], [np.nan, np.inf]], dtype=np.float32)
    with Image.open(io.BytesIO(map_png(action))) as image:
        alpha = np.asarray(image)[..., 3]
    assert alpha.tolist() == [[255, 255], [0, 0]]


def test_a_map_without_any_action_is_empty():
    with Image.open(io.BytesIO(map_png(np.full((2, 3), np.nan, np.float32)))) as image:
        assert image.size == (3, 2)
        assert not np.asarray(image)[..., 3].any()


def test_the_environment_names_folders(monkeypatch, tmp_path):
    monkeypatch.setenv(ROOTS_VARIABLE, f"{tmp_path}:/data")
    assert ImageRoots.from_environment() == roots(tmp_path, "/data")
    monkeypatch.setenv(ROOTS_VARIABLE, "recorded")
    assert ImageRoots.from_environment() == ImageRoots(recorded=True)
    monkeypatch.delenv(ROOTS_VARIABLE)
    assert ImageRoots.from_environment() == ImageRoots()
    monkeypatch.setenv(ROOTS_VARIABLE, "data")
    with pytest.raises(ParameterError, match="absolute"):
        ImageRoots.from_environment()


@pytest.mark.parametrize("source", [None, {}, {"kind": "folder"}, {"kind": "url", "root": "/"}])
def test_a_source_that_is_no_folder_is_never_allowed(source):
    assert not replace(roots("/"), recorded=True).allows(source)


def test_images_and_maps_of_the_api_are_those_of_the_record(site, runs, recorded):
    from actiontrack.store import Store

    records = Records(Store(recorded[0]))
    query = {"run": runs["segmentation"], "id": 3}
    image = site.get("/actiontrack/api/image", query_string=query)
    assert (image.data, image.mimetype) == image_of(
        records, ImageRoots(), runs["segmentation"], None, 3
    )
    shown = site.get("/actiontrack/api/map", query_string=query)
    assert shown.data == map_of(records, runs["segmentation"], None, 3)
    assert shown.headers["X-Content-Type-Options"] == "nosniff"
