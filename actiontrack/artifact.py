"""The record: a loss history as files in one folder, with a manifest. Knows paths, not MLflow.

Layout of a record, format version 1::

    <split>-<mode>/
        samples.parquet            sample, sample_id, label, true_label, path, input_digest
        blocks/000001.parquet      one step: sample, step, loss, measures, loss components
        scores.parquet             one row per sample, written when the record is complete
        features.parquet           optional: sample, features (last-layer features)
        probabilities.parquet      optional: sample, probabilities (of the classes, final model)
        thumbnails.parquet         optional: sample, png
        boxes.parquet              optional: sample, kind, class, score, sides of boxes
        pictures/NAME.parquet      optional: sample, png, such as the label or the prediction
        maps/index.parquet         optional: where the map of pixel actions of each sample is
        maps/000000.parquet        optional: sample, height, width, map; whole maps of few samples
        manifest.json              written last, after every file that it names

`sample` is the row position in canonical order: ascending ids. Files are plain Parquet (zstd,
BYTE_STREAM_SPLIT) that pandas, DuckDB, Dask and Spark read without this package. A null loss is a
sample that was not seen in that step; a NaN loss was seen. Nothing is ever pickled.

The manifest holds the sha256 and size of each file, and its own checksum. A file that the manifest
does not name does not belong to the record. Readers ignore fields and files that they don't know
and refuse a greater format version.
"""

import contextlib
import hashlib
import inspect
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from actiontrack import bounds
from actiontrack.errors import CorruptRecordError, NotFoundError, ParameterError, StoreError
from actiontrack.history import IdArray, IntArray, LossHistory

__all__ = [
    "FORMAT_VERSION",
    "MAP_INDEX",
    "Fetch",
    "FileEntry",
    "Manifest",
    "Pictures",
    "Samples",
    "StepEntry",
    "block_path",
    "check_fields",
    "check_name",
    "check_scores",
    "copy_file",
    "manifest_digest",
    "map_path",
    "picture_path",
    "read_boxes",
    "read_features",
    "read_history",
    "read_manifest",
    "read_map",
    "read_map_index",
    "read_probabilities",
    "read_samples",
    "read_scores",
    "write_block",
    "write_boxes",
    "write_features",
    "write_manifest",
    "write_maps",
    "write_pictures",
    "write_probabilities",
    "write_samples",
    "write_scores",
    "write_thumbnails",
]

FORMAT = "actiontrack-record"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
SAMPLES = "samples.parquet"
SCORES = "scores.parquet"
FEATURES = "features.parquet"
PROBABILITIES = "probabilities.parquet"
THUMBNAILS = "thumbnails.parquet"
BOXES = "boxes.parquet"
MAPS, PICTURES = "maps", "pictures"
MAP_INDEX = f"{MAPS}/index.parquet"

_SAMPLE_COLUMNS = ("sample_id", "label", "true_label", "path", "input_digest")
#: Columns of boxes.parquet. Sides are in pixels of the image, whose size is width x height.
BOX_COLUMNS = (
    *("sample", "kind", "class", "score"),
    *("left", "top", "right", "bottom", "width", "height"),
)

#: Columns of texts. They are read as dictionaries, so that one that is repeated counts once.
_TEXTS = ("sample_id", "path", "input_digest", "kind", "class")

#: Kind of a NumPy dtype -> whether a type of Arrow is of it.
_KINDS = {"b": pa.types.is_boolean, "i": pa.types.is_integer, "f": pa.types.is_floating}

#: How pages are packed. zstd has one table of codes for 128 KiB, so that it does well where these
#: are bytes of one significance: pages as long as a mebibyte allows, which later versions of
#: PyArrow cut at 20,000 rows unless told otherwise.
_PAGES: dict[str, Any] = {"compression": "zstd", "compression_level": 3}
if "max_rows_per_page" in inspect.signature(pq.write_table).parameters:
    _PAGES["max_rows_per_page"] = 2**31 - 1

#: Gives the local path of a file of the record, downloading it where needed.
Fetch = Callable[[str], Path]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.]{0,63}")
_MAX_MANIFEST_BYTES = 64 * 2**20  # half a million files; parsed it takes up to 25 times of it
_THUMBNAIL_ROW_GROUP = 64
_MAP_FILE_BYTES = 64 * 2**10  # of maps in one file: more only if a single map is larger
_MAX_MAP_PIXELS = 2**28
_READERS = 4  # blocks that are read at once
_THREADED_ROWS = 2**19  # rows of a file from which its columns are decoded by several threads
_IN_MEMORY = 2**27  # bytes of a file up to which it is read at once
_SUM_TOLERANCE = 1e-3  # by which a distribution of bfloat16 or float32 numbers may miss 1


