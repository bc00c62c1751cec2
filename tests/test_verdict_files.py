"""Verdicts from Label Studio, CVAT and CSV, made from what we export to them."""

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from actiontrack import cli
from actiontrack.analysis import exploration, score_frame, verdicts
from actiontrack.analysis.verdict_files import read_verdict_file
from actiontrack.errors import DataError, NotFoundError, ParameterError
from actiontrack.recorder import Recorder
from actiontrack.reporting import exports

N = 12
NAMES = ("ant", "bee", "cat")
LABELS = np.arange(N) % 3


@pytest.fixture
def record(record_once, store, spool, tmp_path):
    Image.new("L", (8, 6)).save(tmp_path / "grey.png")
    options = {"store": store, "spool": spool, "class_names": NAMES}

    def fill(run_id):
        with Recorder("train", run_id=run_id, **options) as recorder:
            recorder.update(np.arange(N), np.linspace(2, 1, N), labels=LABELS)
            recorder.end_epoch()
            recorder.log_thumbnails(np.arange(N), [(tmp_path / "grey.png").read_bytes()] * N)

    return store.open_record(record_once("verdict files", fill))


def said(record, path):
    found = read_verdict_file(record, path, who="me")
    return [(each.sample_id, each.verdict, each.new_label, each.note, each.who) for each in found]


# ---------------------------------------------------------------- CSV


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_table_needs_samples_and_verdicts_only(record, tmp_path):
    path = write(tmp_path / "v.csv", "sample_id,verdict\n3,fine\n0,ambiguous\n5,\n")
    assert said(record, path) == [(3, "fine", None, "", "me"), (0, "ambiguous", None, "", "me")]


def test_a_table_may_name_class_note_reviewer_and_time(record, tmp_path):
    path = write(
        tmp_path / "v.csv",
        "sample_id,verdict,new_class,note,who,when\n"
        '1,wrong_label,cat,"a, b",ann,2025-02-03T04:05:06Z\n2,,ant,,,\n',
    )
    first, second = read_verdict_file(record, path, who="me")
    assert (first.new_label, first.note, first.who) == (2, "a, b", "ann")
    assert first.when.isoformat() == "2025-02-03T04:05:06+00:00"
    assert (second.verdict, second.new_label) == ("wrong_label", 0)


REFUSED = {
    "sample,verdict\n": (DataError, "the file has no column sample_id"),
    "sample_id,verdict\n99,fine\n": (NotFoundError, "has no sample '99'"),
    "sample_id,verdict\n1,good\n": (ParameterError, "verdict: must be one of"),
    "sample_id,verdict,new_class\n1,wrong_label,dog\n": (ParameterError, "new_class: must be one"),
    "sample_id,verdict,when\n1,fine,yesterday\n": (ParameterError, "when: must be a time"),
}


@pytest.mark.parametrize(("text", "expected"), REFUSED.items(), ids=range(len(REFUSED)))
def test_a_table_that_is_wrong_is_refused_with_the_reason(record, tmp_path, text, expected):
    path = write(tmp_path / "v.csv", text)
    kind, reason = expected
    with pytest.raises(kind, match=re.escape(reason)):
        read_verdict_file(record, path, who="me")


