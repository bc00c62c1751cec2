"""Recorded runs for the command line."""

from dataclasses import replace

import pytest

from actiontrack.testing import make_history, record_history


@pytest.fixture
def history():
    return make_history(n_steps=4, n_samples=30, n_classes=3)


@pytest.fixture
def two_runs(new_run, store, spool, history):
    ids = [new_run(), new_run()]
    other = replace(history, losses=history.losses[:, ::-1].copy())
    for run_id, each, model in zip(ids, (history, other), "ab", strict=True):
        record_history(each, run_id, store, spool, model=model)
    return ids
