"""Facts about projects/datasets/folder.py; folders are written here."""

from pathlib import Path

import numpy as np
import pytest
from helpers import open_tar
from PIL import Image

from actiontrack.errors import DataError
from projects.datasets import load_dataset
from projects.params import TrainParams, validate

CIFAR_TAR = Path(__file__).parents[4] / "shared" / "data" / "cifar10-test.tar"
CIFAR_CLASSES = [
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
]


def load(**values):
    return load_dataset(validate(TrainParams, values))


def fails(**values):
    with pytest.raises(DataError) as caught:
        load(**values)
    return str(caught.value)


def write_images(folder, n, *, size=(8, 8), mode="RGB", suffix=".png"):
    """Write n images whose pixels all hold their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.new("RGB", size, (i, i, i)).convert(mode).save(folder / f"{i:03}{suffix}")


def folder_name(root):
    return f"folder:{root}"


@pytest.fixture
def both(tmp_path):
    for split, n in (("train", 4), ("test", 2)):
        for name in ("frog", "cat"):
            write_images(tmp_path / split / name, n)
    return tmp_path


def test_a_folder_with_train_and_test_is_read_as_it_is(both):
    train, test = load(dataset=folder_name(both))
    assert train.class_names == test.class_names == ("cat", "frog")
    assert test.ids.tolist() == [
        *("test/cat/000.png", "test/cat/001.png"),
        *("test/frog/000.png", "test/frog/001.png"),
    ]
    assert train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert test.images[:, 0, 0, 0].tolist() == [0, 1, 0, 1]


def test_a_folder_tells_its_root_and_the_paths_in_it(both):
    test = load(dataset=folder_name(both))[1]
    assert (test.name, test.root) == (both.name, str(both))
    assert test.paths == tuple(test.ids)
    assert all((Path(test.root) / path).is_file() for path in test.paths)


def test_val_stands_in_for_a_missing_test_folder(both):
    (both / "test").rename(both / "val")
    assert load(dataset=folder_name(both))[1].ids[0] == "val/cat/000.png"


def test_test_is_taken_where_there_is_a_val_folder_too(both):
    write_images(both / "val" / "cat", 1)
    assert load(dataset=folder_name(both))[1].ids[0] == "test/cat/000.png"


def test_a_train_folder_alone_is_refused_with_the_way_to_split_it(both):
    (both / "test").rename(both / "other")
    assert fails(dataset=folder_name(both)) == (
        f"{both} has train/ but neither test/ nor val/. Add one, or pass --dataset "
        f"folder:{both / 'train'} to split that by seed."
    )


def test_only_the_files_of_the_subset_are_decoded(both):
    chosen = load(dataset=folder_name(both), subset=2, test_subset=2)[0].ids
    for path in (both / "train").rglob("*.png"):
        if path.relative_to(both).as_posix() not in chosen:
            path.write_bytes(b"broken")
    assert load(dataset=folder_name(both), subset=2)[0].ids.tolist() == chosen.tolist()


@pytest.fixture
def plain(tmp_path):
    for name, n in (("a", 20), ("b", 10), ("c", 2)):
        write_images(tmp_path / name, n)
    return tmp_path


def test_class_folders_alone_are_split_class_by_class(plain):
    train, test = load(dataset=folder_name(plain), test_fraction=0.25)
    assert np.bincount(test.labels).tolist() == [5, 3, 1]  # 25 % are 5, 2.5 and 0.5: 8 in all,
    assert np.bincount(train.labels).tolist() == [15, 7, 1]  # and none is left without a test
    assert not set(train.ids) & set(test.ids)


def test_a_small_class_has_an_image_on_each_side(plain):
    for fraction in (0.01, 0.99):
        train, test = load(dataset=folder_name(plain), test_fraction=fraction)
        assert set(train.labels.tolist()) == set(test.labels.tolist()) == {0, 1, 2}


def test_the_split_of_a_folder_follows_the_split_seed_only(plain):
    ids = load(dataset=folder_name(plain))[1].ids.tolist()
    assert load(dataset=folder_name(plain), seed=3)[1].ids.tolist() == ids
    assert load(dataset=folder_name(plain), split_seed=3)[1].ids.tolist() != ids


def test_a_class_of_one_image_cannot_be_split(plain):
    write_images(plain / "d", 1)
    assert fails(dataset=folder_name(plain)) == (
        f"{plain / 'd'} has a single image. "
        "Add more: a split needs one for training and one for testing."
    )


def test_other_files_hidden_names_and_upper_case_suffixes_are_no_trouble(both):
    (both / "train" / "cat" / "notes.txt").write_text("x")
    (both / "train" / "cat" / ".hidden.png").write_text("x")
    (both / "train" / ".cache").mkdir()
    (both / "train" / "README.md").write_text("x")
    (both / "train" / "cat" / "000.png").rename(both / "train" / "cat" / "000.PNG")
    assert load(dataset=folder_name(both))[0].ids[0] == "train/cat/000.PNG"


def test_folders_inside_a_class_are_searched(both):
    write_images(both / "train" / "cat" / "old", 1)
    assert "train/cat/old/000.png" in load(dataset=folder_name(both))[0].ids


def test_names_that_are_not_ascii_are_kept(both):
    (both / "train" / "cat" / "000.png").rename(both / "train" / "cat" / "é 猫.png")
    assert "train/cat/é 猫.png" in load(dataset=folder_name(both))[0].ids


def test_a_folder_of_grey_images_keeps_one_channel(tmp_path):
    write_images(tmp_path / "a", 5, mode="L")
    assert [s.in_channels for s in load(dataset=folder_name(tmp_path))] == [1, 1]


def test_one_colour_image_makes_both_splits_rgb(both):
    for path in both.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(both / "test" / "cat" / "000.png")
    train, test = load(dataset=folder_name(both))
    assert (train.in_channels, test.in_channels) == (3, 3)
    assert test.images[0, :, 0, 0].tolist() == [1, 2, 3]
    assert test.images[1, :, 0, 0].tolist() == [1, 1, 1]
    assert train.images[1].eq(1).all()


def test_different_sizes_are_refused_with_a_size_that_works(both):
    path = both / "train" / "frog" / "003.png"
    Image.new("RGB", (12, 9)).save(path)
    assert fails(dataset=folder_name(both)) == (
        f"images must have one size: {path} is 12x9 and {both / 'train/cat/000.png'} is 8x8. "
        "Pass --image_size 8 to resize and crop them."
    )
    assert load(dataset=folder_name(both), image_size=8)[0].images.shape == (8, 3, 8, 8)


def test_splits_of_different_sizes_are_refused(both):
    for path in (both / "test").rglob("*.png"):
        Image.new("RGB", (10, 10)).save(path)
    assert fails(dataset=folder_name(both)) == (
        f"{both.name}: training images are 8x8 and test images 10x10. "
        "Pass --image_size 8 to resize and crop them."
    )


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_a_damaged_image_is_named(both, content):
    path = both / "train" / "cat" / "002.png"
    path.write_bytes(path.read_bytes()[:-30] if content is None else content)
    text = fails(dataset=folder_name(both))
    assert text.startswith(f"{path} can't be decoded (")
    assert text.endswith("). Replace or remove it.")


def test_a_missing_folder_is_named(tmp_path):
    assert fails(dataset=folder_name(tmp_path / "no")) == (
        f"{tmp_path / 'no'} is not a folder. Lay images out as PATH/CLASS/*.png or as "
        "PATH/train/CLASS/*.png and PATH/test/CLASS/*.png."
    )


def test_a_folder_without_class_folders_is_named(tmp_path):
    assert fails(dataset=folder_name(tmp_path)).startswith(f"{tmp_path} has no class folders. ")


def test_a_class_without_images_is_named(both):
    (both / "test" / "dog").mkdir()
    assert fails(dataset=folder_name(both)) == (
        f"{both / 'test/dog'} has no images (.png, .jpg, .jpeg, .bmp, .webp). Fill or remove it."
    )


def test_classes_that_only_one_split_has_are_named(both):
    write_images(both / "test" / "dog", 1)
    write_images(both / "train" / "ant", 1)
    assert fails(dataset=folder_name(both)) == (
        f"{both}: both splits must have the same classes, but only one has ant, dog. "
        "Add or remove these folders."
    )


def test_the_home_folder_may_be_written_as_a_tilde(both, monkeypatch):
    monkeypatch.setenv("HOME", str(both.parent))
    assert load(dataset=f"folder:~/{both.name}")[0].root == str(both)


@pytest.fixture(scope="module")
def cifar_folder(tmp_path_factory):
    if not CIFAR_TAR.exists():
        pytest.skip("shared/data/cifar10-test.tar is not beside the repository")
    root = tmp_path_factory.mktemp("cifar")
    with open_tar(CIFAR_TAR) as tar:
        members = [m for m in tar.getmembers() if m.name.endswith(".jpg")][:200]
        tar.extractall(root, members=members)
    return root / "cifar10" / "test"


def test_real_cifar10_jpegs_load_with_their_ten_classes(cifar_folder):
    train, test = load(dataset=folder_name(cifar_folder))
    assert (len(train), len(test)) == (160, 40)
    assert train.class_names == tuple(CIFAR_CLASSES)
    assert train.images.shape[1:] == (3, 32, 32)


def test_real_cifar10_pixels_are_those_of_the_file(cifar_folder):
    split = load(dataset=folder_name(cifar_folder))[1]
    with Image.open(Path(split.root) / split.paths[7]) as image:
        np.testing.assert_array_equal(split.images[7].permute(1, 2, 0), np.asarray(image))
    assert split.paths[7].split("/")[0] == split.class_names[split.labels[7]]
