"""Facts about projects/datasets/cityscapes.py; the layout on disk is written here."""

import numpy as np
import pytest
from helpers import message
from mask_files import photograph, save
from torchvision.datasets import Cityscapes

from actiontrack.errors import DataError
from projects.datasets.cityscapes import open_cityscapes
from projects.datasets.masks import MaskSettings


@pytest.fixture
def cityscapes(tmp_path):
    """One image of each split in the layout on disk, with an id of every class of Cityscapes."""
    ids = np.arange(34, dtype=np.uint8).reshape(2, 17)
    for split in ("train", "val"):
        stem = f"{split}/aachen/aachen_000000_000019"
        save(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png", photograph(2, 17))
        save(tmp_path / f"gtFine/{stem}_gtFine_labelIds.png", ids)
    return tmp_path


def test_cityscapes_has_its_19_classes_and_void(cityscapes):
    train, test = open_cityscapes(MaskSettings(images=str(cityscapes), masks=""))
    assert (train.n_classes, len(train.class_names)) == (19, 20)
    assert train.class_names[0] == "road"
    assert test.ids.tolist() == ["leftImg8bit/val/aachen/aachen_000000_000019_leftImg8bit.png"]
    expected = [
        19 if label.train_id in (255, -1) else label.train_id
        for label in sorted(Cityscapes.classes, key=lambda label: label.id)
        if label.id >= 0
    ]
    assert train.targets.flatten().tolist() == expected


def test_a_folder_that_is_not_cityscapes_is_refused(tmp_path):
    with pytest.raises(DataError, match=rf"^{tmp_path} is not Cityscapes: .*gtFine/train/CITY"):
        open_cityscapes(MaskSettings(images=str(tmp_path), masks=""))


def test_a_missing_mask_of_cityscapes_is_named(cityscapes):
    mask_file = next(cityscapes.glob("gtFine/val/*/*"))
    mask_file.unlink()
    expected = (
        f"1 of 1 images of val have no mask, the first would be {mask_file}. Unpack gtFine there."
    )
    with pytest.raises(DataError, match=message(expected)):
        open_cityscapes(MaskSettings(images=str(cityscapes), masks=""))
