"""Facts about projects/datasets/voc.py; folders are written here in VOC's on-disk layout."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actiontrack.errors import DataError, MissingDependencyError, ParameterError
from projects.datasets.voc import VocSettings, open_voc, read_annotation

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>
<xmin>{box[0]}</xmin><ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax>
</bndbox></object>"""
SIZE = (40, 20)  # width, height


def an_object(name="cat", box=(1, 1, 20, 10), difficult=0):
    return OBJECT.format(name=name, box=box, difficult=difficult)


def xml(*objects, size=SIZE):
    told = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    return f"<annotation>{told}{''.join(objects)}</annotation>"


@pytest.fixture
def voc(tmp_path):
    """A function that writes one image with its annotation, and the folder."""
    root = tmp_path / "VOCdevkit" / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)

    def add(name, *objects, size=SIZE, mode="RGB", suffix=".jpg", colour=128):
        image = Image.new("RGB", size, (colour, 0, 255 - colour)).convert(mode)
        image.save(root / "JPEGImages" / f"{name}{suffix}")
        (root / "Annotations" / f"{name}.xml").write_text(xml(*objects, size=size))

    add.root = root
    add.lists = lambda **names: [
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(each))
        for name, each in names.items()
    ]
    return add


@pytest.fixture
def pair(voc):
    """One training image with a cat and a dog, one evaluated image with a cat."""
    voc("a", an_object(), an_object("dog", (11, 6, 40, 20)))
    voc("b", an_object(box=(2, 3, 4, 5)))
    voc.lists(train=["a"], val=["b"])
    return voc


def load(voc, **changes):
    return open_voc(VocSettings(path=str(voc.root), side=10, **changes))


def fails(voc, **changes):
    with pytest.raises(DataError) as caught:
        load(voc, **changes)
    return str(caught.value)


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


# --- boxes ---


def annotation(tmp_path, text, **options):
    path = tmp_path / "x.xml"
    path.write_text(text)
    return read_annotation(path, size=SIZE, **options)


def test_a_box_over_the_edge_is_clipped_and_counted(tmp_path):
    read = annotation(tmp_path, xml(an_object(box=(0, -4, 45, 30)), an_object()))
    assert read.boxes[0].tolist() == [0, 0, 40, 20]
    assert read.n_clipped == 1


def test_a_box_of_one_pixel_is_a_box(tmp_path):
    assert annotation(tmp_path, xml(an_object(box=(5, 5, 5, 5)))).boxes.tolist() == [[4, 4, 5, 5]]


