"""Processes that are forked behave as those that are started."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT, wait_until


def test_a_script_has_words_folder_variables_and_output_of_its_own(in_warm_process, tmp_path):
    code = "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['WORD'], __name__)"
    done = in_warm_process(code, 1, "two", WORD="three")
    assert done.stdout == f"['1', 'two'] {tmp_path} three __main__\n"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise SystemExit(3)", 3),
        ("raise ValueError", 1),
        ("import os; os.kill(os.getpid(), 9)", -9),
        ("raise KeyboardInterrupt", -signal.SIGINT),
    ],
)
def test_the_exit_code_is_that_of_the_script(in_warm_process, code, expected):
    assert in_warm_process(code, check=False).returncode == expected


def test_what_is_to_be_done_at_exit_is_done(in_warm_process):
    code = "import atexit, threading\natexit.register(print, 'last')\n"
    code += "threading.Timer(0.1, print, ['thread']).start()"
    assert in_warm_process(code).stdout == "thread\nlast\n"


def test_filters_of_warnings_are_those_of_a_new_interpreter(in_warm_process, in_subprocess):
    code = "import warnings; warnings.warn('careful')"
    for run in (in_warm_process, in_subprocess):
        done = run(code, check=False)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (1, "UserWarning: careful")


def test_the_path_of_modules_is_that_of_a_new_interpreter(in_warm_process, in_subprocess):
    code = "import sys; print(sys.path)"
    assert in_warm_process(code).stdout == in_subprocess(code).stdout


def test_random_numbers_differ(in_warm_process):
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    first, second = (in_warm_process(code).stdout.split() for _ in range(2))
    assert not set(first) & set(second)


def test_a_process_ends_with_the_test_that_started_it(warm_python, tmp_path, write_script):
    process = warm_python.start([write_script("import time; time.sleep(60)")], tmp_path, os.environ)
    assert process.poll() is None
    process.close()
    wait_until(lambda: not Path(f"/proc/{process.pid}").exists())


def test_a_module_runs_by_its_name(warm_python, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = warm_python.run(["-m", "actiontrack.cli", "--version"], tmp_path, environment)
    assert done.returncode == 0
    assert "actiontrack" in done.stdout


def test_the_command_python_starts_one_too(warm_python, tmp_path):
    warm_python.install(tmp_path)
    (tmp_path / "script.py").write_text("import sys; print(sys.argv[1:]); sys.exit(5)")
    command = [str(tmp_path / "python"), "script.py", "a b"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (5, "['a b']\n")
