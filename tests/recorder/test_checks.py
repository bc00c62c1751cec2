from pathlib import Path

import numpy as np
import pytest
from helpers import message
from recording import LABELS, LOGITS, N

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder.checks import (
    check_class_indices,
    check_class_names,
    check_source,
    metric_values,
    warn_of_missing_folder,
)
from actiontrack.recorder.epoch import EpochRows
from actiontrack.recorder.options import Options


def rows(labels):
    return EpochRows(np.arange(N), {"label": np.asarray(labels)}, 0, np.array([], int))


def test_labels_that_are_no_class_indices_are_refused():
    text = (
        "labels: must be class indices, got float64. "
        "Pass the losses alone if the targets are not classes."
    )
    with pytest.raises(RecordingError, match=message(text)):
        check_class_indices(rows(LABELS / 2), None, ())


def test_labels_that_are_whole_numbers_are_class_indices():
    found = check_class_indices(rows(LABELS.astype(np.float32)), None, ())
    assert found.dtype == np.int64
    assert found.tolist() == LABELS.tolist()


@pytest.mark.parametrize("label", [-100, 3])
def test_a_label_that_is_no_class_of_the_logits_is_refused(label):
    labels = LABELS.copy()
    labels[5] = label
    text = (
        f"labels: 1 samples have a label outside 0 to 2, the first is 5: {label}. "
        "Leave out what the loss ignores."
    )
    with pytest.raises(RecordingError, match=message(text)):
        check_class_indices(rows(labels), 3, ())


# Class names


def test_class_names_that_repeat_are_refused():
    text = (
        "class_names: must differ from each other, got ['crane']. "
        "Give each class a name of its own."
    )
    with pytest.raises(ParameterError, match=message(text)):
        check_class_names(["crane", "dog", "crane"])


def test_fewer_class_names_than_classes_are_refused_with_the_first_batch(recorder):
    text = (
        "class_names: must name all 3 classes of the outputs, got '2 names'. "
        "Pass one name per class, in the order of the class indices."
    )
    with pytest.raises(ParameterError, match=message(text)):
        recorder(class_names=("a", "b")).update(np.arange(N), logits=LOGITS[0], labels=LABELS)


def test_a_label_without_a_name_is_refused():
    text = "labels: 3 samples have a label outside 0 to 1, the first is 2: 2. Name every class."
    with pytest.raises(RecordingError, match=message(text)):
        check_class_indices(rows(LABELS), None, ("a", "b"))


# Options


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mode": "train"}, "mode: must be one of probe, inline, got 'train'."),
        ({"delta_kind": "h"}, "delta_kind: must be one of epoch, batch, wall_time, got 'h'."),
        ({"duplicates": "last"}, "duplicates: must be one of error, first, got 'last'."),
    ],
)
def test_an_option_that_is_no_choice_is_refused(recorder, options, text):
    with pytest.raises(ParameterError, match=message(f"{text} Choose one of these.")):
        recorder(**options)


def test_the_first_epoch_is_0_or_1():
    with pytest.raises(ParameterError, match=r"^first_epoch: must be 0 or 1, got 2\. Pass 0 if "):
        Options(first_epoch=2)


def test_a_split_that_is_no_plain_name_is_refused(recorder):
    text = (
        "split: must be 1 to 64 letters, digits, dots or underscores, starting with a letter or "
        "digit, got '../x'. Choose a plain name such as 'test'."
    )
    with pytest.raises(ParameterError, match=message(text)):
        recorder("../x")


def test_a_source_that_json_cannot_hold_is_refused():
    text = (
        "source: must be plain text, numbers and lists, got {'root': PosixPath('/data')}. "
        "Convert paths with str."
    )
    with pytest.raises(ParameterError, match=message(text)):
        check_source({"root": Path("/data")})


def test_a_source_folder_that_is_not_there_is_told(tmp_path, caplog):
    source = {"kind": "folder", "root": str(tmp_path / "data")}
    warn_of_missing_folder(source)
    text = (
        f"source: there is no folder {tmp_path / 'data'} on this machine. Images of the record are "
        "read from there: correct root, or put the images there before you look at them."
    )
    assert caplog.messages == [text]
    (tmp_path / "data").mkdir()
    warn_of_missing_folder(source)
    assert len(caplog.messages) == 1


# Metrics


@pytest.mark.parametrize("name", ["a#b", "", "x" * 251, 3])
def test_a_name_that_the_server_refuses_is_refused_at_once(name):
    with pytest.raises(ParameterError, match=r"^metrics: must have names of letters, digits"):
        metric_values({name: 1.0})


@pytest.mark.parametrize("value", ["high", [1, 2], None])
def test_a_metric_that_is_no_number_is_refused(value):
    with pytest.raises(ParameterError, match=r"^metrics: must be numbers, one for each name; lr "):
        metric_values({"lr": value})


def test_numbers_of_any_kind_are_metrics():
    assert metric_values({"lr": np.float32(0.5), "test/n": 3}) == {"lr": 0.5, "test/n": 3.0}
