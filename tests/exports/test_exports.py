"""What other tools are given: by the tools themselves where they are installed, else by rule."""

import base64
import csv
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from actiontrack import cli
from actiontrack.analysis import verdicts
from actiontrack.analysis.verdicts import Verdict
from actiontrack.errors import DataError, NotFoundError, ParameterError
from actiontrack.record.escaping import safe_name
from actiontrack.recorder import Recorder
from actiontrack.reporting import exports

N = 40
NAMES = ("ant", "bee <b>", "../cat")
LABELS = np.arange(N) % 3


def png(value):
    buffer = io.BytesIO()
    Image.new("L", (8, 6), value).save(buffer, "PNG")
    return buffer.getvalue()


def losses(step):
    """Descending: sample 0 is the hardest, sample 39 the easiest."""
    return (np.linspace(2, 1, N) / step).astype(np.float32)


@pytest.fixture
def make(record_once, store, spool):
    """A function that records two epochs of 40 samples, with or without images in a folder."""

    def record(root=None, *, thumbnails=False, loss=losses, split="train", **options):
        ids = [f"part {each % 2}/{each:02d}.png" for each in range(N)] if root else list(range(N))
        source = {"kind": "folder", "root": str(root)} if root else None
        given = options | {"class_names": NAMES, "source": source}

        def fill(run_id):
            with Recorder(split, run_id=run_id, store=store, spool=spool, **given) as recorder:
                recorder.describe_samples(ids, labels=LABELS, paths=ids if root else None)
                for step in (1, 2):
                    recorder.update(ids, loss(step), labels=LABELS)
                    recorder.end_epoch()
                if thumbnails:
                    recorder.log_thumbnails(ids, [png(each) for each in range(N)])

        content = ("exported", ids, [loss(step) for step in (1, 2)], split, thumbnails, given)
        return store.open_record(record_once(content, fill))

    return record


@pytest.fixture
def record(make):
    return make(thumbnails=True)


@pytest.fixture
def on_disk(make, tmp_path):
    root = tmp_path / "images"
    for each in range(N):
        path = root / f"part {each % 2}" / f"{each:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(each))
    return make(root)


def judge(record, *given):
    said = [
        Verdict(sample_id=sample, verdict=verdict, who="me", new_label=label)
        for sample, verdict, label in given
    ]
    verdicts.add(record, said)


# ---------------------------------------------------------------- which samples


def test_the_hardest_share_is_suspect(record):
    found = exports.mark_suspects(record, exports.Suspects(share=0.1))
    assert found.loc[found["suspect"], "sample_id"].tolist() == [0, 1, 2, 3]
    assert set(found.loc[found["suspect"], "reason"]) == {"among the 4 hardest by action"}
    assert found["place"].tolist() == list(range(1, N + 1))
    np.testing.assert_allclose(found["rank"], np.linspace(1, 0, N))


def test_a_number_counts_instead_of_the_share(record):
    found = exports.mark_suspects(record, exports.Suspects(top=7))
    assert found["suspect"].sum() == 7


def test_what_people_said_counts_more_than_the_score(record):
    judge(record, (0, "fine", None), (30, "wrong_label", 2), (1, "ambiguous", None))
    found = exports.mark_suspects(record, exports.Suspects(top=2)).set_index("sample_id")
    assert found.index[found["suspect"]].tolist() == [1, 30]
    assert found.loc[30, "reason"] == "reviewed: wrong label"
    assert found.loc[30, "new_class"] == "../cat"
    by_score = exports.mark_suspects(record, exports.Suspects(top=2, reviewed=False))
    assert by_score.loc[by_score["suspect"], "sample_id"].tolist() == [0, 1]


def test_a_sample_without_a_score_is_not_suspect(make):
    def with_nan(step):
        values = losses(step)
        values[5] = np.nan
        return values

    found = exports.mark_suspects(make(loss=with_nan, thumbnails=True), exports.Suspects(share=1))
    assert not found.loc[5, "suspect"]
    assert np.isnan(found.loc[5, "rank"])
    assert found["suspect"].sum() == N - 1


@pytest.mark.parametrize(("name", "value"), [("share", 1.5), ("share", -0.1), ("top", -1)])
def test_choices_out_of_range_are_refused(name, value):
    with pytest.raises(ParameterError, match=f"^{name}: must "):
        exports.Suspects(**{name: value})


# ---------------------------------------------------------------- Datalab


