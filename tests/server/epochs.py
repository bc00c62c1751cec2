"""Epochs that are recorded into the team's server, and what its bucket is to hold of them."""

import io
import json
import time

import numpy as np
import pandas as pd
from blake3 import blake3

from actiontrack.store import Store

N = 5000  # a block of some 18 kB


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


def losses_of(team, run_id):
    """Names of the files of losses of a run's record."""
    manifest = json.loads(team.s3.read(f"{folder_of(team, run_id)}manifest.json"))
    return [block["path"] for block in manifest["blocks"]]


def assert_whole(team, run_id, n_epochs, *, complete=True):
    """The bucket itself holds what was recorded, and readers get it through the server."""
    expected = [losses_at(each) for each in range(1, n_epochs + 1)]
    folder = folder_of(team, run_id)
    manifest = json.loads(team.s3.read(f"{folder}manifest.json"))
    assert manifest["totals"]["n_steps"] == n_epochs
    assert manifest["status"] == ("complete" if complete else "recording")
    stored = set()
    for name, entry in manifest["files"].items():
        body = team.s3.read(folder + name)
        assert blake3(body).hexdigest() == entry["blake3"], name
        if name.startswith("losses/"):
            for step, block in pd.read_parquet(io.BytesIO(body)).groupby("step"):
                np.testing.assert_array_equal(block["loss"], expected[step - 1])
                stored.add(step)
    assert stored == set(range(1, n_epochs + 1))
    history = Store(team.uri).open_record(run_id).history()
    np.testing.assert_array_equal(history.losses, expected)
