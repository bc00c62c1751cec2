"""Verdicts from files of other tools: Label Studio, CVAT and CSV."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from actiontrack.analysis.tables import positions
from actiontrack.analysis.verdicts import VERDICTS, Verdict
from actiontrack.errors import DataError, NotFoundError, ParameterError
from actiontrack.store import StoredRecord

__all__ = [
    "read_verdict_file",
]

_MAX_BYTES = 2**28
_IMAGE_NAME = re.compile(r"^\d{6}-(.+)\.(?:png|jpe?g)$")


def read_verdict_file(record: StoredRecord, path: Path, *, who: str) -> list[Verdict]:
    """Verdicts of a file that reviewers of another tool have filled in.

    The kind is told by the ending: .csv with the columns sample_id and verdict, and new_class,
    note, who and when where known; .json as Label Studio exports tasks that were made by
    `actiontrack export --to label-studio`; .xml as CVAT exports "CVAT for images 1.1" of tasks
    made by `actiontrack export --to cvat`.

    Args:
        record: the record that was reviewed.
        path: the file.
        who: name of the reviewer where the file has none.

    Returns:
        One verdict per sample and reviewer that said something, in the order of the file. A class
        other than the given label is a wrong label, also without a word of it.

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
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read: {error}. Choose a file in UTF-8.") from error
    try:
        said = list(readers[path.suffix.lower()](record, text))
    except (ValueError, TypeError, KeyError, AttributeError, ET.ParseError, csv.Error) as error:
        if isinstance(error, ParameterError):
            raise
        raise DataError(f"{path} is not what it should be: {error!r}. Export it again.") from error
    return [_verdict(record, each, who) for each in said]


def _verdict(record: StoredRecord, said: Mapping[str, Any], who: str) -> Verdict:
    """A verdict from the words of a file: sample_id, verdict, new_class, note, who, when."""
    (row,) = positions(record, [said["sample_id"]])
    sample_id = record.samples.sample_ids[row]
    name, verdict = str(said.get("new_class") or ""), str(said.get("verdict") or "")
    new_label = None if not name else _label(record, name)
    if new_label == _given(record, row):
        new_label = None
    if new_label is not None:
        verdict = verdict or "wrong_label"
    return Verdict(
        sample_id=int(sample_id) if isinstance(sample_id, np.integer) else str(sample_id),
        verdict=verdict,
        who=str(said.get("who") or who),
        new_label=new_label if verdict == "wrong_label" else None,
        note=str(said.get("note") or ""),
        when=_time(said.get("when")),
    )


def _label(record: StoredRecord, name: str) -> int:
    names = list(record.manifest.class_names)
    if name in names:
        return names.index(name)
    if not names and name.isdecimal():
        return int(name)
    rule = f"must be one of {', '.join(names)}" if names else "must be a class number"
    raise ParameterError("new_class", rule, name, "Correct the file.")


def _time(text: object) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        rule = "must be a time in ISO 8601"
        raise ParameterError("when", rule, text, "Write 2026-01-31T12:00:00Z.") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found


def _from_csv(record: StoredRecord, text: str) -> Iterator[dict[str, Any]]:
    del record
    rows = csv.DictReader(text.splitlines())
    missing = {"sample_id", "verdict"} - set(rows.fieldnames or ())
    if missing:
        raise DataError(f"the file has no column {min(missing)}. Add it.")
    for row in rows:
        if row["verdict"] or row.get("new_class"):
            yield row


def _from_label_studio(record: StoredRecord, text: str) -> Iterator[dict[str, Any]]:
    tasks = json.loads(text)
    if not isinstance(tasks, list):
        raise DataError("the file is no list of tasks. Export it from Label Studio as JSON.")
    for task in tasks:
        data = task["data"]
        _check_record(record, data.get("run_id"), data.get("record"))
        for annotation in task.get("annotations") or ():
            said = _controls(annotation.get("result") or ())
            if annotation.get("was_cancelled") or not (said["verdict"] or said["label"]):
                continue
            yield {
                "sample_id": data["sample_id"],
                "verdict": said["verdict"],
                "new_class": said["label"] if said["verdict"] in {"", "wrong_label"} else "",
                "note": said["note"],
                "who": _annotator(annotation.get("completed_by")),
                "when": annotation.get("updated_at") or annotation.get("created_at"),
            }


def _controls(results: Any) -> dict[str, str]:
    """What the reviewer chose in each control of our form."""
    said = {"verdict": "", "label": "", "note": ""}
    for each in results:
        name, value = each.get("from_name"), each.get("value") or {}
        chosen = value.get("choices") or value.get("text") or ()
        if name in said and chosen:
            said[name] = chosen if isinstance(chosen, str) else str(chosen[0])
    return said


def _annotator(by: Any) -> str:
    if isinstance(by, dict):
        return str(by.get("email") or by.get("id") or "")
    return f"label studio user {by}" if by is not None else ""


def _from_cvat(record: StoredRecord, text: str) -> Iterator[dict[str, Any]]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:  # CVAT writes none; entities can explode
        raise DataError("the file declares entities. Export it from CVAT again.")
    root = ET.fromstring(text)  # noqa: S314 - without a document type nothing expands
    if root.tag != "annotations":
        raise DataError(
            "the file is no export of CVAT for images. Export as 'CVAT for images 1.1'."
        )
    name = root.findtext("meta/task/name") or root.findtext("meta/job/name") or ""
    _check_record(record, *_run_of_task(name))
    for image in root.iter("image"):
        tags = [each.get("label", "") for each in image.iter("tag")]
        verdicts = [each for each in tags if each in VERDICTS]
        classes = [each for each in tags if each not in VERDICTS]
        sample_id = _sample_of(image)
        (row,) = positions(record, [sample_id])
        other = [each for each in classes if _label(record, each) != _given(record, row)]
        if verdicts or other:
            new_class = other[-1] if other and verdicts in ([], ["wrong_label"]) else ""
            said = {"sample_id": sample_id, "verdict": verdicts[-1] if verdicts else ""}
            yield said | {"new_class": new_class}


def _given(record: StoredRecord, row: int) -> int | None:
    labels = record.samples.labels
    return None if labels is None else int(labels[row])


def _sample_of(image: ET.Element) -> str:
    for attribute in image.iter("attribute"):
        if attribute.get("name") == "sample_id" and attribute.text:
            return attribute.text
    name = Path(image.get("name", "")).name
    found = _IMAGE_NAME.match(name)
    if found is None:
        raise NotFoundError(f"image {name!r} has no attribute sample_id. Export the tasks again.")
    return found[1]


def _run_of_task(name: str) -> tuple[str | None, str | None]:
    """Run and record that the name of an exported task ends with."""
    parts = name.rsplit(" ", 2)
    known = len(parts) == 3 and re.fullmatch(r"[0-9a-f]{32}", parts[2])
    return (parts[2], parts[1]) if known else (None, None)


def _check_record(record: StoredRecord, run_id: str | None, name: str | None) -> None:
    """Refuse a file that says it is about another record."""
    if run_id not in {None, record.run.run_id} or name not in {None, record.name}:
        raise DataError(
            f"the file is about run {run_id}, record {name}, and not about {record.name} of run "
            f"{record.run.run_id}. Name its run with --run."
        )
