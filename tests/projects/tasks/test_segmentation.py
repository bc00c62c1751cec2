"""Segmentation of real street scenes: what the run holds, and where the hard pixels are."""

import io
import tarfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from helpers import message
from PIL import Image
from sklearn.metrics import accuracy_score, jaccard_score

from actiontrack import analysis, reporting
from actiontrack.errors import ParameterError
from projects import train as training
from projects import train_segmentation
from projects.loading import Normalisation
from projects.models.unet import UNet
from projects.params import parse, to_strings, validate
from projects.params.segmentation import SegmentationParams
from projects.tasks.segmentation import Segmentation, intersection_over_union

CAMVID = Path(__file__).parents[4] / "shared" / "data" / "camvid.tar"
CLASSES = "sky,building,pole,road,pavement,tree,sign,fence,car,pedestrian,bicyclist"


@pytest.fixture(scope="module")
def camvid(tmp_path_factory):
    """Folder with eight training and four validation images of CamVid, at 120x90."""
    if not CAMVID.exists():
        pytest.skip("shared/data/camvid.tar is not beside the repository")
    folder = tmp_path_factory.mktemp("camvid")
    with tarfile.open(CAMVID) as archive:
        masks = sorted(name for name in archive.getnames() if "/masks/" in name and "." in name)
        for split, count in (("train", 8), ("val", 4)):
            for name in [name for name in masks if f"/{split}/" in name][::20][:count]:
                image = name.replace("/masks/", "/images/").replace(".png", ".jpg")
                for member, method in ((name, Image.Resampling.NEAREST), (image, None)):
                    path = folder / Path(member).relative_to("camvid")
                    path.parent.mkdir(parents=True, exist_ok=True)
                    picture = Image.open(io.BytesIO(archive.extractfile(member).read()))
                    picture.resize((120, 90), method).save(path.with_suffix(".png"))
    return folder


def parameters(folder, **values):
    small = {
        "dataset": f"masks:{folder}/images,{folder}/masks", "classes": CLASSES, "void_id": 11,
        "height": 36, "width": 48, "epochs": 2, "warmup_epochs": 0, "batch_size": 4, "threads": 1,
        "width_divisor": 16, "device": "cpu", "report": False, "save_model": True,
    }  # fmt: skip
    return validate(SegmentationParams, small | values)


@pytest.fixture
def train(camvid, store, experiment):
    """A function that trains in a run of its own and returns the record, and the task."""
    mlflow.set_experiment(experiment)

    def go(**values):
        task = Segmentation()
        run, synced = training.train(parameters(camvid, **values), store, task=task)
        assert synced
        return store.open_record(run.run_id), task

    return go


def trained_logits(record, folder, **values):
    """Logits of the stored model for the validation images, (4, n_outputs, 36, 48)."""
    task = Segmentation()
    params = parameters(folder, **values)
    train_split, test_split = task.load(params)
    root = record.store.local_root(record.run)
    model = UNet(task.describe_model(params, train_split)["n_classes"], width_divisor=16).eval()
    model.load_state_dict(torch.load(root / "model" / "weights.pt", weights_only=True))
    with torch.inference_mode():
        return model(Normalisation.of(train_split).apply(test_split.images)), test_split


@pytest.fixture
def trained(train_once, camvid):
    return train_once(parameters(camvid), Segmentation)


@pytest.fixture
def counted(trained):
    return trained.record()


def test_the_record_names_loss_pixel_loss_and_void(counted):
    manifest = counted.manifest
    assert manifest.loss_name == "1 dice + 1 jaccard + 1 focal(gamma=2)"
    assert (manifest.pixel_loss_name, manifest.void) == ("focal", "counted")
    assert manifest.components == ("dice", "focal", "jaccard")
    assert manifest.class_names == (*CLASSES.split(","), "void")


def test_the_three_parts_have_actions_that_add_up(counted):
    scores = counted.scores()
    parts = scores[["action_dice", "action_jaccard", "action_focal"]].sum(axis=1)
    np.testing.assert_allclose(scores["action"], parts, rtol=1e-5)


def test_the_mean_of_a_map_is_the_action_of_its_focal_part(counted):
    means = [counted.pixel_action(row).mean() for row in range(4)]
    np.testing.assert_allclose(counted.scores()["action_focal"], means, rtol=1e-4)


def test_predictions_and_labels_are_kept_as_pictures_of_classes(counted, camvid):
    logits, split = trained_logits(counted, camvid)
    assert counted.picture_names == ("label", "prediction")
    for row in range(4):
        label, predicted = (
            np.asarray(Image.open(io.BytesIO(counted.picture_bytes(name, row))))
            for name in counted.picture_names
        )
        np.testing.assert_array_equal(label, split.targets[row])
        np.testing.assert_array_equal(predicted, logits[row].argmax(dim=0))


def test_the_metrics_are_those_of_scikit_learn(trained, counted, camvid):
    logits, split = trained_logits(counted, camvid)
    truth, predicted = split.targets.numpy().ravel(), logits.argmax(dim=1).numpy().ravel()
    labelled = truth != 11
    truth, predicted = truth[labelled], predicted[labelled]
    metrics = trained.task.latest_metrics
    present = sorted(set(truth) | set(predicted) - {11})
    expected = jaccard_score(truth, predicted, average="macro", labels=present)
    assert metrics["test-probe/miou"] == pytest.approx(expected)
    assert metrics["test-probe/pixel_accuracy"] == pytest.approx(accuracy_score(truth, predicted))


