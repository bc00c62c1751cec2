"""How a program ends that records: by its end, by an error, by SIGTERM."""

import os
import signal
import threading

import mlflow
import pytest
from helpers import ROOT
from recording import one_epoch

from actiontrack.recorder import ending
from actiontrack.store import Store, Terminated

HEAD = """
import atexit, os, signal, sys
import mlflow
import numpy as np
from actiontrack import Recorder

def epoch(recorder, number):
    recorder.update(np.arange(5), np.arange(5) + 1.0 + number)
    recorder.end_epoch()

def begin():
    return mlflow.start_run(run_id=sys.argv[1])
"""

PROGRAMS = {
    "end": """
begin()
recorder, other = Recorder(), Recorder("train")
atexit.register(other.finish)
epoch(recorder, 1)
epoch(recorder, 2)
epoch(other, 1)
""",
    "error": "begin(); recorder = Recorder(); epoch(recorder, 1); 1 / 0",
    "sigterm": """
with begin(), Recorder() as recorder:
    other = Recorder("train")
    epoch(other, 1)
    epoch(recorder, 1)
    epoch(recorder, 2)
    os.kill(os.getpid(), signal.SIGTERM)
    epoch(recorder, 3)
""",
    "handler": """
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
with begin(), Recorder() as recorder:
    child = os.fork()
    if not child:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7 if stop else 8)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    for number in range(1, 9):
        epoch(recorder, number)
        if stop:
            break
        os.kill(os.getpid(), signal.SIGTERM)
""",
}


@pytest.fixture(scope="module")
def ended(tracking_uri, tmp_path_factory, warm_python):
    """All programs, run at once: name -> (exit code, what it printed, status, its records)."""
    folder = tmp_path_factory.mktemp("programs")
    store = Store(tracking_uri)
    client = mlflow.MlflowClient(tracking_uri=tracking_uri)
    experiment = client.create_experiment("ends", artifact_location=(folder / "a").as_uri())
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": tracking_uri}
    environment["ACTIONTRACK_SPOOL"] = str(folder / "spool")
    runs, processes = {}, {}
    for name, program in PROGRAMS.items():
        runs[name] = client.create_run(experiment).info.run_id
        script = folder / f"{name}.py"
        script.write_text(HEAD + program)
        processes[name] = warm_python.start([script, runs[name]], folder, environment)
    outcomes = {}
    for name, process in processes.items():
        code, printed = process.wait(240), (process.stdout, process.stderr)
        process.close()
        status = client.get_run(runs[name]).info.status
        info = store.get_run(runs[name])
        records = {record: store.open_record(info, record) for record in info.records}
        outcomes[name] = code, printed, status, records
    assert not [path for path in (folder / "spool").rglob("*") if path.is_file()]
    return outcomes


def test_a_program_that_ends_without_finish_finishes_its_record_and_says_so(ended):
    code, (_, warnings), status, records = ended["end"]
    record = records["test-probe"]
    assert (code, status, record.manifest.status) == (0, "FINISHED", "complete")
    assert record.history().losses[:, 0].tolist() == [2.0, 3.0]
    assert f"record test-probe of run {record.run.run_id}: the program ended without" in warnings


def test_finish_may_be_left_to_the_end_of_the_interpreter(ended):
    _, (_, warnings), _, records = ended["end"]
    assert records["train-probe"].manifest.complete
    assert "train-probe" not in warnings


def test_a_program_that_fails_leaves_an_unfinished_record_of_its_epochs(ended):
    code, (_, errors), _, records = ended["error"]
    manifest = records["test-probe"].manifest
    assert (code, manifest.status, manifest.n_steps) == (1, "recording", 1)
    assert "ZeroDivisionError: division by zero" in errors


def test_sigterm_uploads_what_is_complete_and_marks_the_run_killed(ended):
    code, (_, errors), status, records = ended["sigterm"]
    record = records["test-probe"]
    assert (code, status, record.manifest.status) == (143, "KILLED", "recording")
    assert record.history().losses[:, 0].tolist() == [2.0, 3.0]
    assert "Traceback" not in errors


def test_sigterm_uploads_a_record_without_a_block_too(ended):
    manifest = ended["sigterm"][-1]["train-probe"].manifest
    assert (manifest.status, manifest.n_steps) == ("recording", 1)


def test_a_handler_of_the_program_decides_what_sigterm_does(ended):
    code, _, status, records = ended["handler"]
    manifest = records["test-probe"].manifest
    assert (code, status, manifest.status) == (0, "FINISHED", "complete")
    assert manifest.n_steps == 2


def test_a_forked_process_keeps_the_handler_of_the_program(ended):
    assert ended["handler"][1][0].split() == ["7"]


FORK = """
import os, signal
from actiontrack.recorder import ending

class Open:
    folder = None

    def end_with_process(self, *, failed): ...

    def close(self): ...

signal.signal(signal.SIGTERM, signal.SIG_IGN if {ignores} else signal.SIG_DFL)
before = signal.getsignal(signal.SIGTERM)
parents = Open()
ending.watch(parents)
child = os.fork()
recorder = parents
if not child:
    recorder = Open()
    ending.watch(recorder)
ending.forget(recorder)
restored = signal.getsignal(signal.SIGTERM) is before
if not child:
    os._exit(7 if restored else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), restored)
"""


@pytest.mark.parametrize("ignores", [False, True])
def test_a_recorder_of_a_forked_process_gives_the_handler_back(in_warm_process, ignores):
    assert in_warm_process(FORK.format(ignores=ignores)).stdout.split() == ["7", "True"]


# The handler


def test_the_handler_of_sigterm_is_there_while_a_record_is_open(recorder):
    before = signal.getsignal(signal.SIGTERM)
    first, second = recorder("test"), recorder("train")
    assert signal.getsignal(signal.SIGTERM) is ending._on_sigterm
    first.close()
    assert signal.getsignal(signal.SIGTERM) is ending._on_sigterm
    second.close()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_handler_that_is_set_meanwhile_stays(recorder):
    rec = recorder()
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        rec.close()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is ending._on_sigterm else before)


def test_a_program_that_ignores_sigterm_goes_on_doing_so(recorder):
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        recorder()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_than_the_main_one_set_no_handler(recorder):
    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=lambda: one_epoch(recorder(), 1))
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


def test_sigterm_is_known_to_the_store_and_has_the_exit_code_of_sigterm():
    with pytest.raises(SystemExit) as raised:
        raise ending.Stopped
    assert isinstance(raised.value, Terminated)
    assert raised.value.code == 143
