"""Facts about projects/datasets; files are written here in their exact on-disk formats."""

import tarfile
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits

from actiontrack.errors import DataError, ParameterError
from projects.datasets import ImageSplit, load_dataset
from projects.datasets.decode import decode_files, decode_image
from projects.datasets.sizing import resize_and_crop
from projects.datasets.stratify import allocate, stratified_subset
from projects.params import TrainParams, validate

CIFAR_TAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10-test.tar"
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


def rng():
    return np.random.default_rng(0)


# --- ImageSplit ---


def make_split(**changes):
    parts = {
        "images": torch.zeros(4, 3, 8, 8, dtype=torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1]),
        "ids": np.arange(4),
        "class_names": ("a", "b"),
        "name": "made",
        "split": "test",
    }
    return ImageSplit(**(parts | changes))


def test_a_split_tells_its_length_channels_size_and_classes():
    split = make_split(images=torch.zeros(4, 1, 8, 12, dtype=torch.uint8))
    assert (len(split), split.in_channels, split.image_size) == (4, 1, (8, 12))
    assert split.n_classes == 2


def test_samples_are_taken_with_all_that_belongs_to_them_in_the_order_asked_for():
    soft = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
    images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 1, 8, 8)
    split = make_split(
        images=images, soft_labels=soft, paths=("p0", "p1", "p2", "p3"),
        true_labels=torch.tensor([1, 1, 0, 0]),
    )  # fmt: skip
    taken = split.take(np.array([3, 0]))
    assert taken.images[:, 0, 0, 0].tolist() == [3, 0]
    assert (taken.labels.tolist(), taken.ids.tolist()) == ([1, 0], [3, 0])
    assert (taken.paths, taken.true_labels.tolist()) == (("p3", "p0"), [0, 1])
    assert torch.equal(taken.soft_labels, soft[[3, 0]])


def test_samples_taken_of_a_bare_split_are_bare():
    taken = make_split().take(np.array([1]))
    assert (taken.paths, taken.true_labels, taken.soft_labels) == (None, None, None)


def test_a_split_cannot_be_changed():
    with pytest.raises(FrozenInstanceError):
        make_split().name = "other"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"images": torch.zeros(4, 3, 8, 8)},
            "images must be uint8 (N, C, H, W), got torch.float32 (4, 3, 8, 8)",
        ),
        (
            {"images": torch.zeros(4, 8, 8, dtype=torch.uint8)},
            "images must be uint8 (N, C, H, W), got torch.uint8 (4, 8, 8)",
        ),
        (
            {"images": torch.zeros(4, 2, 8, 8, dtype=torch.uint8)},
            "images must have N >= 1 and C = 1 or 3, got (4, 2, 8, 8)",
        ),
        (
            {"images": torch.zeros(0, 3, 8, 8, dtype=torch.uint8)},
            "images must have N >= 1 and C = 1 or 3, got (0, 3, 8, 8)",
        ),
        ({"labels": torch.tensor([0])}, "one of labels per image needed, got 1 for 4 images"),
        ({"ids": np.arange(3)}, "one of ids per image needed, got 3 for 4 images"),
        ({"paths": ("x",)}, "one of paths per image needed, got 1 for 4 images"),
        ({"ids": np.array([1, 1, 2, 3])}, "ids must be unique"),
        (
            {"labels": torch.tensor([0, 1, 2, 1])},
            "labels must be int64 0..1, got torch.int64 0..2",
        ),
        (
            {"true_labels": torch.tensor([0, 1, -1, 1])},
            "labels must be int64 0..1, got torch.int64 -1..1",
        ),
        (
            {"labels": torch.tensor([0, 1, 0, 1], dtype=torch.int32)},
            "labels must be int64 0..1, got torch.int32 0..1",
        ),
        (
            {"soft_labels": torch.full((3, 2), 0.5)},
            "one of soft_labels per image needed, got 3 for 4 images",
        ),
        (
            {"soft_labels": torch.full((4, 3), 1 / 3)},
            "soft_labels must be float32 (N, 2), got torch.float32 (4, 3)",
        ),
        (
            {"soft_labels": torch.full((4, 2), 0.5, dtype=torch.float64)},
            "soft_labels must be float32 (N, 2), got torch.float64 (4, 2)",
        ),
        (
            {"soft_labels": torch.full((4, 2), 0.6)},
            "soft_labels must be >= 0 and sum to 1 for each image",
        ),
        (
            {"soft_labels": torch.tensor([[1.5, -0.5]] * 4)},
            "soft_labels must be >= 0 and sum to 1 for each image",
        ),
        (
            {"soft_labels": torch.tensor([[0.9, 0.1]] * 4)},
            "labels must be the most likely of the soft_labels",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(changes, expected):
    with pytest.raises(DataError) as caught:
        make_split(**changes)
    assert str(caught.value) == f"made (test): {expected}"


def test_the_targets_are_the_labels():
    split = make_split()
    assert split.targets is split.labels


def test_the_targets_are_the_soft_labels_where_there_are_some():
    soft = torch.tensor([[0.6, 0.4], [0.1, 0.9], [1.0, 0.0], [0.0, 1.0]])
    assert make_split(soft_labels=soft).targets is soft


# --- choosing by class ---


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=8).filter(sum),
    part=st.floats(0, 1),
)
def test_shares_sum_to_the_total_and_are_within_1_of_their_proportion(counts, part):
    sizes = np.array(counts, dtype=np.int64)
    total = round(part * sum(counts))
    shares = allocate(sizes, total)
    assert shares.sum() == total
    assert (np.abs(shares - sizes * total / sizes.sum()) < 1).all()
    assert (shares <= sizes).all()


