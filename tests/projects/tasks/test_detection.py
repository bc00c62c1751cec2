"""Real training of a detector on blood cells: what the run holds, and that it repeats."""

import io
import json
import sys

import mlflow
import numpy as np
import pytest
import torch
from blood_cells import extract_cells
from PIL import Image

from actiontrack import analysis
from actiontrack.cli import cli
from actiontrack.errors import MissingDependencyError, ParameterError
from actiontrack.reporting import run_report
from actiontrack.store import Store
from projects import train_detection
from projects.checkpoint import Checkpoint
from projects.datasets.voc import VocSettings, open_voc
from projects.loading import Normalisation
from projects.loop import choose_compute, evaluate
from projects.models.ssd import PackedSSD, build_detector
from projects.params import parse, to_strings, validate
from projects.params.detection import DetectionParams
from projects.tasks.detection import Detection, box_table
from projects.train import train

PARTS = ("positive_classification", "negative_classification", "box_regression")
TINY = """<annotation><object><name>RBC</name><bndbox>
<xmin>200</xmin><ymin>200</ymin><xmax>203</xmax><ymax>203</ymax></bndbox></object>{0}</annotation>
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Folder of 8 + 6 photographs; one in each list is emptied, one has the same box twice."""
    folder, names = extract_cells(tmp_path_factory.mktemp("cells"), 8, 6)
    one = TINY.split("<annotation>")[1].split("{0}", maxsplit=1)[0]
    (folder / "Annotations" / f"{names[9]}.xml").write_text(TINY.format(one))
    return folder


def small(cells, **changes):
    values = {
        "dataset": f"voc:{cells}", "epochs": 2, "batch_size": 4, "device": "cpu", "report": False,
        "threads": 1, "warmup_epochs": 0, "schedule": "constant",
    }  # fmt: skip
    return validate(DetectionParams, values | changes)


@pytest.fixture(scope="module")
def trained(cells, tracking_uri, tmp_path_factory):
    """A store, and a run of two epochs with everything that can be logged."""
    folder, store = tmp_path_factory.mktemp("trained"), Store(tracking_uri)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
        patch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
        client = mlflow.MlflowClient(tracking_uri=tracking_uri)
        artifacts = (folder / "artifacts").as_uri()
        experiment = client.create_experiment(f"detection {folder}", artifact_location=artifacts)
        patch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
        params = small(cells, record="test,train", mode="both", save_model=True)
        run, synced = train(params, store, task=Detection())
    assert synced
    return store, store.get_run(run.run_id)


def splits(cells):
    return open_voc(VocSettings(path=str(cells), side=192))


def target_of(rows):
    """What torchvision takes, from the rows with a label."""
    objects = rows[rows[:, 0] > 0]
    return {"labels": objects[:, 0].long(), "boxes": objects[:, 1:]}


def torchvisions(trained):
    """torchvision's own detector with the weights that the run has saved."""
    store, run = trained
    folder = store.local_root(run) / "model"
    assert json.loads((folder / "model.json").read_text())["name"] == "ssd_small"
    ssd = build_detector("ssd_small", n_classes=3)
    weights = torch.load(folder / "weights.pt", weights_only=True)
    ssd.load_state_dict({name.removeprefix("ssd."): weight for name, weight in weights.items()})
    return ssd


# --- what is recorded ---


def test_images_and_objects_of_both_splits_and_modes_are_records_of_their_own(trained):
    _, run = trained
    assert set(run.records) == {
        f"{split}{kind}-{mode}"
        for split, mode in (("test", "probe"), ("train", "probe"), ("train", "inline"))
        for kind in ("", "_objects")
    }


def test_an_image_has_three_losses_that_add_up_to_its_loss(trained):
    store, run = trained
    history = store.open_record(run, "test-probe").history()
    assert history.losses.shape == (2, 6)
    assert set(history.components) == set(PARTS)
    np.testing.assert_allclose(
        sum(history.components[name] for name in PARTS), history.losses, rtol=1e-6
    )
    assert history.loss_name == "multibox"
    assert history.labels is None


def test_each_loss_has_an_action(trained):
    store, run = trained
    record = store.open_record(run, "test-probe")
    history, scores = record.history(), record.scores()
    for name in PARTS:
        expected = history.components[name].astype(float).sum(axis=0)
        np.testing.assert_allclose(scores[f"action_{name}"], expected, rtol=1e-6)


