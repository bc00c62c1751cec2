"""A team's server as deploy/team sets it up: login, health, backup and restore, migrations."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
from blake3 import blake3
from helpers import free_port, wait_until
from services import BUCKET, COMPOSE, POSTGRES, TEAM

from actiontrack.recorder import Recorder
from actiontrack.store import Store

pytestmark = pytest.mark.server

N = 200
PASSWORD = "a password of his own"  # noqa: S105 - of a server that lives for these tests
UPGRADES = (
    ["mlflow", "db", "upgrade", "postgresql+psycopg:///mlflow"],
    [
        "python",
        "-m",
        "mlflow.server.auth",
        "db",
        "upgrade",
        "--url",
        "postgresql+psycopg:///mlflow",
    ],
)


def losses_at(epoch, seed=0):
    return np.random.default_rng([seed, epoch]).gamma(1, 1, N).astype(np.float32)


def record(recorder, *epochs):
    for epoch in epochs:
        recorder.update(np.arange(N), losses_at(epoch))
        recorder.end_epoch(epoch)


def run_tool(team, command, database=None, **options):
    """A command as an administrator of the server runs it, with the settings of team.env."""
    programs = (
        f"{Path(sys.executable).parent}{os.pathsep}{POSTGRES}{os.pathsep}{os.environ['PATH']}"
    )
    settings = team.settings | (database.settings if database else {}) | {"PATH": programs}
    return subprocess.run(
        command,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


@pytest.mark.parametrize(
    ("path", "login", "status"),
    [
        ("/health", None, 200),
        ("/actiontrack/", None, 401),
        ("/actiontrack/api/runs", ("admin", "wrong password"), 401),
        ("/api/2.0/mlflow/experiments/search?max_results=1", None, 401),
    ],
)
def test_only_the_health_is_told_without_a_login(team, path, login, status):
    assert requests.get(team.uri + path, auth=login, timeout=30).status_code == status


UNKNOWN = "the tracking server wants a login. Set MLFLOW_TRACKING_USERNAME and "
UNKNOWN += "MLFLOW_TRACKING_PASSWORD to yours."
REFUSED = "the tracking server refuses: Permission denied. Ask its administrator for the "
REFUSED += "permission, or check that the id is right."


@pytest.mark.parametrize(
    ("password", "text"), [("wrong password", UNKNOWN), (PASSWORD, REFUSED)], ids=["who", "what"]
)
def test_the_command_line_says_what_a_login_lacks(team, monkeypatch, run_cli, password, text):
    _user(team, "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    code, out, err = run_cli("scores", "--run", "f" * 32, "--tracking-uri", team.uri)
    assert (code, out, err) == (7, "", f"error: run {'f' * 32!r}: {text}\n")


def test_a_reader_names_a_run_by_its_first_characters(
    team, team_store, team_run, spool, monkeypatch, run_cli
):
    run_id = team_run()
    with Recorder(store=team_store, run_id=run_id, spool=spool) as recorder:
        record(recorder, 1)
    _user(team, "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "bob")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    code, out, _ = run_cli("scores", "--run", run_id[:12], "--tracking-uri", team.uri)
    assert (code, len(out.splitlines()) > 1) == (0, True)


def _user(team, name):
    """A user who may read what nobody closed; one who is there already is kept."""
    requests.post(
        f"{team.uri}/api/2.0/mlflow/users/create",
        json={"username": name, "password": PASSWORD},
        auth=("admin", team.password),
        timeout=30,
    )


def test_the_pages_and_those_of_mlflow_are_there_with_a_login(team):
    for path in ("/", "/actiontrack/"):
        status, text = team.page(path)
        assert status == 200
        assert "</html>" in text


def test_the_workers_run_on_an_event_loop_that_sends_answers_at_once(team):
    loaded = [Path(f"/proc/{each}/maps").read_text() for each in team.server.processes()]
    command = COMPOSE["server"]["command"]
    wanted = int(command[command.index("--workers") + 1])
    assert sum("/uvloop/" in each for each in loaded) >= wanted > 1


def test_the_s3_store_wants_the_key(team):
    url = f"http://127.0.0.1:{team.s3.port}/{BUCKET}/ready"
    assert requests.get(url, timeout=30).status_code == 403


def test_the_health_checks_of_the_compose_file_pass_and_fail(team):
    for name, port in (("server", team.server.port), ("store", team.s3.port)):
        kind, *command = COMPOSE[name]["healthcheck"]["test"]
        assert kind == "CMD"
        for target, code in ((port, 0), (free_port(), None)):
            here = [re.sub(r":(5000|8333)/", f":{target}/", each) for each in command]
            here = [each.replace("localhost", "127.0.0.1") for each in here]
            done = run_tool(team, here)
            assert done.returncode == code if code is not None else done.returncode > 0


def test_the_database_is_checked_by_pg_isready(team):
    kind, program, *options = COMPOSE["database"]["healthcheck"]["test"]
    options = [each.replace("localhost", "127.0.0.1") for each in options]
    assert kind == "CMD"
    assert run_tool(team, [program, *options]).returncode == 0


def test_a_backup_taken_while_runs_are_recorded_gives_the_same_scores(
    team, team_store, team_run, spool, tmp_path
):
    finished, unfinished = team_run(), team_run()
    with Recorder(store=team_store, run_id=finished, spool=spool) as recorder:
        record(recorder, 1, 2, 3)
    before = team_store.open_record(finished).scores()
    backup = tmp_path / "backup"
    with Recorder(store=team_store, run_id=unfinished, spool=spool) as recorder:
        record(recorder, 1, 2)
        assert recorder._writer.uploader.drain(60)
        done = run_tool(team, [str(TEAM / "backup.sh"), str(backup)])
        record(recorder, 3)  # later than the backup
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(rf"\d+ files in {backup}\n", done.stdout)

    team.server.kill()
    team.database.tool("dropdb", "--force", "mlflow")
    team.s3.delete(*team.s3.objects())
    assert team.s3.objects() == []
    team.database.tool("createdb", "mlflow")
    done = run_tool(team, [str(TEAM / "restore.sh"), str(backup)])
    assert (done.returncode, done.stdout) == (0, f"restored from {backup}\n"), done.stderr
    team.server.start()

    store = Store(team.uri)
    pd.testing.assert_frame_equal(store.open_record(finished).scores(), before)
    restored = store.open_record(unfinished)
    assert not restored.manifest.complete
    np.testing.assert_array_equal(restored.history().losses, [losses_at(1), losses_at(2)])
    with Recorder(store=store, run_id=unfinished, spool=tmp_path / "s", resume=True) as resumed:
        record(resumed, 3)
    losses = [losses_at(epoch) for epoch in (1, 2, 3)]
    np.testing.assert_array_equal(store.open_record(unfinished).history().losses, losses)


def test_a_record_that_grows_during_a_backup_is_whole_in_it(
    team, team_store, team_run, spool, tmp_path
):
    run_id, stop = team_run(), threading.Event()
    recorder = Recorder(store=team_store, run_id=run_id, spool=spool)

    def go_on():
        epoch = 0
        while not stop.is_set():
            epoch += 1
            record(recorder, epoch)
            recorder._writer.uploader.drain(60)

    training = threading.Thread(target=go_on)
    training.start()
    try:
        wait_until(lambda: (recorder.last_step or 0) > 2)
        folders = [tmp_path / f"backup {number}" for number in range(3)]
        for folder in folders:
            done = run_tool(team, [str(TEAM / "backup.sh"), str(folder)])
            assert done.returncode == 0, done.stderr
    finally:
        stop.set()
        training.join()
        recorder.finish()
    steps = []
    for folder in folders:
        [path] = folder.glob(f"bucket/**/{run_id}/**/manifest.json")
        manifest = json.loads(path.read_text())
        steps.append(manifest["totals"]["n_steps"])
        for name, entry in manifest["files"].items():
            body = (path.parent / name).read_bytes()
            assert blake3(body).hexdigest() == entry["blake3"]
    assert steps == sorted(set(steps)), "the record did not grow meanwhile"


def test_a_backup_that_is_not_whole_is_not_restored(team, tmp_path):
    backup = tmp_path / "backup"
    assert run_tool(team, [str(TEAM / "backup.sh"), str(backup)]).returncode == 0
    again = run_tool(team, [str(TEAM / "backup.sh"), str(backup)])
    assert again.returncode != 0  # a folder that is there is not written into
    before = team.s3.objects()
    (backup / "database.dump").write_bytes(b"x")
    done = run_tool(team, [str(TEAM / "restore.sh"), str(backup)])
    assert done.returncode != 0
    assert "database.dump: FAILED" in done.stdout
    assert team.s3.objects() == before


OLDER = """
import alembic.command, sqlalchemy
from alembic.script import ScriptDirectory
from mlflow.store.db.utils import _get_alembic_config
from mlflow.store.tracking.dbmodels.initial_models import Base

