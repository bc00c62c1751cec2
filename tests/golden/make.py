"""Write golden records of the present format version, and beside each what must be read from it.

    python tests/golden/make.py

What was written by a released format version is never written again: readers must keep reading
these very bytes. So this refuses to replace a folder. A new format version gets a folder of its own
and the old ones stay.

The expectations come from the numbers that are fed to the recorder, by plain arithmetic, not from
what the package reads.
"""

import io
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from unittest import mock

import mlflow
import numpy as np
import pandas as pd
from PIL import Image

from actiontrack.record import losses as record_losses
from actiontrack.record.paths import FORMAT_VERSION
from actiontrack.recorder import Recorder, packing
from actiontrack.store import Store

HERE = Path(__file__).parent / f"v{FORMAT_VERSION}"
CLASSES = ("ant", "bée", "猫")
SIDES = ("left", "top", "right", "bottom", "width", "height")
SALT = "the salt of the golden records"


def main():
    """Write every record."""
    if HERE.exists():
        sys.exit(f"{HERE} exists: golden records of a format version are never written again.")
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["ACTIONTRACK_SPOOL"] = f"{scratch}/spool"
        os.chdir(scratch)
        uri = f"sqlite:///{scratch}/mlflow.db"
        client = mlflow.MlflowClient(uri)
        experiment = client.create_experiment("golden", f"file://{scratch}/artifacts")
        for write in (
            *(classification, detection, pixels, regression, inline, hashed),
            *(rounded, long),
        ):
            run_id = client.create_run(experiment).info.run_id
            expected = write({"run_id": run_id, "store": Store(uri), "patience": 60})
            folder = next(Path(scratch, "artifacts", run_id, "artifacts/actiontrack").iterdir())
            shutil.copytree(folder, HERE / write.__name__ / folder.name)
            text = json.dumps(expected, indent=1, ensure_ascii=False, allow_nan=False)
            (HERE / f"{write.__name__}.json").write_text(text + "\n", encoding="utf-8")


def numbers(values):
    """Nested lists of JSON: NaN as text, since JSON has none."""
    if isinstance(values, np.ndarray):
        return numbers(values.tolist())
    if isinstance(values, list):
        return [numbers(each) for each in values]
    if isinstance(values, float) and not math.isfinite(values):
        return str(values)
    return values


def told(losses, deltas, ids, **more):
    """What every expectation has: rows in ascending order of ids, steps as recorded."""
    order = sorted(range(len(ids)), key=lambda each: ids[each])
    rows = [[float(np.float32(step[each])) for each in order] for step in losses]
    actions = [
        sum(step[place] * delta for step, delta in zip(rows, deltas, strict=True))
        for place in range(len(ids))
    ]
    body = {"sample_ids": [ids[each] for each in order], "losses": numbers(rows)}
    return body | {"deltas": deltas, "action": numbers(actions)} | more


def classification(options):
    """Three classes by logits, with features, probabilities, thumbnails, paths and true labels."""
    rng = np.random.default_rng(1)
    ids, labels = [30, 4, 11, 2, 7, 19], [0, 1, 2, 0, 1, 2]
    truth = [0, 1, 2, 0, 1, 1]
    logits = [rng.normal(size=(6, 3)).astype(np.float32) * each for each in (1, 2, 3)]
    images = [png(rng.integers(0, 255, (4, 4, 3))) for _ in ids]
    chances = softmax(logits[-1])
    with Recorder(
        "test",
        model="mlp",
        class_names=CLASSES,
        source={"kind": "folder", "root": "/data"},
        **options,
    ) as recorder:
        recorder.describe_samples(
            ids, labels=labels, true_labels=truth, paths=[f"test/{each}.png" for each in ids],
            input_digests=[f"{each:032x}" for each in ids],
        )  # fmt: skip
        for each in logits:
            recorder.update(np.array(ids), logits=each, labels=np.array(labels))
            recorder.end_epoch()
        recorder.log_features(ids, np.arange(12.0).reshape(6, 2))
        recorder.log_probabilities(ids, chances)
        recorder.log_thumbnails(ids, images)
    order = np.argsort(ids)
    losses = [-np.log(softmax(each))[np.arange(6), labels] for each in logits]
    return told(
        losses, [1, 1, 1], ids, labels=np.array(labels)[order].tolist(),
        true_labels=np.array(truth)[order].tolist(), class_names=list(CLASSES),
        paths=[f"test/{ids[each]}.png" for each in order],
        features=np.arange(12.0).reshape(6, 2)[order].tolist(),
        probabilities=chances.astype(np.float32)[order].tolist(),
        thumbnails=[images[each].hex() for each in order],
        predicted=[np.argmax(each, axis=1)[order].tolist() for each in logits],
        target_probability=[softmax(each)[np.arange(6), labels][order].tolist() for each in logits],
    )  # fmt: skip