# cleanlab 2.9 renames in a way that pandas 3.1 deprecates.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame")
def test_label_issues_have_the_columns_and_types_of_cleanlab(make):
    datalab = pytest.importorskip("cleanlab").Datalab
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(N, 3)).astype(np.float32)
    record = make()  # without predictions
    with_predictions = record_with_logits(make, logits)
    lab = datalab({"label": LABELS.tolist()}, label_name="label", verbosity=0)
    odds = np.exp(logits.astype(np.float64))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    lab.find_issues(pred_probs=probabilities, issue_types={"label": {}})
    theirs = lab.get_issues("label")
    ours = exports.datalab_issues(with_predictions)
    assert ours.columns.tolist() == theirs.columns.tolist()
    assert ours.dtypes.to_dict() == theirs.dtypes.to_dict()
    assert ours.index.equals(theirs.index)
    assert ours["given_label"].tolist() == theirs["given_label"].tolist()
    assert ours["predicted_label"].tolist() == theirs["predicted_label"].tolist()
    assert "predicted_label" not in exports.datalab_issues(record)


def record_with_logits(make, logits):
    record = make()
    store, spool = record.store, record.store.local_root(record.run) / "second"
    with Recorder("test", run_id=record.run.run_id, store=store, spool=spool) as recorder:
        recorder.update(np.arange(N), logits=logits, labels=LABELS)
        recorder.end_epoch()
    return store.open_record(store.get_run(record.run.run_id), "test-probe")


def test_the_worst_label_has_the_lowest_score_as_in_cleanlab(record):
    frame = exports.datalab_issues(record, exports.Suspects(top=1))
    assert frame["label_score"].idxmin() == 0
    assert frame["label_score"].between(0, 1).all()
    assert frame["is_label_issue"].tolist() == [True] + [False] * (N - 1)


# ---------------------------------------------------------------- FiftyOne


class Dataset:
    """Stands for a FiftyOne dataset, whose set_values matches values by a field."""

    def __init__(self):
        self.fields = {}

    def set_values(self, name, values, key_field):
        self.fields[name] = (values, key_field)


def test_fields_are_added_by_the_path_of_the_image(on_disk, tmp_path):
    dataset = Dataset()
    added = exports.add_to_fiftyone(dataset, on_disk, exports.Suspects(top=1))
    assert set(added) == set(dataset.fields)
    values, key_field = dataset.fields["actiontrack_action"]
    assert key_field == "filepath"
    action = on_disk.scores()["action"]
    path = tmp_path / "images" / "part 1" / "01.png"
    row = on_disk.samples.sample_ids.tolist().index("part 1/01.png")
    assert values[str(path)] == action[row]
    suspects, _ = dataset.fields["actiontrack_suspect"]
    assert [key for key, value in suspects.items() if value] == [
        str(tmp_path / "images" / "part 0" / "00.png")
    ]


def test_without_paths_samples_are_matched_by_another_field(record):
    with pytest.raises(NotFoundError, match="names no folder of images"):
        exports.add_to_fiftyone(Dataset(), record)
    dataset = Dataset()
    exports.add_to_fiftyone(dataset, record, key_field="sample_id")
    values, key_field = dataset.fields["actiontrack_action"]
    assert key_field == "sample_id"
    assert list(values) == list(range(N))


def test_the_dataset_to_import_holds_images_labels_scores_and_tags(record, tmp_path):
    exports.save_fiftyone(record, tmp_path, exports.Suspects(top=2))
    samples = json.loads((tmp_path / "samples.json").read_text())["samples"]
    assert [each["tags"] for each in samples] == [["suspect"]] * 2 + [[]] * (N - 2)
    action = record.scores()["action"].tolist()
    assert [each["actiontrack_action"] for each in samples] == action
    assert samples[4]["ground_truth"]["label"] == NAMES[1]
    assert (tmp_path / samples[7]["filepath"]).read_bytes() == png(7)
    info = json.loads((tmp_path / "metadata.json").read_text())["info"]
    assert info["digest"] == record.digest


# ---------------------------------------------------------------- Label Studio


def test_tasks_come_hardest_first_with_image_label_and_score(record):
    tasks = exports.label_studio_tasks(record, exports.Suspects(top=3))
    assert [each["data"]["sample_id"] for each in tasks] == ["0", "1", "2"]
    data = tasks[1]["data"]
    content = base64.b64decode(data["image"].removeprefix("data:image/png;base64,"))
    assert content == png(1)
    assert data["class"] == NAMES[1]
    assert tasks[1]["predictions"][0]["result"][0]["value"]["choices"] == [NAMES[1]]


def test_the_form_has_a_control_for_every_name_in_a_prediction(record):
    form = ET.fromstring(exports.label_studio_config(record))  # noqa: S314 - ours
    controls = {each.get("name"): each for each in form.iter() if each.get("toName")}
    assert set(controls) == {"verdict", "label", "note"}
    assert [each.get("value") for each in controls["label"]] == list(NAMES)
    assert [each.get("value") for each in controls["verdict"]] == [
        "wrong_label", "ambiguous", "fine"
    ]  # fmt: skip


