"""What is refused, what is warned about, MLflow's runs, and trainings of several processes."""

import json
from types import SimpleNamespace

import cloudpickle
import mlflow
import numpy as np
import pytest
import yolo_training as yolo
from helpers import message
from ultralytics.cfg import get_cfg

from actiontrack.errors import RecordingError
from actiontrack.recorder.ultralytics import ActionTrackCallback
from actiontrack.recorder.ultralytics_check import (
    check_training,
    first_unmixed,
    note_limits,
    plain_model,
    warn_of_resuming,
)

#: Whole epochs of a training by Ultralytics, in its own run and then in one of ours.
TWO_RUNS = """
import json, logging, sys, warnings
warnings.simplefilter("default")  # MLflow's autologging warns, and Ultralytics then goes without
import mlflow
from mlflow.utils.autologging_utils import autologging_is_disabled
import yolo_training as yolo
from actiontrack.recorder.ultralytics import ActionTrackCallback
data, folder, ours = sys.argv[1:]
logging.basicConfig(level=logging.WARNING)
track = ActionTrackCallback(objects=False)
yolo.train("yolo11n.yaml", data, folder, track, epochs=1)
outcome = {"first": track.recorder.run_id, "left": mlflow.active_run() is not None}
mlflow.set_experiment(ours)
mlflow.autolog(disable=True)
with mlflow.start_run() as run:
    track = ActionTrackCallback(objects=False)
    yolo.train("yolo11n.yaml", data, folder, track, epochs=1)
    outcome |= {"second": track.recorder.run_id, "ours": run.info.run_id}
    outcome["open"] = mlflow.active_run() is not None
outcome["autologs"] = not autologging_is_disabled("sklearn")
print("outcome", json.dumps(outcome))
"""

#: Ultralytics' own loop in two processes. It knows GPUs only, so what asks for them is changed.
TWO_PROCESSES = """
import json, sys, warnings
warnings.simplefilter("default")
import torch.distributed as dist
from torch import nn
import yolo_training as yolo
from ultralytics import YOLO
from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from actiontrack.recorder.ultralytics import ActionTrackCallback
from actiontrack.store import Store

data, folder, uri, run_id, task = sys.argv[1:]
base = DetectionTrainer if task == "detect" else ClassificationTrainer

class WithoutDevices(nn.parallel.DistributedDataParallel):
    def __init__(self, module, device_ids, **options):
        super().__init__(module, **options)

class OnProcessors(base):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.world_size = 2

    def _setup_ddp(self):
        dist.init_process_group("gloo")

    def final_eval(self):
        pass

nn.parallel.DistributedDataParallel = WithoutDevices
model = {"detect": "yolo11n.yaml", "classify": "yolo11n-cls.yaml"}[task]
yolo_model = YOLO(model)
store = Store(uri)
track = ActionTrackCallback(run_id=run_id, store=store, spool=folder + "/spool").attach(yolo_model)
state = {"epochs": 2, "imgsz": 64, "batch": 4, "workers": 0, "plots": False, "device": "cpu"}
trainer = OnProcessors(
    overrides=dict(state, data=data, model=model, task=task, project=folder, name="run"),
    _callbacks=yolo_model.callbacks,
)
try:
    trainer.train()
finally:
    dist.destroy_process_group()
print("outcome", json.dumps([track.recorder.run_id, track.recorder.closed]))
"""


@pytest.fixture
def trainer():
    """A function that makes what the checks look at of a trainer."""

    def make(epochs=10, start_epoch=0, **options):
        settings = {"task": "detect", "close_mosaic": 0, "mosaic": 0.0, "val": True} | options
        model = SimpleNamespace(init_criterion=v8ClassificationLoss)
        args = SimpleNamespace(**settings)
        return SimpleNamespace(args=args, epochs=epochs, start_epoch=start_epoch, model=model)

    return make


class v8ClassificationLoss:  # noqa: N801 - Ultralytics' name
    """Is known by its name alone: nothing of Ultralytics is imported."""


@pytest.mark.parametrize("task", ["pose", "obb", "semantic"])
def test_tasks_without_losses_of_single_images_are_refused(trainer, task):
    text = (
        f"the losses of the task '{task}' can't be told apart by image. Recorded are those of "
        "detect, segment, classify."
    )
    with pytest.raises(RecordingError, match=message(text)):
        check_training(trainer(task=task), "probe")


def test_distillations_are_refused(trainer):
    training = trainer()
    training.model.student_model = object()
    with pytest.raises(RecordingError, match=r"^the losses of a distillation can't be told apart"):
        check_training(training, "probe")


def test_models_with_a_loss_of_their_own_are_refused(trainer):
    from ultralytics.nn.tasks import RTDETRDetectionModel, SegmentationModel, WorldModel, YOLOEModel

    training = trainer()
    for kind in (RTDETRDetectionModel, WorldModel, YOLOEModel):
        training.model = kind.__new__(kind)
        with pytest.raises(RecordingError, match=f"^{kind.__name__} has a loss of its own, which"):
            check_training(training, "probe")
    training.model = SegmentationModel("yolo11n-seg.yaml", nc=2, verbose=False)
    training.model.args = get_cfg()
    check_training(training, "probe")


@pytest.mark.parametrize("name", ["mosaic", "mixup", "cutmix", "copy_paste"])
def test_each_augmentation_that_mixes_images_is_refused_by_name(trainer, name):
    with pytest.raises(RecordingError, match=f"^mode inline: with {name}=0.5 a training image is"):
        check_training(trainer(**{name: 0.5}), "inline")
    check_training(trainer(**{name: 0.5}), "probe")
    check_training(trainer(**{name: 0.5, "close_mosaic": 3}), "inline")


