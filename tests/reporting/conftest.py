"""Recorded runs to report."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_pages import EVIL, figure, png, table
from report_sections import two_kinds_of_boxes
from scipy import special

from actiontrack import analysis
from actiontrack.recorder import Recorder
from actiontrack.reporting.document import Report, Section
from actiontrack.testing import make_history


@pytest.fixture
def history():
    return make_history(n_steps=4, n_samples=40, n_classes=3)


@pytest.fixture
def record(recorded_history, store, history):
    return store.open_record(recorded_history(history, "softmax"))


@pytest.fixture
def with_boxes(tmp_path, new_run, store, spool):
    """Two images of 8 x 4 pixels, stored as copies of half the size, with boxes."""
    run_id, names = new_run(), ["a", "b"]
    png = io.BytesIO()
    Image.new("L", (4, 2)).save(png, "PNG")
    with Recorder(run_id=run_id, store=store, spool=spool, loss_name="multibox") as recorder:
        for loss in (3.0, 1.0):
            losses = np.array([loss, loss / 2])
            recorder.update(names, losses, components={"box_regression": losses / 4})
            recorder.end_epoch()
        recorder.log_thumbnails(names, [png.getvalue()] * 2)
        recorder.log_boxes(two_kinds_of_boxes())
    return store.open_record(run_id)


@pytest.fixture
def with_features(new_run, store, spool):
    """A record of 10 samples with features and 8 × 8 thumbnails."""
    run_id, ids, images = new_run(), np.arange(10), []
    for each in ids.tolist():
        buffer = io.BytesIO()
        Image.new("L", (8, 8), 20 * each).save(buffer, "PNG")
        images.append(buffer.getvalue())
    with Recorder(run_id=run_id, store=store, spool=spool, class_names=("x", "y")) as recorder:
        recorder.update(ids, np.linspace(1, 2, 10), labels=ids % 2)
        recorder.end_epoch()
        recorder.log_features(ids, ids[:, None].astype(np.float32))
        recorder.log_thumbnails(ids, images)
    return store.open_record(run_id)


@pytest.fixture
def noisy(recorded_history, store, history):
    """A record of each split, of which the training labels of the first 4 samples are wrong."""
    truth = history.labels.copy()
    truth[:4] = (truth[:4] + 1) % 3
    histories = (
        replace(history, split="train", true_labels=truth), replace(history, split="test")
    )  # fmt: skip
    return [store.open_record(recorded_history(split, "softmax")) for split in histories]


@pytest.fixture
def ensemble(new_run, store, spool):
    """Two models on 40 samples of two classes, with thumbnails in the first record only."""
    rng = np.random.default_rng(2)
    ids, labels = np.arange(40), rng.integers(2, size=40)
    buffer = io.BytesIO()
    Image.new("L", (4, 4), 128).save(buffer, "PNG")
    records = []
    for seed in range(2):
        logits = np.eye(2)[labels] + rng.normal(size=(40, 2))
        run_id = new_run()
        with Recorder(run_id=run_id, store=store, spool=spool, class_names=("x", "y")) as recorder:
            for scale in (0.1, 1.0):
                recorder.update(ids, logits=logits * scale, labels=labels)
                recorder.end_epoch()
            recorder.log_probabilities(ids, special.softmax(logits, axis=1))
            if not seed:
                recorder.log_thumbnails(ids, [buffer.getvalue()] * 40)
        records.append(store.open_record(run_id))
    return records


@pytest.fixture
def comparison(recorded_history, history):
    rng = np.random.default_rng(0)
    for model, spread in (("a", 0.1), ("a", 0.1), ("b", 3.0), ("b", 3.0)):
        noise = rng.gamma(1.0, spread, size=history.losses.shape).astype(np.float32)
        recorded_history(replace(history, losses=history.losses + noise), model)
    return analysis.load_records


@pytest.fixture
def mixed(recorded_history, store, history):
    """Two runs of a, two of b, one of a shorter training and one on other labels."""
    rng = np.random.default_rng(0)
    for model, spread in (("a", 0.1), ("a", 0.1), ("b", 3.0), ("b", 3.0)):
        noise = rng.gamma(1.0, spread, size=history.losses.shape).astype(np.float32)
        recorded_history(replace(history, losses=history.losses + noise), model)
    others = (make_history(3, 40, 3), replace(history, labels=(history.labels + 1) % 3))
    for other in others:
        recorded_history(other, "a")
    return store


@pytest.fixture
def report():
    return Report(
        title="Hard samples",
        sections=(
            Section(
                heading="Classes", text="One.\n\nTwo\nlines.", frame=table(), caption="By class."
            ),
            Section(heading="Curves & más", figure=figure(), caption="Loss by epoch."),
            Section(heading="Picture", figure=png()),
        ),
    )


@pytest.fixture
def evil():
    frame = pd.DataFrame({EVIL: [EVIL], "action": [1.0]}, index=pd.Index([EVIL], name=EVIL + "?"))
    section = {"heading": EVIL, "text": EVIL, "caption": EVIL, "frame": frame}
    return Report(
        title=EVIL,
        sections=[Section(**section, figure=png()), Section(heading="", figure=figure())],
    )