@dataclass(frozen=True)
class FileEntry:
    """What the manifest promises of one file: sha256 (64 hex characters) and size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class StepEntry:
    """One recorded step.

    Attributes:
        step: n of eq. 3.
        delta: Δn of eq. 3, in the unit of the manifest's `delta_kind`.
        n_seen: samples seen in this step.
        n_nonfinite: seen losses that are NaN or infinite.
        n_duplicates: repeated ids that were dropped (padding of distributed samplers).
    """

    step: int
    delta: float
    n_seen: int
    n_nonfinite: int = 0
    n_duplicates: int = 0


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The rows of a split in canonical order (ascending ids).

    Attributes:
        sample_ids: (n_samples,) int64 or str.
        labels: (n_samples,) int64 or None.
        true_labels: (n_samples,) int64 or None.
        paths: (n_samples,) paths relative to the root of the dataset's source, or None.
        input_digests: (n_samples,) 32 hex characters each, see `digest.digest_input`, or None.
    """

    sample_ids: IdArray
    labels: IntArray | None = None
    true_labels: IntArray | None = None
    paths: Sequence[str] | None = None
    input_digests: Sequence[str] | None = None


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
        steps: the recorded steps, ascending.
        partial: step and samples of an interrupted step, which no score includes.
        files: path -> `FileEntry`.
        status: "recording" or "complete".
        revision: counts the changes of the record; of two copies the greater is the newer.
        writer: package and version that wrote the record.
        privacy: what was kept out of the record, see `privacy` in docs/format.md, or None.
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
    steps: tuple[StepEntry, ...] = ()
    partial: Mapping[str, int] | None = None
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    status: str = "recording"
    revision: int = 0
    writer: str = ""
    privacy: Mapping[str, Any] | None = None

    @property
    def has_hashed_ids(self) -> bool:
        """Whether salted hashes stand for the ids of the samples."""
        return bool(self.privacy and self.privacy.get("ids"))

    @property
    def hides_images(self) -> bool:
        """Whether images were kept out of the record on purpose."""
        return bool(self.privacy and self.privacy.get("images") == "never")

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
        return len(self.steps)

    @property
    def has_initial_state(self) -> bool:
        """Whether the untrained state n = 0 is included in the sum."""
        return bool(self.steps) and self.steps[0].step == 0

    def without_files(self, *folders: str) -> "Manifest":
        """This manifest without the files in some folders of the record."""
        kept = {
            name: each
            for name, each in self.files.items()
            if not any(name.startswith(f"{folder}/") for folder in folders)
        }
        return replace(self, files=kept)

    def with_file(self, path: str, entry: FileEntry) -> "Manifest":
        """This manifest with one file added or replaced."""
        return replace(self, files={**self.files, path: entry})


def check_name(argument: str, value: str) -> str:
    """A name that is safe in paths, tags and URLs: letters, digits, dot and underscore."""
    if not _NAME.fullmatch(value):
        raise ParameterError(
            argument,
            "must be 1 to 64 letters, digits, dots or underscores, starting with a letter or digit",
            value,
            "Choose a plain name such as 'test'.",
        )
    return value


def block_path(step: int) -> str:
    """Path of the block of one step inside the record."""
    return f"blocks/{step:06d}.parquet"


def map_path(number: int, folder: str = MAPS) -> str:
    """Path of a file of maps inside the record."""
    return f"{folder}/{number:06d}.parquet"


def picture_path(name: str) -> str:
    """Path of the pictures of one name, such as "label", inside the record."""
    return f"{PICTURES}/{check_name('name', name)}.parquet"


# Writing


