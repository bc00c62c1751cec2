"""The manifest: what a record holds, with the digest of each file. Written last, checked first."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError, StoreError
from actiontrack.record.disk import FileEntry, write_file
from actiontrack.record.limits import check_manifest
from actiontrack.record.paths import FORMAT, FORMAT_VERSION, MANIFEST, block_path, check_name
from actiontrack.record.steps import NO_STEPS, Block, StepEntry, StepTotals

__all__ = [
    "TOKEN_LOSS",
    "Manifest",
    "check_fields",
    "manifest_checksum",
    "manifest_digest",
    "read_manifest",
    "write_manifest",
]

#: Definition of the loss of a pixel where the maps are those of tokens, one row high.
TOKEN_LOSS = "token_cross_entropy"  # noqa: S105 - no secret

_MAX_MANIFEST_BYTES = 64 * 2**20  # half a million files; parsed it takes up to 25 times of it


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What a record holds. See the format specification for every field.

    Attributes:
        split: name of the split.
        mode: "probe" or "inline", see `history.MODES`.
        loss_name: definition of the loss, such as "cross_entropy".
        delta_kind: what Δn counts, see `history.DELTA_KINDS`.
        n_samples: number of samples.
        id_type: "int64" or "string".
        digests: "ids", "labels" and "inputs" -> sha256, or None where unknown.
        class_names: names of the class indices.
        model: name of the model, the key by which same-model runs are grouped.
        measures: measures kept beside the loss.
        components: further losses kept.
        source: reference to the dataset: {"kind": "folder", "root": …}, or None.
        pixel_loss_name: definition of the loss of each pixel, where maps were recorded.
        void: what the losses do with pixels without a class: "ignored" or "counted", or "".
        maps: of the maps of pixel actions: "factor" by which they are smaller than the images,
            "dtype" of the stored numbers, and "step", the last one that they include; or None.
        version: of the format.
        blocks: the files of losses, in the order of their steps.
        totals: what the recorded steps add up to.
        steps: the recorded steps, ascending, where the manifest lists them: in format 1. In format
            2 the files of losses do, see `losses.read_steps`.
        precision: of losses and measures: "full", or "half" where they were rounded to 11
            significant bits.
        log: number of the first log in the spool whose steps the blocks lack.
        partial: step and samples of an interrupted step, which no score includes.
        files: path -> `FileEntry`.
        status: "recording" or "complete".
        revision: counts the changes of the record; of two copies the greater is the newer.
        writer: package and version that wrote the record.
        privacy: what was kept out of the record, see `privacy` in docs/format.md, or None.
        notes: what the recorder says of the record, such as "weights", see `notes` in
            docs/format.md, or None.
    """

    split: str
    mode: str
    loss_name: str
    delta_kind: str
    n_samples: int
    id_type: str
    digests: Mapping[str, str | None]
    class_names: tuple[str, ...] = ()
    model: str = ""
    measures: tuple[str, ...] = ()
    components: tuple[str, ...] = ()
    source: Mapping[str, Any] | None = None
    pixel_loss_name: str = ""
    void: str = ""
    maps: Mapping[str, Any] | None = None
    version: int = FORMAT_VERSION
    blocks: tuple[Block, ...] = ()
    totals: StepTotals = NO_STEPS
    steps: tuple[StepEntry, ...] = ()
    precision: str = "full"
    log: int = 0
    partial: Mapping[str, int] | None = None
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    status: str = "recording"
    revision: int = 0
    writer: str = ""
    privacy: Mapping[str, Any] | None = None
    notes: Mapping[str, str] | None = None

    @property
    def has_hashed_ids(self) -> bool:
        """Whether salted hashes stand for the ids of the samples."""
        return bool(self.privacy and self.privacy.get("ids"))

    @property
    def hides_images(self) -> bool:
        """Whether images were kept out of the record on purpose."""
        return bool(self.privacy and self.privacy.get("images") == "never")

    @property
    def of_training(self) -> bool:
        """Whether the model was trained on these samples, as mode and name of the split tell."""
        return self.mode == "inline" or self.split.lower().startswith("train")

    @property
    def of_tokens(self) -> bool:
        """Whether the maps are losses of the tokens of documents, not of the pixels of images."""
        return self.pixel_loss_name == TOKEN_LOSS

    @property
    def name(self) -> str:
        """Name of the record and of its folder."""
        return f"{self.split}-{self.mode}"

    @property
    def complete(self) -> bool:
        """Whether the record was finished; an unfinished one is readable up to its last step."""
        return self.status == "complete"

    @property
    def n_steps(self) -> int:
        """Number of recorded steps."""
        return self.totals.n_steps

    @property
    def last_step(self) -> int | None:
        """Number of the last recorded step, or None."""
        return self.totals.last_step

    @property
    def n_missing(self) -> int:
        """Losses that steps lack, of samples that they did not see."""
        return self.n_samples * self.n_steps - self.totals.n_seen

    @property
    def has_initial_state(self) -> bool:
        """Whether the untrained state n = 0 is included in the sum."""
        return self.totals.first_step == 0

    def without_files(self, *folders: str) -> "Manifest":
        """This manifest without the files in some folders of the record."""
        files = {
            name: entry
            for name, entry in self.files.items()
            if not any(name.startswith(f"{folder}/") for folder in folders)
        }
        return replace(self, files=files)

    def with_file(self, path: str, entry: FileEntry) -> "Manifest":
        """This manifest with one file added or replaced."""
        return replace(self, files={**self.files, path: entry})


