"""Detection and segmentation on images that are drawn here: blocks of one colour on grey."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from projects.params import validate
from projects.params.detection import DetectionParams
from projects.params.segmentation import SegmentationParams
from projects.tasks.detection import Detection, box_table, unpacked
from projects.tasks.segmentation import Segmentation, class_png

SMALL = {"epochs": 1, "batch_size": 2, "device": "cpu", "threads": 1, "report": False}
OBJECT = (
    "<object><name>{name}</name><bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax>"
    "<ymax>{3}</ymax></bndbox></object>"
)
BOXES = {
    "a": [("car/van", (11, 11, 30, 40))],
    "b": [("dog", (31, 21, 60, 50)), ("car/van", (1, 1, 20, 20))],
    "c": [("dog", (5, 5, 30, 25))],
    "d": [("car/van", (21, 31, 50, 60)), ("dog", (40, 2, 60, 20))],
}
COLOURS = {"car/van": (250, 20, 20), "dog": (20, 20, 250)}


def drawn(objects):
    """A grey image of 64 x 64 pixels with its objects, and the class of each pixel."""
    pixels, classes = np.full((64, 64, 3), 90, np.uint8), np.zeros((64, 64), np.uint8)
    for name, (left, top, right, bottom) in objects:
        pixels[top - 1 : bottom, left - 1 : right] = COLOURS[name]
        classes[top - 1 : bottom, left - 1 : right] = 1 + list(COLOURS).index(name)
    return pixels, classes


# ---------------------------------------------------------------- detection


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc")
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for name, objects in BOXES.items():
        Image.fromarray(drawn(objects)[0]).save(root / "JPEGImages" / f"{name}.png")
        text = "".join(OBJECT.format(*box, name=label) for label, box in objects)
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
    for name, members in (("train", "ab"), ("val", "cd")):
        (root / "ImageSets" / "Main" / f"{name}.txt").write_text("\n".join(members))
    return root


@pytest.fixture(scope="module")
def detected(voc, train_once):
    return train_once(validate(DetectionParams, SMALL | {"dataset": f"voc:{voc}"}), Detection)


def test_images_and_objects_are_recorded(detected):
    assert set(detected.run.records) == {"test-probe", "test_objects-probe"}
    assert detected.record("test-probe").manifest.n_samples == 2
    ids = detected.record("test_objects-probe").samples.sample_ids.tolist()
    assert ids == ["c#1", "d#1", "d#2"]


def test_metrics_have_names_that_mlflow_takes(detected):
    names = {name for name in detected.metrics if "map" in name}
    assert names == {
        *("test-probe/map", "test-probe/map_50"),
        *("test-probe/map_per_class/car_van", "test-probe/map_per_class/dog"),
    }
    assert detected.task.latest_metrics.keys() == names


def test_annotated_boxes_are_kept_with_the_record(detected):
    boxes = detected.record("test-probe").boxes
    truth = boxes[boxes["kind"] == "truth"].sort_values(["sample_id", "class"])
    assert truth[["left", "top", "right", "bottom"]].to_numpy().tolist() == [
        [4, 4, 30, 25],
        [20, 30, 50, 60],
        [39, 1, 60, 20],
    ]


def test_a_detection_below_the_least_score_is_left_out():
    split = SimpleNamespace(
        ids=np.array(["a"]),
        class_names=("cat",),
        sizes=np.array([[20, 10]]),
        annotations=(SimpleNamespace(boxes=np.zeros((0, 4), np.float32)),),
        labels=lambda _: np.zeros(0, np.int64),
        scale=lambda _: np.array([0.5, 1.0, 0.5, 1.0], np.float32),
    )
    detections = {
        "boxes": torch.tensor([[1.0, 2.0, 5.0, 6.0], [0.0, 0.0, 1.0, 1.0]]),
        "labels": torch.tensor([1, 1]),
        "scores": torch.tensor([0.9, 0.049]),
    }
    (row,) = box_table(split, [detections]).to_dict("records")
    assert (row["left"], row["top"], row["right"], row["bottom"]) == (2, 2, 10, 6)
    assert (row["class"], row["kind"]) == ("cat", "predicted")
    assert row["score"] == pytest.approx(0.9)
    assert (row["width"], row["height"]) == (20, 10)


def test_padding_of_targets_is_no_object():
    targets = torch.tensor([[[2.0, 1, 2, 3, 4], [0, 0, 0, 0, 0]], [[0.0] * 5, [0.0] * 5]])
    first, second = unpacked(targets)
    assert first["boxes"].tolist() == [[1, 2, 3, 4]]
    assert first["labels"].tolist() == [2]
    assert len(second["boxes"]) == 0


# ---------------------------------------------------------------- segmentation


@pytest.fixture(scope="module")
def masks(tmp_path_factory):
    root = tmp_path_factory.mktemp("masks")
    for name, objects in BOXES.items():
        split = "train" if name in "ab" else "val"
        for folder, pixels in zip(("images", "masks"), drawn(objects), strict=True):
            (root / folder / split).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / split / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def segmented(masks, train_once):
    values = {
        "dataset": f"masks:{masks}/images,{masks}/masks", "classes": "ground,car/van,dog",
        "height": 32, "width": 32, "width_divisor": 32,
    }  # fmt: skip
    return train_once(validate(SegmentationParams, SMALL | values), Segmentation)


def test_every_image_has_its_losses_and_its_map(segmented):
    record = segmented.record()
    assert record.samples.sample_ids.tolist() == ["val/c.png", "val/d.png"]
    assert set(record.manifest.components) == {"dice", "jaccard", "focal"}
    assert record.pixel_action(0).shape == (32, 32)


def test_the_metrics_name_every_class_and_leave_out_what_mlflow_refuses(segmented):
    names = {name.removeprefix("test-probe/") for name in segmented.task.latest_metrics}
    assert {"miou", "pixel_accuracy", "iou/ground", "iou/car_van", "iou/dog"} >= names
    assert {"miou", "pixel_accuracy", "iou/ground"} <= names


def test_the_label_that_is_kept_is_the_mask(segmented, masks):
    label = Image.open(io.BytesIO(segmented.record().picture_bytes("label", 0)))
    mask = Image.open(masks / "masks" / "val" / "c.png")
    expected = np.asarray(mask.resize((32, 32), Image.Resampling.NEAREST))
    assert (np.asarray(label) == expected).mean() > 0.95  # edges fall between pixels


def test_void_is_black_and_every_class_has_a_colour():
    picture = Image.open(io.BytesIO(class_png(np.array([[0, 1, 2]], np.uint8), 2)))
    colours = np.asarray(picture.convert("RGB"))[0]
    assert colours[2].tolist() == [0, 0, 0]
    assert len({tuple(colour) for colour in colours.tolist()}) == 3
