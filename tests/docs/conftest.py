"""The documentation site, built once for all workers."""

import os
import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.fixture(scope="session")
def built_site(once):
    """Folder of the built site. Warnings are errors, so that a dead link fails every test here."""
    return once("site", lambda folder: _build(folder / "site")) / "site"


def _build(folder):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