def test_reviewed_samples_are_no_tasks_again(record):
    judge(record, (0, "fine", None), (2, "wrong_label", 1))
    tasks = exports.label_studio_tasks(record, exports.Suspects(top=3))
    assert [each["data"]["sample_id"] for each in tasks] == ["1"]


def test_images_may_lie_where_the_tool_reads_them(on_disk):
    tasks = exports.label_studio_tasks(
        on_disk, exports.Suspects(top=1), image_root="/data/local-files/?d=x"
    )
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=x/part%200/00.png"


# ---------------------------------------------------------------- CVAT


def test_cvat_has_a_tag_with_score_for_each_suspect_and_its_image(record, tmp_path):
    exports.save_cvat(record, tmp_path, exports.Suspects(top=2))
    root = ET.fromstring((tmp_path / "annotations.xml").read_bytes())  # noqa: S314 - ours
    images = root.findall("image")
    assert [(each.get("width"), each.get("height")) for each in images] == [("8", "6")] * 2
    assert (tmp_path / "images" / images[1].get("name")).read_bytes() == png(1)
    tag = images[1].find("tag")
    values = {each.get("name"): each.text for each in tag.findall("attribute")}
    assert tag.get("label") == NAMES[1]
    assert values["sample_id"] == "1"
    assert float(values["score"]) == pytest.approx(record.scores()["action"][1], rel=1e-5)
    names = {each["name"] for each in json.loads((tmp_path / "labels.json").read_text())}
    assert names == {*NAMES, "wrong_label", "ambiguous", "fine"}
    assert names == {each.text for each in root.findall("meta/task/labels/label/name")}


def test_cvat_has_the_annotated_boxes_in_pixels_of_the_stored_image(new_run, store, spool):
    run_id = new_run()
    sides = {"left": 4, "top": 0, "right": 12, "bottom": 6, "width": 16, "height": 12}
    boxes = [
        {"sample_id": "a", "kind": "truth", "class": "car", "score": np.nan} | sides,
        {"sample_id": "a", "kind": "predicted", "class": "car", "score": 0.9} | sides,
    ]
    with Recorder(run_id=run_id, store=store, spool=spool) as recorder:
        recorder.update(["a", "b"], np.array([2.0, 1.0]))
        recorder.end_epoch()
        recorder.log_thumbnails(["a", "b"], [png(1)] * 2)
        recorder.log_boxes(pd.DataFrame(boxes))
    root = ET.fromstring(exports.cvat_xml(store.open_record(run_id), exports.Suspects(share=1)))  # noqa: S314 - ours
    (box,) = root.findall("image/box")
    assert [box.get(each) for each in ("xtl", "ytl", "xbr", "ybr")] == [
        "2.00", "0.00", "6.00", "3.00"
    ]  # fmt: skip


def test_cvat_without_an_image_says_what_to_do(make):
    with pytest.raises(NotFoundError, match="Record with thumbnails"):
        exports.cvat_xml(make())


# ---------------------------------------------------------------- training


def test_indices_and_weights_choose_the_samples_in_torch(record):
    data = pytest.importorskip("torch.utils.data")
    suspects = exports.Suspects(top=10)
    subset = data.Subset(list(range(N)), exports.subset_indices(record, suspects).tolist())
    assert list(subset) == list(range(10, N))
    weights = exports.sampling_weights(record, suspects)
    drawn = list(data.WeightedRandomSampler(weights.tolist(), 300, replacement=True))
    assert min(drawn) >= 10
    assert weights.mean() == pytest.approx(1)


def test_weights_favour_hard_or_easy_samples(record):
    hard = exports.sampling_weights(record, favour="hard", power=2)
    easy = exports.sampling_weights(record, favour="easy")
    assert (np.diff(hard) < 0).all()
    assert (np.diff(easy) > 0).all()
    assert hard[0] / hard[-1] == pytest.approx((N + 1) ** 2)


def test_weights_of_no_sample_are_refused(record):
    with pytest.raises(ParameterError, match="must leave a sample"):
        exports.sampling_weights(record, exports.Suspects(share=1))


def test_a_curriculum_goes_from_easy_to_hard_with_every_class_in_every_chunk(record):
    frame = exports.curriculum(record, exports.Suspects(share=0), chunks=4)
    assert frame["position"].tolist() == list(range(N))
    assert sorted(frame["sample_id"]) == list(range(N))
    counts = pd.crosstab(frame["chunk"], frame["class"])
    assert (counts > 0).all(axis=None)
    assert (counts.max() - counts.min()).max() <= 1
    means = frame.groupby("chunk")["action"].mean()
    assert (np.diff(means) > 0).all()
    plain = exports.curriculum(record, exports.Suspects(top=3), chunks=1)
    assert plain["sample_id"].tolist() == list(range(N - 1, 2, -1))


