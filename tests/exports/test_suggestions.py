"""Suspects by the probability that their label is wrong, with the class that is suggested."""

import csv
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from helpers import message
from mislabelled import LABELS, N_SAMPLES, TRUTH, WRONG, mislabelled_history
from PIL import Image

from actiontrack import cli
from actiontrack.analysis import verdicts
from actiontrack.analysis.verdicts import Verdict
from actiontrack.errors import NotFoundError, ParameterError
from actiontrack.recorder import Recorder
from actiontrack.reporting import exports
from actiontrack.testing import record_history

NAMES = np.array(["ant", "bee", "cat"])
SUSPECTS = exports.Suspects(score="p_wrong", at_least=0.5)


def png():
    buffer = io.BytesIO()
    Image.new("L", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def mislabelled(record_once, store, spool):
    """A record of 240 labels, 20 of them wrong, with images."""
    history = mislabelled_history()

    def fill(run_id):
        record_history(history, run_id, store, spool, "m")
        with Recorder("train", run_id=run_id, store=store, spool=spool, resume=True) as recorder:
            recorder.log_thumbnails(list(range(N_SAMPLES)), [png()] * N_SAMPLES)

    return store.open_record(record_once(("mislabelled with images",), fill))


def judge(record, sample_id, verdict, new_label=None):
    said = Verdict(sample_id=sample_id, verdict=verdict, who="me", new_label=new_label)
    verdicts.add(record, [said])


# ---------------------------------------------------------------- which samples


def test_samples_from_a_value_on_are_suspect(mislabelled):
    marked = exports.mark_suspects(mislabelled, SUSPECTS)
    assert np.flatnonzero(marked["suspect"]).tolist() == WRONG.tolist()
    assert set(marked.loc[marked["suspect"], "reason"]) == {"p_wrong of 0.5 or more"}
    assert marked.loc[WRONG, "suggested_class"].tolist() == NAMES[TRUTH[WRONG]].tolist()


def test_of_a_score_whose_low_values_are_hard_the_value_is_the_upper_end(mislabelled):
    value = float(mislabelled.scores()["aum"].nsmallest(3).max())
    marked = exports.mark_suspects(mislabelled, exports.Suspects(score="aum", at_least=value))
    assert marked["suspect"].sum() == 3
    assert set(marked.loc[marked["suspect"], "reason"]) == {f"aum of {value:g} or less"}
    assert "suggested_class" not in marked


@pytest.mark.parametrize("other", [{"share": 0.05}, {"top": 3}])
def test_a_value_comes_without_share_and_number(other):
    text = "at_least: must come without share and top, got 0.5. Pass one of the three."
    with pytest.raises(ParameterError, match=message(text)):
        exports.Suspects(at_least=0.5, **other)


def test_a_value_that_is_no_number_is_refused():
    with pytest.raises(ParameterError, match=r"^at_least: must be a number, got nan"):
        exports.Suspects(at_least=float("nan"))


def test_a_record_without_suggestions_is_refused(recorded_history, store):
    run_id = recorded_history(mislabelled_history(without=("largest_other",)))
    with pytest.raises(NotFoundError, match="Train again with this version"):
        exports.mark_suspects(store.open_record(run_id), SUSPECTS)


# ---------------------------------------------------------------- each tool


def test_a_task_predicts_the_suggested_class_with_its_probability(mislabelled):
    tasks = exports.label_studio_tasks(mislabelled, SUSPECTS, image_root="https://images")
    assert sorted(int(task["data"]["sample_id"]) for task in tasks) == WRONG.tolist()
    chances = mislabelled.scores()["p_suggested"]
    for task in tasks:
        sample = int(task["data"]["sample_id"])
        given, right = NAMES[LABELS[sample]], NAMES[TRUTH[sample]]
        (prediction,) = task["predictions"]
        assert prediction["result"][0]["value"]["choices"] == [right]
        assert prediction["score"] == chances[sample]
        assert task["data"]["suggested_class"] == right
        assert task["data"]["question"].startswith(f"Is this “{given}” or “{right}”? p_wrong ")


def test_label_issues_have_the_probability_that_the_label_is_right(mislabelled):
    frame = exports.datalab_issues(mislabelled, SUSPECTS)
    np.testing.assert_array_equal(frame["label_score"], 1 - mislabelled.scores()["p_wrong"])
    assert np.flatnonzero(frame["is_label_issue"]).tolist() == WRONG.tolist()
    assert frame["predicted_label"].tolist() == TRUTH.tolist()
    assert frame["given_label"].tolist() == LABELS.tolist()
    assert frame["predicted_label"].dtype == np.int64


def test_cvat_tells_the_suggested_class(mislabelled, tmp_path):
    exports.save_cvat(mislabelled, tmp_path, SUSPECTS)
    root = ET.fromstring((tmp_path / "annotations.xml").read_bytes())  # noqa: S314 - ours
    for image in root.iter("image"):
        values = {each.get("name"): each.text for each in image.iter("attribute")}
        assert values["suggested_class"] == NAMES[TRUTH[int(values["sample_id"])]]
        assert 0 < float(values["p_suggested"]) <= 1
    labels = json.loads((tmp_path / "labels.json").read_text())
    declared = {attribute["name"] for label in labels for attribute in label["attributes"]}
    assert declared == set(values)


def test_fiftyone_has_the_suggested_class_as_a_field(mislabelled):
    samples = exports.fiftyone_samples(mislabelled, SUSPECTS)
    chances = mislabelled.scores()["p_suggested"].tolist()
    assert [sample["actiontrack_p_suggested"] for sample in samples] == chances
    for row in WRONG:
        assert samples[row]["actiontrack_suggested_class"] == NAMES[TRUTH[row]]


def listed(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_relabelled_folder_holds_every_sample_below_its_true_class(mislabelled, tmp_path):
    exports.image_folder(mislabelled, tmp_path / "fixed", SUSPECTS, relabel=True)
    rows = listed(tmp_path / "fixed" / "kept.csv")
    assert {int(row["sample_id"]): row["exported_class"] for row in rows} == dict(
        enumerate(NAMES[TRUTH])
    )
    assert all(row["file"] == f"{row['exported_class']}/{row['sample_id']}.png" for row in rows)
    assert [row["class"] for row in rows] == NAMES[LABELS].tolist()
    assert listed(tmp_path / "fixed" / "left_out.csv") == []


def test_people_are_heard_before_a_suggestion(mislabelled, tmp_path):
    fine, named = int(WRONG[0]), 5
    judge(mislabelled, fine, "fine")
    judge(mislabelled, named, "wrong_label", 0)
    exports.image_folder(mislabelled, tmp_path / "fixed", SUSPECTS, relabel=True)
    classes = {
        int(row["sample_id"]): row["exported_class"]
        for row in listed(tmp_path / "fixed" / "kept.csv")
    }
    expected = dict(enumerate(NAMES[TRUTH])) | {fine: NAMES[LABELS[fine]], named: "ant"}
    assert classes == expected


def test_without_relabelling_suspects_are_left_out(mislabelled, tmp_path):
    exports.image_folder(mislabelled, tmp_path / "clean", SUSPECTS)
    left_out = [int(row["sample_id"]) for row in listed(tmp_path / "clean" / "left_out.csv")]
    assert left_out == WRONG.tolist()


def test_relabelling_by_a_score_that_suggests_nothing_is_refused(mislabelled, tmp_path):
    text = (
        "relabel: goes with the score p_wrong only, got 'action'. Choose it, or leave relabel out."
    )
    with pytest.raises(ParameterError, match=message(text)):
        exports.image_folder(mislabelled, tmp_path / "fixed", relabel=True)


def test_the_command_writes_the_relabelled_folder(mislabelled, tmp_path):
    folder = tmp_path / "fixed"
    words = ["--score", "p_wrong", "--at-least", "0.5", "--relabel", "--output", str(folder)]
    cli.main(["export", "--run", mislabelled.run.run_id, "--to", "image-folder", *words])
    assert len(list(folder.glob("*/*.png"))) == N_SAMPLES
    assert len(list((folder / "ant").iterdir())) == np.count_nonzero(TRUTH == 0)
