"""Images with a mask each: what is read, and one clear message for what is not."""

from pathlib import Path

import numpy as np
import pytest
from helpers import message, open_tar
from mask_files import mask, photograph, save
from PIL import Image

from actiontrack.errors import DataError, ParameterError
from projects.datasets.masks import MaskSettings, open_masks

CAMVID = Path(__file__).parents[4] / "shared" / "data" / "camvid.tar"


@pytest.fixture
def folders(tmp_path):
    """Two training and two validation images with their masks of three classes."""
    for split in ("train", "val"):
        for name in "ab":
            save(tmp_path / "images" / split / f"{name}.png", photograph())
            save(tmp_path / "masks" / split / f"{name}.png", mask())
    return tmp_path


def opened(folder, **options):
    return open_masks(
        MaskSettings(images=str(folder / "images"), masks=str(folder / "masks"), **options)
    )


def test_images_and_masks_are_paired_by_their_path(folders):
    train, test = opened(folders)
    assert train.ids.tolist() == ["train/a.png", "train/b.png"]
    assert test.ids.tolist() == ["val/a.png", "val/b.png"]
    expected = np.array(Image.open(folders / "masks/val/b.png"))
    np.testing.assert_array_equal(test.targets[1].numpy(), expected)
    picture = np.array(Image.open(folders / "images/val/b.png")).transpose(2, 0, 1)
    np.testing.assert_array_equal(test.images[1].numpy(), picture)


def test_classes_are_numbered_without_names(folders):
    assert opened(folders)[0].class_names == ("0", "1", "2")


def test_void_becomes_the_last_class(folders):
    train, _ = opened(folders, class_names=("sky", "road"), void_id=2)
    assert train.class_names == ("sky", "road", "void")
    assert (train.n_classes, train.has_void) == (2, True)
    ids = np.array(Image.open(folders / "masks/train/a.png"))
    np.testing.assert_array_equal(train.targets[0].numpy() == 2, ids == 2)


def test_an_id_between_the_classes_may_be_void(folders):
    train, _ = opened(folders, class_names=("sky", "road", "car"), void_id=1)
    ids = np.array(Image.open(folders / "masks/train/a.png"))
    np.testing.assert_array_equal(train.targets[0].numpy() == 3, ids == 1)


def test_more_ids_than_names_are_refused(folders):
    with pytest.raises(DataError, match="holds the class ids 2, but there are 2 classes"):
        opened(folders, class_names=("sky", "road"), void_id=-1)


def test_images_are_resized_smoothly_and_masks_to_the_nearest_pixel(folders):
    train, _ = opened(folders, height=3, width=4)
    assert train.images.shape == (2, 3, 3, 4)
    assert set(np.unique(train.targets)) <= {0, 1, 2}


def test_a_flat_folder_is_split_by_seed(tmp_path):
    for name in "abcdefghij":
        save(tmp_path / "images" / f"{name}.png", photograph())
        save(tmp_path / "masks" / f"{name}.png", mask())
    train, test = opened(tmp_path, test_fraction=0.3)
    assert (len(train), len(test)) == (7, 3)
    assert not set(train.ids) & set(test.ids)
    assert opened(tmp_path, test_fraction=0.3)[1].ids.tolist() == test.ids.tolist()
    assert opened(tmp_path, test_fraction=0.3, split_seed=1)[1].ids.tolist() != test.ids.tolist()


def test_grey_and_palette_images_become_colour(folders):
    save(folders / "images/train/a.png", photograph(), "L")
    save(folders / "images/train/b.png", photograph(), "P")
    assert opened(folders)[0].images.shape == (2, 3, 6, 8)


def test_a_palette_mask_holds_its_indices(folders):
    ids = mask()
    image = Image.fromarray(ids)
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.save(folders / "masks/train/a.png")
    np.testing.assert_array_equal(opened(folders)[0].targets[0].numpy(), ids)


def test_another_mask_gives_another_digest(folders):
    before = opened(folders)[0].input_digests
    ids = np.array(Image.open(folders / "masks/train/a.png"))
    save(folders / "masks/train/a.png", (ids + 1) % 3)
    after = opened(folders)[0].input_digests
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_subset_is_the_same_for_a_seed(folders):
    assert len(opened(folders, subset=1)[0]) == 1
    expected = (
        "subset: must be at most 2, the images of the split, got 3. Pass --subset 0 for all of "
        "them."
    )
    with pytest.raises(ParameterError, match=message(expected)):
        opened(folders, subset=3)