def test_the_largest_remainders_get_what_is_left():
    # 10 of (5, 3, 3): exact shares 4.55, 2.73, 2.73
    assert allocate(np.array([5, 3, 3]), 10).tolist() == [4, 3, 3]


def subset(total, *, seed=0, ids=None):
    ids = np.arange(300) if ids is None else ids
    return stratified_subset(ids, ids % 3, n_classes=3, total=total, seed=seed)


def test_a_smaller_subset_lies_inside_a_larger_one():
    assert set(subset(30)) < set(subset(60))


def test_a_subset_is_in_the_order_of_the_whole():
    assert (np.diff(subset(60)) > 0).all()


def test_a_subset_depends_on_the_ids_and_not_on_their_order():
    ids = np.arange(300)
    shuffled = rng().permutation(ids)
    assert set(shuffled[subset(30, ids=shuffled)]) == set(ids[subset(30)])


def test_another_seed_chooses_another_subset():
    assert set(subset(30, seed=1)) != set(subset(30))


def test_a_subset_is_spread_over_the_whole():
    assert np.histogram(subset(90), bins=3, range=(0, 300))[0].min() > 15


# --- digits ---


def test_digits_are_1437_training_and_360_test_images_of_8x8():
    train, test = load()
    assert train.images.shape == (1437, 1, 8, 8)
    assert test.images.shape == (360, 1, 8, 8)
    assert train.class_names == tuple("0123456789")


def test_digits_ids_are_the_index_into_load_digits():
    bunch = load_digits()
    for split in load():
        assert split.labels.tolist() == bunch.target[split.ids].tolist()
        scaled = bunch.images[split.ids] / 16 * 255
        assert np.abs(split.images[:, 0].numpy() - scaled).max() <= 0.5


def test_digits_are_in_exactly_one_of_the_splits():
    train, test = load()
    assert sorted([*train.ids, *test.ids]) == list(range(1797))


def test_a_fifth_of_each_digit_is_for_testing():
    counts = np.bincount(load_digits().target)
    assert np.abs(np.bincount(load()[1].labels) - counts * 360 / 1797).max() < 1


@pytest.mark.parametrize("changed", [{"seed": 5}, {"split_seed": 5}])
def test_the_split_of_the_digits_depends_on_no_seed(changed):
    np.testing.assert_array_equal(load()[1].ids, load(**changed)[1].ids)


def test_the_split_of_the_digits_stays_what_it_was():
    assert load()[1].ids[:8].tolist() == [0, 1, 11, 18, 22, 25, 34, 38]


# --- what holds for every dataset ---


def test_a_subset_has_the_size_and_the_classes_in_proportion():
    train, test = load(subset=100, test_subset=20)
    assert (len(train), len(test)) == (100, 20)
    assert set(np.bincount(train.labels)) <= {9, 10, 11}
    assert np.bincount(test.labels).tolist() == [2] * 10


def test_a_subset_of_one_image_has_one_image():
    assert len(load(subset=1)[0]) == 1


def test_a_subset_depends_on_the_split_seed_and_not_on_the_seed():
    ids = load(subset=50)[0].ids
    np.testing.assert_array_equal(load(subset=50, seed=9)[0].ids, ids)
    assert set(load(subset=50, split_seed=9)[0].ids) != set(ids)


@pytest.mark.parametrize(("argument", "size"), [("subset", 1437), ("test_subset", 360)])
def test_a_subset_larger_than_its_split_is_refused(argument, size):
    with pytest.raises(ParameterError) as caught:
        load(**{argument: size + 1})
    split = "train" if argument == "subset" else "test"
    assert str(caught.value) == (
        f"{argument}: must be at most {size}, the images of the {split} split, got {size + 1}. "
        f"Pass --{argument} 0 for all of them."
    )


def test_image_size_applies_to_every_dataset():
    train, test = load(image_size=12, subset=3, test_subset=2)
    assert (train.images.shape, test.images.shape) == ((3, 1, 12, 12), (2, 1, 12, 12))


