"""Facts about projects/datasets/noisy_labels.py: a user's own wrong labels."""

import hashlib

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from actiontrack.errors import DataError, ParameterError
from actiontrack.record.escaping import to_csv
from projects import train as training
from projects.datasets import load_dataset
from projects.params import TrainParams, validate
from projects.run_log import lasting

EXAMPLE = "Write one line id,label and one line per wrong label, e.g. 17,3."
TARGET = load_digits().target
#: Ids of training images, and labels that are not theirs.
WRONG = {sample_id: (TARGET[sample_id] + 1) % 10 for sample_id in (2, 3, 4, 1790)}


@pytest.fixture
def write(tmp_path):
    """A function that writes the file and returns its path."""

    def go(text):
        path = tmp_path / "noisy.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return go


def rows(pairs):
    return "\n".join(["id,label", *(f"{key},{label}" for key, label in pairs.items()), ""])


def load(path, **values):
    return load_dataset(validate(TrainParams, {"noisy_labels": str(path)} | values))


def fails(path, **values):
    with pytest.raises(DataError) as caught:
        load(path, **values)
    return str(caught.value)


def test_the_labels_of_the_file_replace_those_of_the_training_images(write):
    train, test = load(write(rows(WRONG)))
    expected = [WRONG.get(sample_id, TARGET[sample_id]) for sample_id in train.ids.tolist()]
    assert train.labels.tolist() == expected
    assert train.true_labels.tolist() == TARGET[train.ids].tolist()
    assert test.true_labels is None


def test_a_row_may_repeat_the_true_label(write):
    train, _ = load(write(rows(WRONG | {5: TARGET[5]})))
    assert (train.labels != train.true_labels).sum() == 4


def test_rows_outside_the_subset_are_passed_over(write):
    labels = {
        sample_id: (TARGET[sample_id] + 1) % 10 for sample_id in load_dataset(TrainParams())[0].ids
    }
    train, _ = load(write(rows(labels)), subset=50)
    assert (train.labels != train.true_labels).sum() == 50


def test_further_columns_and_a_byte_order_mark_are_no_trouble(write):
    train, _ = load(write("\ufefflabel,score,id\n7,0.5,2\n"))
    assert train.labels[train.ids == 2].tolist() == [7]


@pytest.fixture
def folder(tmp_path):
    """Three classes whose names are numbers, but not their own indices, and one named NA."""
    root = tmp_path / "images"
    for split, n in (("train", 3), ("test", 1)):
        for name in ("1", "2", "3", "NA"):
            path = root / split / name
            path.mkdir(parents=True)
            for i in range(n):
                Image.new("RGB", (8, 8), (i, i, i)).save(path / f"{i}.png")
    return root


def test_ids_of_image_files_are_their_paths_and_labels_class_names(write, folder):
    path = write("id,label\ntrain/1/0.png,NA\ntrain/NA/2.png,2\n")
    train, _ = load(path, dataset=f"folder:{folder}")
    assert train.labels[train.ids == "train/1/0.png"].tolist() == [3]
    assert train.labels[train.ids == "train/NA/2.png"].tolist() == [1]


def test_a_label_that_our_own_tables_write_for_no_spreadsheet_to_run_is_read_as_it_was(
    write, folder
):
    for split in ("train", "test"):
        (folder / split / "3").rename(folder / split / "=3")
    text = to_csv(pd.DataFrame({"id": ["train/1/0.png"], "label": ["=3"]}))
    assert text == "id,label\ntrain/1/0.png,'=3\n"
    train, _ = load(write(text), dataset=f"folder:{folder}")
    (label,) = train.labels[train.ids == "train/1/0.png"].tolist()
    assert train.class_names[label] == "=3"


def test_labels_that_are_all_class_names_are_not_taken_for_indices(write, folder):
    train, _ = load(write("id,label\ntrain/1/0.png,2\n"), dataset=f"folder:{folder}")
    assert train.labels[train.ids == "train/1/0.png"].tolist() == [1]


def test_labels_that_are_not_all_class_names_are_indices(write, folder):
    path = write("id,label\ntrain/1/0.png,2\ntrain/2/0.png,0\n")
    train, _ = load(path, dataset=f"folder:{folder}")
    assert train.labels[train.ids == "train/1/0.png"].tolist() == [2]
    assert train.labels[train.ids == "train/2/0.png"].tolist() == [0]


def test_names_and_indices_are_not_mixed(write, folder):
    path = write("id,label\ntrain/1/0.png,NA\ntrain/2/0.png,0\n")
    assert fails(path, dataset=f"folder:{folder}") == (
        f"noisy_labels: {path} gives id train/1/0.png the label 'NA'. Labels must all be class "
        "names (1, 2, 3, NA) or all be class indices (0..3)."
    )


