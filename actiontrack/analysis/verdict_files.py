"""Verdicts from files of other tools: Label Studio, CVAT and CSV.

What a tool is given and what comes back must name the same things: `class_labels`,
`verdict_labels` and `xml_text` serve the exports as well.
"""

import csv
import io
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from actiontrack.analysis import verdicts
from actiontrack.analysis.loading import score_frame
from actiontrack.analysis.tables import positions
from actiontrack.analysis.verdicts import VERDICTS, Verdict
from actiontrack.errors import DataError, NotFoundError, ParameterError
from actiontrack.history import Classes
from actiontrack.record.escaping import safe_name, unescape_cell
from actiontrack.store import StoredRecord

__all__ = [
    "class_labels",
    "read_verdict_file",
    "verdict_labels",
    "xml_text",
]

_MAX_BYTES = 2**28
_IMAGE_NAME = re.compile(r"\d{6,}-(.+)\.[a-z]+", re.DOTALL)
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_DELIMITERS = ",;\t"

#: Columns that only the tables of exports have: their verdicts are those that were given before.
_EXPORT_COLUMNS = frozenset({"rank", "place", "verdict"})
_Statement = Mapping[str, Any]


def read_verdict_file(record: StoredRecord, path: Path, *, who: str) -> list[Verdict]:
    """Verdicts of a file that reviewers of another tool have filled in.

    The kind is told by the ending: .csv with the columns sample_id and verdict, and new_class,
    note, who and when where known; .json as Label Studio exports tasks that were made by
    `actiontrack export --to label-studio`; .xml as CVAT exports "CVAT for images 1.1" of tasks
    made by `actiontrack export --to cvat`.

    A table may be cut at commas, semicolons or tabs. Cells that `escaping.escape_cell` has changed
    are read as they were. A file that nobody has touched since it was exported has no verdicts.

    Args:
        record: the record that was reviewed.
        path: the file.
        who: name of the reviewer where the file has none.

    Returns:
        One verdict per sample and reviewer that said something, in the order of the file. A class
        other than the label is a wrong label, also without a word of it.

    Raises:
        DataError: if the file is no such file, or of another record.
        NotFoundError: if the record has no such sample.
        ParameterError: if a verdict or class is unknown.
    """
    readers = {".csv": _from_csv, ".json": _from_label_studio, ".xml": _from_cvat}
    if path.suffix.lower() not in readers:
        rule = f"must end in {', '.join(readers)}"
        raise ParameterError("file", rule, path.name, "Export it in one of these formats.")
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise DataError(f"{path} is larger than {_MAX_BYTES >> 20} MiB. Split it.")
        text = path.read_bytes().decode("utf-8-sig")  # line breaks stay as they are
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}. Choose a file in UTF-8.") from error
    try:
        statements = list(readers[path.suffix.lower()](record, text))
    except (ValueError, TypeError, KeyError, AttributeError, ET.ParseError, csv.Error) as error:
        if isinstance(error, ParameterError):
            raise
        raise DataError(f"{path} is not what it should be: {error!r}. Export it again.") from error
    verdicts_or_none = (_verdict(record, statement, who) for statement in statements)
    return [verdict for verdict in verdicts_or_none if verdict is not None]


def class_labels(record: StoredRecord) -> list[str]:
    """Labels that stand for classes in a review tool, each once, in the order of the classes."""
    names = list(record.manifest.class_names)
    if not names and record.samples.labels is not None:
        names = [Classes().of(label) for label in sorted(set(record.samples.labels.tolist()))]
    names += _class_of_each_sample(record) if record.samples.labels is not None else []
    if record.boxes is not None:
        names += sorted(set(record.boxes["class"].astype(str)))
    return list(dict.fromkeys(map(xml_text, names))) or ["all"]


def verdict_labels(record: StoredRecord) -> dict[str, str]:
    """The verdict that each label of a review tool stands for.

    A label is the verdict itself. Where a class has the name of one, "verdict: " stands before all
    of them.
    """
    classes, prefix = set(class_labels(record)), ""
    while any(f"{prefix}{verdict}" in classes for verdict in VERDICTS):
        prefix += "verdict: "
    return {f"{prefix}{verdict}": verdict for verdict in VERDICTS}


def xml_text(text: object) -> str:
    """A text without the characters that XML does not have; "\ufffd" stands in their place."""
    return _NOT_IN_XML.sub("\ufffd", str(text))


