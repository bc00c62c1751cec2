"""Ultralytics under autologging."""

from pathlib import Path
from typing import ClassVar

import mlflow
import pytest
import torch
import yolo_training as yolo
from autologging import AutologTests, FailingError, autologged, warnings_of

from actiontrack.errors import RecordingError
from actiontrack.recorder import ultralytics, ultralytics_data, ultralytics_loss
from actiontrack.recorder.ultralytics import ActionTrackCallback
from actiontrack.store import Store
from actiontrack.testing import AdapterTraining

MODEL = "yolo11n.yaml"

# Ultralytics asks Ray, where that is installed.
pytestmark = pytest.mark.filterwarnings("ignore:.get_trial_id. is meant to only be called")


class TestUltralytics(AutologTests):
    framework = "ultralytics"
    options: ClassVar[dict] = {"objects": False}

    def make_store(self, folder):
        del folder
        return Store()

    def train_as_always(self, *, fails=False):
        folder, losses, ids = Path(type(self)._folder.name), [], []
        if not (data := folder / "scenes" / "scenes.yaml").exists():
            (folder / "scenes").mkdir()
            yolo.make_scenes(folder / "scenes")

        def alone(trainer):
            if trainer.epoch < trainer.epochs:
                ids[:], values = losses_alone(trainer)
                losses.append(values)

        def fail(trainer):
            if fails and trainer.epoch == 1:
                raise FailingError

        callbacks = {"on_fit_epoch_end": alone, "on_train_epoch_end": fail}
        trainer = yolo.train(MODEL, data, folder, callbacks=callbacks)
        weights = [*trainer.model.state_dict().values(), *trainer.ema.ema.state_dict().values()]
        names = [file.partition("scenes/")[2] for file in ids]
        return AdapterTraining(ids=names, losses=losses, weights=weights)


def losses_alone(trainer):
    """Files of the validation images, and what a criterion says of batches of one of them."""
    model, dataset = trainer.ema.ema, trainer.test_loader.dataset
    criterion, files, values = model.init_criterion(), [], []
    for row in range(len(dataset)):
        batch = dataset.collate_fn([dataset[row]])
        with torch.inference_mode():
            items = criterion(model(batch["img"].float() / 255), batch)[1]
        files += batch["im_file"]
        values.append(sum(float(item) for item in items.values()))
    return files, values


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return yolo.make_scenes(tmp_path_factory.mktemp("scenes"), n_train=4, n_val=4)


@pytest.fixture
def fit(scenes, tmp_path, run_id):
    """A function that trains for an epoch under autologging, in the test's run."""

    def train(*tracks, **options):
        with autologged("ultralytics"), mlflow.start_run(run_id=run_id):
            return yolo.train(MODEL, scenes, tmp_path, list(tracks), epochs=1, **options)

    return train


def test_images_and_objects_of_the_validation_are_recorded(fit, store, run_id):
    trainer = fit()
    run = store.get_run(run_id)
    assert run.records == ("val-probe", "val_objects-probe")
    assert run.tags["actiontrack.val-probe.autolog"] == "ultralytics: the validation pass"
    assert run.tags["actiontrack.val-probe.loss_check"] == "agrees"
    assert store.open_record(run_id, "val-probe").manifest.complete
    assert not hasattr(trainer.ema.ema.criterion, "listeners")


def test_a_callback_of_the_users_is_left_alone(fit, store, run_id):
    fit(ActionTrackCallback(objects=False, split="mine"))
    assert store.get_run(run_id).records == ("mine-probe",)


def test_an_error_while_losses_are_read_is_none_of_the_training(fit, caplog, monkeypatch):
    def broken(self):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(ultralytics_loss._Taps, "losses", broken)
    trainer = fit()
    assert trainer.best.exists()
    assert "this training is not recorded: broken" in warnings_of(caplog)
    assert not hasattr(trainer.ema.ema.criterion, "listeners")


def test_an_error_while_boxes_are_read_is_none_either(fit, caplog, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(ultralytics_data, "_detected", broken)
    fit()
    assert "this training is not recorded: broken" in warnings_of(caplog)


def test_a_task_that_can_not_be_told_apart_by_image_is_refused(fit, caplog, monkeypatch):
    def refused(trainer, mode):
        raise RecordingError("the losses of the task 'pose' can't be told apart by image.")

    monkeypatch.setattr(ultralytics, "check_training", refused)
    fit()
    assert "this training is not recorded: the losses of the task 'pose'" in str(
        warnings_of(caplog)
    )
