#!/bin/sh
# Ultralytics 8.4.190 with MLflow 3.17.2 and PyTorch 2.14.1. Tried on 2026-12-01 with Python 3.11.
#
# Its MLflow callback, on by default, logs nothing where the variables GITHUB_ACTIONS, GITHUB_WORKFLOW and RUNNER_OS
# are set, as they are in every job of GitHub Actions: it takes them for its own test suite. A retraining that a
# workflow starts leaves no run on the tracking server, though MLFLOW_TRACKING_URI is set; no warning says so. The
# documentation of the integration (docs.ultralytics.com/integrations/mlflow) names no such condition.
#
# The same training of one epoch, twice, on four made-up images.
# Output seen:
#   on a machine of one's own: 1 run, log of the training names MLflow: True
#   in a job of GitHub Actions: 0 runs, log of the training names MLflow: False
#
# Exits with 0 if the library behaves like this, with 1 if it does not.
set -eu
unset PYTHONPATH GITHUB_ACTIONS GITHUB_WORKFLOW RUNNER_OS PYTEST_CURRENT_TEST
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ultralytics==8.4.190 mlflow==3.17.2 torch==2.14.1 torchvision==0.29.1
cd "$folder"
cat > train.py <<'PYTHON'
from pathlib import Path

import numpy as np
from PIL import Image
from ultralytics import YOLO

random = np.random.default_rng(0)
for number in range(4):
    for kind in ("images", "labels"):
        Path("data", kind).mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(f"data/images/{number}.png")
    Path(f"data/labels/{number}.txt").write_text("0 0.5 0.5 0.5 0.5")
Path("data.yaml").write_text(f"path: {Path('data').resolve()}\ntrain: images\nval: images\nnames: [thing]\n")
YOLO("yolo11n.yaml").train(
    data="data.yaml", epochs=1, imgsz=64, batch=4, device="cpu", workers=0, plots=False, amp=False
)
PYTHON
cat > count.py <<'PYTHON'
import sys

import mlflow

name, number = sys.argv[1:]
runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
words = "MLflow" in open("train.log", encoding="utf-8").read()
noun = "run" if len(runs) == 1 else "runs"
print(f"{name}: {len(runs)} {noun}, log of the training names MLflow: {words}")
sys.exit(0 if len(runs) == int(number) and words == bool(int(number)) else 1)
PYTHON
export YOLO_CONFIG_DIR="$folder/config" CUDA_VISIBLE_DEVICES=
export MLFLOW_TRACKING_URI="sqlite:///$folder/own.db"
venv/bin/python train.py > train.log 2>&1
venv/bin/python count.py "on a machine of one's own" 1
export MLFLOW_TRACKING_URI="sqlite:///$folder/job.db"
GITHUB_ACTIONS=true GITHUB_WORKFLOW=retrain RUNNER_OS=Linux venv/bin/python train.py > train.log 2>&1
venv/bin/python count.py "in a job of GitHub Actions" 0