def test_pixels_are_ranked_by_class_as_by_plain_pandas(counted, camvid):
    _, split = trained_logits(counted, camvid)
    pixels = pd.DataFrame(
        {
            "class": np.array(counted.manifest.class_names)[split.targets.numpy().ravel()],
            "action": np.stack([counted.pixel_action(row) for row in range(4)]).ravel(),
        }
    )
    expected = pixels.groupby("class")["action"].agg(["size", "mean"])
    expected = expected.sort_values("mean", ascending=False)
    ranked = analysis.pixel_classes(counted).set_index("class")
    assert ranked.index.tolist() == expected.index.tolist()
    np.testing.assert_array_equal(ranked["n_pixels"], expected["size"])
    np.testing.assert_allclose(ranked["mean"], expected["mean"], rtol=1e-5)
    assert ranked["share_pixels"].sum() == pytest.approx(1)
    assert ranked["share_action"].sum() == pytest.approx(1)


def test_the_hardest_regions_are_connected_and_of_one_class(counted, camvid):
    _, split = trained_logits(counted, camvid)
    regions = analysis.pixel_regions(counted, 3, min_pixels=20)
    assert (regions["mean"].diff().dropna() <= 0).all()
    first = regions.iloc[0]
    row = split.ids.tolist().index(first["sample_id"])
    inside = split.targets[row, first["top"] : first["bottom"], first["left"] : first["right"]]
    value = counted.manifest.class_names.index(first["class"])
    assert int((inside == value).sum()) >= first["n_pixels"] >= 20


def test_report_and_terminal_show_the_ranking(counted, store):
    report = reporting.run_report(counted)
    headings = [section.heading for section in report.sections]
    assert "Difficulty of pixels per class" in headings
    assert "Pixel actions of the hardest samples" in headings
    assert "Action of a pixel (focal) per class, hardest first:" in reporting.describe_run(
        store, counted.run
    )


def test_ignored_void_has_no_output_no_action_and_no_part_in_the_loss(train):
    record, _ = train(void="ignored", epochs=1, map_factor=2, map_dtype="float16")
    assert record.manifest.void == "ignored"
    assert record.map_index[["height", "width"]].drop_duplicates().to_numpy().tolist() == [[18, 24]]
    with pytest.raises(RuntimeError, match="size mismatch"):
        trained_logits(record, Path(record.manifest.source["root"]).parent)


def test_iou_leaves_void_pixels_out_of_the_other_classes():
    # Rows are labels, columns predictions; the last class is void.
    confusion = np.array([[3.0, 1, 0], [0, 2, 2], [4, 0, 1]])
    overlaps = intersection_over_union(confusion, 2)
    np.testing.assert_allclose(overlaps, [3 / 4, 2 / 5, 1 / 7])


@pytest.mark.parametrize("dataset", ["masks:a", "masks:a,", "masks:a,b,c", "cityscapes:", "digits"])
def test_a_dataset_that_is_none_is_refused(dataset):
    expected = (
        f"dataset: must be masks:IMAGES,MASKS or cityscapes:PATH, got {dataset!r}. Leave it out "
        "for the default, masks:camvid/images,camvid/masks."
    )
    with pytest.raises(ParameterError, match=message(expected)):
        parse(SegmentationParams, ["--dataset", dataset])


def test_a_loss_without_any_part_is_refused():
    expected = (
        "dice_weight: must be above 0, or jaccard_weight or focal_weight must be, got 0.0. Pass a "
        "weight of 1 for one of the three."
    )
    weights = {f"{name}_weight": 0 for name in ("dice", "jaccard", "focal")}
    with pytest.raises(ParameterError, match=message(expected)):
        validate(SegmentationParams, weights)


def test_main_prints_classes_by_difficulty_and_the_metrics(camvid, experiment, capsys):
    mlflow.set_experiment(experiment)
    argv = [f"--{name}={text}" for name, text in to_strings(parameters(camvid, epochs=1)).items()]
    assert train_segmentation.main(argv) == 0
    printed = capsys.readouterr().out
    (run,) = mlflow.search_runs(experiment_names=[experiment], output_format="list")
    line = next(line for line in printed.splitlines() if line.startswith("test-probe/miou"))
    assert float(line.split()[1]) == pytest.approx(run.data.metrics["test-probe/miou"], abs=6e-4)


@pytest.mark.parametrize(("height", "width", "name"), [(15, 48, "height"), (36, 8, "width")])
def test_images_that_the_u_net_cannot_halve_four_times_are_refused(camvid, height, width, name):
    task, params = Segmentation(), parameters(camvid, height=height, width=width)
    split, _ = task.load(params)
    expected = (
        f"{name}: must be at least 16 pixels for the U-Net, got {min(height, width)}. "
        f"Pass --{name} 16 or more."
    )
    with pytest.raises(ParameterError, match=message(expected)):
        task.build(params, split)
    assert UNet.min_size == 16
