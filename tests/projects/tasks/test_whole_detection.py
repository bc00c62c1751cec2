"""Real training of torchvision's own detectors on blood cells: what the run holds."""

import mlflow
import numpy as np
import pytest
import torch
from blood_cells import extract_cells

from actiontrack.errors import ParameterError
from actiontrack.recorder.torchvision import batch_losses
from actiontrack.store import Store
from projects import train_detection
from projects.datasets.voc import open_voc
from projects.loading import Normalisation
from projects.models.detectors import build_whole_detector
from projects.params import to_strings, validate
from projects.params.detection import DetectionParams
from projects.tasks.detection import Detection, voc_settings
from projects.tasks.whole_detection import WholeDetection, detection_task
from projects.train import train

SSDLITE, FASTER = "ssdlite320_mobilenet_v3_large", "fasterrcnn_mobilenet_v3_large_320_fpn"

KEPT = ("model", "image_size", "batch_size", "save_model")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Folder of 4 + 3 photographs; the first of each list has no annotation."""
    folder, _ = extract_cells(tmp_path_factory.mktemp("cells"), 4, 3)
    return folder


def small(cells, **changes):
    values = {
        "dataset": f"voc:{cells}", "model": SSDLITE, "epochs": 2, "batch_size": 2, "device": "cpu",
        "report": False, "threads": 1, "warmup_epochs": 0, "schedule": "constant",
    }  # fmt: skip
    return validate(DetectionParams, values | changes)


@pytest.fixture(scope="module")
def trained(cells, tracking_uri, tmp_path_factory):
    """A function that trains a detector with both modes: store, run and parameters."""
    folder, store = tmp_path_factory.mktemp("trained"), Store(tracking_uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        artifacts = (folder / "artifacts").as_uri()
        experiment = client.create_experiment(f"whole {folder}", artifact_location=artifacts)
        patch.setenv("MLFLOW_EXPERIMENT_ID", experiment)

        def go(model):
            sizes = {} if model == SSDLITE else {"image_size": 96, "batch_size": 4}
            changes = {"model": model, "record": "test,train", "mode": "both", **sizes}
            params = small(cells, save_model=True, **changes)
            run, synced = train(params, store, task=detection_task(params))
            assert synced
            return store, store.get_run(run.run_id), params

        yield {model: go(model) for model in (SSDLITE, FASTER)}


@pytest.mark.parametrize(("model", "losses"), [
    (SSDLITE, {"classification", "bbox_regression"}),
    (FASTER, {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}),
])  # fmt: skip
def test_images_of_both_splits_and_modes_have_the_losses_of_torchvision(trained, model, losses):
    store, run, _ = trained[model]
    assert set(run.records) == {"test-probe", "train-probe", "train-inline"}
    for name in run.records:
        history = store.open_record(run, name).history()
        counts = {part for part in history.components if part.startswith("n_")}
        assert set(history.components) == losses | counts
        np.testing.assert_allclose(
            sum(history.components[part] for part in losses), history.losses, rtol=1e-6
        )
    assert history.loss_name == {SSDLITE: "ssd", FASTER: "faster_rcnn"}[model]


def test_the_recorded_losses_are_torchvisions_of_the_trained_model(trained):
    store, run, params = trained[SSDLITE]
    train_split, test = open_voc(voc_settings(params))
    model = build_whole_detector(SSDLITE, n_classes=len(test.class_names))
    weights = torch.load(store.local_root(run) / "model" / "weights.pt", weights_only=True)
    model.load_state_dict({name.removeprefix("detector."): part for name, part in weights.items()})
    model.eval().training = True
    targets = [
        {"labels": rows[rows[:, 0] > 0, 0].long(), "boxes": rows[rows[:, 0] > 0, 1:]}
        for rows in test.targets
    ]
    with torch.no_grad():
        expected = model([image / 255 for image in test.images], targets)
    components = store.open_record(run, "test-probe").history().components
    rebuilt = batch_losses({name: part[-1] for name, part in components.items()})
    assert rebuilt == pytest.approx(
        {name: float(loss) for name, loss in expected.items()}, rel=1e-3
    )
    assert Normalisation.of(train_split).mean.shape == (3,)


def test_the_losses_of_training_batches_rebuild_the_training_loss(trained):
    store, run, _ = trained[FASTER]
    logged = store._client.get_metric_history(run.run_id, "train/loss")
    components = store.open_record(run, "train-inline").history().components
    rebuilt = sum(batch_losses({name: part[0] for name, part in components.items()}).values())
    assert rebuilt == pytest.approx(logged[0].value, rel=1e-5)  # an epoch is one batch


@pytest.mark.parametrize("model", [SSDLITE, FASTER])
def test_annotated_boxes_and_a_metric_are_kept(trained, model, cells):
    store, run, params = trained[model]
    _, test = open_voc(voc_settings(params))
    boxes = store.open_record(run, "test-probe").boxes
    truth = boxes[(boxes["kind"] == "truth") & (boxes["sample_id"] == test.ids[1])]
    sides = truth[["left", "top", "right", "bottom"]].to_numpy()
    np.testing.assert_array_equal(sides, test.annotations[1].boxes)
    assert "test-probe/map_50" in store._client.get_run(run.run_id).data.metrics


def test_recording_training_batches_changes_no_weight(trained, cells, store, experiment):
    mlflow.set_experiment(experiment)
    both, run, params = trained[FASTER]
    values = {name: getattr(params, name) for name in KEPT}
    again, _ = train(small(cells, metric="never", **values), store, task=WholeDetection())
    weights = [
        torch.load(place.local_root(each) / "model" / "weights.pt", weights_only=True)
        for place, each in ((both, run), (store, store.get_run(again.run_id)))
    ]
    assert all(torch.equal(part, weights[1][name]) for name, part in weights[0].items())
    probes = [
        place.open_record(each.run_id, "test-probe").history().losses
        for place, each in ((both, run), (store, again))
    ]
    np.testing.assert_array_equal(*probes)


def test_a_last_batch_of_one_is_refused_for_ssdlite(cells):
    with pytest.raises(ParameterError) as caught:
        WholeDetection().load(small(cells, batch_size=3, metric="never"))
    assert str(caught.value) == (
        "batch_size: must not leave a batch of one of the 4 training images, got 3. Pass another "
        "--batch_size: batch normalisation needs two images."
    )


def test_the_task_depends_on_the_model(cells):
    assert type(detection_task(small(cells))) is WholeDetection
    assert type(detection_task(small(cells, model="ssd_small"))) is Detection


def test_main_trains_torchvisions_detector(cells, experiment, capsys):
    mlflow.set_experiment(experiment)
    params = small(cells, epochs=1, metric="never", subset=2)
    argv = [f"--{name}={text}" for name, text in to_strings(params).items()]
    assert train_detection.main(argv) == 0
    assert "(test-probe, loss" in capsys.readouterr().out
