"""What people found when they looked at samples, stored beside the record.

Verdicts lie in the folder `verdicts/` of a record, one file per submission, which is never changed
again: reviewers who work at once never lose each other's. Each line of a file is one verdict as
JSON. See docs/format.md.
"""

import json
import tempfile
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

from actiontrack.analysis.submissions import list_submissions, submit
from actiontrack.analysis.tables import open_record
from actiontrack.errors import CorruptRecordError, ParameterError
from actiontrack.history import Classes, check_choice
from actiontrack.record.submissions import next_time
from actiontrack.store import StoredRecord

__all__ = [
    "COLUMNS",
    "FORMAT",
    "FORMAT_VERSION",
    "JUDGEMENTS",
    "VERDICTS",
    "Verdict",
    "VerdictName",
    "add",
    "current",
    "list_files",
    "overruled",
    "read",
    "with_verdicts",
]

#: wrong_label: another class is right, named or not. ambiguous: more than one could be. fine: the
#: label is right. withdrawn: the reviewer takes back what was said before.
VerdictName = Literal["wrong_label", "ambiguous", "fine", "withdrawn"]
#: The same, to go through.
VERDICTS: tuple[VerdictName, ...] = get_args(VerdictName)
#: What a reviewer can find of a sample: all but taking a verdict back.
JUDGEMENTS = VERDICTS[:3]