def detection(options):
    """Two components and boxes; ids are names."""
    ids = ["b", "ä", "a#1"]
    losses = [[3.0, 2.0, 1.0], [1.5, 1.0, 0.25]]
    box = [[1.0, 1.0, 0.5], [0.5, 0.5, 0.125]]
    rows = [
        ["b", "truth", "cat", "nan", 0.0, 1.0, 5.0, 6.0, 20.0, 10.0],
        ["b", "predicted", "dog", 0.75, 0.5, 1.0, 5.5, 6.0, 20.0, 10.0],
        ["ä", "truth", "dog", "nan", 2.0, 2.0, 3.0, 4.0, 20.0, 10.0],
    ]
    with Recorder("test", model="ssd", loss_name="multibox", **options) as recorder:
        for loss, part in zip(losses, box, strict=True):
            recorder.update(ids, np.array(loss), components={"box": np.array(part)})
            recorder.end_epoch()
        frame = pd.DataFrame(rows, columns=["sample_id", "kind", "class", "score", *SIDES])
        recorder.log_boxes(frame.assign(score=frame["score"].astype(float)))
    order = sorted(range(3), key=lambda each: ids[each])
    parts = [[step[each] for each in order] for step in box]
    ordered = [row for each in order for row in rows if row[0] == ids[each]]
    return told(losses, [1, 1], ids, components={"box": parts}, boxes=ordered)


def pixels(options):
    """Maps of pixel actions of two sizes, with ignored pixels, and pictures of labels."""
    ids = [0, 1, 2]
    rng = np.random.default_rng(2)
    maps = [
        [
            rng.integers(0, 8, (3, 4)) / 4.0,
            rng.integers(0, 8, (2, 2)) / 4.0,
            rng.integers(0, 8, (1, 5)) / 4.0,
        ]
        for _ in range(2)
    ]
    for step in maps:
        step[1][0, 1] = np.nan
    losses = [[float(np.nanmean(each)) for each in step] for step in maps]
    labels = [png(np.full((2, 3), each)) for each in ids]
    with Recorder(
        "test", model="unet", loss_name="dice", pixel_loss_name="focal", void="ignored", **options
    ) as recorder:
        for loss, step in zip(losses, maps, strict=True):
            recorder.update(ids, np.array(loss))
            recorder.update_maps(ids, step)
            recorder.end_epoch()
        recorder.log_pictures("label", ids, labels)
    sums = [numbers(first + second) for first, second in zip(*maps, strict=True)]
    return told(losses, [1, 1], ids, maps=sums, labels_png=[each.hex() for each in labels])


def regression(options):
    """Losses only: no labels, a missing sample, a NaN, an infinity, and the untrained state."""
    ids = ["x", "y", "z"]
    with Recorder("test", loss_name="squared_error", allow_missing=True, **options) as recorder:
        recorder.describe_samples(ids)
        recorder.update(ids, np.array([4.0, 3.0, 2.0]))
        recorder.end_epoch(0)
        recorder.update(["x", "z"], np.array([2.0, np.nan]))
        recorder.end_epoch(1, delta=0.5)
        recorder.update(ids, np.array([1.0, 0.5, np.inf]))
        recorder.end_epoch(2, delta=2.0)
    losses = [[4.0, 3.0, 2.0], [2.0, "missing", "nan"], [1.0, 0.5, "inf"]]
    body = {"sample_ids": ids, "losses": losses, "deltas": [1, 0.5, 2.0], "steps": [0, 1, 2]}
    return body | {"action": [7.0, "nan", "nan"]}


