"""Recorded runs to analyse."""

from dataclasses import replace

import numpy as np
import pytest
from analysis_helpers import N_SAMPLES

from actiontrack.testing import make_history, record_history


@pytest.fixture
def record(new_run, store, spool):
    """A function that records a history into a new run and opens the record."""

    def make(history, model="", **options):
        run_id = new_run(**options)
        record_history(history, run_id, store, spool, model=model)
        return store.open_record(run_id)

    return make


@pytest.fixture
def history():
    return make_history(n_steps=4, n_samples=N_SAMPLES, n_classes=3)


@pytest.fixture
def four_runs(record):
    """Two models with two runs each on the same samples: the steps of one history, reweighted."""
    base = make_history(n_steps=4, n_samples=N_SAMPLES, n_classes=3)
    noise = np.random.default_rng(1).gamma(1.0, size=(4, 4, N_SAMPLES)).astype(np.float32)
    for row, model in enumerate(["a", "a", "b", "b"]):
        scale = (0.05 + 0.5 * (model == "b")) * noise[row]
        record(replace(base, losses=base.losses + scale), model=model)
