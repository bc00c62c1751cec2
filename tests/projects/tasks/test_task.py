"""What a task inherits that defines no more than it must."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from actiontrack.recorder import Recorder
from projects.loop import PROBE_BATCH
from projects.tasks.autoencoder import Autoencoding
from projects.tasks.classification import Classification
from projects.tasks.detection import Detection, ObjectRecorder
from projects.tasks.segmentation import Segmentation
from projects.tasks.task import Task


class Least(Task):
    """Defines only what is abstract."""

    def load(self, _):
        return None, None

    def build(self, *_):
        return nn.Identity()

    def loss(self, outputs, _):
        return outputs.mean()

    def record(self, recorder, ids, outputs, _):
        recorder.update(ids, outputs)


@pytest.mark.parametrize("name", ["load", "build", "loss", "record"])
def test_a_task_must_say_what_it_reads_builds_minimises_and_records(name):
    body = {key: value for key, value in vars(Least).items() if key != name}
    with pytest.raises(TypeError, match=name):
        type("Lacking", (Task,), body)()


def test_no_labels_and_no_options_are_given_unless_a_task_has_some():
    assert Least().samples(None) == {}
    assert Least().recorder_options(None, None) == {}


def test_batches_stay_as_they_are_unless_a_task_augments():
    images, targets = torch.rand(2, 3, 4, 4), torch.tensor([0, 1])
    assert Least().augment(images, targets, torch.Generator()) == (images, targets)


def test_an_evaluation_pass_measures_nothing_unless_a_task_does():
    task = Least()
    task.start_pass("test-probe", last=True)
    assert task.metrics("test-probe") == {}


def test_a_model_is_described_by_its_name_and_classes():
    described = Least().describe_model(
        SimpleNamespace(model="m"), SimpleNamespace(class_names=("a", "b"))
    )
    assert described == {"name": "m", "class_names": ("a", "b")}


def test_nothing_more_is_logged_unless_a_task_does():
    assert Least().log_extras(None, None, None) is None


@pytest.mark.parametrize(
    ("task", "batch", "recorder"),
    [
        (Least, PROBE_BATCH, Recorder),
        (Classification, PROBE_BATCH, Recorder),
        (Autoencoding, PROBE_BATCH, Recorder),
        (Segmentation, 16, Recorder),
        (Detection, 32, ObjectRecorder),
    ],
)
def test_large_images_are_evaluated_in_small_batches_and_objects_have_a_recorder(
    task, batch, recorder
):
    assert task.probe_batch == batch
    assert task.recorder_class is recorder


@pytest.mark.parametrize("task", [Segmentation, Detection, Autoencoding])
def test_a_task_that_keeps_state_is_an_object_for_each_training(task):
    first, second = task(), task()
    assert vars(first).keys() == vars(second).keys()
    assert not [
        name
        for name, value in vars(first).items()
        if isinstance(value, dict) and value is vars(second)[name]
    ]
