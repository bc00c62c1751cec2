"""Python processes that start in milliseconds, forked from one in which libraries are imported.

A script runs as `python SCRIPT` would run it: as `__main__`, with words, folder, variables and
output of its own, and the interpreter ends as usual, with `atexit` and exit code. What differs is
that modules are there already, so tests of imports need `in_subprocess`.

The server ends with the process that it belongs to; all workers of pytest-xdist share one.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import selectors
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import types
import warnings
from pathlib import Path

#: Modules that most scripts import.
COMMON = (
    "mlflow", "torch.utils.data", "pyarrow.parquet", "sklearn.datasets", "projects.train",
    "actiontrack", "actiontrack.cli", "actiontrack.reporting", "actiontrack.recorder.torch",
)  # fmt: skip
#: Threads of libraries that a forked process does well without: jemalloc's that gives memory back
#: and that of Polars which deletes what others have spilt to disk.
NOT_MISSED = ("jemalloc_bg_thd", "polars-ooc-clea")
EXIT_CODE = []
FILTERS = list(warnings.filters)
TESTS = str(Path(__file__).parent)


class WarmPython:
    """Client of a server that forks.

    Args:
        address: path of the server's socket.
    """

    def __init__(self, address):
        self._address = str(address)

    def start(self, words, cwd, environment, *, options=(), preload=()):
        """Start `python WORDS` and return it as a `WarmProcess`.

        Args:
            words: a script or `-m` and a module, and arguments.
            cwd: its folder.
            environment: all of its variables.
            options: values of Python's `-W`.
            preload: modules that the server imports, once, before it forks.
        """
        job = {"words": [str(word) for word in words], "cwd": str(cwd), "options": options}
        job |= {"environment": dict(environment), "preload": preload}
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - the process's
        body = json.dumps(job).encode()
        socket.send_fds(
            connection, [struct.pack("I", len(body))], [file.fileno() for file in files]
        )
        connection.sendall(body)
        return WarmProcess(connection, *files)

    def install(self, folder):
        """Put commands `python` and `mlflow` that start warm processes into a folder."""
        words = shlex.join([sys.executable, "-S", "-E", __file__, "run", self._address])
        for name, module in (("python", ""), ("mlflow", "-m mlflow ")):
            command = Path(folder) / name
            command.write_text(f'#!/bin/sh\nexec {words} {module}"$@"\n')
            command.chmod(0o755)

    def run(self, words, cwd, environment, *, timeout=120, **options):
        """The finished process, as `subprocess.run` returns it."""
        process = self.start(words, cwd, environment, **options)
        try:
            code = process.wait(timeout)
            assert code is not None, f"not done after {timeout} s: {process.stderr}"
            return subprocess.CompletedProcess(words, code, process.stdout, process.stderr)
        finally:
            process.close()


class WarmProcess:
    """A process of the server.

    Attributes:
        pid: id of the process.
        returncode: as that of `subprocess.Popen`; None while it runs.
        stdout, stderr: what it has printed so far.
    """

    def __init__(self, connection, stdout, stderr):
        self._connection, self._stdout, self._stderr = connection, stdout, stderr
        (self.pid,) = struct.unpack("i", _receive(connection, 4))
        self.returncode = None

    @property
    def stdout(self):
        return _read(self._stdout)

    @property
    def stderr(self):
        return _read(self._stderr)

    def poll(self):
        return self.wait(0)

    def wait(self, timeout=120):
        """The exit code, or None where the time is up first."""
        if self.returncode is None:
            self._connection.settimeout(timeout or 0)
            try:
                (status,) = struct.unpack("i", _receive(self._connection, 4))
            except (TimeoutError, BlockingIOError):
                return None
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def close(self):
        """Forget what was printed; a process that still runs is killed."""
        for opened in (self._connection, self._stdout, self._stderr):
            opened.close()


def start_server(folder, owner):
    """Start a server that lives as long as the process with the id `owner`."""
    address = Path(folder) / "warm.socket"
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment.pop("PYTHONPATH", None)  # each job has its own
    with (Path(folder) / "warm.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, __file__, "serve", str(address), str(owner)],
            cwd=Path(TESTS).parent, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )  # fmt: skip
    while not address.exists():
        assert server.poll() is None, (Path(folder) / "warm.log").read_text()
        time.sleep(0.02)
    server.returncode = 0  # so that nobody waits for it: it may outlive this process


def run_here(address, words):
    """Be the command `python`: same output, variables and folder, and the signals to stop."""
    job = {"words": words, "cwd": str(Path.cwd()), "environment": dict(os.environ)}
    connection = _send(address, job | {"options": [], "preload": []}, [1, 2])
    (pid,) = struct.unpack("i", _receive(connection, 4))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: os.kill(pid, number))
    (status,) = struct.unpack("i", _receive(connection, 4))
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _send(address, job, files):
    """A connection to the server on which a job was sent."""
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(address)
    body = json.dumps(job).encode()
    socket.send_fds(connection, [struct.pack("I", len(body))], files)
    connection.sendall(body)
    return connection


def _read(file):
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), size, 0).decode()


def _receive(connection, size):
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        assert part, "the server of warm processes has gone"
        parts += part
    return parts


# In the server


def serve(address, owner):
    """Fork a process for every job. Returns the job in each process, and None in the server."""
    _preload(COMMON, may_be_absent=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{address}.new")
    listener.listen(64)
    Path(f"{address}.new").rename(address)  # a client that finds it can connect
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    watched = os.pidfd_open(owner)
    selector.register(watched, selectors.EVENT_READ)
    running = {}  # process id -> its connection
    ends = {}  # descriptor of a process -> its id
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                job = _fork(listener, selector, running, ends)
                if job:
                    return job
            elif key.fd == watched:
                for pid in running:
                    os.kill(pid, signal.SIGKILL)
                return None
            elif key.fd in ends:
                _report(key.fd, selector, running, ends)
            else:  # the client has gone
                pid = next(pid for pid, client in running.items() if client is key.fileobj)
                selector.unregister(key.fileobj)
                os.kill(pid, signal.SIGKILL)


def _fork(listener, selector, running, ends):
    """Returns the job in the new process, None in the server."""
    connection, _ = listener.accept()
    size, files, _, _ = socket.recv_fds(connection, 4, 2)
    job = json.loads(_receive(connection, struct.unpack("I", size)[0]))
    _preload(job["preload"])
    gc.freeze()
    pid = os.fork()
    if not pid:
        for number, file in enumerate(files, start=1):
            os.dup2(file, number)
            os.close(file)
        for other in (listener, connection, selector, *running.values()):
            other.close()
        for end in ends:
            os.close(end)
        return job
    for file in files:
        os.close(file)
    running[pid] = connection
    end = os.pidfd_open(pid)
    ends[end] = pid
    selector.register(end, selectors.EVENT_READ)
    selector.register(connection, selectors.EVENT_READ)
    connection.sendall(struct.pack("i", pid))
    return None


def _report(end, selector, running, ends):
    pid = ends.pop(end)
    selector.unregister(end)
    os.close(end)
    _, status = os.waitpid(pid, 0)
    connection = running.pop(pid)
    if connection in (key.fileobj for key in selector.get_map().values()):
        selector.unregister(connection)
        connection.sendall(struct.pack("i", status))
    connection.close()


def _preload(modules, *, may_be_absent=False):
    absent = ImportError if may_be_absent else ()  # `make matrix` has no PyTorch
    for module in modules:
        with contextlib.suppress(absent):
            importlib.import_module(module)
    names = {task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")}
    lost = names - {Path("/proc/self/comm").read_text().strip(), *NOT_MISSED}
    assert not lost, f"importing {modules} started threads, which do not survive a fork: {lost}"


# In the process of a job


def become(job):
    """Run the job's script as `python` would; does not return before it has ended."""
    os.environ.clear()
    os.environ.update(job["environment"])
    os.chdir(job["cwd"])
    random.seed()
    sys.modules["numpy"].random.seed()
    tempfile.tempdir = None
    _set_warnings(job["options"])
    words = job["words"]
    try:
        _run(words)
    except SystemExit as end:
        code = 0 if end.code is None else end.code
        EXIT_CODE.append(code & 255 if isinstance(code, int) else 1)
        raise
    except KeyboardInterrupt:
        EXIT_CODE.append(-signal.SIGINT)
        raise
    except BaseException:
        EXIT_CODE.append(1)
        raise
    EXIT_CODE.append(0)


