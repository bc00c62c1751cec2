"""Detection by a real YOLO model: what its own criterion and metrics say is what is recorded."""

import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yolo_training as yolo
from helpers import message

from actiontrack.errors import ParameterError, RecordingError
from actiontrack.recorder import ultralytics_data
from actiontrack.recorder.ultralytics import ActionTrackCallback
from actiontrack.store import Store
from actiontrack.testing import AdapterTests, AdapterTraining

MODEL = "yolo11n.yaml"
PARTS = ("box_loss", "cls_loss", "dfl_loss")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return yolo.make_scenes(tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def trained(scenes, tracking_uri, mlflow_client, tmp_path_factory):
    """A training with records of both splits: its trainer, metrics of each epoch, and a reader."""
    folder, metrics = tmp_path_factory.mktemp("trained"), []
    experiment = mlflow_client.create_experiment(
        folder.name, artifact_location=(folder / "artifacts").as_uri()
    )
    run_id = mlflow_client.create_run(experiment).info.run_id
    store = Store(tracking_uri)
    options = {"run_id": run_id, "store": store, "spool": folder / "spool"}
    tracks = [ActionTrackCallback(**options), ActionTrackCallback("train", **options)]
    callbacks = {"on_fit_epoch_end": lambda trainer: metrics.append(dict(trainer.metrics))}
    trainer = yolo.train(MODEL, scenes, folder, tracks, callbacks=callbacks)
    return trainer, metrics, lambda name: store.open_record(run_id, name)


@pytest.fixture
def fit(scenes, tmp_path, store, run_id, spool):
    """A function that trains and records into the test's run."""

    def run(*arguments, mode="probe", model=MODEL, callbacks=None, resume=False, **options):
        given = {"run_id": run_id, "store": store, "spool": spool, "resume": resume}
        track = ActionTrackCallback(*arguments, mode=mode, **given)
        if resume:
            options["resume"] = True
        return yolo.train(model, scenes, tmp_path, track, callbacks=callbacks, **options)

    run.folder = tmp_path
    return run


class TestDetection(AdapterTests):
    def make_store(self, folder):
        del folder
        return Store()

    def train(self, options):
        return self._train(options)

    def train_until_error(self, options):
        self._train(options, fails=True)

    def _train(self, options, *, fails=False):
        data = getattr(type(self), "_data", None)
        if data is None:
            data = type(self)._data = yolo.make_scenes(self._path("scenes"))
        losses, ids = [], []

        def alone(trainer):
            if trainer.epoch < trainer.epochs:
                ids[:], values = losses_alone(trainer)
                losses.append(values)

        def fail(trainer):
            if fails and trainer.epoch == 1:
                raise RuntimeError("the power went")

        callbacks = {"on_fit_epoch_end": alone, "on_train_epoch_end": fail}
        track = None if options is None else ActionTrackCallback(objects=False, **options)
        trainer = yolo.train(MODEL, data, self._path("runs"), track, callbacks=callbacks)
        weights = [*trainer.model.state_dict().values(), *trainer.ema.ema.state_dict().values()]
        return AdapterTraining(
            ids=[file.partition("scenes/")[2] for file in ids], losses=losses, weights=weights
        )

    def _path(self, name):
        self._store()
        path = Path(type(self)._folder.name) / name
        path.mkdir(exist_ok=True)
        return path


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


def test_metrics_of_ultralytics_are_rebuilt_from_the_record(trained):
    trainer, metrics, read = trained
    history, files = read("val-probe").history(), trainer.test_loader.dataset.im_files
    size = trainer.test_loader.batch_size
    assert len(files) == 10
    assert size == 8
    batches = [files[:size], files[size:]]
    for step in range(2):
        for name in PARTS:
            items = [item_of(history, batch, name, step) for batch in batches]
            assert np.mean(items) == pytest.approx(metrics[step][f"val/{name}"], abs=1e-5)


def item_of(history, files, name, step):
    """A part of the loss of a batch, from those of its images."""
    ids = history.sample_ids.tolist()
    places = [
        next(row for row, name in enumerate(ids) if file.endswith(f"/{name}")) for file in files
    ]
    loss, scores = (
        history.components[part][step, places].astype(np.float64)
        for part in (name, "target_scores")
    )
    return (loss * np.maximum(1, scores)).sum() / max(1, scores.sum())


def test_the_loss_of_an_image_is_the_sum_of_its_parts(trained):
    history = trained[2]("val-probe").history()
    total = sum(history.components[name] for name in PARTS)
    np.testing.assert_allclose(history.losses, total, rtol=1e-6)


@pytest.mark.parametrize("part", ["box_loss", "dfl_loss"])
def test_the_losses_of_objects_add_up_to_those_of_their_images(trained, part):
    images, objects = (trained[2](f"val{kind}-probe").history() for kind in ("", "_objects"))
    scores = [history.components["target_scores"] for history in (images, objects)]
    unnormalised = (
        images.components[part] * np.maximum(1, scores[0]),
        objects.components[part] * scores[1],
    )
    owners = [sample.partition("#")[0] for sample in objects.sample_ids.tolist()]
    for row, image in enumerate(images.sample_ids.tolist()):
        own = [place for place, owner in enumerate(owners) if owner == image]
        np.testing.assert_allclose(
            unnormalised[1][:, own].sum(axis=1), unnormalised[0][:, row], rtol=1e-5
        )


def test_an_object_has_its_class_and_its_number_in_the_file(trained, scenes):
    history = trained[2]("val_objects-probe").history()
    for sample, label in zip(history.sample_ids.tolist(), history.labels.tolist(), strict=True):
        image, _, number = sample.partition("#")
        path = scenes.parent / image.replace("images", "labels").replace(".png", ".txt")
        assert int(path.read_text().splitlines()[int(number) - 1].split()[0]) == label
    assert history.class_names[0] == "digit 0"


def test_images_without_objects_have_a_class_loss_alone(trained):
    history = trained[2]("val-probe").history()
    empty = history.components["target_scores"][-1] == 0
    assert empty.sum() == 3
    assert (history.losses[-1, empty] == history.components["cls_loss"][-1, empty]).all()


def test_images_of_equal_names_are_told_apart_by_their_folders(trained):
    samples = trained[2]("val-probe").history().sample_ids.tolist()
    assert {"images/val/a/0.png", "images/val/b/0.png"} <= set(samples)


def test_the_record_is_checked_against_the_metrics(trained):
    assert trained[2]("val-probe").manifest.notes["loss_check"] == "agrees"


def test_an_evaluation_pass_records_the_losses_of_the_training_images(trained):
    trainer, _, read = trained
    history = read("train-probe").history()
    assert history.sample_ids.tolist() == [
        f"images/train/{folder}/{number}.png" for folder in "ab" for number in range(4)
    ]
    loader = trainer.get_dataloader(trainer.data["train"], batch_size=1, rank=-1, mode="val")
    trainer.test_loader = loader
    files, losses = losses_alone(trainer)
    order = np.argsort(files)
    np.testing.assert_allclose(history.losses[-1], np.array(losses)[order], rtol=1e-5)


def test_true_boxes_are_those_of_the_files_in_pixels(trained, scenes):
    boxes = trained[2]("val-probe").boxes.query("kind == 'truth'")
    lines = (scenes.parent / "labels/val/b/0.txt").read_text().splitlines()
    own = boxes.query("sample_id == 'images/val/b/0.png'")
    assert len(own) == len(lines) == 1
    x, y, width, height = (float(value) * yolo.SIDE for value in lines[0].split()[1:])
    sides = own[["left", "top", "right", "bottom", "width", "height"]].to_numpy()[0]
    assert sides.tolist() == pytest.approx(
        [x - width / 2, y - height / 2, x + width / 2, y + height / 2, 64, 64], abs=1e-3
    )


def test_a_checkpoint_knows_nothing_of_the_recording(trained, in_subprocess):
    best = trained[0].best
    with zipfile.ZipFile(best) as archive:
        pickles = [name for name in archive.namelist() if name.endswith(".pkl")]
        assert not any(b"actiontrack" in archive.read(name) for name in pickles)
    code = """
import sys
sys.modules["actiontrack"] = None
from ultralytics import YOLO
print(type(YOLO(sys.argv[1]).model).__name__)
"""
    assert in_subprocess(code, best).stdout.splitlines()[-1] == "DetectionModel"


def test_training_batches_are_recorded_once_images_are_no_longer_mixed(fit, store, run_id, caplog):
    trainer = fit(mode="inline", epochs=3, model=MODEL, close_mosaic=2, mosaic=1.0)
    record = store.open_record(run_id, "train-inline")
    text = "epochs 1 to 1 mix images (mosaic=1) and are left out"
    assert record.manifest.notes == {"loss_check": "agrees", "mixing": text}
    assert f"record train-inline: {text}." in caplog.text
    history = record.history()
    assert history.steps.tolist() == [2, 3]
    assert history.deltas.tolist() == [1, 1]
    assert len(history.sample_ids) == 8
    assert trainer.model.criterion.__class__.__name__ == "v8DetectionLoss"


def test_training_on_mixed_images_to_the_end_is_refused_inline(fit):
    text = "mode inline: with mosaic=1, mixup=0.5 a training image is made of several"
    with pytest.raises(RecordingError, match=f"^{message(text)[:-1]}"):
        fit(mode="inline", close_mosaic=0, mosaic=1.0, mixup=0.5)


def test_losses_alone_are_not_those_of_a_restarted_epoch(fit, store, run_id):
    """Out of memory after the first batch: the epoch begins anew with smaller batches."""
    left = [1, 0]

    def fails_once(module, args):
        if module.training and left and not left.pop(0):
            raise RuntimeError("CUDA out of memory")

    callbacks = {
        "on_train_start": lambda trainer: trainer.model.register_forward_pre_hook(fails_once)
    }
    trainer = fit(mode="inline", callbacks=callbacks, **yolo.OFF)
    assert trainer.batch_size == 2
    history = store.open_record(run_id, "train-inline").history()
    assert history.steps.tolist() == [1, 2]
    assert history.seen.all()


def test_an_epoch_that_is_repeated_after_a_nan_counts_once(fit, store, run_id):
    epochs = []

    def nan_once(trainer):
        epochs.append(trainer.epoch)
        if epochs == [0, 0, 1, 1]:  # the last batch of the second epoch
            trainer.loss = torch.tensor(math.nan)

    fit(callbacks={"on_train_batch_end": nan_once})
    assert epochs == [0, 0, 1, 1, 1, 1]
    record = store.open_record(run_id, "val-probe")
    assert record.history().steps.tolist() == [1, 2]
    assert record.manifest.notes["loss_check"] == "agrees"


def test_a_resumed_training_continues_its_record(fit, store, run_id):
    def fail(trainer):
        if trainer.epoch == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit(epochs=3, callbacks={"on_train_epoch_end": fail})
    record = store.open_record(run_id, "val-probe")
    before = record.history().losses
    assert len(before) == 2
    assert not record.manifest.complete
    last = str(fit.folder / "run" / "weights" / "last.pt")
    fit(model=last, resume=True)
    record = store.open_record(run_id, "val-probe")
    assert record.history().steps.tolist() == [1, 2, 3]
    np.testing.assert_array_equal(record.history().losses[:2], before)
    assert record.manifest.complete


def test_without_validation_the_last_epoch_is_recorded(fit, store, run_id, caplog):
    fit(val=False)
    history = store.open_record(run_id, "val-probe").history()
    assert history.steps.tolist() == [2]
    assert history.deltas.tolist() == [2]
    assert "with val=False Ultralytics validates the last epoch only" in caplog.text


def test_a_pass_over_training_images_needs_no_validation(fit, store, run_id):
    fit("train", val=False)
    assert store.open_record(run_id, "train-probe").history().steps.tolist() == [1, 2]


def test_a_split_that_is_none_of_the_data_set_is_refused(fit):
    text = (
        "data: must be a split of the data set, one of train, val, got 'test'. Name one of these."
    )
    with pytest.raises(ParameterError, match=message(text)):
        fit("test")


def test_the_training_batches_are_no_split_to_evaluate():
    text = "data: must be None in mode inline, got 'train'. Leave it out."
    with pytest.raises(ParameterError, match=message(text)):
        ActionTrackCallback("train", mode="inline")


def test_a_mode_that_there_is_not_is_refused_before_training():
    text = "mode: must be one of probe, inline, got 'both'. Choose one of these."
    with pytest.raises(ParameterError, match=message(text)):
        ActionTrackCallback(mode="both")


@pytest.mark.parametrize("model", ["yolo11n.pt", None, torch.nn.Linear(1, 1)])
def test_it_is_attached_to_a_model_of_ultralytics_alone(model):
    text = (
        f"model: must be a YOLO object, or a trainer of Ultralytics, got {type(model).__name__!r}. "
        "Pass YOLO(…) itself."
    )
    with pytest.raises(ParameterError, match=message(text)):
        ActionTrackCallback().attach(model)


def test_boxes_of_augmented_images_are_not_read(fit, store, run_id, monkeypatch):
    read = []
    monkeypatch.setattr(ultralytics_data, "_size", read.append)
    fit(mode="inline", **yolo.OFF)
    assert store.open_record(run_id, "train-inline").boxes is None
    assert not read


def test_without_a_run_training_does_not_begin(scenes, tmp_path):
    text = "there is no active MLflow run. Start one with mlflow.start_run(), or pass run_id."
    with pytest.raises(RecordingError, match=message(text)):
        yolo.train(MODEL, scenes, tmp_path, ActionTrackCallback())
