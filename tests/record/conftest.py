"""A record on disk."""

import pytest
from record_files import write

from actiontrack.testing import make_history


@pytest.fixture
def history():
    return make_history(n_steps=3, n_samples=40)


@pytest.fixture
def record(tmp_path, history):
    folder = tmp_path / "test-probe"
    write(folder, history)
    return folder
