"""A record's tables are read once and shared, in a cache that is bounded by bytes."""

import numpy as np
import pandas as pd
import pytest

from actiontrack.record.disk import file_entry
from actiontrack.record.manifest import read_manifest, write_manifest
from actiontrack.record.vectors import write_scores
from actiontrack.scores import score_table
from actiontrack.store import Cache
from actiontrack.store import record as record_module
from actiontrack.testing import make_history, record_history


@pytest.fixture
def reads(monkeypatch):
    """The names of the functions that read files of records, one for each call."""
    calls = []
    for name in ("read_scores", "read_history", "read_samples", "read_features"):
        function = getattr(record_module, name)

        def counted(*arguments, _name=name, _function=function, **options):
            calls.append(_name)
            return _function(*arguments, **options)

        monkeypatch.setattr(record_module, name, counted)
    return calls


@pytest.fixture
def recorded(store, run_id, spool):
    """A run with a finished record."""
    history = make_history()
    record_history(history, run_id, store, spool, "softmax")
    return run_id, history


def test_scores_history_and_samples_are_read_once(store, recorded, reads):
    record = store.open_record(recorded[0])
    for _ in range(3):
        record.scores()
        record.scores(["action"])
        record.history()
        assert len(record.samples.sample_ids)
    assert sorted(reads) == ["read_history", "read_samples", "read_scores"]


def test_records_with_one_cache_read_once_between_them(store, recorded, reads):
    cache = Cache(2**20)
    for _ in range(3):
        store.open_record(recorded[0], cache=cache).scores()
    assert reads == ["read_scores"]


def test_a_record_in_another_cache_has_the_same_files(store, recorded):
    record = store.open_record(recorded[0])
    cache = Cache(2**20)
    other = record.with_cache(cache)
    other.scores()
    assert (len(cache), len(record.cache)) == (1, 0)
    assert other.fetch("scores.parquet") == record.fetch("scores.parquet")


def test_one_score_alone_reads_no_other_column(store, recorded, monkeypatch):
    columns = []
    read = record_module.read_scores

    def noted(*arguments, **options):
        columns.append(options["columns"])
        return read(*arguments, **options)

    monkeypatch.setattr(record_module, "read_scores", noted)
    store.open_record(recorded[0]).scores(["aum"])
    assert columns == [("aum",)]


def test_the_cache_of_a_record_keeps_to_its_bytes(store, recorded):
    cache = Cache(10)
    record = store.open_record(recorded[0], cache=cache)
    record.scores()
    record.history()
    assert (len(cache), cache.n_bytes) == (0, 0)


def test_a_frame_that_a_caller_changes_is_the_callers_own(store, recorded):
    run_id, history = recorded
    record = store.open_record(run_id)
    frame = record.scores()
    frame["action"] = 0.0
    frame.loc[0, "aum"] = 9.0
    pd.testing.assert_frame_equal(record.scores(), score_table(history), check_dtype=False)


# ---------------------------------------------------------------- scores that came later


@pytest.fixture
def without_aum(store, recorded):
    """A finished record whose stored table lacks a score, as if it was introduced later."""
    run_id, history = recorded
    folder = store.open_record(run_id).fetch("manifest.json").parent
    table = score_table(history).drop(columns="aum").assign(of_the_future=1.5)
    write_scores(folder, table)
    manifest = read_manifest(folder / "manifest.json")
    entry = file_entry(folder / "scores.parquet")
    write_manifest(folder, manifest.with_file("scores.parquet", entry))
    return store.open_record(run_id), history


def test_a_score_that_the_stored_table_lacks_comes_from_the_history(without_aum):
    record, history = without_aum
    margin = history.measures["margin"].mean(axis=0)
    np.testing.assert_allclose(record.scores()["aum"], margin, rtol=1e-6)
    np.testing.assert_allclose(record.scores(["aum"])["aum"], margin, rtol=1e-6)


def test_scores_keep_their_order_and_those_of_later_versions_come_last(without_aum):
    record, history = without_aum
    assert list(record.scores().columns) == [*score_table(history).columns, "of_the_future"]


def test_a_whole_stored_table_needs_no_history(store, recorded, reads):
    store.open_record(recorded[0]).scores()
    assert reads == ["read_scores"]


def test_a_stored_score_alone_needs_no_history_though_another_is_lacking(without_aum, reads):
    without_aum[0].scores(["action"])
    assert reads == ["read_scores"]