@pytest.mark.parametrize(
    ("options", "first"),
    [
        ({}, 0),
        ({"mosaic": 1.0}, 10),
        ({"mosaic": 1.0, "close_mosaic": 3}, 7),
        ({"mosaic": 1.0, "close_mosaic": 30}, 0),
        ({"mosaic": 1.0, "task": "classify"}, 0),
    ],
)
def test_images_are_single_after_the_mosaic_closes(trainer, options, first):
    assert first_unmixed(trainer(**options)) == first


def test_what_is_left_out_is_noted_and_said(trainer, recorder, read, caplog):
    rec = recorder("train", mode="inline")
    note_limits(trainer(mixup=0.5, close_mosaic=3), rec, "inline", validates=False)
    text = "epochs 1 to 7 mix images (mixup=0.5) and are left out"
    assert rec.notes == {"mixing": text}
    assert caplog.messages == [f"record train-inline: {text}."]


def test_a_resumed_training_says_how_its_record_goes_on(trainer, recorder, caplog):
    rec = recorder("val")
    warn_of_resuming(trainer(start_epoch=4), rec, resume=True)
    warn_of_resuming(trainer(), rec, resume=False)
    assert not caplog.messages
    warn_of_resuming(trainer(start_epoch=4), rec, resume=False)
    assert caplog.messages[0].startswith("record val-probe: this training goes on after epoch 4")


def test_a_model_is_found_below_what_wraps_it():
    model = SimpleNamespace()
    wrapped = SimpleNamespace(module=SimpleNamespace(_orig_mod=model))
    assert plain_model(wrapped) is plain_model(model) is model


def outcomes(*outputs):
    lines = [line for output in outputs for line in output.splitlines() if line[:7] == "outcome"]
    return [json.loads(line[8:]) for line in lines]


def test_mlflow_runs_of_ultralytics_and_of_the_user_are_followed(
    in_subprocess, tmp_path, store, tracking_uri, new_experiment, mlflow_client
):
    """Its name says "test_mlflow": else Ultralytics logs nothing under pytest."""
    data = yolo.make_scenes(tmp_path / "data", n_train=4, n_val=4)
    theirs, ours = (f"{new_experiment[0]} {name}" for name in ("theirs", "ours"))
    for name in (theirs, ours):
        mlflow_client.create_experiment(name, artifact_location=(tmp_path / name).as_uri())
    paths = f"{yolo.ROOT}:{yolo.FOLDER}"
    environment = {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_EXPERIMENT_NAME": theirs}
    done = in_subprocess(TWO_RUNS, data, tmp_path, ours, PYTHONPATH=paths, **environment)
    (outcome,) = outcomes(done.stdout)
    first, second = (store.get_run(outcome[name]) for name in ("first", "second"))
    assert (first.experiment, first.status) == (theirs, "FINISHED")
    assert not outcome["left"]
    assert first.records == second.records == ("val-probe",)
    assert "metrics/mAP50B" in mlflow_client.get_run(first.run_id).data.metrics
    assert store.open_record(first.run_id).manifest.complete
    assert second.run_id == outcome["ours"]
    assert second.experiment == ours
    assert outcome["open"]
    assert outcome["autologs"]
    text = (
        f"Ultralytics logs into your run of the experiment '{ours}', but has made '{theirs}' the "
        "experiment of this process's later runs and turned mlflow.autolog() on for all libraries."
    )
    assert text in done.stderr
    assert done.stderr.count("Ultralytics logs into your run") == 1


def test_callbacks_go_to_other_processes_as_one_object_without_its_recorder(run_id):
    class Model:
        def __init__(self):
            self.callbacks = {}

        def add_callback(self, event, function):
            self.callbacks[event] = function

    model, track = Model(), ActionTrackCallback(split="held out", objects=False)
    track.attach(model)
    track.recorder = lambda: None
    with mlflow.start_run(run_id=run_id):  # the processes don't see it
        state = cloudpickle.dumps(model.callbacks)
    copies = {function.__self__ for function in cloudpickle.loads(state).values()}
    (twin,) = copies
    assert twin.recorder is None
    assert twin._options == {"run_id": run_id}
    assert (twin._split, twin._has_objects, twin._has_boxes) == ("held out", False, True)


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_two_processes_make_one_record(
    in_two_processes, tmp_path, store, tracking_uri, run_id, task
):
    data = tmp_path / "data"
    data = yolo.make_scenes(data) if task == "detect" else yolo.make_folders(data, n_val=3)
    code = f"import sys; sys.path[:0] = [{str(yolo.FOLDER)!r}]\n{TWO_PROCESSES}"
    outputs = in_two_processes(code, data, tmp_path, tracking_uri, run_id, task)
    assert outcomes(*outputs) == [[run_id, True], [None, True]]
    record = store.open_record(run_id, "val-probe")
    assert record.manifest.complete
    history = record.history()
    assert history.steps.tolist() == [1, 2]
    assert history.seen.all()
    assert np.isfinite(history.losses).all()
    assert len(history.sample_ids) == (10 if task == "detect" else 9)
    if task == "detect":
        objects = store.open_record(run_id, "val_objects-probe")
        assert len(objects.history().sample_ids) == 13
        assert len(record.boxes.query("kind == 'truth'")) == 13