@pytest.mark.parametrize("box", [(9, 1, 8, 5), (41, 1, 60, 5), (1, -9, 5, 0)])
def test_a_box_without_a_pixel_is_refused_by_file_and_object(tmp_path, box):
    with pytest.raises(DataError) as caught:
        annotation(tmp_path, xml(an_object(), an_object("dog", box)))
    told = ", ".join(
        f"{name} {value}" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    assert str(caught.value) == (
        f"{tmp_path / 'x.xml'}: object 2 (dog) has no pixel of the image of 40x20: {told}. "
        "Mend or remove it, or pass --bad_boxes drop to leave such objects out."
    )


def test_a_box_without_a_pixel_may_be_dropped_and_the_others_keep_their_numbers(tmp_path):
    text = xml(an_object(box=(9, 1, 8, 5)), an_object("dog"))
    read = annotation(tmp_path, text, bad_boxes="drop")
    assert (read.names, read.numbers, read.n_dropped) == (("dog",), (2,), 1)


@pytest.mark.parametrize("value", ["", "wide", "nan", "inf"])
def test_a_box_of_other_than_four_numbers_is_refused(tmp_path, value):
    with pytest.raises(DataError) as caught:
        annotation(tmp_path, xml(an_object(box=(value, 1, 2, 3))))
    assert str(caught.value) == (
        f"{tmp_path / 'x.xml'}: object 1 (cat) needs a box of four numbers, got "
        f"xmin {value}, ymin 1, xmax 2, ymax 3. Mend or remove it."
    )


def test_an_object_without_a_name_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        annotation(tmp_path, xml(an_object(" ")))
    assert str(caught.value) == (
        f"{tmp_path / 'x.xml'}: object 1 has no name. Name its class or remove it."
    )


# --- files ---


def test_malformed_xml_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        annotation(tmp_path, "<annotation><object></annotation>")
    assert str(caught.value) == (
        f"{tmp_path / 'x.xml'} is not well-formed XML (mismatched tag: line 1, column 22). "
        "Mend or replace it."
    )


def test_a_document_type_is_refused_before_its_entities_grow(tmp_path):
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'
    with pytest.raises(DataError) as caught:
        annotation(tmp_path, bomb)
    assert str(caught.value) == (
        f"{tmp_path / 'x.xml'} declares a document type. Remove the declaration."
    )


def test_another_document_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        annotation(tmp_path, "<html/>")
    assert str(caught.value) == (
        f"{tmp_path / 'x.xml'} must hold an <annotation>, got <html>. Replace it."
    )


def test_an_annotation_of_another_size_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        annotation(tmp_path, xml(an_object(), size=(80, 40)))
    assert str(caught.value) == (
        f"{tmp_path / 'x.xml'} is for an image of 80x40 pixels, the image has 40x20. "
        "Annotate the image as it is stored."
    )


def test_a_size_of_0_is_no_size(tmp_path):
    assert annotation(tmp_path, xml(an_object(), size=(0, 0))).names == ("cat",)


def test_without_defusedxml_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "defusedxml", None)
    with pytest.raises(MissingDependencyError) as caught:
        annotation(tmp_path, xml())
    assert str(caught.value) == (
        "annotations in XML need defusedxml: pip install 'actiontrack[detection]'"
    )


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


# --- lists ---


def test_another_layout_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        open_voc(VocSettings(path=str(tmp_path), side=10))
    assert str(caught.value) == (
        f"{tmp_path} is not in VOC layout. It must hold JPEGImages/ and Annotations/, or "
        "VOC2007/ or VOCdevkit/VOC2007/ with them."
    )


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"^\S+none is not a folder\. It must hold JPEGImages/"):
        open_voc(VocSettings(path=str(tmp_path / "none"), side=10))


def test_several_datasets_in_one_folder_are_refused(pair):
    other = pair.root.parent / "VOC2012"
    for folder in ("JPEGImages", "Annotations"):
        (other / folder).mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        open_voc(VocSettings(path=str(pair.root.parent), side=10))
    assert str(caught.value) == (
        f"{pair.root.parent} holds several datasets: {pair.root}, {other}. Name one of them."
    )


@pytest.fixture
def five(voc):
    for name in "abcde":
        voc(name, an_object())
    return voc


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ({"train": "ab", "val": "c", "trainval": "abc", "test": "de"}, ("ab", "c")),
        ({"train": "ab", "test": "de"}, ("ab", "de")),
        ({"trainval": "abc", "test": "de"}, ("abc", "de")),
    ],
)
def test_the_usual_lists_are_taken_in_order(five, lists, expected):
    five.lists(**lists)
    assert tuple("".join(each.ids) for each in load(five)) == expected


def test_a_named_list_is_taken_with_its_usual_partner(five):
    five.lists(train="ab", val="c", trainval="abc", test="de")
    train, test = load(five, train_set="trainval")
    assert ("".join(train.ids), "".join(test.ids)) == ("abc", "de")


def test_lists_may_have_any_name(five):
    five.lists(mine="ab", yours="e")
    train, test = load(five, train_set="mine", test_set="yours")
    assert ("".join(train.ids), "".join(test.ids)) == ("ab", "e")


def test_without_lists_the_images_are_split_by_seed(five):
    train, test = load(five, test_fraction=0.4)
    assert (len(train), len(test)) == (3, 2)
    assert sorted([*train.ids, *test.ids]) == list("abcde")
    assert load(five, test_fraction=0.4)[1].ids.tolist() == test.ids.tolist()
    others = {tuple(load(five, test_fraction=0.4, split_seed=seed)[1].ids) for seed in range(8)}
    assert len(others) > 1