def test_the_last_recorded_losses_are_torchvisions_of_each_image_alone_in_eval_mode(trained, cells):
    store, run = trained
    ssd, (_, test) = torchvisions(trained).eval(), splits(cells)
    ssd.training = True  # of the detector alone: its layers stay in eval mode
    expected = []
    for image, target in zip(test.images, map(target_of, test.targets), strict=True):
        with torch.no_grad():
            losses = ssd([image / 255], [target])
        expected.append([float(losses["classification"]), float(losses["bbox_regression"])])
    parts = store.open_record(run, "test-probe").history().components
    classification = parts["positive_classification"][-1] + parts["negative_classification"][-1]
    recorded = np.stack([classification, parts["box_regression"][-1]], axis=1)
    np.testing.assert_allclose(recorded[np.argsort(np.argsort(test.ids))], expected, rtol=1e-3)


def test_an_image_without_an_object_has_action_0(trained, cells):
    store, run = trained
    scores = store.open_record(run, "test-probe").scores().set_index("sample_id")
    emptied = splits(cells)[1].ids[0]
    assert scores.loc[emptied, "action"] == 0
    assert (scores["action"] == 0).sum() == 1


def test_objects_are_labelled_by_their_class(trained, cells):
    store, run = trained
    record = store.open_record(run, "test_objects-probe")
    _, test = splits(cells)
    expected = {
        name: test.class_names[label]
        for row in range(len(test))
        for name, label in zip(test.object_ids(row), test.labels(row), strict=True)
    }
    frame = analysis.score_frame([record]).set_index("sample_id")
    assert frame["class"].astype(str).to_dict() == expected
    assert set(record.manifest.components) == {"positive_classification", "box_regression"}


def test_an_object_that_no_default_box_is_left_for_has_no_action(trained, cells):
    store, run = trained
    scores = store.open_record(run, "test_objects-probe").scores().set_index("sample_id")
    twice = splits(cells)[1].ids[1]
    assert scores.index[scores["action"].isna()].tolist() == [f"{twice}#1"]


def test_the_losses_of_the_objects_of_an_image_average_to_those_of_the_image(trained, cells):
    store, run = trained
    packed = PackedSSD(torchvisions(trained), mean=torch.zeros(3), std=torch.ones(3)).eval()
    _, test = splits(cells)
    row = 2
    with torch.no_grad():
        packed(test.images[row : row + 1] / 255)
    target = target_of(test.targets[row])
    (matched,) = packed.match([target])
    weights = [int((matched == number).sum()) for number in range(len(target["labels"]))]
    objects = store.open_record(run, "test_objects-probe").scores().set_index("sample_id")
    image = store.open_record(run, "test-probe").scores().set_index("sample_id")
    for name in ("positive_classification", "box_regression"):
        of_objects = objects.loc[test.object_ids(row), f"action_{name}"]
        expected = np.average(of_objects, weights=weights)
        of_image = image.loc[test.ids[row], f"action_{name}"]
        np.testing.assert_allclose(of_image, expected, rtol=1e-5)


def test_the_evaluation_pass_changes_no_statistics(cells):
    train_split, test = splits(cells)
    task, params = Detection(), small(cells, metric="never")
    task.load(params)
    model = task.build(params, train_split).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []
    evaluate(
        model, test, compute=choose_compute(params), normalisation=Normalisation.of(train_split),
        observe=lambda ids, outputs, _: seen.append((len(ids), model.training, outputs.shape)),
        batch_size=4,
    )  # fmt: skip
    assert [count for count, training, _ in seen if not training] == [4, 2]
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


# --- metric, boxes, pictures ---


def test_the_logged_mean_average_precision_is_that_of_torchvisions_detections(trained, cells):
    from torchmetrics.detection import MeanAveragePrecision

    store, run = trained
    ssd, (_, test) = torchvisions(trained).eval(), splits(cells)
    metric = MeanAveragePrecision()
    metric.warn_on_many_detections = False
    for row, image in enumerate(test.images):
        with torch.no_grad():
            (detections,) = ssd([image / 255])
        detections["boxes"] = detections["boxes"] / torch.from_numpy(
            test.scale(row)
        )  # of the stored image
        boxes = torch.from_numpy(test.annotations[row].boxes)
        labels = torch.from_numpy(test.labels(row) + 1)
        metric.update([detections], [{"boxes": boxes, "labels": labels}])
    expected = metric.compute()
    logged = store._client.get_run(run.run_id).data.metrics
    assert logged["test-probe/map"] == pytest.approx(float(expected["map"]), abs=2e-3)
    assert logged["test-probe/map_50"] == pytest.approx(float(expected["map_50"]), abs=2e-3)
    assert {"test-probe/map_per_class/RBC", "train-probe/map_50"} <= set(logged)


