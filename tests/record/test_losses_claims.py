"""What files of losses claim: each is refused that is not what the manifest says of it."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import message
from lying import lie_in_footer, replace_file
from record_files import FIRST, LAST, altered, name_blocks, promise, read, rewrite_manifest

from actiontrack.errors import CorruptRecordError
from actiontrack.record.limits import MAX_SAMPLES
from actiontrack.record.losses import read_blocks, read_curve, read_history, read_step, read_steps
from actiontrack.record.steps import StepEntry, steps_to_text

KEY = "actiontrack.steps"
ENDING = " Restore the file, or record the run again."
#: Every way to read losses.
READERS = {
    "history": lambda manifest, fetch: read_history(manifest, fetch, columns=()),
    "blocks": lambda manifest, fetch: read_blocks(manifest, manifest.blocks, fetch, ["loss"]),
    "steps": read_steps,
    "step": lambda manifest, fetch: read_step(manifest, fetch, 1, ["loss"]),
    "curve": lambda manifest, fetch: read_curve(manifest, fetch, 0, ["loss"]),
}


@pytest.fixture(params=READERS.values(), ids=READERS.keys())
def reader(request):
    return request.param


def unreadable(reason):
    return message(f"{FIRST} can't be read as the record's format 2: {reason}.{ENDING}")


def with_text(record, text):
    """Put another text of steps into the footer of the first file."""
    table = pq.read_table(record / FIRST)
    metadata = {} if text is None else {KEY: text}
    replace_file(record, FIRST, table.replace_schema_metadata(metadata))


def text_of(*steps):
    return steps_to_text([StepEntry(step, 1.0, 40) for step in steps])


TEXTS = {
    "nothing": (None, "its footer says nothing of its steps"),
    "fewer steps": (text_of(1), "its footer tells of another number of steps"),
    "other steps": (text_of(1, 3), "its steps are not those of the manifest"),
    "a later first step": (text_of(0, 2), "its steps are not those of the manifest"),
    "steps backwards": (text_of(2, 1), "steps: 1 follows 2"),
    "no steps": ('{"n_steps": 2}', "'step'"),
    "a list too short": (
        text_of(1, 2).replace('"n_seen":40', '"n_seen":[40]'),
        "its footer has 1 values of n_seen for 2 steps",
    ),
    "more samples than there are": (
        text_of(1, 2).replace("40", "41"),
        "steps.n_seen is 41, no whole number from 0 to 40",
    ),
    "megabytes": (
        text_of(1, 2).ljust(10**7),
        "its footer tells of 2 steps in 10000000 characters",
    ),
}


@pytest.mark.parametrize(("text", "reason"), TEXTS.values(), ids=TEXTS.keys())
def test_a_footer_that_tells_of_other_steps_is_refused(record, reader, text, reason):
    with_text(record, text)
    with pytest.raises(CorruptRecordError, match=unreadable(reason)):
        reader(*read(record))


def test_a_footer_nested_without_end_is_refused(record, reader):
    with_text(record, "[" * 3000)
    with pytest.raises(CorruptRecordError, match=f"{FIRST} can't be read as the record's format 2"):
        reader(*read(record))


@pytest.mark.parametrize("reading", ["history", "curve"])
@pytest.mark.parametrize(
    ("name", "value"),
    [("delta", 3.5), ("n_seen", 119), ("n_nonfinite", 1), ("n_duplicates", 7)],
)
def test_files_that_do_not_add_up_to_the_totals_are_refused(record, reading, name, value):
    rewrite_manifest(record, lambda body: body["totals"].update({name: value}))
    text = (
        "the steps of test-probe do not add up to the totals of its manifest. Restore its files, "
        "or record the run again."
    )
    with pytest.raises(CorruptRecordError, match=message(text)):
        READERS[reading](*read(record))


def test_totals_that_were_summed_in_another_order_are_those_of_the_files(record):
    rewrite_manifest(record, lambda body: body["totals"].update(delta=3.0000000000000004))
    assert read_history(*read(record)).n_steps == 3


def test_a_file_of_another_number_of_steps_is_refused(record, reader):
    def change(body):
        name_blocks(body, {FIRST: [1, 2, 3], LAST: [4]})

    rewrite_manifest(record, change)
    text = f"{FIRST} has 80 rows where the manifest says 120.{ENDING}"
    with pytest.raises(CorruptRecordError, match=message(text)):
        reader(*read(record))


def test_a_row_group_that_ends_within_a_sample_is_refused(record, reader):
    replace_file(record, FIRST, pq.read_table(record / FIRST), row_group_size=33)
    with pytest.raises(CorruptRecordError, match=unreadable("a row group ends within a sample")):
        reader(*read(record))


@pytest.mark.parametrize("reading", ["blocks", "step", "curve"])
def test_a_column_that_a_file_lacks_is_named(record, reading):
    table = pq.read_table(record / FIRST).drop_columns(["loss"])
    replace_file(record, FIRST, table)
    text = f"{FIRST} lacks the columns loss.{ENDING}"
    with pytest.raises(CorruptRecordError, match=message(text)):
        READERS[reading](*read(record))


@pytest.mark.parametrize("reading", ["blocks", "step", "curve"])
def test_losses_that_are_text_are_refused(record, reading):
    table = pq.read_table(record / FIRST)
    texts = table.set_column(2, "loss", pa.array(["1.0"] * 80))
    replace_file(record, FIRST, texts, use_dictionary=False)
    with pytest.raises(CorruptRecordError, match="a column of float32 is string"):
        READERS[reading](*read(record))


def claimed_rows(record, sizes, n_samples):
    """Let the manifest say that the first file, of row groups of these sizes, has more samples."""
    n_rows = sum(sizes)
    loss = pa.array(np.arange(n_rows, dtype=np.float32))
    steps = steps_to_text([StepEntry(step, 1.0, n_samples) for step in (1, 2)])
    schema = pa.schema([pa.field("loss", pa.float32(), nullable=False)], metadata={KEY: steps})
    table = pa.table([loss], schema=schema)
    with pq.ParquetWriter(record / FIRST, schema, use_dictionary=False) as writer:
        start = 0
        for size in sizes:
            writer.write_table(table.slice(start, size), row_group_size=size)
            start += size

    def change(body):
        body.update(n_samples=n_samples, measures=[])
        name_blocks(body, {FIRST: [1, 2]})

    rewrite_manifest(record, change)
    return record / FIRST


@pytest.mark.parametrize("reading", ["blocks", "steps", "step", "curve"])
def test_rows_that_no_row_group_has_are_refused(record, reading):
    """Where nobody counted, what a history holds of them would be whatever lay in memory."""
    path = claimed_rows(record, [7000, 7002], 10_000)
    lie_in_footer(path, 14_002, 20_000)
    promise(record, FIRST)
    assert pq.read_metadata(path).num_rows == 20_000
    manifest, fetch = read(record)
    reason = "its row groups have another number of rows than its footer says"
    with pytest.raises(CorruptRecordError, match=unreadable(reason)):
        READERS[reading](manifest, fetch)


@pytest.mark.parametrize("reading", ["blocks", "step", "curve"])
def test_rows_that_no_page_has_are_refused(record, reading):
    path = claimed_rows(record, [14_000], 10_000)
    footer = pq.read_metadata(path)
    assert footer.num_rows == footer.row_group(0).num_rows == 14_000
    lie_in_footer(path, 14_000, 20_000, times=3)
    promise(record, FIRST)
    assert pq.read_metadata(path).row_group(0).column(0).num_values == 20_000
    with pytest.raises(CorruptRecordError, match=f"^{FIRST} "):
        READERS[reading](*read(record))


@pytest.mark.parametrize("reading", ["blocks", "steps"])
def test_two_thousand_million_steps_of_no_samples_are_refused(record, reading):
    """Their text has a hundred characters, and their entries would take 500 GB."""
    n_steps = MAX_SAMPLES
    text = steps_to_text([StepEntry(0, 1.0, 0)]).replace('"n_steps":1', f'"n_steps":{n_steps}')
    table = pq.read_table(record / FIRST).slice(0, 0).replace_schema_metadata({KEY: text})
    replace_file(record, FIRST, table)

    def change(body):
        body.update(n_samples=0)
        name_blocks(body, {FIRST: [0]})
        body["blocks"][0].update(last_step=n_steps - 1, n_steps=n_steps)
        body["totals"].update(last_step=n_steps - 1, n_steps=n_steps, delta=float(n_steps))

    rewrite_manifest(record, change)
    with pytest.raises(CorruptRecordError, match=r"^what the steps of test-probe held claims 549,"):
        READERS[reading](*read(record))


@pytest.mark.parametrize("reading", ["blocks", "curve"])
def test_a_row_group_that_expands_beyond_its_file_is_refused(record, reading):
    n = 60_000_000
    zeros = pa.table({"loss": pa.array(np.zeros(n, np.float32))})
    text = steps_to_text([StepEntry(1, 1.0, n)])
    table = zeros.replace_schema_metadata({KEY: text})
    replace_file(record, FIRST, table, use_dictionary=["loss"], row_group_size=n)

    def change(body):
        body.update(n_samples=n, measures=[])
        name_blocks(body, {FIRST: [1]})

    rewrite_manifest(record, change)
    before = pa.default_memory_pool().bytes_allocated()
    with pytest.raises(CorruptRecordError, match="claims 300,000,000 bytes in memory and has"):
        READERS[reading](*read(record))
    assert pa.default_memory_pool().bytes_allocated() - before < 2**20


def test_pieces_that_are_not_those_of_the_file_hurt_what_is_read_by_them(record):
    """The whole file is as the manifest says."""
    rewrite_manifest(record, lambda body: body["files"][FIRST].update(pieces=["0" * 64]))
    manifest, fetch = read(record)
    read_history(manifest, fetch)
    for reading in ("steps", "curve"):
        with pytest.raises(CorruptRecordError, match=altered(FIRST)):
            READERS[reading](manifest, fetch)


def test_a_file_of_one_piece_is_read_by_it(record, history):
    entry = json.loads((record / "manifest.json").read_text())["files"][FIRST]
    rewrite_manifest(record, lambda body: body["files"][FIRST].update(pieces=[entry["blake3"]]))
    _, grids, _ = read_curve(*read(record), 7, ["loss"])
    np.testing.assert_array_equal(grids["loss"], history.losses[:, 7])
