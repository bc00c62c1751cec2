"""What survives when a part of the team's server fails while 32 or one record into it.

Every fault is a real one: processes are killed, connections cut, disks filled, clocks set back.
"""

import hashlib
import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT, message, wait_until

from actiontrack import verdicts
from actiontrack.errors import CorruptRecordError, NotFoundError, RecordingError, StoreError
from actiontrack.recorder import Recorder, sync
from actiontrack.store import Store

pytestmark = pytest.mark.server

N = 5000  # a block of some 18 kB
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)


def losses_at(epoch, seed=0):
    return np.random.default_rng([seed, epoch]).gamma(1, 1, N).astype(np.float32)


def record(recorder, *epochs):
    """Record epochs. Returns the seconds of the slowest one."""
    slowest = 0.0
    for epoch in epochs:
        start = time.monotonic()
        recorder.update(np.arange(N), losses_at(epoch))
        recorder.end_epoch(epoch)
        slowest = max(slowest, time.monotonic() - start)
    return slowest


def folder_of(team, run_id):
    """Prefix of the keys of a run's record in the bucket."""
    [manifest] = [
        each
        for each in team.s3.objects("artifacts/")
        if f"/{run_id}/" in each and "manifest" in each
    ]
    return manifest.removesuffix("manifest.json")


def assert_whole(team, run_id, n_epochs, *, complete=True):
    """The bucket itself holds what was recorded, and readers get it through the server."""
    expected = [losses_at(each) for each in range(1, n_epochs + 1)]
    folder = folder_of(team, run_id)
    manifest = json.loads(team.s3.read(f"{folder}manifest.json"))
    assert [each["step"] for each in manifest["steps"]] == list(range(1, n_epochs + 1))
    assert manifest["status"] == ("complete" if complete else "recording")
    for name, entry in manifest["files"].items():
        body = team.s3.read(folder + name)
        assert hashlib.sha256(body).hexdigest() == entry["sha256"], name
        if name.startswith("blocks/"):
            block = pd.read_parquet(io.BytesIO(body))
            np.testing.assert_array_equal(block["loss"], expected[block["step"].iloc[0] - 1])
    history = Store(team.uri).open_record(run_id).history()
    np.testing.assert_array_equal(history.losses, expected)


def said(caplog):
    return [each.getMessage() for each in caplog.records if each.name == "actiontrack"]


@pytest.fixture
def recording(team, team_store, team_run, spool, few_retries, caplog):
    """A recorder on the team's server with one epoch uploaded, and the id of its run."""
    caplog.set_level(logging.WARNING, "actiontrack")
    run_id = team_run()
    recorder = Recorder(store=team_store, run_id=run_id, spool=spool, patience=20.0)
    record(recorder, 1)
    assert recorder._uploader.drain(20)
    yield recorder, run_id
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


# ---------------------------------------------------------------- parts of the server fail


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
    steps = team.database.query(
        f"SELECT DISTINCT step FROM metrics WHERE run_uuid = '{run_id}' ORDER BY step"
    )
    assert steps == ["1", "2", "3", "4"]


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
    text = said(caplog)[0]
    assert text.startswith(f"cannot upload to run {run_id}, training goes on: upload of ")
    assert text.endswith(f"Everything is kept in {recorder._spool.folder}")
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