def end_at_once():
    """Last of all that is done at exit: leave out to take all modules apart, for half a second."""
    if EXIT_CODE:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if EXIT_CODE[0] == -signal.SIGINT:  # as Python does
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
        os._exit(EXIT_CODE[0])


def _run(words):
    first = str(Path.cwd()) if words[0] == "-m" else str(Path(words[0]).absolute().parent)
    path = [word for word in os.environ.get("PYTHONPATH", "").split(os.pathsep) if word]
    sys.path[:] = dict.fromkeys([first, *path, *sys.path[1:]])  # each folder once, as `site` does
    if words[0] == "-m":
        sys.argv = words[1:]
        if not hasattr(sys.modules.get(words[1]), "__path__"):
            sys.modules.pop(words[1], None)  # run anew, under another name
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = words
    main = types.ModuleType("__main__")
    main.__file__ = words[0]
    sys.modules["__main__"] = main
    exec(compile(Path(words[0]).read_bytes(), words[0], "exec"), main.__dict__)  # noqa: S102


def _set_warnings(options):
    """Filters of `-W` come after those that libraries have set, as if these had just done so."""
    of_libraries = [one for one in warnings.filters if one not in FILTERS]
    sys.warnoptions[:] = options
    warnings.resetwarnings()
    warnings._processoptions(options)
    warnings.filters[:] = [*of_libraries, *warnings.filters, *FILTERS]


if __name__ == "__main__":
    role, address, *rest = sys.argv[1:]
    if role == "run":
        sys.exit(run_here(address, rest))
    atexit.register(end_at_once)
    sys.path[:1] = [str(Path(TESTS).parent)]
    if received := serve(address, int(rest[0])):
        become(received)
