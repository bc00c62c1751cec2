"""Facts about projects/datasets/voc.py; folders are written here in VOC's on-disk layout."""

from pathlib import Path

import numpy as np
import pytest
from blood_cells import BCCD
from helpers import open_tar
from PIL import Image
from voc_xml import an_object, fails, load

from projects.datasets.voc import VocSettings, open_voc

# --- what is read ---


@pytest.mark.parametrize("up", [0, 1, 2])
def test_the_folder_may_be_named_itself_or_either_folder_above(pair, up):
    path = [pair.root, *pair.root.parents][up]
    train, test = open_voc(VocSettings(path=str(path), side=10))
    assert (train.ids.tolist(), test.ids.tolist()) == (["a"], ["b"])
    assert train.root == str(pair.root)
    assert train.paths == ("JPEGImages/a.jpg",)


def test_classes_are_those_of_the_annotations_in_order_of_their_names(pair):
    assert load(pair)[1].class_names == ("cat", "dog")


def test_named_classes_keep_their_order(pair):
    train, _ = load(pair, classes=("dog", "cat"))
    assert train.labels(0).tolist() == [1, 0]


def test_pixels_count_from_1_and_the_last_one_is_inside(pair):
    train, _ = load(pair)
    assert train.annotations[0].boxes.tolist() == [[0, 0, 20, 10], [10, 5, 40, 20]]


def test_targets_are_in_pixels_of_the_resized_image_with_labels_from_1(pair):
    train, _ = load(pair)
    # 40 x 20 pixels become 10 x 10: a quarter of x, half of y.
    assert train.images.shape == (1, 3, 10, 10)
    assert train.targets.tolist() == [[[1, 0, 0, 5, 5], [2, 2.5, 2.5, 10, 10]]]


def test_targets_of_images_with_fewer_objects_are_filled_up_with_label_0(voc):
    voc("a", an_object(), an_object("dog"))
    voc("b", an_object())
    voc("c")
    voc("d", an_object())
    voc.lists(train=["a", "b", "c"], val=["d"])
    assert load(voc)[0].targets[:, :, 0].tolist() == [[1, 2], [1, 0], [0, 0]]


def test_ids_of_objects_count_within_the_file_from_1(pair):
    assert load(pair)[0].object_ids(0) == ["a#1", "a#2"]


def test_an_image_without_objects_is_allowed(voc):
    voc("a", an_object())
    voc("b")
    voc("c", an_object())
    voc.lists(train=["a", "b"], val=["c"])
    train, _ = load(voc)
    assert train.object_ids(1) == []
    assert train.n_objects == 1


def test_images_of_different_sizes_come_to_one_size(voc):
    voc("a", an_object())
    voc("b", an_object(), size=(100, 50))
    voc("c", an_object())
    voc.lists(train=["a", "b"], val=["c"])
    train, _ = load(voc)
    assert train.images.shape == (2, 3, 10, 10)
    assert train.sizes.tolist() == [[40, 20], [100, 50]]
    np.testing.assert_allclose(train.scale(1), [0.1, 0.2, 0.1, 0.2])


@pytest.mark.parametrize(("mode", "suffix"), [("L", ".jpg"), ("P", ".png"), ("1", ".png")])
def test_grey_and_palette_images_become_rgb(voc, mode, suffix):
    voc("a", an_object(), mode=mode, suffix=suffix)
    voc("b", an_object())
    voc.lists(train=["a"], val=["b"])
    assert load(voc)[0].images.shape == (1, 3, 10, 10)


def test_difficult_objects_are_kept_unless_they_are_to_be_ignored(voc):
    voc("a", an_object(difficult=1), an_object("dog"))
    voc("b", an_object())
    voc.lists(train=["a"], val=["b"])
    assert load(voc)[0].object_ids(0) == ["a#1", "a#2"]
    ignoring = load(voc, difficult="ignore")[0]
    assert ignoring.object_ids(0) == ["a#2"]
    assert ignoring.targets[0, :, 0].tolist() == [2]
    assert ignoring.annotations[0].difficult.tolist() == [True, False]


def test_digests_tell_other_pixels_and_other_boxes_apart_and_no_sizes(pair):
    first = load(pair)[0].input_digests
    assert open_voc(VocSettings(path=str(pair.root), side=20))[0].input_digests == first
    pair("a", an_object(), an_object("dog", (11, 6, 40, 19)))
    assert load(pair)[0].input_digests != first
    pair("a", an_object(), an_object("dog", (11, 6, 40, 20)), colour=200)
    assert load(pair)[0].input_digests != first


def test_a_missing_annotation_is_named(pair):
    (pair.root / "Annotations" / "b.xml").unlink()
    assert fails(pair) == (
        f"{pair.root / 'Annotations' / 'b.xml'} can't be read (No such file or directory). "
        "Each image needs its annotation; one without objects is <annotation/>."
    )


def test_a_missing_image_is_named(pair):
    (pair.root / "JPEGImages" / "b.jpg").unlink()
    assert fails(pair) == (
        f"{pair.root / 'JPEGImages'} has no image b (.png, .jpg, .jpeg, .bmp, .webp). "
        "Add it, or take its name out of the list."
    )


def test_a_damaged_image_is_named(pair):
    (pair.root / "JPEGImages" / "b.jpg").write_bytes(b"no image")
    assert fails(pair).startswith(f"{pair.root / 'JPEGImages' / 'b.jpg'} can't be decoded")


def test_an_unknown_class_is_named_with_its_file_and_object(pair):
    assert fails(pair, classes=("cat",)) == (
        f"{pair.root / 'Annotations' / 'a.xml'}: object 2 is of the class 'dog', which is not "
        "among cat. Correct it, or name all classes by --classes."
    )


def test_a_split_without_an_object_is_refused(pair):
    pair("b")
    assert fails(pair) == f"{pair.root}: no image of the test split has an object. Add some."


# --- real data ---


@pytest.fixture(scope="module")
def bccd(tmp_path_factory):
    """Folder of the blood cells, 364 photographs."""
    if not BCCD.exists():
        pytest.skip(f"{BCCD} is not there")
    folder = tmp_path_factory.mktemp("bccd")
    with open_tar(BCCD) as archive:
        archive.extractall(folder)
    return folder / "bccd"


def test_torchvision_reads_the_same_images_and_boxes(bccd):
    from torchvision.datasets import VOCDetection

    train, _ = open_voc(VocSettings(path=str(bccd), side=32, subset=12, test_subset=1))
    theirs = VOCDetection(str(bccd), year="2007", image_set="train", download=False)
    assert train.class_names == ("Platelets", "RBC", "WBC")
    for row, name in enumerate(train.ids):
        position = [Path(path).stem for path in theirs.images].index(name)
        image, target = theirs[position]
        objects = target["annotation"]["object"]
        assert tuple(train.sizes[row]) == image.size
        assert list(train.annotations[row].names) == [item["name"] for item in objects]
        boxes = [
            [int(item["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")]
            for item in objects
        ]
        assert np.add(train.annotations[row].boxes, [1, 1, 0, 0]).tolist() == boxes


def test_pixels_are_those_of_the_file_resized_with_antialiasing(bccd):
    train, _ = open_voc(VocSettings(path=str(bccd), side=32, subset=1, test_subset=1))
    image = Image.open(Path(train.root) / train.paths[0]).resize(
        (32, 32), Image.Resampling.BILINEAR
    )
    difference = np.abs(np.asarray(image, float) - train.images[0].permute(1, 2, 0).numpy())
    assert difference.max() <= 1