def test_noise_changes_training_labels_only_and_keeps_the_truth():
    clean, (train, test) = load(), load(label_noise=0.1)
    assert (train.labels != train.true_labels).sum() == 144  # round(143.7)
    assert torch.equal(train.true_labels, clean[0].labels)
    assert torch.equal(test.labels, clean[1].labels)
    assert test.true_labels is None


def test_without_noise_there_is_no_second_truth():
    assert load()[0].true_labels is None


def test_the_noise_follows_its_own_seed():
    fixed = load(label_noise=0.1, noise_seed=3)[0].labels
    assert torch.equal(load(label_noise=0.1, noise_seed=3, seed=8)[0].labels, fixed)
    assert not torch.equal(load(label_noise=0.1, noise_seed=4)[0].labels, fixed)


# --- resizing ---


def test_a_resized_image_is_the_centre_of_the_longer_side():
    image = torch.zeros(1, 8, 24, dtype=torch.uint8)
    image[:, :, 8:16] = 200
    assert resize_and_crop(image, 8).eq(200).all()


def test_resizing_down_averages_instead_of_dropping_pixels():
    stripes = torch.tensor([0, 200], dtype=torch.uint8).repeat(16).expand(1, 32, 32).contiguous()
    assert resize_and_crop(stripes, 8)[:, :, 1:-1].float().sub(100).abs().max() < 10


def test_images_that_have_the_size_come_back_as_they_are():
    image = torch.zeros(1, 8, 8, dtype=torch.uint8)
    assert resize_and_crop(image, 8) is image
    assert resize_and_crop(image, 0) is image


# --- folders ---


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
    kept = load(dataset=folder_name(both), subset=2, test_subset=2)[0].ids
    for path in (both / "train").rglob("*.png"):
        if path.relative_to(both).as_posix() not in kept:
            path.write_bytes(b"broken")
    assert load(dataset=folder_name(both), subset=2)[0].ids.tolist() == kept.tolist()


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


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg", ".bmp", ".webp"])
def test_every_format_is_decoded(tmp_path, suffix):
    write_images(tmp_path, 8, suffix=suffix)
    image = decode_image(tmp_path / f"007{suffix}")
    assert image.shape == (3, 8, 8)
    assert (image.float() - 7).abs().max() <= 2  # some are lossy


@pytest.mark.parametrize(
    ("mode", "channels"), [("L", 1), ("1", 1), ("P", 3), ("RGBA", 3), ("LA", 3), ("RGB", 3)]
)
def test_grey_stays_grey_and_every_other_mode_becomes_rgb(tmp_path, mode, channels):
    image = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    image.save(tmp_path / "x.png")
    decoded = decode_image(tmp_path / "x.png")
    assert decoded.shape == (channels, 4, 4)
    assert decoded.eq(255).all()


@pytest.mark.parametrize("mode", ["P", "RGB", "L"])
def test_a_transparent_colour_is_dropped(tmp_path, mode):
    image = Image.new("RGB", (4, 4), (255, 255, 255)).convert(mode)
    transparent = {"P": b"\x00" * 256, "RGB": (255, 255, 255), "L": 255}[mode]
    image.save(tmp_path / "x.png", transparency=transparent)
    assert decode_image(tmp_path / "x.png").eq(255).all()


def test_a_cmyk_jpeg_becomes_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (0, 0, 0, 0)).save(tmp_path / "x.jpg")
    assert decode_image(tmp_path / "x.jpg").eq(255).all()


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


def test_a_truncated_jpeg_is_named(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(rng().integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(DataError, match=r"x\.jpg can't be decoded \(image file is truncated"):
        decode_image(path)


def test_an_image_of_16_bits_is_refused_by_name(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.zeros((8, 8), dtype=np.uint16)).save(path)
    with pytest.raises(DataError) as caught:
        decode_image(path)
    assert str(caught.value) == f"{path} has more than 8 bits a channel. Convert it to 8 bits."


@pytest.mark.parametrize("size", [8, 100])
def test_many_files_keep_their_order_whether_small_or_large(tmp_path, size):
    write_images(tmp_path, 150, size=(size, size))  # more than two tasks
    files = sorted(tmp_path.glob("*.png"))
    images = decode_files(files, image_size=0, title="test")
    assert images[:, 0, 0, 0].tolist() == list(range(150))


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
    with tarfile.open(CIFAR_TAR) as tar:
        wanted = [m for m in tar.getmembers() if m.name.endswith(".jpg")][:200]
        tar.extractall(root, members=wanted, filter="data")
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


def test_a_split_with_more_channels_has_the_grey_in_each():
    grey = make_split(images=torch.full((4, 1, 8, 8), 5, dtype=torch.uint8))
    colour = grey.with_channels(3)
    assert colour.images.shape == (4, 3, 8, 8)
    assert colour.images.eq(5).all()
    assert replace(colour).with_channels(3).images is colour.images