def _class_of_each_sample(record: StoredRecord) -> list[str]:
    """(n_samples,) names of classes, as exports write them."""
    return [str(name) for name in score_frame([record])["class"].tolist()]


def _verdict(record: StoredRecord, statement: _Statement, who: str) -> Verdict | None:
    """A verdict from the words of a file: sample_id, verdict, new_class, note, who, when.

    None where they say nothing: no verdict, and the class that the sample has anyway.
    """
    row = _row(record, statement["sample_id"])
    sample_id = record.samples.sample_ids[row]
    name, verdict = str(statement.get("new_class") or ""), str(statement.get("verdict") or "")
    new_label = None if not name else _label(record, name)
    if new_label == _label_of_sample(record, row):
        if name and not verdict:
            return None
        new_label = None
    if new_label is not None:
        verdict = verdict or "wrong_label"
    return Verdict(
        sample_id=int(sample_id) if isinstance(sample_id, np.integer) else str(sample_id),
        verdict=verdict,
        who=str(statement.get("who") or who),
        new_label=new_label if verdict == "wrong_label" else None,
        note=str(statement.get("note") or ""),
        when=_time(statement.get("when")),
    )


def _row(record: StoredRecord, sample_id: Any) -> int:
    (row,) = positions(record, [sample_id])
    return row


def _label(record: StoredRecord, name: str) -> int:
    names = list(record.manifest.class_names)
    for written in (names, [xml_text(name_of_class) for name_of_class in names]):
        if name in written:
            return written.index(name)
    if not names and name.isdecimal():
        return int(name)
    rule = f"must be one of {', '.join(names)}" if names else "must be a class number"
    raise ParameterError("new_class", rule, name, "Correct the file.")


def _label_of_sample(record: StoredRecord, row: int) -> int | None:
    labels = record.samples.labels
    return None if labels is None else int(labels[row])


def _time(text: object) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        rule = "must be a time in ISO 8601"
        raise ParameterError("when", rule, text, "Write 2026-01-31T12:00:00Z.") from None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time


def _check_record(record: StoredRecord, run_id: str | None, name: str | None) -> None:
    """Refuse a file that says it is about another record."""
    if run_id not in {None, record.run.run_id} or name not in {None, record.name}:
        raise DataError(
            f"the file is about run {run_id}, record {name}, and not about {record.name} of run "
            f"{record.run.run_id}. Name its run with --run."
        )


def _from_csv(record: StoredRecord, text: str) -> Iterator[_Statement]:
    rows = _table(text)
    columns = set(rows.fieldnames or ())
    missing = {"sample_id", "verdict"} - columns
    if missing:
        raise DataError(f"the file has no column {min(missing)}. Add it.")
    repeats = _statements_before(record) if columns >= _EXPORT_COLUMNS else frozenset()
    names = frozenset(record.manifest.class_names)
    for row in rows:
        if any(row.pop(None, ())):  # cells beyond the columns
            rule = f"row {rows.line_num} has more cells than there are columns"
            raise DataError(f"{rule}. Put quotes around a text that holds a comma.")
        if not row["verdict"] and not row.get("new_class"):
            continue
        statement = {
            column: unescape_cell(cell) for column, cell in row.items() if cell is not None
        }
        statement["sample_id"] = _written_id(record, row["sample_id"])
        if statement.get("new_class") not in names and row.get("new_class") in names:
            statement["new_class"] = row["new_class"]
        if (statement["sample_id"], row["verdict"], statement.get("new_class") or "") in repeats:
            continue
        yield statement


def _table(text: str) -> "csv.DictReader[str]":
    """The rows of a table, cut where its head tells the columns apart."""
    for delimiter in _DELIMITERS:
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        if {"sample_id", "verdict"} <= set(rows.fieldnames or ()):
            return rows
    return csv.DictReader(io.StringIO(text, newline=""), strict=True)


def _written_id(record: StoredRecord, cell: str) -> str:
    """The id in a cell: without the mark of `escape_cell` where there is such a sample."""
    plain = unescape_cell(cell)
    if plain != cell:
        try:
            _row(record, plain)
        except NotFoundError:
            return cell
    return plain


