"""What is exported reads back as nothing until somebody judges, and then as just that."""

import csv
import io
import json
import xml.etree.ElementTree as ET
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from actiontrack.analysis import verdicts
from actiontrack.analysis.verdict_files import read_verdict_file
from actiontrack.analysis.verdicts import Verdict
from actiontrack.errors import DataError, NotFoundError, ParameterError
from actiontrack.recorder import Recorder
from actiontrack.reporting import exports

WHEN = "2026-01-31T12:00:00Z"
ALL = exports.Suspects(share=1)
IDS = [
    "007", "7", "NA", "null", "x,y", "a\u2028b", "q\u0085r", "line\nbreak", "c\rr", "v\x0bt",
    "=1+1", "'=1+1", "@x", "-5", "+5", "'", 'say "hi"', "semi;colon", " spaces ", "caf\u00e9",
    "cafe\u0301", "A", "a",
]  # fmt: skip
CLASSES = ("NA", "None", "=cat", "'=cat", "fine", "wrong_label", "a;b")


def png():
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def make(record_once, store, spool):
    """A function that records one epoch of some ids, with thumbnails."""

    def record(ids=IDS, names=CLASSES, labels=None, boxes=None):
        labels = np.arange(len(ids)) % len(names) if labels is None and names else labels

        def fill(run_id):
            options = {"store": store, "spool": spool, "class_names": names}
            with Recorder(run_id=run_id, **options) as recorder:
                recorder.update(ids, np.arange(len(ids)) + 0.5, labels=labels)
                recorder.end_epoch()
                recorder.log_thumbnails(ids, [png()] * len(ids))
                if boxes is not None:
                    recorder.log_boxes(boxes)

        run_id = record_once(("round trip", ids, names, labels, boxes), fill)
        return store.open_record(run_id)

    return record


def read(record, path):
    return read_verdict_file(record, path, who="me")


def table(path, rows, **options):
    with path.open("w", newline="", encoding=options.pop("encoding", "utf-8")) as file:
        csv.writer(file, **options).writerows(rows)
    return path


