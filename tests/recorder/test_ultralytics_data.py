"""Ids, objects and boxes of Ultralytics' data sets, and the tasks whose batches carry none."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yolo_training as yolo
from helpers import message
from PIL import Image

from actiontrack.errors import RecordingError
from actiontrack.recorder.ultralytics import ActionTrackCallback
from actiontrack.recorder.ultralytics_data import Detections, Images, object_rows
from actiontrack.recorder.ultralytics_loss import ObjectLosses

NAMES = ["cat", "dog"]


@pytest.fixture
def fit(tmp_path, store, run_id, spool):
    """A function that trains and returns the trainer, its metrics after each epoch and a reader."""

    def run(model, data, mode="probe", **options):
        metrics = []
        track = ActionTrackCallback(mode=mode, run_id=run_id, store=store, spool=spool)
        callbacks = {"on_fit_epoch_end": lambda trainer: metrics.append(dict(trainer.metrics))}
        trainer = yolo.train(model, data, tmp_path, track, callbacks=callbacks, **options)
        return trainer, metrics, lambda name: store.open_record(run_id, name)

    return run


@pytest.mark.parametrize("model", ["yolo11n-seg.yaml", "yolo26n-seg.yaml"])
def test_masks_have_a_loss_that_rebuilds_the_metric(fit, tmp_path, model):
    data = yolo.make_scenes(tmp_path / "data", masks=True)
    _, metrics, read = fit(model, data, batch=5)  # the validation has one batch of all ten
    record = read("val-probe")
    history = record.history()
    assert record.manifest.notes["loss_check"] == "agrees"
    divided_by = {"seg_loss": "assigned_anchors"}
    for step in range(2):
        for name in [part for part in history.components if part.endswith("_loss")]:
            sums = history.components[divided_by.get(name, "target_scores")][step]
            item = (history.components[name][step] * np.maximum(1, sums)).sum()
            reported = metrics[step][f"val/{name}"]
            assert item / max(1, sums.sum()) == pytest.approx(reported, abs=1e-5)
    assert len(read("val_objects-probe").history().sample_ids) == 13


def test_a_classifier_is_recorded_by_its_logits(fit, tmp_path):
    data = yolo.make_folders(tmp_path / "data")
    trainer, metrics, read = fit("yolo11n-cls.yaml", data, batch=16, lr0=0.1)
    history = read("val-probe").history()
    assert history.losses.mean(axis=1) == pytest.approx(
        [epoch["val/loss"] for epoch in metrics[:2]], abs=1e-5
    )
    for sample, label in zip(history.sample_ids.tolist(), history.labels.tolist(), strict=True):
        assert sample.startswith(f"val/digit {label}/")
    dataset, model = trainer.test_loader.dataset, trainer.ema.ema
    for row in (0, 7, 29):
        with torch.inference_mode():
            probabilities = model(dataset[row]["img"][None])[0]
        sample = dataset[row]["im_file"].partition("data/")[2]
        place = history.sample_ids.tolist().index(sample)
        expected = float(probabilities[0, dataset[row]["cls"]])
        assert history.measures["target_probability"][-1, place] == pytest.approx(
            expected, rel=1e-4
        )


def test_training_batches_of_a_classifier_are_recorded(fit, tmp_path):
    data = yolo.make_folders(tmp_path / "data", n_val=2)
    _, _, read = fit("yolo11n-cls.yaml", data, mode="inline", batch=6)
    record = read("train-inline")
    assert record.manifest.notes == {"loss_check": "agrees"}
    samples, labels = record.history().sample_ids.tolist(), record.history().labels.tolist()
    assert len(samples) == 24
    assert all(f"digit {label}/" in sample for sample, label in zip(samples, labels, strict=True))


def dataset(*files, boxes=()):
    labels = [{"im_file": file, "cls": np.array([[1.0]]), "bboxes": boxes} for file in files]
    return SimpleNamespace(im_files=list(files), labels=labels)


def test_ids_are_relative_to_the_data_set():
    images = Images.of(dataset("/d/images/val/1.jpg"), {"path": "/d", "train": "x"}, None)
    assert images.ids == ["images/val/1.jpg"]
    assert str(images.root) == "/d"


def test_ids_of_images_elsewhere_are_relative_to_their_folder():
    elsewhere = dataset("/e/a/1.jpg", "/e/b/1.jpg")
    images = Images.of(elsewhere, {"path": "/d", "train": "x"}, None)
    assert images.ids == ["a/1.jpg", "b/1.jpg"]


def test_ids_are_relative_to_the_folder_that_one_names():
    images = Images.of(dataset("/d/images/1.jpg"), {"path": "/d", "train": "x"}, "/d/images")
    assert images.ids == ["1.jpg"]
    text = (
        "root: images lie outside /other, such as those in /d/images. Pass a folder that has "
        "them all, or leave root out."
    )
    with pytest.raises(RecordingError, match=message(text)):
        Images.of(dataset("/d/images/1.jpg"), {"path": "/d", "train": "x"}, "/other")


def test_boxes_of_a_turned_photograph_are_in_its_pixels_as_shown(tmp_path):
    picture = Image.new("RGB", (40, 20))
    turned = picture.getexif()
    turned[0x0112] = 6  # a quarter turn: it is shown 20 wide and 40 high
    picture.save(tmp_path / "a.jpg", exif=turned)
    boxes = np.array([[0.5, 0.5, 0.5, 0.25]])
    images = Images.of(
        dataset(str(tmp_path / "a.jpg"), boxes=boxes), {"path": tmp_path, "train": "x"}, None
    )
    row = images.true_boxes(NAMES).iloc[0]
    assert row[["left", "top", "right", "bottom", "width", "height"]].tolist() == [
        5, 15, 15, 25, 20, 40,
    ]  # fmt: skip
    assert row["class"] == "dog"


def test_detections_are_in_pixels_of_the_stored_image():
    """An image of 100 by 50, scaled by 0.5 and with a margin of 2 and 10 pixels."""
    images = Images.of(dataset("/d/1.jpg"), {"path": "/d", "train": "x"}, None)
    detections = Detections(images)
    validator = SimpleNamespace(update_metrics=lambda *_: None)
    detections.collect(validator)
    pred = {
        "bboxes": torch.tensor([[7.0, 15.0, 27.0, 30.0], [0, 0, 90, 90], [0, 0, 1, 1]]),
        "conf": torch.tensor([0.75, 0.5, 0.01]),  # the last is too uncertain to keep
        "cls": torch.tensor([1.0, 0.0, 0.0]),
    }
    ratio_pad = ((0.5, 0.5), (2, 10))
    batch = {"im_file": ["/d/1.jpg"], "ori_shape": [(50, 100)], "ratio_pad": [ratio_pad]}
    validator.update_metrics([pred], batch)
    detections.end_epoch(None)
    frame = detections.frame(NAMES)
    sides = frame[["left", "top", "right", "bottom"]].to_numpy().tolist()
    assert sides == [[10, 10, 50, 40], [0, 0, 100, 50]]
    assert frame["class"].tolist() == ["dog", "cat"]
    assert frame["score"].tolist() == [0.75, 0.5]
    assert set(frame["width"]) == {100}


def test_detections_of_a_later_pass_replace_those_before():
    images = Images.of(dataset("/d/1.jpg"), {"path": "/d", "train": "x"}, None)
    detections, validator = Detections(images), SimpleNamespace(update_metrics=lambda *_: None)
    pred = {"bboxes": torch.ones(1, 4), "conf": torch.ones(1), "cls": torch.zeros(1)}
    batch = {"im_file": ["/d/1.jpg"], "ori_shape": [(5, 5)], "ratio_pad": [((1, 1), (0, 0))]}
    for n_objects in (1, 2):
        detections.collect(validator)
        validator.update_metrics(
            [{name: pred[name].repeat_interleave(n_objects, 0) for name in pred}], batch
        )
        detections.stop()
        validator.update_metrics([pred], batch)  # that of best.pt, which is not recorded
        detections.end_epoch(None)
    assert len(detections.frame(NAMES)) == 2


def test_objects_are_numbered_within_their_images():
    values = torch.arange(6.0).view(2, 3)
    losses = ObjectLosses({"box_loss": values}, values, torch.tensor([[1, 0, 1], [1, 1, 0]]))
    batch = {"batch_idx": torch.tensor([0.0, 0, 0, 1, 1])}
    names, columns = object_rows(["a.jpg", "b.jpg"], batch, losses)
    assert names == ["a.jpg#1", "a.jpg#3", "b.jpg#1", "b.jpg#2"]
    assert columns["box_loss"].tolist() == [0, 2, 3, 4]
