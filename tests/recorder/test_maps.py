"""Maps of pixel actions: what a record holds of them, against sums by NumPy in float64."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import message, remote_run

from actiontrack.errors import NotFoundError, ParameterError, RecordingError, StoreError
from actiontrack.record.maps import write_maps
from actiontrack.recorder import Recorder, sync
from actiontrack.recorder.spool import ACCUMULATOR
from actiontrack.store import Store

IDS = ["c", "a", "b"]
EPOCHS = 4


def epoch_maps(epoch, height=5, width=7):
    """(3, height, width) maps of the samples "c", "a", "b"."""
    return np.random.default_rng(epoch).exponential(size=(3, height, width)).astype(np.float32)


def feed(recorder, epochs, delta=None, **size):
    for epoch in epochs:
        maps = epoch_maps(epoch, **size)
        for rows in (slice(0, 2), slice(2, 3)):
            recorder.update(IDS[rows], maps[rows].mean(axis=(1, 2)))
            recorder.update_maps(IDS[rows], maps[rows])
        recorder.end_epoch(epoch, delta=delta)


def summed(epochs, sample, deltas=None, **size):
    """The exact sum of a sample's maps, in float64."""
    weights = deltas or [1.0] * len(epochs)
    row = IDS.index(sample)
    pairs = zip(epochs, weights, strict=True)
    return sum(epoch_maps(each, **size)[row].astype(np.float64) * weight for each, weight in pairs)


@pytest.fixture
def recorder(store, run_id):
    """A function that opens a recorder of maps on the test's run."""
    defaults = {"store": store, "run_id": run_id, "pixel_loss_name": "cross_entropy"}
    return lambda **options: Recorder(**defaults | options)


def test_the_map_of_a_sample_is_the_sum_of_its_maps(recorder, store, run_id):
    with recorder() as opened:
        feed(opened, range(1, EPOCHS + 1))
    record = store.open_record(run_id)
    assert record.has_maps
    found = record.pixel_action(0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, summed(range(1, EPOCHS + 1), "a"), rtol=1e-6)
    np.testing.assert_allclose(record.pixel_action(2), summed(range(1, 5), "c"), rtol=1e-6)


def test_every_epoch_weighs_its_delta(recorder, store, run_id):
    with recorder(delta_kind="batch") as opened:
        feed(opened, [1], delta=3)
        feed(opened, [2], delta=0.5)
    expected = summed([1, 2], "b", [3, 0.5])
    np.testing.assert_allclose(store.open_record(run_id).pixel_action(1), expected, rtol=1e-6)


def test_the_manifest_names_the_pixel_loss_the_void_and_the_options(recorder, store, run_id):
    with recorder(void="counted", map_factor=2, map_dtype="float16") as opened:
        feed(opened, [1, 2])
    manifest = store.open_record(run_id).manifest
    assert (manifest.pixel_loss_name, manifest.void) == ("cross_entropy", "counted")
    assert manifest.maps == {"factor": 2, "dtype": "float16", "step": 2}


