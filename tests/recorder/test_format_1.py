"""Records of format 1 go on in format 2, and what was recorded before stays bit by bit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import steps_of
from recording import files_below

from actiontrack.recorder import Recorder, sync
from actiontrack.recorder.spool import Destination

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
LOGITS = np.random.default_rng(9).normal(size=(6, 3)).astype(np.float32)
#: Settings of a record, and what its next epoch is updated with.
NEXT = {
    "classification": (
        {"model": "mlp", "class_names": ("ant", "bée", "猫")},
        {"ids": [30, 4, 11, 2, 7, 19], "logits": LOGITS, "labels": [0, 1, 2, 0, 1, 2]},
    ),
    "detection": (
        {"model": "ssd", "loss_name": "multibox"},
        {"ids": ["b", "ä", "a#1"], "losses": [1, 2, 3], "components": {"box": [0.5, 1, 1.5]}},
    ),
    "regression": (
        {"loss_name": "squared_error", "allow_missing": True},
        {"ids": ["x", "z"], "losses": [0.25, np.inf]},
    ),
    "inline": (
        {"model": "cnn", "delta_kind": "batch", "mode": "inline"},
        {"ids": [5, 6, 7, 8], "losses": [1, 2, 3, 4], "labels": [0, 1, 0, 1]},
    ),
    "hashed": (
        {"id_salt": "the salt of the golden records", "images": False},
        {"ids": ["jane", "john", "jude"], "losses": [4, 5, 6]},
    ),
    "pixels": (
        {"model": "unet", "loss_name": "dice", "pixel_loss_name": "focal", "void": "ignored"},
        {"ids": [0, 1, 2], "losses": [1, 2, 3]},
    ),
}


@pytest.fixture(params=sorted(NEXT))
def kind(request):
    return request.param


@pytest.fixture
def golden(kind):
    """Folder of a record of format 1."""
    (folder,) = (GOLDEN / kind).iterdir()
    return folder


@pytest.fixture
def in_run(golden, store, run_id):
    """The record among the artifacts of the test's run, in a folder of its own."""
    folder = store.local_root(store.get_run(run_id)) / "actiontrack" / golden.name
    shutil.copytree(golden, folder)
    tags = {f"actiontrack.record.{golden.name}": "complete", "actiontrack.format": "1"}
    store.set_tags(run_id, tags)
    return folder


def resumed(golden, store, run_id, kind):
    split = golden.name.split("-")[0]
    return Recorder(split, store=store, run_id=run_id, resume=True, patience=60.0, **NEXT[kind][0])


def end_next_epoch(recorder, kind):
    recorder.update(**NEXT[kind][1])
    if kind == "pixels":
        recorder.update_maps([0, 1, 2], [np.ones((3, 4)), np.ones((2, 2)), np.ones((1, 5))])
    recorder.end_epoch()


def assert_continued(golden, record, n_new):
    """The columns of the old files, as pandas reads them, then the new steps."""
    history = record.history()
    blocks = [pd.read_parquet(path) for path in sorted((golden / "blocks").iterdir())]
    steps = json.loads((golden / "manifest.json").read_text())["steps"]
    assert [entry.body() for entry in steps_of(record)][: len(steps)] == steps
    assert len(history.steps) == len(steps) + n_new
    columns = {"loss": history.losses, **history.measures, **history.components}
    assert columns.keys() == set(blocks[0]) - {"sample", "step"}
    for row, block in enumerate(blocks):
        seen = block["loss"].notna() | np.isnan(history.losses[row]) & history.seen[row]
        np.testing.assert_array_equal(history.seen[row], seen)
        for name, grid in columns.items():
            assert grid[row][seen].tobytes() == block[name][seen].to_numpy(grid.dtype).tobytes()


def test_a_record_of_format_1_goes_on_in_format_2(golden, in_run, store, run_id, kind):
    with resumed(golden, store, run_id, kind) as recorder:
        end_next_epoch(recorder, kind)
    record = store.open_record(run_id, golden.name)
    assert record.manifest.version == 2
    assert record.manifest.complete
    assert_continued(golden, record, n_new=1)
    if "losses" in NEXT[kind][1] and kind != "hashed":
        order = np.argsort(NEXT[kind][1]["ids"])
        last = record.history().losses[-1]
        seen = record.history().seen[-1]
        assert last[seen].tolist() == np.array(NEXT[kind][1]["losses"], float)[order].tolist()


def test_no_file_of_losses_of_format_1_stays_in_the_run(golden, in_run, store, run_id, kind):
    with resumed(golden, store, run_id, kind) as recorder:
        end_next_epoch(recorder, kind)
    present = {path.relative_to(in_run).as_posix() for path in files_below(in_run)}
    named = set(store.open_record(run_id, golden.name).manifest.files)
    of_losses = {name for name in present if name.startswith(("blocks/", "losses/"))}
    assert of_losses == {name for name in named if name.startswith("losses/")}
    assert named <= present


def test_a_record_that_is_resumed_and_gets_no_step_holds_what_it_held(
    golden, in_run, store, run_id, kind
):
    resumed(golden, store, run_id, kind).finish()
    assert_continued(golden, store.open_record(run_id, golden.name), n_new=0)


@pytest.fixture
def left_behind(golden, store, run_id, spool):
    """The record in the spool, as an earlier version left it behind."""
    folder = spool / run_id / golden.name
    shutil.copytree(golden, folder)
    destination = Destination(store.tracking_uri, run_id, "", ("process 1",))
    (folder / "sync.json").write_text(json.dumps(vars(destination)))
    return folder


def test_a_spool_of_format_1_is_uploaded_as_it_is(golden, left_behind, store, run_id, spool):
    assert sync(spool, store=store) == [f"{run_id}/{golden.name}"]
    record = store.open_record(run_id, golden.name)
    assert record.manifest.version == 1
    for path in files_below(golden):
        name = path.relative_to(golden).as_posix()
        if name != "manifest.json":
            assert record.fetch(name).read_bytes() == path.read_bytes()
    assert_continued(golden, record, n_new=0)


def test_a_spool_of_format_1_is_continued(golden, left_behind, store, run_id, kind):
    with resumed(golden, store, run_id, kind) as recorder:
        end_next_epoch(recorder, kind)
    assert_continued(golden, store.open_record(run_id, golden.name), n_new=1)
