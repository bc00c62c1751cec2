"""Facts about projects/datasets/label_files.py and the order of labels without ids."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from actiontrack.errors import DataError
from projects.datasets import load_dataset
from projects.datasets.label_files import read_label_sets
from projects.params import TrainParams, validate

CLEAN = load_dataset(TrainParams())[0]
N = len(CLEAN)
#: The labels of digits with the first fifty wrong.
PEOPLE = np.where(np.arange(N) < 50, (CLEAN.labels.numpy() + 1) % 10, CLEAN.labels.numpy())
PICKLED = "would have to be unpickled, which could run any code"


def load(path, **values):
    return load_dataset(validate(TrainParams, {"noisy_labels": str(path)} | values))[0]


def fails(path, **values):
    with pytest.raises(DataError) as caught:
        load(path, **values)
    return str(caught.value)


@pytest.fixture
def npy(tmp_path):
    def write(labels, name="labels.npy"):
        np.save(tmp_path / name, labels)
        return tmp_path / name

    return write


@pytest.fixture
def pt(tmp_path):
    def write(content, name="sets.pt", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return write


class Exploit:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def pickle_alone(content, path, protocol):
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def torch_save(content, path, protocol):
    torch.save(content, path, pickle_protocol=protocol)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int64", ">i4"])
def test_an_array_has_a_label_for_each_training_image(npy, dtype):
    train = load(npy(PEOPLE.astype(dtype)))
    assert train.labels.tolist() == PEOPLE.tolist()
    assert train.true_labels.tolist() == CLEAN.labels.tolist()


def test_a_subset_has_the_labels_of_its_own_images(npy):
    train = load(npy(PEOPLE), subset=700)
    rows = np.flatnonzero(np.isin(CLEAN.ids, train.ids))
    assert train.labels.tolist() == PEOPLE[rows].tolist()


def test_labels_of_an_array_may_be_class_names(npy):
    assert load(npy(PEOPLE.astype(str))).labels.tolist() == PEOPLE.tolist()


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy, np.ndarray.tolist])
def test_a_label_set_of_a_pt_file_is_chosen_by_its_name(pt, kind, old_format):
    sets = {"clean_label": CLEAN.labels.numpy(), "people": PEOPLE}
    content = {name: kind(labels) for name, labels in sets.items()}
    path = pt(content, _use_new_zipfile_serialization=not old_format)
    assert load(f"{path}#people").labels.tolist() == PEOPLE.tolist()


def test_a_pt_file_with_a_single_set_needs_no_choice(pt):
    assert load(pt({"people": PEOPLE})).labels.tolist() == PEOPLE.tolist()
    assert load(pt(torch.from_numpy(PEOPLE), "one.pt")).labels.tolist() == PEOPLE.tolist()


def test_what_is_no_label_set_is_passed_over(pt):
    path = pt({"people": PEOPLE, "scores": np.ones(N), "author": "me", "pairs": np.ones((N, 2))})
    assert set(read_label_sets(path)) == {"people"}


WITHOUT_NUMPY = [
    torch.ones(N, dtype=torch.bfloat16), torch.ones(N, dtype=torch.int64).to_sparse(),
    torch.ones((N, 2)).to_sparse(), torch.ones(N).to("meta"), [torch.ones(N).bfloat16()],
]  # fmt: skip


@pytest.mark.parametrize("other", WITHOUT_NUMPY, ids=lambda other: type(other).__name__)
def test_tensors_that_numpy_has_nothing_for_are_no_label_sets(pt, other):
    path = pt({"people": PEOPLE, "other": other})
    assert load(path).labels.tolist() == load(f"{path}#people").labels.tolist() == PEOPLE.tolist()
    assert fails(f"{path}#other").endswith("has no label set 'other'. There are: people.")
    assert "holds no labels: they must be a list or an array" in fails(pt(other, "one.pt"))


def test_a_file_whose_name_holds_the_mark_is_that_file(npy):
    assert load(npy(PEOPLE, "of#people.npy")).labels.tolist() == PEOPLE.tolist()


def test_several_label_sets_ask_for_a_choice(pt):
    path = pt({"people": PEOPLE, "others": PEOPLE})
    assert fails(path) == (
        f"noisy_labels: {path} holds several label sets: people, others. "
        "Choose one by its name, as in sets.pt#others."
    )


def test_an_unknown_label_set_is_told_those_that_there_are(pt):
    path = pt({"people": PEOPLE})
    assert fails(f"{path}#worst") == (
        f"noisy_labels: {path} has no label set 'worst'. There are: people."
    )


def test_files_without_label_sets_take_no_choice(npy, tmp_path):
    path = npy(PEOPLE)
    assert fails(f"{path}#a").endswith("has no label set 'a'. Leave out what follows the #.")
    (tmp_path / "a.csv").write_text("id,label\n2,3\n")
    assert fails(f"{tmp_path / 'a.csv'}#a").endswith(
        "is read as a CSV file, which has no label set 'a'. Leave out what follows the #."
    )


def test_another_number_of_labels_than_images_is_refused(npy):
    path = npy(PEOPLE[:-1])
    assert fails(path, subset=100) == (
        f"noisy_labels: {path} holds {N - 1} labels for the {N} training images of digits. Give "
        "one for each, those outside the subset included, or write a CSV file of id,label for "
        "some of them."
    )


@pytest.mark.parametrize("label", [10, -1])
def test_a_label_that_is_no_class_is_named_with_its_position(npy, label):
    labels = PEOPLE.copy()
    labels[17] = label
    assert f"gives position 17 the label '{label}'. Labels must all be" in fails(npy(labels))


def test_clean_labels_that_are_not_those_of_the_images_are_refused(pt):
    path = pt({"clean_label": np.roll(CLEAN.labels.numpy(), 1), "people": PEOPLE})
    n_other = (np.roll(CLEAN.labels.numpy(), 1) != CLEAN.labels.numpy()).sum()
    assert fails(f"{path}#people") == (
        f"noisy_labels: the set clean_label of {path} differs from the labels of {n_other} of the "
        f"{N} training images: they are other images, or in another order."
    )


def test_labels_in_another_order_are_refused(npy):
    message = fails(npy(np.random.default_rng(0).permutation(PEOPLE)))
    assert "no more than by chance (10.0%): its labels may be in another order" in message


def test_labels_of_which_nine_tenths_are_wrong_by_a_rule_are_not_taken_for_another_order(npy):
    labels = np.where(np.arange(N) % 10 < 8, (CLEAN.labels.numpy() + 1) % 10, CLEAN.labels.numpy())
    assert (load(npy(labels)).labels != CLEAN.labels).float().mean() == pytest.approx(0.8, abs=0.01)


def images(root, names):
    """Images of a folder of two classes, of one grey level each."""
    for split in ("train", "test"):
        for name in names:
            path = root / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (9, 9, 9)).save(path)
    return f"folder:{root}"


def test_files_with_numbers_for_names_are_in_the_order_of_the_numbers(npy, tmp_path):
    dataset = images(tmp_path, ["b/0000.png", "a/0001.png", "b/0002.png", "a/0003.png"])
    train = load(npy([0, 0, 1, 1]), dataset=dataset)
    labels = dict(zip(train.ids.tolist(), train.labels.tolist(), strict=True))
    assert labels == {
        "train/b/0000.png": 0, "train/a/0001.png": 0, "train/b/0002.png": 1, "train/a/0003.png": 1,
    }  # fmt: skip


@pytest.mark.parametrize("last", ["a/0004.png", "a/0002.png", "a/x.png"])
def test_files_with_other_names_are_in_the_order_of_their_paths(npy, tmp_path, last):
    dataset = images(tmp_path, ["b/0000.png", "a/0001.png", "b/0002.png", last])
    train = load(npy([1, 0, 1, 1]), dataset=dataset)
    assert train.labels.tolist() == [1, 0, 1, 1]


def test_a_pt_file_that_must_be_unpickled_is_refused_and_not_run(pt, tmp_path):
    path = pt({"people": PEOPLE, "more": Exploit(tmp_path / "made")})
    assert fails(path) == (
        f"noisy_labels: {path} {PICKLED} (posix.mkdir). Save the labels by numpy.save, as CSV "
        "(id,label), or as a dictionary of arrays or tensors."
    )
    assert not (tmp_path / "made").exists()


def test_an_array_of_objects_is_refused_and_not_run(tmp_path):
    made, path = tmp_path / "made", tmp_path / "labels.npy"
    np.save(path, np.array([Exploit(made)], dtype=object), allow_pickle=True)
    assert PICKLED in fails(path)
    assert not made.exists()


@pytest.mark.parametrize("content", [np.array([3, "x"], dtype=object), np.ma.array([1, 2])])
def test_arrays_of_objects_and_other_classes_in_a_pt_file_are_refused(pt, content):
    assert PICKLED in fails(pt({"people": content}))


def test_a_plain_pickle_is_refused_and_not_run(tmp_path):
    made, path = tmp_path / "made", tmp_path / "labels.pt"
    path.write_bytes(pickle.dumps(Exploit(made)))
    assert PICKLED in fails(path)
    assert not made.exists()


@pytest.mark.parametrize("name", ["x.npy", "x.pt"])
@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04", b"\x93NUMPY\x01\x00\xff\xff{"])
def test_a_damaged_file_is_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    assert fails(path).startswith(f"noisy_labels: {path} ")


@pytest.mark.parametrize(
    "content", [b"id,label\n1,2\n", bytes(100), b"\x89PNG\r\n\x1a\n", b"\x93NUMPY\x01\x00\xff\xff{"]
)
def test_what_is_no_file_of_pytorch_is_not_said_to_need_unpickling(tmp_path, content):
    path = tmp_path / "labels.pt"
    path.write_bytes(content)
    assert fails(path) == f"noisy_labels: {path} is damaged or is no file of PyTorch."


@pytest.mark.parametrize("protocol", [0, 4, 5])
@pytest.mark.parametrize("saved", [pickle_alone, torch_save], ids=["alone", "by PyTorch"])
def test_what_needs_unpickling_is_said_to_by_every_protocol(tmp_path, saved, protocol):
    path = tmp_path / "labels.pt"
    saved(Exploit(tmp_path / "made"), path, protocol)
    assert PICKLED in fails(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", ["no.npy", "no.pt"])
def test_a_missing_file_is_named(tmp_path, name):
    assert fails(tmp_path / name) == f"noisy_labels: {tmp_path / name} is not a file."


@pytest.mark.parametrize(
    "labels", [np.ones(N), np.ones((N, 1), int), np.array(3), np.empty(0, int)]
)
def test_numbers_that_are_no_labels_are_refused(npy, labels):
    assert "holds no labels: they must be a list or an array" in fails(npy(labels))


def test_cifar10n_as_it_is_published_is_read_without_unpickling():
    path = Path(__file__).parents[4] / "shared" / "data" / "noise" / "cifar10n.pt"
    if not path.exists():
        pytest.skip("needs CIFAR-10N")
    sets = read_label_sets(path)
    assert set(sets) == {"clean_label", "worse_label", "random_label1"}
    wrong = (sets["worse_label"] != sets["clean_label"]).mean()
    assert wrong == pytest.approx(0.402, abs=0.001)
