"""What fuzzing feeds, one class per surface, and the contract that each input must keep.

The contract: what is given is read, or refused by an error of `actiontrack.errors` (or of the
command line's own usage) whose message is not empty and no traceback; nothing else is raised, and
nothing takes more than `SECONDS` or `BYTES` of memory. `run.py` looks for breaches with a
coverage-guided fuzzer, `test_properties.py` with Hypothesis, and `test_finds.py` keeps what they
found.
"""

import os
import sys
from pathlib import Path

from fuzz_contract import BrokenContractError, check, spelt_words, words_of
from fuzz_inputs import Annotations, Images, LabelFiles, Parameters, Tables
from fuzz_records import Files, ManifestJson, StepsText
from fuzz_stored import CommandLine, DifficultyFiles, Filters, VerdictFiles, VerdictLines, WebQuery

__all__ = [
    "TARGETS",
    "BrokenContractError",
    "check",
    "scratch_root",
    "spelt_words",
    "surround",
    "words_of",
]

#: Name -> class. `share` is its part of all inputs: what is cheap gets more.
TARGETS = {
    "files": Files,
    "steps-text": StepsText,
    "manifest": ManifestJson,
    "verdict-lines": VerdictLines,
    "verdict-files": VerdictFiles,
    "difficulty-files": DifficultyFiles,
    "command-line": CommandLine,
    "filters": Filters,
    "web-query": WebQuery,
    "parameters": Parameters,
    "annotations": Annotations,
    "images": Images,
    "tables": Tables,
    "label-files": LabelFiles,
}


def surround(folder, setenv, setattr_, chdir):
    """What targets need around them: commands write into a folder, and none becomes a server."""
    (folder / "work").mkdir(exist_ok=True)
    chdir(folder / "work")
    setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
    setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    setenv("MPLBACKEND", "agg")

    def no_server(*_):
        raise SystemExit(0)

    setattr_(os, "execve", no_server)


def scratch_root():
    """A folder in memory where there is one: every input is a file."""
    shared = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
    return str(shared) if shared.is_dir() and sys.platform == "linux" else None