# ---------------------------------------------------------------- tables


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "as Python writes it"),
        ({"delimiter": ";"}, "semicolons"),
        ({"delimiter": "\t"}, "tabs"),
        ({"lineterminator": "\n"}, "line feeds"),
        ({"quoting": csv.QUOTE_ALL}, "quotes everywhere"),
        ({"encoding": "utf-8-sig"}, "byte order mark"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_row_of_a_table_is_read_for_its_own_sample(make, tmp_path, options, name):
    del name
    record = make([text for text in IDS if text != "'=1+1"])
    notes = ["one\ntwo", "one\r\ntwo", "one\x0btwo", "one\u2028two", "one\x0ctwo, three", "a;b\tc"]
    ids = [text for text in IDS if "\r" not in text and text != "'=1+1"]  # csv quotes no lone CR
    head = ["sample_id", "verdict", "new_class", "note", "who", "when"]
    rows = [[text, "fine", "", notes[n % 6], "ann", WHEN] for n, text in enumerate(ids)]
    judged = read(record, table(tmp_path / "v.csv", [head, *rows], **options))
    assert [verdict.sample_id for verdict in judged] == ids
    assert [verdict.note for verdict in judged] == [row[3] for row in rows]
    assert {(verdict.who, verdict.when.isoformat()) for verdict in judged} == {
        ("ann", "2026-01-31T12:00:00+00:00")
    }


def test_verdicts_written_as_a_table_for_people_read_back_as_they_were(make, tmp_path):
    record = make()
    notes = ["=1+1", "- a list\n- of two", "'=quoted", "@you", "-5", "a;=b", "one\rtwo"]
    judged = [
        Verdict(sample_id=text, verdict="wrong_label", who="=me", new_label=n % 3 + 1, note=note)
        for n, (text, note) in enumerate(zip(IDS, notes * 4, strict=False))
        if n % len(CLASSES) != n % 3 + 1
    ]
    verdicts.add(record, judged)
    stored = verdicts.read(record)
    exports.files.write_csv(tmp_path / "v.csv", stored)
    again = read(record, tmp_path / "v.csv")
    expected = list(zip(stored["sample_id"], stored["new_label"], stored["note"], stored["who"],
                        strict=True))  # fmt: skip
    assert [(v.sample_id, v.new_label, v.note, v.who) for v in again] == expected
    assert set(stored["note"]) == set(notes)


def test_an_id_that_begins_like_an_escaped_one_is_still_that_id(make, tmp_path):
    record = make(["'=x", "y"], ())
    path = table(tmp_path / "v.csv", [["sample_id", "verdict"], ["'=x", "fine"]])
    assert [verdict.sample_id for verdict in read(record, path)] == ["'=x"]


def test_cells_beyond_the_columns_are_refused_and_not_cut_off(make, tmp_path):
    path = tmp_path / "v.csv"
    path.write_text("sample_id,verdict,note\n7,fine,one, two\n")
    with pytest.raises(DataError, match="row 2 has more cells than there are columns"):
        read(make(), path)
    path.write_text("sample_id,verdict,note\n7,fine,one,,\n")
    assert [verdict.note for verdict in read(make(), path)] == ["one"]


def test_a_quote_that_never_ends_is_refused_and_swallows_no_rows(make, tmp_path):
    path = tmp_path / "v.csv"
    path.write_text('sample_id,verdict,note\n7,fine,"one\n007,fine,two\n')
    with pytest.raises(DataError, match="is not what it should be"):
        read(make(), path)


def test_the_sample_s_own_class_without_a_verdict_says_nothing(make, tmp_path):
    path = table(tmp_path / "v.csv", [["sample_id", "verdict", "new_class"], ["007", "", "NA"]])
    assert read(make(), path) == []


@pytest.mark.parametrize("kind", ["subset", "image-folder"])
def test_tables_of_exports_read_back_as_nothing_until_a_row_changes(make, tmp_path, kind):
    record = make(IDS[:6], ("cat", "dog"))
    judged = [Verdict(sample_id="007", verdict="ambiguous", who="ann")]
    verdicts.add(record, [*judged, Verdict(sample_id="7", verdict="fine", who="ann")])
    options = {"favour": "clean", "link": False, "relabel": False}
    exports.EXPORTS[kind](record, tmp_path / "out", exports.Suspects(top=1), options)
    for path in (tmp_path / "out").glob("*.csv"):
        assert read(record, path) == []
        frame = exports.read_csv(path, dtype=str, keep_default_na=False)
        frame["verdict"] = "fine"
        frame.to_csv(path, index=False)
        changed = {verdict.sample_id for verdict in read(record, path)}
        assert changed == set(frame["sample_id"]) - {"7"}


# ---------------------------------------------------------------- CVAT


def exported(record, path, changes=None):
    """CVAT's annotations, with tags added to images by sample id."""
    root = ET.fromstring(exports.cvat_xml(record, ALL))  # noqa: S314 - ours
    for image in root.findall("image"):
        texts = [each.text for each in image.iter("attribute") if each.get("name") == "sample_id"]
        for label in (changes or {}).get(texts[0] if texts else image.get("name"), ()):
            ET.SubElement(image, "tag", label=label, source="manual")
    path.write_bytes(ET.tostring(root))
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("cat", "dog"),
        ("fine", "coarse"),
        ("ambiguous", "wrong_label"),
        ("withdrawn", "verdict: fine"),
        ("fine", "verdict: fine"),
        ("Fine", "FINE"),
    ],
)
def test_classes_with_the_name_of_a_verdict_are_no_verdicts(make, tmp_path, names):
    record = make(["1", "2", "3"], names)
    labels = [label["name"] for label in exports.cvat_labels(record)]
    assert max(Counter(labels).values()) == 1
    assert read(record, exported(record, tmp_path / "untouched.xml")) == []
    added = dict(zip(["1", "2", "3"], [[label] for label in labels[2:]], strict=True))
    judged = read(record, exported(record, tmp_path / "judged.xml", added))
    assert {verdict.sample_id: verdict.verdict for verdict in judged} == {
        "1": "wrong_label", "2": "ambiguous", "3": "fine"
    }  # fmt: skip