def test_boxes_are_kept_in_pixels_of_the_stored_image(trained, cells):
    store, run = trained
    boxes = store.open_record(run, "test-probe").boxes
    _, test = splits(cells)
    truth = boxes[(boxes["kind"] == "truth") & (boxes["sample_id"] == test.ids[2])]
    sides = truth[["left", "top", "right", "bottom"]].to_numpy()
    np.testing.assert_array_equal(sides, test.annotations[2].boxes)
    assert (boxes["width"] == 640).all()
    assert (boxes["right"] <= 640.01).all()
    assert set(boxes["kind"]) == {"truth", "predicted"}


def test_a_detection_where_the_annotation_is_has_the_box_of_the_annotation(cells):
    train_split, _ = splits(cells)
    predictions = [
        target | {"scores": torch.full(target["labels"].shape, 0.9)}
        for target in map(target_of, train_split.targets)
    ]
    table = box_table(train_split, predictions)
    truth, predicted = (table[table["kind"] == kind] for kind in ("truth", "predicted"))
    assert truth["class"].tolist() == predicted["class"].tolist()
    sides = ["left", "top", "right", "bottom"]
    np.testing.assert_allclose(truth[sides], predicted[sides], rtol=1e-4, atol=1e-3)


def test_the_report_has_hardest_and_easiest_of_each_loss_with_boxes(trained):
    store, run = trained
    sections = {section.heading: section for section in run_report(store.open_record(run)).sections}
    for name in PARTS:
        for word in ("Hardest", "Easiest"):
            section = sections[f"{word} samples by {name.replace('_', ' ')}"]
            assert any(axes.patches for axes in section.figure.axes)
            assert f"action_{name}" in section.frame


def test_objects_have_pictures_of_their_own(trained):
    store, run = trained
    record = store.open_record(run, "test_objects-probe")
    sizes = {
        max(Image.open(io.BytesIO(record.image_bytes(row))).size)
        for row in range(record.manifest.n_samples)
    }
    assert sizes == {96}


@pytest.mark.parametrize(("record", "score"), [
    ("test-probe", "action_box_regression"),
    ("test_objects-probe", "action_positive_classification"),
])  # fmt: skip
def test_the_command_line_draws_and_lists_them(trained, tmp_path, record, score):
    from click.testing import CliRunner

    store, run = trained
    chosen = ["--run", run.run_id, "--record", record, "--tracking-uri", store.tracking_uri]
    for words in (
        ["gallery", *chosen, "--score", score, "--plot", str(tmp_path / "gallery")],
        ["classes", *chosen, "--score", score],
        ["scores", *chosen, "--score", score, "--top", "3"],
    ):
        result = CliRunner().invoke(cli, words, catch_exceptions=False)
        assert result.exit_code == 0
    assert (tmp_path / "gallery.png").exists()


@pytest.fixture
def train_here(store, experiment, cells):
    """A function that trains in the test's experiment."""
    mlflow.set_experiment(experiment)

    def go(**changes):
        run, synced = train(small(cells, **changes), store, task=Detection())
        assert synced
        return store.get_run(run.run_id)

    return go


def losses_digests(store, run_id):
    manifests = [
        store.open_record(run_id, name).manifest for name in ("test-probe", "test_objects-probe")
    ]
    assert [manifest.n_steps for manifest in manifests] == [2, 2]
    return [
        [manifest.files[block.path].digest for block in manifest.blocks] for manifest in manifests
    ]


