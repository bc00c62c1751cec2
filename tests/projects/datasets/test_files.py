"""Facts about projects/datasets/files.py, and that every loader skips the same files."""

import shutil

import numpy as np
import pytest
from mask_files import mask, photograph, save
from PIL import Image
from voc_xml import an_object, load, xml

from actiontrack.errors import DataError
from projects.datasets import load_dataset
from projects.datasets.cityscapes import open_cityscapes
from projects.datasets.files import is_image, is_visible, visible_files
from projects.datasets.masks import MaskSettings, open_masks
from projects.experiments.experiment import training_identity
from projects.params import TrainParams, validate

#: What programs leave beside `x.png`, with the folder in which they do.
CLUTTER = (
    *("._x.png", ".x.png", ".ipynb_checkpoints/x-checkpoint.png", ".git/x.png"),
    *("__MACOSX/x.png", "@eaDir/x.png", ".DS_Store"),
)


def litter(folder, name="x.png"):
    """Write files that are no images where programs leave them."""
    for path in CLUTTER:
        file = folder / path.replace("x.png", name).replace("x-", "x_")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"no image")


@pytest.mark.parametrize("name", [".x", "._x", ".ipynb_checkpoints", "__MACOSX", "@eaDir"])
def test_names_that_programs_leave_behind_are_not_data(name):
    assert not is_visible(name)


@pytest.mark.parametrize("name", ["x", "x.y", "_x", "__x__", "@x", "é"])
def test_other_names_are_data(name):
    assert is_visible(name)


