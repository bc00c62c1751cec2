"""Facts about projects/datasets/voc_files.py: annotations, lists of images, where files are."""

import pytest
from voc_xml import SIZE, an_object, fails, load, xml

from actiontrack.errors import DataError, MissingDependencyError, ParameterError
from projects.datasets.voc import VocSettings, open_voc, read_annotation

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
    corners = ", ".join(
        f"{name} {value}" for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    assert str(caught.value) == (
        f"{tmp_path / 'x.xml'}: object 2 (dog) has no pixel of the image of 40x20: {corners}. "
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
        "Annotate the image as viewers show it."
    )


@pytest.mark.parametrize("size", [("40.0", "20.0"), (" 40 ", "2e1"), ("40", "20.00")])
def test_a_size_is_the_number_that_it_spells(tmp_path, size):
    assert annotation(tmp_path, xml(an_object(), size=size)).names == ("cat",)


@pytest.mark.parametrize("size", [("40.5", "20"), ("wide", "20"), ("nan", "nan"), ("40", "0")])
def test_a_size_that_is_another_number_or_none_is_refused(tmp_path, size):
    with pytest.raises(DataError, match=r"is for an image of \S+ pixels, the image has 40x20\. "):
        annotation(tmp_path, xml(an_object(), size=size))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[("1", True), ("1.0", True), (" 1 ", True), ("true", True), ("True", True)],
        *[("0", False), ("0.0", False), ("", False), ("Unspecified", False), ("false", False)],
    ],
)
def test_difficult_is_a_number_or_a_word(tmp_path, text, expected):
    read = annotation(tmp_path, xml(an_object(difficult=text)))
    assert read.difficult.tolist() == [expected]


def test_a_size_of_0_is_no_size(tmp_path):
    assert annotation(tmp_path, xml(an_object(), size=(0, 0))).names == ("cat",)


def test_without_defusedxml_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "defusedxml", None)
    with pytest.raises(MissingDependencyError) as caught:
        annotation(tmp_path, xml())
    assert str(caught.value) == (
        "annotations in XML need defusedxml: pip install 'actiontrack[detection]'"
    )


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
    assert tuple("".join(split.ids) for split in load(five)) == expected


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
    text = fails(five, train_set="no", test_set="test")
    assert text.startswith(f"the list {path} can't be read")


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


def test_a_list_may_begin_with_a_byte_order_mark_and_end_its_lines_as_windows_does(five):
    for name, text in (("train", "a\r\nb\r\n"), ("val", "c")):
        path = five.root / "ImageSets" / "Main" / f"{name}.txt"
        path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert [split.ids.tolist() for split in load(five)] == [["a", "b"], ["c"]]


def test_a_list_that_is_no_text_is_refused(five):
    five.lists(val="c")
    (five.root / "ImageSets" / "Main" / "train.txt").write_bytes(b"\xff\xfe\x00")
    assert fails(five).startswith("the list ")


def test_an_image_with_an_ending_in_capitals_is_read(voc):
    voc("a", an_object(), suffix=".JPG")
    voc("b", an_object())
    voc.lists(train="a", val="b")
    assert load(voc)[0].paths == ("JPEGImages/a.JPG",)