def test_too_few_images_to_split_are_refused(five):
    assert fails(five, test_fraction=0.01) == (
        f"{five.root} has no lists in ImageSets/Main and 5 annotations, of which 0 would be for "
        "testing. Add images or pass another --test_fraction."
    )


def test_a_named_list_without_a_partner_is_refused(five):
    five.lists(mine="ab", test="c")
    with pytest.raises(ParameterError) as caught:
        load(five, train_set="mine")
    assert str(caught.value) == (
        f"test_set: must be the name of a list in {five.root / 'ImageSets' / 'Main'}, as there is "
        "no usual one beside mine, got 'auto'. Lists there: mine, test."
    )


def test_a_missing_list_is_refused(five):
    path = five.root / "ImageSets" / "Main" / "no.txt"
    told = fails(five, train_set="no", test_set="test")
    assert told.startswith(f"the list {path} can't be read")


def test_an_empty_list_is_refused(five):
    five.lists(train="", val="a")
    path = five.root / "ImageSets" / "Main" / "train.txt"
    assert fails(five) == f"the list {path} is empty. Name another one."


def test_a_list_with_a_repeated_name_is_refused(five):
    five.lists(train="abb", val="c")
    path = five.root / "ImageSets" / "Main" / "train.txt"
    assert fails(five) == (
        f"the list {path} names 1 images more than once, the first is b. Name each image once."
    )


def test_lists_that_share_images_are_refused(five):
    five.lists(train="ab", val="bc")
    assert fails(five) == (
        f"{five.root / 'ImageSets' / 'Main'}: 1 images are both in train.txt and in val.txt, the "
        "first is b. Choose other lists by --train_set and --test_set."
    )


def test_a_subset_keeps_whole_images_and_grows_within_itself(five):
    five.lists(train="abcd", val="e")
    two = set(load(five, subset=2)[0].ids)
    assert len(two) == 2
    assert two < set(load(five, subset=3)[0].ids)


def test_a_subset_larger_than_its_split_is_refused(five):
    five.lists(train="abcd", val="e")
    with pytest.raises(ParameterError) as caught:
        load(five, test_subset=2)
    assert str(caught.value) == (
        "test_subset: must be at most 1, the images of the split, got 2. "
        "Pass --test_subset 0 for all of them."
    )


# --- real data ---

BCCD = Path(__file__).parents[3] / "shared" / "data" / "bccd-voc.tar"


@pytest.fixture(scope="module")
def bccd(tmp_path_factory):
    """Folder of the blood cells, 364 photographs."""
    if not BCCD.exists():
        pytest.skip(f"{BCCD} is not there")
    import tarfile

    folder = tmp_path_factory.mktemp("bccd")
    with tarfile.open(BCCD) as archive:
        archive.extractall(folder, filter="data")
    return folder / "bccd"


def test_torchvision_reads_the_same_images_and_boxes(bccd):
    from torchvision.datasets import VOCDetection

    train, _ = open_voc(VocSettings(path=str(bccd), side=32, subset=12, test_subset=1))
    theirs = VOCDetection(str(bccd), year="2007", image_set="train", download=False)
    assert train.class_names == ("Platelets", "RBC", "WBC")
    for row, name in enumerate(train.ids):
        place = [Path(each).stem for each in theirs.images].index(name)
        image, target = theirs[place]
        objects = target["annotation"]["object"]
        assert tuple(train.sizes[row]) == image.size
        assert list(train.annotations[row].names) == [each["name"] for each in objects]
        boxes = [
            [int(each["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")]
            for each in objects
        ]
        assert np.add(train.annotations[row].boxes, [1, 1, 0, 0]).tolist() == boxes


def test_pixels_are_those_of_the_file_resized_with_antialiasing(bccd):
    train, _ = open_voc(VocSettings(path=str(bccd), side=32, subset=1, test_subset=1))
    image = Image.open(Path(train.root) / train.paths[0]).resize(
        (32, 32), Image.Resampling.BILINEAR
    )
    difference = np.abs(np.asarray(image, float) - train.images[0].permute(1, 2, 0).numpy())
    assert difference.max() <= 1