def test_down_sampling_keeps_the_mean_of_each_block(recorder, store, run_id):
    with recorder(map_factor=3) as opened:
        feed(opened, [1], height=6, width=9)
    expected = epoch_maps(1, 6, 9)[1].reshape(2, 3, 3, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(store.open_record(run_id).pixel_action(0), expected, rtol=1e-6)


def test_half_precision_rounds_the_sum_once(recorder, store, run_id):
    with recorder(map_dtype="float16") as opened:
        feed(opened, [1, 2, 3])
    expected = summed([1, 2, 3], "a").astype(np.float32).astype(np.float16)
    np.testing.assert_array_equal(store.open_record(run_id).pixel_action(0), expected)


def test_sums_too_large_for_half_precision_stay_float32(recorder, store, run_id):
    with recorder(map_dtype="float16") as opened:
        opened.update([1], [1.0])
        opened.update_maps([1], np.full((1, 2, 2), 1e6))
        opened.end_epoch()
    assert store.open_record(run_id).pixel_action(0).max() == 1e6


def test_images_may_differ_in_size(recorder, store, run_id):
    maps = [np.ones((2, 3)), np.full((4, 1), 2.0)]
    with recorder() as opened:
        for _ in range(2):
            opened.update([1, 2], [0.1, 0.2])
            opened.update_maps([1, 2], maps)
            opened.end_epoch()
    record = store.open_record(run_id)
    assert record.map_index[["sample_id", "height", "width"]].to_numpy().tolist() == [
        [1, 2, 3],
        [2, 4, 1],
    ]
    assert record.pixel_action(1).tolist() == [[4.0]] * 4


def test_pixels_without_a_loss_have_no_action(recorder, store, run_id):
    with recorder() as opened:
        for _ in range(2):
            opened.update([1], [0.5])
            opened.update_maps([1], [[[1.0, np.nan]]])
            opened.end_epoch()
    np.testing.assert_array_equal(store.open_record(run_id).pixel_action(0), [[2.0, np.nan]])


def test_maps_are_taken_from_torch_in_any_precision(recorder, store, run_id):
    import torch

    with recorder() as opened:
        maps = torch.ones(1, 2, 2, dtype=torch.bfloat16, requires_grad=True)
        opened.update(torch.tensor([3]), torch.tensor([1.0]))
        opened.update_maps(torch.tensor([3]), maps)
        opened.end_epoch()
    assert store.open_record(run_id).pixel_action(0).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_a_map_is_read_without_this_package(recorder, store, run_id):
    with recorder() as opened:
        feed(opened, [1, 2])
    record = store.open_record(run_id)
    index = pd.read_parquet(record.fetch("maps/index.parquet"))
    row = index.query("sample == 1").iloc[0]
    file = pd.read_parquet(record.fetch(f"maps/{row['file']:06d}.parquet"))
    values = file["map"][row["row"]].reshape(row["height"], row["width"])
    np.testing.assert_allclose(values, summed([1, 2], "b"), rtol=1e-6)


def test_one_map_is_fetched_from_a_remote_store_without_the_others(server, monkeypatch):
    run_id = remote_run(server)
    store = Store(server.uri)
    options = {"store": store, "run_id": run_id, "pixel_loss_name": "focal"}
    with Recorder(**options) as opened:
        feed(opened, [1], height=200, width=300)
    record, fetched = store.open_record(run_id), []
    download = store.download
    monkeypatch.setattr(
        store,
        "download",
        lambda run, path, to, **by: (fetched.append(path), download(run, path, to, **by))[1],
    )
    expected = epoch_maps(1, 200, 300)[1]
    np.testing.assert_array_equal(record.pixel_action(0), expected)
    folder = "actiontrack/test-probe"
    assert sorted(fetched) == [
        f"{folder}/maps/000000.parquet",
        f"{folder}/maps/index.parquet",
        f"{folder}/samples.parquet",
    ]


def test_small_maps_share_files_of_at_most_64_kib(tmp_path):
    maps = [np.full((32, 32), each, np.float32) for each in range(40)]
    entries = write_maps(tmp_path, maps)
    counts = [
        len(pd.read_parquet(tmp_path / name)) for name in entries if not name.endswith("x.parquet")
    ]
    assert counts == [16, 16, 8]


# Resuming


def test_a_resumed_run_goes_on_with_the_same_bits(recorder, store, run_id, new_run):
    opened = recorder()
    feed(opened, [1, 2])
    assert opened.close()
    with recorder(resume=True) as again:
        feed(again, [3, 4])
    other = new_run()
    with recorder(run_id=other) as whole:
        feed(whole, [1, 2, 3, 4])
    resumed, straight = (store.open_record(each) for each in (run_id, other))
    for sample in range(3):
        np.testing.assert_array_equal(resumed.pixel_action(sample), straight.pixel_action(sample))


def test_an_interrupted_epoch_adds_nothing(recorder, store, run_id):
    opened = recorder()
    feed(opened, [1])
    opened.update(IDS[:2], [1.0, 2.0])
    opened.update_maps(IDS[:2], epoch_maps(9)[:2])
    opened.close()
    record = store.open_record(run_id)
    np.testing.assert_allclose(record.pixel_action(0), summed([1], "a"), rtol=1e-6)


def test_the_last_epoch_recorded_again_counts_once(recorder, store, run_id):
    opened = recorder()
    feed(opened, [1, 2, 3])
    feed(opened, [3, 4])
    opened.finish()
    record = store.open_record(run_id)
    np.testing.assert_allclose(record.pixel_action(0), summed([1, 2, 3, 4], "a"), rtol=1e-6)


def test_the_last_epoch_can_be_recorded_again_after_a_restart(recorder, store, run_id):
    opened = recorder()
    feed(opened, [1, 2, 3])
    opened.close()
    with recorder(resume=True) as again:
        feed(again, [3])
    record = store.open_record(run_id)
    np.testing.assert_array_equal(record.pixel_action(2), store.open_record(run_id).pixel_action(2))
    np.testing.assert_allclose(record.pixel_action(2), summed([1, 2, 3], "c"), rtol=1e-6)


def test_a_record_begun_again_from_its_first_epoch_starts_from_zero(recorder, store, run_id):
    opened = recorder()
    feed(opened, [1, 2, 3])
    feed(opened, [1])
    opened.finish()
    np.testing.assert_array_equal(store.open_record(run_id).pixel_action(1), epoch_maps(1)[2])


def test_an_epoch_whose_sum_is_gone_is_refused_and_nothing_changes(recorder, store, run_id):
    opened = recorder()
    feed(opened, [1, 2, 3, 4])
    expected = (
        "maps: epoch 3 can't be recorded again: sums of maps are kept up to epoch 3 and 4 only. "
        "Go on from there, or start a new run."
    )
    with pytest.raises(RecordingError, match=message(expected)):
        feed(opened, [3])
    opened.discard_epoch()
    opened.finish()
    record = store.open_record(run_id)
    assert record.manifest.n_steps == 4
    np.testing.assert_allclose(record.pixel_action(0), summed([1, 2, 3, 4], "a"), rtol=1e-6)


def test_a_killed_recorder_goes_on_from_its_spool(in_warm_process, run_id, store, recorder, spool):
    code = """
import os, sys
sys.path.insert(0, sys.argv[3])
from test_maps import feed
from actiontrack.recorder import Recorder
from actiontrack.store import Store
opened = Recorder(store=Store(sys.argv[1]), run_id=sys.argv[2], pixel_loss_name="cross_entropy")
feed(opened, [1, 2])
opened.update_maps(["a"], [[[9.0] * 7] * 5])
os.kill(os.getpid(), 9)
"""
    folder = Path(__file__).parent
    done = in_warm_process(
        code, store.tracking_uri, run_id, folder, check=False,
        PYTHONPATH=f"{folder.parents[1]}:{folder.parent}", ACTIONTRACK_SPOOL=str(spool),
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    with recorder(resume=True) as again:
        feed(again, [3])
    record = store.open_record(run_id)
    np.testing.assert_allclose(record.pixel_action(0), summed([1, 2, 3], "a"), rtol=1e-6)


def test_sync_uploads_the_maps_of_a_killed_recorder(recorder, store, run_id, spool, monkeypatch):
    opened = recorder()
    feed(opened, [1, 2])
    monkeypatch.setattr(opened._writer.spool, "remove", lambda: None)
    monkeypatch.setattr(opened._writer, "_write_maps", lambda **_: None)  # as if it had been killed
    opened.close()
    assert not store.open_record(run_id).has_maps
    sync(spool)
    record = store.open_record(run_id)
    np.testing.assert_allclose(record.pixel_action(0), summed([1, 2], "a"), rtol=1e-6)


def test_a_record_whose_maps_are_lost_is_not_continued(recorder, store, run_id, monkeypatch):
    opened = recorder()
    feed(opened, [1])
    monkeypatch.setattr(opened._writer, "_write_maps", lambda **_: None)
    opened.close()
    expected = (
        "maps: the record test-probe has 1 epochs, but not the maps of them. Resume where its "
        "spool is, or start a new run."
    )
    with pytest.raises(RecordingError, match=message(expected)):
        recorder(resume=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"pixel_loss_name": "focal"}, "pixel_loss_name: {} with 'cross_entropy', got 'focal'. "),
        ({"pixel_loss_name": ""}, "pixel_loss_name: {} with maps, got ''. "),
        ({"map_factor": 2}, "map_factor: {} with 1, got 2. "),
        ({"void": "ignored"}, "void: {} with 'counted', got 'ignored'. "),
    ],
)
def test_a_record_is_continued_with_the_same_settings_only(recorder, options, expected):
    opened = recorder(void="counted")
    feed(opened, [1])
    opened.close()
    expected = expected.format("the record test-probe was begun")
    remedy = "Resume with the same settings, or start a new run."
    with pytest.raises(RecordingError, match=message(expected + remedy)):
        recorder(**{"void": "counted", "resume": True} | options)