#: Columns of the frames.
COLUMNS = ("sample_id", "verdict", "new_label", "new_class", "note", "who", "when")
#: What a verdict file calls its format.
FORMAT = "actiontrack-verdict"
#: The version of verdict files.
FORMAT_VERSION = 1
_FOLDER = "verdicts"
_MAX_TEXT = 2000
_MAX_NAME = 200
_MAX_FILE_CHARACTERS = 2**24


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one person says of one sample.

    Attributes:
        sample_id: id of the sample.
        verdict: one of `VERDICTS`.
        who: name of the person.
        new_label: index of the right class, with "wrong_label" only. Default: not said.
        note: anything else, up to 2000 characters.
        when: time, UTC. Default: now.

    Raises:
        ParameterError: if a value breaks these rules.
    """

    sample_id: int | str
    verdict: str
    who: str
    new_label: int | None = None
    note: str = ""
    when: datetime | None = None

    def __post_init__(self) -> None:
        """Check everything once."""
        check_choice("verdict", self.verdict, VERDICTS)
        if not 1 <= len(self.who) <= _MAX_NAME:
            rule = f"must have 1 to {_MAX_NAME} characters"
            raise ParameterError("who", rule, self.who[:40], "Give the reviewer's name.")
        if len(self.note) > _MAX_TEXT:
            rule = f"must have at most {_MAX_TEXT} characters"
            raise ParameterError("note", rule, len(self.note), "Shorten it.")
        for name, text in (("who", self.who), ("note", self.note), ("sample_id", self.sample_id)):
            if isinstance(text, str) and not _is_utf8(text):
                raise ParameterError(name, "must be text that UTF-8 can hold", text, "Correct it.")
        if self.new_label is not None and self.verdict != "wrong_label":
            rule = "goes with the verdict wrong_label only"
            raise ParameterError("new_label", rule, self.new_label, "Leave it out.")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def add(record: StoredRecord, new_verdicts: Sequence[Verdict]) -> None:
    """Keep verdicts with a record, in one file of their own.

    Raises:
        ParameterError: if there is none, or a new label is not among the record's classes.
        StoreError: if the artifact store can't be written.
    """
    open_record(record)
    if not new_verdicts:
        raise ParameterError("verdicts", "must be one or more", 0, "Pass what people said.")
    names = record.manifest.class_names
    for verdict in new_verdicts:
        label = verdict.new_label
        if label is not None and not 0 <= label < (len(names) or 2**31):
            rule = f"must be a class index below {len(names)}"
            raise ParameterError("new_label", rule, label, "Choose a class.")
    time = next_time(list_files(record))
    lines = [json.dumps(_line(verdict, time), ensure_ascii=False) for verdict in new_verdicts]
    with tempfile.TemporaryDirectory(prefix="actiontrack-") as folder:
        path = Path(folder) / "new.jsonl"
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        submit(record, _FOLDER, path, time, uuid.uuid4().hex[:12])


def read(record: StoredRecord) -> pd.DataFrame:
    """Every verdict that was given on a record, oldest first.

    Returns:
        `COLUMNS`: sample_id as the record has it, verdict, new_label (Int64, missing where not
        said), new_class (its name, or missing), note, who, when (UTC).

    Raises:
        CorruptRecordError: if a file is damaged or newer than this package.
        StoreError: if the artifact store does not answer.
    """
    open_record(record)
    rows: list[dict[str, Any]] = []
    paths = list_files(record)
    record.prefetch(paths)
    for path in paths:
        rows += _read_file(record.fetch(path), path, int if _has_numbers(record) else str)
    names = Classes(record.manifest.class_names)
    frame = pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "new_class"])
    labels = [row.get("new_label") for row in rows]
    classes = [None if label is None else names.of(label) for label in labels]
    frame["new_label"] = pd.array(labels, dtype="Int64")
    frame["new_class"] = pd.array(classes, dtype="string")
    frame["when"] = pd.to_datetime(frame["when"], utc=True)
    ids = frame["sample_id"]
    frame["sample_id"] = ids.astype(int) if _has_numbers(record) else ids.astype(str)
    ordered: pd.DataFrame = frame.sort_values("when", kind="stable", ignore_index=True)
    return ordered[list(COLUMNS)]


def current(verdicts: pd.DataFrame) -> pd.DataFrame:
    """The verdict that counts of each sample: the last one that was not withdrawn.

    A person's later verdict replaces the earlier one; of several people's, the latest counts.

    Args:
        verdicts: the frame of `read`.

    Returns:
        One row per judged sample in the order of judgement: `COLUMNS`, n_reviewers, and agreed
        (whether all reviewers say the same).
    """
    last = verdicts.drop_duplicates(["sample_id", "who"], keep="last")
    last = last.loc[last["verdict"] != "withdrawn"]
    groups = last.groupby("sample_id", sort=False)
    latest = last.drop_duplicates("sample_id", keep="last").set_index("sample_id")
    latest = latest.assign(
        n_reviewers=groups["who"].nunique(), agreed=groups["verdict"].nunique().eq(1)
    ).reset_index()
    return latest[[*COLUMNS, "n_reviewers", "agreed"]]


def with_verdicts(
    record: StoredRecord, frame: pd.DataFrame, *, reviewed: bool = True
) -> pd.DataFrame:
    """A frame of samples with what people said of them last, see `current`.

    Args:
        record: the record that was reviewed.
        frame: one row per sample, with the column sample_id.
        reviewed: whether verdicts count; without them nobody said anything.

    Returns:
        The frame with the columns verdict and new_class, which are missing where nobody said.
    """
    last = current(read(record)) if reviewed else None
    if last is None or last.empty:
        missing = pd.array([None] * len(frame), dtype="string")
        return frame.assign(verdict=missing, new_class=missing)
    last = last.set_index("sample_id")[["verdict", "new_class"]].astype("string")
    judged = last.reindex(pd.Index(frame["sample_id"].tolist()))
    return frame.assign(verdict=judged["verdict"].array, new_class=judged["new_class"].array)


def overruled(suspects: npt.NDArray[np.bool_], verdicts: "pd.Series[Any]") -> npt.NDArray[np.bool_]:
    """Which samples are suspect when people are heard.

    Args:
        suspects: (n_samples,) which are suspect by a score.
        verdicts: (n_samples,) the column verdict of `with_verdicts`.

    Returns:
        (n_samples,) as before, but never those that people found fine, and always those whose label
        they found wrong.
    """
    return np.asarray((suspects & ~_said(verdicts, "fine")) | _said(verdicts, "wrong_label"))


def _said(verdicts: "pd.Series[Any]", verdict: VerdictName) -> npt.NDArray[np.bool_]:
    return (verdicts == verdict).fillna(value=False).to_numpy(dtype=np.bool_)


def list_files(record: StoredRecord) -> list[str]:
    """Paths, inside the record, of the files with verdicts, oldest first."""
    return list_submissions(record, _FOLDER, ".jsonl")


def _has_numbers(record: StoredRecord) -> bool:
    return record.manifest.id_type == "int64"


def _line(verdict: Verdict, time: datetime) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "sample_id": verdict.sample_id,
        "verdict": verdict.verdict,
        "new_label": verdict.new_label,
        "note": verdict.note,
        "who": verdict.who,
        "when": (verdict.when or time).isoformat(),
    }


def _read_file(path: Path, name: str, kind: type) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_FILE_CHARACTERS)
        lines = text.split("\n")  # other line separators may stand in a note
        return [_parsed(json.loads(line), kind) for line in lines if line.strip()]
    except (OSError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise CorruptRecordError(
            f"{name} can't be read as verdicts: {str(error).rstrip('.')}. Restore or remove it."
        ) from error


def _is_id(value: Any, kind: type) -> bool:
    if type(value) is not kind:
        return False
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _parsed(line: Any, kind: type) -> dict[str, Any]:
    if not isinstance(line, dict) or line.get("format") != FORMAT:
        raise ValueError("a line is no verdict")
    version = line.get("version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        text = str(version)[:80]
        raise ValueError(f"version {text} is none that this package reads (up to {FORMAT_VERSION})")
    sample_id: Any = line.get("sample_id")
    new_label: Any = line.get("new_label")
    if not _is_id(sample_id, kind):
        raise ValueError(f"sample_id {str(sample_id)[:80]!r} is not of the record's kind")
    if new_label is not None and (type(new_label) is not int or not 0 <= new_label < 2**31):
        raise TypeError(f"new_label {str(new_label)[:80]!r} is no class index")
    for name in ("verdict", "who", "note"):
        if not isinstance(line.get(name, ""), str):
            raise TypeError(f"{name} is no text")
    when = datetime.fromisoformat(line.get("when", ""))
    if when.tzinfo is None:
        raise ValueError(f"when {line['when']!r} does not say in which time zone")
    Verdict(
        sample_id=line["sample_id"],
        verdict=line.get("verdict", ""),
        who=line.get("who", ""),
        new_label=line.get("new_label"),
        note=line.get("note", ""),
        when=when,
    )
    return line | {"when": when.astimezone(UTC)}  # pandas reads fewer spellings
