"""The documentation site, built once for all workers."""

import os

import pytest
from helpers import ROOT


@pytest.fixture(scope="session")
def built_site(once, warm_python):
    """Folder of the built site. Warnings are errors, so that a dead link fails every test here."""
    return once("site", lambda folder: _build(folder / "site", warm_python)) / "site"


def _build(folder, warm_python):
    words = ["-m", "mkdocs", "build", "--strict", "--quiet", "-d", folder]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = warm_python.run(words, ROOT, environment, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr
