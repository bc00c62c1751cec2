"""Files, names and addresses of images: each sample's own, whatever it is called."""

import io
import json
import posixpath
from urllib.parse import unquote, urlparse

import numpy as np
import pandas as pd
import pytest
from photographs import photo, shade
from PIL import Image, ImageOps

from actiontrack.errors import ParameterError
from actiontrack.recorder import Recorder
from actiontrack.reporting import exports
from actiontrack.reporting.exports.images import image_of, raster_of

ALL = exports.Suspects(share=1)
MEETING = {
    "slash and underscore": ["a/x/1.png", "a/x_1.png"],
    "case": ["a/Img.png", "a/img.png"],
    "encoded": ["a/x%2F1.png", "a/x/1.png"],
    "long": ["a/" + "x" * 200 + "1.png", "a/" + "x" * 200 + "2.png"],
    "long in several folders": ["a/" + "/".join(["y" * 90] * 3) + f"/{n}.png" for n in range(2)],
    "normalisation": ["a/caf\u00e9.png", "a/cafe\u0301.png", "a/\u212b.png", "a/\u00c5.png"],
    "devices": ["a/NUL.png", "a/nul.png", "con/1.png"],
    "spaces and dots": ["a/x .png", "a/x.png", "a/.x.png", "a/x..png"],
    "line breaks": ["a/x\n1.png", "a/x\r1.png", "a/x\u20281.png"],
    "back slashes": ["a\\x.png", "a/x.png"],
}


def listed(path):
    """Rows of kept.csv, read by pandas alone."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


# ---------------------------------------------------------------- image folders


@pytest.mark.parametrize("link", [False, True], ids=["copied", "linked"])
@pytest.mark.parametrize("paths", MEETING.values(), ids=MEETING)
def test_every_sample_has_a_file_of_its_own_pixels_and_ending(of_folder, tmp_path, paths, link):
    record = of_folder(paths, [0] * len(paths), ["a"])
    folder = tmp_path / "out"
    exports.image_folder(record, folder, exports.Suspects(share=0), link=link)
    with (folder / "kept.csv").open(newline="") as file:
        rows = listed(file)
    images = [path for path in folder.rglob("*") if path.suffix == ".png"]
    assert len(rows) == len(images) == len(paths)
    assert rows["sample_id"].tolist() == sorted(paths)
    for sample_id, name in zip(rows["sample_id"], rows["file"], strict=True):
        with Image.open(folder / name) as image:
            np.testing.assert_array_equal(np.asarray(image), shade(paths.index(sample_id)))


def test_names_that_meet_nobody_stay_as_they_were(of_folder, tmp_path):
    record = of_folder(["a/1.png", "b/2.png"], [0, 1], ["a", "b"])
    exports.image_folder(record, tmp_path / "out", exports.Suspects(share=0))
    assert listed(tmp_path / "out" / "kept.csv")["file"].tolist() == ["a/a_1.png", "b/b_2.png"]


def test_classes_and_lists_never_meet(of_folder, tmp_path):
    names = ["cat", "Cat", "kept.csv", "left_out.csv", "nul", "é", "e\u0301"]
    record = of_folder([f"{n}.png" for n in range(7)], list(range(7)), names)
    exports.image_folder(record, tmp_path / "out", exports.Suspects(share=0))
    rows = listed(tmp_path / "out" / "kept.csv")
    folders = [name.partition("/")[0] for name in rows["file"]]
    assert len({name.lower() for name in folders}) == 7
    assert all((tmp_path / "out" / name).is_file() for name in rows["file"])


def test_samples_that_share_an_image_get_a_file_each(of_folder, tmp_path):
    record = of_folder(["a/1.png", "a/1.png"], [0, 0], ["a"], ids=["left", "right"])
    exports.image_folder(record, tmp_path / "out", exports.Suspects(share=0))
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2


@pytest.mark.parametrize("paths", MEETING.values(), ids=MEETING)
def test_a_dataset_for_fiftyone_has_a_file_for_every_sample(of_folder, tmp_path, paths):
    exports.save_fiftyone(of_folder(paths), tmp_path / "out")
    samples = json.loads((tmp_path / "out/samples.json").read_text(encoding="utf-8"))["samples"]
    files = {sample["filepath"]: sample["sample_id"] for sample in samples}
    assert len({name.lower() for name in files}) == len(paths)
    for name, sample_id in files.items():
        with Image.open(tmp_path / "out" / name) as image:
            np.testing.assert_array_equal(np.asarray(image), shade(paths.index(sample_id)))


def test_samples_that_share_a_file_are_not_matched_by_its_path(of_folder):
    record = of_folder(["a/1.png", "a/1.png"], ids=["left", "right"])
    with pytest.raises(ParameterError, match=r"^key_field: must tell samples apart, got '.*a/1"):
        exports.add_to_fiftyone(None, record)


# ---------------------------------------------------------------- addresses

ODD = ["a b/x+1.png", "a b/y#2.png", "a b/z%3.png", "a b/ü&.png", "a b/q;r=@.png"]


@pytest.fixture
def odd(of_folder):
    return of_folder(ODD, [0] * len(ODD), ["a b"])


@pytest.mark.parametrize("scheme", ["s3", "gs", "azure-blob", "S3"])
def test_label_studio_finds_the_key_of_every_object(odd, scheme):
    tasks = exports.label_studio_tasks(odd, ALL, image_root=f"{scheme}://bucket/data/")
    keys = []
    for task in tasks:
        parts = urlparse(task["data"]["image"], allow_fragments=False)  # as Label Studio splits
        assert parts.netloc == "bucket"
        keys.append(parts.path.lstrip("/"))
    assert sorted(keys) == sorted(f"data/{path}" for path in ODD)


@pytest.mark.parametrize("root", ["https://host/data", "http://host:80/data", "/files/data"])
def test_parts_of_a_url_are_encoded(odd, root):
    tasks = exports.label_studio_tasks(odd, ALL, image_root=root)
    addresses = [urlparse(task["data"]["image"]) for task in tasks]
    assert not any(address.fragment or address.query for address in addresses)
    paths = sorted(unquote(address.path).partition("data/")[2] for address in addresses)
    assert paths == sorted(ODD)


@pytest.mark.parametrize("scheme", ["s3", "gs"])
@pytest.mark.parametrize("path", ["what?.png", "line\nbreak.png", "tab\t.png"])
def test_a_key_that_label_studio_would_cut_is_refused(of_folder, scheme, path):
    record = of_folder([path], files=False)
    with pytest.raises(ParameterError, match=r"^image_root: must lead to keys without"):
        exports.label_studio_tasks(record, ALL, image_root=f"{scheme}://bucket")


@pytest.mark.parametrize("root", ["/mnt/my images", "s3://bucket/my images", "C:\\images"])
def test_fiftyone_gets_paths_and_keys_as_they_are(odd, root):
    samples = exports.fiftyone_samples(odd, image_root=root)
    assert [sample["filepath"] for sample in samples] == [
        posixpath.join(root, path) for path in sorted(ODD)
    ]


def test_fiftyone_gets_urls_encoded(odd):
    samples = exports.fiftyone_samples(odd, image_root="https://host")
    paths = [unquote(urlparse(sample["filepath"]).path) for sample in samples]
    assert paths == [f"/{path}" for path in sorted(ODD)]


# ---------------------------------------------------------------- orientation

PIXELS = np.zeros((8, 16, 3), dtype=np.uint8)  # stored; red at the top left, green at the top right
PIXELS[:4, :8], PIXELS[:4, 8:], PIXELS[4:, :8] = (250, 0, 0), (0, 250, 0), (0, 0, 250)


def upright(content):
    """What Pillow's own function for the tag makes of an image."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.fixture
def turned(new_run, store, spool, tmp_path):
    """A function that records one photograph with a tag, and boxes on an image of a size."""

    def record(orientation, size=None, kind="JPEG"):
        (tmp_path / "photo").write_bytes(photo(PIXELS, kind, orientation))
        source, run_id = {"kind": "folder", "root": str(tmp_path)}, new_run()
        with Recorder(run_id=run_id, store=store, spool=spool, source=source) as recorder:
            recorder.describe_samples(["x"], paths=["photo"])
            recorder.update(["x"], np.ones(1))
            recorder.end_epoch()
            if size is not None:
                sides = {"left": 0, "top": 0, "right": size[0] / 2, "bottom": size[1] / 2}
                box = {"sample_id": "x", "kind": "truth", "class": "car", "score": np.nan}
                sides |= {"width": size[0], "height": size[1]}
                recorder.log_boxes(pd.DataFrame([box | sides]))
        return store.open_record(run_id)

    return record


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_shown_as_their_tag_says(turned, orientation):
    record = turned(orientation)
    content = record.image_bytes(0)
    shown = np.asarray(raster_of(record, 0))
    np.testing.assert_array_equal(shown, upright(content))
    image = image_of(record, 0)
    assert (image.height, image.width) == shown.shape[:2]
    assert image.content == content


@pytest.mark.parametrize("size", [(8, 16), (4, 8)], ids=["whole", "smaller"])
def test_boxes_on_the_upright_image_stay_on_it(turned, size):
    record = turned(6, size)
    image = image_of(record, 0)
    assert (image.width, image.height) == (8, 16)
    np.testing.assert_array_equal(np.asarray(raster_of(record, 0)), upright(image.content))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_on_the_stored_pixels_keep_the_image_as_it_is_stored(turned, orientation):
    record = turned(orientation, (16, 8), kind="PNG")
    image = image_of(record, 0)
    assert (image.width, image.height) == (16, 8)
    np.testing.assert_array_equal(upright(image.content), PIXELS)  # no tag is left
    np.testing.assert_array_equal(np.asarray(raster_of(record, 0)), PIXELS)


@pytest.mark.parametrize(("orientation", "size"), [(6, (16, 8)), (6, (8, 16)), (1, (16, 8))])
def test_cvat_s_boxes_cover_the_pixels_that_they_were_drawn_on(turned, tmp_path, orientation, size):
    record = turned(orientation, size, kind="PNG")
    exports.save_cvat(record, tmp_path / "out", ALL)
    text = (tmp_path / "out/annotations.xml").read_text()
    box = {name: float(text.partition(f'{name}="')[2].partition('"')[0])
           for name in ("xtl", "ytl", "xbr", "ybr")}  # fmt: skip
    (file,) = (tmp_path / "out/images").iterdir()
    shown = upright(file.read_bytes())
    inside = shown[int(box["ytl"]) : int(box["ybr"]), int(box["xtl"]) : int(box["xbr"])]
    quarter = shown.shape[0] // 2, shown.shape[1] // 2
    np.testing.assert_array_equal(inside, shown[: quarter[0], : quarter[1]])
    size_in_xml = [int(text.partition(f' {name}="')[2].partition('"')[0])
                   for name in ("height", "width")]  # fmt: skip
    assert tuple(size_in_xml) == shown.shape[:2]


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("PNG", "png"),
        ("JPEG", "jpg"),
        ("GIF", "gif"),
        ("WEBP", "webp"),
        ("BMP", "bmp"),
        ("TIFF", "tif"),
    ],
)
def test_a_file_in_cvat_has_the_ending_of_its_content(turned, tmp_path, kind, ending):
    exports.save_cvat(turned(None, kind=kind), tmp_path / "out", ALL)
    assert [path.name for path in (tmp_path / "out/images").iterdir()] == [f"000000-x.{ending}"]


def test_label_studio_gets_what_a_browser_shows(turned):
    (task,) = exports.label_studio_tasks(turned(6, kind="TIFF"), ALL)
    assert task["data"]["image"].startswith("data:image/png;base64,")
