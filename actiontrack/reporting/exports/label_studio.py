"""Label Studio: tasks of the suspect samples, with the label to confirm, and the matching form."""

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pandas as pd

from actiontrack.analysis.verdict_files import xml_text
from actiontrack.analysis.verdicts import JUDGEMENTS
from actiontrack.errors import ParameterError
from actiontrack.reporting.exports.files import write_json, write_text
from actiontrack.reporting.exports.images import browser_file, image_address
from actiontrack.reporting.exports.selection import Suspects, mark_suspects, to_review
from actiontrack.store import StoredRecord

__all__ = [
    "LABEL",
    "NOTE",
    "VERDICT",
    "label_studio_config",
    "label_studio_tasks",
    "save_label_studio",
]

#: Names of the controls of the form; an import of verdicts looks for them.
VERDICT, LABEL, NOTE = "verdict", "label", "note"


def label_studio_config(record: StoredRecord) -> str:
    """The labelling form: the image, its label and score, a verdict, the right class, a note."""
    names = list(dict.fromkeys(record.manifest.class_names))
    verdicts = _choices(JUDGEMENTS)
    form = f"""<View>
  <Image name="image" value="$image"/>
  <Header value="$question"/>
  <Choices name="{VERDICT}" toName="image" choice="single" required="true" showInline="true">
    {verdicts}
  </Choices>
"""
    if names:
        form += f"""  <Choices name="{LABEL}" toName="image" choice="single" showInline="true">
    {_choices(names)}
  </Choices>
"""
    return (
        form
        + f"""  <TextArea name="{NOTE}" toName="image" maxSubmissions="1" rows="2"/>
</View>
"""
    )


def _choices(values: Iterable[str]) -> str:
    return "\n    ".join(f"<Choice value={quoteattr(xml_text(value))}/>" for value in values)


def label_studio_tasks(
    record: StoredRecord, suspects: Suspects | None = None, *, image_root: str | None = None
) -> list[dict[str, Any]]:
    """Tasks for Label Studio, the most suspect sample first.

    Args:
        record: an open record.
        suspects: which samples become tasks; reviewed ones are left out unless their verdicts do
            not count.
        image_root: where Label Studio finds the images, such as "s3://bucket/images" or
            "/data/local-files/?d=images". Keys of a bucket are written as they are, parts of a URL
            percent-encoded. Default: images are inside the tasks.

    Returns:
        One task per sample with data (image, question, sample_id, class, score, rank, place,
        run_id, record) and, where the class has a name, a prediction that chooses it. With the
        score p_wrong the data have suggested_class and p_suggested, and the prediction chooses the
        suggested class, with p_suggested as its score.

    Raises:
        ParameterError: if a sample has no image, and no root is given; or if Label Studio would
            cut the key of an object.
        NotFoundError: if the score is p_wrong, and the record does not tell it.
    """
    suspects = suspects or Suspects()
    marked = mark_suspects(record, suspects)
    names = set(record.manifest.class_names)
    tasks = []
    for row, sample in to_review(marked).iterrows():
        assert isinstance(row, int)  # noqa: S101 - the frame is numbered by row position
        value, suggestion = float(sample[suspects.score]), _suggestion(sample)
        choices = " or ".join(f"“{name}”" for name in (sample["class"], *suggestion[:1]))
        data = {
            "image": _image(record, row, image_root),
            "question": f"Is this {choices}? {suspects.score} {value:.4g}, place {sample['place']} "
            f"of {len(marked)}",
            "sample_id": str(sample["sample_id"]),
            "class": str(sample["class"]),
            "score": value,
            "rank": float(sample["rank"]),
            "place": int(sample["place"]),
            "run_id": record.run.run_id,
            "record": record.name,
        }
        data |= dict(zip(("suggested_class", "p_suggested"), suggestion, strict=False))
        chosen = suggestion[0] if suggestion else str(sample["class"])
        prediction = _prediction(chosen, suspects, *suggestion[1:])
        tasks.append({"data": data} | ({"predictions": [prediction]} if chosen in names else {}))
    return tasks


def save_label_studio(
    record: StoredRecord,
    folder: Path,
    suspects: Suspects | None = None,
    *,
    image_root: str | None = None,
) -> list[Path]:
    """Write tasks.json (import it into a project) and config.xml (its labelling interface)."""
    tasks = label_studio_tasks(record, suspects, image_root=image_root)
    return [
        write_json(folder / "tasks.json", tasks),
        write_text(folder / "config.xml", label_studio_config(record)),
    ]


def _suggestion(sample: "pd.Series[Any]") -> tuple[()] | tuple[str, float]:
    """The suggested class of a sample and its probability, or nothing."""
    name = sample.get("suggested_class")
    return () if pd.isna(name) else (str(name), float(sample["p_suggested"]))


def _prediction(name: str, suspects: Suspects, probability: float | None = None) -> dict[str, Any]:
    """A class as a prediction, which the reviewer confirms: the suggested one, else the label."""
    choice = {
        "from_name": LABEL,
        "to_name": "image",
        "type": "choices",
        "value": {"choices": [xml_text(name)]},
    }
    if probability is None:
        return {"model_version": f"given label, by {suspects.score}", "result": [choice]}
    version = f"suggested class, by {suspects.score}"
    return {"model_version": version, "score": probability, "result": [choice]}


def _image(record: StoredRecord, row: int, image_root: str | None) -> str:
    if image_root is not None:
        return image_address(record, row, image_root, is_url=True)
    image = browser_file(record, row)
    if image is None:
        raise ParameterError(
            "image_root",
            "must be given for a record without images on this machine",
            image_root,
            "Name the folder or bucket that Label Studio reads (--image-root).",
        )
    content, kind = image
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