def check_fields(manifest: Manifest) -> None:
    """Refuse what no reader would take back.

    Raises:
        ParameterError: names the field and what it holds.
    """
    try:
        bounds.check_manifest(_body(manifest))
        json.dumps(manifest.source, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        rule = "must be given what a manifest can hold"
        raise ParameterError("recorder", rule, str(error), "Shorten or correct it.") from error


def write_samples(folder: Path, samples: Samples) -> FileEntry:
    """Write samples.parquet into `folder`.

    Raises:
        ParameterError: if an id or path has no form in UTF-8.
    """
    try:
        table = _table(_sample_columns(samples))
    except UnicodeEncodeError as error:
        rule = "must be text that UTF-8 can hold"
        raise ParameterError("ids", rule, error.object[:80], "Rename the sample.") from error
    return _write_table(folder / SAMPLES, table)


def _sample_columns(samples: Samples) -> dict[str, Any]:
    n_samples = len(samples.sample_ids)
    return {
        "sample": np.arange(n_samples, dtype=np.int32),
        "sample_id": pa.array(samples.sample_ids.tolist()),
        "label": samples.labels,
        "true_label": samples.true_labels,
        "path": samples.paths,
        "input_digest": samples.input_digests,
    }


def write_block(folder: Path, step: int, columns: Mapping[str, npt.NDArray[Any]]) -> FileEntry:
    """Write one step.

    Args:
        folder: folder of the record.
        step: n of eq. 3.
        columns: "loss" and further columns, each (n_samples,). Masked arrays write nulls for
            samples that were not seen.
    """
    n_samples = len(columns["loss"])
    table = _table(
        {
            "sample": np.arange(n_samples, dtype=np.int32),
            "step": np.full(n_samples, step, dtype=np.int32),
            **columns,
        }
    )
    return _write_table(folder / block_path(step), table)


def write_scores(folder: Path, scores: pd.DataFrame) -> FileEntry:
    """Write scores.parquet: the frame of `scores.score_table` and its row positions."""
    table = _table({"sample": np.arange(len(scores), dtype=np.int32)} | _frame_columns(scores))
    return _write_table(folder / SCORES, table)


def write_features(folder: Path, features: npt.NDArray[np.floating]) -> FileEntry:
    """Write features.parquet from (n_samples, n_features) in canonical order, kept as float32."""
    return _write_vectors(folder / FEATURES, "features", features)


def write_probabilities(folder: Path, probabilities: npt.NDArray[np.floating]) -> FileEntry:
    """Write probabilities.parquet: what the final model says of each sample (section 4.1).

    Args:
        folder: folder of the record.
        probabilities: (n_samples, n_classes) in canonical order, kept as float32.

    Raises:
        ParameterError: if they are no distributions: not two-dimensional, not finite, negative,
            or with rows that do not sum to 1.
    """
    _check_distributions(probabilities)
    return _write_vectors(folder / PROBABILITIES, "probabilities", probabilities)


def write_thumbnails(folder: Path, images: Sequence[bytes]) -> FileEntry:
    """Write thumbnails.parquet from one PNG per sample, in row groups that open alone."""
    return _write_pngs(folder / THUMBNAILS, images)


def write_pictures(folder: Path, name: str, images: Sequence[bytes]) -> FileEntry:
    """Write one PNG per sample under a name, in row groups that open alone."""
    return _write_pngs(folder / picture_path(name), images)


def write_boxes(folder: Path, boxes: pd.DataFrame) -> FileEntry:
    """Write boxes.parquet, one row per annotated or predicted box.

    Args:
        folder: folder of the record.
        boxes: `BOX_COLUMNS` in any order of rows; see docs/format.md.

    Raises:
        ParameterError: a missing column, a kind that is neither "truth" nor "predicted", or a
            side or size that is not finite.
    """
    missing = [each for each in BOX_COLUMNS if each not in boxes.columns]
    if missing:
        rule = f"must have the columns {', '.join(BOX_COLUMNS[1:])}"
        raise ParameterError("boxes", rule, f"none named {missing[0]}", "Add the column.")
    kinds = set(boxes["kind"]) - {"truth", "predicted"}
    if kinds:
        rule = 'must have the kind "truth" or "predicted" in each row'
        raise ParameterError("boxes", rule, min(map(str, kinds)), "Name one of the two.")
    numbers = boxes.loc[:, list(BOX_COLUMNS[4:])].to_numpy(dtype=np.float32)
    if not np.isfinite(numbers).all():
        rule = "must have finite sides and sizes"
        row = int(np.flatnonzero(~np.isfinite(numbers).all(axis=1))[0])
        raise ParameterError("boxes", rule, f"row {row}: {numbers[row]}", "Leave the box out.")
    ordered = boxes.sort_values("sample", kind="stable")
    columns: dict[str, Any] = {
        "sample": ordered["sample"].to_numpy(dtype=np.int32),
        **{each: pa.array(ordered[each].astype(str), pa.string()) for each in ("kind", "class")},
        **{each: ordered[each].to_numpy(dtype=np.float32) for each in BOX_COLUMNS[3:]},
    }
    return _write_table(folder / BOXES, _table(columns))


def _write_pngs(path: Path, images: Sequence[bytes]) -> FileEntry:
    columns = {
        "sample": np.arange(len(images), dtype=np.int32),
        "png": pa.array(list(images), pa.binary()),
    }
    return _write_table(path, _table(columns), row_group=_THUMBNAIL_ROW_GROUP)


def write_maps(
    folder: Path,
    maps: Iterable[npt.NDArray[np.floating] | None],
    *,
    dtype: str = "float32",
    under: str = MAPS,
) -> dict[str, FileEntry]:
    """Write the maps of pixel actions and their index, holding one file's worth in memory.

    A file holds the map of one sample, or of as many neighbours as fit into 64 KiB: fetching one
    map fetches no more than that of others.

    Args:
        folder: folder of the record.
        maps: (H, W) of each sample in canonical order, sizes may differ; None for a sample
            without a map.
        dtype: "float32" or "float16"; a file with a number too large for float16 is float32.
        under: folder inside the record.

    Returns:
        path -> entry of every file.
    """
    entries: dict[str, FileEntry] = {}
    index: dict[str, list[int]] = {name: [] for name in ("height", "width", "file", "row")}
    waiting: list[tuple[int, npt.NDArray[np.floating]]] = []
    size = 0

    def write() -> None:
        if waiting:
            path = map_path(len(entries), under)
            entries[path] = _write_map_file(folder / path, waiting, dtype)
            waiting.clear()

    for sample, values in enumerate(maps):
        if values is not None and waiting and size + values.size * 4 > _MAP_FILE_BYTES:
            write()
        if not waiting:
            size = 0
        height, width = (0, 0) if values is None else values.shape
        place = (-1, -1) if values is None else (len(entries), len(waiting))
        for name, each in zip(index, (height, width, *place), strict=True):
            index[name].append(each)
        if values is not None:
            waiting.append((sample, values))
            size += values.size * 4
    write()
    columns = {name: np.array(each, dtype=np.int32) for name, each in index.items()}
    columns = {"sample": np.arange(len(columns["row"]), dtype=np.int32), **columns}
    path = f"{under}/index.parquet"
    entries[path] = _write_table(folder / path, _table(columns))
    return entries


def _write_map_file(
    path: Path, maps: Sequence[tuple[int, npt.NDArray[np.floating]]], dtype: str
) -> FileEntry:
    flat = np.concatenate([values.ravel() for _, values in maps]).astype(np.float32)
    largest = np.max(np.abs(flat), where=np.isfinite(flat), initial=0.0)
    if dtype == "float16" and largest <= np.finfo(np.float16).max:
        flat = flat.astype(np.float16)
    ends = np.cumsum([0, *(values.size for _, values in maps)])
    table = _table(
        {
            "sample": np.array([sample for sample, _ in maps], dtype=np.int32),
            "height": np.array([values.shape[0] for _, values in maps], dtype=np.int32),
            "width": np.array([values.shape[1] for _, values in maps], dtype=np.int32),
            "map": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(flat)),
        }
    )
    split = {"map.list.element": "BYTE_STREAM_SPLIT"} if flat.dtype == np.float32 else None
    _write_file(
        path,
        lambda temporary: pq.write_table(
            table,
            temporary,
            use_dictionary=False,
            column_encoding=split,
            write_statistics=False,
            **_PAGES,
        ),
    )
    return _entry(path)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json in one atomic step: a reader sees the old one or the new one."""
    body = _body(manifest)
    body["checksum"] = _checksum(body)
    # A line per field: json's own indentation takes ten times as long, and this is each epoch's.
    lines = (f"{json.dumps(key)}: {json.dumps(body[key], ensure_ascii=False)}" for key in body)
    text = "{\n" + ",\n".join(lines) + "\n}"
    _write_file(folder / MANIFEST, lambda path: path.write_text(text, encoding="utf-8"))


def manifest_digest(manifest: Manifest) -> str:
    """The checksum that the manifest's file carries: sha256 of its other fields."""
    return _checksum(_body(manifest))


