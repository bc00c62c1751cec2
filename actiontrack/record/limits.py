"""What a record may claim, checked before anything is allocated for it.

A record comes from a server, and whoever may write there may write anything, with a sha256 that
fits. A file of a few kilobytes can claim terabytes: by a number in the manifest, by rows in a
Parquet footer, or by pages that expand beyond what the footer says, which Parquet readers do not
check. So the sizes that a file claims are compared with the bytes that it has, page by page.

Two rules hold for all that is read at once. It may take `FREE_BYTES` of memory whatever its file
has, and beyond them at most `MOST_EXPANSION` times the file: losses take less than ten times. And
it may never take more than half of the machine's memory, or ACTIONTRACK_MAX_BYTES.
"""

import contextlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from actiontrack import settings
from actiontrack.errors import CorruptRecordError

__all__ = [
    "FREE_BYTES",
    "LIMIT_VARIABLE",
    "MAX_SAMPLES",
    "MOST_EXPANSION",
    "PIECE",
    "PRECISIONS",
    "check_claim",
    "check_manifest",
    "check_path",
    "check_steps",
    "most_bytes",
]

FREE_BYTES = 2**28
MOST_EXPANSION = 1000

#: How precise losses and measures may be, see `actiontrack.record.manifest.Manifest`.
PRECISIONS = ("full", "half")

#: Bytes of a piece of a file of losses: as much is read and verified at once.
PIECE = 2**20

#: Positions of rows are int32.
MAX_SAMPLES = 2**31 - 1
LIMIT_VARIABLE = settings.MAX_BYTES.name
_MAX_TEXT = 2**12  # characters of a name in a manifest
_MAX_PATH = 2**9
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_CGROUP = Path("/sys/fs/cgroup/memory.max")


def most_bytes() -> int:
    """How much memory one reading may take: half of the machine's, or ACTIONTRACK_MAX_BYTES.

    Raises:
        ParameterError: if the variable is no positive number.
    """
    limit = settings.MAX_BYTES.value()
    if limit is not None:
        return limit
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # "max" without a limit, absent elsewhere
        memory = min(memory, int(_CGROUP.read_text()))
    return memory // 2


def check_claim(what: str, claimed: int, stored: int) -> None:
    """Refuse what would take more memory than the bytes on disk can account for.

    Args:
        what: name of the file or record.
        claimed: bytes that it will take in memory.
        stored: bytes that it has on disk.

    Raises:
        CorruptRecordError: if it breaks one of the two rules of this module.
    """
    if claimed <= FREE_BYTES:
        return
    if claimed > MOST_EXPANSION * stored:
        raise CorruptRecordError(
            f"{what} claims {claimed:,} bytes in memory and has {stored:,} on disk: it is refused "
            "before anything is allocated. Restore the file, or record the run again."
        )
    most = most_bytes()
    if claimed > most:
        raise CorruptRecordError(
            f"{what} would take {claimed:,} bytes of memory, of which one reading may take "
            f"{most:,}. Ask for fewer columns, or set {LIMIT_VARIABLE}."
        )


# The manifest
def check_path(name: object) -> str:
    """A path that stays inside the record, on every system.

    Raises:
        ValueError: if it does not.
    """
    text = str(name)
    parts = PurePosixPath(text).parts
    plain = bool(parts) and all(_PART.fullmatch(part) for part in parts)
    if not isinstance(name, str) or not plain or "/".join(parts) != text or len(text) > _MAX_PATH:
        raise ValueError(f"unsafe path {name!r}")
    if text == "manifest.json":
        raise ValueError("the manifest names itself")
    return text


def check_manifest(body: Mapping[str, Any]) -> None:
    """Refuse fields of a manifest whose type or size no record can have.

    Raises:
        ValueError: names the field and what it holds.
        KeyError: if a field is absent.
    """
    for name in ("split", "mode", "loss_name", "delta_kind", "id_type"):
        _text(name, body[name])
    for name in ("model", "pixel_loss_name", "void", "status", "writer"):
        _text(name, body.get(name, ""))
    _choice("id_type", body["id_type"], {"int64", "string", ""})
    _choice("status", body.get("status", "recording"), {"recording", "complete"})
    n_samples = _whole("n_samples", body["n_samples"], MAX_SAMPLES)
    _whole("revision", body.get("revision", 0), 2**63)
    for name, value in _mapping("digests", body["digests"]).items():
        _text(f"digests.{name}", value or "")
    columns: list[str] = []
    for name in ("class_names", "measures", "components"):
        texts = [_text(name, item) for item in _sequence(name, body[name])]
        columns += texts if name != "class_names" else []
    _columns(columns)
    _optional(body)
    for name, entry in _mapping("files", body["files"]).items():
        check_path(name)
        _file(f"files.{name}", _mapping(f"files.{name}", entry), body["version"])
    if body["version"] == 1:
        check_steps(_sequence("steps", body["steps"]), n_samples)
        return
    _whole("log", body.get("log", 0), 2**63)
    _choice("precision", body.get("precision", "full"), PRECISIONS)
    _blocks(body, n_samples)


