#!/bin/sh
# Ultralytics 8.4.190 with NumPy 2.4.6, Pillow 13.0.0 and PyTorch 2.14.1. Tried on 2026-12-01 with Python 3.11.
#
# `from ultralytics import YOLO` changes two other libraries for the whole process: NumPy prints arrays of floats with
# eleven characters a number and 320 a line, and `PIL.Image.open` is a function of Ultralytics, which, for a file that
# Pillow cannot identify, installs a plugin by pip and asks Pillow again. Where that plugin can't be had, what Pillow
# reports as UnidentifiedImageError is a ModuleNotFoundError: code that catches Pillow's errors stops working once
# something else has imported Ultralytics.
#
# Output seen:
#   before: [1.  0.5]  PIL.Image
#   after:  [          1         0.5]  ultralytics.utils.patches
#
# Exits with 0 if the library behaves like this, with 1 if it does not.
set -eu
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet \
  ultralytics==8.4.190 torch==2.14.1 torchvision==0.29.1 numpy==2.4.6 pillow==13.0.0
YOLO_CONFIG_DIR="$folder/config" CUDA_VISIBLE_DEVICES= "$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import PIL.Image

numbers = np.array([1.0, 0.5])
before = f"{numbers}  {PIL.Image.open.__module__}"
from ultralytics import YOLO  # noqa: E402, F401

after = f"{numbers}  {PIL.Image.open.__module__}"
print(f"before: {before}\nafter:  {after}")
seen = "[1.  0.5]  PIL.Image", "[          1         0.5]  ultralytics.utils.patches"
sys.exit(0 if (before, after) == seen else 1)
PYTHON