def test_a_missing_file_is_named(tmp_path):
    assert fails(tmp_path / "no.csv") == (
        f"noisy_labels: {tmp_path / 'no.csv'} is not a file. {EXAMPLE}"
    )


@pytest.mark.parametrize("text", ["", "id,class\n2,3\n", 'id,label\n2,"3\n'])
def test_a_file_without_its_columns_is_named(write, text):
    path = write(text)
    message = fails(path)
    assert message.startswith(
        f"noisy_labels: {path} must be a CSV file with the columns id and label ("
    )
    assert message.endswith(f"). {EXAMPLE}")


def test_a_file_that_is_no_text_is_named(tmp_path):
    path = tmp_path / "noisy.csv"
    path.write_bytes(b"\x89PNG\r\n\xff\xfe")
    assert fails(path).startswith(f"noisy_labels: {path} must be a CSV file with the columns")


def test_a_file_without_rows_is_named(write):
    path = write("id,label\n")
    assert fails(path) == f"noisy_labels: {path} has no rows. {EXAMPLE}"


def test_an_id_that_comes_twice_is_named(write):
    path = write("id,label\n2,3\n3,4\n2,5\n")
    assert fails(path) == f"noisy_labels: {path} has the id 2 twice. Keep one of them."


@pytest.mark.parametrize("unknown", [1797, 0, "2.0", "train/2.png"])  # 0 is a test image
def test_an_unknown_id_is_named(write, unknown):
    path = write(f"id,label\n2,3\n{unknown},4\n")
    assert fails(path) == (
        f"noisy_labels: {path} has 1 ids that no training image has, the first is '{unknown}'. "
        "Ids are those of the record, such as '2'."
    )


@pytest.mark.parametrize("label", ["10", "-1", "seven", ""])
def test_an_unknown_class_is_named(write, label):
    path = write(f"id,label\n2,3\n3,{label}\n")
    assert fails(path) == (
        f"noisy_labels: {path} gives id 3 the label '{label}'. Labels must all be class names "
        "(0, 1, 2, 3, 4, 5, 6, 7, 8, 9) or all be class indices (0..9)."
    )


def test_a_file_that_changes_nothing_is_refused(write):
    path = write(rows({2: TARGET[2], 3: TARGET[3]}))
    assert fails(path) == (
        f"noisy_labels: {path} changes the label of none of the 1437 training images. "
        "Leave it out, or give other labels."
    )


def test_a_file_that_changes_nothing_in_the_subset_is_refused(write):
    outside = np.setdiff1d(load_dataset(TrainParams())[0].ids, load_dataset(small())[0].ids)[0]
    path = write(rows({outside: (TARGET[outside] + 1) % 10}))
    assert "changes the label of none of the 60 training images" in fails(path, subset=60)


def small(**values):
    return validate(TrainParams, {"subset": 60} | values)


def test_a_file_and_random_noise_exclude_each_other(write):
    path = write(rows(WRONG))
    with pytest.raises(ParameterError) as caught:
        load(path, label_noise=0.1)
    assert str(caught.value) == (
        f"noisy_labels: must be empty with label_noise 0.1, got {str(path)!r}. Pass one of the two."
    )


def test_the_lasting_parameters_hold_the_digest_of_the_files_content(write):
    path = write(rows(WRONG))
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    params = validate(TrainParams, {"noisy_labels": str(path)})
    assert lasting(params)["noisy_labels_sha256"] == expected
    write(rows(WRONG | {5: 0}))
    assert lasting(params)["noisy_labels_sha256"] != expected


def test_without_a_file_there_is_no_digest():
    assert "noisy_labels_sha256" not in lasting(TrainParams())


def test_a_run_keeps_both_labels_and_the_digest(write, store, experiment):
    mlflow.set_experiment(experiment)
    path = write(rows(WRONG))
    quick = {"model": "cnn3", "epochs": 1, "test_subset": 20, "device": "cpu", "report": False}
    quick |= {"batch_size": 500, "threads": 1}
    params = validate(TrainParams, quick | {"noisy_labels": str(path), "record": "train"})
    run, _ = training.train(params, store)
    run = store.get_run(run.run_id)
    samples = store.open_record(run).samples
    wrong = samples.labels != samples.true_labels
    assert samples.sample_ids[wrong].tolist() == list(WRONG)
    assert samples.labels[wrong].tolist() == list(WRONG.values())
    assert run.params["noisy_labels_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
