"""Ultralytics under autologging."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
import yolo_training as yolo
from autologging import AutologTests, FailingError

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