def _body(manifest: Manifest) -> dict[str, Any]:
    """The fields of a manifest's file but its checksum; nothing is copied."""
    entries = {
        "steps": [vars(each) for each in manifest.steps],
        "files": {name: vars(each) for name, each in manifest.files.items()},
    }
    return {"format": FORMAT, "version": FORMAT_VERSION} | vars(manifest) | entries


def _check_distributions(probabilities: npt.NDArray[np.floating]) -> None:
    remedy = "Pass softmax(logits) of each sample."
    if probabilities.ndim != 2 or not probabilities.shape[1]:
        rule = "must have shape (n_samples, n_classes)"
        raise ParameterError("probabilities", rule, probabilities.shape, remedy)
    if not (np.isfinite(probabilities) & (probabilities >= 0)).all():
        valid = (np.isfinite(probabilities) & (probabilities >= 0)).all(axis=1)
        rule, row = "must be finite and not negative", probabilities[~valid][0].tolist()
        raise ParameterError("probabilities", rule, row, remedy)
    sums = probabilities.sum(axis=1, dtype=np.float64)
    wrong = np.abs(sums - 1) > _SUM_TOLERANCE
    if wrong.any():
        rule = f"must sum to 1 in each row, within {_SUM_TOLERANCE:g}"
        raise ParameterError("probabilities", rule, float(sums[wrong][0]), remedy)


def _write_vectors(path: Path, name: str, vectors: npt.NDArray[np.floating]) -> FileEntry:
    """A table of one float32 vector per sample, all of the same length."""
    n_samples, width = vectors.shape
    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    columns = {
        "sample": np.arange(n_samples, dtype=np.int32),
        name: pa.FixedSizeListArray.from_arrays(flat, width),
    }
    return _write_table(path, _table(columns))


def _frame_columns(frame: pd.DataFrame) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in frame.columns:
        values = frame[name].to_numpy()
        columns[str(name)] = pa.array(values.tolist()) if values.dtype.kind in "OUT" else values
    return columns


def _table(columns: Mapping[str, Any]) -> pa.Table:
    arrays: dict[str, pa.Array] = {}
    for name, values in columns.items():
        if isinstance(values, np.ma.MaskedArray):
            arrays[name] = pa.array(values.data, mask=np.ma.getmaskarray(values))
        elif values is not None:
            arrays[name] = values if isinstance(values, pa.Array) else pa.array(values)
    return pa.table(arrays)


def _write_table(path: Path, table: pa.Table, row_group: int | None = None) -> FileEntry:
    floats = [each.name for each in table.schema if pa.types.is_floating(each.type)]
    dictionary = [
        each.name
        for each in table.schema
        if pa.types.is_string(each.type) or each.name in {"label", "true_label", "predicted"}
    ]
    encodings = dict.fromkeys(floats, "BYTE_STREAM_SPLIT")
    encodings |= dict.fromkeys(("sample", "step"), "DELTA_BINARY_PACKED")
    encodings = {each: code for each, code in encodings.items() if each in table.column_names}
    # Minimum and maximum leave NaN out, and there are readers that conclude that there is none.
    bounded = [
        each.name
        for each in table.schema
        if not pa.types.is_floating(each.type) and not pa.types.is_nested(each.type)
    ]
    _write_file(
        path,
        lambda temporary: pq.write_table(
            table,
            temporary,
            use_dictionary=dictionary,
            column_encoding=encodings,
            row_group_size=row_group,
            write_statistics=bounded,
            **_PAGES,
        ),
    )
    return _entry(path)


def _write_file(path: Path, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}. What was recorded before is safe. "
            "Free space or set ACTIONTRACK_SPOOL to a folder that can be written, then try again."
        ) from error


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


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


def copy_file(manifest: Manifest, name: str, fetch: Fetch, folder: Path) -> None:
    """Copy one file of a record into `folder`, verified.

    Raises:
        CorruptRecordError: if it is missing, truncated or altered.
    """
    source = _verified(manifest, name, fetch)
    _write_file(folder / name, lambda path: shutil.copyfile(source, path))


def read_samples(manifest: Manifest, fetch: Fetch) -> Samples:
    """Read the samples of a record.

    Raises:
        NotFoundError: if the record has none yet.
        CorruptRecordError: if the file is missing, truncated or altered, or ids or labels are not
            what they must be.
    """
    file = _open(manifest, SAMPLES, fetch)
    table = _columns_of(file, [each for each in _SAMPLE_COLUMNS if each in file.names])
    with _corrupt_on_error(SAMPLES):
        samples = Samples(
            sample_ids=_ids(table["sample_id"], file.stored),
            labels=_optional(table, "label"),
            true_labels=_optional(table, "true_label"),
            paths=_optional_texts(table, "path", file.stored),
            input_digests=_optional_texts(table, "input_digest", file.stored),
        )
        _check_ids(samples.sample_ids, manifest.id_type)
    return samples


