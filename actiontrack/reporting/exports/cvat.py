"""CVAT: "CVAT for images 1.1", the suspect samples with their label, score and boxes."""

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pandas as pd

from actiontrack.analysis.verdict_files import class_labels, verdict_labels, xml_text
from actiontrack.errors import NotFoundError
from actiontrack.record.escaping import safe_name
from actiontrack.record.rasters import EncodedImage
from actiontrack.reporting.exports.files import write_bytes, write_json
from actiontrack.reporting.exports.images import image_of
from actiontrack.reporting.exports.selection import Suspects, mark_suspects, to_review
from actiontrack.store import StoredRecord

__all__ = ["cvat_labels", "cvat_xml", "save_cvat"]


def cvat_labels(record: StoredRecord, suspects: Suspects | None = None) -> list[dict[str, Any]]:
    """Labels of a CVAT task, as its constructor takes them ("Raw").

    One tag per class and one per verdict, see `verdict_files.verdict_labels`; classes may be drawn
    as boxes where the record holds boxes.

    Args:
        record: an open record.
        suspects: how suspect samples are chosen, which decides what else is told of each.
    """
    kind = "any" if record.boxes is not None else "tag"
    attributes = [
        {"name": name, "mutable": False, "input_type": "text", "default_value": "", "values": []}
        for name in _attributes(suspects or Suspects())
    ]
    classes = [
        {"name": name, "type": kind, "attributes": attributes} for name in class_labels(record)
    ]
    tags = [
        {"name": label, "type": "tag", "attributes": []}
        for label, verdict in verdict_labels(record).items()
        if verdict != "withdrawn"
    ]
    return [*classes, *tags]


def cvat_xml(record: StoredRecord, suspects: Suspects | None = None) -> bytes:
    """Annotations of the suspect samples, the most suspect first, in "CVAT for images 1.1".

    Each image has its label as a tag with the attributes sample_id, score and place, with the score
    p_wrong also suggested_class and p_suggested, and its annotated boxes where the record holds
    boxes.

    Raises:
        NotFoundError: if an image is neither in the record nor on this machine: CVAT wants its
            size; or if the score is p_wrong, and the record does not tell it.
    """
    return _annotations(record, suspects)[0]


def save_cvat(record: StoredRecord, folder: Path, suspects: Suspects | None = None) -> list[Path]:
    """Write labels.json, images/ and annotations.xml for a CVAT task.

    Make a task with the labels, upload the images, then the annotations as "CVAT 1.1".
    """
    content, images = _annotations(record, suspects)
    written = [
        write_json(folder / "labels.json", cvat_labels(record, suspects)),
        write_bytes(folder / "annotations.xml", content),
    ]
    return written + [
        write_bytes(folder / "images" / name, image) for name, image in images.items()
    ]


def _annotations(record: StoredRecord, suspects: Suspects | None) -> tuple[bytes, dict[str, bytes]]:
    suspects = suspects or Suspects()
    chosen = to_review(mark_suspects(record, suspects))
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    _add_meta(root, record, len(chosen), suspects)
    images: dict[str, bytes] = {}
    for number, (row, sample) in enumerate(chosen.iterrows()):
        assert isinstance(row, int)  # noqa: S101 - the frame is numbered by row position
        picture = _image(record, row)
        name = f"{number:06d}-{safe_name(sample['sample_id'])}.{picture.ending}"
        images[name] = picture.content
        size = {"width": str(picture.width), "height": str(picture.height)}
        image = ET.SubElement(root, "image", {"id": str(number), "name": name} | size)
        if record.boxes is None:
            tag = ET.SubElement(image, "tag", label=xml_text(sample["class"]), source="manual")
            _add_attributes(tag, sample, suspects)
        else:
            _add_boxes(image, record.boxes, sample, picture, suspects)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True), images


def _attributes(suspects: Suspects) -> tuple[str, ...]:
    """Names of what is told of each suspect sample."""
    names = ("sample_id", "score", "place")
    return (*names, "suggested_class", "p_suggested") if suspects.suggests else names


def _add_meta(root: ET.Element, record: StoredRecord, size: int, suspects: Suspects) -> None:
    task = ET.SubElement(ET.SubElement(root, "meta"), "task")
    name = f"{record.run.name} {record.name} {record.run.run_id}"
    ET.SubElement(task, "name").text = xml_text(name)
    ET.SubElement(task, "size").text = str(size)
    ET.SubElement(task, "mode").text = "annotation"
    labels = ET.SubElement(task, "labels")
    for description in cvat_labels(record, suspects):
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = description["name"]
        ET.SubElement(label, "type").text = description["type"]
        attributes = ET.SubElement(label, "attributes")
        for attribute in description["attributes"]:
            element = ET.SubElement(attributes, "attribute")
            ET.SubElement(element, "name").text = attribute["name"]
            ET.SubElement(element, "mutable").text = "False"
            ET.SubElement(element, "input_type").text = attribute["input_type"]
            ET.SubElement(element, "default_value").text = ""
            ET.SubElement(element, "values").text = ""


def _add_attributes(parent: ET.Element, sample: "pd.Series[Any]", suspects: Suspects) -> None:
    for name in _attributes(suspects):
        value = sample[suspects.score if name == "score" else name]
        text = f"{value:.6g}" if isinstance(value, float) else "" if pd.isna(value) else str(value)
        ET.SubElement(parent, "attribute", name=name).text = xml_text(text)


def _add_boxes(
    image: ET.Element,
    boxes: pd.DataFrame,
    sample: "pd.Series[Any]",
    picture: EncodedImage,
    suspects: Suspects,
) -> None:
    """The annotated boxes of a sample in pixels of the image that is exported."""
    chosen = (boxes["sample_id"] == sample["sample_id"]) & (boxes["kind"] == "truth")
    for box in boxes.loc[chosen].to_dict("records"):
        x, y = picture.width / box["width"], picture.height / box["height"]
        corners = {"xtl": box["left"] * x, "ytl": box["top"] * y}
        corners |= {"xbr": box["right"] * x, "ybr": box["bottom"] * y}
        attributes = {"label": xml_text(box["class"]), "source": "manual", "occluded": "0"}
        attributes |= {name: f"{value:.2f}" for name, value in corners.items()}
        element = ET.SubElement(image, "box", attributes | {"z_order": "0"})
        _add_attributes(element, sample, suspects)


def _image(record: StoredRecord, row: int) -> EncodedImage:
    image = image_of(record, row)
    if image is None:
        sample_id = record.samples.sample_ids[row]
        raise NotFoundError(
            f"the image of sample {sample_id} is neither stored with run {record.run.run_id} nor "
            "at the dataset's folder on this machine. Record with thumbnails."
        )
    return image
