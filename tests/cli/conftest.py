"""Recorded runs for the command line."""

from dataclasses import replace

import pytest

from actiontrack.testing import make_history


@pytest.fixture
def history():
    return make_history(n_steps=4, n_samples=30, n_classes=3)


@pytest.fixture
def two_runs(recorded_history, history):
    other = replace(history, losses=history.losses[:, ::-1].copy())
    return [recorded_history(history, "a"), recorded_history(other, "b")]