def inline(options):
    """Losses of training batches, weighed by the number of updates."""
    ids = [5, 6, 7, 8]
    losses = [[1.0, 2.0, 3.0, 4.0], [0.5, 1.0, 1.5, 2.0]]
    with Recorder("train", mode="inline", delta_kind="batch", model="cnn", **options) as recorder:
        for loss in losses:
            for part in (slice(0, 2), slice(2, 4)):
                recorder.update(ids[part], np.array(loss[part]), labels=np.array([0, 1]))
            recorder.end_epoch()
    return told(losses, [2, 2], ids, labels=[0, 1, 0, 1])


def hashed(options):
    """Salted hashes in place of ids, and no images."""
    import hmac

    names = ["jane", "john", "jude"]
    losses = [[3.0, 2.0, 1.0]]
    with Recorder("test", id_salt=SALT, images=False, **options) as recorder:
        recorder.update(names, np.array(losses[0]))
        recorder.end_epoch()
    ids = [hmac.new(SALT.encode(), each.encode(), "sha256").hexdigest()[:32] for each in names]
    return told(losses, [1], ids)


def rounded(options):
    """Losses and measures of half precision: 11 significant bits, ties to even."""
    ids, labels = [1, 2, 3, 4], np.array([0, 1, 1, 0])
    margins = [[0.1, 3.3, -0.7, 40.0], [1.0, 1 / 3, 2.7, 1e-4]]
    losses = [[1 + 2**-11, 1 + 3 * 2**-11, 1e-30, 70000.0], [0.1, 2.0, float("nan"), 3e38]]
    with Recorder("test", model="mlp", loss_name="hinge", precision="half", **options) as recorder:
        recorder.describe_samples(ids, labels=labels)
        for loss, margin in zip(losses, margins, strict=True):
            recorder.update(ids, np.array(loss), components={"margin_loss": np.array(margin)})
            recorder.end_epoch()
    losses, margins = (
        [[half(value) for value in step] for step in each] for each in (losses, margins)
    )
    return told(losses, [1, 1], ids, labels=labels.tolist(), components={"margin_loss": margins})


def long(options):
    """Forty steps in files of sixteen at most and many row groups; samples missed and repeated."""
    rng = np.random.default_rng(3)
    n_steps, ids = 40, np.arange(100, 111)
    losses = rng.integers(0, 64, (n_steps, len(ids))) / 8
    seen = rng.random(losses.shape) > 0.2
    seen[:, 4:] = True
    deltas = [1 + step % 4 / 2 for step in range(n_steps)]
    repeated = [step % 3 for step in range(n_steps)]
    with (
        mock.patch.object(packing, "_LARGE_STEPS", 8),
        mock.patch.object(packing, "_LARGEST_STEPS", 16),
        mock.patch.object(record_losses, "_GROUP_ROWS", 64),
        Recorder(
            "test", model="cnn", loss_name="hinge", allow_missing=True, duplicates="first",
            **options,
        ) as recorder,
    ):  # fmt: skip
        recorder.describe_samples(ids)
        for step in range(n_steps):
            rows = np.flatnonzero(seen[step])
            rows = np.concatenate([rows, rows[: repeated[step]]])
            recorder.update(ids[rows], losses[step][rows])
            recorder.end_epoch(delta=deltas[step])
    body = told(losses, deltas, ids.tolist(), n_duplicates=repeated)
    told_losses = np.where(seen, losses, "missing").tolist()
    complete = seen.all(axis=0)
    body["losses"] = [
        [value if value == "missing" else float(value) for value in step] for step in told_losses
    ]
    body["action"] = [
        action if complete[place] else "nan" for place, action in enumerate(body["action"])
    ]
    return body


def half(value):
    """A float32 of 11 significant bits, ties to even, by exact arithmetic."""
    if not math.isfinite(value):
        return value
    value = float(np.float32(value))
    mantissa, exponent = math.frexp(value)
    return math.ldexp(float(round(mantissa * 2**11)), exponent - 11)


def softmax(logits):
    """Probabilities of (n, classes) logits in double precision."""
    raised = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def png(array):
    """An array of pixel values as PNG."""
    target = io.BytesIO()
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(target, "PNG")
    return target.getvalue()


if __name__ == "__main__":
    main()
