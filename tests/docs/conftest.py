"""The documentation site, built once for all workers."""

import os
import subprocess
import sys

import pytest
from filelock import FileLock
from helpers import ROOT


@pytest.fixture(scope="session")
def site(tmp_path_factory, worker_id):
    """Folder of the built site. Warnings are errors, so that a dead link fails every test here."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent
    folder, done = shared / "site", shared / "site.done"
    with FileLock(shared / "site.lock"):
        if not done.exists():
            _build(folder)
            done.touch()
    return folder


def _build(folder):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