def test_other_endings_and_other_encodings_are_refused(record, tmp_path):
    with pytest.raises(ParameterError, match=re.escape("must end in .csv, .json, .xml")):
        read_verdict_file(record, write(tmp_path / "v.txt", ""), who="me")
    (tmp_path / "v.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="Choose a file in UTF-8"):
        read_verdict_file(record, tmp_path / "v.csv", who="me")


# ---------------------------------------------------------------- Label Studio


def annotated(task, number, **choices):
    """A task as Label Studio exports it once somebody has filled in the form."""
    result = [
        {"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [value]}}
        for name, value in choices.items()
        if name != "note"
    ]
    if "note" in choices:
        value = {"text": [choices["note"]]}
        result.append({"from_name": "note", "to_name": "image", "type": "textarea", "value": value})
    annotation = {
        "completed_by": {"id": 7, "email": "ann@example.org"},
        "created_at": "2025-02-03T04:05:06.000000Z",
        "was_cancelled": False,
        "result": result,
    }
    return task | {"id": number, "annotations": [annotation]}


@pytest.fixture
def reviewed(record):
    tasks = exports.label_studio_tasks(record, exports.Suspects(top=5))
    done = [
        annotated(tasks[0], 1, verdict="fine", label="ant"),
        annotated(tasks[1], 2, verdict="wrong_label", label="cat", note="striped"),
        annotated(tasks[2], 3, label="bee"),
        annotated(tasks[3], 4, verdict="ambiguous"),
        tasks[4] | {"annotations": []},
    ]
    cancelled = annotated(tasks[4], 5, verdict="fine")
    cancelled["annotations"][0]["was_cancelled"] = True
    return [*done, cancelled]


def test_label_studio_verdicts_come_with_class_note_and_reviewer(record, reviewed, tmp_path):
    path = write(tmp_path / "project.json", json.dumps(reviewed))
    who = "ann@example.org"
    assert said(record, path) == [
        (0, "fine", None, "", who),
        (1, "wrong_label", 2, "striped", who),
        (2, "wrong_label", 1, "", who),
        (3, "ambiguous", None, "", who),
    ]


def test_tasks_of_another_run_are_refused(record, reviewed, tmp_path):
    reviewed[0]["data"]["run_id"] = "f" * 32
    path = write(tmp_path / "project.json", json.dumps(reviewed))
    with pytest.raises(DataError, match=f"the file is about run {'f' * 32}"):
        read_verdict_file(record, path, who="me")


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"data": {}, "annotations": [{}]}]'])
def test_json_that_is_no_export_is_refused(record, tmp_path, text):
    path = write(tmp_path / "project.json", text)
    if text.endswith("[{}]}]"):  # nothing was said in it
        assert said(record, path) == []
        return
    with pytest.raises(DataError):
        read_verdict_file(record, path, who="me")


# ---------------------------------------------------------------- CVAT


def with_tags(content, changes):
    """Annotations with tags added to or replaced in images, as CVAT exports them."""
    root = ET.fromstring(content)  # noqa: S314 - ours
    for number, labels in changes.items():
        image = root.findall("image")[number]
        for tag in image.findall("tag"):
            image.remove(tag)
        for label in labels:
            ET.SubElement(image, "tag", label=label, source="manual")
    return ET.tostring(root, encoding="unicode")


def test_cvat_tags_are_verdicts_or_another_class(record, tmp_path):
    content = exports.cvat_xml(record, exports.Suspects(top=5))
    changes = {0: ["ant", "fine"], 1: ["cat"], 2: ["cat", "wrong_label"], 3: ["ambiguous"]}
    path = write(tmp_path / "annotations.xml", with_tags(content, changes))
    assert said(record, path) == [
        (0, "fine", None, "", "me"),
        (1, "wrong_label", 2, "", "me"),
        (2, "wrong_label", None, "", "me"),
        (3, "ambiguous", None, "", "me"),
    ]


def test_an_untouched_cvat_task_says_nothing(record, tmp_path):
    path = write(tmp_path / "a.xml", exports.cvat_xml(record).decode())
    assert said(record, path) == []


def test_a_cvat_task_of_another_run_is_refused(record, tmp_path):
    text = exports.cvat_xml(record).decode().replace(record.run.run_id, "f" * 32)
    with pytest.raises(DataError, match="the file is about run ffff"):
        read_verdict_file(record, write(tmp_path / "a.xml", text), who="me")


def test_xml_with_entities_is_refused(record, tmp_path):
    text = '<!DOCTYPE x [<!ENTITY a "b">]><annotations>&a;</annotations>'
    with pytest.raises(DataError, match="declares entities"):
        read_verdict_file(record, write(tmp_path / "a.xml", text), who="me")


# ---------------------------------------------------------------- the command


def test_imported_verdicts_give_precision_at_k(record, reviewed, tmp_path, capsys):
    path = write(tmp_path / "project.json", json.dumps(reviewed))
    cli.main(
        ["verdicts", "--run", record.run.run_id, "--import", str(path), "--precision", "-k", "4"]
    )
    printed = capsys.readouterr()
    assert "4 verdicts kept" in printed.err
    assert "2 have a wrong label: precision 0.500" in printed.err
    current = verdicts.current(verdicts.read(record))
    found = exploration.verdict_precision(score_frame([record]), current, ks=[4])
    assert found["precision"].tolist() == [0.5]
    assert set(current["who"]) == {"ann@example.org"}


def test_a_file_that_is_refused_keeps_nothing(record, tmp_path, capsys):
    path = write(tmp_path / "v.csv", "sample_id,verdict\n1,fine\n99,fine\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["verdicts", "--run", record.run.run_id, "--import", str(path)])
    assert ended.value.code == NotFoundError.exit_code
    assert verdicts.read(record).empty
    assert "99" in capsys.readouterr().err
