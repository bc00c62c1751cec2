"""What survives when a part of the team's server fails while 32 or one record into it.

Every fault is a real one: processes are killed, connections cut, disks filled, clocks set back.
"""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest
from epochs import N, assert_whole, folder_of, losses_at, losses_of, record
from helpers import ROOT, steps_of, wait_until

from actiontrack.analysis import verdicts
from actiontrack.errors import CorruptRecordError, NotFoundError, StoreError
from actiontrack.recorder import Recorder, sync
from actiontrack.store import Store

pytestmark = pytest.mark.server

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def said(caplog):
    return [each.getMessage() for each in caplog.records if each.name == "actiontrack"]


@pytest.fixture
def recording(team, team_store, team_run, spool, few_retries, caplog):
    """A recorder on the team's server with one epoch uploaded, and the id of its run."""
    caplog.set_level(logging.WARNING, "actiontrack")
    run_id = team_run()
    recorder = Recorder(store=team_store, run_id=run_id, spool=spool, patience=60.0)
    try:
        record(recorder, 1)
        assert recorder._writer.uploader.drain(60)
        yield recorder, run_id
    finally:
        team.door.heal()
        team.door.open()
        recorder.close()


@pytest.fixture
def finished(team, team_store, team_run, spool):
    """Id of a run on the team's server with a complete record of three epochs."""
    run_id = team_run()
    with Recorder(store=team_store, run_id=run_id, spool=spool) as recorder:
        record(recorder, 1, 2, 3)
    return run_id


def test_a_server_killed_in_an_upload_and_started_again_gets_everything(team, recording):
    recorder, run_id = recording
    team.door.bytes_per_s = 2000  # the upload of a block takes nine seconds
    seen = team.door.passed
    record(recorder, 2)
    wait_until(lambda: team.door.passed > seen + 1000)
    team.server.kill()
    team.door.heal()
    assert record(recorder, 3, 4) < 0.5
    team.server.start()
    record(recorder, 5)
    assert recorder.finish() is True
    assert_whole(team, run_id, 5)


def test_a_database_that_crashes_and_comes_back_gets_everything(team, recording, caplog):
    recorder, run_id = recording
    team.database.kill()
    assert record(recorder, 2, 3) < 0.5
    wait_until(lambda: said(caplog))
    assert said(caplog)[0].startswith(f"cannot upload to run {run_id}, training goes on: run ")
    team.database.restart()
    record(recorder, 4)
    assert recorder.finish() is True
    assert_whole(team, run_id, 4)
    client = mlflow.MlflowClient(tracking_uri=team.uri)
    means = client.get_metric_history(run_id, "test-probe/mean_loss")
    assert [each.step for each in means] == [1, 2, 3, 4]


def test_a_database_restarted_between_two_epochs_is_not_noticed(team, recording, caplog):
    recorder, run_id = recording
    team.database.restart(signal.SIGINT)
    record(recorder, 2)
    assert recorder.finish() is True
    assert_whole(team, run_id, 2)


def test_an_s3_store_that_refuses_holds_up_nothing_and_gets_everything(team, recording, caplog):
    recorder, run_id = recording
    team.door.shut()
    assert record(recorder, 2, 3) < 0.5
    wait_until(lambda: said(caplog), timeout=60)
    start = f"cannot upload to run {run_id}, training goes on: upload of 00000"
    assert re.match(
        rf"{start}\d\.parquet to run {run_id}: the tracking server (fails|does)", said(caplog)[0]
    )
    assert said(caplog)[0].endswith(f". Everything is kept in {recorder.folder}")
    team.door.open()
    assert recorder.finish() is True
    assert_whole(team, run_id, 3)


def test_a_slow_s3_store_holds_up_nothing_and_gets_everything(team, recording):
    recorder, run_id = recording
    team.door.bytes_per_s = 20_000  # a second for a block
    assert record(recorder, 2, 3, 4) < 0.5
    assert recorder.finish() is True
    assert_whole(team, run_id, 4)


