"""What several test files need beside fixtures."""

import contextlib
import importlib.util
import os
import re
import select
import shutil
import signal
import socket
import socketserver
import sqlite3
import struct
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import urllib.request
from pathlib import Path

import mlflow

from actiontrack.record.losses import read_steps

ROOT = Path(__file__).parents[1]
#: Variable with the Python of another MLflow, whose server the tests speak with; see matrix.py.
SERVER_PYTHON = "ACTIONTRACK_TEST_SERVER_PYTHON"


def message(text):
    """A regular expression that the whole of an error message must match."""
    return f"^{re.escape(str(text))}$"


def wait_until(condition, timeout=20.0, interval=0.02):
    """Poll a condition; fail the test if it does not come true."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(interval)


def load_script(path):
    """A script that is in no package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def open_tar(path):
    """A tar file whose members stay in their folder, where Python sees to it: from 3.11.4 on."""
    with tarfile.open(path) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        yield archive


def steps_of(record):
    """What every step of a stored record held."""
    return list(read_steps(record.manifest, record.fetch))


def with_peak(function):
    """What a function returns, and the bytes that Python and NumPy held at most meanwhile."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def upload_threads():
    return [each for each in threading.enumerate() if each.name.startswith("actiontrack")]


class Server:
    """An `mlflow server` of its own process group, with proxied artifacts.

    Args:
        folder: for its database, artifacts and log.
        port: Default: a free one.
        app_name: of its application. Default: MLflow's own.
        environment: further variables.
        python: of the environment whose MLflow is to serve. Default: that which the matrix
            names, else this one.
        warm_python: what starts this one at once, see `serving`. Default: a new interpreter does.
    """

    def __init__(
        self,
        folder,
        port=None,
        *,
        app_name=None,
        environment=None,
        python=None,
        warm_python=None,
    ):
        self.folder = Path(folder)
        self._app_name, self._environment = app_name, environment or {}
        self._python = python or os.environ.get(SERVER_PYTHON, sys.executable)
        self._warm_python = warm_python if self._python == sys.executable else None
        self.port = port or free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process = None
        self.start()

    def command(self):
        command = ["--workers", "1", "--backend-store-uri", f"sqlite:///{self.folder}/server.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        return command + (["--app-name", self._app_name] if self._app_name else [])

    def start(self):
        address = ["--host", "127.0.0.1", "--port", str(self.port)]
        environment = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        environment["TMPDIR"] = str(self.folder)  # for what it leaves when it is killed
        environment |= self._environment
        environment.pop("MLFLOW_RUN_ID", None)
        self._process = self._open([*self.command(), *address], environment)
        wait_until(self.answers, timeout=90, interval=0.05)

    def _open(self, words, environment):
        if self._warm_python is not None:
            environment["PYTHONPATH"] = str(ROOT)
            script = Path(__file__).with_name("serving.py")
            return self._warm_python.start([script, *words], self.folder, environment)
        if self._python != sys.executable:  # an MLflow that knows nothing of us
            environment.pop("PYTHONPATH", None)
        with (self.folder / "server.log").open("ab") as log:
            return subprocess.Popen(
                [self._python, "-m", "mlflow", "server", *words],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def answers(self):
        assert self._process.poll() is None, self._log()
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:  # noqa: S310
                return answer.status == 200
        except OSError:
            return False

    def _log(self):
        if self._warm_python is not None:
            return self._process.stderr
        return (self.folder / "server.log").read_text()

    @property
    def alive(self):
        return self._process is not None

    def processes(self):
        """Ids of the server's process and of all that it started."""
        found = [int(each.name) for each in Path("/proc").glob("[0-9]*")]
        group = os.getpgid(self._process.pid)
        return [each for each in found if _group(each) == group]

    def pause(self):
        os.killpg(self._process.pid, signal.SIGSTOP)

    def go_on(self):
        os.killpg(self._process.pid, signal.SIGCONT)

    def kill(self):
        """End the whole process group at once; `start` brings it back with its data."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if self._warm_python is not None:
                self._process.close()
            self._process = None


def _group(process):
    try:
        return os.getpgid(process)
    except ProcessLookupError:
        return None


class Door:
    """A TCP relay to a server, with the faults of a network.

    Shut, it refuses connections as a dead server does.

    Attributes:
        cut_after: bytes towards the server after which a connection is reset, or None.
        cut_answer_after: the same for bytes that come back.
        bytes_per_s: pace towards the server, or None for no limit.
        passed: bytes towards the server so far.
        cuts: connections that were reset so far.
    """

    def __init__(self, server):
        self._target, self.port = ("127.0.0.1", server.port), free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._listener = None
        self.heal()
        self.cuts = self.passed = 0
        self.open()

    def open(self):
        if self._listener is None:
            self._listener = _Listener(("127.0.0.1", self.port), self._target, self)
            threading.Thread(target=self._listener.serve_forever, args=(0.02,)).start()

    def heal(self):
        """Let everything through again, at once; what is shut stays shut."""
        self.cut_after = self.cut_answer_after = self.bytes_per_s = None

    def shut(self):
        if self._listener is not None:
            self._listener.stopped.set()
            self._listener.shutdown()
            self._listener.server_close()
            self._listener = None


class _Listener(socketserver.ThreadingTCPServer):
    allow_reuse_address = True

    def __init__(self, address, target, door):
        self.stopped, self.target, self.door = threading.Event(), target, door
        super().__init__(address, _Relay)


class _Relay(socketserver.BaseRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError), socket.create_connection(self.server.target) as far:
            near, passed = self.request, {self.request: 0, far: 0}
            while not self.server.stopped.is_set():
                for source in select.select([near, far], [], [], 0.05)[0]:
                    data = source.recv(2**16 if not self.server.door.bytes_per_s else 2**10)
                    passed[source] += len(data)
                    target = far if source is near else near
                    if not data or not self.pass_on(data, target, passed[source], target is far):
                        return

    def pass_on(self, data, target, passed, towards_server):
        """Send at the pace of the door. Returns False where it cuts, after so many bytes."""
        door = self.server.door
        if door.bytes_per_s and towards_server:
            self.server.stopped.wait(len(data) / door.bytes_per_s)
        door.passed += len(data) if towards_server else 0
        limit = door.cut_after if towards_server else door.cut_answer_after
        if limit is None or passed <= limit:
            target.sendall(data)
            return True
        target.sendall(data[: max(0, len(data) - (passed - limit))])
        door.cuts += 1
        for each in (self.request, target):  # closed with a reset, not with an end
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()
        return False


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def remote_run(server, name="remote"):
    """Id of a new run on a server."""
    client = mlflow.MlflowClient(tracking_uri=server.uri)
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    return client.create_run(experiment_id).info.run_id


def copy_for_server(empty_database, path):
    """A copy of a database whose first experiment has its artifacts behind the server.

    A server of another MLflow makes its own: its tables differ.
    """
    if SERVER_PYTHON in os.environ:
        return
    shutil.copy(empty_database, path)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE experiments SET artifact_location = 'mlflow-artifacts:/0'")
        database.commit()
