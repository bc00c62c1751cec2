"""Recorded runs to analyse."""

from dataclasses import replace

import numpy as np
import pytest
from analysis_helpers import N_SAMPLES

from actiontrack.testing import make_history


@pytest.fixture
def record(recorded_history, store):
    """A function that records a history into a new run and opens the record."""
    return lambda *given, **options: store.open_record(recorded_history(*given, **options))


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
