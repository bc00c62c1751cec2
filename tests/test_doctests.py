"""The examples in docstrings print what they say."""

import doctest
import importlib

import pytest
from helpers import ROOT

FILES = (path for folder in ("actiontrack", "projects") for path in (ROOT / folder).rglob("*.py"))
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in FILES
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("module", MODULES)
def test_examples_print_what_they_say(module):
    done = doctest.testmod(importlib.import_module(module))
    assert done.attempted > 0
    assert done.failed == 0  # what differs is printed above


def test_modules_with_examples_are_found():
    assert "actiontrack.scores" in MODULES
