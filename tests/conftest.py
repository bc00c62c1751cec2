"""Fixtures: a real SQLite store, a real MLflow server, and a fence around every test."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import hypothesis
import mlflow
import pytest
import warm
from filelock import FileLock
from forwarder import Forwarder
from helpers import ROOT, Door, Server, copy_for_server, free_port, upload_threads
from order import (  # noqa: F401
    pytest_collection,
    pytest_collection_modifyitems,
    pytest_ignore_collect,
    pytest_xdist_auto_num_workers,
    pytest_xdist_make_scheduler,
)
from recorded_runs import RecordedRuns

from actiontrack import cli
from actiontrack.store import Store
from actiontrack.testing import record_history

# What MLflow's own code does with SQLAlchemy is not ours to mend.
MLFLOW_WARNING = "ignore:The ``noload`` loader strategy is deprecated"
# MLflow's server stands on a module of Starlette that is on its way out.
STARLETTE_WARNING = "ignore:starlette.middleware.wsgi is deprecated"
# Nor is what `mlflow.models.evaluate` does with import hooks, type hints and pandas.
EVALUATE_WARNINGS = (
    "ignore:_ImportHookChainedLoader:ImportWarning",
    "ignore:.*Any type hint is inferred:UserWarning",
    "ignore::DeprecationWarning:mlflow",
)
# Where temporary files are written in no time.
MEMORY = Path("/dev/shm")  # noqa: S108
# Python's options for a process in which warnings are errors.
STRICT = ("-W", "error", "-W", MLFLOW_WARNING)


def pytest_configure(config):
    if not {"TMPDIR", "PYTEST_DEBUG_TEMPROOT"} & set(os.environ) and _holds_tests(MEMORY):
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)  # many small files, written safely
    for warning in (MLFLOW_WARNING, STARLETTE_WARNING, *EVALUATE_WARNINGS):
        config.addinivalue_line("filterwarnings", warning)
    os.environ["ACTIONTRACK_REPORT"] = "never"  # but where a test asks for it: drawing takes long
    os.environ.setdefault("KERAS_BACKEND", "torch")  # without it Keras looks for TensorFlow
    # On a machine that others use, too, an example may take long by chance.
    hypothesis.settings.register_profile("untimed", deadline=None)
    hypothesis.settings.load_profile("untimed")


def _holds_tests(folder):
    """Whether a file system is there, has room for all tests and runs what they write."""
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        return False
    system = os.statvfs(folder)
    return system.f_bavail * system.f_frsize > 4e9 and not system.f_flag & os.ST_NOEXEC


@pytest.fixture(scope="session")
def once(tmp_path_factory, worker_id):
    """A function that makes something in a folder by the first worker that asks for it.

    It takes a name and a function of the folder, and returns the folder.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared if worker_id == "master" else shared.parent

    def make(name, function):
        folder = shared / f"once-{name}"
        with FileLock(f"{folder}.lock"):
            if not (done := folder / ".done").exists():
                folder.mkdir(exist_ok=True)
                function(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def empty_database(once):
    """A SQLite store without runs, to copy: making one takes MLflow seconds."""

    def make(folder):
        with contextlib.chdir(folder):  # MLflow makes ./mlruns
            mlflow.MlflowClient(tracking_uri="sqlite:///empty.db").search_experiments()

    return once("database", make) / "empty.db"


@pytest.fixture(scope="session")
def tracking_uri(tmp_path_factory, empty_database):
    """A SQLite store of this worker; every test that asks for `store` gets its own experiment."""
    folder = tmp_path_factory.mktemp("mlflow")
    shutil.copy(empty_database, folder / "mlflow.db")
    return f"sqlite:///{folder / 'mlflow.db'}"


@pytest.fixture(scope="session")
def server(tmp_path_factory, empty_database, warm_python):
    """A real `mlflow server` in a process group of its own."""
    folder = tmp_path_factory.mktemp("server")
    copy_for_server(empty_database, folder / "server.db")
    running = Server(folder, warm_python=warm_python)
    yield running
    running.kill()


@pytest.fixture
def mortal_server(server):
    """The server for tests that pause or kill it; it is back for the next test."""
    yield server
    if server.alive:
        server.go_on()
    else:
        server.start()


@pytest.fixture
def door(server):
    """A way to the server that opens and shuts at once."""
    relay = Door(server)
    yield relay
    relay.shut()


@pytest.fixture
def forwarder(server):
    """A proxy before the server that counts requests."""
    proxy = Forwarder(server)
    yield proxy
    proxy.stop()


@pytest.fixture(autouse=True)
def _fence(request, tmp_path_factory, monkeypatch, tracking_uri):
    """Spools in the test's folder; MLflow's global state and our threads are gone afterwards."""
    if "tmp_path" in request.fixturenames:
        folder = request.getfixturevalue("tmp_path")
    else:  # one that nobody has asked for is not made
        folder = tmp_path_factory.getbasetemp() / uuid.uuid4().hex
    monkeypatch.setenv("ACTIONTRACK_SPOOL", str(folder / "spool"))
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    mlflow.set_tracking_uri(tracking_uri)
    # What a test's mlflow.set_experiment leaves behind; MLflow has no public way to undo it.
    monkeypatch.setattr(mlflow.tracking.fluent, "_active_experiment_id", None)
    yield
    mlflow.set_tracking_uri(tracking_uri)
    while mlflow.active_run():
        mlflow.end_run()
    deadline = time.monotonic() + 15
    while upload_threads() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not upload_threads(), "an upload thread outlived the test"


@pytest.fixture(autouse=True)
def _no_figure_leaks():
    """The test that leaves a figure with pyplot fails, and not the next that looks."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        left = pyplot.get_fignums()
        pyplot.close("all")
        assert not left, f"figures left with pyplot: {left}"


@pytest.fixture(scope="session")
def mlflow_client(tracking_uri):
    return mlflow.MlflowClient(tracking_uri=tracking_uri)


@pytest.fixture
def new_experiment(mlflow_client, tmp_path):
    """Name and id of a new experiment, whose artifacts lie in the test's folder."""
    name, artifacts = f"test {uuid.uuid4().hex[:8]}", (tmp_path / "artifacts").as_uri()
    return name, mlflow_client.create_experiment(name, artifact_location=artifacts)


@pytest.fixture
def experiment(new_experiment):
    """Name of a new experiment in the SQLite store."""
    return new_experiment[0]


@pytest.fixture
def store(tracking_uri):
    return Store(tracking_uri)


@pytest.fixture
def new_run(mlflow_client, new_experiment):
    """A function that starts a run in the test's experiment and returns its id."""
    _, experiment_id = new_experiment
    return lambda **options: mlflow_client.create_run(experiment_id, **options).info.run_id


@pytest.fixture
def run_id(new_run):
    return new_run()


@pytest.fixture(scope="session")
def recorded_runs(mlflow_client, tmp_path_factory):
    return RecordedRuns(tmp_path_factory.mktemp("recorded-runs"), mlflow_client)


@pytest.fixture
def record_once(new_run, recorded_runs, tmp_path):
    """A function that records into a new run, or copies a run into which the same was recorded.

    It takes what is recorded, a function of a run's id that records it, and options of the run.
    """

    def fill(content, record, **options):
        run_id = new_run(**options)
        artifacts = tmp_path / "artifacts" / run_id / "artifacts"
        return recorded_runs.fill(run_id, artifacts, content, record)

    return fill


@pytest.fixture
def recorded_history(record_once, store, spool):
    """A function that records a history by `record_once` and returns the id of the run."""

    def record(history, model="", **options):
        def fill(run_id):
            record_history(history, run_id, store, spool, model)

        return record_once((history, model), fill, **options)

    return record


@pytest.fixture
def spool(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def run_cli(capsys, tracking_uri):
    """A function that runs a command and returns its exit code, stdout and stderr."""

    def run(*arguments):
        capsys.readouterr()
        code = 0
        try:
            cli.main(list(arguments))
        except SystemExit as error:
            code = error.code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return run


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def write_script(tmp_path):
    """A function that writes a script into the test's folder and returns its path."""

    def write(code):
        path = tmp_path / f"script_{uuid.uuid4().hex[:6]}.py"
        path.write_text(code)
        return path

    return write


@pytest.fixture
def in_subprocess(tmp_path, write_script):
    """A function that runs Python code in a new interpreter and returns what it printed."""

    def run(code, *arguments, check=True, timeout=120, **environment):
        done = subprocess.run(
            [sys.executable, *STRICT, str(write_script(code)), *map(str, arguments)],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def warm_python(once, worker_id):
    """What starts Python processes in milliseconds, one server for all workers; see `warm`."""
    owner = os.getpid() if worker_id == "master" else os.getppid()
    folder = once("warm", lambda folder: warm.start_server(folder, owner))
    return warm.WarmPython(folder / "warm.socket")


@pytest.fixture
def in_warm_process(warm_python, tmp_path, write_script):
    """As `in_subprocess`, with most modules imported already: not for tests of imports."""

    def run(code, *arguments, check=True, preload=(), **environment):
        done = warm_python.run(
            [write_script(code), *arguments],
            tmp_path,
            os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            options=STRICT[1::2],
            preload=preload,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def start_warm_process(warm_python, tmp_path, write_script):
    """A function that starts Python code as `in_warm_process` and returns its `WarmProcess`."""
    processes = []

    def start(code, *arguments):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        words = [write_script(code), *arguments]
        processes.append(warm_python.start(words, tmp_path, environment))
        return processes[-1]

    yield start
    for process in processes:
        process.close()


@pytest.fixture
def in_two_processes(warm_python, tmp_path, write_script):
    """A function that runs Python code in two processes with the variables of torchrun."""

    def run(code, *arguments, timeout=120, **options):
        path = write_script(code)
        group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        group |= {"LOCAL_WORLD_SIZE": "2", "NODE_RANK": "0", "GROUP_RANK": "0"}
        common = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | group
        processes = [
            warm_python.start(
                [path, *arguments],
                tmp_path,
                common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                **options,
            )
            for rank in range(2)
        ]
        try:
            codes = [process.wait(timeout) for process in processes]
            assert codes == [0, 0], [process.stderr for process in processes]
            return [process.stdout for process in processes]
        finally:
            for process in processes:
                process.close()

    return run
