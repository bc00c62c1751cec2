"""The command compact: what it prints, and what it refuses."""

import shutil
from pathlib import Path

import pytest
from helpers import wait_until

from actiontrack.recorder import Recorder


@pytest.fixture
def of_format_1(store, run_id):
    """The run of a record of format 1, with three files of losses."""
    source = Path(__file__).parents[1] / "golden/v1/classification/test-probe"
    folder = store.local_root(store.get_run(run_id)) / "actiontrack/test-probe"
    shutil.copytree(source, folder)
    store.set_tags(run_id, {"actiontrack.record.test-probe": "complete"})
    return folder


def test_compact_says_what_it_did_and_then_that_nothing_is_to_do(run_cli, run_id, of_format_1):
    before = sum(path.stat().st_size for path in (of_format_1 / "blocks").iterdir())
    code, out, err = run_cli("compact", run_id)
    after = (of_format_1 / "losses/000001.parquet").stat().st_size
    now = f"format 2, 1 file of losses, {after:,} bytes"
    name = f"{run_id[:8]} test-probe"
    assert (code, err) == (0, "")
    assert out == f"compacted {name}: format 1, 3 files of losses, {before:,} bytes -> {now}\n"
    assert run_cli("compact", run_id) == (0, "", f"nothing to do for {name}: {now}\n")


def test_compact_deletes_what_an_interrupted_one_has_left(run_cli, run_id, of_format_1):
    blocks = of_format_1.with_name("blocks")
    shutil.copytree(of_format_1 / "blocks", blocks)
    run_cli("compact", run_id)
    blocks.replace(of_format_1 / "blocks")
    name = f"{run_id[:8]} test-probe"
    text = f"compacted {name}: deleted 3 files that nothing named any more\n"
    assert run_cli("compact", run_id) == (0, text, "")


def test_compact_refuses_what_may_still_be_recorded(run_cli, store, run_id, spool, history):
    recorder = Recorder(store=store, run_id=run_id, spool=spool / "elsewhere")
    for step in (1, 2):
        recorder.update(history.sample_ids, history.losses[step])
        recorder.end_epoch()
        wait_until(lambda: recorder.synced)
    code, out, err = run_cli("compact", run_id)
    assert (code, out) == (3, "")
    assert err.startswith(f"error: run {run_id} (")
    assert "compact with --ended." in err
    code, out, _ = run_cli("compact", run_id, "--record", "test-probe", "--ended")
    assert code == 0
    assert "format 2, 2 files of losses, " in out
    recorder.close()


def test_compact_of_an_unknown_run_is_not_found(run_cli):
    code, out, err = run_cli("compact", "nothing")
    assert (code, out) == (4, "")
    assert err.startswith("error: run 'nothing': not found by id or name")