# Writing
def check_fields(manifest: Manifest) -> None:
    """Refuse what no reader would take back.

    Raises:
        ParameterError: names the field and what it holds.
    """
    try:
        check_manifest(_body(manifest))
        json.dumps(manifest.source, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        rule = "must be given what a manifest can hold"
        raise ParameterError("recorder", rule, str(error), "Shorten or correct it.") from error


def write_manifest(folder: Path, manifest: Manifest, *, durable: bool = False) -> None:
    """Write manifest.json in one atomic step: a reader sees the old one or the new one."""
    body = _body(manifest)
    body["checksum"] = manifest_checksum(body)
    # A line per field: json's own indentation takes ten times as long, and this is each epoch's.
    lines = (f"{json.dumps(key)}: {json.dumps(body[key], ensure_ascii=False)}" for key in body)
    text = "{\n" + ",\n".join(lines) + "\n}"
    write_file(
        folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"), durable=durable
    )


def manifest_digest(manifest: Manifest) -> str:
    """The checksum that the manifest's file carries: sha256 of its other fields."""
    return manifest_checksum(_body(manifest))


def _body(manifest: Manifest) -> dict[str, Any]:
    """The fields of a manifest's file but its checksum; nothing is copied."""
    body = {"format": FORMAT, "version": manifest.version} | vars(manifest)
    body["files"] = {name: entry.body() for name, entry in manifest.files.items()}
    if manifest.version == 1:
        for name in ("blocks", "totals", "log", "precision"):
            del body[name]
        body["steps"] = [step.body() for step in manifest.steps]
    else:
        del body["steps"]
        body["blocks"] = [block.body() for block in manifest.blocks]
        body["totals"] = vars(manifest.totals)
    if manifest.notes is None:
        del body["notes"]  # as in the files of earlier versions: their digests stay the same
    return body


# Reading
def read_manifest(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        NotFoundError: if there is no such file.
        CorruptRecordError: if it is damaged, half-written, or newer than this package.
        StoreError: if it can't be read.
    """
    try:
        if path.exists() and (path.is_symlink() or not path.is_file()):
            raise CorruptRecordError(f"{path} is a link or no file. Restore it.")
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise CorruptRecordError(f"{path} is too large for a manifest. Restore it.")
        body = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"no record at {path.parent}: {MANIFEST} is missing.") from error
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise CorruptRecordError(
            f"{path} is damaged or half-written: it is not JSON. Restore it, or run "
            "'actiontrack sync' where the run was recorded."
        ) from error
    return _parse_manifest(path, body)


def manifest_checksum(body: Mapping[str, Any]) -> str:
    """sha256 of a manifest's fields without its checksum."""
    text = json.dumps({key: body[key] for key in body if key != "checksum"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _parse_manifest(path: Path, body: Any) -> Manifest:
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise CorruptRecordError(f"{path} is not the manifest of a record.")
    version = body.get("version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        raise CorruptRecordError(
            f"{path} has format version {body.get('version')}; this package reads up to "
            f"{FORMAT_VERSION}. Upgrade with: pip install -U actiontrack"
        )
    if body.get("checksum") != manifest_checksum(body):
        raise CorruptRecordError(
            f"{path} is altered: its checksum does not match. Restore it, or run "
            "'actiontrack sync' where the run was recorded."
        )
    try:
        return _manifest(body)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptRecordError(f"{path} lacks a field or has a wrong one: {error}") from error


def _manifest(body: Mapping[str, Any]) -> Manifest:
    check_manifest(body)
    names = {item.name for item in fields(Manifest)}
    values = {key: value for key, value in body.items() if key in names}
    for key in ("class_names", "measures", "components"):
        values[key] = tuple(values[key])
    values["files"] = {name: FileEntry.parse(entry) for name, entry in values["files"].items()}
    if values["version"] == 1:
        values |= _listed(tuple(_known(StepEntry, step) for step in values["steps"]))
    else:
        values["blocks"] = tuple(_known(Block, block) for block in values["blocks"])
        values["totals"] = _known(StepTotals, values["totals"])
        values["steps"] = ()
    manifest = Manifest(**values)
    check_name("split", manifest.split)
    check_name("mode", manifest.mode)
    return manifest


def _listed(steps: tuple[StepEntry, ...]) -> dict[str, Any]:
    """What the steps of a manifest of format 1 say: each has a file of its own."""
    blocks = tuple(Block.of(block_path(step.step), (step,)) for step in steps)
    totals = StepTotals.of(steps)
    return {"steps": steps, "blocks": blocks, "totals": totals, "log": 0, "precision": "full"}


def _known(entry: type[Any], values: Mapping[str, Any]) -> Any:
    names = {item.name for item in fields(entry)}
    return entry(**{key: value for key, value in values.items() if key in names})
