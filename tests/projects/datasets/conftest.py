"""Folders in VOC's layout on disk."""

import pytest
from PIL import Image
from voc_xml import SIZE, an_object, xml


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
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(lines))
        for name, lines in names.items()
    ]
    return add


@pytest.fixture
def pair(voc):
    """One training image with a cat and a dog, one evaluated image with a cat."""
    voc("a", an_object(), an_object("dog", (11, 6, 40, 20)))
    voc("b", an_object(box=(2, 3, 4, 5)))
    voc.lists(train=["a"], val=["b"])
    return voc


@pytest.fixture
def five(voc):
    """Five images with an object each, and no list."""
    for name in "abcde":
        voc(name, an_object())
    return voc
