"""Small trainings of YOLO models on scenes of scikit-learn's digits; nothing is downloaded."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from sklearn.datasets import load_digits

# Before the import of Ultralytics, which keeps settings and asks for updates.
_SETTINGS = tempfile.TemporaryDirectory(prefix="yolo-settings-")
os.environ |= {"YOLO_CONFIG_DIR": _SETTINGS.name, "YOLO_OFFLINE": "true"}

# It changes how NumPy and PyTorch print, and how Pillow opens files, for the whole process.
_PRINTED, _OPEN = np.get_printoptions(), Image.open
from ultralytics import YOLO  # noqa: E402

np.set_printoptions(**_PRINTED)
torch.set_printoptions(profile="default")
Image.open = _OPEN

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
SIDE = 64
OFF = {"mosaic": 0.0, "mixup": 0.0, "cutmix": 0.0, "copy_paste": 0.0}


def make_scenes(folder, n_train=8, n_val=10, *, masks=False, seed=0):
    """A data set of detection, or of segmentation, with an image without objects in each split.

    Names repeat: every image lies in one of two folders.
    """
    rng = np.random.default_rng(seed)
    images, labels = load_digits(return_X_y=True)
    for split, count in (("train", n_train), ("val", n_val)):
        for number in range(count):
            inner = Path(f"{split}/{'ab'[number % 2]}/{number // 2}")
            scene, lines = _scene(rng, images, labels, number % 4, masks=masks)
            for kind in ("images", "labels"):
                (folder / kind / inner).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene).save(folder / "images" / inner.with_suffix(".png"))
            (folder / "labels" / inner.with_suffix(".txt")).write_text("\n".join(lines))
    settings = {"path": str(folder), "train": "images/train", "val": "images/val"}
    path = folder / "scenes.yaml"
    path.write_text(yaml.safe_dump(settings | {"names": [f"digit {n}" for n in range(10)]}))
    return path


def _scene(rng, images, labels, n_objects, *, masks):
    scene, lines = np.zeros((SIDE, SIDE, 3), dtype=np.uint8), []
    corners = rng.permutation([(0, 0), (0, 32), (32, 0), (32, 32)])[:n_objects]
    for top, left in corners:
        chosen = rng.integers(len(images))
        digit = np.kron(images[chosen].reshape(8, 8), np.ones((3, 3))) * 15
        y, x = top + rng.integers(8), left + rng.integers(8)
        scene[y : y + 24, x : x + 24] = digit[..., None].astype(np.uint8)
        x0, y0, x1, y1 = np.array([x, y, x + 24, y + 24]) / SIDE
        sides = [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]
        corners_of = [x0, y0, x1, y0, x1, y1, x0, y1]
        numbers = " ".join(f"{value:.6f}" for value in (corners_of if masks else sides))
        lines.append(f"{labels[chosen]} {numbers}")
    return scene, lines


def make_folders(folder, n_train=8, n_val=10):
    """A data set of classification, three classes."""
    images, labels = load_digits(return_X_y=True)
    for label in range(3):
        rows = np.flatnonzero(labels == label)
        for number, row in enumerate(rows[: n_train + n_val]):
            split = "train" if number < n_train else "val"
            path = folder / split / f"digit {label}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            scaled = np.kron(images[row].reshape(8, 8), np.ones((4, 4))) * 15
            Image.fromarray(scaled.astype(np.uint8)).convert("RGB").save(path)
    return folder


def train(model, data, folder, track=None, *, callbacks=None, **options):
    """Train a model from its YAML for two epochs. Returns the trainer."""
    yolo = YOLO(model)
    if track is not None:
        for part in track if isinstance(track, list) else [track]:
            part.attach(yolo)
    for event, function in (callbacks or {}).items():
        yolo.add_callback(event, function)
    settings = {"epochs": 2, "imgsz": SIDE, "batch": 4, "workers": 0, "plots": False, "nbs": 4}
    settings |= {"device": "cpu", "verbose": False, "optimizer": "SGD", "lr0": 0.01}
    yolo.train(data=str(data), project=str(folder), name="run", **settings | options)
    return yolo.trainer