def test_connections_cut_in_the_middle_of_a_body_leave_no_half_of_a_file(team, recording):
    recorder, run_id = recording
    team.door.cut_after = 6000  # of a request with a block of 18 kB
    record(recorder, 2, 3)
    wait_until(lambda: team.door.cuts >= 3, timeout=60)
    assert_whole(team, run_id, 1, complete=False)
    team.door.heal()
    assert recorder.finish() is True
    assert_whole(team, run_id, 3)


def test_an_answer_cut_in_the_middle_is_told_and_not_taken_for_the_record(
    team, finished, few_retries
):
    record = Store(team.uri).open_record(finished)
    team.door.cut_answer_after = 6000
    with pytest.raises((StoreError, CorruptRecordError)):
        record.history()
    assert team.door.cuts
    team.door.heal()
    np.testing.assert_array_equal(record.history().losses[0], losses_at(1))


def test_a_full_disk_of_the_s3_store_holds_up_nothing_and_gets_everything(team, recording, caplog):
    recorder, run_id = recording
    if not team.s3.disk.mounted:
        pytest.skip("mounting a file system needs root and the right to mount")
    with team.s3.disk.full():
        assert record(recorder, 2, 3) < 0.5
        wait_until(lambda: said(caplog), timeout=60)
        assert_whole(team, run_id, 1, complete=False)
    assert recorder.finish() is True
    assert_whole(team, run_id, 3)


def test_who_reads_while_the_s3_store_is_away_is_told_within_a_minute(
    team, finished, run_cli, monkeypatch
):
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    team.door.shut()
    start = time.monotonic()
    code, out, err = run_cli("scores", "--run", finished, "--tracking-uri", team.uri)
    assert time.monotonic() - start < 60
    assert (code, out) == (StoreError.exit_code, "")
    assert "the tracking server fails: too many 500 error responses. Its log says why" in err
    assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ
    status, text = team.page(f"/actiontrack/api/scores?run={finished}")
    assert status == 500
    assert "Traceback" not in text


BACKWARDS = f"""
import sys, time
import numpy as np
from actiontrack.recorder import Recorder
from actiontrack.store import Store

url, run_id, spool, clock = sys.argv[1:]
recorder = Recorder(store=Store(url), run_id=run_id, spool=spool, delta_kind="wall_time")
seen = []
for epoch in range(1, 7):
    with open(clock, "w") as file:
        file.write("+0" if epoch < 4 else "-2h")
    seen.append(time.time())
    recorder.update(np.arange({N}), np.random.default_rng([0, epoch]).gamma(1, 1, {N}).astype("f4"))
    recorder.end_epoch(epoch)
assert -7300 < seen[3] - seen[2] < -7000, seen  # the clock was set back
assert recorder.finish()
"""