def test_the_sums_are_gone_once_the_record_is_complete(recorder, spool, run_id, door):
    opened = recorder()
    feed(opened, [1])
    folder = spool / run_id / "test-probe" / ACCUMULATOR
    assert json.loads((folder / "state.json").read_text()) == {
        "sum-0.f32": {"step": 1, "bytes": 420}
    }
    opened.finish()
    assert not folder.exists()


# Refused


def test_maps_without_a_named_loss_are_refused(store, run_id):
    opened = Recorder(store=store, run_id=run_id)
    expected = (
        "maps: the record test-probe was begun without maps. Pass pixel_loss_name to the recorder, "
        "such as 'cross_entropy'."
    )
    with pytest.raises(RecordingError, match=message(expected)):
        opened.update_maps([1], [[[1.0]]])
    opened.close()


def test_an_epoch_without_its_maps_is_refused(recorder):
    opened = recorder()
    opened.update(IDS, [1.0, 2.0, 3.0])
    opened.update_maps(IDS[:1], epoch_maps(1)[:1])
    expected = (
        "maps: 2 samples of epoch 1 have a loss but no map: a, b. Call update and update_maps for "
        "every batch."
    )
    with pytest.raises(RecordingError, match=message(expected)):
        opened.end_epoch()
    opened.close()


