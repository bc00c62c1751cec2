"""Images of samples with words under them."""

import io

import numpy as np
import pandas as pd
from PIL import Image

from actiontrack import analysis, reporting
from actiontrack.recorder import Recorder


def test_a_gallery_opens_images_below_the_recorded_root(tmp_path, new_run, store, spool):
    (tmp_path / "data").mkdir()
    names = [f"{each}.png" for each in range(4)]
    for value, name in enumerate(names):
        Image.new("L", (8, 8), value * 60).save(tmp_path / "data" / name)
    source = {"kind": "folder", "root": str(tmp_path / "data")}
    run_id = new_run()
    logits = np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    with Recorder(run_id=run_id, store=store, spool=spool, source=source) as recorder:
        recorder.describe_samples(names, labels=[0, 1, 0, 1], paths=names)
        recorder.update(names, logits=logits, labels=np.array([0, 1, 0, 1]))
        recorder.end_epoch()
    record = store.open_record(run_id)
    figure, missing = reporting.gallery(record, analysis.score_frame([record]))
    assert missing == 0
    assert len(figure.axes) >= 4
    opened = Image.open(io.BytesIO(record.image_bytes(3)))
    assert opened.getpixel((0, 0)) == 180


def test_a_gallery_draws_annotated_boxes_and_confident_predictions(with_boxes):
    scores = analysis.score_frame([with_boxes])
    figure, missing = reporting.gallery(with_boxes, analysis.hardest(scores, 2))
    first, second = figure.axes
    assert missing == 0
    assert [each.get_text() for each in first.texts] == ["cat", "dog 0.90"]
    assert (first.get_xlabel(), second.get_xlabel()) == ("a 4", "b 2")
    assert not second.patches


def test_of_many_predicted_boxes_the_most_confident_are_drawn(tmp_path, new_run, store, spool):
    run_id = new_run()
    png = io.BytesIO()
    Image.new("L", (8, 8)).save(png, "PNG")
    scores = np.linspace(0.99, 0.6, 30)
    sides = {"left": 2, "top": 0, "right": 6, "bottom": 4, "width": 8, "height": 8}
    rows = [{"sample_id": "a", "kind": "truth", "class": "cat", "score": np.nan} | sides]
    rows += [
        {"sample_id": "a", "kind": "predicted", "class": "dog", "score": each} | sides
        for each in scores[::-1]
    ]
    with Recorder(run_id=run_id, store=store, spool=spool) as recorder:
        recorder.update(["a", "b"], np.array([3.0, 1.0]))
        recorder.end_epoch()
        recorder.log_thumbnails(["a", "b"], [png.getvalue()] * 2)
        recorder.log_boxes(pd.DataFrame(rows))
    record = store.open_record(run_id)
    figure, _ = reporting.gallery(record, analysis.score_frame([record]).head(1))
    drawn = [each.get_text() for each in figure.axes[0].texts]
    assert drawn == ["cat", *(f"dog {each:.2f}" for each in scores[:6])]


def test_boxes_are_scaled_to_the_copy_of_the_image_that_is_stored(with_boxes):
    figure, _ = reporting.gallery(with_boxes, analysis.score_frame([with_boxes]).head(1))
    # Left 2, right 6 of 8 pixels are 1 and 3 of 4; pixels are drawn from half a pixel before.
    box = figure.axes[0].patches[0].get_bbox().extents.tolist()
    assert box == [0.5, -0.5, 2.5, 1.5]


def test_images_outside_the_root_are_never_opened(tmp_path, new_run, store, spool):
    (tmp_path / "data").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "secret.png")
    source = {"kind": "folder", "root": str(tmp_path / "data")}
    run_id = new_run()
    with Recorder(run_id=run_id, store=store, spool=spool, source=source) as recorder:
        recorder.describe_samples(["a"], paths=["../secret.png"])
        recorder.update(["a"], np.ones(1))
        recorder.end_epoch()
    record = store.open_record(run_id)
    _, missing = reporting.gallery(record, analysis.score_frame([record]))
    assert missing == 1


def test_a_gallery_of_noise_tells_given_and_true_label_and_score(noisy, history):
    rows = analysis.score_frame([noisy[0]]).iloc[[0, 4]]
    figure, missing = reporting.noise_gallery(noisy[0], rows)
    actions = history.losses.astype(float).sum(axis=0)
    wrong, right = history.labels[[0, 4]]
    assert [axes.get_xlabel().split("\n") for axes in figure.axes] == [
        [f"given class {wrong}", f"true class {(wrong + 1) % 3}", f"{actions[0]:.3g}"],
        [f"given class {right}", "right", f"{actions[4]:.3g}"],
    ]
    assert missing == 2


def test_a_gallery_of_neighbours_has_a_row_of_images_for_each_sample(with_features):
    frame = analysis.neighbours(with_features, [0, 9], k=3)
    figure, missing = reporting.neighbour_gallery(with_features, frame)
    assert missing == 0
    assert [axes.get_xlabel() for axes in figure.axes] == [
        "sample 0: x", "y 1", "x 2", "y 3", "sample 9: y", "x 1", "y 2", "x 3"
    ]  # fmt: skip


def test_a_gallery_of_a_region_shows_label_prediction_action_and_entropy(ensemble):
    rows = pd.DataFrame(
        {"sample_id": [3, 5], "class": ["x", "y"], "predicted": ["y", "y"],
         "action": [0.912, 1.0], "entropy": [0.046, 0.0]}
    )  # fmt: skip
    figure, missing = reporting.region_gallery(ensemble[0], rows)
    assert missing == 0
    assert [axes.get_xlabel() for axes in figure.axes] == ["x → y\n0.91–0.05", "y → y\n1.00–0.00"]