def _check_ids(ids: IdArray, id_type: str) -> None:
    if id_type and (id_type == "int64") != (ids.dtype.kind in "iu"):
        raise ValueError(f"sample_ids: must be {id_type}, got {ids.dtype.name}")
    if ids.size > 1 and not bool((ids[1:] > ids[:-1]).all()):  # type: ignore[operator]
        raise ParameterError(
            "sample_ids", "must be unique and ascending", ids[:5].tolist(), "Sort by id first."
        )


def read_history(
    manifest: Manifest, fetch: Fetch, *, columns: Sequence[str] | None = None
) -> LossHistory:
    """Read the history of a record up to its last complete step.

    Args:
        manifest: the record's manifest.
        fetch: gives the local path of a file of the record.
        columns: measures and components wanted beside the loss. Default: all of them.

    Raises:
        CorruptRecordError: if a file is missing, truncated or altered.
    """
    samples = read_samples(manifest, fetch)
    kept = (*manifest.measures, *manifest.components)
    wanted = ["loss", *(each for each in kept if columns is None or each in columns)]
    grids, seen = _read_grids(manifest, fetch, wanted)
    with _corrupt_on_error(manifest.name):
        return LossHistory(
            losses=grids.pop("loss"),
            sample_ids=samples.sample_ids,
            labels=samples.labels,
            true_labels=samples.true_labels,
            steps=np.array([each.step for each in manifest.steps], dtype=np.int64),
            deltas=np.array([each.delta for each in manifest.steps], dtype=np.float64),
            seen=seen,
            measures={each: grids[each] for each in manifest.measures if each in grids},
            components={each: grids[each] for each in manifest.components if each in grids},
            class_names=manifest.class_names,
            split=manifest.split,
            mode=manifest.mode,
            delta_kind=manifest.delta_kind,
            loss_name=manifest.loss_name,
        )