# ---------------------------------------------------------------- image folders


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_holds_the_rest_by_class_and_says_what_was_left_out(record, tmp_path):
    judge(record, (0, "fine", None), (9, "wrong_label", 1), (8, "wrong_label", None))
    folder = tmp_path / "clean"
    exports.image_folder(record, folder, exports.Suspects(top=3))
    left_out = {row["sample_id"]: row["reason"] for row in listed(folder / "left_out.csv")}
    assert left_out == {
        "1": "among the 3 hardest by action",
        "2": "among the 3 hardest by action",
        "8": "reviewed: wrong label",
    }
    kept = {row["sample_id"]: row["file"] for row in listed(folder / "kept.csv")}
    assert len(kept) == N - 3
    assert kept["9"].startswith("bee %3Cb%3E/")  # relabelled, it was an ant
    assert kept["0"].startswith("ant/")
    assert kept["5"] == "%2E%2E%2Fcat/5.png"
    images = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert images == set(kept.values())
    assert (folder / kept["5"]).read_bytes() == png(5)
    assert not (tmp_path / "cat").exists()


def test_torchvision_reads_the_folder(record, tmp_path):
    folders = pytest.importorskip("torchvision.datasets")
    exports.image_folder(record, tmp_path / "clean", exports.Suspects(top=4))
    found = folders.ImageFolder(tmp_path / "clean")
    assert len(found) == N - 4
    assert sorted(found.classes) == sorted(safe_name(each) for each in NAMES)


def test_links_lead_to_the_images_of_the_dataset(on_disk, tmp_path):
    exports.image_folder(on_disk, tmp_path / "clean", exports.Suspects(share=0), link=True)
    links = list((tmp_path / "clean").rglob("*.png"))
    assert len(links) == N
    assert all(path.is_symlink() for path in links)
    assert {path.resolve() for path in links} == set((tmp_path / "images").rglob("*.png"))


def test_a_link_never_leads_out_of_the_dataset(new_run, store, spool, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.png").write_bytes(png(1))
    run_id, source = new_run(), {"kind": "folder", "root": str(tmp_path / "images")}
    with Recorder(run_id=run_id, store=store, spool=spool, source=source) as recorder:
        recorder.describe_samples(["a"], paths=["../secret.png"])
        recorder.update(["a"], np.ones(1))
        recorder.end_epoch()
    with pytest.raises(DataError, match="no image of record"):
        exports.image_folder(
            store.open_record(run_id), tmp_path / "x", exports.Suspects(share=0), link=True
        )


def test_a_folder_that_holds_something_is_not_touched(record, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty"):
        exports.image_folder(record, tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["mine.txt"]


def test_a_file_in_place_of_a_folder_is_refused(record, tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("mine")
    with pytest.raises(DataError, match=r"mine\.txt is no folder\. Name another one\.$"):
        exports.image_folder(record, path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "text", ["..", ".", "", "/", "a/../b", "\x00", "é", " a ", "x" * 300, "a" * 149 + "é" * 9]
)
def test_any_text_gives_one_harmless_name(text, tmp_path):
    name = safe_name(text)
    path = tmp_path / name
    path.touch()
    assert path.parent == tmp_path
    assert path.resolve() == path
    assert not name.startswith(".")


# ---------------------------------------------------------------- the command

FILES = {
    "datalab": {"datalab_issues.csv"},
    "fiftyone": {"metadata.json", "samples.json", "data"},
    "label-studio": {"tasks.json", "config.xml"},
    "cvat": {"labels.json", "annotations.xml", "images"},
    "subset": {"indices.npy", "weights.npy", "samples.csv"},
    "curriculum": {"curriculum.csv"},
    "image-folder": {"left_out.csv", "kept.csv", "ant", "bee %3Cb%3E", "%2E%2E%2Fcat"},
}


def test_the_command_writes_every_kind(record, tmp_path, capsys):
    assert {*FILES, "slices"} == set(exports.EXPORTS)  # those need attributes: a file of their own
    for kind, files in FILES.items():
        folder = tmp_path / kind
        arguments = ["--run", record.run.run_id, "--output", str(folder), "--top", "4"]
        cli.main(["export", "--to", kind, *arguments])
        assert {path.name for path in folder.iterdir()} == files, kind
        assert str(folder) in capsys.readouterr().out
