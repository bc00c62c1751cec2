"""The threat model names tests that there are, and every defence names one."""

import re

import pytest
from helpers import ROOT

TEXT = (ROOT / "docs/threat-model.md").read_text(encoding="utf-8")
ROWS = [
    line.strip("| ").split(" | ")
    for line in TEXT.partition("## What holds them off")[2].partition("\n## ")[0].splitlines()
    if line.startswith("| ")
][1:]


@pytest.mark.parametrize("row", ROWS, ids=lambda each: each[0][:40])
def test_each_threat_has_a_defence_and_tests_that_exist(row):
    threat, defence, tests = row
    assert threat
    assert defence
    named = re.findall(r"`([^`]+)`", tests)
    assert named
    for each in named:
        assert (ROOT / each).exists(), each


def test_the_table_is_read():
    assert len(ROWS) > 15