def read_scores(
    manifest: Manifest, fetch: Fetch, *, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """Read scores.parquet, without the column `sample`.

    Raises:
        NotFoundError: if there is no such score.
        CorruptRecordError: if the file is missing, truncated or altered.
    """
    file = _open(manifest, SCORES, fetch)
    known = [each for each in file.names if each != "sample"]
    check_scores(columns or (), known)
    table = _columns_of(file, known if columns is None else columns)
    with _corrupt_on_error(SCORES):
        return pd.DataFrame(
            {name: _any_values(table[name], file.stored) for name in table.column_names}
        )


def check_scores(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Refuse the name of a score that is not there.

    Raises:
        NotFoundError: names the score and those that there are.
    """
    for name in wanted:
        if name not in known:
            raise NotFoundError(f"no score {name!r} in the record. There are: {', '.join(known)}.")


def read_features(manifest: Manifest, fetch: Fetch) -> npt.NDArray[np.float32]:
    """Read (n_samples, n_features) float32."""
    return _read_vectors(manifest, FEATURES, "features", fetch)


def read_probabilities(manifest: Manifest, fetch: Fetch) -> npt.NDArray[np.float32]:
    """Read the final model's (n_samples, n_classes) float32.

    Raises:
        NotFoundError: if the record holds none.
        CorruptRecordError: if the file is missing, truncated or altered, or holds no
            distributions.
    """
    found = _read_vectors(manifest, PROBABILITIES, "probabilities", fetch)
    with _corrupt_on_error(PROBABILITIES):
        _check_distributions(found)
    return found


def _read_vectors(
    manifest: Manifest, path: str, name: str, fetch: Fetch
) -> npt.NDArray[np.float32]:
    table = _columns_of(_open(manifest, path, fetch), [name])
    with _corrupt_on_error(path):
        column = table[name].combine_chunks()
        if not pa.types.is_fixed_size_list(column.type) or column.null_count:
            raise TypeError(f"{name} is {column.type}, or has samples without one")
        flat = _values(column.flatten(), np.dtype(np.float32))
        return flat.reshape(manifest.n_samples, column.type.list_size)


class Pictures:
    """A file of PNGs, one per sample: verified once, then read one row group at a time.

    Args:
        manifest: the record's manifest.
        fetch: gives the local path of a file of the record.
        name: path of the file inside the record, `THUMBNAILS` or a `picture_path`.

    Raises:
        NotFoundError: if the record holds no such file.
        CorruptRecordError: if the file is missing, truncated or altered.
    """

    def __init__(self, manifest: Manifest, fetch: Fetch, name: str) -> None:
        self._name, self._path = name, _verified(manifest, name, fetch)
        self._stored, self._bytes = manifest.files[name].bytes, _reader(self._path)
        self._footer = bounds.Footer.of(name, self._bytes, self._stored)
        with _corrupt_on_error(name):
            self._metadata = pq.read_metadata(self._path)
            _check_rows(self._metadata, name, manifest.n_samples)

    def read(self, sample: int) -> bytes:
        """The PNG of the sample at a row position, opening its row group only.

        Raises:
            CorruptRecordError: if there is none, or it expands beyond what the file may claim.
        """
        with _corrupt_on_error(self._name):
            group, row = divmod(sample, _THUMBNAIL_ROW_GROUP)
            columns = ["sample", "png"]
            self._footer.check(
                self._name, self._bytes, self._stored, columns=columns, groups=[group]
            )
            file = pq.ParquetFile(self._path, metadata=self._metadata)
            table = file.read_row_group(group, columns=columns)
            if not pa.types.is_binary(table.schema.field("png").type):
                raise TypeError(f"png is {table.schema.field('png').type}")
            if table["sample"][row].as_py() != sample:
                raise ValueError(f"sample {sample} is not in its place")
            return bytes(table["png"][row].as_py())


def read_boxes(manifest: Manifest, fetch: Fetch) -> pd.DataFrame:
    """Read boxes.parquet, a row per box, see `write_boxes`.

    Raises:
        NotFoundError: if the record holds none.
        CorruptRecordError: if the file is missing, truncated, altered, or about samples that the
            record does not have.
    """
    file = _open_any(manifest, BOXES, fetch)
    table = _columns_of(file, BOX_COLUMNS)
    with _corrupt_on_error(BOXES):
        boxes = pd.DataFrame(
            {name: _any_values(table[name], file.stored) for name in BOX_COLUMNS}
        ).astype({"kind": "str", "class": "str"})
        _check_boxes(boxes)
    if not boxes["sample"].between(0, manifest.n_samples - 1).all():
        raise CorruptRecordError(
            f"{BOXES} names samples beyond the {manifest.n_samples} of the record {manifest.name}. "
            "Restore the file, or record the run again."
        )
    return boxes


def _check_boxes(boxes: pd.DataFrame) -> None:
    if boxes["sample"].dtype.kind not in "iu":
        raise TypeError(f"sample is {boxes['sample'].dtype}")
    unknown = boxes.loc[~boxes["kind"].isin(["truth", "predicted"]), "kind"]
    if len(unknown):
        raise ValueError(f"kind is {unknown.iloc[0][:80]!r}")
    for name in BOX_COLUMNS[3:]:
        values = boxes[name].to_numpy()
        if values.dtype.kind != "f" or (name != "score" and not np.isfinite(values).all()):
            raise ValueError(f"{name} is no finite number")


def read_map_index(manifest: Manifest, fetch: Fetch, *, under: str = MAPS) -> pd.DataFrame:
    """Where the map of each sample is: sample, height, width, file, row; file −1 without a map.

    Raises:
        NotFoundError: if the record holds no maps.
        CorruptRecordError: if the index is damaged, or promises a map larger than 2²⁸ pixels.
    """
    path = f"{under}/index.parquet"
    columns = ("sample", "height", "width", "file", "row")
    table = _columns_of(_open(manifest, path, fetch), columns)
    with _corrupt_on_error(path):
        whole = np.dtype(np.int64)
        index = pd.DataFrame(
            {each: _values(table[each].combine_chunks(), whole) for each in columns}
        )
        there = index["file"] >= 0
        if (index["file"] < -1).any() or (index.loc[there, ["row", "height", "width"]] < 0).any(
            axis=None
        ):
            raise ValueError("a place or size is negative")
    sides = index.loc[there, ["height", "width"]].clip(upper=_MAX_MAP_PIXELS + 1)
    largest = int((sides["height"] * sides["width"]).max()) if len(sides) else 0
    if largest > _MAX_MAP_PIXELS:
        raise CorruptRecordError(
            f"{path} names a map of {largest} pixels, more than any that this "
            "package writes. Restore the file, or record the run again."
        )
    return index


def read_map(
    manifest: Manifest, fetch: Fetch, index: pd.DataFrame, sample: int, *, under: str = MAPS
) -> npt.NDArray[np.float32]:
    """Read the map of pixel actions (H, W) of the sample at one row position.

    Sizes are checked against the index before anything is allocated.

    Args:
        manifest: the record's manifest.
        fetch: gives the local path of a file of the record.
        index: the frame of `read_map_index`.
        sample: row position.
        under: folder inside the record.

    Raises:
        NotFoundError: if the sample has no map.
        CorruptRecordError: if its file is missing, truncated, altered or not what the index says.
    """
    number, place = int(index["file"].iloc[sample]), int(index["row"].iloc[sample])
    if number < 0:
        raise NotFoundError(f"sample {sample} of the record {manifest.name} has no map.")
    name = map_path(number, under)
    file = _open_any(manifest, name, fetch)
    with _corrupt_on_error(name):
        _check_map_file(file, index.iloc[_in_same_file(index["file"].to_numpy(), sample)])
        table = _columns_of(file, ["sample", "map"])
        if table["sample"][place].as_py() != sample:
            raise ValueError(f"sample {sample} is not in its place")
        flat = table["map"].combine_chunks()[place].values  # noqa: PD011 - not a frame's
        shape = (int(index["height"].iloc[sample]), int(index["width"].iloc[sample]))
        return _values(flat, np.dtype(np.float32)).reshape(shape)


def _in_same_file(files: npt.NDArray[np.int32], sample: int) -> npt.NDArray[np.intp]:
    """Row positions whose maps are in the file of a sample: neighbours, so not all are asked."""
    width = 32
    while True:
        start, stop = max(0, sample - width), min(len(files), sample + width)
        near = files[start:stop]
        here = near == files[sample]
        others = np.flatnonzero(~here & (near >= 0)) + start
        left = start == 0 or (others < sample).any()
        if left and (stop == len(files) or (others > sample).any()):
            return np.flatnonzero(here) + start
        width *= 4


def _check_map_file(file: "_Table", rows: pd.DataFrame) -> None:
    promised = int((rows["height"].astype(np.int64) * rows["width"]).sum())
    held = file.footer.n_values("map")
    if file.metadata.num_rows != len(rows) or held != promised:
        raise CorruptRecordError(
            f"{file.name} holds {held} numbers in {file.metadata.num_rows} maps where the index "
            f"says {promised} in {len(rows)}. Restore the file, or record the run again."
        )


def _read_grids(
    manifest: Manifest, fetch: Fetch, names: Sequence[str]
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.bool_]]:
    shape = (manifest.n_steps, manifest.n_samples)
    types = {name: np.dtype(_grid_dtype(name)) for name in names}
    stored = sum(_promised(manifest, block_path(each.step)).bytes for each in manifest.steps)
    width = 1 + sum(each.itemsize for each in types.values())
    bounds.check_claim(f"the record {manifest.name}", shape[0] * shape[1] * width, stored)
    grids = {name: np.empty(shape, dtype=types[name]) for name in names}
    seen = np.empty(shape, dtype=np.bool_)

    def read(row: int) -> None:
        step = manifest.steps[row]
        path = block_path(step.step)
        table = _columns_of(_open(manifest, path, fetch), names)
        with _corrupt_on_error(path):
            partial = step.n_seen < manifest.n_samples
            seen[row] = table["loss"].is_valid().to_numpy() if partial else True
            for name in names:
                grids[name][row] = _filled(table[name], types[name])

    with ThreadPoolExecutor(_READERS) as pool:  # decoding and digests release the GIL
        for _ in pool.map(read, range(manifest.n_steps)):
            pass
    return grids, seen


def _grid_dtype(name: str) -> type[np.generic]:
    if name == "correct":
        return np.bool_
    return np.int32 if name == "predicted" else np.float32


def _filled(column: pa.ChunkedArray, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if column.null_count:
        missing: float | int | bool = np.nan
        if dtype.kind in "bi":
            missing = False if dtype.kind == "b" else -1
        column = column.fill_null(missing)
    return _values(column, dtype)


def _values(column: pa.ChunkedArray | pa.Array, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """A column without nulls as NumPy, if its type is of the kind of `dtype`."""
    if not _KINDS[dtype.kind](column.type) or column.null_count:
        raise TypeError(f"a column of {dtype.name} is {column.type}, or has values that are absent")
    found = (
        column.to_numpy()
        if isinstance(column, pa.ChunkedArray)
        else column.to_numpy(zero_copy_only=False)
    )
    return np.asarray(found, dtype=dtype if dtype.kind != "i" else None)


@dataclass(frozen=True)
class _Table:
    """A verified table of the record. Its columns are read by `_columns_of`."""

    name: str
    names: Sequence[str]  # of the columns
    file: pq.ParquetFile
    footer: bounds.Footer
    stored: int
    read: bounds.Read

    @property
    def metadata(self) -> pq.FileMetaData:
        """What the footer says."""
        return self.file.metadata


def _columns_of(table: _Table, columns: Sequence[str]) -> pa.Table:
    """Some columns, once it is sure that they take no more memory than they may."""
    missing = set(columns) - set(table.names)
    if missing:
        raise CorruptRecordError(
            f"{table.name} lacks the columns {', '.join(sorted(missing))}. "
            "Restore the file, or record the run again."
        )
    n_rows = table.metadata.num_rows
    with _corrupt_on_error(table.name):
        table.footer.check(table.name, table.read, table.stored, columns=set(columns), texts=_TEXTS)
        found = table.file.read(columns=list(columns), use_threads=n_rows > _THREADED_ROWS)
        if found.num_rows != n_rows or len(found.column_names) != len(columns):
            raise ValueError(f"{found.num_rows} rows where its footer says {n_rows}")
        return found


def _open(manifest: Manifest, name: str, fetch: Fetch) -> _Table:
    """A verified table of the record, one row per sample."""
    table = _open_any(manifest, name, fetch)
    _check_rows(table.metadata, name, manifest.n_samples)
    return table


def _check_rows(metadata: pq.FileMetaData, name: str, n_samples: int) -> None:
    if metadata.num_rows != n_samples:
        raise CorruptRecordError(
            f"{name} has {metadata.num_rows} rows where the manifest says "
            f"{n_samples}. Restore the file, or record the run again."
        )


def _open_any(manifest: Manifest, name: str, fetch: Fetch) -> _Table:
    """A verified table of the record with any number of rows."""
    source = _source(manifest, name, fetch)
    stored = _promised(manifest, name).bytes

    def opened() -> Path | pa.BufferReader:
        return source if isinstance(source, Path) else pa.BufferReader(source)

    read = _reader(source)
    footer = bounds.Footer.of(name, read, stored)
    with _corrupt_on_error(name):
        file = pq.ParquetFile(opened())
        names = file.schema_arrow.names  # made each time that it is asked for
        texts = [each for each in _TEXTS if each in names]
        if texts:
            file = pq.ParquetFile(opened(), metadata=file.metadata, read_dictionary=texts)
            file.schema_arrow  # noqa: B018 - it is made now or never
        return _Table(name, names, file, footer, stored, read)


def _reader(source: Path | bytes) -> bounds.Read:
    """Gives bytes of a file that is in memory or on disk."""
    if isinstance(source, bytes):
        return lambda at, size: source[at : at + size]

    def read(at: int, size: int) -> bytes:
        with source.open("rb") as file:
            file.seek(at)
            return file.read(size)

    return read


def _source(manifest: Manifest, name: str, fetch: Fetch) -> Path | bytes:
    """A verified file: its bytes, read once for the digest and for the reader, if they are few."""
    promised = _promised(manifest, name)
    if promised.bytes > _IN_MEMORY:
        return _verified(manifest, name, fetch)
    path = _present(manifest, name, fetch)
    try:
        with path.open("rb") as file:
            data = file.read(promised.bytes + 1)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}.") from error
    if len(data) != promised.bytes or hashlib.sha256(data).hexdigest() != promised.sha256:
        raise _altered(manifest, name)
    return data


def _verified(manifest: Manifest, name: str, fetch: Fetch) -> Path:
    """Local path of a file whose size and sha256 are those of the manifest."""
    promised, path = _promised(manifest, name), _present(manifest, name, fetch)
    try:
        as_promised = path.stat().st_size == promised.bytes and _entry(path) == promised
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}.") from error
    if not as_promised:
        raise _altered(manifest, name)
    return path


def _promised(manifest: Manifest, name: str) -> FileEntry:
    promised = manifest.files.get(name)
    if promised is None:
        raise NotFoundError(f"the record {manifest.name} has no {name}.")
    return promised


def _present(manifest: Manifest, name: str, fetch: Fetch) -> Path:
    path = fetch(name)
    if not path.is_file() or path.is_symlink():
        raise CorruptRecordError(
            f"{name} is named in the manifest of {manifest.name} but missing. "
            "Restore the file, or record the run again."
        )
    return path


def _altered(manifest: Manifest, name: str) -> CorruptRecordError:
    return CorruptRecordError(
        f"{name} of {manifest.name} is truncated or altered: its sha256 is not that of the "
        "manifest. Restore the file, or record the run again."
    )


# What Arrow, NumPy and pandas raise for a file that is not what it should be.
_UNREADABLE = (
    *(pa.ArrowException, KeyError, IndexError, TypeError, ValueError),
    *(ArithmeticError, AttributeError, MemoryError, RuntimeError),
)


@contextlib.contextmanager
def _corrupt_on_error(name: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as error:
        raise _unreadable(name, error) from error
    except OSError as error:
        if error.errno is not None:
            raise StoreError(f"cannot read {name}: {error.strerror}.") from error
        raise _unreadable(name, error) from error  # what Arrow raises for a damaged file


def _unreadable(name: str, error: BaseException) -> CorruptRecordError:
    reason = (str(error).strip() or type(error).__name__).rstrip(".")
    return CorruptRecordError(
        f"{name} can't be read as the record's format {FORMAT_VERSION}: {reason}. "
        "Restore the file, or record the run again."
    )


def _ids(column: pa.ChunkedArray, stored: int) -> IdArray:
    if pa.types.is_integer(column.type):
        return _values(column, np.dtype(np.int64))
    texts, longest = _texts(column, stored)
    bounds.check_claim("sample_id", 4 * longest * len(texts), stored)  # NumPy pads all of them
    return np.array(texts.to_pylist(), dtype=np.str_)


def _texts(column: pa.ChunkedArray, stored: int) -> tuple[pa.ChunkedArray, int]:
    """A column of texts that was read as a dictionary, spelt out, and bytes of the longest."""
    if not pa.types.is_dictionary(column.type) or not pa.types.is_string(column.type.value_type):
        raise TypeError(f"a column of texts is {column.type}")
    total = longest = 0
    for chunk in column.chunks:
        chunk.validate(full=True)
        chunk.dictionary.validate(full=True)
        sizes = pc.binary_length(chunk.dictionary).take(chunk.indices)
        total += pc.sum(sizes).as_py() or 0
        longest = max(longest, pc.max(sizes).as_py() or 0)
        if chunk.null_count or sizes.null_count:
            raise ValueError("a text is absent")
    bounds.check_claim("a column of texts", total, stored)
    return column.cast(pa.string()), longest


def _any_values(column: pa.ChunkedArray, stored: int) -> Any:
    """A column of texts as a list, one of numbers or truth values as NumPy."""
    if pa.types.is_dictionary(column.type):
        return _texts(column, stored)[0].to_pylist()
    if not any(each(column.type) for each in _KINDS.values()):
        raise TypeError(f"a column is {column.type}")
    return column.to_numpy()


def _optional(table: pa.Table, name: str) -> IntArray | None:
    if name not in table.column_names:
        return None
    return _values(table[name], np.dtype(np.int64))


def _optional_texts(table: pa.Table, name: str, stored: int) -> list[str] | None:
    return _texts(table[name], stored)[0].to_pylist() if name in table.column_names else None


def _checksum(body: Mapping[str, Any]) -> str:
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
    if body.get("checksum") != _checksum(body):
        raise CorruptRecordError(
            f"{path} is altered: its checksum does not match. Restore it, or run "
            "'actiontrack sync' where the run was recorded."
        )
    try:
        return _manifest(body)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise CorruptRecordError(f"{path} lacks a field or has a wrong one: {error}") from error


def _manifest(body: Mapping[str, Any]) -> Manifest:
    bounds.check_manifest(body)
    known = {each.name for each in fields(Manifest)}
    values = {key: value for key, value in body.items() if key in known}
    for key in ("class_names", "measures", "components"):
        values[key] = tuple(values[key])
    values["steps"] = tuple(_known(StepEntry, each) for each in values["steps"])
    values["files"] = {name: _known(FileEntry, each) for name, each in values["files"].items()}
    manifest = Manifest(**values)
    check_name("split", manifest.split)
    check_name("mode", manifest.mode)
    return manifest


def _known(entry: type[Any], values: Mapping[str, Any]) -> Any:
    names = {each.name for each in fields(entry)}
    return entry(**{key: value for key, value in values.items() if key in names})
