"""What fuzzing found, input by input: each is refused or read now; see `fuzz_targets`.

An input is a file in `finds`: name of the target, then what was wrong with it. To keep another one,
copy it there from where `run.py` has put it, cut to what matters.
"""

import shutil
from pathlib import Path

import pytest
from fuzz_targets import TARGETS, check, surround

FINDS = sorted((Path(__file__).parent / "finds").iterdir())

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def scratch(tmp_path_factory, empty_database):
    folder = tmp_path_factory.mktemp("finds")
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture(scope="module")
def make_target(scratch):
    """A function that makes each target once; those that need a store share one."""
    made = {}

    def make(name):
        if name not in made:
            folder = scratch if hasattr(TARGETS[name], "store_is_shared") else scratch / name
            folder.mkdir(exist_ok=True)
            made[name] = TARGETS[name](folder)
        return made[name]

    return make


@pytest.mark.parametrize("path", FINDS, ids=lambda each: each.name)
def test_a_find_stays_mended(path, make_target, scratch, monkeypatch):
    surround(scratch, monkeypatch.setenv, monkeypatch.setattr, monkeypatch.chdir)
    (name,) = [each for each in TARGETS if path.name.startswith(f"{each}-")]
    check(make_target(name), path.read_bytes())
