"""A record on disk."""

import shutil

import pytest
from helpers import ROOT
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


@pytest.fixture
def old_record(tmp_path):
    """A record of format 1: six samples, three steps."""
    golden = ROOT / "tests/golden/v1/classification/test-probe"
    return shutil.copytree(golden, tmp_path / "old" / "test-probe")