url = "postgresql+psycopg:///second"
Base.metadata.create_all(sqlalchemy.create_engine(url))
config = _get_alembic_config(url)
head, _, before, *_ = ScriptDirectory.from_config(config).walk_revisions()
alembic.command.upgrade(config, before.revision)
print(before.revision, head.revision)
"""


def test_the_database_of_an_older_mlflow_is_upgraded_by_the_documented_commands(team, tmp_path):
    """The schema of MLflow two migrations ago, made by its own migrations, with an experiment."""
    team.database.tool("createdb", "second")

    def query(sql):
        return team.database.tool("psql", "-At", "-c", sql, "second").stdout.split()

    done = run_tool(team, [sys.executable, "-W", "ignore", "-c", OLDER])
    assert done.returncode == 0, done.stderr
    before, head = done.stdout.split()
    assert query("SELECT version_num FROM alembic_version") == [before]
    query(
        "INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'e', 'active')"
    )
    for command in UPGRADES:
        done = run_tool(team, [each.replace("///mlflow", "///second") for each in command])
        assert done.returncode == 0, done.stderr
    assert query("SELECT version_num FROM alembic_version") == [head]
    assert query("SELECT name FROM experiments") == ["e"]
    assert "users" in query("SELECT tablename FROM pg_tables")
    team.database.tool("dropdb", "second")