def _statements_before(record: StoredRecord) -> frozenset[tuple[str, str, str]]:
    """Sample, verdict and new class, "" without, of every verdict that the record has."""
    frame = verdicts.read(record)
    classes = frame["new_class"].fillna("")
    return frozenset(zip(frame["sample_id"].astype(str), frame["verdict"], classes, strict=True))


def _from_label_studio(record: StoredRecord, text: str) -> Iterator[_Statement]:
    tasks = json.loads(text)
    if not isinstance(tasks, list):
        raise DataError("the file is no list of tasks. Export it from Label Studio as JSON.")
    for task in tasks:
        data = task["data"]
        _check_record(record, data.get("run_id"), data.get("record"))
        for annotation in task.get("annotations") or ():
            choices = _choices(annotation.get("result") or ())
            if annotation.get("was_cancelled") or not (choices["verdict"] or choices["label"]):
                continue
            yield {
                "sample_id": data["sample_id"],
                "verdict": choices["verdict"],
                "new_class": choices["label"] if choices["verdict"] in {"", "wrong_label"} else "",
                "note": choices["note"],
                "who": _annotator(annotation.get("completed_by")),
                "when": annotation.get("updated_at") or annotation.get("created_at"),
            }


def _choices(results: Any) -> dict[str, str]:
    """What the reviewer chose in each control of our form."""
    choices = {"verdict": "", "label": "", "note": ""}
    for result in results:
        name, value = result.get("from_name"), result.get("value") or {}
        chosen = value.get("choices") or value.get("text") or ()
        if name in choices and chosen:
            choices[name] = chosen if isinstance(chosen, str) else str(chosen[0])
    return choices


def _annotator(completed_by: Any) -> str:
    if isinstance(completed_by, dict):
        return str(completed_by.get("email") or completed_by.get("id") or "")
    return f"label studio user {completed_by}" if completed_by is not None else ""


def _from_cvat(record: StoredRecord, text: str) -> Iterator[_Statement]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # CVAT writes none; entities can explode
        raise DataError("the file declares entities. Export it from CVAT again.")
    root = ET.fromstring(text)  # noqa: S314 - without a document type nothing expands
    if root.tag != "annotations":
        raise DataError(
            "the file is no export of CVAT for images. Export as 'CVAT for images 1.1'."
        )
    name = root.findtext("meta/task/name") or root.findtext("meta/job/name") or ""
    _check_record(record, *_run_of_task(name))
    verdict_of, classes = verdict_labels(record), _class_of_each_sample(record)
    id_of_name = cache(lambda: {safe_name(id_): str(id_) for id_ in _ids(record)})
    for image in root.iter("image"):
        tags = [tag.get("label", "") for tag in image.iter("tag")]
        sample_id = _sample_of(image, id_of_name)
        label = xml_text(classes[_row(record, sample_id)])
        chosen = [verdict_of[tag] for tag in tags if tag in verdict_of]
        others = [tag for tag in tags if tag not in verdict_of and tag != label]
        for tag in others:
            _label(record, tag)  # refuses what is no class, also where it does not count
        if chosen or others:
            new_class = others[-1] if others and chosen in ([], ["wrong_label"]) else ""
            statement = {"sample_id": sample_id, "verdict": chosen[-1] if chosen else ""}
            yield statement | {"new_class": new_class}


def _ids(record: StoredRecord) -> list[Any]:
    return list(record.samples.sample_ids.tolist())


def _sample_of(image: ET.Element, id_of_name: Callable[[], Mapping[str, str]]) -> str:
    """Id of the sample that an image shows.

    The name of the image tells it exactly; of its attribute XML may have changed characters.
    """
    written = [
        attribute.text
        for attribute in image.iter("attribute")
        if attribute.get("name") == "sample_id" and attribute.text
    ]
    name = Path(image.get("name", "")).name
    match = _IMAGE_NAME.fullmatch(name)
    if match and match[1] not in map(safe_name, written) and match[1] in id_of_name():
        return id_of_name()[match[1]]
    if written:
        return written[0]
    raise NotFoundError(f"image {name!r} has no attribute sample_id. Export the tasks again.")


def _run_of_task(name: str) -> tuple[str | None, str | None]:
    """Run and record that the name of an exported task ends with."""
    parts = name.rsplit(" ", 2)
    if len(parts) == 3 and re.fullmatch(r"[0-9a-f]{32}", parts[2]):
        return parts[2], parts[1]
    return None, None