def _optional(body: Mapping[str, Any]) -> None:
    for name in ("source", "maps", "partial", "privacy", "notes"):
        if body.get(name) is not None:
            _mapping(name, body[name])
    _maps(body.get("maps") or {})
    for name in ("privacy", "notes"):
        for key, value in (body.get(name) or {}).items():
            _text(f"{name}.{key}", value)


def _file(name: str, entry: Mapping[str, Any], version: int) -> None:
    algorithms = [
        algorithm
        for algorithm in ("sha256", "blake3")
        if algorithm in entry and (version > 1 or algorithm == "sha256")
    ]
    if len(algorithms) != 1:
        raise ValueError(f"{name[:80]} has {len(algorithms)} digests")
    _text(f"{name}.{algorithms[0]}", entry[algorithms[0]])
    size = _whole(f"{name}.bytes", entry["bytes"], 2**63)
    pieces = _sequence(f"{name}.pieces", entry.get("pieces", []))
    for piece in pieces:
        _text(f"{name}.pieces", piece)
    if pieces and len(pieces) != -(-size // PIECE):
        raise ValueError(f"{name[:80]} has {len(pieces)} pieces of {size} bytes")


def _blocks(body: Mapping[str, Any], n_samples: int) -> None:
    """Files of losses follow one another, and hold as many steps as all of them are."""
    n_steps, last = 0, -1
    blocks = [_mapping("blocks", block) for block in _sequence("blocks", body["blocks"])]
    for block in blocks:
        if check_path(block["path"]) not in body["files"]:
            raise ValueError(f"blocks: {block['path'][:80]} is not among the files")
        first = _whole("blocks.first_step", block["first_step"], MAX_SAMPLES)
        end = _whole("blocks.last_step", block["last_step"], MAX_SAMPLES)
        count = _whole("blocks.n_steps", block["n_steps"], MAX_SAMPLES)
        if first <= last or not 1 <= count <= end - first + 1:
            raise ValueError(f"blocks: {count} steps from {first} to {end} follow {last}")
        n_steps, last = n_steps + count, end
    if len({block["path"] for block in blocks}) < len(blocks):
        raise ValueError("blocks: a file comes twice")
    _totals(_mapping("totals", body["totals"]), n_samples, n_steps, blocks)


def _totals(
    totals: Mapping[str, Any], n_samples: int, n_steps: int, blocks: Sequence[Mapping[str, Any]]
) -> None:
    ends = (blocks[0]["first_step"], blocks[-1]["last_step"]) if blocks else (None, None)
    for name in ("n_steps", "first_step", "last_step"):
        if totals[name] is not None:
            _whole(f"totals.{name}", totals[name], 2**63)
    said = (totals["n_steps"], totals["first_step"], totals["last_step"])
    if said != (n_steps, *ends):
        raise ValueError(f"totals: {said} where the files hold {(n_steps, *ends)}")
    delta = totals["delta"]
    if type(delta) not in {int, float} or not 0 <= delta < float("inf"):
        raise ValueError(f"totals.delta is {str(delta)[:80]}")
    _whole("totals.n_seen", totals["n_seen"], n_samples * n_steps)
    for name in ("n_nonfinite", "n_duplicates"):
        _whole(f"totals.{name}", totals[name], 2**63)


def _columns(names: Sequence[str]) -> None:
    for name in names:
        if not _PART.fullmatch(name) or name in {"sample", "step", "loss"}:
            raise ValueError(f"a measure or component is named {name[:80]!r}")
    if len(set(names)) < len(names):
        raise ValueError("two measures or components have the same name")


def _maps(options: Mapping[str, Any]) -> None:
    for name in ("factor", "step", "before"):
        if options.get(name) is not None:
            _whole(f"maps.{name}", options[name], MAX_SAMPLES)
    if options:
        _choice("maps.dtype", options.get("dtype"), {"float32", "float16"})


def check_steps(steps: Sequence[Any], n_samples: int) -> None:
    """Refuse entries of steps that do not ascend or hold what no step can.

    Raises:
        ValueError: names the field and what it holds.
        TypeError: likewise.
        KeyError: if a field is absent.
    """
    last = -1
    for entry in (_mapping("steps", step) for step in steps):
        step = _whole("steps.step", entry["step"], MAX_SAMPLES)
        if step <= last:
            raise ValueError(f"steps: {step} follows {last}")
        last = step
        delta = entry["delta"]
        if type(delta) not in {int, float} or not 0 < delta < float("inf"):
            raise ValueError(f"steps.delta is {str(delta)[:80]}")
        _whole("steps.n_seen", entry["n_seen"], n_samples)
        for name in ("n_nonfinite", "n_duplicates"):
            _whole(f"steps.{name}", entry.get(name, 0), 2**63)


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name[:80]} is no text: {str(value)[:80]}")
    if len(value) > _MAX_TEXT:
        raise ValueError(f"{name[:80]} has {len(value)} characters, more than {_MAX_TEXT}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name[:80]} holds half of a character") from None
    return value


def _whole(name: str, value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name[:80]} is {str(value)[:80]}, no whole number from 0 to {most}")
    return value


def _choice(name: str, value: object, choices: Collection[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} is {str(value)[:80]!r}")


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name[:80]} is {type(value).__name__}, no object")
    return value


def _sequence(name: str, value: object) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"{name} is {type(value).__name__}, no list")
    return value
