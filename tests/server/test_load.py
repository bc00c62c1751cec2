"""32 recorders into one server at once, while 8 readers compare and browse.

Two cores serve it all: 4 processes of 8 recorders each, 2 of 4 readers each, the server's workers,
PostgreSQL and the S3 store. `pytest -s` prints the latencies that docs/team-server.md shows.
"""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from blake3 import blake3
from helpers import ROOT
from load import EPOCHS, SAMPLES, losses_of

from actiontrack.recorder import Recorder

pytestmark = pytest.mark.server

RECORDERS, READERS = 32, 8
PROCESSES_THAT_RECORD, PROCESSES_THAT_READ = 4, 2


def process(**given):
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("load.py")), json.dumps(given)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def go(processes):
    for each in processes:
        assert each.stdout.readline() == "ready\n"
    for each in processes:
        each.stdin.write("go\n")
        each.stdin.flush()


def results(processes):
    return [json.loads(each.communicate(timeout=300)[0]) for each in processes]


def table(seen):
    """Latencies in ms, by what was done."""
    rows = []
    for what in sorted({name for each in seen for name in each["seconds"]}):
        values = 1000 * np.concatenate([each["seconds"].get(what, []) for each in seen])
        rows.append((what, len(values), np.median(values), np.quantile(values, 0.95)))
    return pd.DataFrame(rows, columns=["what", "n", "median", "p95"]).round({"median": 0, "p95": 0})


@pytest.fixture
def loaded(team, team_store, team_experiment, team_run, tmp_path, capsys):
    """What the processes saw, and the run ids with the seeds of their losses."""
    seeds = {team_run(run_name=f"run {seed}"): seed for seed in range(RECORDERS + 2)}
    complete, recorded = list(seeds)[:2], list(seeds)[2:]
    for run_id in complete:
        with Recorder(store=team_store, run_id=run_id, spool=tmp_path / "complete") as recorder:
            for epoch in range(1, EPOCHS + 1):
                recorder.update(np.arange(SAMPLES), losses_of(seeds[run_id], epoch))
                recorder.end_epoch()
    done = tmp_path / "done"
    given = {"uri": team.uri, "done": str(done), "seeds": seeds, "complete": complete}
    given |= {"login": ["admin", team.password], "experiment": _name(team, team_experiment)}
    recorders = [
        process(
            role="record",
            uri=team.uri,
            spool=str(tmp_path / "spool"),
            runs={each: seeds[each] for each in recorded[part::PROCESSES_THAT_RECORD]},
        )
        for part in range(PROCESSES_THAT_RECORD)
    ]
    share = READERS // PROCESSES_THAT_READ
    readers = [
        process(role="read", **given, browsers=share - 1, comparers=1)
        for _ in range(PROCESSES_THAT_READ)
    ]
    go(recorders + readers)
    seen = results(recorders)
    done.touch()
    seen += results(readers)
    with capsys.disabled():
        print(f"\n{table(seen).to_string(index=False)}")  # noqa: T201
    return seen, {each: seeds[each] for each in recorded}


def _name(team, experiment_id):
    [name] = team.database.query(
        f"SELECT name FROM experiments WHERE experiment_id = {int(experiment_id)}"  # noqa: S608
    )
    return name


def test_32_recorders_lose_and_mix_nothing_while_8_readers_look(team, loaded):
    seen, seeds = loaded
    assert [error for each in seen for error in each["errors"]] == []
    done = table(seen).set_index("what")["n"]
    assert done["until the run holds the epoch"] == RECORDERS * EPOCHS
    assert done.filter(like="page").min() > 0
    keys = {}
    for key in team.s3.objects("artifacts/"):
        run_id = next((part for part in key.split("/") if part in seeds), None)
        if run_id:
            keys.setdefault(run_id, set()).add(key)
    assert keys.keys() == seeds.keys()
    for run_id, seed in seeds.items():
        _check(team, keys[run_id], seed)


def _check(team, keys, seed):
    """Every stored block is that of this run and epoch, bit by bit, and the manifest's digest."""
    [path] = [each for each in keys if each.endswith("/manifest.json")]
    folder = path.removesuffix("manifest.json")
    manifest = json.loads(team.s3.read(path))
    assert manifest["status"] == "complete"
    assert manifest["totals"]["n_steps"] == EPOCHS
    assert keys == {path} | {folder + name for name in manifest["files"]}
    steps = []
    for name, entry in manifest["files"].items():
        body = team.s3.read(folder + name)
        assert blake3(body).hexdigest() == entry["blake3"], name
        if name.startswith("losses/"):
            for step, block in pd.read_parquet(io.BytesIO(body)).groupby("step"):
                expected = losses_of(seed, int(step))
                assert block["loss"].to_numpy().tobytes() == expected.tobytes()
                steps.append(int(step))
    assert steps == list(range(1, EPOCHS + 1))