def test_visible_files_come_in_the_order_of_their_folders_and_names(tmp_path):
    for name in ("b/2.png", "b/1.txt", "a/c/3.png", "0.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    litter(tmp_path / "b")
    names = [path.relative_to(tmp_path).as_posix() for path in visible_files(tmp_path)]
    assert names == ["0.png", "a/c/3.png", "b/1.txt", "b/2.png"]


def test_a_hidden_folder_can_be_the_dataset_itself(tmp_path):
    (tmp_path / ".data").mkdir()
    (tmp_path / ".data" / "x.png").touch()
    assert [path.name for path in visible_files(tmp_path / ".data")] == ["x.png"]


@pytest.mark.parametrize(
    ("name", "expected"), [("x.PNG", True), ("x.jpeg", True), ("x.txt", False), ("png", False)]
)
def test_an_image_is_known_by_its_ending_in_any_case(tmp_path, name, expected):
    assert is_image(tmp_path / name) is expected


# --- every loader ---


@pytest.fixture
def classes(tmp_path):
    """A folder of class folders, with clutter at every level."""
    for name in ("cat", "dog"):
        for number in range(4):
            save(tmp_path / "images" / name / f"{number}.png", photograph())
        litter(tmp_path / "images" / name)
    litter(tmp_path / "images")
    return tmp_path / "images"


def test_class_folders_hold_the_images_of_the_user_alone(classes):
    splits = load_dataset(validate(TrainParams, {"dataset": f"folder:{classes}"}))
    assert splits[0].class_names == ("cat", "dog")
    ids = sorted(name for split in splits for name in split.ids.tolist())
    assert ids == [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(4)]


def test_clutter_does_not_make_another_training(classes):
    params = validate(TrainParams, {"dataset": f"folder:{classes}"})
    before = training_identity(params)
    (classes / "cat" / ".DS_Store").write_bytes(b"longer than before")
    assert training_identity(params) == before


def test_masks_are_paired_with_the_images_of_the_user_alone(tmp_path):
    for split in ("train", "val"):
        for name in "ab":
            save(tmp_path / "images" / split / f"{name}.png", photograph())
            save(tmp_path / "masks" / split / f"{name}.png", mask())
        litter(tmp_path / "images" / split)
    settings = MaskSettings(images=str(tmp_path / "images"), masks=str(tmp_path / "masks"))
    train, test = open_masks(settings)
    assert train.ids.tolist() == ["train/a.png", "train/b.png"]
    assert test.ids.tolist() == ["val/a.png", "val/b.png"]


def test_cityscapes_holds_its_own_images_alone(tmp_path):
    ids = np.arange(34, dtype=np.uint8).reshape(2, 17)
    for split in ("train", "val"):
        stem = f"{split}/aachen/aachen_000000_000019"
        save(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", photograph(2, 17))
        save(tmp_path / f"gtFine/{stem}_gtFine_labelIds.png", ids)
        litter(tmp_path / f"leftImg8bit/{split}", "x_leftImg8bit.png")
        litter(tmp_path / f"leftImg8bit/{split}/aachen", "x_leftImg8bit.png")
    splits = open_cityscapes(MaskSettings(images=str(tmp_path), masks=""))
    assert [len(split) for split in splits] == [1, 1]


def test_voc_splits_the_annotations_of_the_user_alone(five):
    for name in ("._a", ".b"):
        shutil.copy(five.root / "Annotations" / "a.xml", five.root / "Annotations" / f"{name}.xml")
    train, test = load(five, test_fraction=0.4)
    assert sorted([*train.ids, *test.ids]) == list("abcde")


def test_voc_knows_the_lists_of_the_user_alone(five):
    five.lists(train="ab", val="c")
    for name in ("trainval", "test"):
        (five.root / "ImageSets" / "Main" / f"._{name}.txt").write_text("d")
    assert [split.ids.tolist() for split in load(five)] == [["a", "b"], ["c"]]


def test_a_folder_of_clutter_is_empty(tmp_path):
    litter(tmp_path)
    with pytest.raises(DataError, match="has no class folders"):
        load_dataset(validate(TrainParams, {"dataset": f"folder:{tmp_path}"}))


# --- photographs with an Exif orientation, in every loader ---


def turned_photograph(path, orientation=6):
    """A photograph that is stored 8 wide and 6 high and seen 6 wide and 8 high."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = photograph()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    return np.rot90(pixels, -1)


def test_class_folders_are_seen_upright(tmp_path):
    seen = {
        f"{split}/a/0.png": turned_photograph(tmp_path / split / "a" / "0.png")
        for split in ("train", "test")
    }
    for split in load_dataset(validate(TrainParams, {"dataset": f"folder:{tmp_path}"})):
        expected = seen[str(split.ids[0])].transpose(2, 0, 1)
        np.testing.assert_array_equal(split.images[0], expected)


@pytest.mark.parametrize("drawn_on", ["the upright image", "the stored pixels"])
def test_a_mask_lies_on_the_upright_photograph_whichever_way_it_was_drawn(tmp_path, drawn_on):
    stored = mask()  # 6 x 8
    upright = np.rot90(stored, -1)
    for split in ("train", "val"):
        turned_photograph(tmp_path / "images" / split / "a.png")
        drawn = upright if drawn_on == "the upright image" else stored
        save(tmp_path / "masks" / split / "a.png", np.ascontiguousarray(drawn))
    settings = MaskSettings(images=str(tmp_path / "images"), masks=str(tmp_path / "masks"))
    for split in open_masks(settings):
        assert split.images.shape == (1, 3, 8, 6)
        np.testing.assert_array_equal(split.targets[0], upright)


def test_a_mask_of_swapped_sides_is_refused_where_the_photograph_is_not_turned(tmp_path):
    for split in ("train", "val"):
        save(tmp_path / "images" / split / "a.png", photograph())
        save(tmp_path / "masks" / split / "a.png", np.ascontiguousarray(mask().T))
    settings = MaskSettings(images=str(tmp_path / "images"), masks=str(tmp_path / "masks"))
    with pytest.raises(DataError, match="is 6x8, but its image"):
        open_masks(settings)


@pytest.fixture
def turned_voc(voc):
    """A function that writes a turned photograph with an annotation; returns its boxes."""

    def write(*objects, size):
        for name in "ab":
            turned_photograph(voc.root / "JPEGImages" / f"{name}.png")
            annotation = voc.root / "Annotations" / f"{name}.xml"
            annotation.write_text(xml(*objects, size=size))
        voc.lists(train="a", val="b")
        train, _ = load(voc)
        assert train.sizes.tolist() == [[6, 8]]
        return train.annotations[0].boxes.tolist()

    return write


@pytest.mark.parametrize("size", [(6, 8), (0, 0)])
def test_boxes_are_those_of_the_photograph_as_viewers_show_it(turned_voc, size):
    assert turned_voc(an_object(box=(1, 2, 3, 8)), size=size) == [[0, 1, 3, 8]]


def test_boxes_that_were_drawn_on_the_stored_pixels_are_turned_along(turned_voc):
    # Stored: left 1, top 0, right 4, bottom 2 of 8 x 6; a quarter turn clockwise.
    assert turned_voc(an_object(box=(2, 1, 4, 2)), size=(8, 6)) == [[4, 1, 6, 4]]