@pytest.fixture
def faked_clock(tmp_path):
    """The environment of a process whose clock is what a file says; monotonic clocks are not."""
    clock = tmp_path / "clock"
    clock.write_text("+0")
    return {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


def test_a_clock_that_is_set_back_while_recording_changes_nothing(
    team, team_run, spool, in_subprocess, faked_clock
):
    run_id = team_run()
    clock = faked_clock["FAKETIME_TIMESTAMP_FILE"]
    in_subprocess(BACKWARDS, team.uri, run_id, spool, clock, **faked_clock)
    assert_whole(team, run_id, 6)
    steps = steps_of(Store(team.uri).open_record(run_id))
    assert all(0 < each.delta < 60 for each in steps)
    client = mlflow.MlflowClient(tracking_uri=team.uri)
    means = client.get_metric_history(run_id, "test-probe/mean_loss")
    found = {each.step: each.value for each in means}
    wanted = {step: float(losses_at(step).mean(dtype=float)) for step in range(1, 7)}
    assert found == pytest.approx(wanted)


JUDGED = """
import sys
from actiontrack import verdicts
from actiontrack.store import Store

record = Store(sys.argv[1]).open_record(sys.argv[2])
for verdict, clock in (("wrong_label", "+0"), ("fine", "-2h"), ("withdrawn", "-3h")):
    with open(sys.argv[3], "w") as file:
        file.write(clock)
    verdicts.add(record, [verdicts.Verdict(sample_id=7, verdict=verdict, who="alice")])
    verdicts.add(record, [verdicts.Verdict(sample_id=8, verdict="fine", who="alice")])
"""


def test_a_verdict_counts_after_those_before_it_when_the_clock_was_set_back(
    team, finished, in_subprocess, faked_clock
):
    clock = faked_clock["FAKETIME_TIMESTAMP_FILE"]
    in_subprocess(JUDGED, team.uri, finished, clock, **faked_clock)
    found = verdicts.read(Store(team.uri).open_record(finished))
    assert list(found["verdict"])[::2] == ["wrong_label", "fine", "withdrawn"]
    assert list(verdicts.current(found)["sample_id"]) == [8]


RIVAL = f"""
import sys
import numpy as np
from actiontrack.errors import RecordingError
from actiontrack.recorder import Recorder
from actiontrack.store import Store

url, run_id, spool, seed = sys.argv[1:]
store = Store(url)
store.get_run(run_id)
print("ready", flush=True)
sys.stdin.readline()
try:
    recorder = Recorder(store=store, run_id=run_id, spool=spool, patience=20)
    for epoch in range(1, 4):
        losses = np.random.default_rng([int(seed), epoch]).gamma(1, 1, {N}).astype("f4")
        recorder.update(np.arange({N}), losses)
        recorder.end_epoch()
        recorder._writer.uploader.drain(20)
    print("kept" if recorder.finish() else "refused", flush=True)
except RecordingError as error:
    print("refused", error, flush=True)
"""


def test_of_two_processes_that_begin_one_run_at_once_one_is_refused_and_one_is_whole(
    team, team_run, tmp_path
):
    run_id = team_run()
    script = tmp_path / "rival.py"
    script.write_text(RIVAL)
    rivals = [
        subprocess.Popen(
            [sys.executable, str(script), team.uri, run_id, str(tmp_path / f"{seed}"), f"{seed}"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in (0, 1)
    ]
    for each in rivals:
        assert each.stdout.readline() == "ready\n"
    for each in rivals:
        each.stdin.write("go\n")
        each.stdin.flush()
    answers = [each.communicate(timeout=60)[0] for each in rivals]
    assert sorted(each.split()[0] for each in answers) == ["kept", "refused"]
    seed = answers.index("kept\n")
    history = Store(team.uri).open_record(run_id).history()
    expected = [losses_at(epoch, seed) for epoch in (1, 2, 3)]
    np.testing.assert_array_equal(history.losses, expected)


def cut_short(body):
    return body[: len(body) // 2]


def one_bit_flipped(body):
    at = len(body) // 2
    return body[:at] + bytes([body[at] ^ 16]) + body[at + 1 :]


def of_a_newer_version(body):
    return json.dumps(json.loads(body) | {"version": 3}).encode()


#: A list of runs takes the manifest of a complete record from the run's tags: it is whole there.
DAMAGED_MANIFESTS = {
    "cut short": (cut_short, "is damaged or half-written"),
    "a newer version": (of_a_newer_version, "pip install -U actiontrack"),
}
DAMAGE = {
    "losses cut short": ("losses/", cut_short, "losses/"),
    "a flipped bit": ("losses/", one_bit_flipped, "losses/"),
    "no samples": ("samples.parquet", None, "samples.parquet"),
    "no scores": ("scores.parquet", None, "scores.parquet"),
}


@pytest.mark.parametrize("damage", DAMAGED_MANIFESTS)
def test_a_damaged_manifest_is_named_by_the_doctor_and_on_pages(team, finished, run_cli, damage):
    change, wanted = DAMAGED_MANIFESTS[damage]
    key = folder_of(team, finished) + "manifest.json"
    team.s3.write(key, change(team.s3.read(key)))
    code, out, _ = run_cli("doctor", "--run", finished, "--tracking-uri", team.uri)
    assert code != 0
    assert wanted in out
    status, text = team.page(f"/actiontrack/api/curves?run={finished}&id=1")
    assert status == 422
    assert wanted in text


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_in_the_store_is_named_and_nothing_of_it_is_shown(team, finished, run_cli, damage):
    name, change, wanted = DAMAGE[damage]
    if name == "losses/":
        (name,) = losses_of(team, finished)
        wanted = name
    key = folder_of(team, finished) + name
    if change is None:
        team.s3.delete(key)
    else:
        team.s3.write(key, change(team.s3.read(key)))
    command = "scores" if name.startswith("scores") else "curves"
    code, out, err = run_cli(command, "--run", finished, "--tracking-uri", team.uri)
    assert (code, out) == (CorruptRecordError.exit_code, "")
    assert err.startswith("error: ")
    assert wanted in err
    assert len(err.splitlines()) == 1
    assert tempfile.gettempdir() not in err  # of a copy that is gone by now
    sample = "&id=1" if command == "curves" else ""
    status, text = team.page(f"/actiontrack/api/{command}?run={finished}{sample}")
    assert status == 422
    assert json.loads(text)["error"]["type"] == "CorruptRecordError"
    assert wanted in text


def test_two_files_of_losses_that_changed_places_are_refused(
    team, finished, team_store, team_run, spool, run_cli
):
    other = team_run()
    with Recorder(store=team_store, run_id=other, spool=spool) as recorder:
        record(recorder, 4, 5, 6)
    one, two = (
        folder_of(team, run_id) + path
        for run_id in (finished, other)
        for path in losses_of(team, run_id)
    )
    first, second = team.s3.read(one), team.s3.read(two)
    team.s3.write(one, second)
    team.s3.write(two, first)
    code, out, err = run_cli("curves", "--run", finished, "--tracking-uri", team.uri)
    assert (code, out) == (CorruptRecordError.exit_code, "")
    assert "losses/00000" in err


def test_one_damaged_record_does_not_hide_the_others(
    team, finished, team_store, team_run, spool, run_cli
):
    other = team_run()
    with Recorder(store=team_store, run_id=other, spool=spool) as recorder:
        record(recorder, 1)
    team.s3.delete(folder_of(team, finished) + "samples.parquet")
    code, out, err = run_cli(
        "doctor", "--run", finished, "--run", other, "--tracking-uri", team.uri
    )
    assert code == StoreError.exit_code
    [row] = [line for line in out.splitlines() if line.startswith(f"{other[:8]} ")]
    assert " ok " in row
    assert err == f"error: 1 check failed: {finished[:8]} test-probe.\n"


def test_a_run_deleted_while_it_is_read_is_told(team, finished, team_store, run_cli):
    record = team_store.open_record(finished)
    mlflow.MlflowClient(tracking_uri=team.uri).delete_run(finished)
    np.testing.assert_array_equal(
        record.scores()["action"].notna().sum(), N
    )  # until it is collected
    team.s3.delete(*team.s3.objects(folder_of(team, finished)))
    with pytest.raises(
        CorruptRecordError, match="is named in the manifest of test-probe but missing"
    ):
        record.history()
    code, out, err = run_cli("curves", "--run", finished, "--tracking-uri", team.uri)
    assert (code, out) == (NotFoundError.exit_code, "")
    assert err.startswith(f"error: run {finished} ")
    status, text = team.page(f"/actiontrack/api/scores?run={finished}")
    assert (status, json.loads(text)["error"]["type"]) == (404, "NotFoundError")


def test_a_run_deleted_while_it_is_recorded_keeps_its_epochs_and_takes_them_once_restored(
    team, recording, caplog, spool
):
    recorder, run_id = recording
    client = mlflow.MlflowClient(tracking_uri=team.uri)
    client.delete_run(run_id)
    recorder._writer._options = replace(recorder._writer._options, patience=1.0)
    assert record(recorder, 2) < 0.5
    wait_until(lambda: said(caplog))
    assert recorder.finish() is False
    assert f"upload it with 'actiontrack sync {spool / run_id / 'test-probe'}'" in said(caplog)[-1]
    client.restore_run(run_id)
    assert sync(spool, store=Store(team.uri)) == [f"{run_id}/test-probe"]
    assert_whole(team, run_id, 2)