@pytest.mark.parametrize(("names", "labels"), [((), None), ((), [3, 0, 3]), (("cat",), [0, -1, 0])])
def test_a_task_without_labels_or_names_reads_back_as_nothing(make, tmp_path, names, labels):
    record = make(["1", "2", "3"], names, None if labels is None else np.array(labels))
    assert read(record, exported(record, tmp_path / "a.xml")) == []
    root = ET.parse(tmp_path / "a.xml").getroot()  # noqa: S314 - ours
    described = {label["name"] for label in exports.cvat_labels(record)}
    assert {tag.get("label") for tag in root.iter("tag")} <= described


def test_every_id_comes_back_from_cvat(make, tmp_path):
    ids = [*IDS, "\x01", "\x02other", "x" * 300, "\ufffd", "../a", "con", "a\tb"]
    record = make(ids, ("cat",))
    root = ET.fromstring(exports.cvat_xml(record, ALL))  # noqa: S314 - ours
    for image in root.findall("image"):
        ET.SubElement(image, "tag", label="fine")
    (tmp_path / "a.xml").write_bytes(ET.tostring(root))
    judged = [verdict.sample_id for verdict in read(record, tmp_path / "a.xml")]
    assert sorted(judged) == sorted(ids)


def test_an_image_without_boxes_is_told_by_its_name(make, tmp_path):
    sides = {"left": 0, "top": 0, "right": 1, "bottom": 1, "width": 1, "height": 1}
    boxes = pd.DataFrame([{"sample_id": "a b/1", "kind": "truth", "class": "fine", "score": np.nan}
                          | sides])  # fmt: skip
    record = make(["a b/1", "a b/2"], (), boxes=boxes)
    labels = [label["name"] for label in exports.cvat_labels(record)]
    assert labels == ["fine", "verdict: wrong_label", "verdict: ambiguous", "verdict: fine"]
    changes = {"000000-a b%2F2.png": ["verdict: fine"]}
    judged = read(record, exported(record, tmp_path / "a.xml", changes))
    assert [(verdict.sample_id, verdict.verdict) for verdict in judged] == [("a b/2", "fine")]


# ---------------------------------------------------------------- Label Studio


def test_untouched_tasks_of_label_studio_say_nothing(make, tmp_path):
    record = make()
    tasks = exports.label_studio_tasks(record, ALL)
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks))
    assert read(record, path) == []
    form = ET.fromstring(exports.label_studio_config(record))  # noqa: S314 - ours
    offered = {choice.get("value") for choice in form.iter("Choice")}
    for task in tasks:
        (result,) = task["predictions"][0]["result"]
        assert set(result["value"]["choices"]) <= offered
        task["annotations"] = [{"result": [result]}]
    path.write_text(json.dumps(tasks))
    assert read(record, path) == []  # whoever confirms the label alone says nothing new


def test_every_id_comes_back_from_label_studio(make, tmp_path):
    record = make()
    tasks = exports.label_studio_tasks(record, ALL)
    result = {"from_name": "verdict", "type": "choices", "value": {"choices": ["fine"]}}
    for task in tasks:
        task["annotations"] = [{"result": [result]}]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks))
    assert sorted(verdict.sample_id for verdict in read(record, path)) == sorted(IDS)


# ---------------------------------------------------------------- notes


@pytest.mark.parametrize("text", ["a\u2028b", "a\u2029b", "a\u0085b", "a\x0bb\x0cc\x1cd", "a\r\nb"])
def test_line_separators_in_notes_and_names_do_not_damage_the_record(make, text):
    record = make(["1"], ("cat",))
    verdicts.add(record, [Verdict(sample_id="1", verdict="fine", who=text, note=text)])
    stored = verdicts.read(record)
    assert stored[["note", "who"]].values.tolist() == [[text, text]]


@pytest.mark.parametrize("name", ["note", "who", "sample_id"])
def test_text_that_utf8_cannot_hold_is_refused_by_name(name):
    values = {"sample_id": "1", "verdict": "fine", "who": "me"} | {name: "bad\udce9"}
    with pytest.raises(ParameterError, match=f"^{name}: must be text that UTF-8 can hold"):
        Verdict(**values)


def test_an_unknown_sample_is_named_as_it_stands_in_the_file(make, tmp_path):
    path = table(tmp_path / "v.csv", [["sample_id", "verdict"], ["'=nobody", "fine"]])
    with pytest.raises(NotFoundError, match='has no sample "\'=nobody"'):
        read(make(), path)
