"""Every surface keeps its contract for sound inputs, damaged ones and noise; see `fuzz_targets`.

Few inputs, in the default suite. `make fuzz` feeds a million, guided by coverage.
"""

import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, BrokenContractError, check, spelt_words, surround, words_of
from helpers import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actiontrack.errors import DataError

# Damaged numbers may overflow on the way to their refusal.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]
EXAMPLES = {"command-line": 12, "filters": 20}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture(autouse=True)
def _surroundings(scratch, monkeypatch):
    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    surround(scratch, monkeypatch.setenv, monkeypatch.setattr, monkeypatch.chdir)


@pytest.fixture
def make_target(scratch):
    """A function that makes a target; those that need a store share one."""

    def make(name):
        folder = scratch if hasattr(TARGETS[name], "store_is_shared") else scratch / name
        folder.mkdir(exist_ok=True)
        return TARGETS[name](folder)

    return make


@st.composite
def damaged(draw, seeds):
    """A seed, some of whose bytes are replaced, inserted or cut off; now and then noise."""
    data = bytearray(draw(st.sampled_from(seeds)))
    if draw(st.integers(0, 9)) == 0:
        return bytes(data[:1]) + draw(st.binary(max_size=200))
    places = st.integers(0, max(len(data) - 1, 0))
    for place, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        if data:
            data[place] = value
    if draw(st.booleans()):
        cut = draw(places)
        data[cut : cut + draw(st.integers(0, 20))] = draw(st.binary(max_size=20))
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_read_is_sound_or_refused(name, make_target):
    target = make_target(name)
    seeds = target.seeds()

    @settings(
        max_examples=EXAMPLES.get(name, 40),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(damaged(seeds))
    def feed(data):
        check(target, data)

    for each in seeds[:3]:
        check(target, each)
    feed()


# The harness itself


@pytest.mark.parametrize(
    ("error", "caught"),
    [
        (DataError("a clear message"), False),
        (DataError(" "), True),
        (DataError("Traceback (most recent call last)"), True),
        (DataError("x" * 20_000), True),
        (KeyError("x"), True),
    ],
)
def test_the_contract_tells_refusals_from_failures(error, caught):
    class Target:
        def run(self, _data):
            raise error

    if caught:
        with pytest.raises((BrokenContractError, KeyError)):
            check(Target(), b"")
    else:
        check(Target(), b"")


@pytest.mark.slow
def test_the_contract_counts_memory():
    """In a process of its own, whose peak is not inherited from this one."""
    code = (
        "import fuzz_contract as f\n"
        "class Target:\n"
        "    def run(self, data): bytearray(b'x') * 2**29\n"
        "f.BYTES = 2**28\n"
        "try: f.check(Target(), b'bad')\n"
        "except f.BrokenContractError as error: print(error)\n"
    )
    path = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    done = subprocess.run(
        ["sh", "-c", '"$0" -c "$1"; true', sys.executable, code],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("MiB of memory for 3 bytes\n")


def test_words_of_a_command_line_are_spelt_and_read_back():
    tokens = ("scores", "--run")
    words = ["scores", "--run", "abc", ""]
    assert words_of(spelt_words(words, tokens), tokens) == words


def test_words_of_their_own_never_leave_the_folder():
    assert words_of(bytes(128 + ord(each) for each in "../x") + b"\xff", ("a",)) == [".._x"]