def test_a_map_that_changes_its_size_is_refused(recorder):
    opened = recorder()
    feed(opened, [1])
    expected = (
        "maps: the map of sample c had 5×7 stored pixels, now it has 4×7. Evaluate at the same "
        "size every epoch."
    )
    with pytest.raises(RecordingError, match=message(expected)):
        opened.update_maps(IDS, epoch_maps(2, height=4))
    opened.discard_epoch()
    opened.close()


def test_a_map_that_comes_twice_is_refused(recorder):
    opened = recorder()
    opened.update_maps(["a"], [[[1.0]]])
    expected = (
        "maps: the map of sample a comes twice in this epoch. Visit each sample once per epoch, or "
        "pass duplicates='first'."
    )
    with pytest.raises(RecordingError, match=message(expected)):
        opened.update_maps(["a"], [[[2.0]]])
    opened.discard_epoch()
    opened.close()


@pytest.mark.parametrize("maps", [np.ones((2, 3)), np.ones((1, 3, 3)), np.ones((2, 3, 3, 2))])
def test_maps_that_are_not_one_per_id_are_refused(recorder, maps):
    opened = recorder()
    expected = (
        f"maps: must be 2 maps of shape (H, W), one per id, got {maps.shape}. Sum over classes or "
        "channels first."
    )
    with pytest.raises(ParameterError, match=message(expected)):
        opened.update_maps([1, 2], maps)
    opened.close()


def test_several_processes_can_not_record_maps():
    expected = (
        "pixel_loss_name: must be left out with gather: maps are recorded by one process, got "
        "'focal'. Train in one process, or record losses only."
    )
    with pytest.raises(ParameterError, match=message(expected)):
        Recorder(pixel_loss_name="focal", gather=lambda columns: [columns])


def test_a_full_disk_is_a_clear_error_and_what_was_recorded_is_safe(
    small_disk, recorder, store, run_id, spool
):
    with recorder(spool=small_disk) as opened:
        feed(opened, [1], height=60, width=60)
        opened.update(IDS, [1.0, 2.0, 3.0])
        opened.update_maps(IDS, epoch_maps(2, 60, 60))
        with contextlib.suppress(OSError):
            (small_disk / "filler").write_bytes(bytes(2**20))
        with pytest.raises(StoreError, match=r"^cannot write .*accumulator: No space left on dev"):
            opened.end_epoch()
        (small_disk / "filler").unlink()
        opened.end_epoch()
    expected = summed([1, 2], "a", height=60, width=60)
    np.testing.assert_allclose(store.open_record(run_id).pixel_action(0), expected, rtol=1e-6)


def test_a_record_without_maps_says_how_to_get_them(store, run_id):
    with Recorder(store=store, run_id=run_id) as opened:
        opened.update([1, 2], [0.1, 0.2])
        opened.end_epoch()
    record = store.open_record(run_id)
    assert not record.has_maps
    expected = (
        f"record test-probe of run {run_id} ({record.run.name}) holds no maps of pixel actions. "
        "Record them with Recorder(pixel_loss_name=…) and update_maps; they are written when "
        "recording ends."
    )
    with pytest.raises(NotFoundError, match=message(expected)):
        record.pixel_action(0)


@pytest.mark.parametrize("maps", [3.0, "ab", ["ab"], [None]])
def test_maps_that_are_no_arrays_are_refused_by_name(recorder, maps):
    with recorder() as opened:
        with pytest.raises(ParameterError, match=r"^maps: must be 1 maps of shape \(H, W\), one "):
            opened.update_maps(["a"], maps)
        opened.close()