def test_a_resumed_training_gives_the_records_of_an_uninterrupted_one(
    train_here, store, tmp_path, monkeypatch, new_run
):
    whole = train_here(metric="never")
    run_id, real = new_run(), Checkpoint.save
    options = {"metric": "never", "run_id": run_id, "checkpoint": str(tmp_path / "last.pt")}

    def save(self, epoch, *state):
        if epoch > 1:
            raise RuntimeError("the power went")
        real(self, epoch, *state)

    with monkeypatch.context() as patch:
        # The second epoch is recorded and its checkpoint is not: it is trained and recorded again.
        patch.setattr(Checkpoint, "save", save)
        with pytest.raises(RuntimeError, match="the power went"):
            train_here(**options)
    assert store.open_record(run_id, "test_objects-probe").manifest.status == "recording"
    train_here(**options)
    assert losses_digests(store, run_id) == losses_digests(store, whole.run_id)


def test_the_metric_may_wait_for_the_end(train_here, store):
    run = train_here(metric="end")
    logged = store._client.get_metric_history(run.run_id, "test-probe/map_50")
    assert [metric.step for metric in logged] == [2]


# --- parts of the task ---


def test_mirrored_boxes_stay_on_their_pixels(cells):
    train_split, _ = splits(cells)
    task = Detection()
    task.load(small(cells, metric="never"))
    images, targets = train_split.images[1:5].float(), train_split.targets[1:5]
    mirrored, moved = task.augment(images, targets, torch.Generator().manual_seed(0))
    changed = [not torch.equal(a, b) for a, b in zip(images, mirrored, strict=True)]
    assert 0 < sum(changed) < 4
    for row, is_mirrored in enumerate(changed):
        for before, after in zip(targets[row], moved[row], strict=True):
            if not before[0]:
                continue
            left, top, right, bottom = before[1:].round().int().tolist()
            patch = images[row, :, top:bottom, left:right]
            left, top, right, bottom = after[1:].round().int().tolist()
            moved_patch = mirrored[row, :, top:bottom, left:right]
            expected = patch.flip(-1) if is_mirrored else patch
            assert torch.equal(moved_patch, expected) or (expected - moved_patch).abs().mean() < 12


def test_without_augmentation_batches_stay_as_they_are(cells):
    task = Detection()
    task.load(small(cells, metric="never", augment="none"))
    images, targets = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 5)
    assert task.augment(images, targets, torch.Generator()) == (images, targets)


def test_without_torchmetrics_the_command_that_installs_it_is_named(cells, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.detection", None)
    with pytest.raises(MissingDependencyError) as caught:
        Detection().load(small(cells))
    assert str(caught.value) == (
        "the mean average precision needs torchmetrics and pycocotools: "
        "pip install 'actiontrack[detection]', or pass --metric never"
    )


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ["--dataset", "voc:"],
            "dataset: must be voc:PATH, got 'voc:'. Leave it out for the default, voc:VOCdevkit.",
        ),
        (["--classes", "a,,b"], (
            "classes: must be a comma list of names without repeats, got 'a,,b'. "
            "Leave it out for the default, empty."
        )),
        (["--weights", "imagenet", "--model", "ssd_small"], (
            "weights: must be none for model ssd_small, got 'imagenet'. "
            "Pass --weights none or --model ssd300_vgg16."
        )),
        (["--image_size", "96", "--model", "ssd_small"], (
            "image_size: must be 0 for model ssd_small, which has a size of its own, got 96. "
            "Leave it out, or pass --model fasterrcnn_mobilenet_v3_large_320_fpn."
        )),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_refused(argv, expected):
    with pytest.raises(ParameterError) as caught:
        parse(DetectionParams, argv)
    assert str(caught.value) == expected


def test_a_size_of_the_images_chooses_a_detector_that_takes_any():
    params = parse(DetectionParams, ["--image_size", "96", "--weights", "imagenet"])
    assert params.model == "fasterrcnn_mobilenet_v3_large_320_fpn"
    assert params.adapted == {"model"}


def test_parameters_survive_the_way_through_text():
    params = validate(DetectionParams, {"classes": "b,a", "difficult": "ignore"})
    argv = [f"--{name}={text}" for name, text in to_strings(params).items()]
    assert parse(DetectionParams, argv) == params
    assert params.classes == ("b", "a")


def test_main_prints_scores_of_images_and_objects_and_the_metric(cells, experiment, capsys):
    mlflow.set_experiment(experiment)
    params = small(cells, epochs=1, test_subset=3)
    argv = [f"--{name}={text}" for name, text in to_strings(params).items()]
    assert train_detection.main(argv) == 0
    out = capsys.readouterr().out
    for words in ("(test-probe, loss", "(test_objects-probe, loss", "test-probe/map_50"):
        assert words in out
