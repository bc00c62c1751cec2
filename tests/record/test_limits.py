"""What a record may claim: bombs are refused before anything is allocated for them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import ROOT, message
from lying import lie_in_footer, replace_file
from record_files import FIRST, name_blocks, promise, read, rewrite_manifest, write

from actiontrack.errors import CorruptRecordError, ParameterError
from actiontrack.record import parquet
from actiontrack.record.footer import Footer, _page_header
from actiontrack.record.limits import (
    LIMIT_VARIABLE,
    MAX_SAMPLES,
    MOST_EXPANSION,
    check_claim,
    most_bytes,
)
from actiontrack.record.losses import read_blocks, read_history
from actiontrack.record.paths import THUMBNAILS, losses_path
from actiontrack.record.pictures import Pictures
from actiontrack.record.samples import read_samples
from actiontrack.record.vectors import read_scores
from actiontrack.recorder import Recorder
from actiontrack.testing import make_history

N = 40


@pytest.fixture
def record(tmp_path):
    folder = tmp_path / "test-probe"
    write(folder, make_history(n_steps=3, n_samples=N))
    return folder


# What the manifest says


def test_a_manifest_that_declares_too_many_samples_is_refused(record):
    rewrite_manifest(record, lambda body: body.update(n_samples=10**15))
    with pytest.raises(CorruptRecordError, match="n_samples is 1000000000000000, no whole number"):
        read(record)


def test_as_many_samples_as_the_format_has_are_refused_for_want_of_bytes(record):
    rewrite_manifest(record, lambda body: body.update(n_samples=MAX_SAMPLES))
    with pytest.raises(CorruptRecordError, match="has 40 rows where the manifest says 2147483647"):
        read_history(*read(record))


def test_a_history_is_refused_before_its_grids_are_made(record):
    """Rows that agree with each other, and of which all files hold next to nothing."""
    n = 30_000_000
    zeros = pa.table({"loss": pa.array(np.zeros(n, np.float32))})
    replace_file(record, FIRST, zeros, use_dictionary=["loss"])
    body = json.loads((record / "manifest.json").read_text())
    entry = body["files"][FIRST]
    steps = range(1, 501)

    def change(body):
        body.update(n_samples=n, measures=[], components=[])
        body["files"] |= {losses_path(step): entry for step in steps}
        name_blocks(body, {losses_path(step): [step] for step in steps})

    rewrite_manifest(record, change)
    manifest, fetch = read(record)
    assert n * 4 * len(steps) > MOST_EXPANSION * entry["bytes"] * len(steps)
    with pytest.raises(CorruptRecordError, match=r"history of test-probe claims 75,000,000,000 by"):
        read_blocks(manifest, manifest.blocks, fetch, ["loss"])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n_samples", True),
        ("n_samples", -1),
        ("revision", "3"),
        ("status", "done"),
        ("id_type", "float"),
        ("model", 3),
        ("notes", "averaged"),
        ("notes", {"weights": 3}),
        ("model", "x" * 5000),
        ("class_names", ["a", 3]),
        ("class_names", ["\ud800"]),
        ("class_names", "abc"),
        ("measures", ["loss"]),
        ("measures", ["margin", "margin"]),
        ("components", ["a/b"]),
        ("digests", []),
        ("digests", {"ids": 3}),
        ("source", "folder"),
        ("maps", {"factor": 1, "dtype": "float64"}),
        ("partial", 3),
        ("log", -1),
        ("precision", "quarter"),
        ("precision", None),
        ("files", {"manifest.json": {"blake3": "", "bytes": 1}}),
        ("files", {"samples.parquet": {"blake3": "", "bytes": -1}}),
        ("files", {"samples.parquet": {"blake3": None, "bytes": 1}}),
        ("version", True),
        ("version", 0),
    ],
)
def test_a_field_that_no_record_can_have_is_refused(record, field, value):
    rewrite_manifest(record, lambda body: body.update({field: value}))
    with pytest.raises(CorruptRecordError, match=r"wrong one|has format version"):
        read(record)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", [{"step": 2, "delta": 1, "n_seen": 6}, {"step": 1, "delta": 1, "n_seen": 6}]),
        ("steps", [{"step": 1, "delta": float("nan"), "n_seen": 6}]),
        ("steps", [{"step": 1, "delta": "1", "n_seen": 6}]),
        ("steps", [{"step": 1, "delta": 1, "n_seen": 7}]),
        ("steps", [{"step": 10**10, "delta": 1, "n_seen": 6}]),
        ("files", {"manifest.json": {"sha256": "", "bytes": 1}}),
        ("files", {"samples.parquet": {"sha256": "", "bytes": -1}}),
        ("files", {"samples.parquet": {"sha256": None, "bytes": 1}}),
        ("files", {"samples.parquet": {"blake3": "", "bytes": 1}}),
    ],
)
def test_a_field_that_no_record_of_version_1_can_have_is_refused(old_record, field, value):
    rewrite_manifest(old_record, lambda body: body.update({field: value}))
    with pytest.raises(CorruptRecordError, match="wrong one"):
        read(old_record)


@pytest.mark.parametrize(
    "path", ["", ".", "a//b", "a/./b", "C:evil", "a\0b", "a b", ".hidden", "x" * 600, "-rf"]
)
def test_a_path_that_some_system_reads_otherwise_is_refused(record, path):
    entry = {"blake3": "0" * 64, "bytes": 1}
    rewrite_manifest(record, lambda body: body["files"].update({path: entry}))
    with pytest.raises(CorruptRecordError, match="unsafe path"):
        read(record)


def test_a_manifest_that_is_a_link_or_a_pipe_is_refused(record, tmp_path):
    path = record / "manifest.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(CorruptRecordError, match="is a link or no file"):
        read(record)
    path.unlink()
    subprocess.run(["mkfifo", str(path)], check=True)
    with pytest.raises(CorruptRecordError, match="is a link or no file"):
        read(record)


def test_a_manifest_of_gigabytes_is_not_read(record):
    with (record / "manifest.json").open("r+b") as file:
        file.truncate(2**32)
    with pytest.raises(CorruptRecordError, match="is too large for a manifest"):
        read(record)


# What Parquet files say


@pytest.fixture(scope="module")
def zeros():
    """One picture of 300 MB, which compresses to a few kB."""
    return pa.array([b"\0" * (300 * 2**20), b"", b""], pa.binary())


def pictures(record, png, n_samples=3, **options):
    table = pa.table({"sample": np.arange(n_samples, dtype=np.int32), "png": png})
    path = replace_file(record, "thumbnails.parquet", table, **options)

    def change(body):
        body.update(n_samples=n_samples)
        name_blocks(body, {})

    rewrite_manifest(record, change)
    return path


def test_a_picture_that_expands_beyond_its_file_is_refused(record, zeros):
    path = pictures(record, zeros, use_dictionary=False)
    with pytest.raises(CorruptRecordError) as raised:
        Pictures(*read(record), THUMBNAILS).read(0)
    assert str(raised.value) == (
        f"thumbnails.parquet claims 314,572,880 bytes in memory and has {path.stat().st_size:,} on "
        "disk: it is refused before anything is allocated. Restore the file, or record the run "
        "again."
    )


def test_a_page_that_expands_beyond_its_footer_is_refused_before_it_is_unpacked(record, zeros):
    """PyArrow alone reads such a file: 13 kB take 1.6 GB."""
    path = pictures(record, zeros, use_dictionary=False)
    truth = pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size
    lie_in_footer(path, truth, 1000)
    promise(record, "thumbnails.parquet")
    before = pa.default_memory_pool().bytes_allocated()
    picture = Pictures(*read(record), THUMBNAILS)
    with pytest.raises(CorruptRecordError) as raised:
        picture.read(0)
    assert str(raised.value) == (
        "thumbnails.parquet is refused before anything is allocated: the column png has pages of "
        "314,572,818 bytes where its footer says 1,000. Restore the file, or record the run again."
    )
    assert pa.default_memory_pool().bytes_allocated() - before < 2**20


def test_a_picture_that_a_dictionary_repeats_is_refused(record):
    n = 50
    png = pa.array([b"\0" * 2**20] * n, pa.binary())
    pictures(record, png, n, use_dictionary=["png"])
    with pytest.raises(CorruptRecordError, match="the column png repeats its values by a dict"):
        Pictures(*read(record), THUMBNAILS).read(0)


def test_texts_that_repeat_the_text_before_are_refused(record):
    ids = pa.array([f"{'x' * 1000}{each}" for each in range(N)])
    table = pa.table({"sample": np.arange(N, dtype=np.int32), "sample_id": ids})
    options = {"use_dictionary": False, "column_encoding": {"sample_id": "DELTA_BYTE_ARRAY"}}
    replace_file(record, "samples.parquet", table, **options)
    with pytest.raises(CorruptRecordError, match="sample_id repeats parts of its values"):
        read_samples(*read(record))


def test_one_text_that_a_dictionary_repeats_too_often_is_refused(record):
    """A path of 1 MB for each of 100,000 samples: 100 GB from a file of a few kB."""
    n = 100_000
    values = pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), ["x" * 2**20])
    table = pa.table({"sample_id": np.arange(n), "path": values})
    replace_file(record, "samples.parquet", table, use_dictionary=["path"])
    rewrite_manifest(record, lambda body: body.update(n_samples=n))
    with pytest.raises(CorruptRecordError, match="a column of texts claims 104,857,600,000 bytes"):
        read_samples(*read(record))


def test_one_long_id_does_not_pad_all_the_others(record):
    n = 100_000
    ids = [f"{each:06d}" for each in range(n)]
    ids[-1] += "x" * 10_000
    replace_file(record, "samples.parquet", pa.table({"sample_id": ids}))
    rewrite_manifest(record, lambda body: body.update(n_samples=n, id_type="string"))
    with pytest.raises(CorruptRecordError, match="sample_id claims 4,002,400,000 bytes in memory"):
        read_samples(*read(record))


def test_memory_is_limited_by_the_variable_whatever_the_file_has(monkeypatch):
    check_claim("x", 2**30, stored=2**30)
    monkeypatch.setenv(LIMIT_VARIABLE, "500000000")
    text = (
        "x would take 1,073,741,824 bytes of memory, of which one reading may take 500,000,000. "
        "Ask for fewer columns, or set ACTIONTRACK_MAX_BYTES."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        check_claim("x", 2**30, stored=2**30)


@pytest.mark.parametrize("value", ["8GB", "-1", "0", "1e9"])
def test_a_limit_that_is_no_number_is_refused(monkeypatch, value):
    monkeypatch.setenv(LIMIT_VARIABLE, value)
    with pytest.raises(ParameterError, match=r"ACTIONTRACK_MAX_BYTES: must be a positive number"):
        most_bytes()


def test_by_default_one_reading_may_take_half_of_the_memory(monkeypatch):
    monkeypatch.delenv(LIMIT_VARIABLE, raising=False)
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < most_bytes() <= total // 2


def test_headers_of_pages_are_read_as_pyarrow_wrote_them(record):
    """Every page of every file that we write is within what its footer says."""
    for path in record.rglob("*.parquet"):
        data = path.read_bytes()
        group = pq.read_metadata(path).row_group(0)
        footer = Footer.of(path.name, lambda at, n, d=data: d[at : at + n], len(data))
        for place, chunk in enumerate(footer.groups[0]):
            column = group.column(place)
            assert chunk.n_values == column.num_values
            assert chunk.claimed == column.total_uncompressed_size
            assert pages_of(data, chunk) == column.total_uncompressed_size


def pages_of(data, chunk):
    """Bytes of the pages of a chunk and of their headers, once unpacked."""
    at = chunk.start
    total = 0
    while at < chunk.start + chunk.length:
        header, end = _page_header(lambda a, n: data[a : a + n], at, len(data))
        total += header[2] + end
        at += header[3] + end
    return total


def test_a_header_of_a_page_without_an_end_is_refused():
    with pytest.raises(ValueError, match="a header without an end"):
        _page_header(lambda _, n: b"\x15" * n, 0, 2**24)


def test_large_files_are_checked_on_disk(record, monkeypatch):
    monkeypatch.setattr(parquet, "_IN_MEMORY", 0)
    read_history(*read(record))
    read_scores(*read(record))


def test_reading_a_bomb_takes_no_memory(record, zeros):
    """What the process needs at most grows by less than the bomb, as the system counts it."""
    path = pictures(record, zeros, use_dictionary=False)
    truth = pq.read_metadata(path).row_group(0).column(1).total_uncompressed_size
    lie_in_footer(path, truth, 1000)
    promise(record, "thumbnails.parquet")
    code = f"""
import resource
from pathlib import Path
from actiontrack.record.manifest import read_manifest
from actiontrack.record.paths import THUMBNAILS
from actiontrack.record.pictures import Pictures
from actiontrack.errors import CorruptRecordError
folder = Path({str(record)!r})
manifest = read_manifest(folder / "manifest.json")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    Pictures(manifest, lambda name: folder / name, THUMBNAILS).read(0)
except CorruptRecordError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 50 * 2**20


# What a recorder would write


@pytest.mark.filterwarnings("ignore:source. there is no folder:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        {"class_names": ["x" * 5000]},
        {"class_names": ["\ud800"]},
        {"loss_name": "\ud800"},
        {"model": "x" * 5000},
        {"source": {"kind": "folder", "root": "\ud800"}},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_recorder_refuses_at_once_what_no_reader_would_take(store, run_id, options):
    with pytest.raises(ParameterError, match="recorder: must be given what a manifest can hold"):
        Recorder("test", run_id=run_id, store=store, **options)


@pytest.mark.filterwarnings("ignore:record test-probe .* got no epoch:UserWarning")
def test_ids_that_utf8_cannot_hold_are_refused(store, run_id):
    with Recorder("test", run_id=run_id, store=store) as recorder:
        recorder.update(["a\ud800", "b"], np.array([1.0, 2.0]))
        with pytest.raises(ParameterError, match="ids: must be text that UTF-8 can hold"):
            recorder.end_epoch()
        recorder.discard_epoch()