def test_an_image_without_a_mask_is_named(folders):
    (folders / "masks/train/b.png").unlink()
    expected = (
        f"1 of 2 images in {folders}/images/train have no mask, the first would be "
        f"{folders}/masks/train/b.png. Add the masks, or remove the images."
    )
    with pytest.raises(DataError, match=message(expected)):
        opened(folders)


def test_a_mask_of_another_size_than_its_image_is_named(folders):
    save(folders / "masks/train/b.png", mask(4, 8))
    expected = (
        f"{folders}/masks/train/b.png is 8x4, but its image {folders}/images/train/b.png is 8x6. "
        "Export the mask at the size of its image."
    )
    with pytest.raises(DataError, match=message(expected)):
        opened(folders)


def test_images_of_several_sizes_are_refused_with_the_remedy(folders):
    save(folders / "images/train/b.png", photograph(4, 5))
    save(folders / "masks/train/b.png", mask(4, 5))
    expected = (
        f"images must have one size: {folders}/images/train/b.png is 5x4 and "
        f"{folders}/images/train/a.png is 8x6. Pass --height 4 --width 5 to resize them."
    )
    with pytest.raises(DataError, match=message(expected)):
        opened(folders)
    assert opened(folders, height=4, width=5)[0].images.shape == (2, 3, 4, 5)


def test_an_id_that_is_no_class_is_named(folders):
    ids = mask()
    ids[2, 2] = 77
    save(folders / "masks/val/a.png", ids)
    expected = (
        f"{folders}/masks/val/a.png holds the class ids 77, but there are 3 classes, 0 to 2. Name "
        "more classes with --classes, or the id of pixels without a class with --void_id."
    )
    with pytest.raises(DataError, match=message(expected)):
        opened(folders)


def test_a_colour_mask_is_refused(folders):
    save(folders / "masks/train/a.png", photograph())
    expected = (
        f"{folders}/masks/train/a.png is a colour image (RGB): a mask holds class ids as grey "
        "levels or palette indices. Convert its colours to ids."
    )
    with pytest.raises(DataError, match=message(expected)):
        opened(folders)


@pytest.mark.parametrize("name", ["images/train/a.png", "masks/val/a.png"])
def test_a_damaged_file_is_named(folders, name):
    (folders / name).write_bytes(b"\x89PNG not really")
    with pytest.raises(DataError, match=rf"^{folders / name} can't be decoded \(.*\)\. Replace"):
        opened(folders)


def test_a_folder_without_images_is_refused(folders):
    for path in (folders / "images/val").iterdir():
        path.unlink()
    expected = f"{folders}/images/val has no images (.png, .jpg, .jpeg, .bmp, .webp). Fill it."
    with pytest.raises(DataError, match=message(expected)):
        opened(folders)


def test_a_missing_folder_is_refused(tmp_path):
    expected = (
        f"{tmp_path}/images is not a folder. Pass --dataset masks:IMAGES,MASKS with the folder of "
        "the images and that of the masks; IMAGES is missing."
    )
    with pytest.raises(DataError, match=message(expected)):
        opened(tmp_path)


def test_masks_of_nothing_but_void_are_refused(folders):
    for name in "ab":
        save(folders / f"masks/train/{name}.png", np.full((6, 8), 9, np.uint8))
    with pytest.raises(DataError, match="hold void only: there is no class"):
        opened(folders, void_id=9)


def test_camvid_is_read_as_it_is(tmp_path):
    if not CAMVID.exists():
        pytest.skip("shared/data/camvid.tar is not beside the repository")
    with open_tar(CAMVID) as archive:
        names = sorted(name for name in archive.getnames() if "/masks/" in name and "." in name)
        chosen = [
            next(name for name in names if f"/{split}/" in name) for split in ("train", "val")
        ]
        for name in chosen:
            archive.extract(name, tmp_path)
            image = name.replace("/masks/", "/images/").replace(".png", ".jpg")
            archive.extract(image, tmp_path)
    names = tuple(f"class {number}" for number in range(11))
    train, test = opened(tmp_path / "camvid", class_names=names, void_id=11)
    assert train.images.shape == test.images.shape == (1, 3, 360, 480)
    assert train.class_names == (*names, "void")
    ids = np.array(Image.open(tmp_path / chosen[0]))
    np.testing.assert_array_equal(train.targets[0].numpy(), ids)
