"""A YOLO detector from scratch. Run: python examples/ultralytics_detect.py [epochs] [data.yaml].

Without data of your own it composes scenes of scikit-learn's handwritten digits, real handwriting
in made-up places, in ./digit_scenes.
"""
# ruff: noqa: INP001, T201

import sys
from pathlib import Path

import mlflow
import numpy as np
import yaml
from PIL import Image
from sklearn.datasets import load_digits
from ultralytics import YOLO

from actiontrack import RunQuery, hardest, load_scores
from actiontrack.recorder.ultralytics import ActionTrackCallback  # 1


def compose_scenes(folder: Path, n_train: int = 48, n_val: int = 24) -> Path:
    """Images of up to four digits in the format of Ultralytics; returns the path of its YAML."""
    rng = np.random.default_rng(0)
    digits, labels = load_digits(return_X_y=True)
    for number in range(n_train + n_val):
        scene, lines = np.zeros((96, 96), dtype=np.uint8), []
        for corner in rng.permutation(4)[: rng.integers(5)]:
            row, size = rng.integers(len(digits)), 8 * rng.integers(2, 5)
            y, x = 48 * np.array(divmod(corner, 2)) + rng.integers(48 - size + 1, size=2)
            picture = np.kron(digits[row].reshape(8, 8), np.ones((size // 8, size // 8))) * 15
            scene[y : y + size, x : x + size] = picture
            sides = np.array([x + size / 2, y + size / 2, size, size]) / 96
            lines.append(" ".join([str(labels[row]), *(f"{side:.5f}" for side in sides)]))
        inner = Path("train" if number < n_train else "val") / f"{number:03}"
        for kind in ("images", "labels"):
            (folder / kind / inner).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(scene).convert("RGB").save(folder / "images" / f"{inner}.png")
        (folder / "labels" / f"{inner}.txt").write_text("\n".join(lines))
    data = {"path": str(folder.resolve()), "train": "images/train", "val": "images/val"}
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(data | {"names": list("0123456789")}))
    return path


epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 10
data = sys.argv[2] if len(sys.argv) > 2 else compose_scenes(Path("digit_scenes"))
size = 160 if len(sys.argv) > 2 else 96
model = YOLO("yolo11n.yaml")  # from scratch: nothing is downloaded
track = ActionTrackCallback().attach(model)  # 2
with mlflow.start_run() as run:
    model.train(data=data, epochs=epochs, imgsz=size, batch=8, plots=False, device="cpu")

scores = load_scores(RunQuery(run_ids=[run.info.run_id], record="val_objects-probe"))
print(hardest(scores, 5)[["sample_id", "class", "action"]].to_string(index=False))
